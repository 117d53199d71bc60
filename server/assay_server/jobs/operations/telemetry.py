"""Interface for metrics of long work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Telemetry(Protocol):
    """Receives events of operations. Called on the event loop; must be fast, must not raise."""

    def queued(self, kind: str, change: int) -> None:
        """An operation of a kind started (+1) or stopped (-1) waiting for its lane; 0 registers the kind."""
        ...

    def running(self, kind: str, change: int) -> None:
        """An operation of a kind started (+1) or stopped (-1) running; 0 registers the kind."""
        ...

    def ended(self, kind: str, outcome: str, phases: Mapping[str, float]) -> None:
        """An operation ended as "done", "failed" or "cancelled"; seconds per phase in this process."""
        ...

    def audited(self, pairs: int, seconds: float) -> None:
        """An audit is done: pairs of its dataset, and seconds of its statistics."""
        ...


class NoTelemetry:
    """Ignores every event."""

    def queued(self, kind: str, change: int) -> None:
        """Ignored."""

    def running(self, kind: str, change: int) -> None:
        """Ignored."""

    def ended(self, kind: str, outcome: str, phases: Mapping[str, float]) -> None:
        """Ignored."""

    def audited(self, pairs: int, seconds: float) -> None:
        """Ignored."""
