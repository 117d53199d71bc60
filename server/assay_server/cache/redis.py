"""Entries in a Redis that other servers share and that may at any time be down, slow, full, evicting or wrong.

Invariants:
- Nothing that Redis does reaches a caller but hits and misses: each reply is decoded and checked against its key, each failure
  is counted, and ``get_many`` ends within ``call_seconds``.
- Talk with Redis runs in tasks of the cache's own. A caller that is cancelled leaves; its exchange ends by itself, so no
  connection is left half read.
- No retries. Reads and writes have a breaker each, for a full or read-only Redis still answers reads. While one is open its
  side costs nothing; a probe's caller is answered with misses at once.
- Writes go behind: ``put_many`` queues. The queue is bounded by bytes and drops its oldest; a batch that fails is dropped.

Not for Redis Cluster: keys of one MGET live in many slots. redis-py makes the connections; the exchanges are our own (``wire``),
because its pools retry, parse replies of any size, and can hand one caller the reply to another (redis-py #2624).
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from assay_server.cache.breaker import Breaker, Permit
from assay_server.cache.codec import CorruptEntry, decode, encode
from assay_server.cache.interface import BreakerState, CacheObserver, ErrorKind, NullObserver, Side
from assay_server.cache.key import lacks_prompt
from assay_server.cache.lru import entry_bytes, owned
from assay_server.cache.wire import ExchangeFailed, Limits, Pool, error_kind
from assay_server.subject.types import Pooled

KEY_PREFIX = b"assay:1:"
_LOG = logging.getLogger(__name__)
_CODEC_SLICE = 16  # entries between two turns of the event loop: about half a millisecond


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How long and how much; the defaults suit a Redis in the same rack.

    Attributes:
        connect_seconds: until a connection is made, TLS and AUTH included.
        read_seconds: for one MGET.
        write_seconds: for one pipeline of SETs; no caller waits for it.
        call_seconds: a ``get_many`` answers after this time with what came until then.
        close_seconds: how long closing waits for queued writes.
        failures_to_open: failures in a row that open a breaker.
        open_seconds: how long it stays open.
        connections: concurrent MGETs; writes have one connection more.
        keys_per_read: most keys in one MGET.
        bytes_per_read: what one MGET should bring; the number of keys adapts to the length of entries.
        write_batch_bytes: memory of the entries in one pipeline.
        queue_bytes: memory of all entries that wait to be written.
        value_bytes: longest entry, written or read.
        ttl_seconds: life of a written entry; None leaves it to Redis's eviction.
    """

    connect_seconds: float = 0.25
    read_seconds: float = 0.25
    write_seconds: float = 1.0
    call_seconds: float = 1.0
    close_seconds: float = 2.0
    failures_to_open: int = 3
    open_seconds: float = 1.0
    connections: int = 4
    keys_per_read: int = 128
    bytes_per_read: int = 2 << 20
    write_batch_bytes: int = 1 << 20
    queue_bytes: int = 64 << 20
    value_bytes: int = 8 << 20
    ttl_seconds: int | None = None


REDIS_DEFAULTS = RedisSettings()


