"""The filter and the order of hypotheses: against a slow reading of the same rows, and against hostile texts."""

import contextlib
import itertools
import operator
import time
from typing import Any

import numpy as np
import pytest
from assay_server.audit.findings import ViewKind
from assay_server.errors import InvalidItem
from assay_server.rpc.audits.filtering import (
    FIELDS,
    Columns,
    Condition,
    Order,
    TextColumn,
    matching,
    ordered,
    parse_filter,
    parse_order,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.waiting import in_time

ROWS = 60
VIEWS = list(ViewKind)
LABELS = ("", "bullet lists", "Bold text", 'says "no"', "back\\slash", "Straße")


def columns(seed: int = 0) -> Columns:
    rng = np.random.default_rng(seed)
    return Columns(
        view=rng.integers(0, 4, ROWS),
        finding=rng.integers(0, 2, ROWS).astype(bool),
        q=rng.choice([0.0, 0.01, 0.05, 0.5, 1.0], ROWS),
        p=rng.random(ROWS),
        effect=rng.normal(size=ROWS),
        rank=rng.permutation(ROWS) + 1,
        inside=rng.integers(0, 40, ROWS),
        concept=TextColumn(("feature/1", "feature/12", "cluster/3"), rng.integers(0, 3, ROWS)),
        condition=TextColumn(("", "data-cluster/7", "metadata/topic=cooking"), rng.integers(0, 3, ROWS)),
        label=TextColumn(LABELS, rng.integers(0, len(LABELS), ROWS)),
        lesson=rng.integers(0, 5, ROWS),
        leads=rng.integers(0, 2, ROWS).astype(bool),
    )


def row(table: Columns, i: int) -> dict[str, Any]:
    """One row as plain values."""
    values: dict[str, Any] = {}
    for field in FIELDS:
        column = getattr(table, field)
        values[field] = column.values[column.index[i]].casefold() if isinstance(column, TextColumn) else column[i].item()
    values["view"] = VIEWS[values["view"]]
    return values


OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    ":": lambda text, part: part in text,
}


def found(text: str, table: Columns | None = None) -> list[int]:
    return np.flatnonzero(matching(parse_filter(text), table or columns())).tolist()


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


numbers = st.tuples(
    st.sampled_from(["q", "p", "effect", "rank", "inside"]),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.one_of(st.integers(-5, 70).map(float), st.floats(-2, 2), st.sampled_from([0.05, 0.5])),
)
texts = st.tuples(
    st.sampled_from(["concept", "condition", "label"]),
    st.sampled_from(["=", "!=", ":"]),
    st.one_of(st.sampled_from([*LABELS, "feature/1", "BOLD", "metadata/topic=cooking", "ß"]), st.text(max_size=4)),
)
conditions = st.one_of(
    numbers.map(lambda c: (Condition(*c), f"{c[0]}{c[1]}{c[2]!r}")),
    texts.map(lambda c: (Condition(c[0], c[1], c[2].casefold()), f"{c[0]} {c[1]} {quoted(c[2])}")),
    st.tuples(st.sampled_from(VIEWS), st.sampled_from(["=", "!="])).map(
        lambda c: (Condition("view", c[1], c[0]), f"view {c[1]} {quoted(c[0].upper())}")
    ),
    st.tuples(st.booleans(), st.sampled_from(["=", "!="])).map(
        lambda c: (Condition("finding", c[1], c[0]), f"finding{c[1]}{str(c[0]).lower()}")
    ),
)


@settings(deadline=None)
@given(st.lists(conditions, max_size=5), st.sampled_from([" AND ", "\n and\t", "  AND "]))
def test_a_filter_keeps_the_rows_that_meet_every_condition(asked: list[tuple[Condition, str]], joint: str) -> None:
    text = joint.join(text for _, text in asked)
    assert parse_filter(text) == tuple(condition for condition, _ in asked)
    table = columns()
    rows = [row(table, i) for i in range(ROWS)]
    wanted = [i for i, values in enumerate(rows) if all(OPERATORS[c.op](values[c.field], c.value) for c, _ in asked)]
    assert found(text, table) == wanted


def test_the_contracts_own_example_reads() -> None:
    assert parse_filter('view = "global" AND q <= 0.05 AND label : "list"') == (
        Condition("view", "=", ViewKind.GLOBAL),
        Condition("q", "<=", 0.05),
        Condition("label", ":", "list"),
    )
    assert parse_filter('view = VIEW_PROMPT_CONDITIONED and condition=""')[0].value is ViewKind.PROMPT_CONDITIONED
    assert parse_filter(" \n") == ()


