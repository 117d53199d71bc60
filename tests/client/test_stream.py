"""Streaming: order, laziness, back-pressure, resumption; the blocking and the async driver by the same tests."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest
from assay import (
    AssayError,
    AsyncClient,
    Client,
    ConnectionFailed,
    Flow,
    InvalidRequest,
    ModelChanged,
    Overloaded,
    Pair,
    PairResult,
    RetryPolicy,
    ScoreOptions,
    ServerFault,
)

from tests.client.conftest import QUICK, SMALL, pairs
from tests.client.support.proxy import CuttingProxy
from tests.client.support.server import ScriptedServer, features_of, rich_status
from tests.support.waiting import PATIENCE, wait_until

Run = Callable[..., list[PairResult]]


def run_sync(address: str, source: Iterable[Pair], options: ScoreOptions | None = None, **kwargs: Any) -> list[Any]:
    with Client(address, **{"flow": SMALL, "retry": QUICK} | kwargs) as client:
        return list(client.score(source, options or ScoreOptions()))


def run_async(address: str, source: Iterable[Pair], options: ScoreOptions | None = None, **kwargs: Any) -> list[Any]:
    async def run() -> list[PairResult]:
        async with AsyncClient(address, **{"flow": SMALL, "retry": QUICK} | kwargs) as client:
            return [result async for result in client.score(source, options or ScoreOptions())]

    return asyncio.run(run())


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param


def assert_right(results: list[PairResult], given: list[Pair]) -> None:
    """One result a pair, in order, each of its own pair."""
    assert [result.index for result in results] == list(range(len(given)))
    assert [result.id for result in results] == [pair.id for pair in given]
    for result, pair in zip(results, given, strict=True):
        expected = tuple(feature for feature, _ in features_of(pair.chosen + pair.rejected, 16))
        assert result.unwrap().by_max.features == expected


def test_results_come_in_order_one_for_each_pair(server: ScriptedServer, run: Run) -> None:
    given = pairs(203)
    assert_right(run(server.address, given), given)
    assert server.manners.stream_outcomes == ["finished"]


def test_an_empty_iterable_gives_no_results_and_opens_no_stream(server: ScriptedServer, run: Run) -> None:
    assert run(server.address, []) == []
    assert "StreamPairs" not in server.manners.calls


def test_a_bad_pair_fails_in_its_place_and_the_others_do_not(server: ScriptedServer, run: Run) -> None:
    given = pairs(9)
    given[4] = Pair("prompt", "", "something", id="empty")
    results = run(server.address, given)
    assert [result.ok for result in results] == [True] * 4 + [False] + [True] * 4
    error = results[4].error
    assert error is not None
    assert (error.code, error.reason, error.details) == ("INVALID_ARGUMENT", "EMPTY_SPAN", {"span": "chosen"})
    assert [(one.field, one.description) for one in error.violations] == [("chosen", "must not be empty")]
    with pytest.raises(InvalidRequest, match="holds no token"):
        results[4].unwrap()


def test_pairs_that_cannot_travel_fail_in_their_place_without_being_sent(server: ScriptedServer, run: Run) -> None:
    given = pairs(6)
    given[0] = Pair("prompt", "lone \ud800 surrogate", "x", id="surrogate")
    given[3] = Pair("prompt", "y" * (2 << 20), "x", id="huge")
    given += [Pair("prompt", "\udfff", "x", id=f"bad{i}") for i in range(20)]
    results = run(server.address, given)
    assert [result.id for result in results] == [pair.id for pair in given]
    reasons = [result.error.reason if result.error else "" for result in results]
    assert reasons == ["INVALID_UTF8", "", "", "MESSAGE_TOO_LARGE", "", ""] + ["INVALID_UTF8"] * 20
    assert results[3].error is not None
    assert results[3].error.details["max_message_bytes"] == str(1 << 20)
    assert server.manners.received == 4


def test_messages_are_packed_by_count_and_by_bytes_within_the_servers_limits(server: ScriptedServer, run: Run) -> None:
    run(server.address, pairs(1000), flow=Flow(pairs_per_message=5000))
    assert max(count for count, _ in server.manners.batch_sizes) == server.manners.limits.max_pairs_per_message
    server.manners.batch_sizes.clear()
    big = [Pair("p", "word " * 8000, "short", id=str(i)) for i in range(200)]
    run(server.address, big, flow=Flow(bytes_per_message=100 << 20))
    sizes = server.manners.batch_sizes
    assert max(size for _, size in sizes) <= server.manners.limits.max_message_bytes
    assert max(size for _, size in sizes) > server.manners.limits.max_message_bytes * 0.9


def test_the_iterable_is_consumed_no_further_than_the_flow_allows(server: ScriptedServer) -> None:
    taken = 0

    def source() -> Iterator[Pair]:
        nonlocal taken
        for pair in pairs(500):
            taken += 1
            yield pair

    with Client(server.address, flow=SMALL, retry=QUICK) as client:
        results = client.score(source())
        first = next(results)
        assert first.index == 0
        assert taken <= 2 * SMALL.pairs_in_flight
        rest = list(results)
    assert taken == 500
    assert len(rest) == 499


def test_the_async_client_bounds_what_is_in_flight_while_the_server_is_silent(server: ScriptedServer) -> None:
    server.manners.hold.set()
    taken = 0

    async def source() -> AsyncIterator[Pair]:
        nonlocal taken
        for pair in pairs(200):
            taken += 1
            yield pair

    async def go() -> None:
        async with AsyncClient(server.address, flow=SMALL, retry=QUICK) as client:
            consumer = asyncio.ensure_future(_collect(client.score(source())))
            await asyncio.sleep(0.4)
            assert taken <= SMALL.pairs_in_flight + 1
            server.manners.hold.clear()
            assert len(await consumer) == 200

    asyncio.run(go())
    assert taken == 200


def test_bytes_in_flight_are_bounded_too(server: ScriptedServer) -> None:
    taken = 0

    def source() -> Iterator[Pair]:
        nonlocal taken
        for i in range(100):
            taken += 1
            yield Pair("p", "w" * 10_000, "short", id=str(i))

    flow = Flow(pairs_per_message=1, bytes_in_flight=50_000)
    with Client(server.address, flow=flow, retry=QUICK) as client:
        results = client.score(source())
        next(results)
        assert taken <= 12
        assert len(list(results)) == 99


async def _collect(results: AsyncIterator[PairResult]) -> list[PairResult]:
    return [result async for result in results]


def test_an_async_source_that_waits_for_answers_does_not_deadlock(server: ScriptedServer) -> None:
    async def go() -> list[PairResult]:
        answered = asyncio.Event()
        results: list[PairResult] = []

        async def source() -> AsyncIterator[Pair]:
            for pair in pairs(5):
                yield pair
                await answered.wait()
                answered.clear()

        async with AsyncClient(server.address, flow=SMALL, retry=QUICK) as client:
            async for result in client.score(source()):
                results.append(result)
                answered.set()
        return results

    assert_right(asyncio.run(asyncio.wait_for(go(), PATIENCE)), pairs(5))


def test_a_slow_source_gets_its_answers_before_its_end(server: ScriptedServer) -> None:
    given: list[Pair] = []
    answered = False

    def source() -> Iterator[Pair]:
        for pair in pairs(3000):
            if answered:
                return
            time.sleep(0.1)
            given.append(pair)
            yield pair

    with Client(server.address, flow=SMALL, retry=QUICK) as client:
        results = client.score(source())
        first = next(results)
        answered = True
        assert_right([first, *results], given)
    assert len(given) < 3000


def test_a_dropped_stream_resumes_after_the_last_answer_and_sends_only_the_rest_again(server: ScriptedServer, run: Run) -> None:
    unavailable = rich_status("UNAVAILABLE", "draining", reason="DRAINING")
    server.manners.stream_ends.extend([(2, unavailable), (0, unavailable), (3, None)])
    given = pairs(60)
    assert_right(run(server.address, given), given)
    streams = server.manners.streams
    assert len(streams) == 4
    assert streams[0] == [0, 1]
    assert streams[1] == []
    assert streams[2] == [2, 3, 4]
    assert streams[3] == list(range(5, 5 + len(streams[3])))  # how many messages the rest makes is the clock's business


def test_cut_connections_lose_nothing_and_repeat_nothing(server: ScriptedServer, proxy: CuttingProxy, run: Run) -> None:
    proxy.cut_after = [3_000, 1_500, 9_000, 4_000]
    given = pairs(150)
    assert_right(run(proxy.address, given), given)
    assert proxy.cuts >= 3


def test_progress_resets_the_count_of_failures(server: ScriptedServer, run: Run) -> None:
    lost = rich_status("UNAVAILABLE", "gone")
    server.manners.stream_ends.extend([(1, lost)] * 12)  # three times what QUICK allows without progress
    given = pairs(60)
    assert_right(run(server.address, given), given)


def test_a_server_that_never_answers_again_ends_the_run_with_the_last_error(server: ScriptedServer, run: Run) -> None:
    server.manners.stream_ends.extend([(1, None)] + [(0, rich_status("UNAVAILABLE", "still gone"))] * 50)
    with pytest.raises(ConnectionFailed, match=r"still gone.*gave up after 5 connections"):
        run(server.address, pairs(60))
    assert len(server.manners.streams) == 1 + QUICK.attempts


def test_an_error_that_will_not_go_away_is_raised_at_once(server: ScriptedServer, run: Run) -> None:
    bad = rich_status(
        "INVALID_ARGUMENT", "top_k 999 is over 256", reason="TOP_K_TOO_LARGE", fields={"options.top_k": "too large"}
    )
    server.manners.stream_ends.append((0, bad))
    with pytest.raises(InvalidRequest, match="999") as caught:
        run(server.address, pairs(60))
    assert caught.value.reason == "TOP_K_TOO_LARGE"
    assert caught.value.violations[0].field == "options.top_k"
    assert len(server.manners.streams) == 1


def test_an_overloaded_server_is_left_alone_for_as_long_as_it_asks(server: ScriptedServer, run: Run) -> None:
    busy = rich_status("RESOURCE_EXHAUSTED", "too many streams", reason="TOO_MANY_STREAMS", retry_seconds=0.6)
    server.manners.stream_ends.append((0, busy))
    start = time.monotonic()
    assert len(run(server.address, pairs(8))) == 8
    assert time.monotonic() - start >= 0.6


def test_no_reconnection_where_the_policy_allows_none(server: ScriptedServer, run: Run) -> None:
    busy = rich_status("RESOURCE_EXHAUSTED", "no", reason="TOO_MANY_STREAMS", retry_seconds=3)
    server.manners.stream_ends.append((0, busy))
    with pytest.raises(Overloaded) as caught:
        run(server.address, pairs(8), retry=RetryPolicy(attempts=0))
    assert caught.value.retry_after_seconds == 3


def test_a_server_that_returns_with_another_model_ends_the_run(server: ScriptedServer, run: Run) -> None:
    def source() -> Iterator[Pair]:
        for i, pair in enumerate(pairs(400)):
            if i == 200:
                server.manners.model_fingerprint = "9" * 64
            yield pair

    server.manners.stream_ends.append((55, None))
    with pytest.raises(ModelChanged, match="model") as caught:
        run(server.address, source())
    assert caught.value.details == {"model": "9" * 64}


@pytest.mark.parametrize("what", ["sequence", "count"])
def test_an_answer_that_breaks_the_contract_is_a_fault_and_no_result(server: ScriptedServer, run: Run, what: str) -> None:
    def tamper(response: Any) -> Any:
        if what == "sequence":
            response.sequence += 1
        else:
            del response.results[-1]
        return response

    server.manners.tamper = tamper
    with pytest.raises(ServerFault) as caught:
        run(server.address, pairs(8))
    assert caught.value.reason == "PROTOCOL"


def test_a_silent_server_counts_as_lost_after_a_while(server: ScriptedServer, run: Run) -> None:
    server.manners.hold.set()
    flow = Flow(pairs_per_message=4, pairs_in_flight=16, answer_seconds=0.3)
    with pytest.raises(ConnectionFailed, match=r"no answer for 0\.3 seconds"):
        run(server.address, pairs(8), flow=flow, retry=RetryPolicy(attempts=1, initial_seconds=0.01))


def test_an_error_of_the_callers_iterable_reaches_the_caller(server: ScriptedServer, run: Run) -> None:
    def source() -> Iterator[Pair]:
        yield from pairs(10)
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="the source broke"):
        run(server.address, source())


def test_leaving_early_ends_the_stream_and_its_threads(server: ScriptedServer) -> None:
    before = threading.active_count()
    with Client(server.address, flow=SMALL, retry=QUICK) as client:
        with contextlib.closing(client.score(pairs(500))) as results:
            for _ in range(5):
                next(results)
        wait_until(lambda: server.manners.stream_outcomes == ["cancelled"])
    wait_until(lambda: threading.active_count() <= before + 16)  # the server's own pool may have grown
    assert not [one for one in threading.enumerate() if one.name == "assay-stream"]


def test_leaving_early_ends_the_stream_and_its_tasks(server: ScriptedServer) -> None:
    async def go() -> None:
        async with AsyncClient(server.address, flow=SMALL, retry=QUICK) as client:
            async with contextlib.aclosing(client.score(pairs(500))) as results:
                async for result in results:
                    if result.index == 5:
                        break
            assert _own_tasks() == 1
            await asyncio.to_thread(wait_until, lambda: server.manners.stream_outcomes == ["cancelled"])

    asyncio.run(go())


def test_cancelling_the_consumer_cancels_the_stream(server: ScriptedServer) -> None:
    server.manners.hold.set()

    async def go() -> None:
        async with AsyncClient(server.address, flow=SMALL, retry=QUICK) as client:
            consumer = asyncio.ensure_future(_collect(client.score(pairs(50))))
            await asyncio.sleep(0.3)
            consumer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consumer
            assert _own_tasks() == 1
            await asyncio.to_thread(wait_until, lambda: server.manners.stream_outcomes == ["cancelled"])

    asyncio.run(go())


def _own_tasks() -> int:
    """Tasks that run, but for grpc's own, which end a moment after their call."""
    return sum("_AioCall" not in repr(task) for task in asyncio.all_tasks())


def test_no_server_at_the_address_is_a_connection_failure_that_names_it(run: Run) -> None:
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1"):
        run("127.0.0.1:1", pairs(3), retry=RetryPolicy(attempts=1, initial_seconds=0.01))


def test_both_drivers_give_equal_results(server: ScriptedServer) -> None:
    options = ScoreOptions(top_k=5, include_features=True)
    given = pairs(40)
    assert run_sync(server.address, given, options) == run_async(server.address, given, options)


def test_the_base_of_the_family_catches_all() -> None:
    assert issubclass(ModelChanged, AssayError)
    assert issubclass(Overloaded, AssayError)
