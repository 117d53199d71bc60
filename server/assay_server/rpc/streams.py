"""One open stream of pairs: batches in, answers out in order, several batches in flight so that the device is always fed.

Invariants:
- At most ``stream_batches`` batches and about ``stream_bytes`` request bytes are between the socket in and the socket
  out; past that nothing is read, which reaches the client as flow control. A client that does not read its answers
  stops its own stream only.
- Whatever ends the reading (half-close, a bad message, a server that stops), the batches accepted before are answered
  first.
- A client that is silent does not hold up a server that stops.
- However the stream ends, no task and no scorer call of it stays behind.
- Where the server is full, a bulk stream's batches wait in order of arrival: a refusal would lose the stream's work and its
  place. An interactive stream's batch is retried for a while before the stream fails.
"""

from __future__ import annotations  # gRPC's generic types cannot be subscripted at run time

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from assay.v1 import scoring_pb2

from assay_server.errors import InvalidItem, Overloaded
from assay_server.rpc.fields import check_count
from assay_server.rpc.interceptors import readable
from assay_server.rpc.items import AnyCall, answer_items
from assay_server.rpc.state import Context, Loaded, ServerState, deadline_of, draining

MAX_HOLD_SECONDS = 1.0
_EOF: Any = vars(grpc.aio)["EOF"]


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A batch in flight: its size on the wire, and the task that answers it."""

    size: int
    answer: asyncio.Task[Any]


OpenCall = Callable[[Any, Loaded, float | None], Awaitable[AnyCall]]
"""From a stream's options, what the server has loaded, and the deadline, to how its batches are answered. Raises AssayError."""


class PairStream:
    """Runs one stream to its end.

    Args:
        state: the server's.
        context: the stream's.
        open_call: reads the options.
        response: a batch's answer, from its ``sequence`` and ``results``.
        options: what the first message carries, for error messages.
    """

    def __init__(
        self,
        state: ServerState,
        context: Context,
        open_call: OpenCall,
        response: Callable[..., Any],
        options: str,
    ) -> None:
        self._state = state
        self._context = context
        self._open_call = open_call
        self._response = response
        self._options = options
        self._window: deque[_Accepted] = deque()
        self._bytes = 0
        self._last = -1
        self._changed = asyncio.Event()
        self._read_all: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answers every batch that was accepted, then ends as the reading ended.

        Raises:
            AssayError: the stream broke the contract, the server stops, too many streams are open, or it stayed overloaded.
        """
        self._state.enter_stream()
        try:
            await self._run()
        finally:
            self._state.leave_stream()

    async def _run(self) -> None:
        head = await self._receive()
        if head is None:
            return
        loaded = self._state.loaded
        if head.WhichOneof("payload") != "options":
            raise InvalidItem(
                f"The first message carries no options; open a stream with {self._options}.",
                reason="STREAM_ORDER",
                field="options",
            )
        call = await self._open_call(head.options, loaded, deadline_of(self._context))
        await self._context.send_initial_metadata(())
        self._read_all = reading = asyncio.create_task(self._read_batches(loaded, call))
        reading.add_done_callback(lambda _: self._changed.set())
        try:
            while await self._has_next():
                await self._context.write(await self._window[0].answer)
                self._bytes -= self._window.popleft().size
                self._changed.set()
            await reading
        finally:
            await self._abandon(reading)

    async def _has_next(self) -> bool:
        """Waits for a batch in flight; False once the reading has ended and every batch is answered."""
        while not self._window:
            if self._read_all is not None and self._read_all.done():
                return False
            await self._wait_for_change()
        return True

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _read_batches(self, loaded: Loaded, call: AnyCall) -> None:
        """Accepts batches until the client half-closes. Raises what ends the stream early."""
        while (message := await self._receive()) is not None:
            self._check_batch(message, loaded)
            size = message.ByteSize()
            await self._wait_for_room(size)
            self._window.append(_Accepted(size, asyncio.create_task(self._answer(message.batch, call))))
            self._bytes += size
            self._changed.set()

    def _check_batch(self, message: Any, loaded: Loaded) -> None:
        batch = batch_of(message, "every later message carries a batch")
        if batch.sequence <= self._last:
            raise InvalidItem(
                f"Sequence {batch.sequence} follows {self._last}; sequences start at 0 or above and grow.",
                reason="SEQUENCE_ORDER",
                field="batch.sequence",
                details={"sequence": batch.sequence, "last": self._last},
            )
        check_count(len(batch.pairs), loaded.bounds.limits.max_pairs_per_message, "max_pairs_per_message", "batch.pairs")
        self._last = batch.sequence

    async def _wait_for_room(self, size: int) -> None:
        config = self._state.config
        while self._window and (len(self._window) >= config.stream_batches or self._bytes + size > config.stream_bytes):
            await self._wait_for_change()

    async def _answer(self, batch: scoring_pb2.PairBatch, call: AnyCall) -> Any:
        patience = time.monotonic() + self._state.config.stream_patience_seconds
        while True:
            try:
                return self._response(sequence=batch.sequence, results=await answer_items(batch.pairs, call))
            except Overloaded as overload:
                hold = min(max(overload.retry_after_seconds, 0.001), MAX_HOLD_SECONDS)
                if time.monotonic() + hold > patience or self._state.draining.is_set():
                    raise
            await asyncio.sleep(hold)

    async def _receive(self) -> Any | None:
        return await receive(self._context, self._state)

    async def _abandon(self, reading: asyncio.Task[None]) -> None:
        tasks: list[asyncio.Task[Any]] = [reading, *(accepted.answer for accepted in self._window)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def batch_of(message: Any, rule: str) -> scoring_pb2.PairBatch:
    """The batch of a message after the first. Raises InvalidItem (STREAM_ORDER), stating the ``rule``, where it carries none."""
    kind = message.WhichOneof("payload")
    if kind != "batch":
        what = "carries options again" if kind == "options" else "carries nothing"
        raise InvalidItem(f"A message after the first {what}; {rule}.", reason="STREAM_ORDER", field=kind or "payload")
    return message.batch


async def receive(context: Context, state: ServerState) -> Any | None:
    """The next message, None after the client's half-close.

    Raises:
        NotReady: the server stops, even if the client is silent.
        InvalidItem: what came is no message.
        MessageTooLarge: it is too large.
    """
    state.refuse_if_draining()
    reading = asyncio.ensure_future(_read(context))
    stopping = asyncio.ensure_future(state.draining.wait())
    try:
        await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise draining()
        received = reading.result()
        return None if received is None else readable(received)
    finally:
        stopping.cancel()
        reading.cancel()


async def _read(context: Context) -> Any | None:
    received: Any = await context.read()
    return None if received is _EOF else received
