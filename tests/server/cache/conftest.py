"""A real server, and caches on it that are closed and leave neither task nor complaint behind."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from assay_server.cache import RedisCache, RedisSettings

from tests.server.cache.builders import Recorder
from tests.support.redis_server import RedisServer

QUICK = RedisSettings(
    connect_seconds=0.25,
    read_seconds=0.25,
    write_seconds=0.25,
    call_seconds=0.6,
    close_seconds=0.5,
    open_seconds=0.1,
)
"""The defaults, with breakers that try again sooner."""

MakeCache = Callable[..., RedisCache]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def make_cache(recorder: Recorder) -> AsyncIterator[MakeCache]:
    """``make_cache(url, settings=QUICK)``."""
    made: list[RedisCache] = []
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def make(url: str, settings: RedisSettings = QUICK) -> RedisCache:
        made.append(RedisCache(url, settings=settings, observer=recorder))
        return made[-1]

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        yield make
        for cache in made:
            await cache.aclose()
        await asyncio.sleep(0)
        gc.collect()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("redis-cache")] == []
    assert complaints == []
    assert recorder.failed["internal"] == 0
