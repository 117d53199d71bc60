"""One operation: as it is held in memory, as it is kept on disk, and as it is told.

What is on disk is enough to take it up again: its kind, its arguments, whether it was cancelled, and how it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from assay_server import errors
from assay_server.errors import AssayError, Cancelled, EngineFailure
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.operations.types import OperationInfo


@dataclass(slots=True, eq=False)
class OperationState:
    """One operation; its fields are those of its record, then what only a living process knows.

    Attributes:
        id: "operations/{id}" is its name.
        created, ended: UNIX seconds.
        order: among operations that were created in the same instant.
        resumed: times that it was taken up again.
        cancelled: that it was asked to end, from which there is no way back.
        over: set once it is done and that is on disk: from then on others are told.
        saving: held by whoever changes its record, so that what is on disk last is what stands.
        task: what runs it; None where nobody here does its kind of work.
    """

    id: str
    kind: str
    target: str
    arguments: dict[str, Any]
    created: float
    order: int
    resumed: int = 0
    done: bool = False
    cancelled: bool = False
    response: str = ""
    error: AssayError | None = None
    ended: float = 0.0
    progress: Progress = field(default_factory=Progress)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None

    @property
    def outcome(self) -> str:
        """How it ended: "done", "failed" or "cancelled"."""
        return "done" if self.error is None else "cancelled" if isinstance(self.error, Cancelled) else "failed"

    def info(self) -> OperationInfo:
        """As it stands; done only once that is on disk."""
        done = self.over.is_set()
        rate, left = (0.0, 0.0) if done else self.progress.speed()
        return OperationInfo(
            name=f"operations/{self.id}",
            kind=self.kind,
            target=self.target,
            phase="" if done else self.progress.phase,
            pairs_done=self.progress.done,
            pairs_total=self.progress.total,
            pairs_per_second=rate,
            seconds_left=left,
            created=self.created,
            updated=self.ended if done else self.progress.updated,
            resumed=self.resumed,
            done=done,
            response=self.response if done else "",
            error=self.error if done else None,
        )

    def record(self) -> dict[str, Any]:
        """As JSON, without its id."""
        return {
            "kind": self.kind,
            "target": self.target,
            "arguments": self.arguments,
            "created": self.created,
            "order": self.order,
            "resumed": self.resumed,
            "done": self.done,
            "cancelled": self.cancelled,
            "response": self.response,
            "error": _error_record(self.error),
            "ended": self.ended,
            "counts": [self.progress.done, self.progress.total],
        }


def read_state(id: str, record: Mapping[str, Any]) -> OperationState:
    """The inverse of ``OperationState.record``: an operation that waits, or is done."""
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
    return {
        "type": type(error).__name__,
        "message": error.message,
        "reason": error.reason,
        "field": error.field,
        "details": error.details,
    }


def _read_error(record: Mapping[str, Any] | None) -> AssayError | None:
    if record is None:
        return None
    kind = vars(errors).get(record["type"], EngineFailure)
    kwargs: dict[str, Any] = {"reason": record["reason"], "details": record["details"]}
    if kind is errors.Overloaded:
        return errors.Overloaded(record["message"], retry_after_seconds=1.0, **kwargs)
    return cast(AssayError, kind(record["message"], field=record["field"], **kwargs))
