"""The blocking driver of a stream of pairs: one connection at a time, resumed after the last answer when it breaks.

Invariant: the caller's iterable is consumed in the caller's thread, one pair at a time and only while there is room, so
it may use anything that belongs to that thread; answers that arrive meanwhile wait in memory, bounded by `Flow`.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Generic

import grpc

from assay.errors import AssayError, ConnectionFailed, from_rpc_error, is_transport_fault
from assay.flow import Dialect, Flow, R, Recovery, RetryPolicy, Window
from assay.model import ModelInfo
from assay.pairs import Pair
from assay.transport import Metadata

_GOODBYE_SECONDS = 2.0  # every result is here by then: what the server still says does not matter


class PairStream(Generic[R]):
    """One run of `Client.score`, or of `Client.offsets`.

    Args:
        method: the stub's method.
        get_model: asks the server what it has loaded; called for each connection.
        dialect: what the stream says: its options, and what a pair's result is.
        metadata: what the call carries.
        address: named in errors.
    """

    def __init__(
        self,
        method: Callable[..., Any],
        get_model: Callable[[], ModelInfo],
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
        self._link: _Link | None = None

    def results(self, pairs: Iterable[Pair]) -> Generator[R, None, None]:
        """Results in order, one for each pair."""
        window = Window(self._first_model().limits, self._flow, time.monotonic, self._dialect)
        source = iter(pairs)
        exhausted = False
        try:
            while not (exhausted and window.empty):
                if not exhausted:
                    exhausted = self._fill(source, window)
                yield from window.take_local()
                if not window.empty:
                    yield from self._exchange(window, last=exhausted)
            if self._link is not None:
                self._link.finish()
        finally:
            self._close()

    def _fill(self, source: Iterator[Pair], window: Window[R]) -> bool:
        """Takes pairs until the window is full or an answer is there; True when the source has ended."""
        while not window.full:
            try:
                pair = next(source)
            except StopIteration:
                window.flush()
                return True
            window.add(pair)
            if window.lingers:
                window.flush()
            if self._link is not None:
                self._link.send_all(window)
                if self._link.has_answer:
                    return False
            elif window.has_unsent:
                return False  # the first message opens the connection; the rest is packed while it travels
        return False

    def _exchange(self, window: Window[R], *, last: bool) -> list[R]:
        """Sends what waits and takes one answer. [] after a lost connection, or while there is room for more pairs."""
        try:
            link = self._connected()
            link.send_all(window)
            if not last and not window.full and not link.has_answer:
                return []
            response = link.receive(self._flow.answer_seconds)
        except grpc.RpcError as failure:
            rpc: Any = failure
            self._lost(from_rpc_error(rpc, address=self._address), window, transport=is_transport_fault(rpc))
            return []
        except _EndedEarly as ended:
            self._lost(ConnectionFailed(str(ended), reason="STREAM_ENDED"), window, transport=True)
            return []
        results = window.answer(response)
        self._recovery.progressed()
        return results

    def _first_model(self) -> ModelInfo:
        while True:
            try:
                return self._admitted()
            except AssayError as error:
                time.sleep(self._recovery.failed(error, transport=False))

    def _admitted(self) -> ModelInfo:
        model = self._get_model()
        self._recovery.admit(model)
        return model

    def _connected(self) -> "_Link":
        if self._link is None:
            self._link = _Link(self._method, self._metadata, self._dialect.head)
        return self._link

    def _lost(self, error: AssayError, window: Window[R], *, transport: bool) -> None:
        """Waits, and makes sure that the same model answers again; raises when there is no use in trying."""
        self._close()
        window.rewind()
        while True:
            time.sleep(self._recovery.failed(error, transport=transport))
            try:
                self._admitted()
            except AssayError as again:
                error, transport = again, False
            else:
                return

    def _close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


class _EndedEarly(Exception):
    """The server ended the stream in good order with batches unanswered, or fell silent."""


class _Link:
    """One connection: an outbox that gRPC's thread empties, and an inbox that ours fills."""

    def __init__(self, method: Callable[..., Any], metadata: Metadata, first: Any) -> None:
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._outbox.put(first)
        self._call = method(iter(self._outbox.get, None), metadata=metadata)
        threading.Thread(target=self._listen, name="assay-stream", daemon=True).start()

    @property
    def has_answer(self) -> bool:
        return not self._inbox.empty()

    def send_all(self, window: Window[Any]) -> None:
        while (message := window.next_unsent()) is not None:
            self._outbox.put(message)

    def receive(self, timeout: float | None) -> Any:
        try:
            answer = self._inbox.get(timeout=timeout)
        except Empty:
            raise _EndedEarly(f"the server sent no answer for {timeout:g} seconds") from None
        if answer is None:
            raise _EndedEarly("the server ended the stream before it had answered everything")
        if isinstance(answer, grpc.RpcError):
            raise answer
        return answer

    def finish(self) -> None:
        """Ends the stream in good order, so that the server does not count it as cancelled."""
        self._outbox.put(None)
        with contextlib.suppress(grpc.RpcError, _EndedEarly):
            self.receive(_GOODBYE_SECONDS)

    def close(self) -> None:
        self._outbox.put(None)  # gRPC's thread waits on the outbox even after the call has ended
        self._call.cancel()

    def _listen(self) -> None:
        try:
            for response in self._call:
                self._inbox.put(response)
        except grpc.RpcError as failure:
            self._inbox.put(failure)
        else:
            self._inbox.put(None)
