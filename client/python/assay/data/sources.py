"""Undecoded rows of the kinds of files: lines, one JSON array, Parquet, and the Arrow files of a datasets folder.

Invariants: memory is bounded by one line (`MAX_LINE_BYTES`), element or batch; rows are numbered as people count, lines of a
line-based file from 1 with blank ones included, and else rows from 1; damage after which no next row can be found raises
InputError with the place.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from assay.data.formats import RowError
from assay.errors import InputError
from assay.extras import pyarrow

MAX_LINE_BYTES = 64 << 20
_BLOCK = 1 << 20
_BATCH_ROWS = 256
_SPACE = re.compile(r"[ \t\n\r]*")
_TORN = (EOFError, gzip.BadGzipFile, zlib.error)

Record = tuple[int, bytes | object]  # the row's number, and it as its file gives it: JSON text, an object, or a RowError
Reader = Callable[[Path], Iterator[Record]]


def reader_of(path: Path) -> Reader:
    """How to read a file, told by its name, and for .json by its first character.

    Raises:
        InputError: the file is of no kind that is known.
        MissingExtra: pyarrow is needed and not installed.
    """
    suffixes = [suffix for suffix in path.name.lower().split(".")[1:][-2:] if suffix != "gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind == "parquet":
        pyarrow()
        return parquet_rows
    if kind in ("jsonl", "ndjson"):
        return lines
    if kind == "json":
        return array_elements if _first_byte(path) == b"[" else lines
    raise InputError(
        f"{path.name} is of no kind that is known: .jsonl, .json (both also .gz), .parquet, or a datasets folder",
        reason="UNKNOWN_KIND",
    )


def decode(text: bytes) -> object:
    """The JSON value of a line; RowError where there is none."""
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise RowError(f"byte {error.start + 1} of the line is no UTF-8", reason="INVALID_UTF8") from None
    except json.JSONDecodeError as error:
        raise RowError(f"no JSON: {error.msg} at character {error.pos + 1}", reason="INVALID_JSON") from None
    except (ValueError, RecursionError) as error:
        raise RowError(f"no JSON that can be read: {type(error).__name__}", reason="INVALID_JSON") from None


def lines(path: Path) -> Iterator[Record]:
    """Lines that are not blank, as bytes."""
    line = 0
    try:
        with _open(path) as stream:
            while text := stream.readline(MAX_LINE_BYTES + 1):
                line += 1
                if line == 1:
                    text = text.removeprefix(b"\xef\xbb\xbf")
                if len(text) > MAX_LINE_BYTES:
                    while not text.endswith(b"\n") and (text := stream.readline(_BLOCK)):
                        pass
                    yield line, RowError(f"the line is longer than {MAX_LINE_BYTES} bytes", reason="LINE_TOO_LONG")
                elif text and not text.isspace():
                    yield line, text
    except _TORN as error:
        raise _damaged(path, line + 1, error) from None


def array_elements(path: Path) -> Iterator[Record]:
    """Elements of one JSON array, decoded as they arrive."""
    number = 0
    try:
        with _open(path) as raw:
            text = _Text(io.TextIOWrapper(raw, encoding="utf-8-sig"))
            text.expect("[")
            if text.peek() == "]":
                text.expect("]")
            else:
                more = True
                while more:
                    text.peek()
                    number += 1
                    yield number, text.value()
                    more = text.expect(",", "]") == ","
            text.expect("")
    except (*_TORN, ValueError, RecursionError) as error:
        raise _damaged(path, number, error) from None


class _Text:
    """A moving window on a text, for values that may end beyond it."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            blank = _SPACE.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more(_BLOCK)

    def expect(self, *marks: str) -> str:
        """Passes one of the marks; ValueError where something else comes."""
        found = self.peek()
        if found not in marks:
            wanted = " or ".join(mark or "the end" for mark in marks)
            raise ValueError(f"{wanted} should come, and {found or 'the end'} does")
        self._at += len(found)
        return found

    def value(self) -> object:
        """Passes the JSON value that starts here."""
        size = _BLOCK
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError):
                if self._ended or len(self._text) - self._at > MAX_LINE_BYTES:
                    raise
            else:
                if end < len(self._text) or self._ended:  # else a number may go on in the next block
                    self._at = end
                    return value
            self._more(size)
            size *= 2

    def _more(self, size: int) -> None:
        block = self._stream.read(size)
        self._text = self._text[self._at :] + block
        self._at = 0
        self._ended = not block


