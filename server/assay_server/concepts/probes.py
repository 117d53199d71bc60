"""A direction from examples (METHOD.md §2, "From examples"); ``measuring`` reports on held-out ones.

    examples = pair_examples(chosen, rejected, prompts=prompts)
    fitted = fit_probe(examples, ProbeMethod.BRADLEY_TERRY)
    fitted.probe.direction, fitted.split.held_out

Rows are vectors of one response each: mean residuals over its tokens [d_model], or pooled feature values [d_sae].

Invariants:
- The direction is a unit vector in the space of the rows, pointing towards the positives.
- No prompt is on both sides of the split. The direction comes from fitted rows alone: it is not refitted on all afterwards.
- The same rows, options and seed give the same bits. What cannot be fitted raises ``InvalidItem``.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from assay_server.concepts.examples import Examples, mean_row, root_mean_square
from assay_server.concepts.regularisation import Strength, choose_strength
from assay_server.concepts.solvers import Check, Vector, coordinates, fit_bradley_terry, fit_logistic, go_on
from assay_server.concepts.splits import Split, split_groups
from assay_server.errors import InvalidItem

_ROUNDING = 1e-12


class ProbeMethod(Enum):
    """What examples become: a direction, fitted one way or another, or with FEATURES a set of features (``selection``)."""

    DIFFERENCE_OF_MEANS = "difference_of_means"
    LOGISTIC = "logistic"
    BRADLEY_TERRY = "bradley_terry"
    FEATURES = "features"


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """Every knob of a fit, with its default.

    Attributes:
        held_out: share of the examples to hold out, in (0, 1).
        minimum: examples that each class needs on each side.
        l2: strength of the penalty on the mean loss, for rows scaled to unit mean square (about their mean for the logistic
            probe); None: chosen by cross-validation, grouped by prompt, inside the fit part.
        seed: of the split and the folds.
    """

    held_out: float = 1 / 3
    minimum: int = 3
    l2: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.l2 is not None and not 0 < self.l2 < np.inf:
            raise ValueError(f"l2 {self.l2} is not a positive number")


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted direction.

    Attributes:
        method: how it was fitted.
        direction: unit vector, float64 [d]. A row's score is ``row · direction``.
        gain: logistic and Bradley-Terry: ``σ(gain · score + intercept)`` is the fitted probability (of positive, or,
            with the difference of two scores, of being preferred). 1 for the difference of means, which has none.
        intercept: 0 unless logistic.
        strength: the penalty that was used, None for the difference of means.
    """

    method: ProbeMethod
    direction: Vector
    gain: float
    intercept: float
    strength: Strength | None


@dataclass(frozen=True, slots=True)
class FittedProbe:
    """A probe, the rows that it was fitted on, and those held out to measure it."""

    probe: Probe
    split: Split


def fit_probe(
    examples: Examples, method: ProbeMethod, options: ProbeOptions | None = None, *, check: Check = go_on
) -> FittedProbe:
    """Fit a direction on one part of the examples and hold out the other.

    Args:
        examples: from ``text_examples`` or ``pair_examples``; Bradley-Terry needs the latter.
        method: how to fit; not FEATURES, which gives no direction.
        options: None for the defaults.
        check: called between steps of the fit; may raise to stop.

    Raises:
        InvalidItem: too few examples on a side (TOO_FEW_EXAMPLES), Bradley-Terry without pairs (PAIRS_NEEDED), or the two
            sides do not differ (NO_DIFFERENCE).
        ValueError: the method is FEATURES.

    Source: METHOD.md §2; difference of means: Marks and Tegmark 2023 (arXiv 2310.06824), §5.
    """
    options = options or ProbeOptions()
    if method not in _FITS:
        raise ValueError(f"{method.value} gives no direction: selection.select_features chooses features")
    if method is ProbeMethod.BRADLEY_TERRY and not examples.pairs:
        raise InvalidItem(
            f"Bradley-Terry compares the sides of pairs and got {len(examples.positive)} examples in 0 pairs: "
            "give pairs, or ask for the logistic probe.",
            reason="PAIRS_NEEDED",
            details={"examples": len(examples.positive), "pairs": 0},
        )
    split = split_groups(examples.positive, examples.groups, share=options.held_out, minimum=options.minimum, seed=options.seed)
    return FittedProbe(_FITS[method](examples, split.fit, options, check), split)


def _difference_of_means(examples: Examples, fit: NDArray[np.int64], options: ProbeOptions, check: Check) -> Probe:
    rows, positive = examples.rows[fit], examples.positive[fit]
    difference = mean_row(rows[positive]) - mean_row(rows[~positive])
    size = float(np.linalg.norm(difference))
    # Under the rounding of the rows themselves a direction would be noise, made into a unit vector.
    if size <= _ROUNDING * root_mean_square(rows):
        raise _no_difference(positive)
    return Probe(ProbeMethod.DIFFERENCE_OF_MEANS, difference / size, gain=1.0, intercept=0.0, strength=None)


def _logistic(examples: Examples, fit: NDArray[np.int64], options: ProbeOptions, check: Check) -> Probe:
    rows, positive = examples.rows[fit], examples.positive[fit]
    # About the mean: residuals share an offset that dwarfs what tells them apart, and the intercept takes it up.
    scale = root_mean_square(rows, about_mean=True)
    if scale <= _ROUNDING * root_mean_square(rows):
        raise _no_difference(positive)
    span = coordinates(rows / scale, centre=True)
    strength = choose_strength(span.values, positive, examples.groups[fit], given=options.l2, seed=options.seed, check=check)
    beta, intercept = fit_logistic(span.values, positive, strength.l2, check=check)
    weights = span.lift(beta)
    size = float(np.linalg.norm(weights))
    if size <= _ROUNDING:
        raise _no_difference(positive)
    intercept -= float(span.mean @ weights)
    return Probe(ProbeMethod.LOGISTIC, weights / size, gain=size / scale, intercept=intercept, strength=strength)


def _bradley_terry(examples: Examples, fit: NDArray[np.int64], options: ProbeOptions, check: Check) -> Probe:
    chosen = fit[fit < examples.pairs]
    differences = examples.rows[chosen] - examples.rows[chosen + examples.pairs]
    scale = root_mean_square(differences) or 1.0
    span = coordinates(differences / scale)
    strength = choose_strength(span.values, None, examples.groups[chosen], given=options.l2, seed=options.seed, check=check)
    weights = span.lift(fit_bradley_terry(span.values, strength.l2, check=check))
    size = float(np.linalg.norm(weights))
    if size <= _ROUNDING:
        raise _no_difference(examples.positive[fit])
    return Probe(ProbeMethod.BRADLEY_TERRY, weights / size, gain=size / scale, intercept=0.0, strength=strength)


_FITS = {
    ProbeMethod.DIFFERENCE_OF_MEANS: _difference_of_means,
    ProbeMethod.LOGISTIC: _logistic,
    ProbeMethod.BRADLEY_TERRY: _bradley_terry,
}


def _no_difference(positive: NDArray[np.bool_]) -> InvalidItem:
    n_positive = int(np.count_nonzero(positive))
    n_negative = len(positive) - n_positive
    return InvalidItem(
        f"The {n_positive} positive and {n_negative} negative examples do not differ at this hook: "
        "there is no direction between them.",
        reason="NO_DIFFERENCE",
        details={"positive": n_positive, "negative": n_negative},
    )
