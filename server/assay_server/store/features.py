"""Pooled features of a dataset's pairs under one subject, shard by shard.

    features/{dataset}/{subject}/subject.json       what the subject's digest was taken over
    features/{dataset}/{subject}/00000.parquet      one row per pair of the dataset's shard 0, usable or not
    features/{dataset}/{subject}/00000.json         its digest and what it cost; written last: a shard without it is none
    features/{dataset}/{subject}/directions/{set}/00000.parquet, .json     scores along a set of directions
    features/{dataset}/{subject}/controls/{draw}/00000.parquet, .json      what a draw of pairs is held against (``controls``)

Columns: ``row``, ``prompt_id``, ``error`` ("" or why the pair cannot be scored); for each span (prompt, chosen, rejected)
``{span}_tokens``, and three lists of equal length: ``{span}_features`` (ids, ascending), ``{span}_max`` (largest activation),
``{span}_count`` (tokens on which it fires; frequency = count / tokens). Further columns, as older files hold, are not read.

Directions are kept by the set that was scored together, because the last bits of a score may depend on its neighbours in a matrix
product. Columns: ``row``, and for each direction, by the digest of its vector, ``chosen_{digest}`` and ``rejected_{digest}``.

Invariant: what is read has the digest that was written; a shard that does not is reported as missing, to be scored again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assay_server.errors import DataLoss
from assay_server.store.datasets import ShardEntry
from assay_server.store.files import Files, sha256
from assay_server.store.pairs import prompt_id, read_table, table_bytes
from assay_server.subject.types import Pair, Pooled, SpanName, SubjectInfo

FORMAT_VERSION = 1
SPANS = (SpanName.PROMPT, SpanName.CHOSEN, SpanName.REJECTED)
SIDES = (SpanName.CHOSEN, SpanName.REJECTED)


@dataclass(frozen=True, slots=True)
class ShardCost:
    """What scoring one shard cost."""

    tokens_read: int = 0
    tokens_shared: int = 0
    cache_hits: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class SpanColumns:
    """One span of a shard's pairs, compressed rows."""

    tokens: NDArray[np.int64]  # [pairs]; 0 for an unusable pair
    indptr: NDArray[np.int64]  # [pairs + 1]
    features: NDArray[np.int64]  # [nnz] ids, ascending within a pair
    max: NDArray[np.float32]  # [nnz]
    count: NDArray[np.int64]  # [nnz]


@dataclass(frozen=True, eq=False)
class FeatureShard:
    """A shard's pooled features; rows are those of the dataset's shard."""

    rows: NDArray[np.int64]  # [pairs]
    prompts: NDArray[np.int64]  # [pairs]
    usable: NDArray[np.bool_]  # [pairs]
    spans: Mapping[SpanName, SpanColumns]


@dataclass(frozen=True, eq=False)
class DirectionSet:
    """Directions that are scored together."""

    vectors: NDArray[np.float32]  # [directions, d_in]

    @property
    def digests(self) -> tuple[str, ...]:
        """What each direction's columns are named."""
        return tuple(_digest(vector) for vector in self.vectors)

    @property
    def digest(self) -> str:
        """What the set is kept under."""
        return _digest(self.vectors)


def subject_digest(info: SubjectInfo) -> str:
    """What features are kept under: equal for subjects that pool a pair alike."""
    return hashlib.sha256(json.dumps(_identity(info), sort_keys=True).encode()).hexdigest()[:24]


