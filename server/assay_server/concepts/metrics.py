"""How well scores separate positives from negatives: AUROC with its interval, average precision, best F1.

Invariants:
- Ties count as ties: nothing depends on the order of equal scores.
- Both classes are present and all scores are finite, or ``InvalidItem`` names the numbers; so no figure is ever NaN.

AUROC and average precision equal scikit-learn's, which tests check. They are our own because average precision and best F1
share one sort, and because errors here name the numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from assay_server.errors import InvalidItem

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]

_STEP = 1e-12


@dataclass(frozen=True, slots=True)
class Threshold:
    """A cut on scores, ``score >= value`` says positive, and the F1 of that rule."""

    value: float
    f1: float


def auroc(scores: Scores, positive: Labels) -> float:
    """Return the probability that a random positive scores above a random negative, ties counting half.

    Args:
        scores: finite, [n].
        positive: which of them are positives, bool [n]; both classes present.

    Source: Mann and Whitney 1947; the area under the ROC curve by the trapezoidal rule is the same number.
    """
    n_positive, n_negative = _counts(scores, positive)
    ranks = cast("Scores", rankdata(scores))  # mean rank of ties
    wins = float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2
    return wins / (n_positive * n_negative)


def auroc_interval(value: float, n_positive: int, n_negative: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return a score interval for an AUROC; unlike Wald's or the bootstrap's it has width even at 0 and 1.

    Args:
        value: the AUROC, in [0, 1].
        n_positive: independent positives, >= 1. Where examples come in groups, give the number of groups.
        n_negative: independent negatives, >= 1.
        level: coverage, in (0, 1).

    Source: Newcombe 2006, Statistics in Medicine 25:559, method 5.
    """
    if not 0 <= value <= 1 or min(n_positive, n_negative) < 1 or not 0 < level < 1:
        raise ValueError(f"no interval for AUROC {value} of {n_positive} x {n_negative} at level {level}")
    z = float(norm.ppf((1 + level) / 2))
    spread = (n_positive + n_negative) / 2 - 1

    def excess(theta: float) -> float:
        variance = theta * (1 - theta) * (1 + spread * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
        return abs(value - theta) - z * sqrt(max(variance, 0.0) / (n_positive * n_negative))

    # The excess is also 0 at 0 and 1 themselves; the wanted root lies strictly beyond the value.
    low = 0.0 if value < 2 * _STEP else _root(excess, 0.0, value - _STEP)
    high = 1.0 if value > 1 - 2 * _STEP else _root(excess, value + _STEP, 1.0)
    return low, high


def average_precision(scores: Scores, positive: Labels) -> float:
    """Return the area under the precision-recall steps, Σ (R_k − R_{k−1}) P_k over distinct scores, highest first.

    Chance is the prevalence of positives, not one half. Arguments as for ``auroc``.
    """
    _, hits, called = _cuts(scores, positive)
    gained = np.diff(hits, prepend=0)
    return float(np.sum(gained * (hits / called)) / hits[-1])


def best_f1(scores: Scores, positive: Labels) -> Threshold:
    """Return the cut with the highest F1; of equal ones the highest cut, which calls fewest positive.

    The value is itself one of the scores. Arguments as for ``auroc``.
    """
    values, hits, called = _cuts(scores, positive)
    f1 = 2 * hits / (called + hits[-1])
    best = int(np.argmax(f1))  # the first of equals: cuts descend
    return Threshold(value=float(values[best]), f1=float(f1[best]))


def _cuts(scores: Scores, positive: Labels) -> tuple[Scores, NDArray[np.int64], NDArray[np.int64]]:
    """Distinct scores descending, and how many positives and how many examples each cut calls positive."""
    _counts(scores, positive)
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    return ordered[ends], np.cumsum(positive[order], dtype=np.int64)[ends], ends.astype(np.int64) + 1


def _counts(scores: Scores, positive: Labels) -> tuple[int, int]:
    if scores.ndim != 1 or scores.shape != positive.shape or positive.dtype != np.bool_:
        raise ValueError(f"scores {scores.shape} and {positive.dtype} labels {positive.shape} are not [n] and bool [n]")
    if not np.isfinite(scores).all():
        bad = int(np.count_nonzero(~np.isfinite(scores)))
        raise InvalidItem(
            f"{bad} of {len(scores)} scores are not finite: remove those examples.",
            reason="NOT_FINITE",
            details={"not_finite": bad, "total": len(scores)},
        )
    n_positive = int(np.count_nonzero(positive))
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        raise InvalidItem(
            f"{n_positive} positive and {n_negative} negative examples: separation needs at least 1 of each.",
            reason="TOO_FEW_EXAMPLES",
            details={"positive": n_positive, "negative": n_negative, "needed": 1},
        )
    return n_positive, n_negative


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    return float(cast("float", brentq(excess, low, high, xtol=1e-12)))
