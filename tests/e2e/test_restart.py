"""A server that dies or stops under its clients: streams go on with the next one, and what was accepted is finished."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from assay import AsyncClient, CacheMode, Client, Flow, PairResult, RetryPolicy, ScoreOptions
from assay.v1 import scoring_pb2, scoring_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.conftest import Serve
from tests.e2e.pairs import agree, pair, pairs
from tests.support.server_process import ServerProcess
from tests.support.waiting import PATIENCE, wait_until
from tests.support.wire import Rich, rich

PAIRS = pairs(400, salt="restart")
BYPASS = ScoreOptions(include_features=True, cache_mode=CacheMode.BYPASS)
SMALL = Flow(pairs_per_message=8, pairs_in_flight=48)
PATIENT = RetryPolicy(attempts=300, initial_seconds=0.05, max_seconds=0.3)
KILLS_AT = (90, 250)
BATCHES = 6


@pytest.fixture(scope="module")
def own_server(serve: Serve) -> ServerProcess:
    """A server that only this module has, to kill and to end."""
    return serve("--drain-seconds", "60").start()


def results_of(client: Client, each: Callable[[int], object] = lambda _: None) -> list[PairResult]:
    """All results, with a call after each."""
    got: list[PairResult] = []
    for result in client.score(PAIRS, BYPASS):
        got.append(result)
        each(len(got))
    return got


async def async_results_of(address: str, each: Callable[[int], object]) -> list[PairResult]:
    got: list[PairResult] = []
    async with AsyncClient(address, flow=SMALL, retry=PATIENT) as client:
        async for result in client.score(PAIRS, BYPASS):
            got.append(result)
            each(len(got))
            await asyncio.sleep(0)
    return got


def test_streams_survive_kill_9_and_come_back_complete_in_order_once_each(own_server: ServerProcess) -> None:
    """A sync and an async client stream; at two moments the server is killed, and started again on its port."""
    with Client(own_server.address) as client:
        expected = results_of(client)
    lock, kills, reached = threading.Lock(), iter(KILLS_AT), {"sync": 0, "async": 0}
    restarts: list[threading.Thread] = []
    due = next(kills)

    def count(who: str, number: int) -> None:
        nonlocal due
        with lock:
            reached[who] = number
            if reached["sync"] >= due and reached["async"] >= due:
                assert max(reached.values()) < len(PAIRS), "the kill comes in the middle of both streams"
                for thread in restarts:
                    thread.join(PATIENCE)
                own_server.kill()
                restarts.append(threading.Thread(target=own_server.start))
                restarts[-1].start()
                due = next(kills, 10**9)

    def hold_back(who: str, number: int) -> None:
        """No stream runs ahead of the other by more than half the way to the next kill, so that both are hit."""
        other = "async" if who == "sync" else "sync"
        wait_until(lambda: number <= reached[other] + 60 or number >= due + 60, f"the {other} stream goes on")

    got: dict[str, list[PairResult]] = {}

    def run_async() -> None:
        def each(number: int) -> None:
            count("async", number)
            hold_back("async", number)

        got["async"] = asyncio.run(async_results_of(own_server.address, each))

    other = threading.Thread(target=run_async)
    other.start()

    def each(number: int) -> None:
        count("sync", number)
        hold_back("sync", number)

    with Client(own_server.address, flow=SMALL, retry=PATIENT) as client:
        got["sync"] = results_of(client, each)
    other.join(PATIENCE)
    for thread in restarts:
        thread.join(PATIENCE)
    assert len(restarts) == len(KILLS_AT)
    for results in got.values():
        assert [result.index for result in results] == list(range(len(PAIRS)))
        agree(results, expected)


@pytest.fixture
def channel(own_server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(own_server.address) as one:
        yield one


def test_sigterm_finishes_what_was_accepted_refuses_what_is_new_and_ends_with_0(
    own_server: ServerProcess, channel: grpc.Channel
) -> None:
    """The last test of this module: it ends its server."""
    scoring: Any = scoring_pb2_grpc.ScoringServiceStub(channel)
    health: Any = health_pb2_grpc.HealthStub(channel)
    talking = threading.Event()
    answers = iter(scoring.StreamPairs(messages(talking), timeout=PATIENCE))
    first = next(answers).sequence
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    many = [one.to_proto() for one in pairs(200, length=400, salt="drain")]
    unary = scoring.ScorePairs.future(scoring_pb2.ScorePairsRequest(pairs=many, options=BYPASS.to_proto()), timeout=PATIENCE)
    wait_until(
        lambda: (
            own_server.metric("assay_requests_in_flight", method="ScorePairs")
            and own_server.total("assay_queued_tokens") > 40_000
        ),
        "both calls are accepted, and much is not yet read",
    )

    own_server.ask_to_stop()

    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert not unary.done(), "the drain is seen while work is left"
    for call in (
        lambda: scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=[pair(0).to_proto()]), timeout=PATIENCE),
        lambda: list(scoring.StreamPairs(iter([scoring_pb2.StreamPairsRequest(options={})]), timeout=PATIENCE)),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call()
        status = rich(refused.value)
        assert (status.code, status.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert status.retry_seconds is not None
    rest, ended = until_refused(answers)
    talking.set()
    assert ended.info.reason == "DRAINING"
    assert [first, *rest] == list(range(BATCHES)), "in order, each accepted one, none left out"
    response = unary.result()
    assert len(response.results) == len(many)
    assert all(result.WhichOneof("outcome") == "score" for result in response.results)
    assert own_server.wait() == 0, own_server.log[-3000:]
    assert "unfinished_calls" not in own_server.log or "unfinished_calls=False" in own_server.log


def messages(talking: threading.Event) -> Iterator[scoring_pb2.StreamPairsRequest]:
    """A stream that has sent some batches and then stays open, silent, until told."""
    yield scoring_pb2.StreamPairsRequest(options={"score": BYPASS.to_proto()})
    for sequence in range(BATCHES):
        some = [one.to_proto() for one in pairs(20, length=200, salt=f"drain {sequence} ")]
        yield scoring_pb2.StreamPairsRequest(batch={"sequence": sequence, "pairs": some})
    talking.wait(PATIENCE)


def until_refused(answers: Iterator[scoring_pb2.StreamPairsResponse]) -> tuple[list[int], Rich]:
    """The sequences that are still answered, and the status that the stream then ends with."""
    sequences: list[int] = []
    try:
        for answer in answers:
            sequences.append(answer.sequence)  # noqa: PERF401 - a comprehension would lose them at the error
    except grpc.RpcError as error:
        return sequences, rich(error)
    raise AssertionError("the stream ended well")
