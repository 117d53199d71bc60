"""What an intervention is about, and how a response is scored on it: from stored shards, or from a fresh scoring.

Both ways give the same number for the same response: a plan is fitted on the one, and applied to pairs and rewards that come by
the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.disparity import TAU
from assay_server.audit.matrices import Csr
from assay_server.audit.shards import PairShard
from assay_server.interventions.types import Statistic
from assay_server.subject.types import Directions, PooledSpan

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A concept as interventions need it.

    Attributes:
        name: "feature/17", "cluster/3", "concepts/x", or "spec/NAME" for one given with the request.
        label: for people.
        features: ids, int64 [n], ascending; none for a direction.
        weights: one for each, float64 [n].
        direction: unit vector float64 [d_in], or None.
        threshold: score from which a response shows a direction, where examples told; else None.
    """

    name: str
    label: str = ""
    features: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    weights: Floats = field(default_factory=lambda: np.zeros(0, np.float64))
    direction: Floats | None = None
    threshold: float | None = None

    @property
    def is_direction(self) -> bool:
        """Whether it is scored along a direction."""
        return self.direction is not None

    def digest(self) -> str:
        """SHA-256 over what is scored, hexadecimal."""
        digest = hashlib.sha256(b"assay-target-1")
        direction = np.zeros(0) if self.direction is None else self.direction
        for part in (self.features.astype("<i8"), self.weights.astype("<f8"), direction.astype("<f8")):
            digest.update(part.nbytes.to_bytes(8, "little") + part.tobytes())
        return digest.hexdigest()


def directions_of(targets: Sequence[Target]) -> Directions | None:
    """The targets' directions stacked, float32 [n, d_in], in their order; None where no target is one."""
    vectors = [target.direction for target in targets if target.direction is not None]
    if not vectors:
        return None
    stacked = np.stack(vectors).astype(np.float32)
    shape = np.array(stacked.shape, dtype="<i8").tobytes()
    return Directions(stacked, hashlib.sha256(shape + stacked.astype("<f4").tobytes()).digest())


def span_score(span: PooledSpan, target: Target, statistic: Statistic, along: float) -> float:
    """A response's score s.

    Args:
        span: its pooled features.
        target: not a direction, or ``along`` is its score.
        statistic: which score.
        along: max over tokens of ⟨h, v⟩, for a direction.
    """
    if target.is_direction:
        return along
    ids = span.indices.astype(np.int64)
    places = np.searchsorted(ids, target.features)
    there = places < len(ids)
    there[there] = ids[places[there]] == target.features[there]
    if statistic is Statistic.FIRING:
        fires = span.counts[places[there]].astype(np.float64) / span.tokens
        return float((fires.astype(np.float32) > np.float32(TAU)).sum() / max(1, len(target.features)))
    return float(span.max[places[there]].astype(np.float64) @ target.weights[there])


def shard_scores(shard: PairShard, target: Target, statistic: Statistic) -> tuple[Floats, Floats]:
    """s⁺ and s⁻ of a shard's pairs, [pairs] each, for a target made of features."""
    if statistic is Statistic.FIRING:
        sides: list[Floats] = [_fires(freq, target.features).mean(axis=1) for freq in (shard.freq_chosen, shard.freq_rejected)]
    else:
        column = np.zeros(shard.max_chosen.shape[1])
        column[target.features] = target.weights
        sides = [np.asarray(values.astype(np.float64) @ column) for values in (shard.max_chosen, shard.max_rejected)]
    return sides[0], sides[1]


def shard_disparity(shard: PairShard, target: Target) -> Floats:
    """u of a shard's pairs, [pairs] in [−1, 1], for a target made of features (METHOD.md §3)."""
    chosen, rejected = (_fires(freq, target.features) for freq in (shard.freq_chosen, shard.freq_rejected))
    return (chosen - rejected).mean(axis=1)


def threshold_disparity(chosen: Floats, rejected: Floats, threshold: float) -> Floats:
    """u of a direction: 1{s⁺ > θ} − 1{s⁻ > θ}, [pairs]."""
    return (chosen > threshold).astype(np.float64) - (rejected > threshold)


def _fires(freq: Csr, features: Ints) -> Floats:
    """1{freq > τ} of some features, float64 [pairs, features]."""
    columns: Any = freq
    picked = columns[:, features].toarray()
    return (picked > freq.dtype.type(TAU)).astype(np.float64)
