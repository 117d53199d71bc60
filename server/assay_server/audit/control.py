"""Is a concept preferred beyond what length explains? Score tests of every concept at once.

METHOD.md §3.5. Given the fitted nuisance model, the score of concept m is S_m = Σ_i u[i,m] r_i, r_i = 1 − σ(γ̂·x_i). Since
γ̂ was estimated, u is projected off x in the metric of the information (the efficient score), and since pairs of a
prompt are not independent, the variance is the sum of squared prompt sums of that efficient score. All of it follows
from sums that merge across shards; one sparse product per shard makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse, special

from assay_server.audit.disparity import Disparity
from assay_server.audit.matrices import (
    Codes,
    Csr,
    Floats,
    Ints,
    PromptSums,
    added,
    csr,
    dense_row,
    merge_prompt_sums,
    no_prompts,
    scaled_rows,
    split_sums_by_prompt,
    squared_values,
)
from assay_server.audit.maxt import FlipSums, max_t
from assay_server.audit.nuisance import NuisanceFit, nuisance_array
from assay_server.audit.reason import Reason
from assay_server.audit.shared_prompts import mean_freedom, size_powers
from assay_server.audit.watch import Check, go_on

LEVEL = 0.95
_NEGLIGIBLE = 1e-10


@dataclass(frozen=True, eq=False)
class ScoreTest:
    """A two-sided score test per concept; arrays are [concepts]."""

    mean: Floats  # share of the disparity beyond the nuisance, on the scale of mean u
    mean_low: Floats  # bounds of `mean`
    mean_high: Floats
    effect: Floats  # log-odds of being chosen per unit of u, one step from zero
    low: Floats  # bounds of `effect`
    high: Floats
    z: Floats
    p: Floats
    prompts: Ints  # prompts with a nonzero sum
    reason: Codes  # Reason


@dataclass(frozen=True, eq=False)
class ControlSums:
    """Sums over pairs and prompts given γ̂: u is float64 in [−1, 1], w = r(1 − r)."""

    fit: NuisanceFit
    sizes: Ints  # [concepts] t_m
    pairs: int
    score: Floats  # [concepts] Σ r u
    gradient: Floats  # [nuisances] Σ r x, zero up to the fit's tolerance over all pairs
    curvature: Floats  # [concepts] Σ w u²
    cross: Floats  # [concepts, nuisances] Σ w u x
    information: Floats  # [nuisances, nuisances] Σ w x xᵀ
    outer: Floats  # [concepts] Σ_c (Σ r u)² over closed prompts
    outer_cross: Floats  # [concepts, nuisances] Σ_c (Σ r u)(Σ r x)
    outer_nuisance: Floats  # [nuisances, nuisances] Σ_c (Σ r x)(Σ r x)ᵀ
    prompts: Ints  # [concepts] closed prompts with Σ r u ≠ 0
    all_prompts: int  # closed prompts
    pairs_squared: int  # Σ n_c² over closed prompts
    prompt_powers: Floats  # [3] Σ n_c³, Σ n_c⁴, Σ n_c⁵
    prompt_cross: Floats  # [concepts + nuisances] Σ_c n_c Σ r u, Σ_c n_c Σ r x over closed prompts
    open: PromptSums  # rows [r u, r x] of prompts of which more pairs may come

    def closed(self) -> ControlSums:
        """The same sums with every open prompt counted."""
        columns = len(self.sizes) + len(self.gradient)
        return _close(replace(self, open=no_prompts(columns, np.float64)), self.open) if len(self.open.ids) else self


def control_sums(
    shard: Disparity,
    prompts: ArrayLike,
    nuisance: ArrayLike,
    fit: NuisanceFit,
    *,
    open_prompts: ArrayLike | None = None,
    rows: Csr | None = None,
) -> ControlSums:
    """The sums of one shard.

    Args:
        shard: disparities of the shard's pairs.
        prompts: an integer id per pair, [pairs].
        nuisance: x, chosen minus rejected, [pairs, nuisances], in the units of the fit.
        fit: of the whole dataset, from `fit_nuisance`.
        open_prompts: ids of prompts that other shards may hold too; None when no shard splits a prompt.
        rows: the shard's `contributions`, where they are known already.

    Raises:
        ValueError: shapes disagree, or a nuisance is not finite.
    """
    u, x = shard.values(), nuisance_array(nuisance)
    if x.shape != (u.shape[0], len(fit.gamma)):
        raise ValueError(f"nuisance has shape {x.shape} for {u.shape[0]} pairs and {len(fit.gamma)} fitted columns")
    left = fit.residuals(x)
    weight = left * (1 - left)
    squares = squared_values(u)
    rows = contributions(shard, x, fit) if rows is None else rows
    still_open, done = split_sums_by_prompt(rows, prompts, open_prompts)
    concepts, columns = u.shape[1], x.shape[1]
    empty = ControlSums(
        fit=fit,
        sizes=shard.sizes,
        pairs=u.shape[0],
        score=u.T @ left,
        gradient=x.T @ left,
        curvature=squares.T @ weight,
        cross=np.asarray(u.T @ (x * weight[:, None])).reshape(concepts, columns),
        information=(x * weight[:, None]).T @ x,
        outer=np.zeros(concepts),
        outer_cross=np.zeros((concepts, columns)),
        outer_nuisance=np.zeros((columns, columns)),
        prompts=np.zeros(concepts, np.int64),
        all_prompts=0,
        pairs_squared=0,
        prompt_powers=np.zeros(3),
        prompt_cross=np.zeros(concepts + columns),
        open=still_open,
    )
    return _close(empty, done)


def merge_control_sums(left: ControlSums, right: ControlSums) -> ControlSums:
    """The sums of both shards, the same in any order up to rounding.

    Raises:
        ValueError: the two were made with different fits or concepts.
    """
    if not (np.array_equal(left.fit.gamma, right.fit.gamma) and np.array_equal(left.sizes, right.sizes)):
        raise ValueError("control sums of different fits or concepts do not merge")
    return added(left, right, fit=left.fit, sizes=left.sizes, open=merge_prompt_sums(left.open, right.open))


def controlled_effect(sums: ControlSums, *, level: float = LEVEL) -> ScoreTest:
    """The efficient score test of every concept, clustered by prompt (METHOD.md §3.5; beyond [A]).

    z = S / √(k V) with S the efficient score and V = Σ_c (its sum E_c over prompt c)², k = G / (G − q) for q nuisances fitted
    on G prompts. V is not centred, so |z| ≤ √prompts and small samples err towards caution. With no nuisance it is the z of the
    sign-flip test, to rounding.

    The interval is Student's: f k Σ_c (E_c − n_c S/n)², with the factor f and the degrees of freedom that the prompts' sizes
    give (`shared_prompts`). Under an effect V counts the effect as noise where prompts are alike, and misses that a few large
    prompts may all err one way: in simulations of 12 to 30 prompts S ± 1.96 √V covers 60% to 99% of the time
    (docs/statistics.md).

    Raises:
        ValueError: level is outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    sums = sums.closed()
    slope = _projection(sums)
    score = sums.score - slope @ sums.gradient
    curvature = sums.curvature - (sums.cross * slope).sum(axis=1)
    variance = sums.outer - 2 * (sums.outer_cross * slope).sum(axis=1) + ((slope @ sums.outer_nuisance) * slope).sum(axis=1)
    explained = (curvature <= _NEGLIGIBLE * sums.curvature) | (variance <= _NEGLIGIBLE * sums.outer)
    reason = np.where(explained, Reason.EXPLAINED, Reason.NONE).astype(np.uint8)
    reason[sums.prompts == 1] = Reason.ONE_PROMPT
    reason[sums.prompts == 0] = Reason.NO_DIFFERENCE
    if sums.fit.reason != Reason.NONE:
        reason[:] = sums.fit.reason
    spread, mean, concepts = sums.prompt_cross, score / max(sums.pairs, 1), len(sums.sizes)
    centred = variance - 2 * mean * (spread[:concepts] - slope @ spread[concepts:]) + mean**2 * sums.pairs_squared
    factor, freedom = mean_freedom(sums.pairs, sums.pairs_squared, sums.prompt_powers, sums.all_prompts)
    estimated = _estimated(sums)
    width = float(special.stdtrit(freedom, (1 + level) / 2)) * np.sqrt(np.maximum(centred, 0.0) * factor * estimated)
    return _test(score, width, curvature, variance * estimated, sums.pairs, sums.sizes, sums.prompts, reason)


