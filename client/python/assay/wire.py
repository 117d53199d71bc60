"""From protobuf messages to plain values and back: enums by name, and fields that are the same on both sides."""

from collections.abc import Sequence
from dataclasses import fields
from enum import Enum
from typing import Any, TypeVar

E = TypeVar("E", bound=Enum)


def to_wire(wire: Any, prefix: str, value: Enum | None) -> Any:
    """The number of a member on the wire; 0 for None."""
    return wire.Value(f"{prefix}_{value.name}") if value is not None else 0


def from_wire(kind: type[E], wire: Any, prefix: str, number: int) -> E | None:
    """The member of a number on the wire; None where there is none, or none that this client knows."""
    try:
        return kind[wire.Name(number).removeprefix(f"{prefix}_")]
    except (ValueError, KeyError):
        return None


def members(kind: type[E], wire: Any, prefix: str, numbers: Sequence[int]) -> tuple[E, ...]:
    """The members of numbers on the wire; what is unknown is left out."""
    found = (from_wire(kind, wire, prefix, number) for number in numbers)
    return tuple(one for one in found if one is not None)


def plain(cls: Any, message: Any, *others: str) -> dict[str, Any]:
    """The fields that are on the wire what they are here."""
    return {one.name: getattr(message, one.name) for one in fields(cls) if one.name not in others}
