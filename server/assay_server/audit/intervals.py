"""How sure an effect and its rank are: clustered intervals, a bootstrap over prompts, split-half stability.

METHOD.md §3.5 and §5. The unit that varies independently is the prompt, so that is what variances sum over and what a
bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from assay_server.audit.matrices import Bools, Codes, Floats, Ints, PromptSums, prompt_ids
from assay_server.audit.moments import Moments
from assay_server.audit.reason import Reason

LEVEL = 0.95
DRAWS = 1_000


@dataclass(frozen=True, eq=False)
class Intervals:
    """Mean disparities with bounds; arrays are [concepts]. Where nothing can be said the bounds are −1 and 1."""

    mean: Floats  # mean u over pairs
    se: Floats
    low: Floats
    high: Floats
    reason: Codes  # Reason


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A statistic of the pairs and its percentile interval over prompts drawn with replacement."""

    value: float
    low: float
    high: float
    draws: int  # draws in which the statistic was finite
    reason: Reason


@dataclass(frozen=True, eq=False)
class RankStability:
    """Whether two halves of the pairs rank the concepts alike."""

    rank: Ints  # [concepts] 1 is the largest |mean| over all pairs; ties share the better rank
    half_ranks: Ints  # [2, concepts] the same within each half
    stable: Bools  # [concepts]
    spearman: float  # between the halves' signed means; 0 when `reason` says it does not exist
    reason: Reason


def mean_intervals(sums: Moments, *, level: float = LEVEL) -> Intervals:
    """Mean u with a prompt-clustered Student interval, cut to [−1, 1] (METHOD.md §3.5).

    Var = G/(G−1) · Σ_c (S_c − n_c·mean)² / n² over G prompts, with G − 1 degrees of freedom (Liang and Zeger 1986);
    with one pair a prompt it is the textbook interval of a mean.

    Raises:
        ValueError: level is outside (0, 1).
    """
    _check_level(level)
    sums = sums.closed()
    pairs, prompts, size = int(sums.pairs.sum()), sums.prompts, np.maximum(sums.sizes, 1)
    mean = sums.mean
    whole = sums.total / max(pairs, 1)
    spread = sums.prompt_squares - 2 * whole * sums.prompt_cross + whole**2 * sums.prompt_pairs_squared
    spread = np.where(spread <= 1e-13 * sums.prompt_squares, 0.0, spread)
    reason = np.where(spread == 0, Reason.CONSTANT, Reason.NONE).astype(np.uint8)
    if prompts == 1:
        reason[:] = Reason.ONE_PROMPT
    if pairs == 0:
        reason[:] = Reason.NO_PAIRS
    reason[sums.sizes == 0] = Reason.EMPTY_CONCEPT
    stands = reason == Reason.NONE
    se = np.where(stands, np.sqrt(spread * (prompts / max(prompts - 1, 1))) / max(pairs, 1) / size, 0.0)
    width = np.where(stands, float(special.stdtrit(max(prompts - 1, 1), (1 + level) / 2)) * se, 2.0)
    return Intervals(mean, se, np.maximum(mean - width, -1.0), np.minimum(mean + width, 1.0), reason)


