"""Audits as files: request, result and decisions.

    audits/{id}/audit.json                     request and state; once done, summaries and digests of the tables
    audits/{id}/concepts.json                  the concepts as of the request
    audits/{id}/scored.json                    the shards that it scored, for its cost
    audits/{id}/{view}.parquet                 one row per test, see ``jobs.audits.tables``
    audits/{id}/{view}-conditions.parquet      one row per condition
    audits/{id}/decisions/{number}-{id}.json   decisions, in order

Invariant: an audit that is DONE has all its tables, complete; damage is reported when a table is read.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from assay_server.audit.findings import AuditOptions, TestTable, ViewKind
from assay_server.errors import DataLoss, FailedPrecondition, NotFound
from assay_server.jobs.audits.tables import TableHead, exported, from_parquet, head_of, to_parquet
from assay_server.jobs.audits.types import AuditInfo, AuditState, DecisionInfo, LabelLookup, NamedText
from assay_server.store.files import Files, damaged, sha256
from assay_server.store.records import read_record

_log = logging.getLogger(__name__)


class AuditFiles:
    """The audits of one data directory. Blocks: call it in a thread."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def write(self, info: AuditInfo) -> None:
        """Store an audit without tables; see ``finish`` for a finished one."""
        self._files.write_json(_record(info.name), {**asdict(info), "tables": {}})

    def finish(self, info: AuditInfo, tables: Mapping[ViewKind, TestTable], names: Mapping[str, NamedText] | None = None) -> None:
        """Store a finished audit: its tables and names first, then the record."""
        self._files.write_json(f"{info.name}/names.json", {own: asdict(one) for own, one in (names or {}).items()})
        heads: dict[str, Any] = {}
        for view, table in tables.items():
            rows, conditions = to_parquet(table)
            self._files.write(_table(info.name, view), rows)
            self._files.write(_conditions(info.name, view), conditions)
            head = asdict(head_of(table, info.settings.statistics.keep))
            heads[view.value] = {**head, "sha256": sha256(rows), "conditions_sha256": sha256(conditions)}
        self._files.write_json(_record(info.name), {**asdict(info), "tables": heads})

    def read(self, name: str) -> AuditInfo:
        """One audit. Raises NotFound, DataLoss."""
        return _read_info(self._raw(name))

    def all(self) -> list[AuditInfo]:
        """Every readable audit, newest first."""
        found: list[AuditInfo] = []
        for id in self._files.names("audits"):
            try:
                found.append(self.read(f"audits/{id}"))
            except (NotFound, DataLoss):
                continue
        return sorted(found, key=lambda info: (info.created, info.name), reverse=True)

    def heads(self, name: str) -> dict[ViewKind, TableHead]:
        """Heads of a finished audit's tables. Raises as ``tables``."""
        return {view: head for view, (head, _, _) in self._heads(name).items()}

    def tables(self, name: str) -> dict[ViewKind, TestTable]:
        """A finished audit's tables.

        Raises:
            NotFound: there is no such audit.
            FailedPrecondition: NOT_DONE, AUDIT_FAILED.
            DataLoss: a file is damaged.
        """
        heads = self._heads(name)
        return {
            view: from_parquet(self._checked(_table(name, view), rows), self._checked(_conditions(name, view), conditions), head)
            for view, (head, rows, conditions) in heads.items()
        }

    def parquet(self, name: str, labels: LabelLookup, named: Mapping[str, NamedText] | None = None) -> bytes:
        """All views as one Parquet file, concepts with their labels and names, as ``exported``. Raises as ``tables``."""
        tables = [self._checked(_table(name, view), rows) for view, (_, rows, _) in self._heads(name).items()]
        return exported(tables, labels, named)

    def names(self, name: str) -> dict[str, NamedText]:
        """What the dataset calls an audit's concepts and conditions; none where that is not known."""
        try:
            return {own: read_record(NamedText, one) for own, one in self._files.read_json(f"{name}/names.json").items()}
        except (FileNotFoundError, DataLoss):
            return {}

    def write_concepts(self, name: str, record: Mapping[str, Any]) -> None:
        """Store the concepts of an audit as they are now."""
        self._files.write_json(f"{name}/concepts.json", record)

    def read_concepts(self, name: str) -> dict[str, Any]:
        """What ``write_concepts`` stored. Raises DataLoss."""
        try:
            return self._files.read_json(f"{name}/concepts.json")
        except FileNotFoundError as error:
            raise damaged(f"{name}/concepts.json") from error

    def scored_shards(self, name: str, missing: Sequence[int]) -> list[int]:
        """Add ``missing`` to the shards that the audit scored, across restarts, and return them all."""
        path = f"{name}/scored.json"
        try:
            before = [int(shard) for shard in self._files.read_json(path)["shards"]]
        except (FileNotFoundError, DataLoss):
            before = []
        shards = sorted({*before, *missing})
        if shards != before:
            self._files.write_json(path, {"shards": shards})
        return shards

    def delete(self, name: str) -> None:
        """Delete an audit with its tables and decisions: the record first."""
        self._files.delete(_record(name))
        self._files.delete_tree(name)

    def sweep(self) -> None:
        """Remove what an interrupted deletion left; call it while nothing is written."""
        for id in self._files.names("audits"):
            if not self._files.exists(_record(f"audits/{id}")):
                self._files.delete_tree(f"audits/{id}")

    def write_decision(self, decision: DecisionInfo) -> None:
        """Append a decision; one call at a time."""
        audit, _, id = decision.name.partition("/decisions/")
        number = len(self._files.names(f"{audit}/decisions"))
        self._files.write_json(f"{audit}/decisions/{number:06d}-{id}.json", asdict(decision))

    def decisions(self, name: str) -> list[DecisionInfo]:
        """An audit's decisions, oldest first; damaged ones are left out and logged."""
        found: list[DecisionInfo] = []
        for file in self._files.names(f"{name}/decisions"):
            try:
                record = self._files.read_json(f"{name}/decisions/{file}")
            except DataLoss as error:
                _log.error("a decision is lost: %s", error.message)
                continue
            found.append(read_record(DecisionInfo, record))
        return found

    def _raw(self, name: str) -> dict[str, Any]:
        try:
            return self._files.read_json(_record(name))
        except (FileNotFoundError, ValueError) as error:
            raise NotFound(f"There is no audit {name!r}; `assay audits` lists those there are.", field="name") from error

    def _heads(self, name: str) -> dict[ViewKind, tuple[TableHead, str, str]]:
        raw = self._raw(name)
        state = AuditState(raw["state"])
        if state is AuditState.RUNNING:
            raise FailedPrecondition(f"{name} is not done yet; wait for its operation.", reason="NOT_DONE", field="name")
        if state is not AuditState.DONE:
            raise FailedPrecondition(
                f"{name} ended without a result ({state.value}). {raw['error']}".strip(), reason="AUDIT_FAILED", field="name"
            )
        heads: dict[ViewKind, tuple[TableHead, str, str]] = {}
        for view in ViewKind:
            if view.value in raw["tables"]:
                record: dict[str, Any] = dict(raw["tables"][view.value])
                digests = record.pop("sha256"), record.pop("conditions_sha256")
                record["view"] = view
                heads[view] = (read_record(TableHead, record), *digests)
        return heads

    def _checked(self, path: str, digest: str) -> bytes:
        try:
            data = self._files.read(path)
        except FileNotFoundError as error:
            raise damaged(path) from error
        if sha256(data) != digest:
            raise damaged(path)
        return data


def _read_info(raw: Mapping[str, Any]) -> AuditInfo:
    record, settings = {field.name: raw[field.name] for field in fields(AuditInfo) if field.name in raw}, raw["settings"]
    known = {field.name for field in fields(AuditOptions)}  # older files hold others too
    told = {"local": False, **settings["statistics"]}  # an option that older audits did not have
    statistics = {name: value for name, value in told.items() if name in known}
    return read_record(AuditInfo, {**record, "settings": {**settings, "statistics": statistics}})


def _record(name: str) -> str:
    return f"{name}/audit.json"


def _table(name: str, view: ViewKind) -> str:
    return f"{name}/{view.value}.parquet"


def _conditions(name: str, view: ViewKind) -> str:
    return f"{name}/{view.value}-conditions.parquet"