class Features:
    """The features of one dataset under one subject. Blocks: call it in a thread.

    Args:
        files: where they are.
        dataset: the dataset's id.
        info: the subject.
    """

    def __init__(self, files: Files, dataset: str, info: SubjectInfo) -> None:
        self._files = files
        self._info = info
        self.root = f"features/{dataset}/{subject_digest(info)}"

    def write(
        self, shard: int, entry: ShardEntry, pairs: Sequence[Pair], outcomes: Sequence[Pooled | str], cost: ShardCost
    ) -> None:
        """Store a shard.

        Args:
            shard: its number.
            entry: the dataset's shard.
            pairs: its pairs.
            outcomes: of each, pooled features with the prompt's, or the reason why there are none.
            cost: what it took.
        """
        if not self._files.exists(f"{self.root}/subject.json"):
            self._files.write_json(f"{self.root}/subject.json", _identity(self._info))
        columns: dict[str, Any] = {
            "row": pa.array(range(entry.start, entry.start + entry.pairs), pa.int64()),
            "prompt_id": pa.array([prompt_id(pair.prompt) for pair in pairs], pa.int64()),
            "error": pa.array([outcome if isinstance(outcome, str) else "" for outcome in outcomes], pa.string()),
        }
        for name in SPANS:
            columns |= _span_columns(name, outcomes)
        unusable = sum(isinstance(outcome, str) for outcome in outcomes)
        self._put(f"{self.root}/{shard:05d}", pa.table(columns), entry, {**asdict(cost), "unusable": unusable})

    def missing(self, entries: Sequence[ShardEntry]) -> list[int]:
        """The shards that have to be scored (again): not there, damaged, or of other pairs."""
        return [shard for shard, entry in enumerate(entries) if self._get(f"{self.root}/{shard:05d}", entry) is None]

    def summary(self, entries: Sequence[ShardEntry]) -> tuple[bool, int]:
        """Whether all shards seem to be stored, and how many pairs are unusable, by their records alone: a quick look."""
        unusable = 0
        for shard, entry in enumerate(entries):
            try:
                meta = self._files.read_json(f"{self.root}/{shard:05d}.json")
            except (FileNotFoundError, DataLoss):
                return False, 0
            if not _is_of(meta, entry):
                return False, 0
            unusable += int(meta["unusable"])
        return True, unusable

    def cost(self, shard: int) -> tuple[ShardCost, int]:
        """What a stored shard cost, and how many of its pairs are unusable. Raises FileNotFoundError, DataLoss."""
        meta = self._files.read_json(f"{self.root}/{shard:05d}.json")
        cost = ShardCost(meta["tokens_read"], meta["tokens_shared"], meta["cache_hits"], meta["seconds"])
        return cost, int(meta["unusable"])

    def read(self, shard: int, entry: ShardEntry) -> FeatureShard | None:
        """A shard; None where it is missing."""
        data = self._get(f"{self.root}/{shard:05d}", entry)
        if data is None:
            return None
        table = read_table(data)
        numbers = {name: table[name].to_numpy() for name in ("row", "prompt_id")}
        usable = np.array([not error for error in table["error"].to_pylist()], np.bool_)
        spans = {name: _read_span(table, name) for name in SPANS}
        return FeatureShard(numbers["row"], numbers["prompt_id"], usable, spans)

    def write_directions(
        self, directions: DirectionSet, shard: int, entry: ShardEntry, chosen: NDArray[np.float32], rejected: NDArray[np.float32]
    ) -> None:
        """Store scores max over tokens of <h, v> of a shard, each [pairs, directions]; an unusable pair's are 0."""
        columns: dict[str, Any] = {"row": pa.array(range(entry.start, entry.start + entry.pairs), pa.int64())}
        for index, digest in enumerate(directions.digests):
            columns |= {f"chosen_{digest}": pa.array(chosen[:, index]), f"rejected_{digest}": pa.array(rejected[:, index])}
        self._put(self._direction_path(directions, shard), pa.table(columns), entry, {})

    def missing_directions(self, directions: DirectionSet, entries: Sequence[ShardEntry]) -> list[int]:
        """The shards whose scores along these directions are not stored; none where there are no directions."""
        paths = [self._direction_path(directions, shard) for shard in range(len(entries))] if len(directions.vectors) else []
        return [shard for shard, path in enumerate(paths) if self._get(path, entries[shard]) is None]

    def put(self, path: str, shard: int, entry: ShardEntry, table: Any) -> None:
        """Store a further table of a shard under ``path``."""
        self._put(f"{self.root}/{path}/{shard:05d}", table, entry, {})

    def get(self, path: str, shard: int, entry: ShardEntry) -> Any | None:
        """A table that ``put`` stored; None where it is missing."""
        data = self._get(f"{self.root}/{path}/{shard:05d}", entry)
        return None if data is None else read_table(data)

    def prompts(self, shard: int, entry: ShardEntry) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | None:
        """Prompt id and usability of a shard's pairs, each [pairs]; None where the shard is missing."""
        data = self._get(f"{self.root}/{shard:05d}", entry)
        if data is None:
            return None
        table = read_table(data, ("prompt_id", "error"))
        return table["prompt_id"].to_numpy(), np.array([not error for error in table["error"].to_pylist()], np.bool_)

    def read_directions(
        self, directions: DirectionSet, shard: int, entry: ShardEntry
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Chosen and rejected scores of a shard, each [pairs, directions]; None where they are missing."""
        data = self._get(self._direction_path(directions, shard), entry)
        if data is None:
            return None
        table = read_table(data)
        chosen, rejected = [
            np.stack([table[f"{side.value}_{digest}"].to_numpy() for digest in directions.digests], axis=1) for side in SIDES
        ]
        return chosen, rejected

    def _direction_path(self, directions: DirectionSet, shard: int) -> str:
        return f"{self.root}/directions/{directions.digest}/{shard:05d}"

    def _put(self, path: str, table: Any, entry: ShardEntry, more: Mapping[str, Any]) -> None:
        data = table_bytes(table)
        self._files.write(f"{path}.parquet", data)
        meta = {"version": FORMAT_VERSION, "pairs_sha256": entry.sha256, "start": entry.start, "sha256_file": sha256(data)}
        self._files.write_json(f"{path}.json", {**meta, **more})

    def _get(self, path: str, entry: ShardEntry) -> bytes | None:
        try:
            meta = self._files.read_json(f"{path}.json")
            data = self._files.read(f"{path}.parquet")
        except (FileNotFoundError, DataLoss):
            return None
        return data if _is_of(meta, entry) and sha256(data) == meta["sha256_file"] else None


def delete_features(files: Files, dataset: str) -> None:
    """Delete a dataset's features under every subject."""
    files.delete_tree(f"features/{dataset}")


def _is_of(meta: Mapping[str, Any], entry: ShardEntry) -> bool:
    """Whether a file's record is of these pairs, in the form that is written now."""
    return (meta["version"], meta["start"], meta["pairs_sha256"]) == (FORMAT_VERSION, entry.start, entry.sha256)


def _identity(info: SubjectInfo) -> dict[str, Any]:
    return {
        "version": FORMAT_VERSION,
        "model_fingerprint": info.model_fingerprint,
        "sae_fingerprint": info.sae_fingerprint,
        "tokenizer_fingerprint": info.tokenizer_fingerprint,
        "template_fingerprint": info.template_fingerprint,
        "hook": info.hook,
        "dtype": info.dtype,
        "context_tokens": info.context_tokens,  # it decides which pairs are too long
    }


def _digest(vectors: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors, "<f4").tobytes()).hexdigest()[:24]


