"""The one loop over items: in order, errors in their places, ids cut, counted, and never long on the event loop."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from assay.v1 import pair_pb2
from assay_server.errors import AssayError, FailedPrecondition, InvalidItem
from assay_server.rpc.items import TURN_SECONDS, Call, answer_items
from assay_server.rpc.specs import Bounds
from assay_server.subject.pair_checks import MAX_ID_BYTES
from assay_server.telemetry.metrics import Metrics

BOUNDS = Bounds.__new__(Bounds)


def item(id: str, chosen: str = "yes") -> pair_pb2.Pair:
    return pair_pb2.Pair(id=id, chosen=chosen)


def read(one: pair_pb2.Pair, bounds: Bounds) -> str:
    if not one.chosen:
        raise InvalidItem("empty", reason="EMPTY_SPAN", field="chosen")
    return one.chosen


class Answers:
    """Answers with what was read, in capitals; remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[list[str], list[int]]] = []

    async def __call__(self, texts: Sequence[str], places: Sequence[int]) -> list[str | AssayError]:
        self.given.append((list(texts), list(places)))
        return [FailedPrecondition("no", reason="NO") if text == "bad" else text.upper() for text in texts]


def call(answers: Answers, metrics: Metrics | None = None, result: Any = lambda id, text: (id, text)) -> Call[Any, Any, Any, Any]:
    def failed(id: str, error: Any) -> tuple[str, str]:
        return id, str(error)

    return Call("M", "pairs", BOUNDS, metrics or Metrics(), read, answers, result, failed)


async def test_good_items_are_answered_together_and_each_result_stands_in_its_place() -> None:
    answers, metrics = Answers(), Metrics()
    items = [item("a", "one"), item("b", ""), item("c", "bad"), item("d", "two")]
    results = await answer_items(items, call(answers, metrics))
    assert answers.given == [(["one", "bad", "two"], [0, 2, 3])]
    assert [id for id, _ in results] == ["a", "b", "c", "d"]
    assert [results[0][1], results[3][1]] == ["ONE", "TWO"]
    assert "pairs[1].chosen" in results[1][1]
    assert "NO" in results[2][1]
    shown = metrics.exposition().decode()
    for code, count in (("OK", 2.0), ("INVALID_ARGUMENT", 1.0), ("FAILED_PRECONDITION", 1.0)):
        assert f'assay_pairs_total{{code="{code}",method="M"}} {count}' in shown


async def test_nothing_is_asked_where_no_item_is_good_and_a_long_id_is_cut() -> None:
    answers = Answers()
    ((id, _),) = await answer_items([item("i" * 9999, "")], call(answers))
    assert not answers.given
    assert id == "i" * MAX_ID_BYTES


async def test_others_have_their_turn_while_many_items_are_translated() -> None:
    def slow(id: str, text: str) -> str:
        time.sleep(TURN_SECONDS)
        return id

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(other())
    await answer_items([item(str(at)) for at in range(10)], call(Answers(), result=slow))
    beside.cancel()
    assert turns >= 5
