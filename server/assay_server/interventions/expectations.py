"""What a plan should do and what else would move: METHOD.md §5's predictor, before and after weighing (METHOD.md §4).

The predicted shift of a concept is the mean of its disparity u over the dataset. An intervention that leaves a pair the weight w
(see ``weights``) leaves (1/n) Σ w u of it. Concepts whose u goes along with the target's move along with it: the method's
known failure, which is why they are named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from assay_server.audit.disparity import Disparity
from assay_server.audit.matrices import Floats, Ints

SATURATED = 4.0  # |o| past which 2σ(−o) is under 0.04, or over 1.96


@dataclass(frozen=True, eq=False)
class Companions:
    """How every tested concept goes along with one target; arrays are [concepts]."""

    correlation: Floats  # Pearson over pairs; 0 where either does not vary
    before: Floats  # mean u
    after: Floats | None  # mean w·u; None where nothing is weighed
    telling: Ints  # pairs with u ≠ 0


class CompanionSums:
    """Sums over shards from which ``Companions`` are made, for several targets at once.

    Args:
        targets: u of each target, [targets, pairs], in the pairs' order.
        weights: w of each target's intervention, [targets, pairs]; NaN rows where it weighs nothing.
    """

    def __init__(self, targets: ArrayLike, weights: ArrayLike) -> None:
        self._targets = np.asarray(targets, np.float64)
        self._weights = np.asarray(weights, np.float64)
        self._pairs = 0
        self._sum: Floats | None = None
        self._square: Floats
        self._cross: Floats
        self._weighed: Floats
        self._telling: Ints

    def add(self, disparity: Disparity) -> None:
        """The next shard's disparities, [pairs of the shard, concepts]."""
        u = disparity.values()
        here = slice(self._pairs, self._pairs + u.shape[0])
        self._pairs = here.stop
        if self._sum is None:
            count, concepts = len(self._targets), u.shape[1]
            self._sum, self._square = np.zeros(concepts), np.zeros(concepts)
            self._cross, self._weighed = np.zeros((count, concepts)), np.zeros((count, concepts))
            self._telling = np.zeros(concepts, np.int64)
        ones = np.ones(u.shape[0])
        self._sum += u.T @ ones
        self._square += u.multiply(u).T @ ones
        self._telling += np.bincount(u.indices, minlength=u.shape[1])
        self._cross += (u.T @ self._targets[:, here].T).T
        self._weighed += (u.T @ np.nan_to_num(self._weights[:, here]).T).T

    def finish(self) -> list[Companions]:
        """One for each target, in order; nothing where no shard came."""
        if self._sum is None or not self._pairs:
            empty = np.zeros(0)
            return [Companions(empty, empty, None, empty.astype(np.int64)) for _ in self._targets]
        n = self._pairs
        means = self._sum / n
        spread = np.sqrt(np.maximum(self._square / n - means**2, 0.0))
        found: list[Companions] = []
        for index, target in enumerate(self._targets):
            own = float(target.std())
            scale = spread * own
            covariance = self._cross[index] / n - means * float(target.mean())
            correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 1e-12)
            after = None if np.isnan(self._weights[index]).any() else self._weighed[index] / n
            found.append(Companions(np.clip(correlation, -1.0, 1.0), means, after, self._telling))
        return found


def strongest(correlation: Floats, leave_out: ArrayLike, count: int) -> Ints:
    """Indices of the ``count`` largest |correlation|, strongest first, zeros and ``leave_out`` never; ties by index."""
    size = np.abs(correlation)
    size[np.asarray(leave_out, np.int64)] = 0.0
    order = np.argsort(-size, kind="stable")[:count]
    return order[size[order] > 0].astype(np.int64)
