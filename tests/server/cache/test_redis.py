"""The Redis cache on a real server: what it stores, how it batches, what it promises when it closes."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
from assay_server.cache import LruCache, RedisSettings, TieredCache, build_cache, encode
from assay_server.cache.redis import KEY_PREFIX, RedisCache
from assay_server.subject.types import SpanName

from tests.server.cache.builders import Recorder, key_of, pooled_of, same
from tests.server.cache.conftest import QUICK, MakeCache
from tests.support.redis_server import RedisServer
from tests.support.waiting import until


async def written(recorder: Recorder, n: int) -> None:
    """Wait until ``n`` entries were acknowledged."""
    await until(lambda: recorder.written >= n)


async def test_what_was_put_is_got_by_this_and_every_other_server(
    redis: RedisServer, make_cache: MakeCache, recorder: Recorder
) -> None:
    entries = [(key_of(seed), pooled_of(seed, prompt=seed % 3 == 0)) for seed in range(300)]
    cache = make_cache(redis.url)
    assert await cache.get_many([key for key, _ in entries]) == [None] * 300
    cache.put_many(entries)
    await written(recorder, 300)
    for reader in (cache, make_cache(redis.url)):
        found = await reader.get_many([key for key, _ in entries] + [key_of(1000)])
        assert all(same(a, b) for a, (_, b) in zip(found[:300], entries, strict=True))
        assert found[300] is None
    assert (recorder.asked["redis"], recorder.answered["redis"]) == (902, 600)
    assert not recorder.failed
    assert recorder.states == {"read": [], "write": []}
    assert recorder.dropped == 0


async def test_entries_lie_under_the_prefix_as_the_codec_wrote_them_and_live_as_long_as_told(
    redis: RedisServer, make_cache: MakeCache, recorder: Recorder
) -> None:
    for number, settings in enumerate((QUICK, replace(QUICK, ttl_seconds=1000))):
        make_cache(redis.url, settings).put_many([(key_of(number), pooled_of(number))])
        await written(recorder, number + 1)
        name = KEY_PREFIX + key_of(number)
        assert redis.command("GET", name) == encode(key_of(number), pooled_of(number))
        life = redis.command("TTL", name)
        assert life == -1 if settings.ttl_seconds is None else 990 < life <= 1000
    assert len(redis.keys()) == 2
    assert recorder.moved["write"] == sum(len(encode(key_of(n), pooled_of(n))) for n in range(2))


async def test_a_batch_is_one_mget_unless_its_entries_are_long(
    redis: RedisServer, make_cache: MakeCache, recorder: Recorder
) -> None:
    def reads() -> int:
        stats = redis.command("INFO", "commandstats")["cmdstat_mget"]
        return int(stats["calls"])

    entry = len(encode(key_of(0), pooled_of(0)))
    cache = make_cache(redis.url, replace(QUICK, keys_per_read=64, bytes_per_read=8 * entry))
    keys = [key_of(seed) for seed in range(64)]
    await cache.get_many(keys)
    assert reads() == 1
    cache.put_many([(key, pooled_of(seed)) for seed, key in enumerate(keys)])
    await written(recorder, 64)
    assert None not in await cache.get_many(keys)
    assert reads() == 2
    assert None not in await cache.get_many(keys)
    assert reads() == 2 + 8


async def test_a_fuller_entry_takes_the_place_of_one_without_the_prompt(
    redis: RedisServer, make_cache: MakeCache, recorder: Recorder
) -> None:
    cache, key = make_cache(redis.url), key_of(0)
    poor, full = pooled_of(0), pooled_of(0, prompt=True)
    cache.put_many([(key, poor)])
    await written(recorder, 1)
    cache.put_many([(key, full), (key, poor)])
    await written(recorder, 2)
    [found] = await cache.get_many([key])
    assert same(found, full)


async def test_what_waits_to_be_written_does_not_keep_its_batch_alive(redis: RedisServer, make_cache: MakeCache) -> None:
    batch = np.ones((2, 100_000), np.float16)
    alive = weakref.ref(batch)
    pooled = pooled_of(0)
    chosen = replace(pooled.spans[SpanName.CHOSEN], mean_residual_f16=batch[0, :16])
    cache = make_cache(redis.url)
    cache.put_many([(key_of(0), replace(pooled, spans=pooled.spans | {SpanName.CHOSEN: chosen}))])
    del batch, chosen
    assert alive() is None


async def test_closing_writes_what_waits(redis: RedisServer, make_cache: MakeCache, recorder: Recorder) -> None:
    cache = make_cache(redis.url)
    cache.put_many([(key_of(seed), pooled_of(seed)) for seed in range(500)])
    assert recorder.written == 0
    await cache.aclose()
    assert recorder.written == 500 == len(redis.keys())
    assert recorder.waiting == (0, 0)


async def test_a_closed_cache_answers_with_misses_and_drops(
    redis: RedisServer, make_cache: MakeCache, recorder: Recorder
) -> None:
    cache = make_cache(redis.url)
    cache.put_many([(key_of(0), pooled_of(0))])
    await cache.aclose()
    await cache.aclose()
    assert await cache.get_many([key_of(0)]) == [None]
    cache.put_many([(key_of(1), pooled_of(1))])
    assert recorder.dropped == 1


async def test_features_that_are_none_and_entries_that_are_too_long_are_counted_and_not_written(
    redis: RedisServer, make_cache: MakeCache, recorder: Recorder
) -> None:
    cache = make_cache(redis.url, replace(QUICK, value_bytes=len(encode(key_of(0), pooled_of(0)))))
    broken = replace(pooled_of(1), read=-1)
    cache.put_many([(key_of(0), pooled_of(0)), (key_of(1), broken), (key_of(2), pooled_of(2, features=51))])
    await cache.aclose()
    assert (recorder.written, recorder.dropped) == (1, 2)
    assert recorder.failed == {"unencodable": 1, "too_large": 1}
    assert recorder.states["write"] == []


async def test_a_password_lets_in_and_is_never_told(
    caplog: pytest.LogCaptureFixture, make_cache: MakeCache, recorder: Recorder
) -> None:
    caplog.set_level(0)
    with RedisServer(password="s3cr3t/word") as redis:
        good = make_cache(redis.url.replace("s3cr3t/word", "s3cr3t%2Fword"))
        good.put_many([(key_of(0), pooled_of(0))])
        await written(recorder, 1)
        assert None not in await good.get_many([key_of(0)])
        assert not recorder.failed
        for url, kind in (
            (f"redis://127.0.0.1:{redis.port}", "noauth"),
            (f"redis://:another-s3cr3t@127.0.0.1:{redis.port}", "wrongpass"),
        ):
            outsider = make_cache(url, replace(QUICK, connect_seconds=30.0, read_seconds=30.0, call_seconds=60.0))
            for _ in range(3):
                assert await outsider.get_many([key_of(0)]) == [None]
            assert recorder.failed[kind] == 3
            assert recorder.states["read"][-1] == "open"
        assert "s3cr3t" not in caplog.text + repr(vars(good)) + repr(good)
        assert "stopped" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "http://s3cr3t@127.0.0.1",
        "redis://user:s3c/r3t@127.0.0.1:6379",
        "redis://user:s3cr3t@127.0.0.1:port",
        "redis://:s3cr3t@127.0.0.1?socket_timeout=5",
        "redis://:s3cr3t@127.0.0.1?retry_on_timeout=true",
        "redis://:s3cr3t@127.0.0.1?protocol=3",
        "rediss://:s3cr3t@127.0.0.1?ssl_ca_certs=/nonexistent",
        "rediss://:s3cr3t@127.0.0.1?ssl_nonsense=1",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as caught:
        build_cache(url, lru_bytes=0)
    assert "s3c" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("bound", ["read_seconds", "keys_per_read", "ttl_seconds", "queue_bytes"])
def test_a_bound_that_is_not_positive_is_refused(bound: str) -> None:
    with pytest.raises(ValueError, match=bound):
        RedisCache("redis://127.0.0.1", settings=RedisSettings(**{bound: 0}))


def test_the_factory_builds_what_the_configuration_says() -> None:
    assert type(build_cache(None, lru_bytes=1)) is LruCache
    assert type(build_cache("redis://127.0.0.1", lru_bytes=0)) is RedisCache
    assert type(build_cache("redis://127.0.0.1", lru_bytes=1)) is TieredCache


async def test_two_tiers_answer_from_memory_first_and_learn_from_redis(redis: RedisServer) -> None:
    keys, entries = [key_of(0), key_of(1)], [(key_of(0), pooled_of(0))]
    writer = build_cache(redis.url, lru_bytes=1 << 20)
    writer.put_many(entries)
    assert same((await writer.get_many(keys))[0], pooled_of(0))
    await writer.aclose()
    recorder = Recorder()
    reader = build_cache(redis.url, lru_bytes=1 << 20, observer=recorder)
    for _ in range(2):
        found = await reader.get_many(keys)
        assert same(found[0], pooled_of(0))
        assert found[1] is None
    assert (recorder.asked["memory"], recorder.answered["memory"]) == (4, 1)
    assert (recorder.asked["redis"], recorder.answered["redis"]) == (3, 1)
    await reader.aclose()
