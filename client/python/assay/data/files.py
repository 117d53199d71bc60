"""A file of pairs: opened, counted, digested, and read row by row.

Invariant: a row that does not parse is told in its place, with its line and reason, and does not end the reading.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from assay.data.formats import As, Format, RowError, parse_row
from assay.data.sources import Reader, Record, arrow_rows, count, dataset_files, decode, reader_of
from assay.errors import InputError
from assay.extras import pyarrow
from assay.pairs import Pair

_READING = 2  # raised when a file gives other pairs than it gave before


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: exactly one of `pair` and `error` is set.

    Attributes:
        line: its place in the file, from 1.
        pair: the pair that it holds.
        error: why it holds none.
        format: the format that it was read as; None with an error.
    """

    line: int
    pair: Pair | None
    error: RowError | None
    format: Format | None


class PairFile:
    """A file, or a datasets folder, of preference pairs. Make one with `open_pairs`.

    Attributes:
        path: where it is.
        formats: rows read so far, by format.
    """

    def __init__(self, path: Path, files: list[Path], reader: Reader, *, format: Format | None, as_: As) -> None:
        self.path = path
        self.formats: Counter[Format] = Counter()
        self._files = files
        self._reader = reader
        self._format = format
        self._as: As = as_

    @cached_property
    def total(self) -> int:
        """Rows in the file, bad ones included; reads it through once, where its kind has no count, without parsing."""
        return sum(count(file, self._reader) for file in self._files)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the digests of its data files in order, hexadecimal: equal digests are equal rows."""
        whole = hashlib.sha256()
        for file in self._files:
            with file.open("rb") as stream:
                whole.update(hashlib.file_digest(stream, "sha256").digest())
        return whole.hexdigest()

    @property
    def reading(self) -> str:
        """How its rows are read: with an equal `digest`, equal ways of reading give equal pairs."""
        return f"{self._format.value if self._format else 'auto'}/{self._as}/{_READING}"

    def rows(self, skip: int = 0) -> Iterator[Row]:
        """Rows in order, without the first `skip`; InputError where the file is damaged from there on."""
        for line, raw in islice(self._numbered(), skip, None):
            yield self._row(line, raw)

    def _row(self, line: int, raw: bytes | object) -> Row:
        try:
            if isinstance(raw, RowError):
                raise raw
            row = decode(raw) if isinstance(raw, bytes) else raw
            pair, kind = parse_row(row, format=self._format, as_=self._as, line=line)
        except RowError as error:
            error.line = line
            # The traceback would keep the row itself alive for as long as the error is.
            return Row(line, None, error.with_traceback(None), None)
        self.formats[kind] += 1
        return Row(line, pair, None, kind)

    def _numbered(self) -> Iterator[Record]:
        before = 0
        for file in self._files:
            line = 0
            for line, raw in self._reader(file):
                yield before + line, raw
            before += line


def open_pairs(path: str | Path, *, format: Format | None = None, as_: As = "chat", split: str | None = None) -> PairFile:
    """Opens a file or a datasets folder; the table is in the docstring of `assay.data`.

    Args:
        path: the file or folder.
        format: hold every row to this format; None tells it row by row.
        as_: how text is read where a row leaves it open (`assay.data.formats`).
        split: which split of a folder that has several.

    Raises:
        InputError: there is no such file, it is of no kind that is known, or its split is not named.
        MissingExtra: pyarrow is needed and not installed.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"there is no file {path}", reason="NO_SUCH_FILE")
    if path.is_dir():
        pyarrow()  # says now what is missing
        return PairFile(path, dataset_files(path, split), arrow_rows, format=format, as_=as_)
    if split is not None:
        raise InputError(f"{path.name} is one file, and has no split {split!r}", reason="UNKNOWN_SPLIT")
    return PairFile(path, [path], reader_of(path), format=format, as_=as_)


def read_pairs(
    path: str | Path,
    *,
    format: Format | None = None,
    as_: As = "chat",
    split: str | None = None,
    on_error: Callable[[RowError], object] | None = None,
) -> Iterator[Pair]:
    """The pairs of a file. A bad row raises its RowError, or goes to `on_error` and is left out."""
    for row in open_pairs(path, format=format, as_=as_, split=split).rows():
        if row.pair is not None:
            yield row.pair
        elif row.error is not None:
            if on_error is None:
                raise row.error
            on_error(row.error)