@pytest.mark.parametrize(
    ("text", "position", "hint"),
    [
        ("size > 3", 0, "fields are view"),
        ("q <= 0.05 OR p < 1", 10, "AND must stand"),
        ("q <= 0.05 p < 1", 10, "AND must stand"),
        ("q <= 0.05 AND", 13, "a field must stand"),
        ("  q", 3, "an operator"),
        ("q <=  ", 6, "a value"),
        ("q <= nan", 5, "finite number"),
        ("q <= 1e999", 5, "finite number"),
        ("q <= 1_0", 5, "finite number"),
        ('q <= "many"', 5, "finite number"),
        ("q : 1", 2, "is a number"),
        ("label > a", 6, "is a text"),
        ("view : a", 5, "takes = or !="),
        ("view = everywhere", 7, "views are global"),
        ("finding = maybe", 10, "true or false"),
        ('label = "open', 8, "does not end"),
        ('label = "open\\"', 8, "does not end"),
        ("label = (a)", 8, "starts nothing"),
        ("label == a", 7, "a value"),
        ("NOT q = 1", 0, "a field must stand"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, position: int, hint: str) -> None:
    with pytest.raises(InvalidItem) as caught:
        parse_filter(text)
    assert (caught.value.reason, caught.value.field) == ("INVALID_FILTER", "filter")
    assert caught.value.details["position"] == str(position)
    assert f"at character {position}: " in caught.value.message
    assert hint in caught.value.message


def test_too_many_conditions_and_too_long_texts_are_refused_with_both_numbers() -> None:
    assert len(parse_filter(" AND ".join(["q < 1"] * 32))) == 32
    with pytest.raises(InvalidItem, match="more than 32 conditions"):
        parse_filter(" AND ".join(["q < 1"] * 33))
    for parse in (parse_filter, parse_order):
        with pytest.raises(InvalidItem) as caught:
            parse("é" * 2049)
        assert caught.value.reason == "FILTER_TOO_LONG"
        assert caught.value.details == {"bytes": "4098", "max_bytes": "4096"}


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(st.sampled_from(['"', "\\", "=", "AND", " ", "q", "label", ":", "(", "<", "1", "\0", "é"]), max_size=60).map(
            "".join
        ),
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_filter, parse_order):
        with contextlib.suppress(InvalidItem):
            parse(text)


@pytest.mark.parametrize("unit", ['"', '\\"', '"\\', "label : ", "=", "\\", " ", "q", '"" ', "AND ", "!", "<" * 2])
def test_hostile_texts_take_no_longer_than_others(unit: str) -> None:
    text = (unit * 4096)[:4096]
    for start in ("", 'label : "', "label = "):
        began = time.thread_time()
        with contextlib.suppress(InvalidItem):
            parse_filter((start + text)[:4096])
        assert in_time(time.thread_time() - began, 0.1)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("descending", [False, True])
def test_rows_come_in_the_order_asked_and_ties_by_view_and_rank(field: str, descending: bool) -> None:
    table = columns(3)
    rows = np.array([4, 9, 2, 50, 33, 7, 8, 1, 0, 21])
    text = f"{field} desc" if descending else field
    assert parse_order(text) == Order(field, descending)
    got = ordered(rows, parse_order(text), table).tolist()

    def rest(i: int) -> tuple[Any, ...]:
        return (table.view[i], table.rank[i])

    def key(i: int) -> Any:
        values = row(table, i)
        return table.view[i] if field == "view" else values[field]

    assert (
        got == sorted(sorted(rows.tolist(), key=rest), key=key, reverse=False) if not descending else sorted(got) == sorted(rows)
    )
    keys = [key(i) for i in got]
    assert keys == sorted(keys, reverse=descending)
    for a, b in itertools.pairwise(got):
        if key(a) == key(b):
            assert rest(a) < rest(b)


def test_without_an_order_rows_come_by_view_and_rank() -> None:
    table = columns(5)
    everything = np.arange(ROWS)
    for text in ("", " ", "view, rank", "view,rank"):
        assert ordered(everything, parse_order(text), table).tolist() == sorted(
            range(ROWS), key=lambda i: (table.view[i], table.rank[i])
        )


@pytest.mark.parametrize("text", ["size", "q down", "q desc desc", "q, p", "DESC", "desc q", "q;drop"])
def test_other_orders_are_refused(text: str) -> None:
    with pytest.raises(InvalidItem) as caught:
        parse_order(text)
    assert (caught.value.reason, caught.value.field) == ("INVALID_ORDER_BY", "order_by")
