"""The global view: which concepts do chosen responses express more, over all pairs? (METHOD.md §3.1, §3.5)

Raw: sign flips by prompt, exact where that is affordable. Controlled: the efficient score test given the nuisance fit, on the
scale of mean u, so that both estimates can stand side by side. q-values count what could be tested; max-T is family-wise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Generic, TypeVar

import numpy as np
from scipy import sparse, special

from assay_server.audit.control import (
    ControlSums,
    ScoreTest,
    contributions,
    control_sums,
    controlled_effect,
    controlled_max_t,
    merge_control_sums,
)
from assay_server.audit.families import attainable, counts, family_codes
from assay_server.audit.findings import AuditOptions, Effects, TestTable, ViewKind
from assay_server.audit.intervals import mean_intervals
from assay_server.audit.length import counted_verdicts, length_verdicts
from assay_server.audit.matrices import Codes, Csr, Floats, Ints, added, squared_values
from assay_server.audit.maxt import FlipSums, add_flip_sums, max_t, no_flip_sums
from assay_server.audit.moments import Moments, merge_moments, moments
from assay_server.audit.passes import Survey, blocks, disparities
from assay_server.audit.reason import Reason
from assay_server.audit.shards import ConceptSet, PairShard, Shards
from assay_server.audit.signflip import SignFlip, sign_flip
from assay_server.audit.tables import effects, found, named, ordered, stable_ranks, strength_ranks
from assay_server.audit.watch import UNWATCHED, Check, Watch, go_on

_FLIP_PAIRS = 8_192
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class HalfScores:
    """Sums of score contributions per half (even and odd rows): what ranks within a half are made of."""

    score: Floats  # [2, concepts] Σ r u
    squares: Floats  # [2, concepts] Σ (r u)²

    def __add__(self, other: HalfScores) -> HalfScores:
        return added(self, other)


@dataclass(frozen=True, eq=False)
class GlobalSums:
    """Everything that the view needs of the pairs."""

    moments: Moments
    flips: FlipSums | None
    control: ControlSums | None
    halves: HalfScores | None
    controlled_flips: FlipSums | None


def global_view(
    shards: Shards, concepts: ConceptSet, options: AuditOptions, known: Survey, watch: Watch = UNWATCHED
) -> TestTable:
    """Every concept tested over all pairs, in rank order: controlled p (raw where nothing is controlled), then |estimate|."""
    summing = GlobalSumming(concepts, options, known, check=watch.check)
    for block in blocks(shards, ViewKind.GLOBAL, watch.progress):
        summing.add(block)
    if not known.pairs:
        summing.add(_no_pairs(concepts, known))
    return global_table(summing.finish(), concepts, options, check=watch.check)


class GlobalSumming:
    """Adds up a dataset block by block, in any order: to the bit for the raw effects, to rounding for the controlled ones."""

    def __init__(self, concepts: ConceptSet, options: AuditOptions, known: Survey, *, check: Check = go_on) -> None:
        self._concepts, self._options, self._known = concepts, options, known
        self._moments, self._control = _Merging(merge_moments), _Merging(merge_control_sums)
        self._halves: HalfScores | None = None
        self._flips, self._controlled_flips = _Flipping(options, check), _Flipping(options, check)

    def add(self, block: PairShard) -> None:
        """Count one block of pairs."""
        known, fit = self._known, self._known.fit
        u, halves = disparities(block, self._concepts, self._options.tau), block.rows % 2
        base = moments(u, block.prompts, halves=halves, open_prompts=known.open_prompts)
        self._moments.add(base)
        self._flips.add(u.numerators, block.prompts)
        if fit is None:
            return
        rows = contributions(u, block.nuisance, fit)
        control = control_sums(u, block.prompts, block.nuisance, fit, open_prompts=known.open_prompts, rows=rows)
        self._control.add(control)
        scores = _half_scores(rows, halves, len(u.sizes))
        self._halves = scores if self._halves is None else self._halves + scores
        self._controlled_flips.add(rows, block.prompts)

    def finish(self) -> GlobalSums:
        """The sums of all blocks, of which there must have been one."""
        base = self._moments.finish()
        assert base is not None, "sums of nothing have no shape"
        flips = self._flips.finish(), self._controlled_flips.finish()
        return GlobalSums(base, flips[0], self._control.finish(), self._halves, flips[1])


class _Merging(Generic[T]):
    """Merges parts two by two, then four by four, and so on.

    Sums of prompts that many blocks split grow with every merge; added one block at a time they would be copied for every block.
    """

    def __init__(self, merge: Callable[[T, T], T]) -> None:
        self._merge = merge
        self._held: list[T | None] = []  # at place k the sums of 2^k parts, or nothing

    def add(self, part: T) -> None:
        for place, held in enumerate(self._held):
            if held is None:
                self._held[place] = part
                return
            self._held[place], part = None, self._merge(held, part)
        self._held.append(part)

    def finish(self) -> T | None:
        left = [held for held in self._held if held is not None]
        return reduce(lambda late, early: self._merge(early, late), left) if left else None


class _Flipping:
    """Keeps pairs until there are enough for one pass over the totals, which are far larger than the pairs."""

    def __init__(self, options: AuditOptions, check: Check) -> None:
        self._flips, self._seed, self._check = options.max_t_flips, options.seed, check
        self._sums: FlipSums | None = None
        self._waiting: list[tuple[Csr, Ints]] = []

    def add(self, values: Csr, prompts: Ints) -> None:
        if self._flips:
            self._sums = self._sums or no_flip_sums(values, flips=self._flips, seed=self._seed)
            self._waiting.append((values, prompts))
            if sum(len(ids) for _, ids in self._waiting) >= _FLIP_PAIRS:
                self._flush()

    def finish(self) -> FlipSums | None:
        self._flush()
        return self._sums

    def _flush(self) -> None:
        if self._waiting and self._sums is not None:
            values = Csr(sparse.vstack([part[0] for part in self._waiting], format="csr"))
            prompts = np.concatenate([part[1] for part in self._waiting])
            add_flip_sums(self._sums, values, prompts, check=self._check)
            self._waiting = []


def global_table(sums: GlobalSums, concepts: ConceptSet, options: AuditOptions, *, check: Check = go_on) -> TestTable:
    """Tests from sums over all pairs; what ``check`` raises ends the work.

    Of several concepts, those that could not pass the correction whatever the labels are not counted (`families.attainable`):
    with T telling prompts no labelling gives a sign flip p under 2^(1 − T), or a |z| over √T.
    """
    base = sums.moments.closed()
    codes = family_codes(concepts.names)
    tested, score = sign_flip(base, seed=options.seed, check=check), None
    raw = _raw(base, tested, sums.flips, options, concepts, check)
    controlled, half_means, half_z = None, base.half_means, _ratio(base.totals.astype(np.float64), np.sqrt(base.squares))
    if sums.control is not None and sums.halves is not None:
        score = controlled_effect(sums.control, level=options.interval_level)
        controlled = _controlled(score, sums, options, concepts, check)
        half_means = 2 * sums.halves.score / np.maximum(base.pairs, 1)[:, None]
        half_z = _ratio(sums.halves.score, np.sqrt(sums.halves.squares))
    decisive = raw if controlled is None else controlled
    counted = decisive.reason == Reason.NONE
    consistent = (np.sign(half_means) == np.sign(decisive.estimate)).all(axis=0) & (decisive.estimate != 0)
    order = np.lexsort((-np.abs(decisive.estimate), decisive.p, ~counted))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    first, second = (strength_ranks(np.abs(half), counted) for half in half_z)
    raw_found, is_found = (found(effect, options) for effect in (raw, decisive))
    verdicts = None if controlled is None else length_verdicts(raw, controlled, raw_found, is_found)
    pairs, many = int(base.pairs.sum()), len(base.sizes)
    table = TestTable(
        view=ViewKind.GLOBAL,
        concepts=named(concepts, many),
        conditions=(),
        concept=np.arange(many),
        condition=np.full(many, -1),
        raw=raw,
        controlled=controlled,
        finding=is_found,
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
        findings_raw=int(raw_found.sum()),
        findings_controlled=int(is_found.sum()),
        reason="" if counted.any() else _why_nothing(decisive, pairs),
        families=counts(codes, counted, raw_found, is_found),
        length_verdict=verdicts,
        length_counts=(0, 0, 0) if verdicts is None else counted_verdicts(verdicts),
    )
    return ordered(table, order)


def _raw(
    base: Moments, tested: SignFlip, flips: FlipSums | None, options: AuditOptions, concepts: ConceptSet, check: Check
) -> Effects:
    bounds = mean_intervals(base, level=options.interval_level)
    counted = tested.reason == Reason.NONE
    adjusted = None
    if flips is not None:
        scale = np.where(counted, np.sqrt(base.prompt_squares.astype(np.float64)), 0.0)
        adjusted = max_t(flips, base.total, scale, check=check)
    codes = family_codes(concepts.names)
    reason, p = _filtered(tested.reason, tested.p, 2.0 ** np.minimum(1.0 - tested.prompts, 0.0), codes, options)
    shown = tested.mean, bounds.low, bounds.high, tested.z, p, reason
    return effects(*shown, p_max_t=adjusted, families=codes, second_p=concepts.second_p)


def _controlled(score: ScoreTest, sums: GlobalSums, options: AuditOptions, concepts: ConceptSet, check: Check) -> Effects:
    adjusted = None
    if sums.controlled_flips is not None and sums.control is not None:
        adjusted = controlled_max_t(sums.controlled_flips, sums.control, level=options.interval_level, check=check)
    least, codes = 2 * special.ndtr(-np.sqrt(score.prompts.astype(np.float64))), family_codes(concepts.names)
    reason, p = _filtered(score.reason, score.p, least, codes, options)
    shown = score.mean, score.mean_low, score.mean_high, score.z, p, reason
    return effects(*shown, p_max_t=adjusted, families=codes, second_p=concepts.second_p)


def _filtered(reason: Codes, p: Floats, least: Floats, codes: Ints, options: AuditOptions) -> tuple[Codes, Floats]:
    """Reasons and p once tests that cannot pass are left out; a concept that was asked for alone is always tested."""
    tested = reason == Reason.NONE
    if len(codes) == 1:
        return reason, p
    left_out = tested & ~attainable(least, tested, codes, options.q_level)
    return np.where(left_out, np.uint8(Reason.UNATTAINABLE), reason), np.where(left_out, 1.0, p)


def _half_scores(rows: Csr, halves: Ints, concepts: int) -> HalfScores:
    """Of contributions [pairs, concepts and nuisances]."""
    side = np.stack([halves == 0, halves == 1], axis=1).astype(np.float64)
    squares = squared_values(rows)
    score, squares = (np.ascontiguousarray(np.asarray(part.T @ side)[:concepts].T) for part in (rows, squares))
    return HalfScores(score, squares)


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
    others = len(concepts.names) - concepts.members.shape[1]
    if concepts.directions is not None:
        others = int(concepts.directions.max(initial=-1)) + 1
    directions = Csr((0, others), dtype=np.int64)
    columns = 0 if known.fit is None else len(known.fit.gamma)
    flat, groups = np.zeros((0, columns)), Csr((0, 0), dtype=np.int64)
    tokens = np.zeros((0, 3), np.int64)
    return PairShard(none, none, tokens, features, features, features, features, features, flat, directions, groups)
