"""Stored plans.

    plans/{id}/rows.parquet           one row a usable pair: ``row``, ``digest``, and for each intervention N ``chosen_N``,
                                      ``rejected_N`` (its scores) and ``picked_N``
    plans/{id}/tensors.safetensors    "direction_N" [d_in], "basis_N" [d_in, k], "mean_N" [d_in], "decoder_N", "clamp_N"; the
                                      targets' "target_features_N", "target_weights_N", "target_direction_N"
    plans/{id}/plan.json              the plan, and the digests of the other two; written last: without it there is none

Read without us: JSON, Parquet, safetensors.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from assay_server.errors import DataLoss, NotFound
from assay_server.interventions.plans import CompiledPlan, Plan, PlanRows, PlanTensors, plan_record, read_plan
from assay_server.interventions.targets import Target
from assay_server.store.files import Files, damaged, sha256

PLAN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
VERSION = 1
_TENSORS = {"direction": "directions", "basis": "bases", "mean": "means", "decoder": "decoders", "clamp": "clamps"}

_log = logging.getLogger(__name__)


class PlanFiles:
    """The plans of one data directory. Blocks: call it in a thread."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def write(self, compiled: CompiledPlan) -> None:
        """Store a plan; it exists once ``plan.json`` does."""
        folder = _folder(compiled.plan.id)
        rows, tensors = _rows_bytes(compiled.rows), _tensor_bytes(compiled)
        self._files.write(f"{folder}/rows.parquet", rows)
        self._files.write(f"{folder}/tensors.safetensors", tensors)
        targets = [{"name": one.name, "label": one.label, "threshold": one.threshold} for one in compiled.targets]
        digests = {"rows_sha256": sha256(rows), "tensors_sha256": sha256(tensors)}
        self._write_head(compiled.plan, {"targets": targets, **digests})

    def rewrite(self, plan: Plan) -> None:
        """Store a plan's head again, for a curve that was measured later."""
        record = self._head(plan.id)
        self._write_head(plan, {key: record[key] for key in ("targets", "rows_sha256", "tensors_sha256")})

    def plan(self, id: str) -> Plan:
        """A plan without its rows and tensors. Raises NotFound, DataLoss."""
        return _plan(id, self._head(id))

    def read(self, id: str) -> CompiledPlan:
        """A plan with everything. Raises NotFound, DataLoss."""
        record, folder = self._head(id), _folder(id)
        plan = _plan(id, record)
        found: list[bytes] = []
        for name, digest in (("rows.parquet", "rows_sha256"), ("tensors.safetensors", "tensors_sha256")):
            try:
                data = self._files.read(f"{folder}/{name}")
            except FileNotFoundError as error:
                raise damaged(f"{folder}/{name}") from error
            if sha256(data) != record[digest]:
                raise damaged(f"{folder}/{name}")
            found.append(data)
        try:
            tensors = load(found[1])
        except SafetensorError as error:
            raise damaged(f"{folder}/tensors.safetensors") from error
        count = len(plan.interventions)
        targets = tuple(_target(record["targets"][number - 1], tensors, number) for number in range(1, count + 1))
        return CompiledPlan(plan, targets, _read_rows(found[0], count), _read_tensors(tensors))

    def ids(self) -> list[str]:
        """Ids of all plans."""
        return [id for id in self._files.names("plans") if self._files.exists(_head_path(id))]

    def all(self) -> list[Plan]:
        """Every plan without its rows and tensors; one that is damaged, or goes meanwhile, is left out."""
        found: list[Plan] = []
        for id in self.ids():
            try:
                found.append(self.plan(id))
            except NotFound:
                continue
            except DataLoss as error:
                _log.error("a plan is not listed: %s", error.message)
        return found

    def exists(self, id: str) -> bool:
        """Whether there is such a plan."""
        return bool(PLAN_ID.fullmatch(id)) and self._files.exists(_head_path(id))

    def delete(self, id: str) -> None:
        """Delete a plan: its head first, so that half a deletion leaves none. Raises NotFound."""
        if not self.exists(id):
            raise no_plan(id)
        self._files.delete(_head_path(id))
        self._files.delete_tree(_folder(id))

    def sweep(self) -> None:
        """Remove what killed writers left; call it while nothing is written."""
        for id in self._files.names("plans"):
            if not self._files.exists(_head_path(id)):
                self._files.delete_tree(_folder(id))

    def write_ranking(self, id: str, record: Mapping[str, Any]) -> None:
        """Store a ranking of inoculation prompts."""
        self._files.write_json(f"rankings/{id}.json", record)

    def rankings(self) -> list[str]:
        """Ids of stored rankings."""
        return [name.removesuffix(".json") for name in self._files.names("rankings")]

    def delete_rankings(self, ids: Sequence[str]) -> None:
        """Delete stored rankings."""
        for id in ids:
            self._files.delete(f"rankings/{id}.json")

    def ranking(self, id: str) -> dict[str, Any]:
        """A stored ranking. Raises NotFound, DataLoss."""
        try:
            return self._files.read_json(f"rankings/{id}.json")
        except (FileNotFoundError, ValueError) as error:
            raise NotFound(f"There is no ranking 'rankings/{id}'; ask for it again.") from error

    def _head(self, id: str) -> dict[str, Any]:
        if not PLAN_ID.fullmatch(id):
            raise no_plan(id)
        try:
            return self._files.read_json(_head_path(id))
        except FileNotFoundError as error:
            raise no_plan(id) from error

    def _write_head(self, plan: Plan, more: Mapping[str, Any]) -> None:
        self._files.write_json(_head_path(plan.id), {"version": VERSION, "plan": plan_record(plan), **more})


