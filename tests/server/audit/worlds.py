"""Small datasets with known truth: pooled frequencies, prompts shared by several pairs, and labels that mean something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from assay_server.audit.disparity import Disparity, disparity, firing_difference, membership
from assay_server.audit.matrices import Csr
from assay_server.audit.maxt import FlipSums, add_flip_sums, no_flip_sums

FEATURES, CONCEPT = 40, 5


@dataclass(frozen=True, eq=False)
class World:
    freq_chosen: np.ndarray  # [pairs, features]
    freq_rejected: np.ndarray
    prompts: np.ndarray  # [pairs]
    length: np.ndarray  # [pairs] Δ log length
    concepts: Csr

    @property
    def disparity(self) -> Disparity:
        return disparity(firing_difference(Csr(self.freq_chosen), Csr(self.freq_rejected)), self.concepts)

    def swapped(self, where: np.ndarray) -> World:
        """Exchange chosen and rejected where `where` [pairs] holds."""
        first = np.where(where[:, None], self.freq_rejected, self.freq_chosen)
        second = np.where(where[:, None], self.freq_chosen, self.freq_rejected)
        return World(first, second, self.prompts, np.where(where, -self.length, self.length), self.concepts)


def world(seed: int = 0, pairs: int = 120, prompts: int = 50, features: int = FEATURES) -> World:
    """Pairs whose prompt shifts both length and firing, so that pairs of a prompt are far from independent.

    Longer responses fire more features: length confounds every concept. Labels are as drawn: neither side is favoured.
    """
    draws = np.random.default_rng(seed)
    ids = draws.integers(0, prompts, pairs)
    length = draws.normal(size=prompts)[ids] + 0.5 * draws.normal(size=pairs)
    tilt = draws.normal(size=(prompts, features))[ids]
    sides = [_frequencies(draws, sign * (0.5 * length[:, None] + 0.7 * tilt)) for sign in (0.5, -0.5)]
    groups = [range(first, first + CONCEPT) for first in range(0, features, CONCEPT)]
    return World(sides[0], sides[1], ids * 7 - 3, length, membership(groups, features))


def preferring(drawn: World, draws: np.random.Generator, strength: float) -> World:
    """Labels from length alone: P(first ≻ second) = σ(strength · Δ length), one coin a prompt so that pairs stay dependent."""
    _, inverse = np.unique(drawn.prompts, return_inverse=True)
    coins = draws.random(inverse.max() + 1)[inverse]
    return drawn.swapped(coins > 1 / (1 + np.exp(-strength * drawn.length)))


def relabelled(drawn: World, draws: np.random.Generator) -> World:
    """The null: chosen and rejected swapped by a fair coin a prompt."""
    _, inverse = np.unique(drawn.prompts, return_inverse=True)
    return drawn.swapped((draws.random(inverse.max() + 1) < 0.5)[inverse])


def flip_sums(*shards: tuple[Csr, np.ndarray], flips: int, seed: int = 0) -> FlipSums:
    """Flipped totals of shards (values, prompts), added in their order."""
    sums = no_flip_sums(shards[0][0], flips=flips, seed=seed)
    for values, prompts in shards:
        add_flip_sums(sums, values, prompts)
    return sums


def part(drawn: World, rows: np.ndarray) -> World:
    return World(drawn.freq_chosen[rows], drawn.freq_rejected[rows], drawn.prompts[rows], drawn.length[rows], drawn.concepts)


def _frequencies(draws: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    fires = draws.random(logits.shape) < 1 / (1 + np.exp(0.8 - logits))
    return np.where(fires, draws.uniform(0.02, 0.6, logits.shape), draws.uniform(0, 0.01, logits.shape))
