"""A real Redis that dies, hangs, fills, forgets and lies: answers stay right, calls end in time, and later it is used again."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from assay_server.cache import FeatureCache, RedisCache, encode
from assay_server.cache.redis import KEY_PREFIX
from assay_server.subject.types import Pooled

from tests.server.cache.builders import Recorder, key_of, pooled_of, same
from tests.server.cache.conftest import QUICK, MakeCache
from tests.support.redis_server import RedisServer
from tests.support.waiting import PATIENCE, in_time, until

N = 64
KEYS = [key_of(seed) for seed in range(N)]
ENTRIES = [(key_of(seed), pooled_of(seed)) for seed in range(N)]
SLACK = 0.4
"""Seconds that a busy machine may add to any bound."""
pytestmark = pytest.mark.serial


def right(found: list[Pooled | None], start: int = 0, n: int = N) -> bool:
    """Whether every answer is a miss or the very features that were put."""
    expected = ENTRIES[start : start + n]
    return all(a is None or same(a, b) for a, (_, b) in zip(found, expected, strict=True))


async def timed_get(cache: FeatureCache, start: int = 0, n: int = N) -> tuple[int, float]:
    """Get ``n`` keys; how many hit (each checked), and the seconds it took (checked as well)."""
    began = time.monotonic()
    found = await cache.get_many(KEYS[start : start + n])
    seconds = time.monotonic() - began
    assert right(found, start, n)
    assert in_time(seconds, QUICK.call_seconds + SLACK)
    return sum(entry is not None for entry in found), seconds


async def until_hit(cache: FeatureCache, n: int = N) -> None:
    """Wait until the cache answers ``n`` keys, asking as callers would."""
    async with asyncio.timeout(PATIENCE):
        while (await timed_get(cache))[0] < n:  # noqa: ASYNC110 - as callers do
            await asyncio.sleep(0.02)


@pytest.fixture
async def cache(redis: RedisServer, make_cache: MakeCache, recorder: Recorder) -> RedisCache:
    """A cache that holds all entries."""
    made = make_cache(redis.url)
    made.put_many(ENTRIES)
    await until(lambda: recorder.written == N)
    assert (await timed_get(made))[0] == N
    return made


async def test_it_need_not_be_there_at_the_start(make_cache: MakeCache, recorder: Recorder) -> None:
    redis = RedisServer()
    cache = make_cache(redis.url)
    for _ in range(QUICK.failures_to_open):
        assert (await timed_get(cache))[0] == 0
    assert recorder.failed == {"connect": QUICK.failures_to_open}
    cache.put_many(ENTRIES)
    assert recorder.states["read"] == ["open"]
    with redis:
        await asyncio.sleep(QUICK.open_seconds)
        cache.put_many(ENTRIES)
        await until_hit(cache)
        assert recorder.states["read"][-1] == "closed"
        await cache.aclose()


async def test_killed_it_costs_a_few_errors_then_nothing_and_serves_again_when_it_is_back(
    redis: RedisServer, cache: RedisCache, recorder: Recorder
) -> None:
    redis.kill()
    for _ in range(50):
        assert (await timed_get(cache))[0] == 0
    assert recorder.states["read"][0] == "open"
    assert sum(recorder.failed.values()) <= QUICK.failures_to_open + 1
    redis.start()
    await until(lambda: recorder.written > N or bool(cache.put_many(ENTRIES)))
    await until_hit(cache)
    assert recorder.states["read"][-1] == "closed"


async def test_paused_it_holds_each_caller_only_until_the_breaker_opens(
    redis: RedisServer, cache: RedisCache, recorder: Recorder
) -> None:
    redis.pause()
    for _ in range(QUICK.failures_to_open):
        assert await timed_get(cache) >= (0, QUICK.read_seconds * 0.9)
    assert recorder.failed["timeout"] + recorder.failed["connect"] == QUICK.failures_to_open
    assert recorder.states["read"] == ["open"]
    end = time.monotonic() + 1.5 * (QUICK.open_seconds + QUICK.connect_seconds + QUICK.read_seconds)
    longest = 0.0
    while time.monotonic() < end:  # an open breaker and several probes, none of which a caller waits for
        hits, seconds = await timed_get(cache)
        assert hits == 0
        longest = max(longest, seconds)
        await asyncio.sleep(0.002)
    assert in_time(longest, 0.1)
    assert "half_open" in recorder.states["read"]
    redis.resume()
    await until_hit(cache)


async def test_paused_under_many_callers_it_delays_none_beyond_the_bound(redis: RedisServer, cache: RedisCache) -> None:
    redis.pause()
    results = await asyncio.gather(*(timed_get(cache) for _ in range(200)))
    assert {hits for hits, _ in results} == {0}
    redis.resume()
    await until_hit(cache)


async def test_full_it_still_answers_and_is_written_again_once_there_is_room(
    redis: RedisServer, cache: RedisCache, recorder: Recorder
) -> None:
    redis.fill_up()
    more = [(key_of(1000 + seed), pooled_of(seed)) for seed in range(10)]
    for entry in more[:4]:
        cache.put_many([entry])
        await asyncio.sleep(0.02)
        assert (await timed_get(cache))[0] == N
    await until(lambda: "open" in recorder.states["write"])
    assert recorder.failed["oom"] >= QUICK.failures_to_open
    assert recorder.states["read"] == []
    redis.set_max_memory(0)
    cache.put_many(more)
    await until(lambda: recorder.states["write"][-1] == "closed" and recorder.waiting == (0, 0))
    assert (await cache.get_many([more[-1][0]]))[0] is not None


async def test_read_only_it_still_answers(redis: RedisServer, cache: RedisCache, recorder: Recorder) -> None:
    redis.command("REPLICAOF", "127.0.0.1", 1)
    for seed in range(QUICK.failures_to_open):
        cache.put_many([(key_of(1000 + seed), pooled_of(seed))])
        await until(lambda n=seed + 1: recorder.failed["readonly"] == n)
        assert (await timed_get(cache))[0] == N
    assert recorder.states == {"read": [], "write": ["open"]}


async def test_evicting_it_answers_what_it_still_has(redis: RedisServer, cache: RedisCache, recorder: Recorder) -> None:
    used = int(redis.command("INFO", "memory")["used_memory"])
    redis.set_max_memory(used + 1_500_000, policy="allkeys-random")
    large = pooled_of(0, features=800)
    for seed in range(2000, 2400):
        cache.put_many([(key_of(seed), large)])
    await until(lambda: recorder.waiting == (0, 0))
    hits, _ = await timed_get(cache)
    assert 0 < hits < N
    assert not recorder.failed


async def test_flushed_it_is_filled_again(redis: RedisServer, cache: RedisCache, recorder: Recorder) -> None:
    redis.flush()
    assert (await timed_get(cache))[0] == 0
    cache.put_many(ENTRIES)
    await until_hit(cache)
    assert not recorder.failed


async def test_restarted_it_costs_no_error_for_the_connections_it_took_along(
    redis: RedisServer, make_cache: MakeCache, recorder: Recorder
) -> None:
    # A server that has just started may be slow: bounds that a busy machine cannot break, for this is not about time.
    cache = make_cache(redis.url, replace(QUICK, connect_seconds=PATIENCE, read_seconds=PATIENCE, write_seconds=PATIENCE))
    cache.put_many(ENTRIES)
    await until_hit(cache)
    await asyncio.gather(*(timed_get(cache) for _ in range(20)))
    redis.restart()
    await asyncio.sleep(0.05)
    assert (await timed_get(cache))[0] == 0
    cache.put_many(ENTRIES)
    await until_hit(cache)
    assert not recorder.failed


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "one bit flipped in the middle": lambda value: value[:200] + bytes([value[200] ^ 1]) + value[201:],
    "cut": lambda value: value[:-1],
    "empty": lambda value: b"",
    "longer": lambda value: value + b"\0",
    "another format": lambda value: bytes([2]) + value[1:],
    "text": lambda value: b"hello",
    "another key's entry": lambda value: encode(key_of(N + 1), pooled_of(N + 1)),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_corrupt_values_are_misses_and_are_healed_by_the_next_write(
    redis: RedisServer, cache: RedisCache, recorder: Recorder, damage: str
) -> None:
    assert redis.corrupt(DAMAGES[damage]) == N
    assert (await timed_get(cache))[0] == 0
    assert recorder.failed == {"corrupt": N}
    cache.put_many(ENTRIES)
    await until_hit(cache)
    assert recorder.states == {"read": [], "write": []}


async def test_values_that_changed_places_are_misses(redis: RedisServer, cache: RedisCache, recorder: Recorder) -> None:
    values = [redis.command("GET", KEY_PREFIX + key) for key in KEYS]
    for key, value in zip(KEYS, values[1:] + values[:1], strict=True):
        redis.command("SET", KEY_PREFIX + key, value)
    assert (await timed_get(cache))[0] == 0
    assert recorder.failed == {"corrupt": N}


async def test_a_value_that_is_too_long_spoils_its_own_batch_only(
    redis: RedisServer, make_cache: MakeCache, recorder: Recorder, cache: RedisCache
) -> None:
    bounded = make_cache(redis.url, replace(QUICK, value_bytes=100_000))
    redis.command("SET", KEY_PREFIX + KEYS[3], bytes(1_000_000))
    assert right(await bounded.get_many(KEYS))
    assert recorder.failed == {"too_large": 1}
    bounded.put_many(ENTRIES)
    await until_hit(bounded)


async def test_a_key_of_another_type_is_a_miss_that_the_next_write_heals(redis: RedisServer, cache: RedisCache) -> None:
    redis.command("DEL", KEY_PREFIX + KEYS[0])
    redis.command("RPUSH", KEY_PREFIX + KEYS[0], "item")
    assert (await timed_get(cache))[0] == N - 1
    cache.put_many(ENTRIES[:1])
    await until_hit(cache)


async def test_slow_it_answers_late_or_not_at_all_but_never_wrong(redis: RedisServer, cache: RedisCache) -> None:
    redis.command("CLIENT", "PAUSE", 100, "ALL")
    hits, seconds = await timed_get(cache)
    assert hits == N
    assert seconds > 0.05
    redis.command("CLIENT", "PAUSE", 400, "ALL")
    assert (await timed_get(cache))[0] == 0
    await until_hit(cache)


async def test_the_queue_of_writes_is_bounded_and_drops_its_oldest(
    redis: RedisServer, make_cache: MakeCache, recorder: Recorder
) -> None:
    bound = 50_000
    cache = make_cache(redis.url, replace(QUICK, queue_bytes=bound, open_seconds=0.3))
    redis.pause()
    for entry in ENTRIES:
        began = time.monotonic()
        cache.put_many([entry])
        assert in_time(time.monotonic() - began, 0.1)
        assert recorder.waiting[0] <= bound
    assert 0 < recorder.dropped < N
    redis.resume()
    await until(lambda: recorder.waiting == (0, 0) and recorder.written > 0)
    [newest] = await cache.get_many(KEYS[-1:])
    assert same(newest, ENTRIES[-1][1])
    assert await cache.get_many(KEYS[:1]) == [None]


async def test_cancelled_callers_leave_their_connection_whole(redis: RedisServer, cache: RedisCache, recorder: Recorder) -> None:
    rng = random.Random(0)
    loop = asyncio.get_running_loop()
    cancelled = 0
    connections = int(redis.command("INFO", "stats")["total_connections_received"])
    for _ in range(10):
        await asyncio.to_thread(redis.command, "CLIENT", "PAUSE", 20, "ALL")
        tasks = [asyncio.create_task(timed_get(cache)) for _ in range(50)]
        for task in rng.sample(tasks, 35):
            loop.call_later(rng.random() * 0.03, task.cancel)
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, asyncio.CancelledError):
                cancelled += 1
            else:
                assert not isinstance(outcome, BaseException)
    assert cancelled > 100
    await until_hit(cache)
    assert recorder.failed["corrupt"] == recorder.failed["protocol"] == 0
    connections = int(redis.command("INFO", "stats")["total_connections_received"]) - connections
    assert connections <= 10 + 1 + 2 * QUICK.connections  # the ten pauses, this question, and those the cache keeps


def open_sockets() -> int:
    """Sockets of this process."""
    targets: list[str] = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            targets.append(os.readlink(os.path.join("/proc/self/fd", fd)))
    return sum(target.startswith("socket:") for target in targets)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts sockets in /proc")
async def test_a_connection_that_is_given_up_holds_no_socket_though_the_peer_never_reads(
    redis: RedisServer, make_cache: MakeCache, recorder: Recorder
) -> None:
    """What cannot be sent to a stopped process keeps a socket open that is merely closed, not aborted."""
    cache = make_cache(redis.url, replace(QUICK, write_batch_bytes=32 << 20, open_seconds=60, failures_to_open=1))
    cache.put_many(ENTRIES)
    await until(lambda: recorder.written == N)
    connected = open_sockets()
    redis.pause()
    large = pooled_of(0, features=100_000, d_sae=200_000)
    cache.put_many([(key_of(seed), large) for seed in range(10)])
    await until(lambda: recorder.states["write"] == ["open"])
    await asyncio.sleep(0.05)
    assert recorder.failed == {"timeout": 1}
    assert open_sockets() == connected - 1


@pytest.mark.parametrize("paused", [False, True])
async def test_closing_is_bounded_whatever_redis_does(
    redis: RedisServer, cache: RedisCache, recorder: Recorder, paused: bool
) -> None:
    if paused:
        redis.pause()
    else:
        redis.kill()
    cache.put_many([(key_of(seed), pooled_of(seed)) for seed in range(3000)])
    waiting = asyncio.create_task(cache.get_many(KEYS))
    await asyncio.sleep(0.01)
    began = time.monotonic()
    await cache.aclose()
    assert in_time(time.monotonic() - began, QUICK.close_seconds + SLACK)
    assert right(await waiting)
    assert recorder.dropped == 3000


def misfortunes(redis: RedisServer, rng: random.Random) -> list[Callable[[], object]]:
    """Things that happen to a server, each for a short while; it is well again after each."""

    def restart() -> None:
        redis.kill()
        time.sleep(rng.random() * 0.1)
        redis.start()

    def pause() -> None:
        redis.pause()
        time.sleep(rng.random() * 0.4)
        redis.resume()

    def flip() -> None:
        redis.corrupt(lambda value: value[:50] + bytes([value[50] ^ 0xFF]) + value[51:])

    def full() -> None:
        redis.fill_up()
        time.sleep(rng.random() * 0.1)
        redis.set_max_memory(0)

    return [restart, pause, flip, full, redis.flush]


@pytest.mark.parametrize("seed", [0, 1])
async def test_thousands_of_gets_through_all_of_it_end_in_time_with_right_answers(
    redis: RedisServer, cache: RedisCache, recorder: Recorder, seed: int
) -> None:
    rng = random.Random(seed)
    over = asyncio.Event()
    gets = hits = 0

    async def caller() -> None:
        nonlocal gets, hits
        while not over.is_set():
            call = asyncio.create_task(timed_get(cache, rng.randrange(N - 8), 8))
            if rng.random() < 0.2:
                asyncio.get_running_loop().call_later(rng.random() * 0.01, call.cancel)
            await asyncio.wait((call,))
            gets += 1
            if not call.cancelled():
                hits += (await call)[0]
                cache.put_many(rng.sample(ENTRIES, 4))
            await asyncio.sleep(0.002)

    callers = [asyncio.create_task(caller()) for _ in range(12)]
    happenings = misfortunes(redis, rng)
    happened = 0
    while happened < 2 * len(happenings) or gets < 3000:
        if happened % len(happenings) == 0:
            rng.shuffle(happenings)
        await asyncio.to_thread(happenings[happened % len(happenings)])
        await asyncio.sleep(0.15)
        happened += 1
    over.set()
    await asyncio.gather(*callers)
    assert hits > 3000
    assert recorder.failed["corrupt"] > 0
    cache.put_many(ENTRIES)
    await until_hit(cache)
    assert recorder.states["read"][-1:] in ([], ["closed"])
