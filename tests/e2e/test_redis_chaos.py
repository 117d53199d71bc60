"""A real Redis behind a real server, harmed in the middle of a stream: results stay right, calls end in time, hits come back."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from assay import CacheMode, Client, Flow, PairResult, ScoreOptions
from assay.results import CacheState

from tests.e2e.conftest import Serve
from tests.e2e.pairs import agree, pairs, states
from tests.support.redis_server import RedisServer
from tests.support.server_process import ServerProcess
from tests.support.waiting import PATIENCE, in_time, wait_until

PAIRS = pairs(240, salt="redis")
OPTIONS = ScoreOptions(include_features=True)
SMALL = Flow(pairs_per_message=4, pairs_in_flight=16, answer_seconds=PATIENCE)
CALL_SECONDS = 3.0
"""What one call may take: the cache's own bound of one second, and a busy machine."""
STREAM_SECONDS = 40.0


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def redis_backed(serve: Serve, redis: RedisServer) -> ServerProcess:
    """A server that has no other memory than Redis."""
    return serve("--redis-url", redis.url, "--lru-bytes", "0").start()


@pytest.fixture(scope="module")
def expected(redis_backed: ServerProcess) -> list[PairResult]:
    """What the pairs score where no cache is asked."""
    with Client(redis_backed.address) as client:
        results = list(client.score(PAIRS, ScoreOptions(include_features=True, cache_mode=CacheMode.BYPASS)))
    assert set(states(results)) == {CacheState.BYPASS}
    return results


@pytest.fixture
def client(redis_backed: ServerProcess, redis: RedisServer, expected: list[PairResult]) -> Iterator[Client]:
    """A client of a server whose Redis is well and holds every pair, before and after the test."""
    with Client(redis_backed.address, flow=SMALL) as one:
        until_all_hit(redis_backed, one)
        yield one
        redis.stop()
        redis.start()
        until_all_hit(redis_backed, one)
        agree(list(one.score(PAIRS, OPTIONS)), expected)


def until_all_hit(redis_backed: ServerProcess, client: Client) -> None:
    """Score until every pair comes from Redis, as callers would."""

    def all_hit() -> bool:
        got = set(states(client.score(PAIRS, OPTIONS)))
        wait_until(lambda: not redis_backed.total("assay_cache_queued_entries"), "what was computed is written")
        return got == {CacheState.HIT}

    wait_until(all_hit, "every pair is a hit")
    for side in ("read", "write"):
        assert redis_backed.metric("assay_cache_breaker_state", side=side, state="closed") == 1


@dataclass
class Harmed:
    """A stream that something happened to: its results, and the longest wait for one."""

    results: list[PairResult]
    longest: float

    def count(self, state: CacheState) -> int:
        return list(states(self.results)).count(state)


def harmed_stream(client: Client, harm: Callable[[], object], undo: Callable[[], object] = lambda: None) -> Harmed:
    """Stream all pairs; harm Redis after a quarter of them and undo it after three quarters."""
    results: list[PairResult] = []
    longest, began = 0.0, time.monotonic()
    stream = client.score(PAIRS, OPTIONS)
    for place in itertools.count():
        if place == len(PAIRS) // 4:
            harm()
        if place == 3 * len(PAIRS) // 4:
            undo()
        asked = time.monotonic()
        result = next(stream, None)
        longest = max(longest, time.monotonic() - asked)
        if result is None:
            break
        results.append(result)
    assert in_time(time.monotonic() - began, STREAM_SECONDS)
    assert in_time(longest, CALL_SECONDS)
    return Harmed(results, longest)


def errors(redis_backed: ServerProcess) -> dict[str, float]:
    """Cache errors so far, by kind."""
    start = 'assay_cache_errors_total{kind="'
    return {name[len(start) : -2]: value for name, value in redis_backed.metrics().items() if name.startswith(start)}


def new_errors(redis_backed: ServerProcess, before: dict[str, float]) -> dict[str, float]:
    """Cache errors since then, by kind."""
    return {kind: count - before.get(kind, 0) for kind, count in errors(redis_backed).items() if count > before.get(kind, 0)}


def breaker_is_open(redis_backed: ServerProcess, side: str) -> bool:
    """Whether the side's breaker does not let calls through."""
    return redis_backed.metric("assay_cache_breaker_state", side=side, state="closed") == 0


