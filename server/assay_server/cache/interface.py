"""What a feature cache promises, whichever backend keeps the entries, and what it tells an observer.

Invariants:
- A cache may forget, and may be slow for a bounded time; it never answers wrong and never raises. Whatever goes wrong behind
  it is a miss and a count for the observer.
- The arrays of a ``Pooled`` that was put or got are never written again: entries are shared, not copied.
- One event loop: all of it is called from the loop's thread.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from assay_server.subject.types import Pooled

Backend = Literal["memory", "redis"]
Side = Literal["read", "write"]
BreakerState = Literal["closed", "open", "half_open"]

ErrorKind = Literal[
    "connect",
    "connection",
    "timeout",
    "busy",
    "protocol",
    "too_large",
    "corrupt",
    "unencodable",
    "internal",
    "oom",
    "readonly",
    "loading",
    "misconf",
    "noauth",
    "wrongpass",
    "noperm",
    "masterdown",
    "clusterdown",
    "moved",
    "crossslot",
    "busy_script",
    "reply",
]
"""Why an entry was not read or written.

connect: no connection in time, or it was refused; connection: lost in the middle; timeout: no reply in time; busy: all of our own
connections were in use for the whole time; protocol: a malformed reply; too_large: a value over the limit; corrupt: an
entry that does not decode; unencodable: features that break their own invariants; internal: a bug of the server; the others are
Redis's own error codes, with ``reply`` for every other one.
"""


class FeatureCache(Protocol):
    """Pooled features by key."""

    async def get_many(self, keys: Sequence[bytes]) -> list[Pooled | None]:
        """The entry of each key, in order, None for a miss; ends within a bounded time and raises only CancelledError."""
        ...

    def put_many(self, entries: Sequence[tuple[bytes, Pooled]]) -> None:
        """Keep ``entries``; returns at once and raises nothing. Whether and when they are kept is the backend's business."""
        ...

    async def aclose(self) -> None:
        """Write what waits to be written, for a bounded time, and let go of everything; may be called twice."""
        ...


class CacheObserver(Protocol):
    """Told what a cache does: the seam for metrics. Called on the event loop; must be fast, must not raise."""

    def queries(self, backend: Backend, n: int) -> None:
        """``n`` more keys were looked up."""

    def hits(self, backend: Backend, n: int) -> None:
        """``n`` more keys were answered."""

    def errors(self, kind: ErrorKind, n: int) -> None:
        """``n`` more failures of that kind: one per exchange with Redis, or per entry where entries fail one by one."""

    def breaker(self, side: Side, state: BreakerState) -> None:
        """The breaker of Redis reads or writes changed to ``state``; both start closed."""

    def resident(self, n_bytes: int, entries: int) -> None:
        """The memory cache now holds that much."""

    def evictions(self, n: int) -> None:
        """The memory cache let go of ``n`` more entries to make room."""

    def transferred(self, side: Side, n_bytes: int) -> None:
        """``n_bytes`` more of entries came from Redis or went to it."""

    def writes(self, n: int) -> None:
        """Redis acknowledged ``n`` more entries."""

    def writes_dropped(self, n: int) -> None:
        """``n`` more entries were not written to Redis: the queue was full, or Redis failed."""

    def queued(self, n_bytes: int, entries: int) -> None:
        """That much waits to be written to Redis."""


class NullObserver(CacheObserver):
    """Ignores everything."""
