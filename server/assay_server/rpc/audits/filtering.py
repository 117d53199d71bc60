"""``ListHypotheses``'s filter and order: a small subset of AIP-160 and AIP-132, parsed once and applied to columns.

    filter    = [ condition { "AND" condition } ]
    condition = FIELD OP value
    OP        = "=" | "!=" | "<" | "<=" | ">" | ">=" | ":"
    value     = a text in double quotes (\\" and \\\\ inside), or a word: letters, digits and any of _ . / + - *

Numbers take every OP but ``:``; texts take ``=``, ``!=`` and ``:`` (contains); ``view``, ``finding`` and ``leads`` take ``=`` and
``!=``.
Texts are compared without regard to case. ``p``, ``q`` and ``effect`` are those of the controlled effect where effects were
controlled, else of the raw one: the numbers that make a finding.

Invariants:
- Parsing takes time linear in the text, whose length is bounded, and never recurses.
- Every refusal is an ``InvalidItem`` that names the place (counted in characters from 0) and what may stand there; the
  filter's own text is not quoted back.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.findings import ViewKind
from assay_server.audit.matrices import Bools, Floats, Ints
from assay_server.errors import InvalidItem

MAX_BYTES = 4096
MAX_CONDITIONS = 32

_NUMBERS = ("q", "p", "effect", "rank", "inside", "lesson")
_TEXTS = ("concept", "condition", "label")
_TRUTHS = ("finding", "leads")
FIELDS = ("view", *_TRUTHS, *_NUMBERS, *_TEXTS)

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_VIEWS = tuple(ViewKind)
_TOKEN = re.compile(r'[ \t\r\n]*(?:(?P<word>[\w./+*-]+)|(?P<op>[<>!]=|[=<>:])|(?P<text>"(?:[^"\\]|\\.)*"))', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class TextColumn:
    """Texts that rows share: row i's is ``values[index[i]]``."""

    values: tuple[str, ...]
    index: Ints  # [rows]


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns that hypotheses are filtered and ordered by. Arrays are [rows]."""

    view: Ints  # place in ViewKind
    finding: Bools
    q: Floats
    p: Floats
    effect: Floats
    rank: Ints
    inside: Ints
    concept: TextColumn
    condition: TextColumn  # "" where there is none
    label: TextColumn
    lesson: Ints  # 0 where it belongs to none
    leads: Bools  # whether it leads its lesson


@dataclass(frozen=True)
class Condition:
    """One FIELD OP VALUE, checked: ``value`` has the field's type."""

    field: str
    op: str
    value: str | float | bool | ViewKind


@dataclass(frozen=True)
class Order:
    """A field to order by; ties go by view, then rank."""

    field: str = ""  # "" is by view, then rank, alone
    descending: bool = False


def parse_filter(text: str, path: str = "filter") -> tuple[Condition, ...]:
    """The conditions that must all hold; none for a blank text.

    Raises:
        InvalidItem: INVALID_FILTER with the position, or FILTER_TOO_LONG.
    """
    _check_size(text, path)
    tokens = _tokens(text, path)
    conditions: list[Condition] = []
    place = 0
    while place < len(tokens):
        if conditions:
            if tokens[place].kind != "word" or tokens[place].text.upper() != "AND":
                raise _refuse(tokens[place].at, "AND must stand between two conditions", path)
            place += 1
        conditions.append(_condition(tokens, place, len(text), path))
        place += 3
        if len(conditions) > MAX_CONDITIONS:
            raise InvalidItem(
                f"The filter has more than {MAX_CONDITIONS} conditions; ask for less at once.",
                reason="INVALID_FILTER",
                field=path,
                details={"max_conditions": MAX_CONDITIONS},
            )
    return tuple(conditions)


def parse_order(text: str, path: str = "order_by") -> Order:
    """A field of the filter, "desc" or "asc" after it; by view and rank for a blank text.

    Raises:
        InvalidItem: INVALID_ORDER_BY.
    """
    _check_size(text, path)
    words = text.replace(",", " , ").split()
    if not words or words == ["view", ",", "rank"]:
        return Order()
    if len(words) > 2 or words[0] not in FIELDS or (len(words) == 2 and words[1] not in ("asc", "desc")):
        raise InvalidItem(
            f'order_by is one field, "desc" after it for descending; the fields are {", ".join(FIELDS)}.',
            reason="INVALID_ORDER_BY",
            field=path,
        )
    return Order(words[0], words[-1] == "desc")


def matching(conditions: Sequence[Condition], columns: Columns) -> Bools:
    """Which rows meet every condition, bool [rows]."""
    keep = np.ones(len(columns.view), dtype=np.bool_)
    for condition in conditions:
        keep &= _holds(condition, columns)
    return keep


