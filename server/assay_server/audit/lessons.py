"""Lessons: groups of findings that say the same thing, each led by a concept that can be read, and how often they return.

A dataset that teaches one thing raises every concept that goes along with it: the first hundred findings of the global view may
be one lesson. The scores of a view's strongest findings are gathered in the pass that looks for evidence: of the global view,
efficient scores r (u − A x); of a contrast, what a pair adds to the mean inside less the mean outside. `groups` forms lessons
from their z and correlations, of each direction apart, and under a condition apart unless two hold nearly the same pairs.

A lesson's stability is the share of resampled prompts (`resampling`) in which the same findings, grouped anew, form a group that
shares at least half with it (Hennig 2007, Computational Statistics & Data Analysis 52:258: Jaccard's coefficient) and its lead
keeps its sign at p ≤ 0.05. Silent pairs, those of which a view makes no data cluster, are left out under its data clusters
and counted under given conditions, as in the tests: how many there are changes nothing of a given condition's lessons.

Lessons put an order on findings, which were corrected before; they find nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse, special

from assay_server.audit.evidence import EvidenceBlock
from assay_server.audit.findings import AuditOptions, TestTable
from assay_server.audit.groups import Groups, grouped, kind_of
from assay_server.audit.matrices import Csr, Floats, Ints, csr, scaled_rows
from assay_server.audit.passes import Survey
from assay_server.audit.resampling import RESAMPLES, Adjustment, BucketCollector, BucketSums, resample_weights, scores
from assay_server.audit.shards import PairShard
from assay_server.audit.watch import Check, go_on

CANDIDATES = 512  # strongest findings of a view that are grouped
SAME_PAIRS = 0.8  # Jaccard's coefficient of the pairs inside at which two conditions count as one
RETURNED = 0.5  # and of a group's findings at which it is the same group
_NOMINAL = float(special.ndtri(0.975))


@dataclass(frozen=True, eq=False)
class _Set:
    """Findings that are grouped together: all of the global view, or those under one condition."""

    findings: Ints
    columns: Ints  # of the collected rows: the findings', then those that they are adjusted for


class LessonSearch:
    """Gathers the scores of one view's findings block by block, and groups them."""

    def __init__(self, table: TestTable, options: AuditOptions, known: Survey) -> None:
        self._table, self._options, self._known = table, options, known
        self._rows = np.flatnonzero(table.finding[: options.keep])[:CANDIDATES]
        self._concept, self._condition = table.concept[self._rows], table.condition[self._rows]
        self._everywhere = not len(table.conditions)
        self._held = np.unique(self._condition[self._condition >= 0])
        adjusted = known.nuisance.shape[1] + 1 if self._everywhere else len(self._held) + 2
        many = len(self._rows)
        self._adjusted = np.arange(many, many + adjusted)
        self._sets = self._everything() if self._everywhere else self._by_condition()
        columns = [some.columns for some in self._sets]
        self._sums = BucketCollector(columns, many + adjusted, known.prompts, known.open_prompts, options.seed)
        self._cross, self._information = np.zeros((many, adjusted)), np.zeros((adjusted, adjusted))
        self._total, self._inside, self._outside = np.zeros(many + adjusted), np.zeros(many), np.zeros(many)

    @property
    def wanted(self) -> bool:
        """Whether there is anything to group."""
        return len(self._rows) > 0

    def add(self, part: EvidenceBlock, block: PairShard) -> None:
        """Count one block: its pairs, and what the view tested of them."""
        u, fit = Csr(part.values[:, self._concept]), self._known.fit
        left = None if fit is None else fit.residuals(block.nuisance)
        rows = self._scores(u, left, block) if self._everywhere else self._contributions(u, left, part)
        self._sums.add(rows, block.prompts)

    def finish(self, check: Check = go_on) -> TestTable:
        """The table with its lessons."""
        many = len(self._table.concept)
        lesson, lesson_z, stability = np.zeros(many, np.int64), np.zeros(many), np.zeros(many)
        shown = self._table.raw if self._table.controlled is None else self._table.controlled
        z = shown.z[self._rows]
        kinds = np.array([kind_of(self._table.concepts[concept].name) for concept in self._concept], np.int64)
        found: list[tuple[_Set, Groups, Floats]] = []
        for some, sums in zip(self._sets, self._sums.finish() if self.wanted else (), strict=False):
            own = some.findings
            groups, returned = stable_groups(sums, self._adjustment(some), z[own], kinds[own], self._options.seed, check=check)
            found.append((some, groups, returned))
        # In one order: by what leads them.
        entries = [(-abs(groups.z[k]), s, k) for s, (_, groups, _) in enumerate(found) for k in range(len(groups.leads))]
        if self._everywhere:
            entries = [(float(k), s, k) for _, s, k in entries]
        for place, (_, s, k) in enumerate(sorted(entries), start=1):
            some, groups, returned = found[s]
            rows = self._rows[some.findings]
            lesson[rows[groups.lesson == k + 1]] = place
            stability[rows[groups.lesson == k + 1]] = returned[k]
            lead = some.findings[groups.leads[k]]
            lesson_z[self._rows[lead]] = groups.z[k] if self._everywhere else z[lead]
        return replace(self._table, lesson=lesson, lesson_z=lesson_z, lesson_stability=stability)

    def _everything(self) -> list[_Set]:
        return [_Set(np.arange(len(self._rows)), np.concatenate([np.arange(len(self._rows)), self._adjusted]))]

    def _by_condition(self) -> list[_Set]:
        same = same_conditions([self._table.members[k] if k < len(self._table.members) else None for k in self._held.tolist()])
        one = same[np.searchsorted(self._held, self._condition)]
        sets: list[_Set] = []
        for number in np.unique(one).tolist():
            findings = np.flatnonzero(one == number)
            adjusted = self._adjusted[np.concatenate([np.flatnonzero(same == number), len(self._held) + np.arange(2)])]
            sets.append(_Set(findings, np.concatenate([findings, adjusted])))
        return sets

    def _scores(self, u: Csr, left: Floats | None, block: PairShard) -> Csr:
        """r u, r x and 1; r is 1 where nothing is controlled for."""
        r, x, one = np.ones(u.shape[0]) if left is None else left, block.nuisance, np.ones((u.shape[0], 1))
        weighted = x * (r * (1 - r))[:, None]
        self._cross[:, :-1] += np.asarray(u.T @ weighted)
        self._information[:-1, :-1] += weighted.T @ x
        rows = csr(sparse.hstack([scaled_rows(u, r), Csr(np.hstack([x * r[:, None], one]))], format="csr"))
        self._total += np.asarray(rows.sum(axis=0)).ravel()
        return rows

    def _contributions(self, u: Csr, left: Floats | None, part: EvidenceBlock) -> Csr:
        """v / n inside, −v / n outside; then 1 / 1 inside each condition, and 1 for each pair that the view's own and given
        conditions compare."""
        assert part.inside is not None, "a view with conditions says which pairs are inside"
        v = u if left is None else scaled_rows(u, 2 * left)
        every = np.ones(v.shape[0])
        compared = every if part.compared is None else part.compared.astype(np.float64)
        held = Csr(part.inside[:, self._held]).astype(np.float64)
        column = np.searchsorted(self._held, self._condition)
        inside = Csr(v.multiply(Csr(held[:, column])))
        formed = (self._condition < len(self._table.members)).astype(np.float64)
        outside = csr(Csr(scaled_rows(v, compared).multiply(formed[None, :])) + Csr(v.multiply(1 - formed[None, :])) - inside)
        n_in, n_out = (counts[self._rows].astype(np.float64) for counts in (self._table.inside, self._table.outside))
        self._inside += np.asarray(inside.sum(axis=0)).ravel() / n_in
        self._outside += np.asarray(outside.sum(axis=0)).ravel() / n_out
        added = Csr(inside.multiply(1 / n_in[None, :])) - Csr(outside.multiply(1 / n_out[None, :]))
        return csr(sparse.hstack([added, held, Csr(np.stack([compared, every], axis=1))], format="csr"))

    def _adjustment(self, some: _Set) -> Adjustment:
        own = some.findings
        adjusted = some.columns[len(own) :] - len(self._rows)
        if self._everywhere:
            slope = (self._cross @ np.linalg.pinv(self._information, hermitian=True))[own]
            effect = self._total[own] - slope @ self._total[self._adjusted]
            slope[:, -1] = effect / max(self._total[-1], 1.0)
            return Adjustment(slope, effect)
        # The score of a pair inside is (v − mean inside) / n inside; outside, −(v − mean outside) / n outside.
        mean_in, mean_out = self._inside[own], self._outside[own]
        part_in, part_out = mean_in / self._table.inside[self._rows[own]], mean_out / self._table.outside[self._rows[own]]
        column = np.searchsorted(self._held, self._condition[own])
        slope = np.where(adjusted[None, :] == column[:, None], (part_in + part_out)[:, None], 0.0)
        formed = self._condition[own] < len(self._table.members)
        slope[:, -2:] = -part_out[:, None] * np.stack([formed, ~formed], axis=1)
        return Adjustment(slope, mean_in - mean_out)


