"""Hypotheses as rows: a finished audit's tables, with labels and decisions looked up as they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from assay_server.audit.findings import Effects, TestTable, ViewKind
from assay_server.audit.reason import Reason
from assay_server.jobs.audits.tables import hypothesis_id
from assay_server.jobs.audits.types import (
    ConceptRow,
    ConditionRow,
    DecisionInfo,
    EffectRow,
    HypothesisRow,
    LabelLookup,
    LabelText,
)


def no_labels(name: str, features: Sequence[int]) -> LabelText:
    """The lookup that knows nothing."""
    return LabelText()


def hypothesis_rows(
    audit: str,
    tables: Mapping[ViewKind, TestTable],
    keep: int,
    labels: LabelLookup,
    decisions: Iterable[DecisionInfo],
) -> tuple[HypothesisRow, ...]:
    """The kept rows of all views, in order of view and rank; the last decision on each counts."""
    last = {decision.hypothesis: decision for decision in decisions}
    rows: list[HypothesisRow] = []
    for view in ViewKind:
        if view in tables:
            rows += _table_rows(audit, tables[view], keep, labels, last)
    return tuple(rows)


def _table_rows(
    audit: str, table: TestTable, keep: int, labels: LabelLookup, last: Mapping[str, DecisionInfo]
) -> Iterator[HypothesisRow]:
    concepts: dict[int, ConceptRow] = {}
    conditions: dict[int, ConditionRow | None] = {-1: None}
    for row in range(min(keep, len(table.concept))):
        which, where = int(table.concept[row]), int(table.condition[row])
        if which not in concepts:
            concept = table.concepts[which]
            label = labels(concept.name, concept.features)
            concepts[which] = ConceptRow(concept.name, concept.features, concept.size, label)
        if where not in conditions:
            condition = table.conditions[where]
            conditions[where] = ConditionRow(condition.name, condition.features, labels(condition.name, condition.features))
        name = f"{audit}/hypotheses/{hypothesis_id(table.view, row + 1)}"
        yield HypothesisRow(
            name=name,
            view=table.view,
            concept=concepts[which],
            condition=conditions[where],
            raw=_effect(table.raw, row),
            controlled=None if table.controlled is None else _effect(table.controlled, row),
            finding=bool(table.finding[row]),
            cohen_d=float(table.cohen_d[row]),
            consistent=bool(table.consistent[row]),
            delta_min=float(table.delta_min[row]),
            inside=int(table.inside[row]),
            outside=int(table.outside[row]),
            prompts=int(table.prompts[row]),
            rank=row + 1,
            rank_first_half=int(table.rank_first_half[row]),
            rank_second_half=int(table.rank_second_half[row]),
            rank_stable=bool(table.rank_stable[row]),
            decision=last.get(name),
            lesson=0 if table.lesson is None else int(table.lesson[row]),
            lesson_z=_lead(table, row),
        )


def _lead(table: TestTable, row: int) -> float | None:
    z = 0.0 if table.lesson_z is None else float(table.lesson_z[row])
    return z or None


def _effect(effects: Effects, row: int) -> EffectRow:
    return EffectRow(
        estimate=float(effects.estimate[row]),
        low=float(effects.low[row]),
        high=float(effects.high[row]),
        z=float(effects.z[row]),
        p=float(effects.p[row]),
        q=float(effects.q[row]),
        q_by=float(effects.q_by[row]),
        p_max_t=None if effects.p_max_t is None else float(effects.p_max_t[row]),
        reason=Reason(int(effects.reason[row])).text,
    )
