"""Offsets: what each family adds inside the sigmoid of a preference loss (METHOD.md §4).

    L = −log σ(β Δ_θ + o),   o = o⁺ − o⁻

A positive o says "the concept already explains this preference": the loss is smaller and the policy is pushed less. All
families give both halves, because trainers that carry the reference's log-probabilities take them one by one (``shifts``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay_server.interventions.types import Mode
from assay_server.interventions.zscore import ZScore

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Offsets:
    """Offsets of some pairs: o⁺ and o⁻, float64 [pairs], mode and strength included."""

    chosen: Floats
    rejected: Floats

    @property
    def total(self) -> Floats:
        """o = o⁺ − o⁻, [pairs]."""
        return self.chosen - self.rejected

    def __add__(self, other: Offsets) -> Offsets:
        """Two interventions at once: inside one sigmoid, offsets add."""
        return Offsets(self.chosen + other.chosen, self.rejected + other.rejected)


def no_offsets(pairs: int) -> Offsets:
    """Zero for each pair: the neutral element of addition."""
    return Offsets(np.zeros(pairs), np.zeros(pairs))


def reward_shaping(chosen: ArrayLike, rejected: ArrayLike, z: ZScore, mode: Mode, strength: float) -> Offsets:
    """o = λ (z(s⁺) − z(s⁻)), negated by AMPLIFY (METHOD.md §4, reward shaping).

    Args:
        chosen: s⁺, [pairs].
        rejected: s⁻, [pairs].
        z: fitted once over the dataset.
        mode: which way.
        strength: λ ≥ 0.

    Raises:
        ValueError: λ is negative or not finite.
    """
    scale = mode.sign * checked_strength(strength)
    return Offsets(scale * z.of(chosen), scale * z.of(rejected))


def log_ratio(chosen: ArrayLike, rejected: ArrayLike, mode: Mode, strength: float) -> Offsets:
    """o = λ (A(y⁺) − A(y⁻)), negated by AMPLIFY (METHOD.md §4, steering explained away, and inoculation).

    Args:
        chosen: A(y⁺) = log π₀(y⁺ | x, changed) − log π₀(y⁺ | x) in nats, [pairs]; "changed" is h ← h + m·v, or a prompt
            that asks for the concept.
        rejected: A(y⁻), [pairs].
        mode: which way.
        strength: λ ≥ 0.

    Raises:
        ValueError: λ is negative or not finite.
    """
    scale = mode.sign * checked_strength(strength)
    return Offsets(scale * np.asarray(chosen, np.float64), scale * np.asarray(rejected, np.float64))


def shaped_rewards(rewards: ArrayLike, scores: ArrayLike, z: ZScore, mode: Mode, strength: float) -> Floats:
    """r' = r − λ z(s_u), r + λ z(s_u) with AMPLIFY (METHOD.md §4, online reward).

    The score is standardised by the plan's constants, as in ``reward_shaping``: with π* ∝ π₀ exp(r/β), the two then are the same
    intervention at the same λ, once for a reward model's r and once for the reward that is implicit in pairs.

    Args:
        rewards: r, [responses].
        scores: s_u, [responses].
        z: the plan's constants.
        mode: which way.
        strength: λ ≥ 0.
    """
    return np.asarray(rewards, np.float64) - mode.sign * checked_strength(strength) * z.of(scores)


def checked_strength(strength: float) -> float:
    """λ. Raises ValueError where it is negative or not finite: a sign is the mode's business."""
    if not (np.isfinite(strength) and strength >= 0):
        raise ValueError(f"strength must be at least 0 and finite, got {strength}; its sign is the mode's")
    return float(strength)
