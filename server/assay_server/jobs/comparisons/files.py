"""Comparisons of rollouts as files.

    comparisons/{id}/request.json       the request, and the concepts at that time
    comparisons/{id}/shifts.parquet     one row a concept, by observed shift over its noise, largest first
    comparisons/{id}/comparison.json    figures, conclusions, and the digest of the table; written last: without it there is none

A comparison has no name in the contract but its operation's: where that is gone, it goes at the next start.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay_server.audit.comparison.agreement import Estimate
from assay_server.audit.comparison.run import Comparison
from assay_server.errors import NotFound
from assay_server.jobs.audits.types import ConceptRow, LabelLookup
from assay_server.jobs.comparisons.types import PLOTTED, ComparisonHead, ComparisonRequest, ComparisonResult, ShiftRow
from assay_server.store.files import Files, damaged, sha256
from assay_server.store.records import read_record
from assay_server.subject.identity import SubjectRef

VERSION = 1
NAMED_FEATURES = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """A comparison's request, its subject, and its concepts (``snapshots.to_record``)."""

    request: ComparisonRequest
    subject: SubjectRef
    concepts: Mapping[str, Any]
    plan_fingerprint: str
    created: float


class ComparisonFiles:
    """The comparisons of one data directory. Blocks: call it in a thread."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def write_request(self, name: str, asked: Asked) -> None:
        """Keep what is asked, before its operation is."""
        self._files.write_json(f"{name}/request.json", {"version": VERSION, **asdict(asked)})

    def request(self, name: str) -> Asked:
        """What ``write_request`` kept. Raises DataLoss."""
        try:
            raw = self._files.read_json(f"{name}/request.json")
        except FileNotFoundError as error:
            raise damaged(f"{name}/request.json") from error
        return read_record(Asked, {one.name: raw[one.name] for one in fields(Asked)})

    def finish(self, head: ComparisonHead, compared: Comparison, features: Mapping[str, tuple[int, ...]]) -> None:
        """Store a finished comparison.

        Args:
            head: its figures.
            compared: its shifts.
            features: of each concept that has any, by name.
        """
        table = _table_bytes(compared, features)
        self._files.write(f"{head.name}/shifts.parquet", table)
        self._files.write_json(_head(head.name), {"version": VERSION, **asdict(head), "shifts_sha256": sha256(table)})

    def exists(self, name: str) -> bool:
        """Whether there is such a finished comparison."""
        return self._files.exists(_head(name))

    def read(self, name: str, labels: LabelLookup, *, brief: bool = False) -> ComparisonResult:
        """A finished comparison, with labels looked up; its head alone where it is to be brief. Raises NotFound, DataLoss."""
        try:
            raw = self._files.read_json(_head(name))
        except (FileNotFoundError, ValueError) as error:
            raise NotFound(f"There is no comparison {name!r}; ask for it again.", field="name") from error
        head = _read_head(raw)
        if brief:
            return ComparisonResult(head)
        path = f"{name}/shifts.parquet"
        try:
            data = self._files.read(path)
        except FileNotFoundError as error:
            raise damaged(path) from error
        if sha256(data) != raw["shifts_sha256"]:
            raise damaged(path)
        return _result(head, data, labels)

    def delete(self, name: str) -> None:
        """Delete a comparison, finished or not: the head first."""
        self._files.delete(_head(name))
        self._files.delete_tree(name)

    def sweep(self, known: Collection[str]) -> None:
        """Remove comparisons without an operation; call it while nothing is written."""
        for id in self._files.names("comparisons"):
            if f"comparisons/{id}" not in known:
                self.delete(f"comparisons/{id}")


def _head(name: str) -> str:
    return f"{name}/comparison.json"


def _table_bytes(compared: Comparison, features: Mapping[str, tuple[int, ...]]) -> bytes:
    order = compared.order
    names = [compared.names[at] for at in order]
    members = [features.get(name, ()) for name in names]
    numbers: dict[str, Any] = {
        "predicted": compared.predicted.mean,
        "predicted_error": compared.predicted.error,
        "observed": compared.observed.mean,
        "observed_low": compared.low,
        "observed_high": compared.high,
        "observed_error": compared.observed.error,
        "noise": compared.noise.mean,
        "noise_error": compared.noise.error,
        "difference_error": compared.difference_error,
        "training_telling": compared.predicted.telling,
        "rollouts_telling": compared.observed.telling,
        "retained": compared.is_retained,
        "clears_noise": compared.clears_noise,
    }
    if compared.gap is not None:
        numbers["gap"] = compared.gap
    columns: dict[str, Any] = {
        "concept": pa.array(names, pa.string()),
        "concept_features": pa.array([list(ids[:NAMED_FEATURES]) for ids in members], pa.list_(pa.int32())),
        "concept_size": pa.array([len(ids) for ids in members], pa.int32()),
        **{name: pa.array(np.asarray(values)[order]) for name, values in numbers.items()},
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _result(head: ComparisonHead, data: bytes, labels: LabelLookup) -> ComparisonResult:
    """Of the rows only those that are shown: there may be one for each feature."""
    table: Any = pq.read_table(io.BytesIO(data), use_threads=False)
    retained = np.flatnonzero(table["retained"].to_numpy(zero_copy_only=False))
    errors = table["difference_error"].to_numpy()[retained]
    return ComparisonResult(
        head,
        shifts=_rows(table.slice(0, head.options.keep), labels),
        plotted=_rows(table.take(pa.array(retained[:PLOTTED])), labels),
        noise_error=float(np.median(errors)) if len(errors) else 0.0,
    )


def _rows(table: Any, labels: LabelLookup) -> tuple[ShiftRow, ...]:
    columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in table.column_names}
    found: list[ShiftRow] = []
    for at, name in enumerate(columns["concept"]):
        features = tuple(columns["concept_features"][at])
        found.append(
            ShiftRow(
                concept=ConceptRow(name, features, columns["concept_size"][at], labels(name, features)),
                observed=Estimate(columns["observed"][at], columns["observed_low"][at], columns["observed_high"][at]),
                **{
                    field: columns[field][at]
                    for field in ("predicted", "predicted_error", "noise", "noise_error", "difference_error")
                },
                retained=columns["retained"][at],
                clears_noise=columns["clears_noise"][at],
                gap=None if "gap" not in columns or np.isnan(columns["gap"][at]) else columns["gap"][at],
            )
        )
    return tuple(found)


def _read_head(raw: Mapping[str, Any]) -> ComparisonHead:
    return read_record(ComparisonHead, {one.name: raw[one.name] for one in fields(ComparisonHead)})
