"""StreamPairs over a real channel: order, pipelining, back-pressure, and what a stream leaves behind when it ends."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from assay.v1 import scoring_pb2
from assay_server.errors import Overloaded
from assay_server.rpc.streams import PairStream
from assay_server.scorer import Lane

from tests.support.fake_scorer import FakeScorer
from tests.support.harness import Harness, Start, settled
from tests.support.waiting import in_time, until
from tests.support.wire import batch, decode, drained, head, pair, refused_stream


async def sending(*messages: scoring_pb2.StreamPairsRequest) -> AsyncIterator[scoring_pb2.StreamPairsRequest]:
    for message in messages:
        yield message


async def test_answers_come_in_order_one_for_each_batch(harness: Harness) -> None:
    batches = [batch(n * 3, pair(n), pair(n + 100)) for n in range(50)]
    responses = await drained(harness.scoring.StreamPairs(sending(head(top_k=2), *batches)))
    assert [response.sequence for response in responses] == [n * 3 for n in range(50)]
    assert [[r.id for r in response.results] for response in responses] == [[f"pair-{n}", f"pair-{n + 100}"] for n in range(50)]
    assert all(len(r.score.by_max.features) == 2 for response in responses for r in response.results)
    assert {call[0].lane for call in harness.scorer.calls} == {Lane.BULK}


async def test_a_stream_and_a_unary_call_give_the_same_scores(harness: Harness) -> None:
    pairs = [pair(n) for n in range(10)]
    unary = await harness.scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=pairs))
    (streamed,) = await drained(harness.scoring.StreamPairs(sending(head(), batch(0, *pairs))))
    assert list(streamed.results) == list(unary.results)


async def test_a_bad_pair_fails_in_its_place_and_the_stream_goes_on(harness: Harness) -> None:
    responses = await drained(
        harness.scoring.StreamPairs(sending(head(), batch(0, pair(0), pair(1, chosen=""), pair(2)), batch(1)))
    )
    assert [r.WhichOneof("outcome") for r in responses[0].results] == ["score", "error", "score"]
    assert decode(responses[0].results[1].error).violations == ["batch.pairs[1].chosen"]
    assert responses[1].results[0].HasField("score")


async def test_several_batches_are_in_flight_at_once(start: Start) -> None:
    harness = await start(stream_batches=4)
    harness.scorer.delay = 0.05
    responses = await drained(harness.scoring.StreamPairs(sending(head(), *[batch(n) for n in range(12)])))
    assert [response.sequence for response in responses] == list(range(12))
    assert harness.scorer.most_running == 4


async def test_later_batches_do_not_overtake_a_slow_one(harness: Harness) -> None:
    harness.scorer.delays = [0.3, 0.0, 0.0, 0.1, 0.0]
    call = harness.scoring.StreamPairs(sending(head(), *[batch(n) for n in range(5)]))
    await until(lambda: harness.scorer.finished == 4)
    assert harness.scorer.running == 1
    assert [response.sequence for response in await drained(call)] == list(range(5))


async def test_reading_stops_where_the_client_does_not_read(start: Start) -> None:
    harness = await start(scorer=FakeScorer(nnz=500), stream_batches=3)
    call = harness.scoring.StreamPairs()
    await call.write(head(include_features=True, include_mean_residual=True))

    async def push() -> None:
        for number in range(300):
            await call.write(batch(number, *[pair(n) for n in range(32)]))
        await call.done_writing()

    pushing = asyncio.ensure_future(push())
    await until(lambda: harness.scorer.started > 3)
    await settles(lambda: harness.scorer.started)
    assert harness.scorer.started < 60, "the server went on reading for a client that does not read"
    assert not pushing.done()
    assert [response.sequence for response in await drained(call)] == list(range(300))
    await pushing


async def test_the_bytes_read_ahead_are_bounded(start: Start) -> None:
    harness = await start(stream_batches=100, stream_bytes=100_000)
    harness.scorer.gate.clear()
    big = [batch(n, pair(n, chosen="x" * 30_000)) for n in range(20)]
    call = harness.scoring.StreamPairs(sending(head(), *big))
    await until(lambda: harness.scorer.running == 3)
    await settles(lambda: harness.scorer.running)
    assert harness.scorer.running == 3
    harness.scorer.gate.set()
    assert len(await drained(call)) == 20
    assert harness.scorer.most_running == 3


async def test_a_batch_larger_than_the_bound_still_passes_alone(start: Start) -> None:
    harness = await start(stream_bytes=1024)
    big = [batch(n, pair(n, chosen="x" * 30_000)) for n in range(3)]
    assert len(await drained(harness.scoring.StreamPairs(sending(head(), *big)))) == 3
    assert harness.scorer.most_running == 1


@pytest.mark.parametrize(
    ("messages", "reason", "field", "answered"),
    [
        ([batch(0)], "STREAM_ORDER", "options", 0),
        ([scoring_pb2.StreamPairsRequest()], "STREAM_ORDER", "options", 0),
        ([head(), batch(0), head()], "STREAM_ORDER", "options", 1),
        ([head(), batch(0), scoring_pb2.StreamPairsRequest()], "STREAM_ORDER", "payload", 1),
        ([head(), batch(5), batch(5)], "SEQUENCE_ORDER", "batch.sequence", 1),
        ([head(), batch(5), batch(6), batch(4)], "SEQUENCE_ORDER", "batch.sequence", 2),
        ([head(), batch(-1)], "SEQUENCE_ORDER", "batch.sequence", 0),
        ([head(), scoring_pb2.StreamPairsRequest(batch={"sequence": 0})], "EMPTY_REQUEST", "batch.pairs", 0),
        ([head(), batch(0), batch(1, *[pair(n) for n in range(9)])], "TOO_MANY_PAIRS", "batch.pairs", 1),
        ([head(top_k=-1)], "OUT_OF_RANGE", "options.score.top_k", 0),
        ([head(concepts=[{"name": "a", "feature": 10**6}])], "UNKNOWN_FEATURE", "options.score.concepts[0].feature", 0),
    ],
)
async def test_a_broken_stream_ends_by_reason_after_what_was_accepted_is_answered(
    start: Start, messages: list[Any], reason: str, field: str, answered: int
) -> None:
    harness = await start(max_pairs_per_message=8)
    harness.scorer.delay = 0.02
    error, received = await refused_stream(harness.address, *messages)
    assert (error.code, error.info.reason, error.violations) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [field])
    assert len(received) == answered
    await settled(harness)


async def test_a_stream_without_messages_or_batches_ends_well(harness: Harness) -> None:
    assert await drained(harness.scoring.StreamPairs(sending())) == []
    assert await drained(harness.scoring.StreamPairs(sending(head()))) == []


async def test_half_close_drains_what_is_in_flight(harness: Harness) -> None:
    harness.scorer.gate.clear()
    call = harness.scoring.StreamPairs(sending(head(), *[batch(n) for n in range(8)]))
    await until(lambda: harness.scorer.running == 8)
    harness.scorer.gate.set()
    assert len(await drained(call)) == 8
    assert await call.code() is grpc.StatusCode.OK


async def test_a_cancelled_stream_leaves_nothing_running(harness: Harness) -> None:
    harness.scorer.gate.clear()
    call = harness.scoring.StreamPairs(sending(head(), *[batch(n) for n in range(8)]))
    await until(lambda: harness.scorer.running == 8)
    call.cancel()
    await settled(harness)
    assert harness.scorer.finished == 0
    ours = [task for task in asyncio.all_tasks() if "streaming" in repr(task.get_coro())]
    assert ours == []


async def test_streams_that_ended_badly_leave_no_memory(harness: Harness) -> None:
    harness.scorer.gate.clear()
    for _ in range(20):
        call = harness.scoring.StreamPairs(sending(head(), *[batch(n) for n in range(4)]))
        await until(lambda: harness.scorer.running == 4)
        call.cancel()
        await settled(harness)
    del call
    await asyncio.sleep(0.05)
    gc.collect()
    assert [kept for kept in gc.get_objects() if type(kept) is PairStream] == []


async def test_a_connection_past_its_age_ends_and_leaves_nothing(start: Start) -> None:
    harness = await start(max_connection_age_seconds=1.0, max_connection_age_grace_seconds=1.0)
    call = harness.scoring.StreamPairs()
    await call.write(head())
    await call.write(batch(0))
    assert (await call.read()).sequence == 0
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call.read()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    await settled(harness)


async def test_a_dropped_connection_leaves_nothing_running_and_frees_the_stream(start: Start) -> None:
    harness = await start(max_streams=1)
    harness.scorer.gate.clear()
    async with grpc.aio.insecure_channel(harness.address) as other:
        stub = harness.scoring_on(other)
        call = stub.StreamPairs(sending(head(), batch(0)))
        await until(lambda: harness.scorer.running == 1)
        assert call is not None
    await settled(harness)
    harness.scorer.gate.set()
    assert len(await drained(harness.scoring.StreamPairs(sending(head(), batch(0))))) == 1


async def test_a_deadline_ends_the_stream_and_its_work(harness: Harness) -> None:
    harness.scorer.gate.clear()
    call = harness.scoring.StreamPairs(sending(head(), *[batch(n) for n in range(4)]), timeout=0.3)
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await drained(call)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await settled(harness)
    assert all(deadline is not None for _, deadline in harness.scorer.calls)


async def test_streams_over_the_limit_are_told_to_come_back(start: Start) -> None:
    harness = await start(max_streams=2)
    harness.scorer.gate.clear()
    open_streams = [harness.scoring.StreamPairs(sending(head(), batch(0))) for _ in range(2)]
    await until(lambda: harness.scorer.running == 2)
    error, _ = await refused_stream(harness.address, head())
    assert (error.code, error.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
    assert dict(error.info.metadata) == {"streams": "2", "max_streams": "2"}
    assert error.metadata["grpc-retry-pushback-ms"] == "1000"
    harness.scorer.gate.set()
    for stream in open_streams:
        assert len(await drained(stream)) == 1


async def test_an_overloaded_server_holds_a_streams_batch_until_there_is_room(harness: Harness) -> None:
    harness.scorer.failing = [Overloaded("full", retry_after_seconds=0.01) for _ in range(5)]
    responses = await drained(harness.scoring.StreamPairs(sending(head(), batch(0), batch(1))))
    assert [response.sequence for response in responses] == [0, 1]


async def test_a_server_that_stays_overloaded_gives_the_stream_up_with_pushback(start: Start) -> None:
    harness = await start(stream_patience_seconds=0.1)
    harness.scorer.failing = [Overloaded("full", retry_after_seconds=0.05) for _ in range(50)]
    error, _ = await refused_stream(harness.address, head(), batch(0))
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.metadata["grpc-retry-pushback-ms"] == "50"
    await settled(harness)


async def test_a_failing_batch_ends_the_stream_and_cancels_the_rest(harness: Harness) -> None:
    harness.scorer.failing = [RuntimeError("boom")]
    harness.scorer.gate.clear()
    error, _ = await refused_stream(harness.address, head(), batch(0), batch(1), batch(2))
    assert (error.code, error.info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    await settled(harness)
    assert harness.scorer.finished == 0


@pytest.mark.serial
async def test_interactive_calls_are_answered_while_streams_are_full(harness: Harness) -> None:
    heavy = [pair(n, chosen=f"{n} " + "x" * 2000) for n in range(256)]

    async def endless() -> AsyncIterator[scoring_pb2.StreamPairsRequest]:
        yield head(include_features=True)
        for number in range(40):
            yield batch(number, *heavy)

    call = harness.scoring.StreamPairs(endless())
    reading = asyncio.ensure_future(drained(call))
    await until(lambda: harness.scorer.started > 2)
    slowest = 0.0
    while not reading.done():
        began = time.perf_counter()
        await harness.scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=[pair()]))
        slowest = max(slowest, time.perf_counter() - began)
        await asyncio.sleep(0.01)
    assert len(await reading) == 40
    assert in_time(slowest, 1.0)


async def settles(value: Any, seconds: float = 0.5) -> None:
    """Returns once the value has stayed the same for a while."""
    last, since = value(), time.monotonic()
    while time.monotonic() - since < seconds:
        await asyncio.sleep(0.02)
        if value() != last:
            last, since = value(), time.monotonic()
