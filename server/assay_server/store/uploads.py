"""Uploads before they become datasets: each batch is a file, durable before it is acknowledged.

    uploads/{request_id}/upload.json                       who it is, when it began, and the dataset once it is complete
    uploads/{request_id}/{sequence}-{pairs}-{bytes}-{digest}.parquet   one batch: its pairs, its bytes as it was sent, and the
                                                                       digest of the file's bytes

Invariants:
- The position is what the folder shows: batches 0..n−1 without a gap, none damaged. Nothing else remembers it.
- A batch whose bytes do not have the digest in its name is as if it had not come, and so is everything after it.
- A complete upload keeps its head, so that sending it again gives the same dataset; its batches go.
"""

from __future__ import annotations

import re
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from assay_server.errors import DataLoss, FailedPrecondition, InvalidItem, NotFound
from assay_server.store.files import Files, sha256
from assay_server.store.pairs import canonical, from_parquet, to_parquet
from assay_server.subject.types import Pair

_BATCH = re.compile(r"(\d{8})-(\d+)-(\d+)-([0-9a-f]{16})\.parquet")


@dataclass(frozen=True, slots=True)
class Upload:
    """The head of an upload; ``dataset`` is its id once it is complete, "" before."""

    display_name: str
    created: float
    dataset: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """Batches 0 to ``next_sequence`` − 1, with ``pairs`` pairs, are stored; they were sent as ``sent_bytes`` bytes."""

    next_sequence: int
    pairs: int
    sent_bytes: int


class _Batch(NamedTuple):
    """What a batch's file name says."""

    name: str
    pairs: int
    sent_bytes: int
    digest: str