def bootstrap_means(sums: PromptSums, sizes: Ints, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Intervals:
    """Mean u with a percentile interval over prompts drawn with replacement: one sparse product for 64 draws at a time.

    Args:
        sums: numerators summed by prompt, over all pairs.
        sizes: t_m, [concepts].
        draws: resamples; memory is concepts × draws float64.
        seed: of the resamples.
        level: share that the interval covers.

    Raises:
        ValueError: level is outside (0, 1), or draws is not positive.
    """
    _check_level(level, draws)
    prompts, concepts = sums.rows.shape
    pairs, size = int(sums.pairs.sum()), np.maximum(sizes, 1)
    reason = np.full(concepts, Reason.NONE, np.uint8)
    if prompts < 2:
        reason[:] = Reason.ONE_PROMPT if prompts else Reason.NO_PAIRS
    reason[sizes == 0] = Reason.EMPTY_CONCEPT
    mean = np.asarray(sums.rows.sum(axis=0)).ravel() / max(pairs, 1) / size
    if prompts < 2:
        return Intervals(mean, np.zeros(concepts), np.full(concepts, -1.0), np.full(concepts, 1.0), reason)
    generator, drawn, by_concept = np.random.default_rng(seed), np.empty((concepts, draws)), sums.rows.T.tocsr()
    for first in range(0, draws, 64):
        block = min(64, draws - first)
        weights = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=block)
        drawn[:, first : first + block] = (by_concept @ weights.T.astype(np.float64)) / (weights @ sums.pairs) / size[:, None]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=1)
    se = drawn.std(axis=1, ddof=1) if draws > 1 else np.zeros(concepts)
    reason[(se <= 1e-15) & (reason == Reason.NONE)] = Reason.CONSTANT
    unsure = reason != Reason.NONE
    return Intervals(mean, np.where(unsure, 0.0, se), np.where(unsure, -1.0, low), np.where(unsure, 1.0, high), reason)


def bootstrap(
    statistic: Callable[[Ints], float], prompts: ArrayLike, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Bootstrap:
    """Any statistic of the pairs, with a percentile interval over prompts (METHOD.md §5).

    Args:
        statistic: from row numbers of pairs (with repeats) to a number; a result that is not finite is left out.
        prompts: an integer id a pair, [pairs].
        draws: resamples.
        seed: of the resamples.
        level: share that the interval covers.

    Raises:
        ValueError: level is outside (0, 1), draws is not positive, or prompts is not one integer a pair.
    """
    _check_level(level, draws)
    ids = prompt_ids(prompts, len(np.asarray(prompts)))
    order = np.argsort(ids, kind="stable").astype(np.int64)
    members = np.split(order, np.flatnonzero(np.diff(ids[order])) + 1) if len(ids) else []
    value = float(statistic(np.arange(len(ids)))) if members else 0.0
    reason = Reason.NO_PAIRS if not members else Reason.ONE_PROMPT if len(members) == 1 else Reason.NONE
    if reason != Reason.NONE or not np.isfinite(value):
        finite = value if np.isfinite(value) else 0.0
        return Bootstrap(finite, finite, finite, 0, reason if reason != Reason.NONE else Reason.CONSTANT)
    generator = np.random.default_rng(seed)
    picks = (generator.integers(len(members), size=len(members)) for _ in range(draws))
    values = np.array([float(statistic(np.concatenate([members[prompt] for prompt in pick]))) for pick in picks])
    values = values[np.isfinite(values)]
    if not len(values):
        return Bootstrap(value, value, value, 0, Reason.CONSTANT)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Bootstrap(value, float(low), float(high), len(values), Reason.NONE)


def rank_stability(sums: Moments, *, factor: float = 2.0, slack: int = 5) -> RankStability:
    """Split-half stability of every concept's rank by |mean u| (METHOD.md §3.5).

    A concept of rank r is stable when both halves give it the sign of the whole, and a rank of at most factor·r + slack.
    """
    means, halves = sums.mean, sums.half_means
    rank = _rank(means)
    half_ranks = np.stack([_rank(half) for half in halves])
    agree = (np.sign(halves) == np.sign(means)).all(axis=0) & (means != 0)
    stable = agree & (half_ranks <= factor * rank + slack).all(axis=0)
    if not sums.pairs.all():
        return RankStability(rank, half_ranks, np.zeros(len(means), np.bool_), 0.0, Reason.NO_PAIRS)
    if len(means) < 2 or (np.ptp(halves, axis=1) == 0).any():
        return RankStability(rank, half_ranks, stable, 0.0, Reason.CONSTANT)
    ranks = [stats.rankdata(half) for half in halves]
    return RankStability(rank, half_ranks, stable, float(np.corrcoef(ranks[0], ranks[1])[0, 1]), Reason.NONE)


def _rank(means: Floats) -> Ints:
    return np.asarray(stats.rankdata(-np.abs(means), method="min"), np.int64)


def _check_level(level: float, draws: int = 1) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    if draws < 1:
        raise ValueError(f"draws must be positive, got {draws}")
