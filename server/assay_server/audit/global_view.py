"""The global view: which concepts do chosen responses express more, over all pairs? (METHOD.md §3.1, §3.5)

Raw: sign flips by prompt, exact where that is affordable. Controlled: the efficient score test given the nuisance fit, on the
scale of mean u, so that both estimates can stand side by side. q-values count what could be tested; max-T is family-wise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay_server.audit.control import (
    ControlSums,
    ScoreTest,
    contributions,
    control_sums,
    controlled_effect,
    controlled_max_t,
    merge_control_sums,
)
from assay_server.audit.findings import AuditOptions, Effects, TestTable, ViewKind
from assay_server.audit.intervals import mean_intervals
from assay_server.audit.matrices import Csr, Floats
from assay_server.audit.maxt import FlipSums, flip_sums, max_t, merge_flip_sums
from assay_server.audit.moments import Moments, merge_moments, moments
from assay_server.audit.passes import Progress, Survey, blocks, disparities
from assay_server.audit.reason import Reason
from assay_server.audit.shards import ConceptSet, PairShard, Shards
from assay_server.audit.signflip import SignFlip, sign_flip
from assay_server.audit.tables import effects, found, named, ordered, stable_ranks, strength_ranks


@dataclass(frozen=True, eq=False)
class HalfScores:
    """Sums of score contributions per half (even and odd rows): what ranks within a half are made of."""

    score: Floats  # [2, concepts] Σ r u
    squares: Floats  # [2, concepts] Σ (r u)²

    def __add__(self, other: HalfScores) -> HalfScores:
        return HalfScores(self.score + other.score, self.squares + other.squares)


@dataclass(frozen=True, eq=False)
class GlobalSums:
    """Everything that the view needs of the pairs; merges by `merge_global_sums`."""

    moments: Moments
    flips: FlipSums | None
    control: ControlSums | None
    halves: HalfScores | None
    controlled_flips: FlipSums | None


def global_view(
    shards: Shards, concepts: ConceptSet, options: AuditOptions, known: Survey, progress: Progress | None = None
) -> TestTable:
    """Every concept tested over all pairs, in rank order: controlled p (raw where nothing is controlled), then |estimate|."""
    sums: GlobalSums | None = None
    for block in blocks(shards, ViewKind.GLOBAL, progress):
        part = global_sums(block, concepts, options, known)
        sums = part if sums is None else merge_global_sums(sums, part)
    if sums is None:
        sums = global_sums(_no_pairs(concepts, known), concepts, options, known)
    return global_table(sums, concepts, options)


def global_sums(block: PairShard, concepts: ConceptSet, options: AuditOptions, known: Survey) -> GlobalSums:
    """The sums of one block of pairs."""
    u, halves, flips = disparities(block, concepts, options.tau), block.rows % 2, options.max_t_flips
    base = moments(u, block.prompts, halves=halves, open_prompts=known.open_prompts)
    flipped = flip_sums(u.numerators, block.prompts, flips=flips, seed=options.seed) if flips else None
    if known.fit is None:
        return GlobalSums(base, flipped, None, None, None)
    rows = contributions(u, block.nuisance, known.fit)
    scores = Csr(rows[:, : len(u.sizes)])
    side = np.stack([halves == 0, halves == 1], axis=1).astype(np.float64)
    squared = Csr((scores.data**2, scores.indices, scores.indptr), shape=scores.shape)
    return GlobalSums(
        base,
        flipped,
        control_sums(u, block.prompts, block.nuisance, known.fit, open_prompts=known.open_prompts),
        HalfScores(np.asarray(scores.T @ side).T, np.asarray(squared.T @ side).T),
        flip_sums(rows, block.prompts, flips=flips, seed=options.seed) if flips else None,
    )


def merge_global_sums(left: GlobalSums, right: GlobalSums) -> GlobalSums:
    """The sums of both: to the bit for the raw effects, to rounding for the controlled ones."""

    def flips(first: FlipSums | None, second: FlipSums | None) -> FlipSums | None:
        return None if first is None or second is None else merge_flip_sums(first, second)

    controlled = left.control is not None and right.control is not None
    return GlobalSums(
        merge_moments(left.moments, right.moments),
        flips(left.flips, right.flips),
        merge_control_sums(left.control, right.control) if left.control and right.control else None,
        left.halves + right.halves if controlled and left.halves and right.halves else None,
        flips(left.controlled_flips, right.controlled_flips),
    )


def global_table(sums: GlobalSums, concepts: ConceptSet, options: AuditOptions) -> TestTable:
    """Tests from sums over all pairs."""
    base = sums.moments.closed()
    tested, score = sign_flip(base, seed=options.seed), None
    raw = _raw(base, tested, sums.flips, options)
    controlled, half_means, half_z = None, base.half_means, _ratio(base.totals.astype(np.float64), np.sqrt(base.squares))
    if sums.control is not None and sums.halves is not None:
        score = controlled_effect(sums.control, level=options.interval_level)
        controlled = _controlled(score, sums, options)
        half_means = 2 * sums.halves.score / np.maximum(base.pairs, 1)[:, None]
        half_z = _ratio(sums.halves.score, np.sqrt(sums.halves.squares))
    decisive = raw if controlled is None else controlled
    counted = decisive.reason == Reason.NONE
    consistent = (np.sign(half_means) == np.sign(decisive.estimate)).all(axis=0) & (decisive.estimate != 0)
    order = np.lexsort((-np.abs(decisive.estimate), decisive.p, ~counted))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    first, second = (strength_ranks(np.abs(half), counted) for half in half_z)
    findings = [int(found(effect, options).sum()) for effect in (raw, decisive)]
    pairs, many = int(base.pairs.sum()), len(base.sizes)
    table = TestTable(
        view=ViewKind.GLOBAL,
        concepts=named(concepts, many),
        conditions=(),
        concept=np.arange(many),
        condition=np.full(many, -1),
        raw=raw,
        controlled=controlled,
        finding=found(decisive, options),
        cohen_d=np.zeros(many),
        consistent=consistent,
        delta_min=np.abs(half_means).min(axis=0),
        inside=np.full(many, pairs),
        outside=np.zeros(many, np.int64),
        prompts=base.telling_prompts if score is None else score.prompts,
        rank_first_half=first,
        rank_second_half=second,
        rank_stable=stable_ranks(rank, first, second, consistent & counted),
        tests=int(counted.sum()),
        findings_raw=findings[0],
        findings_controlled=findings[1],
        reason="" if counted.any() else _why_nothing(decisive, pairs),
    )
    return ordered(table, order)


def _raw(base: Moments, tested: SignFlip, flips: FlipSums | None, options: AuditOptions) -> Effects:
    bounds = mean_intervals(base, level=options.interval_level)
    counted = tested.reason == Reason.NONE
    adjusted = None
    if flips is not None:
        adjusted = max_t(flips, base.total, np.where(counted, np.sqrt(base.prompt_squares.astype(np.float64)), 0.0))
    return effects(tested.mean, bounds.low, bounds.high, tested.z, tested.p, tested.reason, p_max_t=adjusted)


def _controlled(score: ScoreTest, sums: GlobalSums, options: AuditOptions) -> Effects:
    adjusted = None
    if sums.controlled_flips is not None and sums.control is not None:
        adjusted = controlled_max_t(sums.controlled_flips, sums.control, level=options.interval_level)
    return effects(score.mean, score.mean_low, score.mean_high, score.z, score.p, score.reason, p_max_t=adjusted)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.zeros(np.shape(top)), where=bottom > 0)


def _why_nothing(shown: Effects, pairs: int) -> str:
    if not pairs:
        return Reason.NO_PAIRS.text
    if not len(shown.reason):
        return "there is no concept to test"
    return Reason(int(np.bincount(shown.reason).argmax())).text


def _no_pairs(concepts: ConceptSet, known: Survey) -> PairShard:
    none, features = np.zeros(0, np.int64), Csr((0, known.d_sae), dtype=np.float32)
    directions = Csr((0, len(concepts.names) - concepts.members.shape[1]), dtype=np.int64)
    columns = 0 if known.fit is None else len(known.fit.gamma)
    flat, groups = np.zeros((0, columns)), Csr((0, 0), dtype=np.int64)
    tokens = np.zeros((0, 3), np.int64)
    return PairShard(none, none, tokens, features, features, features, features, features, flat, directions, groups)
