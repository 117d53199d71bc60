"""Result tables as Parquet, and back, bit for bit.

A view's table has one row per test; ``COLUMNS`` and ``EFFECT_COLUMNS`` list its plain columns, whose names are those of
``TestTable``, ``HypothesisRow`` and ``assay.v1.Hypothesis``. The table of its conditions has one row per condition, with the
dataset rows inside it where the view formed it. Counts and reasons are in the ``TableHead``, kept as JSON beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from assay_server.audit.concentration import UNKNOWN
from assay_server.audit.findings import Condition, Effects, Evidence, TestedConcept, TestTable, ViewKind
from assay_server.audit.reason import Reason
from assay_server.jobs.audits.types import LabelLookup, NamedText, ViewSummary
from assay_server.store.pairs import read_table, table_bytes

ID_PREFIX = {
    ViewKind.GLOBAL: "global",
    ViewKind.FEATURE_CONDITIONED: "feature",
    ViewKind.PROMPT_CONDITIONED: "prompt",
    ViewKind.STATED: "stated",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A plain column of a table.

    Attributes:
        name: in the file, in ``TestTable`` or ``Effects``, and in ``HypothesisRow`` or ``EffectRow``.
        kind: Arrow type.
        optional: None in a table whose view does not fill it; missing from files that are older than the column.
        blank: the value in the table that means "none": null in the file, left out of a row.
    """

    name: str
    kind: Any
    optional: bool = False
    blank: float | None = None


COLUMNS = (
    Column("finding", pa.bool_()),
    Column("cohen_d", pa.float64()),
    Column("consistent", pa.bool_()),
    Column("delta_min", pa.float64()),
    Column("inside", pa.int64()),
    Column("outside", pa.int64()),
    Column("prompts", pa.int64()),
    Column("rank_first_half", pa.int64()),
    Column("rank_second_half", pa.int64()),
    Column("rank_stable", pa.bool_()),
    Column("log_odds", pa.float64(), optional=True, blank=0.0),
    Column("log_odds_z", pa.float64(), optional=True, blank=0.0),
    Column("lesson", pa.int64(), optional=True),
    Column("lesson_z", pa.float64(), optional=True, blank=0.0),
    Column("lesson_stability", pa.float64(), optional=True),
    Column("length_verdict", pa.uint8(), optional=True),
    Column("only_chosen", pa.int64(), optional=True, blank=UNKNOWN),
    Column("only_rejected", pa.int64(), optional=True, blank=UNKNOWN),
    Column("carried_by", pa.float64(), optional=True, blank=UNKNOWN),
    Column("left_without_top", pa.float64(), optional=True, blank=UNKNOWN),
)
EFFECT_COLUMNS = (
    *(Column(name, pa.float64()) for name in ("estimate", "low", "high", "z", "p", "q", "q_by")),
    Column("p_max_t", pa.float64(), optional=True),
)
_SIDES = ("supporting", "contradicting")
_REASONS = {reason.text: int(reason) for reason in Reason}


