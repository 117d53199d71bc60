"""The asyncio driver of a stream of pairs: as `assay.stream`, with tasks in place of threads.

Three tasks share a `Window`: the feeder takes pairs from the caller's iterable while there is room, the sender writes
messages, the receiver reads answers; the caller's own loop hands results out and opens the connection again.

Invariants:
- No task outlives the generator: closing it, by ``aclose()``, a break under ``contextlib.aclosing``, or cancellation,
  cancels all three and waits for them.
- A slow iterable delays no answer, and one that waits for answers before it gives the next pair does not deadlock: a
  half-full message leaves after `Flow.linger_seconds`.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Generic

import grpc
import grpc.aio

from assay.errors import AssayError, ConnectionFailed, from_rpc_error, is_transport_fault
from assay.flow import Dialect, Flow, R, Recovery, RetryPolicy, Window
from assay.model import ModelInfo
from assay.pairs import Pair
from assay.transport import Metadata

_GOODBYE_SECONDS = 2.0  # every result is here by then: what the server still says does not matter
_TRUST_SECONDS = 0.2  # for a refusal to arrive before a second batch is written
_SETTLE_SECONDS = 0.005  # metadata may come with the status of a refusal, which is read a moment later
_END: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]
_YIELD_EVERY = 64  # pairs taken from a plain iterable before other tasks get their turn


class AsyncPairStream(Generic[R]):
    """One run of `AsyncClient.score` or `offsets`; arguments as in `assay.stream.PairStream`, `get_model` awaitable."""

    def __init__(
        self,
        method: Callable[..., Any],
        get_model: Callable[[], Awaitable[ModelInfo]],
        dialect: Dialect[R],
        *,
        metadata: Metadata,
        flow: Flow,
        retry: RetryPolicy,
        address: str,
    ) -> None:
        self._method = method
        self._metadata = metadata
        self._get_model = get_model
        self._dialect = dialect
        self._flow = flow
        self._address = address
        self._recovery = Recovery(retry)
        self._link: _AsyncLink | None = None
        self._room = asyncio.Event()
        self._stirred = asyncio.Event()  # the feeder has closed a message, or has ended

    async def results(self, pairs: Iterable[Pair] | AsyncIterable[Pair]) -> AsyncGenerator[R, None]:
        """Results in order, one for each pair."""
        window = Window((await self._first_model()).limits, self._flow, time.monotonic, self._dialect)
        feeder = asyncio.create_task(self._feed(pairs, window))
        try:
            while True:
                ready = window.take_local()
                if not ready:
                    if feeder.done():
                        feeder.result()  # an error of the caller's iterable ends the run
                        if window.empty:
                            break
                    # From here to the wait inside nothing else runs, so that no stir is missed.
                    ready = await self._exchange(window)
                self._room.set()
                for result in ready:
                    yield result
            if self._link is not None:
                await self._link.finish()
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            await self._close()

    async def _feed(self, pairs: Iterable[Pair] | AsyncIterable[Pair], window: Window[R]) -> None:
        linger = _Linger(window, self._flow.linger_seconds, self._stirred)
        try:
            async for pair in each(pairs):
                while window.full:
                    self._room.clear()
                    await self._room.wait()
                window.add(pair)
                linger.start()
                if window.has_unsent:
                    self._stirred.set()
        finally:
            linger.stop()
            window.flush()
            self._stirred.set()

    async def _exchange(self, window: Window[R]) -> list[R]:
        """Takes an answer, or waits until there may be one; [] where there is nothing to hand out yet."""
        try:
            if self._link is None and window.has_unsent:
                first = self._dialect.head
                self._link = _AsyncLink(
                    self._method(metadata=self._metadata), first, window, self._stirred, wary=self._recovery.wary
                )
            response = self._link.take() if self._link is not None else None
            if response is None:
                await self._stir(None if self._link is None or window.empty else self._flow.answer_seconds)
                return []
        except grpc.RpcError as failure:
            rpc: Any = failure
            await self._lost(from_rpc_error(rpc, address=self._address), window, transport=is_transport_fault(rpc))
            return []
        except _EndedEarly as ended:
            await self._lost(ConnectionFailed(str(ended), reason="STREAM_ENDED"), window, transport=True)
            return []
        results = window.answer(response)
        self._recovery.progressed()
        return results

    async def _stir(self, seconds: float | None) -> None:
        self._stirred.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        except TimeoutError:
            raise _EndedEarly(f"the server sent no answer for {seconds:g} seconds") from None

    async def _first_model(self) -> ModelInfo:
        while True:
            try:
                return await self._admitted()
            except AssayError as error:
                await asyncio.sleep(self._recovery.failed(error, transport=False))

    async def _admitted(self) -> ModelInfo:
        model = await self._get_model()
        self._recovery.admit(model)
        return model

    async def _lost(self, error: AssayError, window: Window[R], *, transport: bool) -> None:
        """Waits, and makes sure that the same model answers again; raises when there is no use in trying."""
        await self._close()
        window.rewind()
        while True:
            await asyncio.sleep(self._recovery.failed(error, transport=transport))
            try:
                await self._admitted()
            except AssayError as again:
                error, transport = again, False
            else:
                return

    async def _close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()


class _EndedEarly(Exception):
    """The server ended the stream in good order with batches unanswered, or fell silent."""


class _Linger:
    """Closes a half-full message when it has waited for long enough."""

    def __init__(self, window: Window[Any], seconds: float, stirred: asyncio.Event) -> None:
        self._window = window
        self._seconds = seconds
        self._stirred = stirred
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._timer = None
        if self._window.lingers:
            self._window.flush()
            self._stirred.set()
        elif self._window.has_open:
            self.start()


class _AsyncLink:
    """One connection: a sender that writes what the window has, and a receiver that reads into an inbox.

    A write that meets the call's end hides the server's status from grpc.aio, and with it the reason of a refusal and when
    to come back. The sender therefore writes one batch and goes on when the server has greeted (it sends its metadata when
    it has accepted the options) or had the time to refuse; after a failure (`wary`), only when that batch is answered.
    """

    def __init__(
        self,
        call: Any,
        first: Any,
        window: Window[Any],
        stirred: asyncio.Event,
        *,
        wary: bool,
    ) -> None:
        self._call = call
        self._window = window
        self._stirred = stirred
        self._inbox: deque[Any] = deque()
        self._more = asyncio.Event()
        self._trusted = asyncio.Event()
        self._trust_seconds = None if wary else _TRUST_SECONDS
        self._sender = asyncio.create_task(self._send(first))
        self._receiver = asyncio.create_task(self._receive())
        self._greeter = asyncio.create_task(self._trusted.wait() if wary else self._greet())

    def take(self) -> Any:
        """An answer that has arrived, if any; raises how the call ended where it has."""
        self._more.set()
        if not self._inbox:
            return None
        event = self._inbox.popleft()
        if isinstance(event, Exception):
            raise event
        return event

    async def finish(self) -> None:
        """Ends the stream in good order, so that the server does not count it as cancelled."""
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._call.done_writing()
            await asyncio.wait({self._receiver}, timeout=_GOODBYE_SECONDS)

    async def close(self) -> None:
        tasks = (self._sender, self._receiver, self._greeter)
        for task in tasks:
            task.cancel()
        self._call.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, first: Any) -> None:
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):  # the receiver learns why the call ended
            await self._call.write(first)
            while True:
                message = self._window.next_unsent()
                if message is None:
                    self._more.clear()
                    await self._more.wait()
                else:
                    await self._call.write(message)
                    await self._trust()

    async def _greet(self) -> None:
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._call.initial_metadata()
            await asyncio.sleep(_SETTLE_SECONDS)
            if not self._call.done():
                self._trusted.set()

    async def _trust(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._trust_seconds):
                await self._trusted.wait()
        self._trusted.set()

    async def _receive(self) -> None:
        try:
            while (response := await self._call.read()) is not _END:
                self._trusted.set()
                self._put(response)
        except grpc.RpcError as failure:
            self._put(failure)
        else:
            self._put(_EndedEarly("the server ended the stream before it had answered everything"))

    def _put(self, event: Any) -> None:
        self._inbox.append(event)
        self._stirred.set()


async def each(pairs: Iterable[Pair] | AsyncIterable[Pair]) -> AsyncIterator[Pair]:
    """The pairs of either kind of iterable; other tasks get their turn."""
    if isinstance(pairs, AsyncIterable):
        async for pair in pairs:
            yield pair
        return
    for count, pair in enumerate(pairs):
        if count % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
        yield pair