class RedisCache:
    """A FeatureCache in Redis.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; nothing is connected before the first call.
        settings: bounds.
        observer: told all that happens.

    Raises:
        ValueError: the URL cannot be used, or a bound is not positive.
    """

    def __init__(self, url: str, *, settings: RedisSettings = REDIS_DEFAULTS, observer: CacheObserver | None = None) -> None:
        _check(settings)
        self._settings = settings
        self._observer: CacheObserver = observer or NullObserver()
        self._readers = Pool(url, size=settings.connections, limits=_limits(settings, settings.read_seconds))
        self._writer = Pool(url, size=1, limits=_limits(settings, settings.write_seconds))
        self._reads = self._breaker("read")
        self._writes = self._breaker("write")
        self._queue: OrderedDict[bytes, Pooled] = OrderedDict()
        self._queue_bytes = 0
        self._keys_per_read = settings.keys_per_read
        self._in_flight = False
        self._work = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._writing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_error: ErrorKind | None = None
        self._closed = False

    async def get_many(self, keys: Sequence[bytes]) -> list[Pooled | None]:
        """As FeatureCache."""
        found: list[Pooled | None] = [None] * len(keys)
        if not keys:
            return found
        self._observer.queries("redis", len(keys))
        permit = None if self._closed else self._reads.ask()
        if permit is None:
            return found
        if permit.probe:
            self._spawn(self._fetch(keys[:1], [None], permit))
            return found
        task = self._spawn(self._fetch(keys, found, permit))
        await asyncio.wait((task,), timeout=self._settings.call_seconds)
        answered = list(found)  # a task that is late still writes to its own list
        self._observer.hits("redis", sum(entry is not None for entry in answered))
        return answered

    def put_many(self, entries: Sequence[tuple[bytes, Pooled]]) -> None:
        """As FeatureCache: queues. Until it is written, a newer entry of a key replaces an older one that says no more."""
        if self._closed or not self._has_writer():
            self._observer.writes_dropped(len(entries))
            return
        for key, pooled in entries:
            self._enqueue(key, pooled)
        dropped = 0
        while self._queue_bytes > self._settings.queue_bytes:
            _, oldest = self._queue.popitem(last=False)
            self._queue_bytes -= entry_bytes(oldest)
            dropped += 1
        if dropped:
            self._observer.writes_dropped(dropped)
        self._note_queue()

    async def aclose(self) -> None:
        """As FeatureCache; does not wait for a Redis that is known to fail."""
        if self._closed:
            return
        self._closed = True
        if self._writing is not None and self._writes.state == "closed":
            try:
                async with asyncio.timeout(self._settings.close_seconds):
                    await self._drained.wait()
            except TimeoutError:
                _LOG.warning("closing with %d entries not written to Redis", len(self._queue))
        tasks = [*self._tasks, *([self._writing] if self._writing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._queue:
            self._observer.writes_dropped(len(self._queue))
        self._queue.clear()
        self._queue_bytes = 0
        self._note_queue()
        self._readers.close()
        self._writer.close()

    async def _fetch(self, keys: Sequence[bytes], found: list[Pooled | None], permit: Permit) -> None:
        """Fill ``found``, MGET by MGET, up to the first that fails."""
        ok: bool | None = None
        try:
            start = 0
            while start < len(keys):
                chunk = keys[start : start + self._keys_per_read]
                values = await self._mget(chunk)
                ok = True
                self._adapt(values)
                await self._decode_into(found, start, chunk, values)
                start += len(chunk)
        except ExchangeFailed as error:
            ok = self._failed(error.kind)
            if error.kind in ("timeout", "too_large"):
                self._keys_per_read = max(1, self._keys_per_read // 4)
        except Exception:
            ok = self._failed("internal")
            _LOG.exception("reading from the Redis cache failed by a fault of the server")
        finally:
            self._reads.settle(permit, ok)

    async def _mget(self, keys: Sequence[bytes]) -> list[Any]:
        """The raw value of each key. Raises ExchangeFailed."""
        [reply] = await self._readers.exchange([(b"MGET", *(KEY_PREFIX + key for key in keys))])
        if isinstance(reply, ResponseError):
            raise ExchangeFailed(error_kind(reply))
        if not isinstance(reply, list) or len(reply) != len(keys):
            self._readers.drop_idle()
            raise ExchangeFailed("protocol")
        return reply

    def _adapt(self, values: Sequence[object]) -> None:
        """Choose the keys of the next MGET by the lengths that this one brought."""
        lengths = [len(value) for value in values if isinstance(value, bytes)]
        n_bytes = sum(lengths)
        most = self._settings.bytes_per_read * len(lengths) // n_bytes if n_bytes else self._keys_per_read * 2
        self._keys_per_read = max(1, min(most, self._settings.keys_per_read))
        self._observer.transferred("read", n_bytes)

    async def _decode_into(self, found: list[Pooled | None], start: int, keys: Sequence[bytes], values: Sequence[object]) -> None:
        for i, (key, value) in enumerate(zip(keys, values, strict=True)):
            if value is not None:
                found[start + i] = self._decoded(key, value)
            if i % _CODEC_SLICE == _CODEC_SLICE - 1:
                await asyncio.sleep(0)

    def _decoded(self, key: bytes, value: object) -> Pooled | None:
        """What ``value`` holds, if it is an entry of ``key``."""
        if not isinstance(value, bytes):
            self._failed("protocol")
            return None
        try:
            return decode(key, value)
        except CorruptEntry as error:
            self._failed("corrupt")
            if error.reason == "key":
                self._readers.drop_idle()  # another key's entry: perhaps replies and questions are out of step
            return None

    def _enqueue(self, key: bytes, pooled: Pooled) -> None:
        pooled = owned(pooled)
        waiting = self._queue.pop(key, None)
        if waiting is not None:
            self._queue_bytes -= entry_bytes(waiting)
            if lacks_prompt(pooled) and not lacks_prompt(waiting):
                pooled = waiting
        self._queue[key] = pooled
        self._queue_bytes += entry_bytes(pooled)

    def _has_writer(self) -> bool:
        """Start the task that writes, if it does not run; False without an event loop."""
        if self._writing is None:
            try:
                self._writing = asyncio.get_running_loop().create_task(self._write_behind(), name="redis-cache-writes")
            except RuntimeError:
                return False
        return True

    async def _write_behind(self) -> None:
        """Write what is queued, batch by batch, until cancelled."""
        while True:
            await self._work.wait()
            permit = self._writes.ask()
            if permit is None:
                await asyncio.sleep(max(self._writes.seconds_until_probe(), 0.001))
                continue
            ok: bool | None = None
            self._in_flight = True
            try:
                ok = await self._write(self._next_batch(single=permit.probe))
            except Exception:
                ok = self._failed("internal")
                _LOG.exception("writing to the Redis cache failed by a fault of the server")
            finally:
                self._in_flight = False
                self._writes.settle(permit, ok)
                self._note_queue()

    def _next_batch(self, *, single: bool) -> list[tuple[bytes, Pooled]]:
        """The oldest entries that make a pipeline, taken off the queue; one for a probe."""
        batch: list[tuple[bytes, Pooled]] = []
        size = 0
        while self._queue and size < self._settings.write_batch_bytes and not (single and batch):
            key, pooled = self._queue.popitem(last=False)
            batch.append((key, pooled))
            size += entry_bytes(pooled)
        self._queue_bytes -= size
        return batch

    async def _write(self, batch: Sequence[tuple[bytes, Pooled]]) -> bool | None:
        """SET ``batch``; whether Redis took all of it, None where nothing was sent."""
        written = 0
        try:
            commands = await self._commands(batch)
            if not commands:
                return None
            replies = await self._writer.exchange(commands)
            for reply in replies:
                if reply == b"OK":
                    written += 1
                else:
                    self._failed(error_kind(reply) if isinstance(reply, ResponseError) else "protocol")
            self._observer.writes(written)
            self._observer.transferred("write", sum(len(command[2]) for command in commands))
            return written == len(commands)
        except ExchangeFailed as error:
            return self._failed(error.kind)
        finally:
            if written < len(batch):
                self._observer.writes_dropped(len(batch) - written)

    async def _commands(self, batch: Sequence[tuple[bytes, Pooled]]) -> list[tuple[bytes, ...]]:
        """A SET for every entry that can be encoded and is not too long."""
        ttl = self._settings.ttl_seconds
        life = () if ttl is None else (b"EX", str(ttl).encode())
        commands: list[tuple[bytes, ...]] = []
        for i, (key, pooled) in enumerate(batch):
            try:
                value = encode(key, pooled)
            except ValueError:
                self._failed("unencodable")
                continue
            if len(value) > self._settings.value_bytes:
                self._failed("too_large")
                continue
            commands.append((b"SET", KEY_PREFIX + key, value, *life))
            if i % _CODEC_SLICE == _CODEC_SLICE - 1:
                await asyncio.sleep(0)
        return commands

    def _note_queue(self) -> None:
        """Signal the queue's state to the writer and to ``aclose``."""
        if self._queue:
            self._work.set()
            self._drained.clear()
        else:
            self._work.clear()
            if not self._in_flight:
                self._drained.set()
        self._observer.queued(self._queue_bytes, len(self._queue))

    def _failed(self, kind: ErrorKind) -> bool | None:
        """Count a failure; what it says of Redis: False, or None where the server is at fault."""
        self._observer.errors(kind, 1)
        self._last_error = kind
        return None if kind in ("busy", "internal") else False

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name="redis-cache-read")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _breaker(self, side: Side) -> Breaker:
        settings = self._settings
        return Breaker(
            failures=settings.failures_to_open,
            open_seconds=settings.open_seconds,
            on_change=partial(self._breaker_changed, side),
        )

    def _breaker_changed(self, side: Side, state: BreakerState) -> None:
        self._observer.breaker(side, state)
        if state == "open":
            _LOG.warning("Redis cache %ss stopped for %.1f s: %s", side, self._settings.open_seconds, self._last_error)
        elif state == "closed":
            _LOG.info("Redis cache %ss work again", side)


def _limits(settings: RedisSettings, exchange_seconds: float) -> Limits:
    return Limits(
        connect_seconds=settings.connect_seconds,
        exchange_seconds=exchange_seconds,
        value_bytes=settings.value_bytes,
        reply_bytes=settings.value_bytes * 4,
    )


def _check(settings: RedisSettings) -> None:
    """Raises ValueError unless every bound is positive."""
    for name in RedisSettings.__slots__:
        value = getattr(settings, name)
        if value is not None and value <= 0:
            raise ValueError(f"RedisSettings.{name} must be positive, not {value}")
