"""The server's metrics, in one Prometheus registry per server, and the observers that fill it.

Names are ``assay_<what>_<unit>[_total]``. Labels are few and closed: method, code, lane, kind, phase, outcome, state; never an id
of a caller, a pair or a concept.

``Metrics`` is what the calls and the engine report to, ``Metrics.cache`` what the cache reports to, ``Metrics.jobs`` what long
work reports to (their observer protocols are methods here); every method may be called from any thread and costs microseconds.
"""

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from assay_server.subject.types import SubjectInfo
from assay_server.telemetry.cache_metrics import CacheMetrics
from assay_server.telemetry.job_metrics import JobMetrics

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TOKENS = (128, 256, 512, 1024, 1536, 2048, 3072, 4096, 8192, 16384, 32768)
_PAIRS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SHARES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)


class Metrics:
    """Every metric of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # a creation time beside each series doubles their number for nothing
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._declare_calls(self.registry)
        self._declare_engine(self.registry)
        self.cache = CacheMetrics(self.registry)
        self.jobs = JobMetrics(self.registry)

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    # Calls (reported by rpc)

    def request(self, method: str, code: str, seconds: float) -> None:
        """A call of ``method`` ended with the status ``code`` after ``seconds``."""
        self._requests.labels(method, code).inc()
        self._request_seconds.labels(method).observe(seconds)

    def pairs(self, method: str, codes: Mapping[str, int]) -> None:
        """Items of one message, counted by the status code of each."""
        for code, count in codes.items():
            self._pairs.labels(method, code).inc(count)

    def in_flight(self, method: str, change: int) -> None:
        """A call of ``method`` began (+1) or ended (-1)."""
        self._in_flight.labels(method).inc(change)

    def loaded(self, info: SubjectInfo, version: str) -> None:
        """The subject is verified and answers."""
        self._model_info.labels(
            model=info.model_id,
            model_fingerprint=info.model_fingerprint[:16],
            hook=info.hook,
            sae=info.sae_id,
            sae_architecture=info.sae_architecture,
            sae_fingerprint=info.sae_fingerprint[:16],
            dtype=info.dtype,
            device=info.device,
            version=version,
        ).set(1)
        self._explained_variance.set(info.explained_variance)
        self._mean_l0.set(info.mean_l0)

    def serving(self, state: bool) -> None:
        """Whether the server takes work."""
        self._serving.set(int(state))

    # Engine

    def batch(self, tokens_read: int, tokens_saved: int, useful_fraction: float, seconds: float, pairs: int) -> None:
        """A batch left the device.

        Args:
            tokens_read: tokens that the model read, shared ones once, padding left out.
            tokens_saved: tokens that prefix sharing saved.
            useful_fraction: share of the batch's positions that held a token, in [0, 1].
            seconds: forward pass and pooling.
            pairs: items in it.
        """
        self._tokens_read.inc(tokens_read)
        self._tokens_saved.inc(tokens_saved)
        self._batch_tokens.observe(tokens_read)
        self._batch_useful.observe(useful_fraction)
        self._batch_pairs.observe(pairs)
        self._forward_seconds.observe(seconds)

    def queued(self, lane: str, tokens: int) -> None:
        """Tokens that now wait in the lane."""
        self._queued_tokens.labels(lane).set(tokens)

    def queue_wait(self, lane: str, seconds: float) -> None:
        """An item of the lane waited this long for the device."""
        self._queue_seconds.labels(lane).observe(seconds)

    def tokenize(self, seconds: float) -> None:
        """A tokenising step took this long."""
        self._tokenize_seconds.observe(seconds)

    def device_memory(self, n_bytes: int) -> None:
        """Bytes that the device now holds for us."""
        self._device_memory.set(n_bytes)

    def _declare_calls(self, registry: CollectorRegistry) -> None:
        self._requests = Counter("assay_requests", "Calls that ended.", ("method", "code"), registry=registry)
        self._pairs = Counter("assay_pairs", "Pairs and responses answered or stored.", ("method", "code"), registry=registry)
        self._in_flight = Gauge("assay_requests_in_flight", "Calls that are open.", ("method",), registry=registry)
        self._request_seconds = Histogram(
            "assay_request_seconds",
            "Seconds from a call's first byte to its status.",
            ("method",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._serving = Gauge("assay_serving", "1 while the server takes work.", registry=registry)
        self._model_info = Gauge(
            "assay_model_info",
            "1 for what is loaded.",
            ("model", "model_fingerprint", "hook", "sae", "sae_architecture", "sae_fingerprint", "dtype", "device", "version"),
            registry=registry,
        )
        self._explained_variance = Gauge(
            "assay_model_explained_variance_ratio", "Variance that the SAE explains on the calibration text.", registry=registry
        )
        self._mean_l0 = Gauge("assay_model_mean_l0_features", "Features that fire on a token of it.", registry=registry)

    def _declare_engine(self, registry: CollectorRegistry) -> None:
        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=_SECONDS, registry=registry)

        self._tokenize_seconds = seconds("assay_tokenize_seconds", "Seconds to render and tokenise.")
        self._queue_seconds = seconds("assay_queue_seconds", "Seconds that an item waited for the device.", "lane")
        self._forward_seconds = seconds("assay_forward_seconds", "Seconds of a batch on the device.")
        self._tokens_read = Counter("assay_tokens_read", "Tokens that the model read.", registry=registry)
        self._tokens_saved = Counter("assay_tokens_saved", "Tokens not read twice, by prefix sharing.", registry=registry)
        self._batch_tokens = Histogram("assay_batch_tokens", "Tokens of a batch.", buckets=_TOKENS, registry=registry)
        self._batch_pairs = Histogram("assay_batch_pairs", "Items of a batch.", buckets=_PAIRS, registry=registry)
        self._batch_useful = Histogram(
            "assay_batch_useful_ratio", "Share of a batch's positions that held a token.", buckets=_SHARES, registry=registry
        )
        self._queued_tokens = Gauge("assay_queued_tokens", "Tokens that wait.", ("lane",), registry=registry)
        self._device_memory = Gauge("assay_device_memory_bytes", "Bytes held on the device.", registry=registry)
