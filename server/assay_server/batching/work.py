"""What waits for the device."""

import asyncio
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from assay_server.subject.subject import TreeRequest
from assay_server.subject.types import Pooled


class Lane(Enum):
    """Which queue work waits in: interactive calls overtake bulk streams at the next batch."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True, eq=False)
class TokenRequest:
    """Token-level activations of ``features`` on one sequence of ``ids``."""

    ids: NDArray[np.int32]
    features: tuple[int, ...]

    @property
    def size(self) -> int:
        """Tokens that the model reads."""
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What came of one piece of work, and what it cost.

    Attributes:
        result: pooled features, or activations float32 [features, tokens] for a ``TokenRequest``.
        queue_seconds: from submission to the start of its batch.
        forward_seconds: its batch's time on the device.
    """

    result: Pooled | NDArray[np.float32]
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

    request: TreeRequest | TokenRequest
    lane: Lane
    deadline: float | None
    future: "asyncio.Future[Read]"
    enqueued: float
    batch: object | None = None

    @property
    def size(self) -> int:
        """Tokens that the model reads."""
        return self.request.size
