"""The batcher: two lanes, a budget of tokens in flight, and the one thread that owns the device.

Invariants:
- Only the device thread calls ``Subject.read``. It waits for work and for nothing else: tokenising, hashing, cache and encoding
  happen elsewhere, and while it reads one bulk batch the next full one is being prepared.
- Interactive work goes first, in batches of its own, so that it waits for at most the batch that is running; but where bulk work
  waits and none was read for ``bulk_max_age``, one batch of it takes the next turn.
- A sealed batch holds what it was cut from and nothing else, so what the device makes of it depends on nothing else either.
- Work whose caller cancelled or whose deadline passed is dropped before it reaches the device, up to the moment its batch starts.
- Every submitted future is resolved or cancelled, even if the device fails; an error of the device fails its batch alone,
  and a batch too large for its memory is split.
- ``tokens_in_flight`` counts queued and running tokens; it is 0 again once everything submitted is resolved.
"""

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from assay_server.batching.observer import EngineObserver, NullEngineObserver
from assay_server.batching.planner import Planner
from assay_server.batching.work import CallRequest, Lane, Read, Work
from assay_server.errors import AssayError, EngineFailure, Expired, NotReady
from assay_server.subject.subject import PreparedBatch, Subject, TreeRequest

logger = logging.getLogger(__name__)


