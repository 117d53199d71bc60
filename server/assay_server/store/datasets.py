"""Stored datasets: their pairs in shards of a fixed size, and a manifest that is written last.

    datasets/{id}/dataset.json          manifest: fingerprint, counts, one entry per shard with its rows and SHA-256
    datasets/{id}/pairs-00000.parquet   one row per pair, see ``store.pairs``

The id is the start of the fingerprint, so equal pairs are one dataset, and two writers of it write the same bytes.

Invariants:
- A dataset exists once its manifest does; shards without one are an unfinished writer's.
- A shard is handed out only where its bytes have the manifest's digest.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from assay_server.errors import DataLoss, FailedPrecondition, InvalidItem, NotFound
from assay_server.store.files import Files, damaged, sha256
from assay_server.store.pairs import canonical, from_parquet, prompt_id, read_table, to_parquet
from assay_server.store.records import read_record
from assay_server.subject.types import Pair

MAX_METADATA_KEYS = 64
ID_DIGITS = 24

Pairs = Callable[[], Iterable[list[Pair]]]
"""Chunks of pairs in order, as often as asked."""


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard of a dataset: its first row, its pairs, and the digest of its file."""

    start: int
    pairs: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A stored dataset's manifest."""

    id: str
    display_name: str
    fingerprint: str
    pairs: int
    prompts: int
    metadata_keys: tuple[str, ...]
    created: float
    shards: tuple[ShardEntry, ...]


class Datasets:
    """The datasets of one data directory. Blocks: call it in a thread.

    Args:
        files: where they are.
        shard_pairs: pairs of a shard.
    """

    def __init__(self, files: Files, shard_pairs: int) -> None:
        self._files = files
        self._shard_pairs = shard_pairs
        self._writing = threading.Lock()  # one at a time: of equal uploads at once the first one gives the name

    def write(self, pairs: Pairs, display_name: str, *, check: Callable[[], None] = lambda: None) -> Dataset:
        """Store pairs, or find the dataset that they are already; one that is damaged is written again.

        Args:
            pairs: read twice.
            display_name: for a new dataset.
            check: called between shards; may raise to stop.

        Raises:
            InvalidItem: EMPTY_DATASET.
            FailedPrecondition: SOURCE_CHANGED: the second reading gave other pairs than the first.
        """
        fingerprint, count = self._fingerprint(pairs, check)
        if count == 0:
            raise InvalidItem("The dataset holds no pair; send at least one.", reason="EMPTY_DATASET")
        id = fingerprint[:ID_DIGITS]
        with self._writing:
            known = self._intact(id)
            if known is not None:
                return known
            dataset = self._write(id, fingerprint, pairs, display_name, check)
            self._files.write_json(_manifest(id), asdict(dataset))
        return dataset

    def get(self, id: str) -> Dataset:
        """One dataset. Raises NotFound, DataLoss."""
        try:
            raw = self._files.read_json(_manifest(id))
        except (FileNotFoundError, ValueError) as error:
            raise NotFound(f"There is no dataset 'datasets/{id}'; `assay datasets` lists them.") from error
        return read_record(Dataset, raw)

    def ids(self) -> list[str]:
        """Ids of all datasets."""
        return [id for id in self._files.names("datasets") if self._files.exists(_manifest(id))]

    def read(self, dataset: Dataset, shard: int) -> list[Pair]:
        """The pairs of a shard. Raises DataLoss where its file is damaged or gone."""
        return from_parquet(self.bytes(dataset, shard))

    def columns(self, dataset: Dataset, shard: int, columns: tuple[str, ...]) -> Any:
        """Some columns of a shard as an Arrow table. Raises DataLoss."""
        return read_table(self.bytes(dataset, shard), columns)

    def chunks(self, dataset: Dataset, start: int = 0) -> Iterator[tuple[int, list[Pair]]]:
        """All pairs from a row on, shard by shard, each with the row of its first pair. Raises DataLoss."""
        for index, entry in enumerate(dataset.shards):
            if entry.start + entry.pairs > start:
                skip = max(0, start - entry.start)
                yield entry.start + skip, self.read(dataset, index)[skip:]

    def pairs_at(self, dataset: Dataset, rows: Iterable[int]) -> dict[int, Pair]:
        """The pairs of some rows. Raises DataLoss; a row outside the dataset is left out."""
        wanted = set(rows)
        found: dict[int, Pair] = {}
        for index, entry in enumerate(dataset.shards):
            here = [row for row in wanted if entry.start <= row < entry.start + entry.pairs]
            if here:
                pairs = self.read(dataset, index)
                found.update({row: pairs[row - entry.start] for row in here})
        return found

    def delete(self, id: str) -> None:
        """Delete a dataset: the manifest first, so that half a deletion leaves no dataset."""
        with self._writing:
            self._files.delete(_manifest(id))
            self._files.delete_tree(f"datasets/{id}")

    def sweep(self) -> None:
        """Remove what writers and deletions that were killed left; call it while no one writes."""
        for id in self._files.names("datasets"):
            if not self._files.exists(_manifest(id)):
                self._files.delete_tree(f"datasets/{id}")

    def _fingerprint(self, pairs: Pairs, check: Callable[[], None]) -> tuple[str, int]:
        digest, count = hashlib.sha256(), 0
        for chunk in pairs():
            check()
            count += len(chunk)
            for pair in chunk:
                digest.update(canonical(pair))
        return digest.hexdigest(), count

    def _intact(self, id: str) -> Dataset | None:
        try:
            dataset = self.get(id)
            for shard in range(len(dataset.shards)):
                self.bytes(dataset, shard)
        except (NotFound, DataLoss):
            return None
        return dataset

    def _write(self, id: str, fingerprint: str, pairs: Pairs, display_name: str, check: Callable[[], None]) -> Dataset:
        shards: list[ShardEntry] = []
        prompts: set[int] = set()
        keys: set[str] = set()
        digest, start = hashlib.sha256(), 0
        for shard in _rechunk(pairs(), self._shard_pairs):
            check()
            for pair in shard:
                digest.update(canonical(pair))
            data = to_parquet(shard)
            self._files.write(_shard(id, len(shards)), data)
            shards.append(ShardEntry(start, len(shard), sha256(data)))
            start += len(shard)
            prompts.update(prompt_id(pair.prompt) for pair in shard)
            keys.update(key for pair in shard for key in pair.metadata)
        if digest.hexdigest() != fingerprint:
            raise FailedPrecondition(
                "The pairs changed while they were read. Import the file again, and leave it alone meanwhile.",
                reason="SOURCE_CHANGED",
                details={"pairs": start},
            )
        few = tuple(sorted(keys)[:MAX_METADATA_KEYS])
        return Dataset(id, display_name, fingerprint, start, len(prompts), few, time.time(), tuple(shards))

    def bytes(self, dataset: Dataset, shard: int) -> bytes:
        """The file of a shard. Raises DataLoss where it is damaged or gone."""
        path = _shard(dataset.id, shard)
        try:
            data = self._files.read(path)
        except FileNotFoundError as error:
            raise damaged(path) from error
        if sha256(data) != dataset.shards[shard].sha256:
            raise damaged(path)
        return data


def _rechunk(chunks: Iterable[list[Pair]], size: int) -> Iterator[list[Pair]]:
    held: list[Pair] = []
    for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held


def _manifest(id: str) -> str:
    return f"datasets/{id}/dataset.json"


def _shard(id: str, index: int) -> str:
    return f"datasets/{id}/pairs-{index:05d}.parquet"
