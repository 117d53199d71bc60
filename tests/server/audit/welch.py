"""Welch's test with the floor that the audit puts under each side's error, in a few lines of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Welch:
    statistic: float
    df: float
    pvalue: float
    low: float
    high: float


def welch(inside: np.ndarray, outside: np.ndarray) -> Welch:
    """Each side's squared error is at least that of as many pairs drawn from both sides together."""
    together = np.concatenate([inside, outside]).var(ddof=1)
    first, second = (max(side.var(ddof=1), together) / len(side) for side in (inside, outside))
    delta, se = inside.mean() - outside.mean(), np.sqrt(first + second)
    df = (first + second) ** 2 / (first**2 / (len(inside) - 1) + second**2 / (len(outside) - 1))
    width = stats.t.ppf(0.975, df) * se
    return Welch(delta / se, df, 2 * stats.t.sf(abs(delta / se), df), delta - width, delta + width)
