"""A scores file that survives being interrupted at any byte: parts in a folder beside it, joined when all are there.

    scores.parquet.partial/manifest.json       what is being scored, with what; written first, never changed
    scores.parquet.partial/part-000000.parquet rows from the first on; each part is written whole and renamed into place
    scores.parquet                             appears when it is complete, by a rename

Invariants:
- Parts are contiguous: part n starts where part n-1 ended, so the number of their rows is where to go on. A part that did
  not get its final name does not exist.
- A run goes on only with the input, options and model of the manifest, so that a joined file is what one undisturbed run
  would have written, but for timings and cache states. Row groups are cut anew, wherever the parts ended.
- One process at a time holds the folder's lock; the lock dies with its process.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from assay.cli.table import Record, plain, schema, table
from assay.errors import AssayError, InputError
from assay.extras import pyarrow
from assay.files import replacing

ROW_GROUP = 8192
_MANIFEST_KEY = b"assay.manifest"


class ResumeRefused(AssayError):
    """What is on disk belongs to another run; the message names both."""


class Parts:
    """The folder of parts of one scores file. Use it as a context manager: it holds the lock.

    Args:
        out: the file to be.
        manifest: what decides its content.
        adopt: take the folder whichever run it belongs to, to delete it.

    Raises:
        ResumeRefused: the folder belongs to a run of another manifest, or to a process that is at work.
    """

    def __init__(self, out: Path, manifest: Mapping[str, Any], *, adopt: bool = False) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".partial")
        self._manifest = cast(dict[str, Any], json.loads(json.dumps(manifest)))
        self._adopt = adopt
        self._lock: int | None = None
        self.rows = 0
        self._count = 0

    def __enter__(self) -> "Parts":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        try:
            if not self._adopt:
                self._open()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._unlock()

    def write(self, records: list[Record]) -> None:
        """Adds a part of these rows; on return it is on disk."""
        parquet = pyarrow("pyarrow.parquet")
        part = self._part(self._count)
        with replacing(part) as temporary:
            parquet.write_table(table(records), temporary, compression="zstd")
        self._count += 1
        self.rows += len(records)

    def join(self, kind: str = "parquet") -> None:
        """Writes the whole file as "parquet" or "jsonl", puts it in place, and removes the parts."""
        if kind == "parquet":
            self._join_parquet()
        else:
            self._join_lines()
        self.discard()

    def _join_lines(self) -> None:
        with replacing(self.out) as temporary, temporary.open("w", encoding="utf-8") as stream:
            for batch in self.batches():
                for row in batch.to_pylist():
                    stream.write(json.dumps(plain(row), ensure_ascii=False, separators=(",", ":")) + "\n")

    def _join_parquet(self) -> None:
        parquet = pyarrow("pyarrow.parquet")
        metadata = {_MANIFEST_KEY: json.dumps(self._manifest, sort_keys=True)}
        with replacing(self.out) as temporary:
            whole = schema().with_metadata(metadata)
            with parquet.ParquetWriter(temporary, whole, compression="zstd") as writer:
                for rows in _regrouped(self._tables(), ROW_GROUP):
                    writer.write_table(rows.replace_schema_metadata(metadata), row_group_size=ROW_GROUP)

    def discard(self) -> None:
        """Removes the parts."""
        shutil.rmtree(self.folder)

    def batches(self) -> Iterator[Any]:
        """The rows so far, as pyarrow record batches, part by part."""
        for one in self._tables():
            yield from one.to_batches(max_chunksize=512)

    def _tables(self) -> Iterator[Any]:
        parquet = pyarrow("pyarrow.parquet")
        for number in range(self._count):
            yield parquet.read_table(self._part(number))

    def _open(self) -> None:
        path = self.folder / "manifest.json"
        if path.exists():
            found = _read_manifest(path)
            if found != self._manifest:
                raise ResumeRefused(
                    f"{self.folder} holds the first part of another run: {_differences(found, self._manifest)}. Run it with "
                    "what it was begun with, or with --overwrite to throw its parts away",
                    reason="OTHER_RUN",
                )
        else:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(self._manifest, indent=1, sort_keys=True))
        parquet = pyarrow("pyarrow.parquet")
        while (part := self._part(self._count)).exists():
            self.rows += cast(int, parquet.read_metadata(part).num_rows)
            self._count += 1
        for stray in self.folder.glob("*.tmp"):
            stray.unlink()

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def manifest_of(path: Path) -> dict[str, Any] | None:
    """The manifest that a finished file was written under; None where it is no scores file."""
    pa, parquet = pyarrow(), pyarrow("pyarrow.parquet")
    try:
        metadata = parquet.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        return None
    text = metadata.get(_MANIFEST_KEY)
    return cast(dict[str, Any], json.loads(text)) if text else None


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], json.loads(path.read_text()))
    except ValueError:
        raise InputError(f"{path} is no manifest; remove its folder, or run with --overwrite", reason="DAMAGED") from None


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]
    return "; ".join(f"{name} was {_short(found.get(name))} and is {_short(wanted.get(name))}" for name in names)


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 120 else text[:117] + "..."


def _locked(folder: Path) -> int:
    handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
    if os.name == "posix":
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise ResumeRefused(f"another process is at work in {folder}", reason="LOCKED") from None
    return handle


def _regrouped(tables: Iterator[Any], size: int) -> Iterator[Any]:
    """The same rows in tables of `size` rows each, the last one shorter."""
    pa = pyarrow()
    rest: Any = schema().empty_table()
    for one in tables:
        rest = pa.concat_tables([rest, one.replace_schema_metadata(None)])
        while rest.num_rows >= size:
            yield rest.slice(0, size)
            rest = rest.slice(size)
    if rest.num_rows:
        yield rest