def _estimated(sums: ControlSums) -> float:
    """k: how much smaller than the truth squared residuals are, because the nuisances were fitted to them; 1 where none is."""
    return sums.all_prompts / max(sums.all_prompts - sums.fit.rank, 1) if sums.fit.rank else 1.0


def contributions(shard: Disparity, nuisance: ArrayLike, fit: NuisanceFit) -> Csr:
    """Rows [r·u, r·x], CSR [pairs, concepts + nuisances]: the score of each pair before projection."""
    x, u = nuisance_array(nuisance), shard.values()
    left = fit.residuals(x)
    return csr(sparse.hstack([scaled_rows(u, left), Csr(x * left[:, None])], format="csr"))


def controlled_max_t(flipped: FlipSums, sums: ControlSums, *, level: float = LEVEL, check: Check = go_on) -> Floats:
    """Family-wise adjusted p-values of the controlled test, [concepts]; 1 where it was not made.

    Flips the efficient score contributions (Hemerik, Goeman and Finos 2020), whose signs are exchangeable to first order
    once u is projected off the nuisance.
    """
    sums = sums.closed()
    concepts = len(sums.sizes)
    slope, test = _projection(sums), controlled_effect(sums, level=level)
    projected = (flipped.totals[:concepts] - slope @ flipped.totals[concepts:]) * np.sqrt(_estimated(sums))
    score = sums.score - slope @ sums.gradient
    tested = test.reason == Reason.NONE
    scale = np.divide(np.abs(score), np.abs(test.z), out=np.ones(concepts), where=tested & (test.z != 0))
    return max_t(FlipSums(flipped.seed, projected), np.where(tested, score, 0.0), np.where(tested, scale, 0.0), check=check)


