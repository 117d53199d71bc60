"""How large each feature's activations are: a histogram of its largest activations in responses, gathered in a pass.

From it come a feature's scale, and the activation from which a feature counts as present in a response by its maximum. Both
responses of a pair count alike, so nothing here changes when chosen and rejected swap, and a test of what is made of it stays
calibrated. Counts add up exactly in any order. Memory is 1 KB for each feature that fires.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.bins import BINS, EDGES, MIDDLES, bins_of
from assay_server.audit.matrices import Csr, Floats, Ints

LEAST = 10  # responses that a mode holds, and 1% of those in which the feature fires
MARGIN = 0.4  # by which two modes must describe the maxima better than one
ANY = float(np.finfo(np.float32).smallest_subnormal)  # threshold: the feature fires
_CHUNK = 4_096
_WITHIN = 0.25**2 / 12  # variance of log2 within a bin of a quarter octave


@dataclass(frozen=True, eq=False)
class Presence:
    """Presence by max, learned from both responses alike, [d_sae]. A response shows a feature where max >= threshold."""

    threshold: Floats  # a float32's value; `ANY` where its maxima show one mode
    responses: Ints  # that show the feature
    hidden: Ints  # of these, in which it fires on a share of tokens of at most tau


class Maxima:
    """Counts of a feature's non-zero maxima by size, over chosen and rejected responses."""

    def __init__(self, d_sae: int, tau: float) -> None:
        """Say how many features there are, and the frequency up to which the frequency rule does not see them."""
        self._tau = np.float32(tau)
        self._counts, self._hidden = (np.zeros((d_sae, BINS), np.int32) for _ in range(2))

    def add(self, maxima: Csr, freq: Csr) -> None:
        """Count one side of some pairs, [pairs, d_sae], as in `PairShard`."""
        fires = np.flatnonzero(maxima.data > 0)
        place = maxima.indices[fires].astype(np.int64) * BINS + bins_of(maxima.data[fires])
        np.add.at(self._counts.reshape(-1), place, np.int32(1))
        few = np.flatnonzero(_at_entries(freq, maxima)[fires] <= self._tau)
        np.add.at(self._hidden.reshape(-1), place[few], np.int32(1))

    def scale(self) -> Floats:
        """The median of each feature's non-zero maxima to within a bin (a factor of 1.12), [d_sae]; 1 where it never fires."""
        scale = np.ones(len(self._counts))
        for features in self._firing():
            below = self._counts[features].cumsum(axis=1, dtype=np.int64)
            scale[features] = MIDDLES[(2 * below >= below[:, -1:]).argmax(axis=1)]
        return scale

    def presence(self) -> Presence:
        """From which maximum each feature counts as present."""
        d_sae = len(self._counts)
        threshold, responses, hidden = np.full(d_sae, ANY), np.zeros(d_sae, np.int64), np.zeros(d_sae, np.int64)
        for features in self._firing():
            counts = self._counts[features]
            first = first_of_upper_mode(counts)
            threshold[features] = np.where(first > 0, EDGES[first].astype(np.float64), ANY)
            above = np.arange(BINS) >= first[:, None]
            responses[features] = (counts * above).sum(axis=1)
            hidden[features] = (self._hidden[features] * above).sum(axis=1)
        return Presence(threshold, responses, hidden)

    def _firing(self) -> list[NDArray[np.intp]]:
        """Features that fire, some at a time."""
        features = np.flatnonzero(self._counts.any(axis=1))
        return [features[first : first + _CHUNK] for first in range(0, len(features), _CHUNK)]


def first_of_upper_mode(counts: NDArray[np.int32]) -> Ints:
    """Where the upper of two modes of log maxima begins: its first bin, [features]; 0 where there is one mode.

    Minimum-error thresholding (Kittler and Illingworth 1986): the cut that minimises J = Σ P_k ln σ_k² − 2 Σ P_k ln P_k, twice
    the cost per response of describing both sides by a normal each. Otsu's cut (1979), the largest variance between sides,
    moves towards the middle of the larger side where one is rarer, as a local concept is. One normal costs ln σ²; two must cost
    less by `MARGIN`, for skewed or flat maxima of one mode gain up to 0.37 by a cut (normal, uniform, exponential, gamma,
    half-normal, shifted exponential and Student's, of 2,000), while a mode of one response in ten gains 0.47 and more.

    Args:
        counts: maxima in each bin, [features, BINS]; at least one each.
    """
    log, seen = np.log2(MIDDLES), counts.astype(np.float64)
    weights: list[Floats] = [np.ones(BINS), log, log**2]
    sums: list[Floats] = [np.cumsum(seen * weight, axis=1) for weight in weights]
    whole, lower = [of[:, -1:] for of in sums], [of[:, :-1] for of in sums]
    upper: list[Floats] = [every - under for every, under in zip(whole, lower, strict=True)]
    least = np.maximum(LEAST, 0.01 * whole[0])
    allowed = (lower[0] >= least) & (upper[0] >= least)
    cost = -np.log(_variance(whole[0], whole[1], whole[2]))
    for side in (lower, upper):
        share = np.maximum(side[0], 1) / whole[0]
        cost = cost + share * np.log(_variance(side[0], side[1], side[2])) - 2 * share * np.log(share)
    cost = np.where(allowed, cost, np.inf)
    best = cost.argmin(axis=1)
    return np.where(cost[np.arange(len(best)), best] < -MARGIN, best + 1, 0)


def _at_entries(freq: Csr, maxima: Csr) -> NDArray[np.float32]:
    """The frequency of each entry of `maxima`, 0 where there is none."""
    if np.array_equal(freq.indptr, maxima.indptr) and np.array_equal(freq.indices, maxima.indices):
        return freq.data
    pair = np.repeat(np.arange(maxima.shape[0]), np.diff(maxima.indptr))
    return np.asarray(freq[pair, maxima.indices], np.float32).ravel()


def _variance(count: Floats, total: Floats, squares: Floats) -> Floats:
    count = np.maximum(count, 1)
    return np.maximum(squares / count - (total / count) ** 2, 0.0) + _WITHIN
