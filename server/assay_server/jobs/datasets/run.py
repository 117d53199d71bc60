"""Imports: a file in one of the operator's folders becomes a dataset.

Invariants:
- Only files that lie under an import root are read, wherever links and ".." lead; it is looked at again when the work begins.
- A row that holds no pair is left out and counted, the first ones are named in the log; a damaged file is an error.
- An import that was killed begins again, and makes the dataset that it would have made.
- A file that has not changed, asked for again without a request id, is the import that it was; one that changed, whose import
  failed or whose dataset is gone, is imported anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from assay_server.errors import DataLoss, InvalidItem, NotFound
from assay_server.jobs.operations.jobs import Operations, check_request_id
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.operations.types import OperationInfo
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.files import sha256
from assay_server.subject.types import Pair

KIND = "import"
NAMED_ROWS = 20  # rows without a pair that the log names, of each import
_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
_CHUNK = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of a file that holds no pair.

    Attributes:
        line: its place in the file, from 1.
        reason: UPPER_SNAKE_CASE, for example "MISSING_COLUMN".
        message: for a person; quotes no text of the row.
    """

    line: int
    reason: str
    message: str


ReadPairs = Callable[[Path], Iterator[Pair | BadRow]]
"""From a file to its rows, in order. Raises InvalidItem where the file itself cannot be read."""