def stable_groups(
    sums: BucketSums, adjustment: Adjustment, z: Floats, kinds: Ints, seed: int, *, check: Check = go_on
) -> tuple[Groups, Floats]:
    """Lessons among findings, and the stability of each in [0, 1].

    Args:
        sums: of the findings' rows by bucket.
        adjustment: from rows to scores.
        z: of the findings' own tests, [findings].
        kinds: `groups.kind_of` each.
        seed: of the resamples.
        check: called between resamples; may raise to stop.
    """
    buckets = len(sums.totals)
    (plain,) = scores(sums, adjustment, np.ones((1, buckets), np.int64))
    scale = np.divide(z, plain.z, out=np.ones_like(z), where=plain.z != 0)
    groups = grouped(z, plain.correlation, kinds)
    returned = np.zeros(len(groups.leads))
    members, sign = groups.members(), np.sign(z[groups.leads])
    if not len(groups.leads):
        return groups, returned
    for drawn in scores(sums, adjustment, resample_weights(buckets, seed), check=check):
        check()
        other = scale * drawn.z
        again = grouped(other, drawn.correlation, kinds).members()
        shared = (members[:, None, :] & again[None, :, :]).sum(axis=2)
        either = members.sum(axis=1)[:, None] + again.sum(axis=1)[None, :] - shared
        near = (shared / np.maximum(either, 1)).max(axis=1, initial=0.0)
        returned += (near >= RETURNED) & (sign * other[groups.leads] >= _NOMINAL)
    return groups, returned / RESAMPLES


def same_conditions(members: list[Ints | None]) -> Ints:
    """A number per condition, the same for conditions that hold nearly the same pairs as the first of them.

    Args:
        members: rows inside each, ascending; None where they are not known, which makes a condition of its own.
    """
    number = np.arange(len(members))
    for k, rows in enumerate(members):
        for first in np.unique(number[:k]).tolist():
            before = members[first]
            if rows is None or before is None or not len(rows) or not len(before):
                continue
            shared = len(np.intersect1d(rows, before, assume_unique=True))
            if shared >= SAME_PAIRS * (len(rows) + len(before) - shared):
                number[k] = first
                break
    return number