def no_plan(id: str) -> NotFound:
    """The refusal of a name that is no plan's."""
    return NotFound(f"There is no plan 'plans/{id}'; `assay plans` lists them.", field="name")


def _plan(id: str, record: Mapping[str, Any]) -> Plan:
    try:
        return read_plan(record["plan"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(_head_path(id)) from error


def _rows_bytes(rows: PlanRows) -> bytes:
    columns: dict[str, Any] = {"row": pa.array(rows.rows, pa.int64()), "digest": pa.array(rows.digests, pa.binary(16))}
    for number, (chosen, rejected, picked) in enumerate(zip(rows.chosen, rows.rejected, rows.picked, strict=True), start=1):
        columns |= {
            f"chosen_{number}": pa.array(chosen, pa.float64()),
            f"rejected_{number}": pa.array(rejected, pa.float64()),
            f"picked_{number}": pa.array(picked, pa.bool_()),
        }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def _read_rows(data: bytes, count: int) -> PlanRows:
    table = pq.read_table(io.BytesIO(data))
    numbers = range(1, count + 1)
    return PlanRows(
        rows=table["row"].to_numpy().astype(np.int64),
        digests=tuple(table["digest"].to_pylist()),
        chosen=tuple(table[f"chosen_{number}"].to_numpy() for number in numbers),
        rejected=tuple(table[f"rejected_{number}"].to_numpy() for number in numbers),
        picked=tuple(table[f"picked_{number}"].to_numpy(zero_copy_only=False) for number in numbers),
    )


def _tensor_bytes(compiled: CompiledPlan) -> bytes:
    tensors: dict[str, NDArray[Any]] = {}
    for name, field in _TENSORS.items():
        for number, value in getattr(compiled.tensors, field).items():
            tensors[f"{name}_{number}"] = np.ascontiguousarray(value, np.float32)
    for number, target in enumerate(compiled.targets, start=1):
        tensors[f"target_features_{number}"] = np.ascontiguousarray(target.features, np.int64)
        tensors[f"target_weights_{number}"] = np.ascontiguousarray(target.weights, np.float64)
        if target.direction is not None:
            tensors[f"target_direction_{number}"] = np.ascontiguousarray(target.direction, np.float64)
    return save(tensors)


def _read_tensors(tensors: Mapping[str, NDArray[Any]]) -> PlanTensors:
    fields: dict[str, dict[int, NDArray[np.float32]]] = {field: {} for field in _TENSORS.values()}
    for key, value in tensors.items():
        name, _, number = key.rpartition("_")
        if name in _TENSORS:
            fields[_TENSORS[name]][int(number)] = value
    return PlanTensors(**fields)


def _target(about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], number: int) -> Target:
    return Target(
        name=about["name"],
        label=about["label"],
        features=tensors[f"target_features_{number}"],
        weights=tensors[f"target_weights_{number}"],
        direction=tensors.get(f"target_direction_{number}"),
        threshold=about["threshold"],
    )


def _folder(id: str) -> str:
    return f"plans/{id}"


def _head_path(id: str) -> str:
    return f"plans/{id}/plan.json"
