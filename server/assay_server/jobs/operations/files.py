"""Operations on disk: operations/{id}.json.

A record suffices to resume its operation: its kind, its arguments, whether it was cancelled, and how it ended.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from assay_server import errors
from assay_server.errors import AssayError, EngineFailure
from assay_server.jobs.operations.state import OperationState
from assay_server.store.files import Files

_KEPT = ("kind", "target", "arguments", "created", "order", "resumed", "done", "cancelled", "response", "ended")
_log = logging.getLogger(__name__)


class OperationFiles:
    """The operations of one data directory. Blocks: call it in a thread."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def write(self, id: str, record: Mapping[str, Any]) -> None:
        """Store an operation's record."""
        self._files.write_json(_path(id), record)

    def read_all(self) -> list[OperationState]:
        """All operations; damaged ones are logged and left out."""
        found: list[OperationState] = []
        for name in self._files.names("operations"):
            try:
                found.append(_read(name.removesuffix(".json"), self._files.read_json(f"operations/{name}")))
            except AssayError as error:
                _log.error("an operation is lost: %s", error.message)
        return found

    def delete(self, id: str) -> None:
        """Delete an operation."""
        self._files.delete(_path(id))


def operation_record(state: OperationState) -> dict[str, Any]:
    """An operation's current state as JSON, without its id."""
    counts = [state.progress.done, state.progress.total]
    return {name: getattr(state, name) for name in _KEPT} | {"error": _error_record(state.error), "counts": counts}


def _path(id: str) -> str:
    return f"operations/{id}.json"


def _read(id: str, record: Mapping[str, Any]) -> OperationState:
    fields: dict[str, Any] = {**record, "error": _read_error(record["error"])}
    done, total = fields.pop("counts")
    state = OperationState(id=id, **fields)
    state.progress.enter("waiting", total, done)
    if state.done:
        state.over.set()
    return state


def _error_record(error: AssayError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"type": type(error).__name__} | {name: getattr(error, name) for name in ("message", "reason", "field", "details")}


def _read_error(record: Mapping[str, Any] | None) -> AssayError | None:
    if record is None:
        return None
    kind = vars(errors).get(record["type"], EngineFailure)
    kwargs: dict[str, Any] = {"reason": record["reason"], "details": record["details"]}
    if kind is errors.Overloaded:
        return errors.Overloaded(record["message"], retry_after_seconds=1.0, **kwargs)
    return cast(AssayError, kind(record["message"], field=record["field"], **kwargs))
