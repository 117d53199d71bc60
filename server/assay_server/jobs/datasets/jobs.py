"""Datasets: uploads that survive, deletion that asks first. How files are imported is in ``run``.

Invariants:
- What an upload acknowledged or counts is on disk.
- An upload is complete once its sender said how many pairs it has, and so many are stored.
- Of one upload one call writes at a time; calls of different uploads do not wait for each other.
- Completing an upload twice, or two uploads of equal pairs, give one dataset.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from assay_server.errors import DataLoss, FailedPrecondition, InvalidItem, NotFound
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.run import Imports
from assay_server.jobs.datasets.types import DatasetInfo, UploadPosition
from assay_server.jobs.operations.jobs import Operations, check_request_id
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.features import Features, delete_features
from assay_server.store.files import Files
from assay_server.store.texts import delete_texts
from assay_server.store.uploads import Position, Upload, Uploads
from assay_server.subject.types import Pair, SubjectInfo

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Open:
    """An unfinished upload, as this process knows it."""

    upload: Upload
    position: Position
    touched: float = field(default_factory=time.monotonic)

    def stands(self) -> UploadPosition:
        return UploadPosition(self.position.next_sequence, self.position.pairs, sent_bytes=self.position.sent_bytes)


class DatasetJobs:
    """The datasets of one data directory. Confined to one event loop.

    Args:
        files: the data directory's.
        datasets: those in it.
        uploads: those in it.
        reader: finds and reads datasets.
        imports: of files.
        operations: work that may use a dataset.
        info: the loaded subject.
        upload_max_age_seconds: age at which an upload, complete or not, is forgotten.

    Attributes:
        imports: of files.
    """

    def __init__(
        self,
        files: Files,
        datasets: Datasets,
        uploads: Uploads,
        reader: DatasetReader,
        imports: Imports,
        operations: Operations,
        info: SubjectInfo,
        upload_max_age_seconds: float = 7 * 86_400.0,
    ) -> None:
        self.imports = imports
        self._files = files
        self._datasets = datasets
        self._uploads = uploads
        self._operations = operations
        self._info = info
        self._reader = reader
        self._max_age_seconds = upload_max_age_seconds
        self._open: dict[str, _Open] = {}
        self._guards: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    async def start(self) -> None:
        """Remove what a killed process left, and old uploads; before the operations start."""
        await asyncio.to_thread(self._datasets.sweep)
        await self.expire(self._max_age_seconds)

    # Uploads

    async def begin(self, request_id: str, display_name: str) -> UploadPosition:
        """Open an upload, or take one up again; old ones go. ``dataset`` is set where it is complete already."""
        await self.expire(self._max_age_seconds)
        _require_request_id(request_id)
        async with self._guarded(request_id):
            upload, position = await asyncio.to_thread(self._uploads.begin, request_id, display_name)
            if upload.dataset:
                if (known := await self._known(upload.dataset)) is not None:
                    return UploadPosition(0, known.pairs, known)
                await asyncio.to_thread(self._uploads.reopen, request_id, upload)
                upload, position = await asyncio.to_thread(self._uploads.get, request_id)
            self._open[request_id] = _Open(upload, position)
            return self._open[request_id].stands()

    async def append(self, request_id: str, sequence: int, pairs: Sequence[Pair], sent_bytes: int) -> UploadPosition:
        """Store one batch, sent as ``sent_bytes`` bytes; durable on return. A batch that is stored already is skipped.

        Raises:
            FailedPrecondition: SEQUENCE_GAP, with the sequence expected; UPLOAD_COMPLETE.
        """
        async with self._guarded(request_id):
            held = await self._held(request_id)
            if held.upload.dataset:
                raise _complete(request_id)
            store = asyncio.to_thread(self._uploads.append, request_id, held.position, sequence, pairs, sent_bytes)
            try:
                held.position = await _to_the_end(store)
            except BaseException:  # a cancelled caller's batch may be stored: the disk knows
                self._open.pop(request_id, None)
                raise
            held.touched = time.monotonic()
            return held.stands()

    async def finish(self, request_id: str, pairs: int) -> DatasetInfo:
        """Complete an upload of ``pairs`` pairs. The same pairs stored before give that older dataset; twice gives the same one.

        Raises:
            FailedPrecondition: UPLOAD_INCOMPLETE, with both numbers: it holds another number of pairs.
            InvalidItem: EMPTY_DATASET: it holds no pair.
        """
        async with self._guarded(request_id):
            held = await self._held(request_id)
            if held.upload.dataset:
                known = await self.get(f"datasets/{held.upload.dataset}")
                if known.pairs != pairs:
                    raise _other(request_id, known.pairs, pairs)
                return known
            if held.position.pairs != pairs:
                raise _incomplete(request_id, held.position, pairs)
            self._open.pop(request_id, None)  # whatever comes of it, the disk knows
            return await self._info_of(await _to_the_end(asyncio.to_thread(self._complete, request_id, held)))

    async def position(self, request_id: str) -> UploadPosition:
        """Where an upload stands; position 0 for an unknown one."""
        _require_request_id(request_id)
        async with self._guarded(request_id):
            # Clients ask about an unfinished upload every few MiB, and a larger folder takes longer to read.
            held = self._open.get(request_id)
            if held is None or held.upload.dataset:
                try:
                    upload, position = await asyncio.to_thread(self._uploads.get, request_id)
                except NotFound:
                    return UploadPosition(0, 0)
                if upload.dataset:
                    known = await self._known(upload.dataset)
                    return UploadPosition(0, 0) if known is None else UploadPosition(0, known.pairs, known)
                held = self._open[request_id] = _Open(upload, position)
            held.touched = time.monotonic()
            return held.stands()

    async def expire(self, max_age_seconds: float) -> None:
        """Remove uploads that began longer ago, except those that received pairs since."""
        young = {id for id, held in self._open.items() if time.monotonic() - held.touched < max_age_seconds}
        gone = await asyncio.to_thread(self._uploads.expire, max_age_seconds, keep=young)
        for request_id in gone:
            self._open.pop(request_id, None)
        if gone:
            _log.info("removed %d uploads that were older than %.0f s", len(gone), max_age_seconds)

    # Datasets

    async def get(self, name: str) -> DatasetInfo:
        """One dataset."""
        return await self._info_of(await self._reader.find(name))

    async def all(self) -> list[DatasetInfo]:
        """All datasets that can be read, newest first, as their manifests tell.

        Whether a dataset is scored takes a look at each of its shards: ``unusable_pairs`` and ``scored`` are left to ``get``.
        """
        found = [_unscored(dataset) for dataset in await asyncio.to_thread(self._readable)]
        return sorted(found, key=lambda info: (info.created, info.name), reverse=True)

    async def delete(self, name: str) -> None:
        """Delete a dataset with what was read from it. Raises FailedPrecondition (IN_USE) while work on it runs."""
        with suppress(DataLoss):  # a damaged one goes too
            await self._reader.find(name)
        open_work = self._operations.open_arguments()
        if any(name in (arguments.get("dataset"), *arguments.get("datasets", ())) for arguments in open_work):
            raise FailedPrecondition(
                f"{name} is being worked on; wait for its operations, or cancel them.", reason="IN_USE", field="name"
            )
        id = name.removeprefix("datasets/")
        await asyncio.to_thread(self._datasets.delete, id)
        await asyncio.to_thread(delete_features, self._files, id)
        await asyncio.to_thread(delete_texts, self._files, id)

    def read(self, name: str, start: int = 0) -> AsyncIterator[tuple[int, list[Pair]]]:
        """A dataset's pairs from row ``start`` on, in chunks, each with the row of its first pair."""
        return self._reader.read(name, start)

    async def pairs_at(self, name: str, rows: Iterable[int]) -> dict[int, Pair]:
        """The pairs of some rows, by row, ascending; other shards are not read. Raises NotFound, DataLoss."""
        return await self._reader.pairs_at(await self._reader.find(name), rows)

    @asynccontextmanager
    async def _guarded(self, request_id: str) -> AsyncGenerator[None]:
        """One call of an upload at a time."""
        guard = self._guards.setdefault(request_id, asyncio.Lock())
        self._users[request_id] += 1
        try:
            async with guard:
                yield
        finally:
            self._users[request_id] -= 1
            if not self._users[request_id]:
                del self._users[request_id], self._guards[request_id]

    async def _held(self, request_id: str) -> _Open:
        _require_request_id(request_id)
        if request_id not in self._open:
            upload, position = await asyncio.to_thread(self._uploads.get, request_id)
            self._open[request_id] = _Open(upload, position)
        return self._open[request_id]

    def _complete(self, request_id: str, held: _Open) -> Dataset:
        dataset = self._datasets.write(lambda: self._uploads.pairs(request_id, held.position), held.upload.display_name)
        self._uploads.complete(request_id, held.upload, dataset.id)
        return dataset

    def _readable(self) -> list[Dataset]:
        """Manifests of all datasets; one that is damaged is left out, and the log says so."""
        found: list[Dataset] = []
        for id in self._datasets.ids():
            try:
                found.append(self._datasets.get(id))
            except NotFound:  # deleted meanwhile
                continue
            except DataLoss as error:
                _log.error("a dataset is not listed: %s", error.message)
        return found

    async def _known(self, id: str) -> DatasetInfo | None:
        try:
            return await self.get(f"datasets/{id}")
        except NotFound:
            return None

    async def _info_of(self, dataset: Dataset) -> DatasetInfo:
        features = Features(self._files, dataset.id, self._info)
        scored, unusable = await asyncio.to_thread(features.summary, dataset.shards)
        return replace(_unscored(dataset), unusable_pairs=unusable, scored=scored)