def _projection(sums: ControlSums) -> Floats:
    """A_m, [concepts, nuisances]: the slopes of u on x in the metric of the information."""
    return sums.cross @ np.linalg.pinv(sums.information, hermitian=True)


def _test(
    score: Floats, width: Floats, curvature: Floats, variance: Floats, pairs: int, sizes: Ints, prompts: Ints, reason: Codes
) -> ScoreTest:
    if pairs == 0:
        reason[:] = Reason.NO_PAIRS
    reason[sizes == 0] = Reason.EMPTY_CONCEPT
    stands = reason == Reason.NONE
    noise = np.sqrt(np.where(stands, variance, 1.0))
    z = np.where(stands, score / noise, 0.0)
    curve = np.where(stands, curvature, 1.0)
    return ScoreTest(
        mean=np.where(stands, 2 * score / max(pairs, 1), 0.0),
        mean_low=np.where(stands, 2 * (score - width) / max(pairs, 1), 0.0),
        mean_high=np.where(stands, 2 * (score + width) / max(pairs, 1), 0.0),
        effect=np.where(stands, score / curve, 0.0),
        low=np.where(stands, (score - width) / curve, 0.0),
        high=np.where(stands, (score + width) / curve, 0.0),
        z=z,
        p=np.where(stands, 2 * special.ndtr(-np.abs(z)), 1.0),
        prompts=prompts,
        reason=reason,
    )


def _close(base: ControlSums, sums: PromptSums) -> ControlSums:
    concepts = len(base.sizes)
    rows = Csr(sums.rows[:, :concepts])
    nuisance = np.asarray(sums.rows[:, concepts:].toarray())
    squares = squared_values(rows)
    telling = Csr(((np.abs(rows.data) > 0).astype(np.int64), rows.indices, rows.indptr), shape=rows.shape)
    return replace(
        base,
        outer=base.outer + dense_row(squares.sum(axis=0)),
        outer_cross=base.outer_cross + np.asarray(rows.T @ nuisance).reshape(base.outer_cross.shape),
        outer_nuisance=base.outer_nuisance + nuisance.T @ nuisance,
        all_prompts=base.all_prompts + len(sums.ids),
        pairs_squared=base.pairs_squared + int((sums.pairs**2).sum()),
        prompt_powers=base.prompt_powers + size_powers(sums.pairs),
        prompt_cross=base.prompt_cross + np.asarray(sums.rows.T @ sums.pairs, np.float64),
        prompts=base.prompts + dense_row(telling.sum(axis=0)).astype(np.int64),
    )