def parquet_rows(path: Path) -> Iterator[Record]:
    """Rows of a Parquet file."""
    arrow, parquet = pyarrow(), pyarrow("pyarrow.parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in _rows(batch):
                    number += 1
                    yield number, row
    except (arrow.ArrowException, OSError) as error:
        raise _damaged(path, number + 1, error) from None


def arrow_rows(path: Path) -> Iterator[Record]:
    """Rows of an Arrow stream file, as datasets writes them; the file is mapped, not read."""
    arrow = pyarrow()
    number = 0
    try:
        with arrow.memory_map(str(path)) as source, arrow.ipc.open_stream(source) as stream:
            for batch in stream:
                for at in range(0, batch.num_rows, _BATCH_ROWS):
                    for row in _rows(batch.slice(at, _BATCH_ROWS)):
                        number += 1
                        yield number, row
    except (arrow.ArrowException, OSError) as error:
        raise _damaged(path, number + 1, error) from None


def dataset_files(folder: Path, split: str | None) -> list[Path]:
    """The Arrow files of a folder written by ``save_to_disk``, in order; `split` picks one of a DatasetDict."""
    splits = folder / "dataset_dict.json"
    if splits.exists():
        names = [str(name) for name in _json(splits).get("splits", [])]
        if split is None and len(names) == 1:
            split = names[0]
        if split not in names:
            given = "name one" if split is None else f"{split!r} is none of them"
            raise InputError(f"{folder.name} has the splits {', '.join(names)}: {given}", reason="UNKNOWN_SPLIT")
        folder = folder / split
    state = folder / "state.json"
    if not state.exists():
        raise InputError(f"{folder} is no folder of datasets' save_to_disk: it has no state.json", reason="UNKNOWN_KIND")
    content = _json(state)
    if content.get("_indices_data_files") or content.get("_indices_files"):
        raise InputError(
            f"{folder.name} stores a selection of rows beside its data: save it again with a datasets of today",
            reason="UNKNOWN_KIND",
        )
    names = [str(entry.get("filename", "")) for entry in content.get("_data_files", [])]
    files = [folder / name for name in names if name and Path(name).name == name]
    missing = [file.name for file in files if not file.exists()]
    if not files or missing or len(files) != len(names):
        raise InputError(f"{folder.name} lacks data files: {', '.join(missing) or 'all'}", reason="DAMAGED")
    return files


def count(path: Path, reader: Reader) -> int:
    """Rows of a file, as cheaply as its kind allows: from its footer, by its line ends, or by reading it through."""
    if reader is parquet_rows:
        with pyarrow("pyarrow.parquet").ParquetFile(path) as file:
            return cast(int, file.metadata.num_rows)
    if reader is arrow_rows:
        arrow = pyarrow()
        with arrow.memory_map(str(path)) as source, arrow.ipc.open_stream(source) as stream:
            return sum(cast(int, batch.num_rows) for batch in stream)
    return sum(1 for _ in reader(path))


def _rows(batch: Any) -> Iterator[object]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for at in range(batch.num_rows):
            try:
                yield batch.slice(at, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield RowError("a text of the row is no UTF-8", reason="INVALID_UTF8")


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def _first_byte(path: Path) -> bytes:
    try:
        with _open(path) as stream:
            while block := stream.read(4096):
                text = block.removeprefix(b"\xef\xbb\xbf").lstrip()
                if text:
                    return text[:1]
    except _TORN as error:
        raise _damaged(path, 1, error) from None
    return b""


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is no JSON object", reason="DAMAGED")
    return cast(dict[str, Any], content)


def _damaged(path: Path, row: int, error: Exception) -> InputError:
    what = "no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).split("\n", 1)[0][:200]
    return InputError(f"{path.name} is damaged at row {row}: {what}", reason="DAMAGED", details={"row": str(row)})
