"""Ablation by its formula: what the trainers' hooks are held to."""

import numpy as np
from numpy.typing import ArrayLike


def ablate(residual: ArrayLike, basis: ArrayLike, mean: ArrayLike, strength: float = 1.0) -> np.ndarray:
    """h − strength · QQᵀ(h − μ) (METHOD.md §4: around the mean, because zero ablation can push *towards* a concept).

    Args:
        residual: h, [tokens, d_in].
        basis: Q, [d_in, k].
        mean: μ, [d_in].
        strength: the part that is taken out, in [0, 1].
    """
    h, q = np.asarray(residual, np.float64), np.asarray(basis, np.float64)
    return h - strength * ((h - np.asarray(mean, np.float64)) @ q) @ q.T
