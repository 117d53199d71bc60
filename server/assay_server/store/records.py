"""Dataclasses as JSON and back, by their annotations.

Invariant: ``read_record(type(x), record_of(x))`` is ``x``, through JSON too, for dataclasses of numbers, texts, enums, arrays,
tuples of one kind, and other such dataclasses, each of which may be None where its annotation says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")
_hints = cache(get_type_hints)


def record_of(value: Any) -> dict[str, Any]:
    """A dataclass as JSON; arrays as lists."""
    return asdict(value, dict_factory=lambda items: {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in items})


def read_record(kind: type[T], record: Mapping[str, Any]) -> T:
    """The inverse of ``record_of``. Raises KeyError, TypeError or ValueError for what it is not."""
    return _read(kind, record)


def _read(kind: Any, raw: Any) -> Any:
    if is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{name: _read(hints[name], value) for name, value in raw.items()})  # pyright: ignore[reportCallIssue]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (present,) = (one for one in arguments if one is not NoneType)
        return None if raw is None else _read(present, raw)
    if origin is tuple:
        return tuple(_read(arguments[0], one) for one in raw)
    if origin is np.ndarray:
        return np.array(raw, get_args(arguments[1])[0])
    return kind(raw) if isinstance(kind, type) and issubclass(kind, Enum) else raw