def ordered(rows: Ints, order: Order, columns: Columns) -> Ints:
    """The rows in order; equal ones by view, then rank.

    Args:
        rows: indices into the columns, int64 [n].
        order: what to order by.
        columns: the columns.
    """
    keys: list[NDArray[Any]] = [columns.rank[rows], columns.view[rows]]
    if order.field:
        key = _sort_key(order.field, columns)[rows]
        keys.append(-key if order.descending else key)
    return rows[np.lexsort(keys)]


@dataclass(frozen=True)
class _Token:
    kind: str  # "word", "op" or "text"
    text: str
    at: int


def _check_size(text: str, path: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise InvalidItem(
            f"{path} takes {size} bytes; at most {MAX_BYTES} are allowed.",
            reason="FILTER_TOO_LONG",
            field=path,
            details={"bytes": size, "max_bytes": MAX_BYTES},
        )


def _tokens(text: str, path: str) -> list[_Token]:
    tokens: list[_Token] = []
    end = len(text.rstrip(" \t\r\n"))
    place = 0
    while place < end:
        found = _TOKEN.match(text, place)
        if found is None:
            at = place + len(text[place:]) - len(text[place:].lstrip(" \t\r\n"))
            unclosed = text[at] == '"'
            raise _refuse(at, "the quoted text does not end" if unclosed else "this character starts nothing", path)
        kind = str(found.lastgroup)
        tokens.append(_Token(kind, found.group(kind), found.start(kind)))
        place = found.end()
    return tokens


def _condition(tokens: Sequence[_Token], place: int, end: int, path: str) -> Condition:
    parts = [tokens[i] if i < len(tokens) else _Token("end", "", end) for i in range(place, place + 3)]
    field, op, value = parts
    if field.kind != "word" or field.text not in FIELDS:
        raise _refuse(field.at, f"a field must stand here; the fields are {', '.join(FIELDS)}", path)
    if op.kind != "op":
        raise _refuse(op.at, "an operator must stand here: = != < <= > >= or :", path)
    if value.kind not in ("word", "text"):
        raise _refuse(value.at, "a value must stand here", path)
    return Condition(field.text, op.text, _value(field.text, op, value, path))


def _value(field: str, op: _Token, value: _Token, path: str) -> str | float | bool | ViewKind:
    text = _ESCAPED.sub(r"\1", value.text[1:-1]) if value.kind == "text" else value.text
    if field in _NUMBERS:
        if op.text == ":":
            raise _refuse(op.at, f"{field} is a number; compare it with = != < <= > or >=", path)
        return _number(text, field, value.at, path)
    if field in _TEXTS:
        if op.text not in ("=", "!=", ":"):
            raise _refuse(op.at, f"{field} is a text; compare it with = or !=, or look into it with :", path)
        return text.casefold()
    if op.text not in ("=", "!="):
        raise _refuse(op.at, f"{field} takes = or !=", path)
    if field in _TRUTHS:
        if text.lower() not in ("true", "false"):
            raise _refuse(value.at, f"{field} is true or false", path)
        return text.lower() == "true"
    name = text.lower().removeprefix("view_")
    if name not in _VIEWS:
        raise _refuse(value.at, f"the views are {', '.join(_VIEWS)}", path)
    return ViewKind(name)


def _number(text: str, field: str, at: int, path: str) -> float:
    try:
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _refuse(at, f"{field} is compared with a finite number", path)
    return number


def _refuse(at: int, why: str, path: str) -> InvalidItem:
    return InvalidItem(
        f'The filter cannot be read at character {at}: {why}. For example: view = "global" AND q <= 0.05.',
        reason="INVALID_FILTER",
        field=path,
        details={"position": at},
    )


def _holds(condition: Condition, columns: Columns) -> Bools:
    column: Any = getattr(columns, condition.field)
    value = condition.value
    if isinstance(column, TextColumn):
        return np.array([_text_holds(condition.op, str(value), text) for text in column.values], dtype=np.bool_)[column.index]
    if isinstance(value, ViewKind):
        value = _VIEWS.index(value)
    return np.asarray(_COMPARE[condition.op](column, value), dtype=np.bool_)


def _text_holds(op: str, value: str, text: str) -> bool:
    text = text.casefold()
    if op == ":":
        return value in text
    return (text == value) == (op == "=")


def _sort_key(field: str, columns: Columns) -> NDArray[Any]:
    column: Any = getattr(columns, field)
    if isinstance(column, TextColumn):
        places = {text: place for place, text in enumerate(sorted(set(column.values), key=lambda text: (text.casefold(), text)))}
        return np.array([places[text] for text in column.values], dtype=np.int64)[column.index]
    return np.asarray(column, dtype=np.float64)
