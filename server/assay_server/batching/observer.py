"""What the engine reports: the seam for metrics."""

from typing import Protocol


class EngineObserver(Protocol):
    """Told what the engine does: the seam for metrics. Called from several threads; must be fast, must not raise."""

    def batch(self, tokens_read: int, tokens_saved: int, useful_fraction: float, seconds: float, pairs: int) -> None:
        """A batch was read: tokens read, tokens that sharing saved, share of computed tokens that were real, duration."""

    def queued(self, lane: str, tokens: int) -> None:
        """That many tokens wait in a lane now."""

    def queue_wait(self, lane: str, seconds: float) -> None:
        """A piece of work waited that long."""

    def tokenize(self, seconds: float) -> None:
        """Rendering and tokenising one call took that long."""

    def device_memory(self, n_bytes: int) -> None:
        """The device's allocated memory, after a batch."""


class NullEngineObserver(EngineObserver):
    """Ignores everything."""
