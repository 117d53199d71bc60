"""Pages of an audit's hypotheses: filtered, ordered, cut.

Columns are made once per result that the jobs hold, and freed with it.
"""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from assay.v1 import audit_service_pb2

from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.types import AuditResult, EffectRow, HypothesisRow
from assay_server.rpc.audits.filtering import Columns, TextColumn, matching, ordered, parse_filter, parse_order
from assay_server.rpc.audits.messages import hypothesis
from assay_server.rpc.names import audit_name
from assay_server.rpc.paging import open_offset, read_page_size, seal_token

_VIEWS = tuple(ViewKind)
_columns: WeakKeyDictionary[AuditResult, Columns] = WeakKeyDictionary()


def hypotheses_page(
    result: AuditResult, request: audit_service_pb2.ListHypothesesRequest
) -> audit_service_pb2.ListHypothesesResponse:
    """A page of the result's hypotheses. The first page of tens of thousands of rows takes a second: call it in a thread.

    Raises:
        InvalidItem: the filter, the order, the size or the token cannot be used.
    """
    columns = _columns.get(result) or _columns.setdefault(result, columns_of(result.hypotheses))
    found = np.flatnonzero(matching(parse_filter(request.filter), columns))
    rows = ordered(found, parse_order(request.order_by), columns)
    question = _question(request)
    start = open_offset(request.page_token, question)
    stop = start + read_page_size(request.page_size)
    return audit_service_pb2.ListHypothesesResponse(
        hypotheses=[hypothesis(result.hypotheses[row]) for row in rows[start:stop].tolist()],
        next_page_token=seal_token(str(stop), question) if stop < len(rows) else "",
        total_size=len(rows),
    )


def check_question(request: audit_service_pb2.ListHypothesesRequest) -> None:
    """Checks the request before anything is looked up. Raises InvalidItem."""
    audit_name(request.parent, "parent")
    parse_filter(request.filter)
    parse_order(request.order_by)
    read_page_size(request.page_size)
    open_offset(request.page_token, _question(request))


def columns_of(rows: Sequence[HypothesisRow]) -> Columns:
    """The columns that rows are filtered and ordered by."""
    effects = [_effect(row) for row in rows]
    return Columns(
        view=np.array([_VIEWS.index(row.view) for row in rows], dtype=np.int64),
        finding=np.array([row.finding for row in rows], dtype=np.bool_),
        q=np.array([effect.q for effect in effects], dtype=np.float64),
        p=np.array([effect.p for effect in effects], dtype=np.float64),
        effect=np.array([effect.estimate for effect in effects], dtype=np.float64),
        rank=np.array([row.rank for row in rows], dtype=np.int64),
        inside=np.array([row.inside for row in rows], dtype=np.int64),
        concept=_texts(rows, lambda row: row.concept.name),
        condition=_texts(rows, lambda row: row.condition.name if row.condition else ""),
        label=_texts(rows, lambda row: row.concept.label.text),
        lesson=np.array([row.lesson for row in rows], dtype=np.int64),
        leads=np.array([row.lesson_z is not None for row in rows], dtype=np.bool_),
    )


def _effect(row: HypothesisRow) -> EffectRow:
    return row.raw if row.controlled is None else row.controlled


def _texts(rows: Sequence[HypothesisRow], text: Callable[[HypothesisRow], str]) -> TextColumn:
    places: dict[str, int] = {}
    index = np.array([places.setdefault(text(row), len(places)) for row in rows], dtype=np.int64)
    return TextColumn(tuple(places), index)


def _question(request: audit_service_pb2.ListHypothesesRequest) -> tuple[str, ...]:
    return "ListHypotheses", request.parent, request.filter, request.order_by
