"""Random bits that depend on a seed and an id alone, so that any shard on any machine draws alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.matrices import Ints

_GOLDEN = 0x9E3779B97F4A7C15
_STREAM = 0x632BE59BD9B4E019
_MASK = 0xFFFFFFFFFFFFFFFF


def drawn_bits(ids: Ints, stream: int, seed: int) -> NDArray[np.uint64]:
    """64 fair bits for each id, [ids]; every stream of a seed is a draw of its own."""
    key = np.uint64((seed * _GOLDEN + _STREAM * (stream + 1)) & _MASK)
    return _mix(_mix(ids.astype(np.uint64)) ^ _mix(np.full(len(ids), key, np.uint64)))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit reaches every output bit."""
    state = state + np.uint64(_GOLDEN)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
