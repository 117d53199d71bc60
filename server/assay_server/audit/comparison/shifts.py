"""Shifts: the mean of u over pairs, and how sure it is when pairs share prompts (METHOD.md §5).

The predicted shift of a concept is its mean u over the training data, the observed one its mean u over pairs (after, before) of
rollouts, and the noise that over pairs (before, before): one estimator for all three. Sums of integers are exact, so that
concepts that shift equally have equal shifts, and ranks know it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse, special

from assay_server.audit.disparity import Disparity, firing
from assay_server.audit.matrices import (
    Csr,
    Floats,
    Ints,
    PromptSums,
    csr,
    dense_row,
    merge_prompt_sums,
    no_prompts,
    prompt_ids,
    scaled_rows,
    split_sums_by_prompt,
    sum_by_prompt,
)
from assay_server.audit.shared_prompts import mean_freedom, side_freedom, size_powers

_ROUNDING = 1e-13  # a spread under this share of its own terms is what rounding leaves of zero


@dataclass(frozen=True, eq=False)
class Shift:
    """Mean u of every concept over some pairs; arrays are [concepts]."""

    pairs: int
    prompts: int
    mean: Floats  # 0 where there are no pairs, or no features in the concept
    error: Floats  # standard error, clustered by prompt; 0 with fewer than 2 prompts
    freedom: float  # degrees of freedom of `error`
    telling: Ints  # pairs with u ≠ 0

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Student's interval over prompts, cut to [−1, 1]; all of that with fewer than 2 prompts."""
        if self.prompts < 2:
            return np.full_like(self.mean, -1.0), np.full_like(self.mean, 1.0)
        width = float(special.stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return np.maximum(self.mean - width, -1.0), np.minimum(self.mean + width, 1.0)


@dataclass(eq=False)
class _Sums:
    """Over whole prompts c of n_c pairs, S_c = Σ_{i∈c} w_i t_m u_i; arrays are [concepts]."""

    sizes: Ints  # t_m
    total: Floats = field(init=False)  # Σ S_c
    square: Floats = field(init=False)  # Σ S_c²
    cross: Floats = field(init=False)  # Σ n_c S_c
    pairs: int = 0
    prompts: int = 0
    pairs_squared: int = 0  # Σ n_c²
    powers: Floats = field(init=False)  # `size_powers` of n_c

    def __post_init__(self) -> None:
        self.powers = size_powers([])
        self.total, self.square, self.cross = (np.zeros(len(self.sizes)) for _ in range(3))

    def add(self, sums: PromptSums) -> None:
        rows, pairs = sums.rows, sums.pairs.astype(np.float64)
        self.total += dense_row(rows.sum(axis=0))
        self.square += np.bincount(rows.indices, rows.data.astype(np.float64) ** 2, len(self.sizes))
        self.cross += rows.T @ pairs
        self.pairs += int(sums.pairs.sum())
        self.prompts += int((sums.pairs > 0).sum())
        self.pairs_squared += int((sums.pairs**2).sum())
        self.powers = self.powers + size_powers(sums.pairs)

    def shift(self, telling: Ints) -> Shift:
        """Var = f · Σ_c (S_c − n_c·mean)² / n², f and the degrees of freedom by the prompts' sizes, as ``mean_intervals``."""
        pairs, whole = max(self.pairs, 1), self.total / max(self.pairs, 1)
        spread = self.square - 2 * whole * self.cross + whole**2 * self.pairs_squared
        factor, freedom = mean_freedom(self.pairs, self.pairs_squared, self.powers, self.prompts)
        error = clustered(spread, self.square, self.prompts, factor) / (pairs * np.maximum(self.sizes, 1))
        return Shift(self.pairs, self.prompts, means(self.total, pairs, self.sizes), error, freedom, telling)


class ShiftSums:
    """Sums from which a ``Shift`` is made, block by block; only prompts that lie in several blocks stay in memory.

    Args:
        sizes: t_m, [concepts].
        open_prompts: ids of prompts that lie in several blocks, as ``passes.Survey`` has them.
    """

    def __init__(self, sizes: Ints, open_prompts: ArrayLike) -> None:
        self._sums = _Sums(sizes)
        self._shared = np.asarray(open_prompts, np.int64)
        self._open = no_prompts(len(sizes), np.float64)
        self._telling = np.zeros(len(sizes), np.int64)

    def add(self, found: Disparity, prompts: ArrayLike, weights: ArrayLike | None = None) -> None:
        """More pairs.

        Args:
            found: their disparities.
            prompts: an integer id per pair, [pairs].
            weights: what an intervention leaves of each pair's gradient, [pairs]; None leaves all. The shift is then (1/n) Σ w u,
                as in ``interventions.expectations``.
        """
        values = found.numerators
        self._telling += np.bincount(values.indices, minlength=values.shape[1])
        weighed = values.astype(np.float64) if weights is None else scaled_rows(values, np.asarray(weights, np.float64))
        waiting, done = split_sums_by_prompt(weighed, prompts, self._shared)
        self._open = merge_prompt_sums(self._open, waiting)
        self._sums.add(done)

    def finish(self) -> Shift:
        """The shift of all that came; call it once."""
        self._sums.add(self._open)
        return self._sums.shift(self._telling)


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Pairs of rollouts, summed by prompt: what a bootstrap over prompts draws from."""

    sums: PromptSums  # rows [prompts, concepts] Σ t_m·u over the prompt's pairs, float64
    sizes: Ints  # [concepts] t_m
    telling: Ints  # [concepts] pairs with u ≠ 0

    @property
    def shift(self) -> Shift:
        """Their mean u."""
        sums = _Sums(self.sizes)
        sums.add(self.sums)
        return sums.shift(self.telling)


def rollouts_of(sizes: Ints, parts: Iterable[tuple[Disparity, Ints]]) -> Rollouts:
    """Rollouts from blocks of disparities and their prompts, whatever the blocks.

    Args:
        sizes: t_m, [concepts].
        parts: each block's disparities, and a prompt id for each of its pairs.
    """
    rows, ids, telling = [Csr((0, len(sizes)), dtype=np.float64)], [np.zeros(0, np.int64)], np.zeros(len(sizes), np.int64)
    for found, prompts in parts:
        rows.append(found.numerators.astype(np.float64))
        ids.append(prompt_ids(prompts, found.numerators.shape[0]))
        telling += np.bincount(found.numerators.indices, minlength=len(sizes))
    return Rollouts(sum_by_prompt(csr(sparse.vstack(rows, format="csr")), np.concatenate(ids)), sizes, telling)


def aligned(first: Rollouts, second: Rollouts) -> tuple[Rollouts, Rollouts]:
    """Both over the prompts of either, in one order: a prompt that one of them lacks has no pairs there."""
    ids = np.union1d(first.sums.ids, second.sums.ids)

    def spread(one: Rollouts) -> Rollouts:
        places = np.searchsorted(ids, one.sums.ids)
        pairs = np.zeros(len(ids), np.int64)
        pairs[places] = one.sums.pairs
        lengths = np.zeros(len(ids), np.int64)
        lengths[places] = np.diff(one.sums.rows.indptr)
        parts = (one.sums.rows.data, one.sums.rows.indices, np.concatenate([[0], np.cumsum(lengths)]))
        rows = Csr(parts, shape=(len(ids), len(one.sizes)))
        return Rollouts(PromptSums(ids.astype(np.int64), pairs, rows), one.sizes, one.telling)

    return spread(first), spread(second)


def difference_error(first: Rollouts, second: Rollouts) -> Floats:
    """Standard error of mean u of ``first`` minus mean u of ``second``, [concepts], clustered by prompt.

    Both hold the same prompts in the same order (``aligned``), and often the same responses: their errors are correlated, and the
    prompt's contribution to the difference, (S_c − n_c·mean)/n − (T_c − m_c·mean')/m, is what is squared and summed.

    Times the larger of both sides' factors for their prompts' sizes (``shared_prompts``). Where both sides have the same sizes,
    as rollouts do, the difference is one mean over the same prompts, and that factor is exact; with one size it is G/(G − 1).
    """
    a, b = first.sums, second.sums
    n, m = max(int(a.pairs.sum()), 1), max(int(b.pairs.sum()), 1)
    mine, other = a.pairs.astype(np.float64), b.pairs.astype(np.float64)
    mu, nu = dense_row(a.rows.sum(axis=0)) / n, dense_row(b.rows.sum(axis=0)) / m
    squares = [np.bincount(one.rows.indices, one.rows.data**2, len(first.sizes)) for one in (a, b)]
    own = squares[0] - 2 * mu * (a.rows.T @ mine) + mu**2 * (mine @ mine)
    its = squares[1] - 2 * nu * (b.rows.T @ other) + nu**2 * (other @ other)
    both = (
        dense_row(a.rows.multiply(b.rows).sum(axis=0))
        - nu * (a.rows.T @ other)
        - mu * (b.rows.T @ mine)
        + mu * nu * (mine @ other)
    )
    spread = own / n**2 + its / m**2 - 2 * both / (n * m)
    prompts = int(((a.pairs > 0) | (b.pairs > 0)).sum())
    factor = max(side_freedom(one.pairs[one.pairs > 0])[0] for one in (a, b))
    return clustered(spread, squares[0] / n**2 + squares[1] / m**2, prompts, factor) / np.maximum(first.sizes, 1)


class FiringCounts:
    """In how many responses each feature fires, block by block.

    Args:
        features: of the SAE.
        tau: share of a response's tokens over which a feature fires on it.
    """

    def __init__(self, features: int, tau: float) -> None:
        self._counts = np.zeros(features, np.int64)
        self._responses = 0
        self._tau = tau

    def add(self, *frequencies: Csr) -> None:
        """More responses, a CSR [responses, features] of frequencies for each side."""
        for one in frequencies:
            self._counts += np.bincount(firing(one, self._tau).indices, minlength=len(self._counts))
            self._responses += one.shape[0]

    def same_responses(self, other: FiringCounts) -> bool:
        """Whether both hold equal counts of as many responses, of which some fire: those of the same responses are."""
        same = self._responses == other._responses and np.array_equal(self._counts, other._counts)
        return same and bool(self._counts.any())

    def rates(self, members: Csr, sizes: Ints) -> Floats:
        """Mean over each concept's features of the share of responses on which they fire, [concepts]; 0 without responses.

        Args:
            members: 0/1 membership, [features, concepts].
            sizes: features of each, [concepts].
        """
        return means((members.T @ self._counts).astype(np.float64), max(self._responses, 1), sizes)


def independent_side(noise: tuple[FiringCounts, FiringCounts], before: FiringCounts) -> FiringCounts | None:
    """The side of the noise rollouts that does not hold the responses that observed shifts are taken from; None where both do.

    Args:
        noise: chosen and rejected responses of the noise rollouts.
        before: rejected responses of the rollouts.
    """
    return next((side for side in noise if not side.same_responses(before)), None)


def imitation_gap(data: FiringCounts, before: FiringCounts, members: Csr, sizes: Ints) -> Floats:
    """How much more often each concept fires in the data's responses than in the model's own, [concepts] in [−1, 1].

    NaN for those past the columns of ``members``, which are directions.

    Args:
        data: responses of the training pairs, chosen and rejected alike.
        before: responses of the model before training (``independent_side``); not those that observed shifts are taken from,
            whose sampling error would otherwise be in both.
        members: 0/1 membership, [features, concepts made of features].
        sizes: features of each concept, 1 for a direction, [concepts].
    """
    gap = np.full(len(sizes), np.nan)
    made = members.shape[1]
    gap[:made] = data.rates(members, sizes[:made]) - before.rates(members, sizes[:made])
    return gap


def means(totals: Floats, pairs: int | Floats, sizes: Ints) -> Floats:
    """Σ t_m·u over pairs and sizes, rounded once: equal fractions are equal numbers."""
    return totals / (pairs * np.maximum(sizes, 1))


def clustered(spread: Floats, terms: Floats, prompts: int, factor: float) -> Floats:
    """√(factor · Σ of squares over prompts), 0 under two prompts, or where ``spread`` is what rounding leaves of ``terms``."""
    if prompts < 2:
        return np.zeros_like(spread)
    return np.sqrt(np.where(spread <= _ROUNDING * terms, 0.0, spread) * factor)
