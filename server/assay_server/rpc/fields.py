"""Checks of single fields, shared by all requests.

Invariants: a refusal is an ``InvalidItem`` that names the field's path in the request, the value, and what may be given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from assay_server.errors import FailedPrecondition, InvalidItem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """An interval of numbers; ``open_low`` and ``open_high`` leave the end itself out."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value is inside; NaN never is."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        return f"{'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


SHARE = Range(0.0, 1.0, open_low=True, open_high=True)
MAX_COUNT = (1 << 31) - 1


def kept(found: T | None, path: str = "") -> T:
    """What a server with a data directory has. Raises FailedPrecondition (NO_DATA_DIR) where there is none."""
    if found is None:
        raise FailedPrecondition(
            "This server has no data directory, so it keeps nothing; start it with --data-dir.", reason="NO_DATA_DIR", field=path
        )
    return found


def unique(values: Sequence[T], path: str) -> tuple[T, ...]:
    """The values. Raises InvalidItem (DUPLICATE_VALUE) where one is repeated."""
    seen: set[T] = set()
    for place, value in enumerate(values):
        if value in seen:
            raise InvalidItem(
                f"Entry {place} is named before; name each once.",
                reason="DUPLICATE_VALUE",
                field=f"{path}[{place}]",
                details={"place": place},
            )
        seen.add(value)
    return tuple(values)


def check_count(count: int, most: int, limit: str, path: str) -> None:
    """Raises InvalidItem for a request with no items, or with more than the limit."""
    if count == 0:
        raise InvalidItem(f"{path} is empty; send 1 to {most}.", reason="EMPTY_REQUEST", field=path, details={limit: most})
    if count > most:
        raise InvalidItem(
            f"{path} holds {count} items; {limit} is {most}. Split the request.",
            reason="TOO_MANY_PAIRS",
            field=path,
            details={"items": count, limit: most},
        )


def check_many(count: int, most: int, limit: str, what: str, path: str) -> None:
    """Raises InvalidItem (LIMIT_EXCEEDED) for more than ``most`` names, a bound called ``limit``."""
    if count > most:
        raise InvalidItem(
            f"{count} {what} are named; {limit} is {most}.",
            reason="LIMIT_EXCEEDED",
            field=path,
            details={"named": count, limit: most},
        )


def within(name: str, value: float, span: Range, path: str) -> float:
    """The value of field ``name`` of ``path``. Raises InvalidItem (OUT_OF_RANGE) outside the span."""
    if not math.isfinite(value) or not span.holds(value):
        raise out_of_range(value, f"a number in {span}", f"{path}.{name}" if path else name)
    return value


def out_of_range(value: float, wanted: str, path: str) -> InvalidItem:
    """The refusal of a number that is not what is wanted, such as "a multiple of 64"."""
    what = path.rsplit(".", maxsplit=1)[-1]
    return InvalidItem(f"{what} is {value}; give {wanted}.", reason="OUT_OF_RANGE", field=path, details={what: value})


def out_of_bounds(what: str, value: int, most: int, limit: str, path: str) -> InvalidItem:
    """The refusal of a number that is not in [0, most]."""
    return InvalidItem(
        f"{what} is {value}; {limit} is {most}.",
        reason="LIMIT_EXCEEDED" if value > most else "OUT_OF_RANGE",
        field=path,
        details={what: value, limit: most},
    )
