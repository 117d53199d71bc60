"""Work of another kind on the device: in its place in the line, on the one thread, its errors its own."""

import asyncio
import threading
import time

import pytest
from assay_server.batching import Lane
from assay_server.errors import EngineFailure, Expired, InvalidItem
from assay_server.scorer import ScoreOptions

from tests.support.tiny_scorer import WatchedTokenizer, pair_of, score_one, scorers
from tests.support.tiny_subject import Watched
from tests.support.waiting import until


async def test_a_call_runs_on_the_device_thread_with_the_subject_and_gives_its_answer() -> None:
    watched = Watched()
    async with scorers(watched, WatchedTokenizer()) as begin:
        name, info = await begin().call(lambda subject: (threading.current_thread().name, subject.info), 10)
    assert name == "assay-device"
    assert info == watched.real.info


async def test_what_a_call_raises_fails_that_call_alone() -> None:
    def refuse(_: object) -> None:
        raise InvalidItem("not so", reason="NOT_SO")

    def break_down(_: object) -> None:
        raise ZeroDivisionError

    async with scorers(Watched(), WatchedTokenizer()) as begin:
        scorer = begin()
        with pytest.raises(InvalidItem) as caught:
            await scorer.call(refuse, 10)
        assert caught.value.reason == "NOT_SO"
        with pytest.raises(EngineFailure):
            await scorer.call(break_down, 10)
        assert (await score_one(scorer, pair_of(40))).pooled.read > 0


async def test_interactive_pairs_overtake_bulk_calls() -> None:
    watched, order = Watched(), []
    async with scorers(watched, WatchedTokenizer()) as begin:
        scorer = begin()
        watched.hold()
        first = asyncio.create_task(score_one(scorer, pair_of(30, 1)))
        await until(lambda: watched.reads)
        bulk = asyncio.create_task(scorer.call(lambda _: order.append(len(watched.reads)), 10, lane=Lane.BULK))
        await until(lambda: scorer.tokens_in_flight == 40)
        quick = asyncio.create_task(score_one(scorer, pair_of(30, 2), ScoreOptions(lane=Lane.INTERACTIVE)))
        await until(lambda: scorer.tokens_in_flight == 70)
        watched.release()
        await asyncio.gather(first, bulk, quick)
    assert order == [2]  # both pairs had been read when the call ran


async def test_a_cancelled_or_late_call_never_reaches_the_device() -> None:
    watched, ran = Watched(), []
    async with scorers(watched, WatchedTokenizer()) as begin:
        scorer = begin()
        watched.hold()
        first = asyncio.create_task(score_one(scorer, pair_of(30, 1)))
        await until(lambda: watched.reads)
        cancelled = asyncio.create_task(scorer.call(lambda _: ran.append("cancelled"), 10))
        late = asyncio.create_task(scorer.call(lambda _: ran.append("late"), 10, deadline=time.monotonic() + 0.1))
        await asyncio.sleep(0.15)
        cancelled.cancel()
        watched.release()
        await first
        with pytest.raises(Expired):
            await late
        assert await scorer.call(lambda _: "after", 10) == "after"
    assert ran == []


async def test_work_off_the_device_has_the_subject_and_another_thread() -> None:
    async with scorers(Watched(), WatchedTokenizer()) as begin:
        name = await begin().off_device(lambda subject: (threading.current_thread().name, subject.info.model_id))
    assert name[0].startswith("assay-tokenize")
    assert name[1] == "tiny"
