"""What long work tells those who watch the server: the seam for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Telemetry(Protocol):
    """Told what operations do. Called on the event loop; must be fast, must not raise."""

    def queued(self, kind: str, change: int) -> None:
        """An operation of a kind began (+1) or ended (-1) to wait for its lane; 0 says that there is such a kind."""
        ...

    def running(self, kind: str, change: int) -> None:
        """An operation of a kind began (+1) or ended (-1) to run; 0 says that there is such a kind."""
        ...

    def ended(self, kind: str, outcome: str, phases: Mapping[str, float]) -> None:
        """An operation ended as "done", "failed" or "cancelled"; seconds that each of its phases took in this process."""
        ...

    def audited(self, pairs: int, seconds: float) -> None:
        """An audit of a dataset of so many pairs is done, its statistics after that many seconds."""
        ...


class NoTelemetry:
    """Listens to nothing."""

    def queued(self, kind: str, change: int) -> None:
        """Ignored."""

    def running(self, kind: str, change: int) -> None:
        """Ignored."""

    def ended(self, kind: str, outcome: str, phases: Mapping[str, float]) -> None:
        """Ignored."""

    def audited(self, pairs: int, seconds: float) -> None:
        """Ignored."""
