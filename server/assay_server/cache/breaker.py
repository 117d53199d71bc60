"""A circuit breaker: after a few failures in a row it refuses for a while, then admits a single probe.

    closed ── `failures` in a row ──> open ── `open_seconds` later, on demand ──> half open ── the probe ──> closed or open

Invariants:
- While it is open, asking costs a clock reading, and nothing is attempted.
- Half open, exactly one permit is out; only that permit decides what comes next.
- What was permitted before the last change of state and ends after it decides nothing: a permit carries its epoch.

Not thread-safe: confined to one event loop.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from assay_server.cache.interface import BreakerState


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to try once; hand it to ``Breaker.settle`` however the try ends.

    Attributes:
        epoch: changes of state before it was given.
        probe: whether the breaker is half open and waits for this one.
    """

    epoch: int
    probe: bool


class Breaker:
    """Counts failures in a row.

    Args:
        failures: how many in a row open it, at least 1.
        open_seconds: how long it stays open before a probe.
        on_change: called with every new state.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        failures: int,
        open_seconds: float,
        on_change: Callable[[BreakerState], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if failures < 1:
            raise ValueError(f"a breaker opens after at least 1 failure, not {failures}")
        self._limit = failures
        self._open_seconds = open_seconds
        self._on_change = on_change
        self._clock = clock
        self._state: BreakerState = "closed"
        self._epoch = 0
        self._in_a_row = 0
        self._opened = 0.0

    @property
    def state(self) -> BreakerState:
        """Where it stands."""
        return self._state

    def seconds_until_probe(self) -> float:
        """Seconds until ``ask`` may say yes: 0 when closed; a probe that is out counts as a whole open period."""
        if self._state == "closed":
            return 0.0
        if self._state == "half_open":
            return self._open_seconds
        return max(0.0, self._opened + self._open_seconds - self._clock())

    def ask(self) -> Permit | None:
        """A permit to try now, or None."""
        if self._state == "closed":
            return Permit(self._epoch, probe=False)
        if self._state == "half_open" or self._clock() - self._opened < self._open_seconds:
            return None
        self._change("half_open")
        return Permit(self._epoch, probe=True)

    def settle(self, permit: Permit, ok: bool | None) -> None:
        """Report how the permitted try ended: True, False, or None where it says nothing about the other side."""
        if permit.epoch != self._epoch:
            return
        if ok is None:
            if permit.probe:
                self._open()
        elif ok:
            self._in_a_row = 0
            if permit.probe:
                self._change("closed")
        else:
            self._in_a_row += 1
            if permit.probe or self._in_a_row >= self._limit:
                self._open()

    def _open(self) -> None:
        self._opened = self._clock()
        self._change("open")

    def _change(self, state: BreakerState) -> None:
        self._state = state
        self._epoch += 1
        self._in_a_row = 0
        self._on_change(state)
