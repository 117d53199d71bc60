"""From arrays of tests to a table in rank order: q-values, counts of findings, selection of rows."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from assay_server.audit.findings import AuditOptions, Effects, TestedConcept, TestTable, ViewKind
from assay_server.audit.matrices import Bools, Codes, Floats, Ints
from assay_server.audit.multiplicity import Procedure, q_values
from assay_server.audit.reason import Reason
from assay_server.audit.shards import ConceptSet

_TABLE_COLUMNS = (
    "concept",
    "condition",
    "finding",
    "cohen_d",
    "consistent",
    "delta_min",
    "inside",
    "outside",
    "prompts",
    "rank_first_half",
    "rank_second_half",
    "rank_stable",
)


def effects(
    estimate: Floats,
    low: Floats,
    high: Floats,
    z: Floats,
    p: Floats,
    reason: Codes,
    *,
    tested: Bools | None = None,
    p_max_t: Floats | None = None,
    families: Ints | None = None,
    second_p: Floats | None = None,
) -> Effects:
    """Effects with q-values over what was tested: by default wherever there is no reason against it; by family.

    Where there is a reason nothing says how sure the estimate is: it has no interval, both bounds are the estimate. Where there
    is a second p, q is that of the larger: a finding passes both tests (the intersection-union test, Berger 1982).
    """
    stands = reason == Reason.NONE
    low, high = np.where(stands, low, estimate), np.where(stands, high, estimate)
    counted = stands if tested is None else tested
    both = p if second_p is None else np.maximum(p, second_p)
    q, by = (q_values(both, procedure, tested=counted, families=families) for procedure in Procedure)
    return Effects(estimate, low, high, z, p, q, by, p_max_t, reason)


def found(shown: Effects, options: AuditOptions) -> Bools:
    """Where the q-value that the options name is at most the level."""
    return (shown.q_by if options.yekutieli else shown.q) <= options.q_level


def ordered(table: TestTable, order: NDArray[np.intp]) -> TestTable:
    """The rows that `order` names, in that order."""
    picked = {name: getattr(table, name)[order] for name in _TABLE_COLUMNS}
    controlled = None if table.controlled is None else _rows(table.controlled, order)
    if table.length_verdict is not None:
        picked["length_verdict"] = table.length_verdict[order]
    return replace(table, raw=_rows(table.raw, order), controlled=controlled, **picked)


def named(concepts: ConceptSet, columns: int) -> tuple[TestedConcept, ...]:
    """What the columns are: concepts made of features, then directions, which name no features.

    Raises:
        ValueError: there are not as many names as columns.
    """
    if len(concepts.names) != columns:
        raise ValueError(f"{len(concepts.names)} concepts are named, but {columns} columns are tested")
    by_concept = concepts.members.T.tocsr()
    ends = by_concept.indptr
    by_concept.sort_indices()
    features, edges = by_concept.indices.tolist(), pairwise(ends.tolist())
    made = concepts.names[: len(ends) - 1]
    result = [TestedConcept(name, tuple(features[a:b]), b - a) for name, (a, b) in zip(made, edges, strict=True)]
    return (*result, *(TestedConcept(name, (), 1) for name in concepts.names[len(ends) - 1 :]))


def strength_ranks(strength: Floats, tested: Bools) -> Ints:
    """Rank of each entry by decreasing strength, from 1, ties sharing the better one; what was not tested comes last."""
    return np.asarray(stats.rankdata(np.where(tested, -strength, 1.0), method="min"), np.int64)


def stable_ranks(rank: Ints, first: Ints, second: Ints, consistent: Bools, *, factor: float = 2.0, slack: int = 5) -> Bools:
    """Whether both halves agree in sign and place a test within factor · rank + slack (METHOD.md §3.5)."""
    return consistent & (np.maximum(first, second) <= factor * rank + slack)


def untested(view: ViewKind, reason: str, *, controlled: bool, note: str = "") -> TestTable:
    """A view that could test nothing, and says why."""
    none, zero, no = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    shown = effects(none, none, none, none, none, np.zeros(0, np.uint8))
    return TestTable(
        view=view,
        concepts=(),
        conditions=(),
        concept=zero,
        condition=zero,
        raw=shown,
        controlled=shown if controlled else None,
        finding=no,
        cohen_d=none,
        consistent=no,
        delta_min=none,
        inside=zero,
        outside=zero,
        prompts=zero,
        rank_first_half=zero,
        rank_second_half=zero,
        rank_stable=no,
        tests=0,
        findings_raw=0,
        findings_controlled=0,
        reason=reason,
        note=note,
    )


def _rows(shown: Effects, order: NDArray[np.intp]) -> Effects:
    names = [field.name for field in fields(Effects) if getattr(shown, field.name) is not None]
    return replace(shown, **{name: getattr(shown, name)[order] for name in names})
