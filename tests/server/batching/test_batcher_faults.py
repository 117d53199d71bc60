"""The batcher when things go wrong: errors of the device, too little memory, closing, callers that vanish at random."""

import asyncio
import random
import threading
import time
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from assay_server.batching import Batcher, Lane, NullEngineObserver, Planner, Read
from assay_server.errors import AssayError, EngineFailure, Expired, NotReady
from assay_server.subject.subject import TreeRequest

from tests.server.batching.conftest import Recorder, Start
from tests.server.batching.test_batcher import activations, all_of, hold_right, plug
from tests.support.tiny_subject import Watched, names, tree_request
from tests.support.waiting import PATIENCE, until


class OutOfBounds(AssayError):
    default_reason = "OUT_OF_BOUNDS"


class Poison:
    """Fails every batch that holds one request."""

    def __init__(self, request: TreeRequest, error: BaseException) -> None:
        self.request, self.error = request, error

    def __call__(self, requests: Sequence[TreeRequest]) -> None:
        if self.request in [request for request in requests if request is self.request]:
            raise self.error


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (RuntimeError("device-side assert"), EngineFailure, "RuntimeError"),
        (OutOfBounds("a row is missing"), OutOfBounds, "a row is missing"),
        (SystemExit(3), EngineFailure, "SystemExit"),
    ],
)
async def test_an_error_of_the_device_fails_its_batch_alone(
    start: Start, watched: Watched, lane: Lane, error: BaseException, kind: type[AssayError], says: str
) -> None:
    batcher = start(budget=100)
    requests = [tree_request(50, index) for index in range(6)]
    watched.fault = Poison(requests[3], error)
    outcomes = await asyncio.wait_for(asyncio.gather(*batcher.submit(requests, lane, None), return_exceptions=True), PATIENCE)
    failed = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, kind)]
    (broken,) = [batch for batch in watched.reads if names(requests[3:4])[0] in batch]
    assert [name for index, name in enumerate(names(requests)) if index in failed] == list(broken)
    assert all(says in str(outcomes[index]) for index in failed)
    fine = [index for index in range(6) if index not in failed]
    hold_right([outcome for index in fine if isinstance(outcome := outcomes[index], Read)], [requests[index] for index in fine])
    hold_right(await all_of(batcher.submit(requests[:2], lane, None)), requests[:2])


async def test_an_error_while_preparing_ahead_fails_that_batch_alone(start: Start, watched: Watched) -> None:
    batcher = start(budget=100)
    futures = await plug(batcher, watched, Lane.BULK)
    requests = [tree_request(50, index) for index in range(6)]
    watched.prepare_fault = Poison(requests[0], ValueError("does not stack"))
    failing = batcher.submit(requests, Lane.BULK, None)
    await until(failing[0].done)
    watched.release()
    outcomes = await asyncio.wait_for(asyncio.gather(*failing, return_exceptions=True), PATIENCE)
    assert [isinstance(outcome, EngineFailure) for outcome in outcomes] == [True, True, False, False, False, False]
    hold_right((await all_of(futures + failing[2:]))[1:], requests[2:])


async def test_a_failing_token_request_leaves_the_next_one_unharmed(start: Start) -> None:
    batcher = start()
    ids = tree_request(12).tree.trunk
    bad, good = batcher.submit([activations(ids, (10**6,)), activations(ids, (3,))], Lane.INTERACTIVE, None)
    with pytest.raises(EngineFailure, match="IndexError"):
        await asyncio.wait_for(bad, PATIENCE)
    assert (await asyncio.wait_for(good, PATIENCE)).result.shape == (1, len(ids))  # pyright: ignore[reportAttributeAccessIssue]


