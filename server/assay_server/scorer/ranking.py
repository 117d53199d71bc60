"""Which features separate two spans: rankings by ``max`` and by ``freq``, and concept scores (METHOD.md §1).

Invariants:
- Strongest difference first, ties by ascending feature id, both sides' values beside it. A feature whose difference
  is zero separates nothing and is never ranked, so a ranking may be shorter than ``k``.
- Nothing of the size of the SAE is read or written for one pair: dense scratch is touched only at the features that
  fire, and is all zeros between calls.
- Order is decided by one integer per feature, ``bits(|difference|) << 32 | ~id``: non-negative IEEE floats order as
  their bits do, so one partition settles strength and ties together.

A ``Ranker`` belongs to one thread.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_server.subject.types import PooledSpan

_ID_BITS = np.uint64(32)
_ID_MASK = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Features, strongest first, as parallel arrays.

    Attributes:
        features: feature ids, int64 [n], n <= k.
        chosen: the chosen side's value, float32 [n].
        rejected: the rejected side's value, float32 [n]; empty for a single span.
    """

    features: NDArray[np.int64]
    chosen: NDArray[np.float32]
    rejected: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WeightedFeatures:
    """A concept as a weighted sum of features' ``max``: ids int64 [n] strictly ascending, weights float32 [n], n >= 1."""

    indices: NDArray[np.int64]
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WeightedStack:
    """Several weighted concepts, end to end, so that all are scored at once.

    Attributes:
        indices: feature ids of the concepts, one after another, int64 [total].
        weights: the weight of each, float64 [total].
        starts: where each concept begins, int64 [n].
    """

    indices: NDArray[np.int64]
    weights: NDArray[np.float64]
    starts: NDArray[np.int64]


def stack_weighted(concepts: Sequence[WeightedFeatures]) -> WeightedStack | None:
    """The concepts as one stack; None where there are none."""
    if not concepts:
        return None
    ends = np.cumsum([len(concept.indices) for concept in concepts])
    return WeightedStack(
        indices=np.concatenate([concept.indices for concept in concepts]),
        weights=np.concatenate([concept.weights for concept in concepts]).astype(np.float64),
        starts=np.concatenate(([0], ends[:-1])).astype(np.int64),
    )


class Ranker:
    """Ranks spans of one SAE, with scratch that is reused from call to call.

    Args:
        d_sae: number of SAE features; every id that is given is below it.
    """

    def __init__(self, d_sae: int) -> None:
        self._max_chosen = np.zeros(d_sae, dtype=np.float32)
        self._max_rejected = np.zeros(d_sae, dtype=np.float32)
        self._freq_chosen = np.zeros(d_sae, dtype=np.float32)
        self._freq_rejected = np.zeros(d_sae, dtype=np.float32)

    def pair(self, chosen: PooledSpan, rejected: PooledSpan, k: int) -> tuple[Ranking, Ranking]:
        """The ``k`` features with the largest difference between the sides, by ``max`` and by ``freq``."""
        if k == 0:
            return _EMPTY, _EMPTY
        ids_chosen, ids_rejected = chosen.indices.astype(np.int64), rejected.indices.astype(np.int64)
        with (
            _filled(self._max_chosen, ids_chosen, chosen.max),
            _filled(self._freq_chosen, ids_chosen, chosen.freq),
            _filled(self._max_rejected, ids_rejected, rejected.max),
            _filled(self._freq_rejected, ids_rejected, rejected.freq),
        ):
            only_rejected = ids_rejected[self._freq_chosen[ids_rejected] == 0]  # freq is positive wherever a feature fires
            ids = np.concatenate((ids_chosen, only_rejected))
            return (
                _rank_sides(ids, self._max_chosen, self._max_rejected, k),
                _rank_sides(ids, self._freq_chosen, self._freq_rejected, k),
            )

    def single(self, span: PooledSpan, k: int) -> tuple[Ranking, Ranking]:
        """The ``k`` features with the largest value on one span, by ``max`` and by ``freq``."""
        if k == 0:
            return _EMPTY, _EMPTY
        ids = span.indices.astype(np.int64)
        return _rank_values(ids, span.max, k), _rank_values(ids, span.freq, k)

    def weighted(self, span: PooledSpan, concepts: WeightedStack) -> NDArray[np.float64]:
        """Each concept's score on the span, float64 [n]: the weighted sum of its features' ``max``."""
        ids = span.indices.astype(np.int64)
        with _filled(self._max_chosen, ids, span.max):
            return np.add.reduceat(self._max_chosen[concepts.indices] * concepts.weights, concepts.starts)


@contextmanager
def _filled(scratch: NDArray[np.float32], ids: NDArray[np.int64], values: NDArray[np.float32]) -> Generator[None]:
    """Values in the scratch for as long as the context lasts; also after an error, the scratch is all zeros again.

    Raises:
        IndexError: an id is not below the scratch's size; ValueError: another number of values. Nothing is written then.
    """
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < scratch.size:
        raise IndexError(f"feature {int(ids.max())} is outside an SAE of {scratch.size} features")
    if values.shape != ids.shape:
        raise ValueError(f"{values.size} values stand beside {ids.size} features")
    scratch[ids] = values
    try:
        yield
    finally:
        scratch[ids] = 0


def _rank_sides(ids: NDArray[np.int64], chosen: NDArray[np.float32], rejected: NDArray[np.float32], k: int) -> Ranking:
    difference = np.abs(chosen[ids] - rejected[ids])
    top = _strongest(ids, difference, k)
    return Ranking(top, chosen[top], rejected[top])


def _rank_values(ids: NDArray[np.int64], values: NDArray[np.float32], k: int) -> Ranking:
    top = _strongest(ids, values, k)
    return Ranking(top, values[np.searchsorted(ids, top)], _NO_VALUES)


def _strongest(ids: NDArray[np.int64], strength: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Ids of the ``k`` largest strengths above zero, largest first, ties by ascending id; strengths are not negative."""
    keys = (strength.view(np.uint32).astype(np.uint64) << _ID_BITS) | (ids.view(np.uint64) ^ _ID_MASK)
    if keys.size > k:
        keys = np.partition(keys, keys.size - k)[keys.size - k :]
    keys.sort()
    keys = keys[::-1]
    top = ((keys & _ID_MASK) ^ _ID_MASK).view(np.int64)
    positive = int(np.count_nonzero(keys >> _ID_BITS))
    return top[:positive]


_NO_VALUES = np.zeros(0, dtype=np.float32)
_EMPTY = Ranking(np.zeros(0, dtype=np.int64), _NO_VALUES, _NO_VALUES)
