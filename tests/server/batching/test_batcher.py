"""The batcher with a real subject: results, lanes, turns, and what never reaches the device."""

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest
from assay_server.batching import Batcher, CallRequest, Lane, Read
from assay_server.errors import Expired
from assay_server.subject.subject import TreeRequest
from assay_server.subject.types import Pooled

from tests.server.batching.conftest import Recorder, Start
from tests.support.tiny_subject import Watched, about_equal, names, read_alone, tiny_subject, tree_request
from tests.support.waiting import PATIENCE, until

Futures = list["asyncio.Future[Read]"]


def activations(ids: np.ndarray, features: tuple[int, ...]) -> CallRequest:
    return CallRequest(len(ids), lambda subject: subject.activations(ids, features))


async def plug(batcher: Batcher, watched: Watched, lane: Lane = Lane.INTERACTIVE) -> Futures:
    """Let one read start and wait on the device."""
    watched.hold()
    futures = batcher.submit([tree_request(10, 999)], lane, None)
    await until(lambda: len(watched.reads) == 1)
    return futures


async def all_of(futures: Futures) -> list[Read]:
    return await asyncio.wait_for(asyncio.gather(*futures), PATIENCE)


def hold_right(reads: Sequence[Read], requests: Sequence[TreeRequest]) -> None:
    for read, request in zip(reads, requests, strict=True):
        assert isinstance(read.result, Pooled)
        assert about_equal(read.result, read_alone(request))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("lane", list(Lane))
async def test_every_request_gets_its_own_answer(start: Start, watched: Watched, padded: bool, lane: Lane) -> None:
    requests = [tree_request(6 + 7 * index % 60, index, include_prompt=index % 3 == 0) for index in range(40)]
    reads = await all_of(start(padded=padded).submit(requests, lane, None))
    hold_right(reads, requests)
    assert 1 < len(watched.reads) < 40, "they were batched"
    assert all(read.queue_seconds >= 0 and read.forward_seconds > 0 for read in reads)


async def test_a_token_request_gets_its_activations(start: Start) -> None:
    batcher = start()
    ids = tree_request(30, 1).tree.trunk
    for lane in Lane:
        futures = batcher.submit([activations(ids, (5, 2)), tree_request(9, 1), activations(ids[:4], (7,))], lane, None)
        reads = await all_of(futures)
        assert np.array_equal(reads[0].result, tiny_subject().activations(ids, (5, 2)))
        assert np.array_equal(reads[2].result, tiny_subject().activations(ids[:4], (7,)))
        hold_right([reads[1]], [tree_request(9, 1)])


async def test_tokens_in_flight_count_what_is_queued_and_what_runs(start: Start, watched: Watched, recorder: Recorder) -> None:
    batcher = start()
    futures = await plug(batcher, watched)
    futures += batcher.submit([tree_request(20, 1), tree_request(30, 2)], Lane.BULK, None)
    assert batcher.tokens_in_flight == 10 + 50
    assert recorder.queued_tokens == {"interactive": 0, "bulk": 50}
    watched.release()
    await all_of(futures)
    assert batcher.tokens_in_flight == 0
    assert batcher.tokens_per_second > 0


async def test_the_observer_learns_of_every_batch(start: Start, watched: Watched, recorder: Recorder) -> None:
    requests = [tree_request(30, index) for index in range(10)]
    await all_of(start(budget=150).submit(requests, Lane.INTERACTIVE, None))
    assert recorder.batches == [(150, 50, 1.0, 5), (150, 50, 1.0, 5)]
    assert [lane for lane, _ in recorder.waits] == ["interactive"] * 10


async def test_interactive_work_is_read_right_after_the_running_batch(start: Start, watched: Watched) -> None:
    batcher = start(budget=100)
    futures = await plug(batcher, watched, Lane.BULK)
    futures += batcher.submit([tree_request(50, index) for index in range(20)], Lane.BULK, None)
    await until(lambda: batcher._prefetched is not None)  # a bulk batch stands ready, and yet
    urgent = tree_request(12, 5)
    futures += batcher.submit([urgent], Lane.INTERACTIVE, None)
    watched.release()
    await all_of(futures)
    assert watched.reads[1] == names([urgent]), "alone, and next"


async def test_lanes_never_share_a_batch(start: Start, watched: Watched) -> None:
    batcher = start()
    futures = await plug(batcher, watched)
    lanes = {lane: [tree_request(15, 100 * n + index) for index in range(40)] for n, lane in enumerate(Lane)}
    for pairs in zip(*lanes.values(), strict=True):
        for lane, request in zip(lanes, pairs, strict=True):
            futures += batcher.submit([request], lane, None)
    watched.release()
    await all_of(futures)
    interactive = set(names(lanes[Lane.INTERACTIVE]))
    mixed = [batch for batch in watched.reads[1:] if 0 < len(interactive.intersection(batch)) < len(batch)]
    assert not mixed
    assert set(watched.read_names[1:41]) == interactive


async def test_bulk_work_that_waited_too_long_takes_the_next_turn(start: Start, watched: Watched) -> None:
    batcher = start(budget=50, bulk_max_age=0.3)
    futures = await plug(batcher, watched)
    waiting = tree_request(20, 1)
    futures += batcher.submit([waiting], Lane.BULK, None)
    flood = [tree_request(50, index) for index in range(5)]
    futures += batcher.submit(flood, Lane.INTERACTIVE, None)
    await asyncio.sleep(0.35)
    watched.release()
    await all_of(futures)
    assert watched.reads[1:] == [(name,) for name in names([waiting, *flood])]