class SmallMemory:
    """A device that holds so many tokens, and keeps an eye on what the failed batch leaves behind."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.refused: list[int] = []
        self.held_back = 0
        self._last: weakref.ref[np.ndarray] | None = None

    def __call__(self, requests: Sequence[TreeRequest]) -> None:
        if self._last is not None and self._last() is not None:
            self.held_back += 1
        total = sum(request.size for request in requests)
        if total > self.tokens:
            activations = np.empty(total)
            self._last = weakref.ref(activations)
            self.refused.append(len(requests))
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("lane", list(Lane))
async def test_a_batch_too_large_for_the_memory_is_read_in_halves(start: Start, watched: Watched, lane: Lane) -> None:
    watched.fault = memory = SmallMemory(80)
    requests = [tree_request(30, index) for index in range(10)]
    futures = start(budget=300).submit(requests, lane, None)
    hold_right(await all_of(futures), requests)
    assert memory.refused[0] == 10
    assert [len(batch) for batch in watched.reads if len(batch) <= 2] == [2, 1, 2, 2, 1, 2]
    assert memory.held_back == 0, "a half was read while the failed batch's tensors were still held"


async def test_one_item_that_no_memory_holds_fails_alone_and_says_what_to_do(start: Start, watched: Watched) -> None:
    watched.fault = SmallMemory(80)
    requests = [tree_request(size, size) for size in (20, 120, 25)]
    small, large, other = start().submit(requests, Lane.BULK, None)
    with pytest.raises(EngineFailure) as failure:
        await asyncio.wait_for(large, PATIENCE)
    assert failure.value.reason == "OUT_OF_MEMORY"
    assert failure.value.details == {"tokens": "120"}
    hold_right(await all_of([small, other]), [requests[0], requests[2]])


async def test_work_cancelled_while_its_batch_ran_out_of_memory_is_not_tried_again(start: Start, watched: Watched) -> None:
    memory, go = SmallMemory(80), threading.Event()

    def fault(requests: Sequence[TreeRequest]) -> None:
        assert go.wait(PATIENCE)
        memory(requests)

    watched.fault = fault
    batcher = start(budget=300)
    requests = [tree_request(30, index) for index in range(4)]
    futures = batcher.submit(requests, Lane.INTERACTIVE, None)
    late = batcher.submit([tree_request(30, 9)], Lane.INTERACTIVE, time.monotonic() + 0.2)
    await until(lambda: len(watched.reads) == 1)
    cancelled = [index for index, name in enumerate(names(requests)) if name in watched.reads[0]][1:]
    for index in cancelled:
        futures[index].cancel()
    await asyncio.sleep(0.25)
    go.set()
    left = [index for index in range(4) if index not in cancelled]
    hold_right(await all_of([futures[index] for index in left]), [requests[index] for index in left])
    await asyncio.wait([*late])
    assert isinstance(late[0].exception(), Expired)
    again = [name for batch in watched.reads[1:] for name in batch]
    assert not set(again) & {names(requests)[index] for index in cancelled}


async def test_closing_fails_what_waits_and_finishes_what_runs(start: Start, watched: Watched) -> None:
    batcher = start(budget=100)
    running = await plug(batcher, watched, Lane.BULK)
    waiting = batcher.submit([tree_request(40, index) for index in range(5)], Lane.BULK, None)
    await until(lambda: batcher._prefetched is not None)  # a batch that stands ready waits as well
    waiting += batcher.submit([tree_request(40, index) for index in range(5)], Lane.INTERACTIVE, None)
    closing = asyncio.create_task(asyncio.to_thread(batcher.close))
    await until(lambda: batcher._closed)
    with pytest.raises(NotReady):
        batcher.submit([tree_request(10)], Lane.BULK, None)
    watched.release()
    await asyncio.wait_for(closing, PATIENCE)
    hold_right(await all_of(running), [tree_request(10, 999)])
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE)
    assert all(isinstance(outcome, NotReady) and outcome.reason == "STOPPING" for outcome in outcomes)
    assert len(watched.reads) == 1
    assert batcher.tokens_in_flight == 0


async def test_closing_does_not_wait_for_ever_for_a_device_that_hangs(start: Start, watched: Watched) -> None:
    batcher = start()
    stuck = await plug(batcher, watched)
    stuck += batcher.submit([tree_request(20)], Lane.BULK, None)
    await asyncio.to_thread(batcher.close, 0.1)
    outcomes = await asyncio.wait_for(asyncio.gather(*stuck, return_exceptions=True), PATIENCE)
    assert all(isinstance(outcome, NotReady) for outcome in outcomes)


async def test_closing_while_a_batch_is_prepared_ahead_fails_it_too(start: Start, watched: Watched) -> None:
    batcher, ready = start(budget=100), threading.Event()

    def slowly(_: Sequence[TreeRequest]) -> None:
        if threading.current_thread().name == "assay-prefetch":
            assert ready.wait(PATIENCE)

    running = await plug(batcher, watched, Lane.BULK)
    watched.prepare_fault = slowly
    waiting = batcher.submit([tree_request(50, index) for index in range(2)], Lane.BULK, None)
    await until(lambda: "assay-prefetch" in watched.prepared_on)
    closing = asyncio.create_task(asyncio.to_thread(batcher.close))
    await until(lambda: batcher._closed)
    ready.set()
    watched.release()
    await asyncio.wait_for(closing, PATIENCE)
    await all_of(running)
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE)
    assert all(isinstance(outcome, NotReady) for outcome in outcomes)


async def test_a_batcher_closes_without_ever_having_worked_and_twice(start: Start) -> None:
    batcher = start()
    await asyncio.to_thread(batcher.close)
    await asyncio.to_thread(batcher.close)
    with pytest.raises(NotReady):
        batcher.submit([tree_request(10)], Lane.BULK, None)


def test_a_loop_that_closes_early_does_not_take_the_device_thread_with_it() -> None:
    watched = Watched()
    batcher = Batcher(watched.subject, Planner(100), NullEngineObserver())
    batcher.start()

    async def abandon() -> None:
        await plug(batcher, watched)

    async def use() -> None:
        hold_right(await all_of(batcher.submit([tree_request(20, 1)], Lane.BULK, None)), [tree_request(20, 1)])

    asyncio.run(abandon())
    watched.release()
    asyncio.run(use())
    batcher.close()
    assert not any(thread.is_alive() for thread in batcher._threads)


@pytest.mark.parametrize("seed", [1, 2])
async def test_thousands_of_callers_that_vanish_at_random_leave_nothing(
    start: Start, watched: Watched, recorder: Recorder, seed: int
) -> None:
    """Both lanes, cancellations at any moment, short deadlines, failing batches: each future ends once, the right way."""
    rng = random.Random(seed)
    kinds = [tree_request(rng.randint(4, 40), index) for index in range(60)]
    expected = dict(zip(names(kinds), kinds, strict=True))
    watched.fault = Poison(kinds[13], RuntimeError("bad luck"))
    batcher = start(budget=400, bulk_max_age=0.05)
    sent: list[tuple[str, asyncio.Future[Read]]] = []
    for _ in range(300):
        picked = rng.choices(kinds, k=10)
        deadline = rng.choice([None, None, time.monotonic() + rng.uniform(0, 0.2)])
        futures = batcher.submit(picked, rng.choice(list(Lane)), deadline)
        sent += zip(names(picked), futures, strict=True)
        for _, future in rng.sample(sent, min(len(sent), 6)):
            future.cancel()
        if rng.random() < 0.3:
            await asyncio.sleep(rng.uniform(0, 0.01))
    outcomes = await asyncio.wait_for(asyncio.gather(*(future for _, future in sent), return_exceptions=True), PATIENCE)
    tally = {kind: sum(isinstance(o, kind) for o in outcomes) for kind in (Read, asyncio.CancelledError, Expired, EngineFailure)}
    assert sum(tally.values()) == 3000
    assert min(tally.values()) > 0, tally
    sample = [(name, o) for (name, _), o in zip(sent, outcomes, strict=True) if isinstance(o, Read)][::17]
    hold_right([read for _, read in sample], [expected[name] for name, _ in sample])
    assert batcher.tokens_in_flight == 0
    await until(lambda: not any(batcher._lanes.values()))
    assert recorder.queued_tokens == {"interactive": 0, "bulk": 0}