def _unscored(dataset: Dataset) -> DatasetInfo:
    """What a manifest alone tells."""
    return DatasetInfo(
        name=f"datasets/{dataset.id}",
        display_name=dataset.display_name,
        fingerprint=dataset.fingerprint,
        pairs=dataset.pairs,
        unusable_pairs=0,
        prompts=dataset.prompts,
        metadata_keys=dataset.metadata_keys,
        created=dataset.created,
        scored=False,
    )


async def _to_the_end(work: Any) -> Any:
    """Await work that must not be left half known: where the caller is cancelled, it is waited for before the next one begins."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise


def _require_request_id(request_id: str) -> None:
    if not request_id:
        raise InvalidItem("request_id is missing; give the upload a name.", reason="INVALID_REQUEST_ID", field="request_id")
    check_request_id(request_id)


def _complete(request_id: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"The upload {request_id} is complete; use another request_id for other pairs.",
        reason="UPLOAD_COMPLETE",
        field="request_id",
    )


def _incomplete(request_id: str, position: Position, announced: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"{position.pairs} pairs of the upload {request_id} are stored, and its end announces {announced}. Run "
        f"`assay audit` again, or go on from next_sequence, which is {position.next_sequence}.",
        reason="UPLOAD_INCOMPLETE",
        field="end.pairs",
        details={"stored": position.pairs, "announced": announced, "next_sequence": position.next_sequence},
    )


def _other(request_id: str, stored: int, announced: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"The upload {request_id} is complete with {stored} pairs, and this end announces {announced}. Use another request_id "
        "for other pairs.",
        reason="UPLOAD_INCOMPLETE",
        field="end.pairs",
        details={"stored": stored, "announced": announced},
    )