def _span_columns(name: SpanName, outcomes: Sequence[Pooled | str]) -> dict[str, Any]:
    spans = [None if isinstance(outcome, str) else outcome.spans.get(name) for outcome in outcomes]
    offsets = np.cumsum([0, *[0 if span is None else len(span.indices) for span in spans]]).astype(np.int32)
    there = [span for span in spans if span is not None]
    lists: tuple[tuple[str, Any, list[NDArray[Any]]], ...] = (
        ("features", np.uint32, [span.indices for span in there]),
        ("max", np.float32, [span.max for span in there]),
        ("count", np.uint32, [span.counts for span in there]),
    )
    columns: dict[str, Any] = {
        f"{name.value}_tokens": pa.array([0 if span is None else span.tokens for span in spans], pa.int32())
    }
    for kind, dtype, parts in lists:
        values = np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)
        columns[f"{name.value}_{kind}"] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
    return columns


def _read_span(table: Any, name: SpanName) -> SpanColumns:
    lists = {kind: table[f"{name.value}_{kind}"].combine_chunks() for kind in ("features", "max", "count")}
    flat = {kind: column.flatten().to_numpy(zero_copy_only=False) for kind, column in lists.items()}
    lengths = lists["features"].value_lengths().to_numpy(zero_copy_only=False)
    return SpanColumns(
        tokens=table[f"{name.value}_tokens"].to_numpy().astype(np.int64),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        features=flat["features"].astype(np.int64),
        max=flat["max"],
        count=flat["count"].astype(np.int64),
    )
