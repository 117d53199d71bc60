"""Clients that hang up, die or run out of time leave nothing behind: no work queued, no stream open, no memory held."""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import grpc
import pytest
from assay import CacheMode, Client, Pair, PairResult, ScoreOptions
from assay.v1 import scoring_pb2, scoring_pb2_grpc

from tests.e2e.conftest import MAX_PAIRS, MAX_STREAMS, MAX_TOKENS_IN_FLIGHT
from tests.e2e.pairs import agree, pair, pairs, words
from tests.support.server_process import ServerProcess
from tests.support.waiting import PATIENCE, wait_until

BYPASS = ScoreOptions(include_features=True, cache_mode=CacheMode.BYPASS)
Through = Callable[..., Any]
BALLAST = {"ballast": "x" * 16_000}
LEVEL_BYTES = 6 << 20  # over three rounds, which carry over 30 MB
ROUNDS = 24
"""What the process may grow by over all rounds but the first two; see ``test_repeated_rounds_hold_no_memory``."""


@pytest.fixture(scope="module")
def control(server: ServerProcess) -> list[PairResult]:
    with Client(server.address) as client:
        return client.score_pairs(pairs(6, salt="control"), BYPASS)


@pytest.fixture(scope="module")
def through(server: ServerProcess) -> Iterator[Through]:
    """Runs a coroutine with a stub of a connection of its own; all on one event loop, as grpc.aio wants it."""

    async def connected(work: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> Any:
        async with grpc.aio.insecure_channel(server.address) as channel:
            return await work(scoring_pb2_grpc.ScoringServiceStub(channel), *args)

    with asyncio.Runner() as runner:
        yield lambda work, *args: runner.run(connected(work, args))


@pytest.fixture(autouse=True)
def nothing_is_left(server: ServerProcess, control: list[PairResult]) -> Iterator[None]:
    """After each test: at rest, every admitted token and stream given back, and the answers right.

    A call that was cancelled before the server saw it may still be on its way: what is free need not be free at once.
    """
    yield
    server.rest()
    wait_until(lambda: all_tokens_are_free(server), "no token counts as in flight")
    wait_until(lambda: all_streams_are_free(server), f"{MAX_STREAMS} streams can be opened")
    with Client(server.address) as client:
        agree(client.score_pairs(pairs(6, salt="control"), BYPASS), control)
    server.rest()


def all_tokens_are_free(server: ServerProcess) -> bool:
    """A request of more tokens than may be in flight is let in only where none is: one leaked token would refuse it."""
    filling = [Pair("", words(("fill", n), 300), words(("llif", n), 300)) for n in range(MAX_PAIRS)]
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = scoring_pb2_grpc.ScoringServiceStub(channel)
        try:
            response = stub.ScorePairs(heavy(filling), timeout=PATIENCE)
        except grpc.RpcError as error:
            refused: Any = error
            assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            return False
    assert sum(result.score.tokens.read for result in response.results) > MAX_TOKENS_IN_FLIGHT
    return True


def all_streams_are_free(server: ServerProcess) -> bool:
    """Whether as many streams as are allowed can be open at once. Fails where one more can be."""
    over = threading.Event()

    def silent() -> Iterator[scoring_pb2.StreamPairsRequest]:
        yield head()
        over.wait(PATIENCE)

    with grpc.insecure_channel(server.address) as channel:
        stub: Any = scoring_pb2_grpc.ScoringServiceStub(channel)
        try:
            streams = [stub.StreamPairs(silent(), timeout=PATIENCE) for _ in range(MAX_STREAMS)]
            for stream in streams:
                stream.initial_metadata()  # comes once the stream is accepted, or ends
            if not all(stream.is_active() for stream in streams):
                return False
            one_more = stub.StreamPairs(silent(), timeout=PATIENCE)
            assert one_more.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        finally:
            over.set()
        assert [list(stream) for stream in streams] == [[]] * MAX_STREAMS
        return True


def heavy(some: list[Pair]) -> scoring_pb2.ScorePairsRequest:
    return scoring_pb2.ScorePairsRequest(pairs=[one.to_proto() for one in some], options=BYPASS.to_proto())


def head() -> scoring_pb2.StreamPairsRequest:
    return scoring_pb2.StreamPairsRequest(options={"score": BYPASS.to_proto()})


def load(count: int, salt: str) -> list[Pair]:
    """Pairs of about 900 tokens with as much metadata as is allowed, so that what is held on to weighs something."""
    made = (pair(number, length=300, salt=salt) for number in range(count))
    return [Pair(one.prompt, one.chosen, one.rejected, one.id, BALLAST) for one in made]


async def hang_up_on_calls(stub: Any, rng: random.Random, count: int) -> None:
    request = heavy(load(8, "unary"))

    async def one() -> None:
        call = stub.ScorePairs(request, timeout=PATIENCE)
        await asyncio.sleep(rng.uniform(0, 0.4))
        call.cancel()
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            await call

    await asyncio.gather(*(one() for _ in range(count)))


async def hang_up_on_streams(stub: Any, rng: random.Random, count: int) -> None:
    batches = [
        scoring_pb2.StreamPairsRequest(batch={"sequence": n, "pairs": [one.to_proto() for one in load(8, f"stream{n}")]})
        for n in range(4)
    ]

    async def one() -> None:
        call = stub.StreamPairs(timeout=PATIENCE)
        patience = rng.uniform(0, 0.6)

        async def talk() -> None:
            await call.write(head())
            for batch in batches:
                await call.write(batch)
            while await call.read() is not grpc.aio.EOF:
                pass

        with contextlib.suppress(grpc.aio.AioRpcError, TimeoutError, asyncio.InvalidStateError):
            await asyncio.wait_for(talk(), patience)
        call.cancel()

    for _ in range(0, count, MAX_STREAMS):
        await asyncio.gather(*(one() for _ in range(MAX_STREAMS)))


async def run_out_of_time(stub: Any, rng: random.Random, count: int) -> list[grpc.StatusCode]:
    request = heavy(load(8, "late"))

    async def one() -> grpc.StatusCode:
        call = stub.ScorePairs(request, timeout=rng.uniform(0.001, 0.3))
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call
        return await call.code()

    return list(await asyncio.gather(*(one() for _ in range(count))))


def test_calls_cancelled_at_random_moments(server: ServerProcess, through: Through) -> None:
    before = server.metric("assay_requests_total", method="ScorePairs", code="CANCELLED")
    through(hang_up_on_calls, random.Random(1), 40)
    server.rest()
    assert server.metric("assay_requests_total", method="ScorePairs", code="CANCELLED") > before


def test_streams_cancelled_at_random_moments(server: ServerProcess, through: Through) -> None:
    before = server.metric("assay_requests_total", method="StreamPairs", code="CANCELLED")
    through(hang_up_on_streams, random.Random(2), 16)
    server.rest()
    assert server.metric("assay_requests_total", method="StreamPairs", code="CANCELLED") > before


@pytest.mark.parametrize("method", ["unary", "stream"])
def test_cancelled_work_never_reaches_the_device(server: ServerProcess, through: Through, method: str) -> None:
    """Of a call that is cancelled as soon as it is queued, a small part was read."""
    request = heavy(load(120, "unread"))

    async def ask(stub: Any) -> int:
        response = await stub.ScorePairs(request, timeout=PATIENCE)
        return sum(result.score.tokens.read for result in response.results)

    async def ask_and_leave(stub: Any) -> None:
        if method == "unary":
            call = stub.ScorePairs(request, timeout=PATIENCE)
        else:
            call = stub.StreamPairs(timeout=PATIENCE)
            await call.write(head())
            for place in range(12):
                some = request.pairs[place * 10 : place * 10 + 10]
                await call.write(scoring_pb2.StreamPairsRequest(batch={"sequence": place, "pairs": some}))
        await asyncio.to_thread(wait_until, lambda: server.total("assay_queued_tokens") > asked / 2, "most is queued")
        call.cancel()

    asked = through(ask)
    before = server.metric("assay_tokens_read_total")
    through(ask_and_leave)
    server.rest()
    assert server.metric("assay_tokens_read_total") - before < asked / 2


def test_deadlines_that_expire_on_the_way(server: ServerProcess, through: Through) -> None:
    codes = through(run_out_of_time, random.Random(3), 40)
    late = grpc.StatusCode.DEADLINE_EXCEEDED
    assert late in codes
    assert set(codes) <= {late, grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


CLIENT = textwrap.dedent("""
    import itertools, sys
    from assay import CacheMode, Client, Flow, Pair, ScoreOptions
    words = "the quick brown fox jumps over the lazy dog " * 12
    pairs = (Pair(f"question {n}: ", f"{n} {words}", f"{words} {n}") for n in itertools.count())
    with Client(sys.argv[1], flow=Flow(pairs_in_flight=64, pairs_per_message=8)) as client:
        for result in client.score(pairs, ScoreOptions(cache_mode=CacheMode.BYPASS)):
            print(result.unwrap().tokens.read, flush=True)
""")


def streaming_client(server: ServerProcess) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", CLIENT, server.address], stdout=subprocess.PIPE, env=environment)


def test_client_processes_killed_in_the_middle_of_their_streams(server: ServerProcess) -> None:
    clients = [streaming_client(server) for _ in range(3)]
    try:
        for process in clients:
            assert process.stdout is not None
            assert int(process.stdout.readline()) > 0
        assert server.metric("assay_requests_in_flight", method="StreamPairs") == len(clients)
    finally:
        for process in clients:
            process.kill()
            process.communicate()
    server.rest()


def test_repeated_rounds_hold_no_memory(server: ServerProcess, through: Through) -> None:
    """Each round carries over 10 MB of metadata and thousands of futures; a server that kept its calls would grow by that in
    every round, however slow the machine is: one that does not levels off.
    """
    rng = random.Random(4)
    resident: list[float] = []
    for _ in range(ROUNDS):
        through(hang_up_on_calls, rng, 64)
        through(hang_up_on_streams, rng, MAX_STREAMS)
        through(run_out_of_time, rng, 24)
        server.rest()
        resident.append(server.metric("process_resident_memory_bytes"))
        if len(resident) >= 6 and resident[-1] - resident[-4] < LEVEL_BYTES:
            return
    pytest.fail(f"resident MiB by round: {[round(one / 2**20) for one in resident]}")
