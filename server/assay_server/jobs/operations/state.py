"""One operation in memory, and what is reported of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from assay_server.errors import AssayError, Cancelled
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.operations.types import OperationInfo


@dataclass(slots=True, eq=False)
class OperationState:
    """One operation: the fields of its record, then what only this process knows.

    Attributes:
        id: its name is "operations/{id}".
        created, ended: UNIX seconds.
        order: among operations created in the same instant.
        resumed: how often it was resumed.
        cancelled: whether it was cancelled, which is final.
        over: set once it is done and its record says so; only then is it reported as done.
        saving: held while its record is changed and written, so that the last write is the latest state.
        task: runs it; None for a kind that is not registered.
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
        """Its state now; done only once its record says so."""
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