class Uploads:
    """The uploads of one data directory. Blocks: call it in a thread, and for one upload from one caller at a time.

    Args:
        files: where they are.
        max_pairs: pairs of one upload.
    """

    def __init__(self, files: Files, max_pairs: int) -> None:
        self._files = files
        self._max_pairs = max_pairs

    def begin(self, request_id: str, display_name: str) -> tuple[Upload, Position]:
        """Open an upload, or find it again; of two display names the first one stays."""
        try:
            return self.get(request_id)
        except NotFound:
            self._files.write_json(_head(request_id), asdict(Upload(display_name, time.time())))
            return self.get(request_id)

    def get(self, request_id: str) -> tuple[Upload, Position]:
        """An upload, and where it stands; damaged batches are removed. Raises NotFound."""
        try:
            upload = Upload(**self._files.read_json(_head(request_id)))
        except (FileNotFoundError, DataLoss) as error:  # a damaged head is written anew, and finds its batches
            raise NotFound(f"There is no upload {request_id!r}; begin it.", field="request_id") from error
        if upload.dataset:
            return upload, Position(0, 0, 0)
        batches = self._batches(request_id)
        whole = 0
        while whole in batches and self._is_whole(request_id, batches[whole]):
            whole += 1
        for sequence in [sequence for sequence in batches if sequence >= whole]:
            self._files.delete(_batch(request_id, batches[sequence].name))
        kept = [batches[sequence] for sequence in range(whole)]
        return upload, Position(whole, sum(batch.pairs for batch in kept), sum(batch.sent_bytes for batch in kept))

    def append(self, request_id: str, position: Position, sequence: int, pairs: Sequence[Pair], sent_bytes: int) -> Position:
        """Store a batch; durable on return.

        Args:
            request_id: of an upload that is open.
            position: where it stands.
            sequence: the batch's.
            pairs: its pairs.
            sent_bytes: bytes that it was sent as.

        Raises:
            FailedPrecondition: SEQUENCE_GAP.
            InvalidItem: INVALID_TEXT with the pair's path; DATASET_TOO_LARGE.
        """
        if sequence < position.next_sequence:
            return position
        if sequence > position.next_sequence:
            raise FailedPrecondition(
                f"Batch {sequence} came where {position.next_sequence} is next; send that one.",
                reason="SEQUENCE_GAP",
                field="batch.sequence",
                details={"sequence": sequence, "expected": position.next_sequence},
            )
        total = position.pairs + len(pairs)
        if total > self._max_pairs:
            raise InvalidItem(
                f"The upload would hold {total} pairs; max_dataset_pairs is {self._max_pairs}. Split it.",
                reason="DATASET_TOO_LARGE",
                field="batch.pairs",
                details={"pairs": total, "max_dataset_pairs": self._max_pairs},
            )
        _check_texts(pairs)
        data = to_parquet(pairs)
        self._files.write(_batch(request_id, f"{sequence:08d}-{len(pairs)}-{sent_bytes}-{sha256(data)[:16]}.parquet"), data)
        return Position(sequence + 1, total, position.sent_bytes + sent_bytes)

    def pairs(self, request_id: str, position: Position) -> Iterator[list[Pair]]:
        """The stored pairs, batch by batch. Raises FailedPrecondition (UPLOAD_DAMAGED) where a batch was lost meanwhile."""
        batches = self._batches(request_id)
        for sequence in range(position.next_sequence):
            data = self._read(request_id, batches[sequence]) if sequence in batches else None
            if data is None:
                raise FailedPrecondition(
                    f"Batch {sequence} of the upload is damaged. Send the upload again: it resumes where it is whole.",
                    reason="UPLOAD_DAMAGED",
                    details={"sequence": sequence},
                )
            yield from_parquet(data)

    def complete(self, request_id: str, upload: Upload, dataset: str) -> None:
        """The upload has become a dataset: remember which, and drop the batches."""
        self._files.write_json(_head(request_id), asdict(Upload(upload.display_name, upload.created, dataset)))
        self._drop_batches(request_id)

    def reopen(self, request_id: str, upload: Upload) -> None:
        """Its dataset was deleted: it begins again from nothing."""
        self._drop_batches(request_id)
        self._files.write_json(_head(request_id), asdict(Upload(upload.display_name, time.time())))

    def expire(self, max_age_seconds: float, keep: Container[str] = ()) -> list[str]:
        """Remove uploads, complete or not, whose head is older than that, but for those to keep. Returns their ids."""
        gone: list[str] = []
        for request_id in self._files.names("uploads"):
            if request_id in keep:
                continue
            try:
                created = float(self._files.read_json(_head(request_id))["created"])
            except (FileNotFoundError, DataLoss):
                created = 0.0
            if time.time() - created > max_age_seconds:
                self._files.delete_tree(f"uploads/{request_id}")
                gone.append(request_id)
        return gone

    def _drop_batches(self, request_id: str) -> None:
        for batch in self._batches(request_id).values():
            self._files.delete(_batch(request_id, batch.name))

    def _batches(self, request_id: str) -> dict[int, _Batch]:
        """The batches that are there, by sequence."""
        found = [(name, _BATCH.fullmatch(name)) for name in self._files.names(f"uploads/{request_id}")]
        return {int(match[1]): _Batch(name, int(match[2]), int(match[3]), match[4]) for name, match in found if match}

    def _is_whole(self, request_id: str, batch: _Batch) -> bool:
        return self._read(request_id, batch) is not None

    def _read(self, request_id: str, batch: _Batch) -> bytes | None:
        try:
            data = self._files.read(_batch(request_id, batch.name))
        except FileNotFoundError:
            return None
        return data if sha256(data)[:16] == batch.digest else None


def _check_texts(pairs: Sequence[Pair]) -> None:
    for index, pair in enumerate(pairs):
        try:
            canonical(pair)
        except InvalidItem as error:
            raise InvalidItem(error.message, reason=error.reason, field=f"batch.pairs[{index}]") from error


def _head(request_id: str) -> str:
    return f"uploads/{request_id}/upload.json"


def _batch(request_id: str, name: str) -> str:
    return f"uploads/{request_id}/{name}"
