"""What waits for the device."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from assay_server.subject.subject import Subject, TreeRequest


class Lane(Enum):
    """Which queue work waits in: interactive calls overtake bulk streams at the next batch."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class LoneRequest(ABC):
    """Work that shares no batch with other work."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Tokens that the model reads."""

    @abstractmethod
    def run(self, subject: Subject) -> object:
        """Do it, on the device's thread. What it raises fails this work alone."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenRequest(LoneRequest):
    """Token-level activations of ``features`` on one sequence of ``ids``, and inner products ``along`` directions [n, d_in]."""

    ids: NDArray[np.int32]
    features: tuple[int, ...]
    along: NDArray[np.float32] | None = None

    @property
    def size(self) -> int:
        """Tokens that the model reads."""
        return len(self.ids)

    def run(self, subject: Subject) -> NDArray[np.float32]:
        """Activations, then inner products, float32 [features + n, tokens]."""
        return subject.activations(self.ids, self.features, self.along)


@dataclass(frozen=True, slots=True, eq=False)
class CallRequest(LoneRequest):
    """Anything else that the device's thread must do: what interventions need of the model.

    Attributes:
        tokens: that the model reads, for admission; every variant of a sequence counts.
        call: the work; it must take about as long as a batch of that many tokens.
    """

    tokens: int
    call: Callable[[Subject], object]

    @property
    def size(self) -> int:
        """Tokens that the model reads."""
        return self.tokens

    def run(self, subject: Subject) -> object:
        """What the call gives."""
        return self.call(subject)


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What came of one piece of work, and what it cost.

    Attributes:
        result: pooled features, or what a ``LoneRequest`` gives.
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

    request: TreeRequest | LoneRequest
    lane: Lane
    deadline: float | None
    future: "asyncio.Future[Read]"
    enqueued: float
    batch: object | None = None

    @property
    def size(self) -> int:
        """Tokens that the model reads."""
        return self.request.size
