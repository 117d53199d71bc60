"""Metrics of long-running operations: ``assay_server.jobs.operations.telemetry.Telemetry`` on Prometheus metrics.

Labels are closed: kinds of operations are registered at start, phases and outcomes are the code's own words.
"""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)


class JobMetrics:
    """Implements ``Telemetry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queued = Gauge("assay_queued_operations", "Operations that wait for their lane.", ("kind",), registry=registry)
        self._running = Gauge("assay_running_operations", "Operations that run.", ("kind",), registry=registry)
        self._finished = Counter(
            "assay_finished_operations", "Operations that ended, by how.", ("kind", "outcome"), registry=registry
        )
        self._phase_seconds = Histogram(
            "assay_operation_phase_seconds",
            "Seconds that an ended operation spent in a phase, in this process.",
            ("kind", "phase"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._audited = Counter("assay_audited_pairs", "Pairs of the datasets of audits that are done.", registry=registry)
        self._statistics = Histogram(
            "assay_audit_statistics_seconds", "Seconds of a finished audit's statistics.", buckets=_SECONDS, registry=registry
        )

    def queued(self, kind: str, change: int) -> None:
        """An operation began (+1) or ended (-1) to wait."""
        self._queued.labels(kind).inc(change)

    def running(self, kind: str, change: int) -> None:
        """An operation began (+1) or ended (-1) to run."""
        self._running.labels(kind).inc(change)

    def ended(self, kind: str, outcome: str, phases: Mapping[str, float]) -> None:
        """An operation is done."""
        self._finished.labels(kind, outcome).inc()
        for phase, seconds in phases.items():
            self._phase_seconds.labels(kind, phase).observe(seconds)

    def audited(self, pairs: int, seconds: float) -> None:
        """An audit is done."""
        self._audited.inc(pairs)
        self._statistics.observe(seconds)
