"""How well one antisymmetric score tells chosen from rejected: its AUC over both orders of every pair, clustered by prompt.

A score x is chosen minus rejected, so the pair in the other order has −x. Shown in both orders, n pairs are n positives x_i and
n negatives −x_j, and the area under the curve is

    AUC = 1/n² Σ_ij h(x_i + x_j),    h(t) = 1 where t > 0, ½ where t = 0, else 0:

P(x > −x'), the share of Walsh averages above 0 (Hodges and Lehmann 1963). No seed decides which order is shown, and one score
needs no fit. ½: the score says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from assay_server.audit.matrices import Floats, Ints, prompt_ids
from assay_server.audit.shared_prompts import side_freedom

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; equal bounds where nothing varies."""

    value: float
    low: float
    high: float


def both_orders_auc(scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The AUC of a score over both orders of every pair; ½ without pairs.

    Args:
        scores: x, chosen minus rejected, [pairs].
        weights: how often each pair counts, [pairs]; once by default.
    """
    return Ordered(scores).auc(weights)


class Ordered:
    """Scores, sorted once, whose AUC is asked for with many weights."""

    def __init__(self, scores: ArrayLike) -> None:
        """Sort them.

        Args:
            scores: x, chosen minus rejected, [pairs].
        """
        x = np.asarray(scores, np.float64)
        self._order = np.argsort(x, kind="stable")
        self._ends = [np.searchsorted(x[self._order], -x, side=side) for side in ("left", "right")]

    def auc(self, weights: ArrayLike | None = None) -> float:
        """As `both_orders_auc`."""
        weight = np.ones(len(self._order)) if weights is None else np.asarray(weights, np.float64)
        total = float(weight.sum())
        return float(weight @ self.placements(weight)) / total if total > 0 else 0.5

    def placements(self, weight: Floats) -> Floats:
        """a_i: the weighted share of pairs j with x_j above −x_i, ties half, [pairs]."""
        below = np.concatenate([[0.0], np.cumsum(weight[self._order])])
        return 1 - (below[self._ends[0]] + below[self._ends[1]]) / 2 / max(float(below[-1]), 1e-300)


def clustered_auc(scores: ArrayLike, prompts: ArrayLike, *, level: float = LEVEL) -> Estimate:
    """The AUC with an interval over prompts, cut to [0, 1].

    The AUC is twice a mean of placements a_i = 1/n Σ_j h(x_i + x_j), to first order (Hoeffding 1948; for clusters Obuchowski
    1997): Var = 4 f Σ_c (Σ_{i∈c} (a_i − AUC))² / n², with the factor f and Student's degrees of freedom of `shared_prompts`.
    Where every pair points one way the far bound is what G prompts without an exception allow: share^G = (1 − level)/2, squared
    for two pairs.

    Args:
        scores: x, chosen minus rejected, [pairs].
        prompts: an integer id per pair, [pairs].
        level: share that the interval covers.

    Raises:
        ValueError: level is outside (0, 1), or lengths differ.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    x = np.asarray(scores, np.float64)
    ids = prompt_ids(prompts, len(x))
    if not len(x):
        return Estimate(0.5, 0.0, 1.0)
    _, cluster, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    placed = Ordered(x).placements(np.ones(len(x)))
    auc = float(placed.mean())
    if len(sizes) < 2:
        return Estimate(auc, 0.0, 1.0)
    factor, freedom = side_freedom(sizes)
    error = float(np.sqrt(factor * np.square(np.bincount(cluster.ravel(), placed - auc)).sum())) * 2 / len(x)
    if error > 1e-12:
        width = float(special.stdtrit(freedom, (1 + level) / 2)) * error
        return Estimate(auc, max(auc - width, 0.0), min(auc + width, 1.0))
    reach = ((1 - level) / 2) ** (2 / len(sizes))
    return Estimate(auc, min(auc, reach) if auc == 1 else auc, max(auc, 1 - reach) if auc == 0 else auc)


def clustered_median(values: ArrayLike, prompts: ArrayLike, *, level: float = LEVEL) -> Estimate:
    """The median with an interval of order statistics that counts prompts (Woodruff 1952).

    The share of values under the median has an error over prompts; the interval runs between the quantiles at ½ ± t times it.
    Under two prompts it is everything that was seen.

    Args:
        values: [pairs].
        prompts: an integer id per pair, [pairs].
        level: share that the interval covers.

    Raises:
        ValueError: there are no pairs, or lengths differ.
    """
    x = np.sort(np.asarray(values, np.float64))
    if not len(x):
        raise ValueError("nothing has no median")
    middle = float(np.median(x))
    _, cluster, sizes = np.unique(prompt_ids(prompts, len(x)), return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return Estimate(middle, float(x[0]), float(x[-1]))
    under = 0.5 * (np.sign(middle - np.asarray(values, np.float64)) + 1)
    factor, freedom = side_freedom(sizes)
    sums = np.bincount(cluster.ravel(), under - under.mean())
    # Half a pair more on either side: an order statistic, not a point between two.
    width = float(special.stdtrit(freedom, (1 + level) / 2)) * float(np.sqrt(factor * np.square(sums).sum())) / len(x)
    places: Ints = np.array([np.floor((0.5 - width) * len(x)), np.ceil((0.5 + width) * len(x)) - 1]).astype(np.int64)
    low, high = x[np.clip(places, 0, len(x) - 1)]
    return Estimate(middle, min(float(low), middle), max(float(high), middle))