def test_killed_it_costs_recomputation_and_errors_that_metrics_show(
    redis_backed: ServerProcess, redis: RedisServer, client: Client, expected: list[PairResult]
) -> None:
    before = errors(redis_backed)
    harmed = harmed_stream(client, redis.kill)
    agree(harmed.results, expected)
    assert harmed.count(CacheState.MISS) >= len(PAIRS) // 2
    assert harmed.count(CacheState.HIT) >= len(PAIRS) // 8
    found = new_errors(redis_backed, before).keys()
    assert "connect" in found
    assert found <= {"connect", "connection"}  # the second where the kill met a command under way
    assert breaker_is_open(redis_backed, "read")


def test_killed_and_started_again_it_answers_again(
    redis_backed: ServerProcess, redis: RedisServer, client: Client, expected: list[PairResult]
) -> None:
    agree(harmed_stream(client, redis.kill, redis.start).results, expected)
    until_all_hit(redis_backed, client)


def test_paused_it_holds_up_a_few_calls_for_a_moment(
    redis_backed: ServerProcess, redis: RedisServer, client: Client, expected: list[PairResult]
) -> None:
    before = errors(redis_backed)
    harmed = harmed_stream(client, redis.pause)
    assert breaker_is_open(redis_backed, "read")
    redis.resume()
    agree(harmed.results, expected)
    assert harmed.count(CacheState.MISS) >= len(PAIRS) // 2
    assert "timeout" in new_errors(redis_backed, before)
    until_all_hit(redis_backed, client)


def test_full_it_is_read_and_no_longer_written(
    redis_backed: ServerProcess, redis: RedisServer, client: Client, expected: list[PairResult]
) -> None:
    before = errors(redis_backed)
    half = redis.keys()[::2]

    def forget_half_and_fill_up() -> None:
        redis.command("DEL", *half)
        redis.fill_up()

    harmed = harmed_stream(client, forget_half_and_fill_up)
    agree(harmed.results, expected)
    assert harmed.count(CacheState.MISS) > 0
    assert harmed.count(CacheState.HIT) > len(PAIRS) // 4
    wait_until(lambda: "oom" in new_errors(redis_backed, before), "refused writes are counted")
    wait_until(lambda: breaker_is_open(redis_backed, "write"), "writes stop")
    assert not breaker_is_open(redis_backed, "read")
    redis.set_max_memory(0)
    until_all_hit(redis_backed, client)


def test_flushed_it_is_filled_again_without_an_error(
    redis_backed: ServerProcess, redis: RedisServer, client: Client, expected: list[PairResult]
) -> None:
    before = errors(redis_backed)
    harmed = harmed_stream(client, redis.flush)
    agree(harmed.results, expected)
    assert harmed.count(CacheState.MISS) >= len(PAIRS) // 2
    until_all_hit(redis_backed, client)
    assert not new_errors(redis_backed, before)


def test_restarted_empty_it_is_filled_again(
    redis_backed: ServerProcess, redis: RedisServer, client: Client, expected: list[PairResult]
) -> None:
    harmed = harmed_stream(client, redis.restart, redis.restart)
    agree(harmed.results, expected)
    assert harmed.count(CacheState.MISS) >= len(PAIRS) // 2
    until_all_hit(redis_backed, client)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit": lambda value: value[:100] + bytes([value[100] ^ 4]) + value[101:],
    "cut": lambda value: value[: len(value) // 2],
    "zeros": lambda value: bytes(len(value)),
    "nothing": lambda value: b"",
    "a pickle": lambda value: b"\x80\x04K\x01.",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_corrupt_bytes_are_misses_and_are_healed(
    redis_backed: ServerProcess, redis: RedisServer, client: Client, expected: list[PairResult], damage: str
) -> None:
    before = errors(redis_backed)
    harmed = harmed_stream(client, lambda: redis.corrupt(DAMAGES[damage]))
    agree(harmed.results, expected)
    assert harmed.count(CacheState.MISS) >= len(PAIRS) // 2
    assert new_errors(redis_backed, before).keys() == {"corrupt"}
    until_all_hit(redis_backed, client)


def test_whole_entries_under_each_others_keys_are_not_believed(
    redis_backed: ServerProcess, redis: RedisServer, client: Client, expected: list[PairResult]
) -> None:
    before = errors(redis_backed)

    def swap() -> None:
        keys = redis.keys()
        values = [redis.command("GET", key) for key in keys]
        for key, value in zip(keys, values[1:] + values[:1], strict=True):
            redis.command("SET", key, value)

    harmed = harmed_stream(client, swap)
    agree(harmed.results, expected)
    assert harmed.count(CacheState.MISS) >= len(PAIRS) // 2
    assert new_errors(redis_backed, before).keys() == {"corrupt"}