class Imports:
    """Imports into one data directory. Confined to one event loop.

    Args:
        datasets: those in it.
        operations: where imports run; not started yet.
        roots: folders that files may be imported from.
        read_pairs: how a file is read; None where none may be.
        max_pairs: pairs of one dataset.
        lane: of imports.
    """

    def __init__(
        self,
        datasets: Datasets,
        operations: Operations,
        *,
        roots: Sequence[str] = (),
        read_pairs: ReadPairs | None = None,
        max_pairs: int,
        lane: str = "imports",
    ) -> None:
        self._datasets = datasets
        self._operations = operations
        self._roots = tuple(Path(root).resolve() for root in roots)
        self._read_pairs = read_pairs
        self._max_pairs = max_pairs
        self._beginning = asyncio.Lock()
        operations.register(KIND, self._run, lane=lane)

    async def begin(self, uri: str, display_name: str = "", request_id: str = "") -> OperationInfo:
        """Store the pairs of a file under one of the operator's ``import_roots``.

        A row that holds no pair is left out and named in the log. Once it is done, ``pairs_done`` counts the pairs and
        ``pairs_total`` the rows.

        Raises:
            InvalidItem: the URI is not such a file, or of a kind that is not read.
        """
        check_request_id(request_id)
        path, _ = await asyncio.to_thread(self._find, uri)
        arguments = {"path": str(path), "display_name": display_name or path.name[:256]}
        id = request_id or await asyncio.to_thread(_derived_id, path, arguments)
        async with self._beginning:
            await self._forget_vain(id, failed=not request_id)
            return await self._operations.submit(KIND, target="", arguments=arguments, request_id=id)

    async def _forget_vain(self, id: str, *, failed: bool) -> None:
        """Forget an import whose dataset is gone or damaged, and one that failed where its id is nobody's choice."""
        known = self._operations.find(KIND, id)
        if known is None or not known.done:
            return
        if known.error is None:
            try:
                await asyncio.to_thread(self._datasets.get, known.response.removeprefix("datasets/"))
            except (NotFound, DataLoss):
                await self._operations.delete(known.name)
        elif failed:
            await self._operations.delete(known.name)

    async def _run(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        name = arguments["display_name"]

        def write() -> Dataset:
            path, read = self._find(Path(arguments["path"]).as_uri())  # the folders may have changed since
            reading = _Reading(path, read, progress, self._max_pairs)
            dataset = self._datasets.write(reading.chunks, name, check=progress.check)
            reading.close()
            return dataset

        return f"datasets/{(await progress.in_thread(write)).id}"

    def _find(self, uri: str) -> tuple[Path, ReadPairs]:
        parts = urlsplit(uri)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise _unreadable("is not of the form file:///path")
        if parts.query or parts.fragment:
            raise _unreadable('holds "?" or "#"; a name with one of them has to be percent-encoded')
        try:
            path = Path(unquote(parts.path, errors="strict")).resolve()
        except (OSError, ValueError, RuntimeError):  # a NUL in it, no UTF-8, links in a circle
            raise _unreadable("is no path that can be followed") from None
        if self._read_pairs is None or not any(path.is_relative_to(root) for root in self._roots):
            raise _unreadable("is under none of the server's import_roots")
        if not path.name.endswith(_ENDINGS):
            raise _unreadable(f"is of a kind that is not read; give {', '.join(_ENDINGS)}")
        if not _is_file(path):
            raise _unreadable("is not a file there")
        return path, self._read_pairs


class _Reading:
    """One import's file, read as often as asked: counts of the last reading, log lines of the first."""

    def __init__(self, path: Path, read: ReadPairs, progress: Progress, max_pairs: int) -> None:
        self._path = path
        self._read = read
        self._progress = progress
        self._max_pairs = max_pairs
        self._readings = 0
        self._rows = 0
        self._pairs = 0
        self._first_bad: BadRow | None = None

    def chunks(self) -> Iterator[list[Pair]]:
        """The pairs, a chunk for every so many rows. Raises InvalidItem where there are none, or too many."""
        self._progress.enter("writing", self._rows)
        self._readings += 1
        self._rows = self._pairs = 0
        chunk: list[Pair] = []
        for row in self._read(self._path):
            self._rows += 1
            if isinstance(row, BadRow):
                self._note(row)
            else:
                self._pairs += 1
                chunk.append(row)
            if self._rows % _CHUNK == 0:
                yield self._counted(chunk)
                chunk = []
        yield self._counted(chunk)
        if not self._pairs:
            raise self._empty()

    def close(self) -> None:
        """Tells what came of it: pairs of rows as the operation's progress, and rows without a pair in the log."""
        self._progress.enter("writing", self._rows, self._pairs)
        if bad := self._rows - self._pairs:
            _log.warning("import of %s: %d of %d rows hold no pair and were left out", self._path.name, bad, self._rows)

    def _note(self, row: BadRow) -> None:
        self._first_bad = self._first_bad or row
        if self._readings == 1 and self._rows - self._pairs <= NAMED_ROWS:
            _log.warning("import of %s: line %d holds no pair: %s [%s]", self._path.name, row.line, row.message, row.reason)

    def _counted(self, chunk: list[Pair]) -> list[Pair]:
        self._progress.advance(len(chunk))
        if self._pairs > self._max_pairs:
            raise InvalidItem(
                f"The file holds more than {self._max_pairs} pairs, which is max_dataset_pairs. Split it, or ask the operator to "
                "raise the limit.",
                reason="DATASET_TOO_LARGE",
                field="uri",
                details={"pairs": self._pairs, "max_dataset_pairs": self._max_pairs},
            )
        return chunk

    def _empty(self) -> InvalidItem:
        bad = self._first_bad
        why = f"; line {bad.line}: {bad.message}" if bad else ""
        return InvalidItem(
            f"None of the file's {self._rows} rows holds a pair{why}. Mend the file, and import it again, under "
            "another request_id where you gave one.",
            reason="EMPTY_DATASET",
            field="uri",
            details={"rows": self._rows, **({"line": bad.line, "row_reason": bad.reason} if bad else {})},
        )


def _derived_id(path: Path, arguments: Mapping[str, str]) -> str:
    """The id of an import without a request id: another file, or the same file after a change, is another import."""
    try:
        stat = path.stat()
    except OSError:
        raise _unreadable("is not a file there") from None
    return sha256(json.dumps([arguments, stat.st_size, stat.st_mtime_ns], sort_keys=True).encode())[:32]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be looked into
        return False


def _unreadable(why: str) -> InvalidItem:
    return InvalidItem(f"The URI {why}.", reason="INVALID_URI", field="uri")
