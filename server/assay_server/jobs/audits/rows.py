"""Hypotheses as rows: a finished audit's tables with current labels and decisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from assay_server.audit.findings import Effects, TestTable, ViewKind
from assay_server.audit.matrices import Ints
from assay_server.audit.reason import Reason
from assay_server.jobs.audits.tables import COLUMNS, EFFECT_COLUMNS, hypothesis_id, row_values
from assay_server.jobs.audits.texts import text_name
from assay_server.jobs.audits.types import (
    ConceptRow,
    ConditionRow,
    DecisionInfo,
    EffectRow,
    HypothesisRow,
    LabelLookup,
    LabelText,
    NamedText,
)

RAW_FIRST = 5


def no_labels(name: str, features: Sequence[int]) -> LabelText:
    """A label lookup without labels."""
    return LabelText()


def hypothesis_rows(
    audit: str,
    tables: Mapping[ViewKind, TestTable],
    keep: int,
    labels: LabelLookup,
    decisions: Iterable[DecisionInfo],
    names: Mapping[str, NamedText] | None = None,
) -> tuple[HypothesisRow, ...]:
    """The kept rows of all views, in order of view and rank, each with the last decision on it.

    ``names``: what the dataset calls concepts and conditions, by their names.
    """
    last = {decision.hypothesis: decision for decision in decisions}
    rows: list[HypothesisRow] = []
    for view in ViewKind:
        if view in tables:
            places = range(min(keep, len(tables[view].concept)))
            rows += _table_rows(audit, tables[view], places, labels, last, names or {})
    return tuple(rows)


def raw_first(table: TestTable, limit: int = RAW_FIRST) -> Ints:
    """The rows of a table that are strongest by the raw effect: findings by raw p, then |estimate|, at most `limit`."""
    raw = table.raw
    order = np.lexsort((-np.abs(raw.estimate), raw.p))
    return order[raw.p[order] < 1][:limit].astype(np.int64)


def raw_rows(
    audit: str, tables: Mapping[ViewKind, TestTable], labels: LabelLookup, names: Mapping[str, NamedText] | None = None
) -> tuple[HypothesisRow, ...]:
    """The rows of `raw_first` in the global view, kept or not; none where nothing is controlled for, as the order is then the
    same.
    """
    table = tables.get(ViewKind.GLOBAL)
    if table is None or table.controlled is None:
        return ()
    return tuple(_table_rows(audit, table, raw_first(table).tolist(), labels, {}, names or {}))


def _table_rows(
    audit: str,
    table: TestTable,
    places: Iterable[int],
    labels: LabelLookup,
    last: Mapping[str, DecisionInfo],
    names: Mapping[str, NamedText],
) -> Iterator[HypothesisRow]:
    concepts: dict[int, ConceptRow] = {}
    conditions: dict[int, ConditionRow | None] = {-1: None}
    for row in places:
        which, where = int(table.concept[row]), int(table.condition[row])
        if which not in concepts:
            concept = table.concepts[which]
            label = labels(concept.name, concept.features)
            named = names.get(concept.name) or text_name(concept.name)
            concepts[which] = ConceptRow(concept.name, concept.features, concept.size, label, named)
        if where not in conditions:
            condition = table.conditions[where]
            label = labels(condition.name, condition.features)
            conditions[where] = ConditionRow(condition.name, condition.features, label, names.get(condition.name))
        name = f"{audit}/hypotheses/{hypothesis_id(table.view, row + 1)}"
        yield HypothesisRow(
            name=name,
            view=table.view,
            concept=concepts[which],
            condition=conditions[where],
            raw=_effect(table.raw, row),
            controlled=None if table.controlled is None else _effect(table.controlled, row),
            rank=row + 1,
            decision=last.get(name),
            **row_values(COLUMNS, table, row),
        )


def _effect(effects: Effects, row: int) -> EffectRow:
    return EffectRow(**row_values(EFFECT_COLUMNS, effects, row), reason=Reason(int(effects.reason[row])).text)
