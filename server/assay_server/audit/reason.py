"""Why a number could not be estimated or tested: one code beside every result, so that no NaN is ever needed."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Stored as uint8 arrays in results; `NONE` means that the number beside it stands."""

    NONE = 0
    EMPTY_CONCEPT = 1
    NO_PAIRS = 2
    NO_DIFFERENCE = 3
    ONE_PROMPT = 4
    CONSTANT = 5
    SEPARATED = 6
    EXPLAINED = 7
    NOT_CONVERGED = 8
    FEW_INSIDE = 9
    FEW_OUTSIDE = 10
    UNATTAINABLE = 11

    @property
    def text(self) -> str:
        """The sentence a reader of a report sees."""
        return _TEXTS[self]


_TEXTS = {
    Reason.NONE: "",
    Reason.EMPTY_CONCEPT: "the concept holds no features",
    Reason.NO_PAIRS: "there are no pairs to estimate from",
    Reason.NO_DIFFERENCE: "no prompt separates chosen from rejected on this concept",
    Reason.ONE_PROMPT: "all pairs that could tell share one prompt, so nothing varies independently",
    Reason.CONSTANT: "the values do not vary, so there is no scale to judge a difference by",
    Reason.SEPARATED: "the nuisance differences alone decide every preference, so nothing is left to attribute",
    Reason.EXPLAINED: "the concept is a linear function of the nuisance differences, so nothing of it is left to test",
    Reason.NOT_CONVERGED: "the fit of the nuisance differences did not converge",
    Reason.FEW_INSIDE: "fewer than two pairs are inside the condition",
    Reason.FEW_OUTSIDE: "fewer than two pairs are outside the condition",
    Reason.UNATTAINABLE: "so few prompts separate chosen from rejected on this concept that no outcome would pass the correction",
}
