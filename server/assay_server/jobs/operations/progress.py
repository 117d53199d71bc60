"""Progress of one operation, reported from any thread, and whether it should stop.

Speed is taken over the last seconds, not over the whole phase: a phase whose first pairs came from the cache would otherwise
promise an end that never comes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from assay_server.errors import Cancelled

WINDOW_SECONDS = 15.0
T = TypeVar("T")


class Progress:
    """One operation's progress. Thread-safe.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._marks: deque[tuple[float, int]] = deque()
        self._phase = "waiting"
        self._entered = clock()
        self._spent: dict[str, float] = {}
        self._done = 0
        self._total = 0
        self.updated = time.time()

    @property
    def phase(self) -> str:
        """The current phase."""
        return self._phase

    @property
    def done(self) -> int:
        """Pairs (or texts) finished in this phase."""
        return self._done

    @property
    def total(self) -> int:
        """Pairs (or texts) of this phase; 0 while unknown."""
        return self._total

    @property
    def stopping(self) -> bool:
        """Whether the work should stop at the next safe point."""
        return self._stop.is_set()

    def enter(self, phase: str, total: int = 0, done: int = 0) -> None:
        """Begin a phase, of whose ``total`` ``done`` are finished already."""
        with self._guard:
            self._spent, self._entered = self._seconds(), self._clock()
            self._phase, self._total, self._done = phase, total, done
            self._marks.clear()
            self._mark()

    def at(self, phase: str, done: int, total: int) -> None:
        """Set the progress of a phase, beginning it if it is not the current one. A safe point."""
        self.check()
        if (phase, total) != (self._phase, self._total) or done < self._done:
            self.enter(phase, total, done)
        else:
            self.advance(done - self._done)

    def advance(self, count: int) -> None:
        """Count more as finished."""
        with self._guard:
            self._done += count
            self._mark()

    def speed(self) -> tuple[float, float]:
        """Recent pairs per second, and seconds left of this phase; 0 while unknown."""
        with self._guard:
            self._forget()
            if not self._marks:
                return 0.0, 0.0
            began, before = self._marks[0]
            seconds = self._clock() - began
            rate = (self._done - before) / seconds if seconds > 0 else 0.0
            left = max(0, self._total - self._done)
            return rate, left / rate if rate > 0 else 0.0

    def seconds(self) -> dict[str, float]:
        """Seconds per phase so far, in this process; a phase that was entered several times counts them all."""
        with self._guard:
            return self._seconds()

    def stop(self) -> None:
        """Ask the work to stop."""
        self._stop.set()

    def check(self) -> None:
        """A safe point. Raises Cancelled if the work should stop."""
        if self._stop.is_set():
            raise Cancelled("The operation was asked to stop.")

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work in its own thread, off the event loop.

        A cancelled caller stops the work at its next ``check`` and waits for that, so that two runs never overlap.
        """
        task = asyncio.ensure_future(run_in_thread(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.stop()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen: what it says is that it stopped
            raise

    def _seconds(self) -> dict[str, float]:
        return {**self._spent, self._phase: self._spent.get(self._phase, 0.0) + self._clock() - self._entered}

    def _mark(self) -> None:
        self.updated = time.time()
        self._marks.append((self._clock(), self._done))
        self._forget()

    def _forget(self) -> None:
        oldest = self._clock() - WINDOW_SECONDS
        while len(self._marks) > 1 and self._marks[1][0] < oldest:
            self._marks.popleft()


def run_in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run ``work`` in a daemon thread: unlike an executor's thread, it does not delay the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def land(settle: Callable[[], None]) -> None:
        if not future.done():
            settle()

    def run() -> None:
        try:
            outcome = work()
        except BaseException as error:
            failure = error
            _on(loop, lambda: land(lambda: future.set_exception(failure)))
        else:
            _on(loop, lambda: land(lambda: future.set_result(outcome)))

    threading.Thread(target=run, name="assay-job", daemon=True).start()
    return future


def _on(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return