async def test_bulk_work_gets_through_an_interactive_flood_that_never_ends(start: Start, watched: Watched) -> None:
    batcher = start(budget=50, bulk_max_age=0.2)
    watched.delay = 0.01
    bulk = batcher.submit([tree_request(50, 10_000 + index) for index in range(3)], Lane.BULK, None)
    flood: Futures = []
    began = time.monotonic()
    while not all(future.done() for future in bulk):
        assert time.monotonic() - began < PATIENCE, "bulk work starves"
        if sum(not future.done() for future in flood) < 6:
            flood += batcher.submit([tree_request(50, len(flood))], Lane.INTERACTIVE, None)
        await asyncio.sleep(0)
    await all_of([*bulk, *flood])
    assert len(flood) > 6


async def test_a_backlog_of_old_bulk_work_does_not_keep_interactive_work_waiting(start: Start, watched: Watched) -> None:
    """Under a saturating stream all bulk work is old, and some of it was read just now."""
    batcher = start(budget=50, bulk_max_age=0.5)
    futures = await plug(batcher, watched, Lane.BULK)
    futures += batcher.submit([tree_request(50, index) for index in range(10)], Lane.BULK, None)
    await asyncio.sleep(0.6)
    urgent = tree_request(12, 5)
    futures += batcher.submit([urgent], Lane.INTERACTIVE, None)
    watched.release()
    await all_of(futures)
    assert watched.reads[1] == names([urgent])


async def test_a_full_bulk_batch_is_prepared_while_another_is_read(start: Start, watched: Watched) -> None:
    batcher = start(budget=100)
    futures = await plug(batcher, watched, Lane.BULK)
    requests = [tree_request(50, index) for index in range(6)]
    futures += batcher.submit(requests, Lane.BULK, None)
    await until(lambda: "assay-prefetch" in watched.prepared_on)
    assert len(watched.reads) == 1, "the device still reads"
    watched.release()
    hold_right((await all_of(futures))[1:], requests)
    assert [len(batch) for batch in watched.reads] == [1, 2, 2, 2]


@pytest.mark.parametrize("lane", list(Lane))
async def test_cancelled_work_never_reaches_the_device(start: Start, watched: Watched, lane: Lane) -> None:
    batcher = start(budget=100)
    futures = await plug(batcher, watched, lane)
    requests = [tree_request(20, index) for index in range(30)]
    queued = batcher.submit(requests, lane, None)
    for future in queued[::3]:
        future.cancel()
    await asyncio.sleep(0)
    assert batcher.tokens_in_flight == 10 + 20 * 20
    watched.release()
    await all_of(futures + [future for future in queued if not future.cancelled()])
    assert set(watched.read_names[1:]) == {name for index, name in enumerate(names(requests)) if index % 3}


@pytest.mark.parametrize("cancelled", [1, 2])
async def test_work_cancelled_after_it_was_prepared_never_reaches_the_device(
    start: Start, watched: Watched, cancelled: int
) -> None:
    batcher = start(budget=100)
    futures = await plug(batcher, watched, Lane.BULK)
    requests = [tree_request(50, index) for index in range(2)]
    queued = batcher.submit(requests, Lane.BULK, None)
    await until(lambda: batcher._prefetched is not None)
    for future in queued[:cancelled]:
        future.cancel()
    watched.release()
    reads = await all_of(futures + queued[cancelled:])
    hold_right(reads[1:], requests[cancelled:])
    await until(lambda: batcher._prefetched is None)
    assert tuple(watched.read_names[1:]) == names(requests[cancelled:])


@pytest.mark.parametrize("prepared", [False, True])
async def test_expired_work_never_reaches_the_device_and_says_so(start: Start, watched: Watched, prepared: bool) -> None:
    batcher = start(budget=100)
    futures = await plug(batcher, watched, Lane.BULK)
    late, fine = tree_request(50, 1), tree_request(50, 2)
    expiring = batcher.submit([late], Lane.BULK, time.monotonic() + 0.2)
    if prepared:
        futures += batcher.submit([fine], Lane.BULK, time.monotonic() + 60)
        await until(lambda: batcher._prefetched is not None)
    await asyncio.sleep(0.25)
    watched.release()
    with pytest.raises(Expired):
        await asyncio.wait_for(expiring[0], PATIENCE)
    hold_right((await all_of(futures))[1:], [fine] * prepared)
    assert names([late])[0] not in watched.read_names


async def test_work_cancelled_in_every_way_at_once_leaves_nothing(start: Start, watched: Watched) -> None:
    """Everything queued is cancelled or expires while the device is busy: it goes back to sleep with empty lanes."""
    batcher = start(budget=100)
    futures = await plug(batcher, watched)
    dropped: Futures = []
    for lane in Lane:
        dropped += batcher.submit([tree_request(20, index) for index in range(30)], lane, None)
        dropped += batcher.submit([tree_request(20, index) for index in range(30)], lane, time.monotonic())
    for future in dropped[::2]:
        future.cancel()
    watched.release()
    outcomes = await asyncio.wait_for(asyncio.gather(*dropped, return_exceptions=True), PATIENCE)
    await all_of(futures)
    expired = sum(isinstance(outcome, Expired) for outcome in outcomes)
    assert 0 < expired < len(dropped)
    cancelled_and_timely = sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    read = sum(isinstance(outcome, Read) for outcome in outcomes)
    assert expired + cancelled_and_timely + read == len(dropped)
    assert len(watched.read_names) == 1 + read
