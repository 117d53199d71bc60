"""Work queued for the device."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from assay_server.subject.subject import Subject, TreeRequest


class Lane(Enum):
    """Which queue work waits in: interactive calls overtake bulk streams at the next batch."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True, eq=False)
class CallRequest:
    """Work on the device's thread that shares no batch with other work: token-level values, what interventions need of the model.

    Attributes:
        size: tokens that the model reads, for admission; every variant of a sequence counts.
        run: the work; it must take about as long as a batch of that many tokens. What it raises fails this work alone.
    """

    size: int
    run: Callable[[Subject], object]


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What came of one piece of work, and what it cost.

    Attributes:
        result: pooled features, or what a ``CallRequest`` gives.
        queue_seconds: from submission to the start of its batch.
        forward_seconds: its batch's time on the device.
    """

    result: object
    queue_seconds: float
    forward_seconds: float


@dataclass(slots=True, eq=False)
class Work:
    """One request in a lane.

    Attributes:
        request: what to read.
        lane: where it waits.
        deadline: ``time.monotonic()`` instant past which it must not start; None for never.
        future: resolved on its event loop with a ``Read`` or an ``AssayError``; its caller may cancel it at any time.
        enqueued: ``time.monotonic()`` when it was submitted.
        batch: the sealed batch that it belongs to, read with the others of it and nothing else; None where it may go with any.
    """

    request: TreeRequest | CallRequest
    lane: Lane
    deadline: float | None
    future: "asyncio.Future[Read]"
    enqueued: float
    batch: object | None = None

    @property
    def size(self) -> int:
        """Tokens that the model reads."""
        return self.request.size
