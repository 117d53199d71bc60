"""Standardised scores: z(s) = (s − μ)/σ, fitted once on the frozen subject over a dataset (METHOD.md §4, reward shaping)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
FLAT = 1e-12  # a deviation under this share of the largest score is the rounding of equal scores


@dataclass(frozen=True, slots=True)
class ZScore:
    """Constants of z: mean, population standard deviation, and the responses they were fitted on."""

    mean: float
    deviation: float
    responses: int

    def of(self, scores: ArrayLike) -> Floats:
        """z of scores, any shape; 0 everywhere where the fitted scores did not vary."""
        values = np.asarray(scores, np.float64)
        if self.deviation == 0.0:
            return np.zeros_like(values)
        return (values - self.mean) / self.deviation


def fit_zscore(chosen: ArrayLike, rejected: ArrayLike) -> ZScore:
    """Fit z over all responses of a dataset, chosen and rejected alike (METHOD.md §4).

    Args:
        chosen: s+ of each usable pair, [pairs].
        rejected: s− of each, [pairs].

    Raises:
        ValueError: a score is not finite, or the two have different lengths.
    """
    first, second = np.asarray(chosen, np.float64), np.asarray(rejected, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"scores of both sides must be [pairs], got {first.shape} and {second.shape}")
    scores = np.concatenate([first, second])
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    if len(scores) == 0:
        return ZScore(0.0, 0.0, 0)
    mean = float(scores.mean())
    deviation = float(np.sqrt(np.mean((scores - mean) ** 2)))
    if deviation <= FLAT * float(np.abs(scores).max()):
        deviation = 0.0
    return ZScore(mean, deviation, len(scores))
