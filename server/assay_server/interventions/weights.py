"""Weights: how much of each pair's gradient an intervention leaves, as long as the policy has not moved.

The gradient of −log σ(βΔ + o) in Δ is −β σ(−(βΔ + o)). Before training βΔ = 0, so an offset scales a pair's first push by
σ(−o)/σ(0) = 2 σ(−o). A reweighted pair gets that as a constant weight, a dropped one 0, a flipped one −1 (its push turned
round). What is the same for all families is what expectations are made of (``expectations``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from assay_server.interventions.offsets import Floats


def offset_weights(offsets: ArrayLike) -> Floats:
    """w = 2 σ(−o), in [0, 2]: 1 without an offset, under 1 where the concept explains the preference.

    Args:
        offsets: o, [pairs]; its sign has the mode in it.
    """
    return 2.0 * special.expit(-np.asarray(offsets, np.float64))


def dropped_weights(pairs: int, rows: ArrayLike) -> Floats:
    """0 on the dropped rows, 1 elsewhere, [pairs]."""
    return _marked(pairs, rows, 0.0)


def flipped_weights(pairs: int, rows: ArrayLike) -> Floats:
    """−1 on the flipped rows, 1 elsewhere, [pairs]."""
    return _marked(pairs, rows, -1.0)


def _marked(pairs: int, rows: ArrayLike, value: float) -> Floats:
    weights = np.ones(pairs)
    weights[np.asarray(rows, np.int64)] = value
    return weights
