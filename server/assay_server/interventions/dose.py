"""Dose and response: in which coefficients a steering vector works, from a measured curve (METHOD.md §4).

A coefficient works where the steered model writes more of the concept than without steering, by more than the standard error of
the difference, and still reads fluent text as fluent: perplexity at most a stated multiple of what it is without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DEFAULT_FRACTIONS = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the residual's mean norm
PERPLEXITY_LIMIT = 1.5
MAX_LOG_PERPLEXITY = 80.0  # e^80: past it a figure says no more, and squares overflow


@dataclass(frozen=True, slots=True)
class DosePoint:
    """One coefficient's measurements."""

    coefficient: float
    concept_score: float
    concept_score_error: float
    perplexity: float


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """The curve and what follows from it; ``low`` and ``high`` are None where no coefficient works."""

    points: tuple[DosePoint, ...]
    low: float | None
    high: float | None
    recommended: float
    perplexity_limit: float
    residual_norm: float
    perplexity_tokens: int
    generated_tokens: int


def dose_response(
    points: Sequence[DosePoint],
    *,
    perplexity_limit: float,
    residual_norm: float,
    perplexity_tokens: int,
    generated_tokens: int,
) -> DoseResponse:
    """The useful range of a curve, and the coefficient in it with the highest concept score.

    The range is the longest run of neighbouring coefficients that work, so that a lucky point beyond a gap does not stretch it.

    Raises:
        ValueError: there is no point at coefficient 0, or no other one.
    """
    ordered = tuple(sorted(points, key=lambda point: point.coefficient))
    if len(ordered) < 2 or ordered[0].coefficient != 0.0:
        raise ValueError("a curve needs the coefficient 0 and at least one above it")
    base = ordered[0]
    works = [point.coefficient > 0 and _works(point, base, perplexity_limit) for point in ordered]
    run = _longest_run(works)
    inside = [ordered[index] for index in run]
    best = max(inside, key=lambda point: point.concept_score) if inside else ordered[1]
    return DoseResponse(
        points=ordered,
        low=inside[0].coefficient if inside else None,
        high=inside[-1].coefficient if inside else None,
        recommended=best.coefficient,
        perplexity_limit=perplexity_limit,
        residual_norm=residual_norm,
        perplexity_tokens=perplexity_tokens,
        generated_tokens=generated_tokens,
    )


def perplexity(log_probability: float, tokens: int) -> float:
    """exp(−log p / tokens), of a summed natural log-probability; e^80 at most."""
    return float(np.exp(min(MAX_LOG_PERPLEXITY, -log_probability / max(1, tokens))))


def _works(point: DosePoint, base: DosePoint, limit: float) -> bool:
    error = float(np.hypot(point.concept_score_error, base.concept_score_error))
    return point.concept_score - base.concept_score > error and point.perplexity <= limit * base.perplexity


def _longest_run(works: Sequence[bool]) -> range:
    best = current = range(0)
    for index, good in enumerate(works):
        current = range(current.start if current else index, index + 1) if good else range(0)
        if len(current) > len(best):
            best = current
    return best
