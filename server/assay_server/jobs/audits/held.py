"""Finished audits in memory: tables, rows and directions, so that the next page does not read and build them again.

Invariants:
- What is held is what would be built now: tables are found by the audit's result fingerprint, rows by the labels and decisions
  that they show, which are looked up each time. Nobody has to say that something changed.
- Equal answers are one object, from which readers may derive what they like and keep it as long as it lives.
- At most ``HELD`` audits are in memory; a deleted one goes at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay_server.audit.findings import TestTable, ViewKind
from assay_server.errors import DataLoss
from assay_server.jobs.audits.files import AuditFiles
from assay_server.jobs.audits.rows import hypothesis_rows, raw_first, raw_rows
from assay_server.jobs.audits.snapshots import from_record
from assay_server.jobs.audits.types import (
    AuditInfo,
    AuditResult,
    DecisionInfo,
    LabelLookup,
    LabelText,
    MarkedDirection,
    NamedText,
)

HELD = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """What never changes of a finished audit.

    Attributes:
        fingerprint: of its tables.
        tables: by view.
        named: concepts and conditions of kept rows and of the first by raw effect, each with its features once.
        directions: by name, of the concepts that are one.
        names: what the dataset calls concepts and conditions.
    """

    fingerprint: str
    tables: Mapping[ViewKind, TestTable]
    named: tuple[tuple[str, tuple[int, ...]], ...]
    directions: Mapping[str, MarkedDirection]
    names: Mapping[str, NamedText]


@dataclass(slots=True, eq=False)
class _Held:
    stored: _Stored
    shown: tuple[Sequence[LabelText], Sequence[DecisionInfo], AuditResult] | None = None


class HeldResults:
    """The results of one data directory's audits. Confined to one event loop.

    Args:
        files: where they are.
        labels: what concepts and conditions are called now.
    """

    def __init__(self, files: AuditFiles, labels: LabelLookup) -> None:
        self._files = files
        self._labels = labels
        self._held: OrderedDict[str, _Held] = OrderedDict()

    async def get(self, audit: str) -> AuditResult:
        """Everything that an audit found, as it is labelled and decided now. Raises as ``AuditFiles.tables``."""
        info = await asyncio.to_thread(self._files.read, audit)
        held = self._held.get(audit)
        if held is None or held.stored.fingerprint != info.result_fingerprint:
            held = _Held(await asyncio.to_thread(_read, self._files, info))
            self._held[audit] = held
            while len(self._held) > HELD:
                self._held.popitem(last=False)
        if audit in self._held:
            self._held.move_to_end(audit)
        return await asyncio.to_thread(self._result, info, held)

    def drop(self, audit: str) -> None:
        """Forget an audit."""
        self._held.pop(audit, None)

    def _result(self, info: AuditInfo, held: _Held) -> AuditResult:
        stored, decisions = held.stored, self._files.decisions(info.name)
        labels = [self._labels(name, features) for name, features in stored.named]
        if held.shown is not None and held.shown[0] == labels and held.shown[1] == decisions and held.shown[2].info == info:
            return held.shown[2]
        called = dict(zip(stored.named, labels, strict=True))

        def label(name: str, features: Sequence[int]) -> LabelText:
            return called[name, tuple(features)]

        tables, keep = stored.tables, info.settings.statistics.keep
        rows = hypothesis_rows(info.name, tables, keep, label, decisions, stored.names)
        result = AuditResult(info, tables, rows, stored.directions, raw_rows(info.name, tables, label, stored.names))
        held.shown = labels, decisions, result
        return result


def _read(files: AuditFiles, info: AuditInfo) -> _Stored:
    tables, keep = files.tables(info.name), info.settings.statistics.keep
    named: dict[tuple[str, tuple[int, ...]], None] = {}
    for view, table in tables.items():
        shown = raw_first(table).tolist() if view is ViewKind.GLOBAL else []
        for things, places in ((table.concepts, table.concept), (table.conditions, table.condition)):
            kept = {*places[:keep].tolist(), *places[shown].tolist()}
            named |= dict.fromkeys((one.name, tuple(one.features)) for place, one in enumerate(things) if place in kept)
    return _Stored(info.result_fingerprint, tables, tuple(named), _directions(files, info.name), files.names(info.name))


def _directions(files: AuditFiles, audit: str) -> dict[str, MarkedDirection]:
    try:
        asked = from_record(files.read_concepts(audit))
    except DataLoss as error:  # what was found is whole all the same; only highlights are lost
        _log.error("directions cannot be highlighted: %s", error.message)
        return {}
    marked = zip(asked.vectors.vectors, asked.thresholds, strict=True)
    return {name: MarkedDirection(*mark) for name, mark in zip(asked.directions, marked, strict=True)}
