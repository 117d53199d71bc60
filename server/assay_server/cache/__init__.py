"""A cache of pooled features: keys, codec, an in-process LRU, Redis, and single flight for concurrent equal requests.

    cache = build_cache("redis://localhost", lru_bytes=256 << 20)
    keys = KeyMaker(info)
    found = await cache.get_many([keys.key(tree) for tree in trees])

Redis is optional, at start and at run time: nothing here raises, or waits beyond a bound, because of it.
"""

from assay_server.cache.codec import CorruptEntry, decode, encode
from assay_server.cache.interface import (
    Backend,
    BreakerState,
    CacheObserver,
    ErrorKind,
    FeatureCache,
    NullObserver,
    Side,
)
from assay_server.cache.key import KEY_BYTES, KeyMaker, lacks_prompt
from assay_server.cache.lru import LruCache
from assay_server.cache.redis import REDIS_DEFAULTS, RedisCache, RedisSettings
from assay_server.cache.single_flight import Claim, LeaderGone, SingleFlight
from assay_server.cache.tiered import TieredCache

__all__ = [
    "KEY_BYTES",
    "REDIS_DEFAULTS",
    "Backend",
    "BreakerState",
    "CacheObserver",
    "Claim",
    "CorruptEntry",
    "ErrorKind",
    "FeatureCache",
    "KeyMaker",
    "LeaderGone",
    "LruCache",
    "NullObserver",
    "RedisCache",
    "RedisSettings",
    "Side",
    "SingleFlight",
    "TieredCache",
    "build_cache",
    "decode",
    "encode",
    "lacks_prompt",
]


def build_cache(
    url: str | None,
    *,
    lru_bytes: int,
    settings: RedisSettings = REDIS_DEFAULTS,
    observer: CacheObserver | None = None,
) -> FeatureCache:
    """The cache that a server is configured with.

    Args:
        url: Redis, or None for memory alone.
        lru_bytes: bound of the memory cache; 0 does without one (with a URL), or keeps nothing (without).
        settings: bounds of Redis.
        observer: told all that happens.

    Raises:
        ValueError: the URL or a bound cannot be used. A Redis that does not answer is no error.
    """
    memory = LruCache(lru_bytes, observer=observer)
    if url is None:
        return memory
    redis = RedisCache(url, settings=settings, observer=observer)
    return TieredCache(memory, redis) if lru_bytes else redis
