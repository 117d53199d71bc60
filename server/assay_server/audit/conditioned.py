"""Inside against outside over a whole dataset, raw and controlled, and the resulting table.

The raw contrast is Welch's on u, clustered by prompt (`contrast`). The controlled one is the same contrast on what the nuisance
model leaves of u,

    v_i = 2 u_i (1 − σ(γ̂·x_i)).

Why that is a test: if the model holds, P(chosen ≻ rejected) = σ(γ·x). Given a pair without its labels, one labelling has (u, x)
with probability σ(γ·x) and the other (−u, −x) with probability 1 − σ(γ·x). Both terms of E[v] are 2uσ(γ·x)(1 − σ(γ·x)), one with
either sign, so E[v] = 0 for every pair, and its mean is 0 inside and outside any group that was formed without the labels. Where
nothing is controlled for, γ = 0 and v = u: raw and controlled are one scale. γ is estimated, and −∂v/∂γ = 2w u x is the
covariance of v with γ's score r x, so the variance of Δ with γ̂ is the variance with γ less a square (Pierce 1982). Leaving that
square in, as is done here, errs towards caution, by little unless the group is most of the data and the concept nearly length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import sparse

from assay_server.audit.contrast import Contrasts, GroupMoments, contrasts, group_moments, half_deltas, merge_group_moments
from assay_server.audit.families import counts, family_codes
from assay_server.audit.findings import AuditOptions, Condition, Effects, TestedConcept, TestTable, ViewKind
from assay_server.audit.length import counted_verdicts, length_verdicts
from assay_server.audit.matrices import Bools, Csr, Floats, Ints, scaled_rows
from assay_server.audit.nuisance import NuisanceFit
from assay_server.audit.passes import BLOCK
from assay_server.audit.reason import Reason
from assay_server.audit.shared_prompts import SharedPromptSums, merge_shared_prompt_sums, shared_prompt_sums
from assay_server.audit.tables import effects, found, ordered, stable_ranks, strength_ranks, untested
from assay_server.audit.watch import Check, go_on


@dataclass(frozen=True, eq=False)
class Contrasted:
    """Every condition against its outside for every concept; arrays are [conditions, concepts]."""

    raw: Contrasts
    raw_halves: Floats  # [2, conditions, concepts]
    controlled: Contrasts | None
    controlled_halves: Floats | None
    prompts: Ints  # [conditions] independent prompts inside


class Contrasting:
    """Adds up a dataset block by block. Prompts that blocks split are kept back, and counted when all of them are there."""

    def __init__(self, sizes: Ints, open_prompts: Ints, fit: NuisanceFit | None, *, check: Check = go_on) -> None:
        self._fit = fit
        self._raw = _Sums(sizes, open_prompts, check)
        self._controlled = None if fit is None else _Sums(sizes, open_prompts, check)

    def add(
        self, values: Csr, groups: Csr, prompts: Ints, halves: Ints, nuisance: Floats, *, compared: Bools | None = None
    ) -> None:
        """Count one block.

        Args:
            values: numerators (integers) or finite values, [pairs, concepts].
            groups: 0/1 membership, [pairs, conditions].
            prompts: prompt id, [pairs].
            halves: even numbers are in one half, odd ones in the other, [pairs]; [A]'s are the dataset's rows.
            nuisance: x, [pairs, nuisances].
            compared: pairs that take part, [pairs]; all by default.
        """
        self._raw.add(values, groups, prompts, halves, compared)
        if self._controlled is not None and self._fit is not None:
            self._controlled.add(scaled_rows(values, 2 * self._fit.residuals(nuisance)), groups, prompts, halves, compared)

    def finish(self, level: float) -> Contrasted | None:
        """The contrasts of all pairs; None where there was no block."""
        ended = self._raw.finish()
        if ended is None:
            return None
        raw, shared = ended
        result = Contrasted(contrasts(raw, shared, level=level), half_deltas(raw), None, None, shared.prompts_inside)
        controlled = self._controlled.finish() if self._controlled else None
        if controlled is None or self._fit is None:
            return result
        left = contrasts(*controlled, level=level)
        return replace(result, controlled=_unless(left, self._fit.reason), controlled_halves=half_deltas(controlled[0]))


def conditioned_table(
    view: ViewKind,
    tested: Contrasted,
    concepts: tuple[TestedConcept, ...],
    conditions: tuple[Condition, ...],
    eligible: Bools,
    options: AuditOptions,
    *,
    both_halves: bool = True,
    given: bool = False,
) -> TestTable:
    """The `keep` strongest tests: findings first, then those that both halves agree on, then by Δmin (METHOD.md §3.2).

    Args:
        view: which view this is.
        tested: contrasts of all conditions and concepts.
        concepts: what the columns are.
        conditions: what the rows are.
        eligible: what counts as tested, [conditions, concepts]; decided without looking at the outcome.
        options: levels and limits.
        both_halves: whether a finding must have the same sign in both halves ([A]'s SC).
        given: whether somebody named the conditions beforehand; their tests are families of their own.
    """
    codes = np.tile(family_codes((concept.name for concept in concepts), given=given), len(conditions))
    raw = _effects(tested.raw, eligible, codes)
    controlled = None if tested.controlled is None else _effects(tested.controlled, eligible, codes)
    decisive, by, halves = raw, tested.raw, tested.raw_halves
    if controlled is not None and tested.controlled is not None and tested.controlled_halves is not None:
        decisive, by, halves = controlled, tested.controlled, tested.controlled_halves
    counted = (eligible & (by.reason == Reason.NONE)).ravel()
    finding, raw_finding = (found(effect, options) for effect in (decisive, raw))
    if both_halves:
        finding, raw_finding = finding & by.consistent.ravel(), raw_finding & tested.raw.consistent.ravel()
    if not counted.any():
        return untested(view, _why_nothing(tested, by, eligible), controlled=controlled is not None)
    verdicts = None if controlled is None else length_verdicts(raw, controlled, raw_finding, finding)
    first, second = (strength_ranks(np.abs(half).ravel(), counted) for half in halves)
    rank = strength_ranks(np.abs(by.delta).ravel(), counted)
    consistent, many = by.consistent.ravel(), len(concepts)
    condition, concept = np.divmod(np.arange(len(conditions) * many), many)
    table = TestTable(
        view=view,
        concepts=concepts,
        conditions=conditions,
        concept=concept,
        condition=condition,
        raw=raw,
        controlled=controlled,
        finding=finding,
        cohen_d=tested.raw.d.ravel(),
        consistent=consistent,
        delta_min=by.delta_min.ravel(),
        inside=np.repeat(by.inside, many),
        outside=np.repeat(by.outside, many),
        prompts=np.repeat(tested.prompts, many),
        rank_first_half=first,
        rank_second_half=second,
        rank_stable=stable_ranks(rank, first, second, consistent & counted),
        tests=int(counted.sum()),
        findings_raw=int(raw_finding.sum()),
        findings_controlled=int(finding.sum()),
        families=counts(codes, counted, raw_finding, finding),
        length_verdict=verdicts,
        length_counts=(0, 0, 0) if verdicts is None else counted_verdicts(verdicts),
    )
    strongest = np.lexsort((-table.delta_min, decisive.p, ~counted))[: min(int(counted.sum()), options.keep)]
    return in_order(ordered(table, strongest))


def in_order(table: TestTable) -> TestTable:
    """The rows by the order of the conditioned views: findings, then what both halves agree on, then Δmin, then p."""
    p = (table.raw if table.controlled is None else table.controlled).p
    return ordered(table, np.lexsort((p, -table.delta_min, ~table.consistent, ~table.finding)))


def _effects(shown: Contrasts, eligible: Bools, codes: Ints) -> Effects:
    tested = (eligible & (shown.reason == Reason.NONE)).ravel()
    estimate, low, high, z, p = (part.ravel() for part in (shown.delta, shown.low, shown.high, shown.z, shown.p))
    return effects(estimate, low, high, z, p, shown.reason.ravel(), tested=tested, families=codes)


def _why_nothing(tested: Contrasted, by: Contrasts, eligible: Bools) -> str:
    reasons = by.reason[by.reason != Reason.NONE]
    if len(reasons):
        return Reason(int(np.bincount(reasons).argmax())).text
    if eligible.size:
        largest = int(tested.raw.inside.max(initial=0))
        return f"no condition holds enough pairs and no concept enough features: the largest condition holds {largest} pairs"
    return "there is no condition or no concept to test"


def _unless(shown: Contrasts, reason: Reason) -> Contrasts:
    """The same, with nothing tested where the nuisance fit says why there is none."""
    if reason == Reason.NONE:
        return shown
    nothing = {name: np.zeros_like(getattr(shown, name)) for name in ("delta", "low", "high", "se", "z", "d", "delta_min")}
    no = np.zeros_like(shown.consistent)
    return replace(shown, **nothing, p=np.ones_like(shown.p), consistent=no, reason=np.full_like(shown.reason, reason))


class _Sums:
    def __init__(self, sizes: Ints, open_prompts: Ints, check: Check) -> None:
        self._sizes, self._open, self._check = sizes, open_prompts, check
        self._moments: GroupMoments | None = None
        self._shared: SharedPromptSums | None = None
        self._waiting: list[tuple[Csr, Csr, Ints, Bools]] = []

    def add(self, values: Csr, groups: Csr, prompts: Ints, halves: Ints, compared: Bools | None) -> None:
        mask = np.ones(len(prompts), np.bool_) if compared is None else compared
        part = group_moments(values, groups, self._sizes, compared=mask, halves=halves % 2)
        self._moments = part if self._moments is None else merge_group_moments(self._moments, part)
        waits = np.isin(prompts, self._open)
        held = np.flatnonzero(waits)
        if len(held):
            self._waiting.append((Csr(values[held]), Csr(groups[held]), prompts[held], mask[held]))
        self._share(values, groups, prompts, mask & ~waits)

    def finish(self) -> tuple[GroupMoments, SharedPromptSums] | None:
        if self._waiting:
            values = Csr(sparse.vstack([part[0] for part in self._waiting], format="csr"))
            groups = Csr(sparse.vstack([part[1] for part in self._waiting], format="csr"))
            prompts = np.concatenate([part[2] for part in self._waiting])
            mask = np.concatenate([part[3] for part in self._waiting])
            self._waiting = []
            order = np.argsort(prompts, kind="stable")
            starts = np.searchsorted(prompts[order], prompts[order])
            # Cut where a prompt starts, about every BLOCK pairs.
            edges = np.unique(starts[::BLOCK]).tolist()
            for first, last in pairwise([*edges, len(order)]):
                self._check()
                rows = order[first:last]
                self._share(Csr(values[rows]), Csr(groups[rows]), prompts[rows], mask[rows])
        return None if self._moments is None or self._shared is None else (self._moments, self._shared)

    def _share(self, values: Csr, groups: Csr, prompts: Ints, mask: Bools) -> None:
        part = shared_prompt_sums(values, groups, prompts, compared=mask)
        self._shared = part if self._shared is None else merge_shared_prompt_sums(self._shared, part)
