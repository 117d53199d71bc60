"""Distinct lessons: the few findings that explain the others, by stepwise score tests.

A dataset that teaches one thing raises every concept that goes along with it: the first hundred findings of the global view may
be one lesson. Here the strongest finding leads the first lesson; its disparity joins the nuisances, every other finding is
tested again by METHOD.md §3.5's score test for what that leaves of it, and the strongest of them leads the next one. This is
forward selection by score statistics, in genetics known as conditional analysis (Yang et al. 2012, Nature Genetics 44:369).

A p-value at entry is not corrected for the search, but must pass Bonferroni's bound over what is looked at: with one cause behind
184 findings a fixed 0.001 found a second lesson in a fifth of simulated runs, the bound in none. Lessons put an order on
findings, which were corrected before; they find nothing new. A finding whose sign turns once lessons are controlled
for would claim something that no test was corrected for: it leads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from assay_server.audit.control import ScoreTest, control_sums, controlled_effect
from assay_server.audit.disparity import Disparity
from assay_server.audit.findings import AuditOptions, TestTable
from assay_server.audit.matrices import Csr, Floats, Ints
from assay_server.audit.nuisance import decided_pairs, fit_nuisance, nuisance_array
from assay_server.audit.passes import blocks, concept_subset, disparities
from assay_server.audit.reason import Reason
from assay_server.audit.shards import ConceptSet, Shards
from assay_server.audit.watch import UNWATCHED, Check, Watch, go_on

CANDIDATES = 512  # strongest findings that are looked at: a step reads their disparities once
LESSONS = 20
ENTRY_P = 1e-3  # what is left of a finding must pass this, and 0.05 over all that are looked at, for it to lead a lesson
LEVEL = 0.05
MEMBER = 0.5  # share of a finding's evidence z² that one lesson must explain for it to belong there


@dataclass(frozen=True, eq=False)
class Lessons:
    """Distinct lessons among findings, and which one each finding belongs to."""

    leads: Ints  # [lessons] the finding that leads each, in order of entry
    z: Floats  # [lessons] of that finding, given the nuisances and the lessons before
    p: Floats  # [lessons] two-sided, not corrected for the search
    lesson: Ints  # [findings] place of its lesson, from 1; 0: no single lesson explains it


def with_lessons(
    table: TestTable, shards: Shards, concepts: ConceptSet, options: AuditOptions, watch: Watch = UNWATCHED
) -> TestTable:
    """The global view's table with the distinct lessons among its `CANDIDATES` strongest findings, in one more pass.

    Raises:
        ValueError: as `passes.disparities`.
    """
    rows = np.flatnonzero(table.finding[: options.keep])[:CANDIDATES]
    lesson, z = np.zeros(len(table.concept), np.int64), np.zeros(len(table.concept))
    if not len(rows):
        return replace(table, lesson=lesson, lesson_z=z)
    # All directions are computed along with the requested features, and dropped again where they are no finding.
    made = concepts.members.shape[1]
    columns = np.union1d(table.concept[rows], np.arange(made, len(concepts.names))).astype(np.int64)
    some = concept_subset(concepts, columns)
    wanted = np.searchsorted(columns, table.concept[rows])
    parts: list[Disparity] = []
    prompts: list[Ints] = []
    nuisances: list[Floats] = []
    for block in blocks(shards, "lessons", watch.progress):
        u = disparities(block, some, options.tau)
        parts.append(Disparity(Csr(u.numerators[:, wanted]), u.sizes[wanted]))
        prompts.append(block.prompts)
        nuisances.append(block.nuisance)
    found = distinct_lessons(stacked(parts), np.concatenate(prompts), np.concatenate(nuisances), check=watch.check)
    lesson[rows] = found.lesson
    z[rows[found.leads]] = found.z
    return replace(table, lesson=lesson, lesson_z=z)


def distinct_lessons(
    u: Disparity,
    prompts: ArrayLike,
    nuisance: ArrayLike,
    *,
    most: int = LESSONS,
    entry_p: float = ENTRY_P,
    check: Check = go_on,
) -> Lessons:
    """The distinct lessons among findings.

    A finding belongs to the lesson that, as the only one beside the nuisances, takes most of its z² away, where that is at
    least half; all of it is taken away where z turns its sign. A finding that only several lessons explain together belongs to
    none.

    Args:
        u: disparities of the findings over all pairs, [pairs, findings].
        prompts: an integer id per pair, [pairs].
        nuisance: x, chosen minus rejected, [pairs, nuisances].
        most: lessons at most.
        entry_p: the p at which the search ends.
        check: called before every step; may raise to stop.

    Raises:
        ValueError: shapes disagree, or a nuisance is not finite.
    """
    base, values = nuisance_array(nuisance), u.values()
    leads: list[int] = []
    entered: list[ScoreTest] = []
    while len(leads) < min(most, values.shape[1]):
        check()
        test = _given(u, prompts, base, values, leads)
        free = (test.reason == Reason.NONE) & ~np.isin(np.arange(len(test.z)), leads)
        strength = np.where(free, np.abs(test.z) if not entered else _kept(test.z, entered[0].z), 0.0)
        best = int(strength.argmax())
        if strength[best] == 0 or test.p[best] > min(entry_p, LEVEL / values.shape[1]):
            break
        leads.append(best)
        entered.append(test)
    return Lessons(
        leads=np.array(leads, np.int64),
        z=np.array([test.z[lead] for test, lead in zip(entered, leads, strict=True)], np.float64),
        p=np.array([test.p[lead] for test, lead in zip(entered, leads, strict=True)], np.float64),
        lesson=_membership(u, prompts, base, values, leads, entered[0], check) if leads else np.zeros(values.shape[1], np.int64),
    )


def stacked(parts: Sequence[Disparity]) -> Disparity:
    """Blocks of pairs, end to end."""
    return Disparity(Csr(sparse.vstack([part.numerators for part in parts], format="csr")), parts[0].sizes)


def _membership(
    u: Disparity, prompts: ArrayLike, base: Floats, values: Csr, leads: Sequence[int], alone: ScoreTest, check: Check
) -> Ints:
    left = np.ones((len(leads), values.shape[1]))
    for place, lead in enumerate(leads):
        check()
        test = _given(u, prompts, base, values, [lead])
        # What a lesson explains exactly (itself, or a twin) cannot be tested beside it, and has z = 0. Nothing is known of any
        # finding where the fit failed.
        if not np.isin(test.reason, (Reason.SEPARATED, Reason.NOT_CONVERGED)).any():
            z = _kept(test.z, alone.z)
            left[place] = np.divide(z**2, alone.z**2, out=np.ones_like(z), where=alone.z != 0)
    lesson = np.where(left.min(axis=0) <= 1 - MEMBER, left.argmin(axis=0) + 1, 0)
    lesson[list(leads)] = np.arange(1, len(leads) + 1)
    return lesson.astype(np.int64)


def _kept(z: Floats, alone: Floats) -> Floats:
    """How much of z, given some lessons, speaks for what each finding said alone: 0 where its sign turned."""
    return np.maximum(z * np.sign(alone), 0.0)


def _given(u: Disparity, prompts: ArrayLike, base: Floats, values: Csr, leads: Sequence[int]) -> ScoreTest:
    """Every finding tested beside the nuisances and some lessons.

    A lesson that no pair contradicts has no finite fit: its coefficient grows without bound. What remains in that limit are the
    pairs that it does not decide, tested beside everything else.
    """
    x, ids = np.hstack([base, values[:, list(leads)].toarray()]) if leads else base, np.asarray(prompts)
    fit = fit_nuisance(x)
    while leads and fit.reason == Reason.SEPARATED:
        rows = np.flatnonzero(~decided_pairs(x))
        if len(rows) == len(x):
            break
        u, ids, x = Disparity(Csr(u.numerators[rows]), u.sizes), ids[rows], x[rows]
        fit = fit_nuisance(x)
    return controlled_effect(control_sums(u, ids, x, fit))
