"""How strongly to penalise a probe: chosen on the fit part alone, by cross-validation that keeps prompts whole."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from assay_server.concepts.solvers import Check, Matrix, Vector, fit_bradley_terry, fit_logistic, go_on, log_loss
from assay_server.concepts.splits import fold_groups

# Strongest first: of equal losses the strongest wins. On rows of unit mean square these run from "close to the difference of
# means" to "nearly unpenalised".
GRID = (1e0, 1e-1, 1e-2, 1e-3, 1e-4)
FOLDS = 4
_WITHOUT_FOLDS = 1e-2


class StrengthSource(Enum):
    """Where a strength comes from."""

    GIVEN = "given"
    CROSS_VALIDATED = "cross_validated"
    TOO_FEW_PROMPTS = "too_few_prompts"


@dataclass(frozen=True, slots=True)
class Strength:
    """The penalty on the mean loss, for rows scaled to unit mean square, and where it comes from."""

    l2: float
    source: StrengthSource


def choose_strength(
    values: Matrix,
    positive: NDArray[np.bool_] | None,
    groups: NDArray[np.int64],
    *,
    given: float | None,
    seed: int,
    check: Check = go_on,
) -> Strength:
    """Return ``given``, or the strength of ``GRID`` with the least held-out log loss over ``FOLDS`` folds of prompts.

    Args:
        values: rows [n, r], or pair differences where ``positive`` is None (Bradley-Terry).
        positive: class of each row, bool [n].
        groups: prompt of each row, int64 [n].
        given: the caller's own choice.
        seed: of the folds.
        check: called between steps; may raise to stop.

    Too few prompts to leave a fold out and still have both classes: the middle of the grid, and the source says so.
    """
    if given is not None:
        return Strength(given, StrengthSource.GIVEN)
    kinds = np.ones(len(values), dtype=np.bool_) if positive is None else positive
    fold = fold_groups(kinds, groups, folds=FOLDS, seed=seed)
    losses = np.zeros(len(GRID))
    used = 0
    for left_out in range(FOLDS):
        test = fold == left_out
        if not test.any() or test.all() or (positive is not None and len(np.unique(positive[~test])) < 2):
            continue
        used += 1
        for i, l2 in enumerate(GRID):
            losses[i] += log_loss(_margins(values, positive, test, l2, check)) * int(test.sum())
    if used < 2:
        return Strength(_WITHOUT_FOLDS, StrengthSource.TOO_FEW_PROMPTS)
    return Strength(GRID[int(np.argmin(losses))], StrengthSource.CROSS_VALIDATED)


def _margins(values: Matrix, positive: NDArray[np.bool_] | None, test: NDArray[np.bool_], l2: float, check: Check) -> Vector:
    """Signed margins of the rows left out, under a fit on the others."""
    if positive is None:
        return values[test] @ fit_bradley_terry(values[~test], l2, check=check)
    weights, intercept = fit_logistic(values[~test], positive[~test], l2, check=check)
    return (values[test] @ weights + intercept) * np.where(positive[test], 1.0, -1.0)
