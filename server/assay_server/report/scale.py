"""From values to positions in a plot, in percent, so that a plot fits any width without a script."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis from `low` to `high` (low < high); `ticks` lie within."""

    low: float
    high: float
    ticks: tuple[float, ...]
    margin: float = 2.0  # percent kept free at each end

    def percent(self, value: float) -> float:
        """The position of `value` in percent of the width, cut to the axis."""
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.margin + part * (100 - 2 * self.margin), 2)


def linear(values: Iterable[float], *, wanted: int = 5) -> Scale:
    """An axis that holds 0 and every value, with about `wanted` round ticks."""
    kept = [0.0, *values]
    low, high = min(kept), max(kept)
    if high - low <= 0:
        low, high = -1.0, 1.0
    step = _step((high - low) / max(wanted - 1, 1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(index * step for index in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def tick_label(value: float, step: float) -> str:
    """A tick's value with as many digits as its step needs: "+0.2", "−0.25", "0"."""
    if abs(value) < step / 2:
        return "0"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(round(step, digits) - step) > 1e-9 * step:
        digits += 1
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in _STEPS if step * power >= rough * 0.999)
