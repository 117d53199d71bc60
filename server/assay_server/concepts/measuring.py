"""How well a concept tells held-out examples apart, by the score that is used; for a direction max over a response's tokens of
<h, v> (METHOD.md §1, §2).

A direction is fitted on mean residuals but scored on tokens, so it is measured on tokens: in a second reading of the held-out
examples, beside random directions.

Invariant: everything here comes from held-out examples, and none of it is NaN.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_server.concepts.metrics import auroc, auroc_interval, average_precision, best_f1
from assay_server.concepts.solvers import Matrix, Vector

# Apart from the streams that split, fold and draw the baseline on rows.
_RIVALS_STREAM = 2


@dataclass(frozen=True, slots=True)
class ConceptReport:
    """How well a concept tells held-out examples apart; fields as in ``assay.v1.ProbeReport``. Stored as JSON."""

    fitted_positive: int
    fitted_negative: int
    held_out_positive: int
    held_out_negative: int
    auroc: float
    auroc_low: float
    auroc_high: float
    pr_auc: float
    base_rate: float
    f1: float
    threshold: float
    random_auroc: float
    random_auroc_max: float
    pair_accuracy: float | None = None
    l2: float | None = None


def random_unit_vectors(count: int, d: int, seed: int) -> NDArray[np.float32]:
    """Isotropic random directions of unit length, float32 [count, d]: what a fitted one has to beat."""
    drawn = np.random.default_rng((seed, _RIVALS_STREAM)).standard_normal((count, d))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def measure(
    scores: Vector,
    rivals: Matrix,
    positive: NDArray[np.bool_],
    groups: NDArray[np.int64],
    *,
    fitted: tuple[int, int],
    pairs: tuple[Vector, Vector] | None = None,
    l2: float | None = None,
) -> ConceptReport:
    """Measure a direction by its scores on held-out examples.

    Args:
        scores: of the direction, [n].
        rivals: of random directions, [n, r], r >= 1.
        positive: which examples show the concept, bool [n]; both classes present.
        groups: prompt of each example, int64 [n]: the interval counts prompts, not examples, as independent.
        fitted: positives and negatives that the direction was fitted on.
        pairs: scores of the chosen and rejected sides of the held-out pairs, where there are pairs.
        l2: strength of regularisation, where there was one.
    """
    area = auroc(scores, positive)
    low, high = auroc_interval(area, len(np.unique(groups[positive])), len(np.unique(groups[~positive])))
    areas = [abs(auroc(rivals[:, i], positive) - 0.5) + 0.5 for i in range(rivals.shape[1])]
    best = best_f1(scores, positive)
    return ConceptReport(
        fitted_positive=fitted[0],
        fitted_negative=fitted[1],
        held_out_positive=int(positive.sum()),
        held_out_negative=int((~positive).sum()),
        auroc=area,
        auroc_low=low,
        auroc_high=high,
        pr_auc=average_precision(scores, positive),
        base_rate=float(positive.mean()),
        f1=best.f1,
        threshold=_between(scores, best.value),
        random_auroc=float(np.mean(areas)),
        random_auroc_max=float(np.max(areas)),
        pair_accuracy=None if pairs is None else _won(*pairs),
        l2=l2,
    )


def _between(scores: Vector, cut: float) -> float:
    """A threshold strictly between the lowest score that counts and the highest that does not: > and >= agree on it."""
    below = scores[scores < cut]
    middle = (float(below.max()) + cut) / 2 if len(below) else cut - max(abs(cut), 1.0) * 1e-3
    return middle if middle < cut else float(np.nextafter(cut, -np.inf))


def _won(chosen: Vector, rejected: Vector) -> float:
    return float(np.mean(np.where(chosen == rejected, 0.5, chosen > rejected)))