class Batcher:
    """Queues work for a subject and runs it. ``start`` before use; ``close`` fails what is left.

    Args:
        subject: what reads.
        planner: what goes into a batch.
        observer: metrics.
        bulk_max_age: seconds without bulk work after which a batch of what waits is read even while interactive work waits.
    """

    def __init__(
        self, subject: Subject, planner: Planner, observer: EngineObserver | None = None, *, bulk_max_age: float = 10.0
    ) -> None:
        self._subject = subject
        self._planner = planner
        self._observer = observer or NullEngineObserver()
        self._bulk_max_age = bulk_max_age
        self._lanes: dict[Lane, deque[Work]] = {lane: deque() for lane in Lane}
        self._tokens = dict.fromkeys(Lane, 0)
        self._prefetched: tuple[list[Work], PreparedBatch] | None = None
        self._state = threading.Condition()
        self._closed = False
        self._running: list[Work] = []
        self._rate = 0.0  # tokens per second, smoothed
        self._bulk_read = 0.0  # when bulk work was last read; the device thread's
        self._threads: list[threading.Thread] = []
        self._in_flight = 0
        self._admitted: Callable[[], None] = lambda: None

    @property
    def tokens_in_flight(self) -> int:
        """Tokens queued or running."""
        return self._in_flight

    @property
    def tokens_per_second(self) -> float:
        """Recent speed of the device, 0 before the first batch."""
        return self._rate

    def start(self) -> None:
        """Start the device thread and the one that prepares ahead of it."""
        for target, name in ((self._device_loop, "assay-device"), (self._prefetch_loop, "assay-prefetch")):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def submit(
        self,
        requests: Sequence[TreeRequest | CallRequest],
        lane: Lane,
        deadline: float | None,
        *,
        sealed: bool = False,
    ) -> list["asyncio.Future[Read]"]:
        """Queue requests; call it on the event loop. Futures resolve with a ``Read`` or raise an ``AssayError``.

        ``sealed`` trees go into batches that are cut now, from their sizes alone, and hold nothing else.

        Raises:
            NotReady: the batcher is closed.
        """
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        works = [Work(request, lane, deadline, loop.create_future(), now) for request in requests]
        queued = self._seal(works) if sealed else works
        with self._state:
            if self._closed:
                raise NotReady("The server is stopping and takes no new work.", reason="STOPPING")
            self._lanes[lane].extend(queued)
            self._count(lane, sum(work.size for work in works))
            self._state.notify_all()
        self._in_flight += sum(work.size for work in works)
        for work in works:
            work.future.add_done_callback(lambda _, size=work.size: self._landed(size))
        return [work.future for work in works]

    def _seal(self, works: list[Work]) -> list[Work]:
        """Give works their batches, and bring those of one batch together."""
        batches = [[works[index] for index in chosen] for chosen in self._planner.cut([work.size for work in works])]
        for batch in batches:
            for work in batch:
                work.batch = batch
        return [work for batch in batches for work in batch]

    def on_capacity(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the event loop whenever tokens leave the batcher."""
        self._admitted = callback

    def close(self, timeout: float = 30.0) -> None:
        """Stop both threads after the running batch; what still waits, or still runs after ``timeout``, fails with NotReady."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        for thread in self._threads:
            thread.join(timeout)
        left = [work for lane in self._lanes.values() for work in lane]
        if self._prefetched is not None:
            left += self._prefetched[0]
        left += self._running  # none, unless the device hangs
        for lane in self._lanes.values():
            lane.clear()
        self._fail(left, NotReady("The server stopped before this was read.", reason="STOPPING"))

    def _landed(self, size: int) -> None:
        self._in_flight -= size
        self._admitted()

    def _count(self, lane: Lane, change: int) -> None:
        self._tokens[lane] += change
        self._observer.queued(lane.value, self._tokens[lane])

    # The device thread

    def _device_loop(self) -> None:
        _name_thread("assay-device")
        while True:
            taken = self._take()
            if taken is None:
                return
            works, batch = taken
            self._running = works
            try:
                self._run(works, batch)
            except BaseException as error:  # callers must not be left waiting
                logger.exception("batch failed outside the engine")
                self._fail(works, _failure(error))
            self._running = []
            if works[0].lane is Lane.BULK:
                self._bulk_read = time.monotonic()

    def _take(self) -> tuple[list[Work], PreparedBatch | None] | None:
        """The next batch, alive; None once closed."""
        with self._state:
            while True:
                if self._closed:
                    return None
                if self._lanes[Lane.INTERACTIVE] and not self._bulk_is_overdue():
                    works = self._pick(Lane.INTERACTIVE)
                    prepared = None
                elif self._prefetched is not None:
                    works, prepared = self._prefetched
                    self._prefetched = None
                    self._state.notify_all()
                elif self._lanes[Lane.BULK]:
                    works, prepared = self._pick(Lane.BULK), None
                else:
                    self._state.wait()
                    continue
                alive = self._alive(works)
                if len(alive) < len(works):
                    prepared = None
                if alive:
                    return alive, prepared

    def _bulk_is_overdue(self) -> bool:
        waiting = self._prefetched[0][0] if self._prefetched else next(iter(self._lanes[Lane.BULK]), None)
        if waiting is None:
            return False
        # A saturated stream is all old: what counts is that some of it was read, or every batch of it would be overdue.
        return time.monotonic() - max(waiting.enqueued, self._bulk_read) > self._bulk_max_age

    def _pick(self, lane: Lane) -> list[Work]:
        """Take a batch out of a lane; hold the lock."""
        queue = self._lanes[lane]
        while queue and queue[0].future.cancelled():
            self._count(lane, -queue.popleft().size)
        if not queue:
            return []
        if isinstance(queue[0].request, CallRequest):
            chosen = [0]
        elif queue[0].batch is not None:
            chosen = [index for index, _ in enumerate(itertools.takewhile(lambda work: work.batch is queue[0].batch, queue))]
        else:
            window = [work for _, work in zip(range(self._planner.window), queue, strict=False)]
            trees = [
                index for index, work in enumerate(window) if work.batch is None and not isinstance(work.request, CallRequest)
            ]
            sizes = [window[index].size for index in trees]
            chosen = [trees[i] for i in self._planner.select(sizes, time.monotonic() - queue[0].enqueued)]
        works = [queue[index] for index in chosen]
        for index in reversed(chosen):
            del queue[index]
        self._count(lane, -sum(work.size for work in works))
        return works

    def _alive(self, works: list[Work]) -> list[Work]:
        now = time.monotonic()
        alive = [work for work in works if not work.future.cancelled()]
        late = [work for work in alive if work.deadline is not None and work.deadline <= now]
        if late:
            self._fail(
                late, Expired("The deadline passed before the model could read this; allow more time or send less at once.")
            )
            alive = [work for work in alive if work not in late]
        return alive

    def _run(self, works: list[Work], batch: PreparedBatch | None) -> None:
        started = time.monotonic()
        for work in works:
            self._observer.queue_wait(work.lane.value, started - work.enqueued)
        results: Sequence[object] | None = None
        computed = 0
        try:
            if isinstance(works[0].request, CallRequest):
                results = [works[0].request.run(self._subject)]
                computed = works[0].size
            else:
                if batch is None:
                    batch = self._subject.prepare([_tree(work) for work in works])
                results = self._subject.read(batch)
                computed = batch.trees.computed
        except torch.OutOfMemoryError:
            pass  # split below: until this block ends, the exception holds the tensors that filled the memory
        except AssayError as error:
            self._fail(works, error)
            return
        except Exception as error:
            logger.exception("the engine failed on a batch of %d", len(works))
            self._fail(works, _failure(error))
            return
        if results is None:
            self._split(works)
            return
        seconds = time.monotonic() - started
        self._observe(works, computed, seconds)
        self._finish(works, results, started, seconds)

    def _split(self, works: list[Work]) -> None:
        """Read a batch that the device's memory did not hold in halves."""
        torch.cuda.empty_cache()
        if len(works) == 1:
            self._fail(
                works,
                EngineFailure(
                    f"One item of {works[0].size} tokens does not fit in the device's memory. Shorten it, or lower batch_tokens.",
                    reason="OUT_OF_MEMORY",
                    details={"tokens": works[0].size},
                ),
            )
            return
        half = len(works) // 2
        for part in (works[:half], works[half:]):
            if alive := self._alive(part):
                self._run(alive, None)

    def _observe(self, works: list[Work], computed: int, seconds: float) -> None:
        tokens = sum(work.size for work in works)
        saved = sum(0 if isinstance(work.request, CallRequest) else work.request.tree.shared for work in works)
        if seconds > 0:
            self._rate = tokens / seconds if not self._rate else 0.8 * self._rate + 0.2 * tokens / seconds
        self._observer.batch(tokens, saved, tokens / max(1, computed), seconds, len(works))
        if self._subject.device.type == "cuda":
            self._observer.device_memory(torch.cuda.memory_allocated(self._subject.device))

    def _finish(self, works: list[Work], results: Sequence[object], started: float, seconds: float) -> None:
        def land() -> None:
            for work, result in zip(works, results, strict=True):
                if work.future.done():
                    continue
                if isinstance(result, AssayError):
                    work.future.set_exception(result)
                else:
                    work.future.set_result(Read(result, started - work.enqueued, seconds))  # pyright: ignore[reportArgumentType]

        _on_loop(works, land)

    def _fail(self, works: Sequence[Work], error: AssayError) -> None:
        def land() -> None:
            for work in works:
                if not work.future.done():
                    work.future.set_exception(error)

        _on_loop(works, land)

    # The prefetch thread

    def _prefetch_loop(self) -> None:
        while True:
            with self._state:
                while not self._closed and (self._prefetched is not None or self._tokens[Lane.BULK] < self._planner.budget):
                    self._state.wait()
                if self._closed:
                    return
                works = self._pick(Lane.BULK)
            works = self._alive(works)
            if not works:
                continue
            if isinstance(works[0].request, CallRequest):
                with self._state:  # nothing to prepare: back to the head of its lane
                    self._lanes[Lane.BULK].extendleft(reversed(works))
                    self._count(Lane.BULK, sum(work.size for work in works))
                    self._state.notify_all()
                    self._state.wait(0.01)
                continue
            try:
                batch = self._subject.prepare([_tree(work) for work in works])
            except Exception as error:
                logger.exception("preparing a batch of %d failed", len(works))
                self._fail(works, _failure(error))
                continue
            with self._state:
                if self._closed:
                    self._lanes[Lane.BULK].extendleft(reversed(works))
                    return
                self._prefetched = (works, batch)
                self._state.notify_all()


def _name_thread(name: str) -> None:
    """Name this thread, and those that the math libraries start from it, for top, py-spy and the benchmarks."""
    with contextlib.suppress(OSError):  # not Linux
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


def _failure(error: BaseException) -> EngineFailure:
    return EngineFailure(f"The engine failed: {type(error).__name__}. The server's log has the details.")


def _tree(work: Work) -> TreeRequest:
    assert isinstance(work.request, TreeRequest), "a call went into a batch of trees: this is a bug"
    return work.request


def _on_loop(works: Sequence[Work], land: Callable[[], None]) -> None:
    if not works:
        return
    try:
        works[0].future.get_loop().call_soon_threadsafe(land)
    except RuntimeError:  # the loop is closed, so no caller waits
        logger.debug("the event loop closed before %d results were delivered", len(works))
