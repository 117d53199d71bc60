"""Metrics of the cache: ``assay_server.cache.CacheObserver`` on Prometheus metrics.

``queries`` and ``hits`` count by backend: a miss in memory is looked up in Redis again, so the two do not add up.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge

from assay_server.cache.interface import Backend, BreakerState, ErrorKind, Side

BREAKER_STATES: tuple[BreakerState, ...] = ("closed", "half_open", "open")
SIDES: tuple[Side, ...] = ("read", "write")


class CacheMetrics:
    """Implements ``CacheObserver``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"assay_cache_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"assay_cache_{name}", text, labels, registry=registry)

        self._queries = counter("queries", "Entries that were asked for.", "backend")
        self._hits = counter("hits", "Entries that were there.", "backend")
        self._errors = counter("errors", "Entries or exchanges that failed.", "kind")
        self._breaker = gauge("breaker_state", "1 for the state that the breaker of a side is in.", "side", "state")
        self._bytes = gauge("bytes", "Bytes that the in-process cache holds.")
        self._entries = gauge("entries", "Entries that the in-process cache holds.")
        self._evictions = counter("evictions", "Entries that made room in the in-process cache.")
        self._transferred = counter("transferred_bytes", "Bytes of entries exchanged with Redis.", "side")
        self._writes = counter("writes", "Entries that Redis acknowledged.")
        self._writes_dropped = counter("writes_dropped", "Entries that were not written to Redis.")
        self._queued_bytes = gauge("queued_bytes", "Bytes that wait to be written to Redis.")
        self._queued_entries = gauge("queued_entries", "Entries that wait to be written to Redis.")
        for side in SIDES:
            self.breaker(side, "closed")

    def queries(self, backend: Backend, n: int) -> None:
        """``n`` more keys were asked for."""
        self._queries.labels(backend).inc(n)

    def hits(self, backend: Backend, n: int) -> None:
        """``n`` more keys were answered."""
        self._hits.labels(backend).inc(n)

    def errors(self, kind: ErrorKind, n: int) -> None:
        """``n`` more failures of that kind."""
        self._errors.labels(kind).inc(n)

    def breaker(self, side: Side, state: BreakerState) -> None:
        """The breaker of Redis reads or writes is now ``state``."""
        for known in BREAKER_STATES:
            self._breaker.labels(side, known).set(int(known == state))

    def resident(self, n_bytes: int, entries: int) -> None:
        """The memory cache now holds that much."""
        self._bytes.set(n_bytes)
        self._entries.set(entries)

    def evictions(self, n: int) -> None:
        """The memory cache let go of ``n`` more entries."""
        self._evictions.inc(n)

    def transferred(self, side: Side, n_bytes: int) -> None:
        """``n_bytes`` more of entries came from Redis or went to it."""
        self._transferred.labels(side).inc(n_bytes)

    def writes(self, n: int) -> None:
        """Redis acknowledged ``n`` more entries."""
        self._writes.inc(n)

    def writes_dropped(self, n: int) -> None:
        """``n`` more entries were not written."""
        self._writes_dropped.inc(n)

    def queued(self, n_bytes: int, entries: int) -> None:
        """That much waits to be written to Redis."""
        self._queued_bytes.set(n_bytes)
        self._queued_entries.set(entries)