# The order in which a fingerprint reads a head.
_HEAD = (
    *("view", "tests", "findings_raw", "findings_controlled", "kept", "conditions", "reason", "note"),
    *("concepts", "nuisances", "lessons", "families", "explained", "weakened", "unchanged"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableHead(ViewSummary):
    """A view's summary, and what else its table needs to be read.

    Attributes:
        concepts: how many were tested, whether or not a row names them.
        nuisances: whether effects are controlled for.
    """

    concepts: int
    nuisances: bool


def summary_of(table: TestTable, keep: int) -> ViewSummary:
    """A table's counts; the first ``keep`` rows are hypotheses."""
    explained, weakened, unchanged = table.length_counts
    return ViewSummary(
        view=table.view,
        tests=table.tests,
        findings_raw=table.findings_raw,
        findings_controlled=table.findings_controlled,
        kept=min(keep, len(table.concept)),
        conditions=len(table.conditions),
        reason=table.reason,
        note=table.note,
        lessons=table.lessons,
        families=table.families,
        explained=explained,
        weakened=weakened,
        unchanged=unchanged,
    )


def head_of(table: TestTable, keep: int) -> TableHead:
    """A table's head; the first ``keep`` rows are hypotheses."""
    summary = summary_of(table, keep)
    values = {field.name: getattr(summary, field.name) for field in fields(summary)}
    return TableHead(**values, concepts=len(table.concepts), nuisances=table.controlled is not None)


def hypothesis_id(view: ViewKind, rank: int) -> str:
    """The last part of a hypothesis's name: its view, and its rank from 1."""
    return f"{ID_PREFIX[view]}-{rank}"


def parse_hypothesis_id(id: str) -> tuple[ViewKind, int] | None:
    """View and rank of a hypothesis's id; None for any other text."""
    prefix, _, digits = id.rpartition("-")
    views = [view for view, own in ID_PREFIX.items() if own == prefix]
    canonical = digits.isascii() and digits.isdigit() and str(int(digits)) == digits and len(digits) < 10
    return (views[0], int(digits)) if views and canonical and digits != "0" else None


def to_arrow(table: TestTable) -> Any:
    """One row per test, in rank order."""
    rows = len(table.concept)
    concepts = [table.concepts[index] for index in table.concept]
    conditions = [table.conditions[index] if index >= 0 else None for index in table.condition]
    columns: dict[str, Any] = {
        "id": pa.array([hypothesis_id(table.view, rank + 1) for rank in range(rows)], pa.string()),
        "view": pa.array([table.view.value] * rows, pa.string()),
        "rank": pa.array(range(1, rows + 1), pa.int64()),
        "concept": pa.array([concept.name for concept in concepts], pa.string()),
        "concept_features": pa.array([list(concept.features) for concept in concepts], pa.list_(pa.uint32())),
        "concept_size": pa.array([concept.size for concept in concepts], pa.int64()),
        "condition": pa.array([one.name if one else None for one in conditions], pa.string()),
        "condition_features": pa.array([list(one.features) if one else None for one in conditions], pa.list_(pa.uint32())),
    }
    columns |= _effect_columns("raw", table.raw, rows) | _effect_columns("controlled", table.controlled, rows)
    columns |= {column.name: _written(column, table, rows) for column in COLUMNS}
    for side in _SIDES:
        blank = [None] * (rows - len(table.evidence))
        where = [getattr(one, side).tolist() for one in table.evidence]
        values = [getattr(one, f"{side}_u").tolist() for one in table.evidence]
        columns[f"{side}_rows"] = pa.array([*where, *blank], pa.list_(pa.int64()))
        strength = [None if (of := getattr(one, f"{side}_strength")) is None else of.tolist() for one in table.evidence]
        columns[f"{side}_disparities"] = pa.array([*values, *blank], pa.list_(pa.float64()))
        columns[f"{side}_strengths"] = pa.array([*strength, *blank], pa.list_(pa.float64()))
    return pa.table(columns)


def conditions_to_arrow(table: TestTable) -> Any:
    """One row per condition, whether or not a test of it was kept."""
    # A view that was given conditions made none of them; one that could test nothing names none of those that it made.
    members = [*table.members, *[None] * len(table.conditions)][: len(table.conditions)]
    return pa.table(
        {
            "condition": pa.array([one.name for one in table.conditions], pa.string()),
            "features": pa.array([list(one.features) for one in table.conditions], pa.list_(pa.uint32())),
            "rows": pa.array([None if rows is None else rows.tolist() for rows in members], pa.list_(pa.int64())),
        }
    )


def from_arrow(arrow: Any, conditions: Any, head: TableHead) -> TestTable:
    """The table of ``to_arrow`` and ``conditions_to_arrow``, without concepts that no row mentions."""
    names = arrow["concept"].to_pylist()
    features, sizes = arrow["concept_features"].to_pylist(), arrow["concept_size"].to_pylist()
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    concepts = sorted(first, key=first.__getitem__)
    told = zip(conditions["condition"].to_pylist(), conditions["features"].to_pylist(), strict=True)
    members = conditions["rows"].to_pylist()
    return TestTable(
        view=head.view,
        concepts=tuple(TestedConcept(name, tuple(features[first[name]]), sizes[first[name]]) for name in concepts),
        conditions=tuple(Condition(name, tuple(features)) for name, features in told),
        concept=_places(names, concepts),
        condition=_places(arrow["condition"].to_pylist(), conditions["condition"].to_pylist()),
        raw=_effects(arrow, "raw"),
        controlled=_effects(arrow, "controlled") if head.nuisances else None,
        **{column.name: _read(column, arrow) for column in COLUMNS},
        tests=head.tests,
        findings_raw=head.findings_raw,
        findings_controlled=head.findings_controlled,
        reason=head.reason,
        note=head.note,
        families=head.families,
        length_counts=(head.explained, head.weakened, head.unchanged),
        evidence=tuple(_evidence(arrow)),
        members=tuple(np.array(rows, np.int64) for rows in members if rows is not None),
    )


def row_values(columns: Sequence[Column], source: TestTable | Effects, row: int) -> dict[str, Any]:
    """One row's values by column name; a column that is None or blank there is left out."""
    arrays = ((column, getattr(source, column.name)) for column in columns)
    return {column.name: array[row].item() for column, array in arrays if array is not None and array[row] != column.blank}


def to_parquet(table: TestTable) -> tuple[bytes, bytes]:
    """The table and its conditions as Parquet files."""
    return table_bytes(to_arrow(table)), table_bytes(conditions_to_arrow(table))


def from_parquet(data: bytes, conditions: bytes, head: TableHead) -> TestTable:
    """The table of ``to_parquet``."""
    return from_arrow(read_table(data), read_table(conditions), head)


def exported(files: Sequence[bytes], labels: LabelLookup, named: Mapping[str, NamedText] | None = None) -> bytes:
    """Several tables as one Parquet file, in the order given, each concept with its label as of now.

    ``label``, ``detection_score``, ``named`` and ``named_kind`` follow ``concept_size``; they are in no stored table, because
    what things are called enters no test. The last two are null where a concept is not in ``named``, which is by concept.
    """
    arrow = pa.concat_tables([read_table(data) for data in files])
    concepts = list(zip(arrow["concept"].to_pylist(), map(tuple, arrow["concept_features"].to_pylist()), strict=True))
    known = {(name, features): labels(name, features) for name, features in dict.fromkeys(concepts)}
    place = arrow.column_names.index("concept_size") + 1
    scores = pa.array([known[one].detection_score for one in concepts], pa.float64())
    arrow = arrow.add_column(place, "label", pa.array([known[one].text for one in concepts], pa.string()))
    arrow = arrow.add_column(place + 1, "detection_score", scores)
    called = [(named or {}).get(name) for name, _ in concepts]
    kinds = pa.array([None if one is None else one.kind for one in called], pa.string())
    arrow = arrow.add_column(place + 2, "named", pa.array([None if one is None else one.text for one in called], pa.string()))
    return table_bytes(arrow.add_column(place + 3, "named_kind", kinds))


def fingerprint(tables: Mapping[ViewKind, TestTable]) -> str:
    """SHA-256 over every value of the tables, to the last bit, independent of the Parquet writer."""
    digest = hashlib.sha256()
    for view in ViewKind:
        if view not in tables:
            continue
        head = head_of(tables[view], 0)
        digest.update(json.dumps([view.value, *[str(getattr(head, name)) for name in _HEAD]]).encode())
        for arrow in (to_arrow(tables[view]), conditions_to_arrow(tables[view])):
            for name in arrow.column_names:
                digest.update(json.dumps([name, arrow.num_rows]).encode())
                digest.update(_column_bytes(arrow[name]))
    return digest.hexdigest()


def _effect_columns(prefix: str, effects: Effects | None, rows: int) -> dict[str, Any]:
    columns = {f"{prefix}_{column.name}": _written(column, effects, rows) for column in EFFECT_COLUMNS}
    reasons = None if effects is None else [Reason(code).text for code in effects.reason]
    columns[f"{prefix}_reason"] = pa.nulls(rows, pa.string()) if reasons is None else pa.array(reasons, pa.string())
    return columns


def _written(column: Column, source: TestTable | Effects | None, rows: int) -> Any:
    values = getattr(source, column.name, None)
    if values is None:
        return pa.nulls(rows, column.kind)
    return pa.array(values, column.kind, mask=None if column.blank is None else values == column.blank)


def _read(column: Column, arrow: Any, prefix: str = "") -> Any:
    name = prefix + column.name
    if column.optional and (name not in arrow.column_names or arrow[name].null_count == arrow.num_rows):
        return None
    return (arrow[name] if column.blank is None else arrow[name].fill_null(column.blank)).to_numpy()


def _effects(arrow: Any, prefix: str) -> Effects:
    reasons = [_REASONS[text] for text in arrow[f"{prefix}_reason"].to_pylist()]
    return Effects(
        **{column.name: _read(column, arrow, f"{prefix}_") for column in EFFECT_COLUMNS},
        reason=np.array(reasons, np.uint8),
    )


def _evidence(arrow: Any) -> list[Evidence]:
    def lists(what: str) -> list[list[Any]]:
        return [_lists(arrow, f"{side}_{what}") for side in _SIDES]

    columns = zip(*lists("rows"), *lists("disparities"), *lists("strengths"), strict=True)
    return [
        Evidence(pro.astype(np.int64), pro_u, con.astype(np.int64), con_u, pro_strength, con_strength)
        for pro, con, pro_u, con_u, pro_strength, con_strength in columns
        if pro is not None
    ]


def _lists(arrow: Any, name: str) -> list[Any]:
    """A column of lists as float arrays, None where there is none, or in a file that is older than the column."""
    told = arrow[name].to_pylist() if name in arrow.column_names else [None] * arrow.num_rows
    return [None if one is None else np.array(one, np.float64) for one in told]


def _places(names: Sequence[str | None], order: Sequence[str]) -> Any:
    """The index of each name in ``order``, −1 for None."""
    place = {name: index for index, name in enumerate(order)}
    return np.array([-1 if name is None else place[name] for name in names], np.int64)


def _column_bytes(column: Any) -> bytes:
    plain = pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
    if plain and not column.null_count:
        return np.ascontiguousarray(column.to_numpy()).tobytes()
    return json.dumps([_exact(value) for value in column.to_pylist()]).encode()


def _exact(value: Any) -> Any:
    if isinstance(value, list):
        return [_exact(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    return value.hex() if isinstance(value, float) else value
