"""Files of the data directory: written whole or not at all, durable once written, and never shared by two servers.

The directory is a local path or any URL that fsspec knows. A local file is written beside its place, synced, renamed and its
folder synced, so that a ``kill -9`` or a power cut at any byte leaves the old file or the new one. Object stores put an object in
one piece, which is the same promise. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import fsspec

from assay_server.errors import AssayError, DataLoss

_TEMPORARY = ".tmp-"
FOLDERS = (
    "uploads",
    "datasets",
    "features",
    "texts",
    "concepts",
    "examples",
    "clusters",
    "labels",
    "audits",
    "comparisons",
    "plans",
    "rankings",
    "operations",
)


@dataclass(frozen=True, slots=True)
class StoreSize:
    """How much a data directory holds.

    Attributes:
        bytes: of each of its ``FOLDERS`` that is there, and of "other".
        datasets: complete ones and those being written.
    """

    bytes: Mapping[str, int]
    datasets: int


class DataDirInUse(AssayError):
    """Another server works in this data directory."""

    default_reason = "DATA_DIR_IN_USE"


class Files:
    """The files under one root. Paths are relative, with "/" between parts.

    Args:
        url: a local folder, made where it is missing, or an fsspec URL ("s3://bucket/prefix", "memory://x").
    """

    def __init__(self, url: str) -> None:
        fs, root = cast("tuple[Any, str]", fsspec.core.url_to_fs(url))
        self._fs = fs
        self._root = root.rstrip("/")
        self.url = url
        protocol: Any = fs.protocol
        self.is_local = "file" in ((protocol,) if isinstance(protocol, str) else tuple(protocol))
        if self.is_local:
            Path(self._root).mkdir(parents=True, exist_ok=True)

    def full(self, path: str) -> str:
        """The path as the file system spells it."""
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "" in parts:
            raise ValueError(f"not a path within the data directory: {path!r}")
        return f"{self._root}/{path}"

    def write(self, path: str, data: bytes) -> None:
        """Write a file whole; durable on return."""
        full = self.full(path)
        if not self.is_local:
            self._fs.pipe_file(full, data)
            self._fs.invalidate_cache()
            return
        folder = Path(full).parent
        _make_folders(folder)
        temporary = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, full)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(folder)

    def read(self, path: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError."""
        return cast(bytes, self._fs.cat_file(self.full(path)))

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return bool(self._fs.isfile(self.full(path)))

    def names(self, folder: str) -> list[str]:
        """Names of the files and folders in a folder, sorted; none where it does not exist."""
        if not self.is_local:
            self._fs.invalidate_cache()
        try:
            entries = cast("list[str]", self._fs.ls(self.full(folder), detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = {str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries}
        return sorted(name for name in names if not name.startswith(_TEMPORARY))

    def delete(self, path: str) -> None:
        """Delete a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self.full(path))

    def delete_tree(self, folder: str) -> None:
        """Delete a folder with everything in it, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self.full(folder), recursive=True)
        if not self.is_local:
            self._fs.invalidate_cache()

    def write_json(self, path: str, value: Mapping[str, Any]) -> None:
        """Write an object as JSON with its own SHA-256, so that damage is noticed when it is read."""
        body = dict(value)
        body["sha256"] = _json_digest(body)
        self.write(path, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())

    def read_json(self, path: str) -> dict[str, Any]:
        """An object that ``write_json`` wrote, without its digest.

        Raises:
            FileNotFoundError: there is none.
            DataLoss: it is damaged.
        """
        data = self.read(path)
        try:
            body = cast("dict[str, Any]", json.loads(data))
            digest = body.pop("sha256")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise damaged(path) from error
        if digest != _json_digest(body):
            raise damaged(path)
        return body

    def size(self) -> StoreSize:
        """How much is there now; walks every folder."""
        held: dict[str, int] = {}
        for path, entry in cast("dict[str, Any]", self._fs.find(self._root, detail=True)).items():
            parts = str(path).removeprefix(self._root).strip("/").split("/")
            folder = parts[0] if parts[0] in FOLDERS else "other"
            held[folder] = held.get(folder, 0) + int(entry.get("size") or 0)
        return StoreSize(held, len(self.names("datasets")))

    def sweep(self) -> int:
        """Remove what writers that were killed left beside their files; call it while no one writes. Returns how many."""
        if not self.is_local:
            return 0
        left = [path for path in Path(self._root).rglob(f"{_TEMPORARY}*") if path.is_file()]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)


class DataDir:
    """The data directory of one server: its files, and the lock that keeps a second server out.

    The lock is the kernel's (``flock``), so that it ends with the process however that ends. Object stores have none: there it
    is the operator who gives every server a prefix of its own.

    Args:
        url: as for ``Files``; "" makes a temporary folder that ``close`` removes.

    Raises:
        DataDirInUse: another process holds it.
    """

    def __init__(self, url: str) -> None:
        self._temporary = tempfile.mkdtemp(prefix="assay-data-") if not url else ""
        self.files = Files(url or self._temporary)
        self._lock: int | None = None
        if self.files.is_local:
            self._lock = _lock(self.files.full("lock"), self.files.url)
        self.files.sweep()

    @property
    def is_temporary(self) -> bool:
        """Whether everything is lost at ``close``."""
        return bool(self._temporary)

    def close(self) -> None:
        """Release the lock; remove a temporary directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def damaged(path: str) -> DataLoss:
    """The error of a stored file that is not what was written."""
    return DataLoss(
        f"The stored file {path} is damaged. Restore it from a copy, or delete what it belongs to and make it again.",
        reason="FILE_DAMAGED",
        details={"file": path},
    )


def sha256(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _json_digest(body: Mapping[str, Any]) -> str:
    return sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents, each durable in the one above it."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(path: str, url: str) -> int:
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
        os.close(handle)
        raise DataDirInUse(
            f"data_dir {url} is in use by another server (process {holder or 'unknown'}). Stop it, or give this one its own.",
            field="data_dir",
            details={"data_dir": url, "pid": holder},
        ) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle
