"""Waiting on machines of any speed, ten times slower than a workstation's core among them.

A wait ends as soon as its condition holds, so ``PATIENCE`` costs a passing test nothing: it bounds how long a broken one hangs.
A test that is about time holds its seconds to ``in_time``: the bound is meant for an ordinary core that is not shared, and
stretches by how much slower this one is at that moment. Such tests are marked ``serial`` and run with nothing beside them.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 300.0
"""Seconds that a test waits for what must come: a condition, an answer, the end of a process."""

_LOOP_SECONDS = 0.010
"""What ``_loop`` takes on an ordinary core."""


async def until(condition: Callable[[], Any], what: str = "the condition holds") -> None:
    """Wait for the condition without blocking the event loop; fail if it does not come."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.002)


def wait_until(condition: Callable[[], Any], what: str = "the condition holds") -> None:
    """The same in a thread of its own."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE:g} s: {what}"
        time.sleep(0.01)


def in_time(seconds: float, bound: float) -> bool:
    """Whether something that took ``seconds`` kept to a bound that is meant for an ordinary core."""
    return seconds < bound or seconds < bound * slowdown()


def slowdown() -> float:
    """How many times slower than an ordinary core this one runs plain Python now; at least 1."""
    return max(1.0, max(_loop() for _ in range(3)) / _LOOP_SECONDS)


def _loop() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(200_000):
        total += number & 7
    assert total
    return time.perf_counter() - began
