"""From received items to results: read each, answer the good ones together, translate each answer in its place.

Invariants:
- Results stand in the order of the items; a bad item's result is its error, and the other items are answered.
- Translation yields to the event loop every few milliseconds.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from assay_server.errors import AssayError, InvalidItem
from assay_server.rpc.errors import code_of, to_status
from assay_server.rpc.specs import Bounds
from assay_server.subject.pair_checks import MAX_ID_BYTES
from assay_server.telemetry.metrics import Metrics

TURN_SECONDS = 0.004


class Item(Protocol):
    """A pair or a response as received."""

    @property
    def id(self) -> str:
        """The caller's."""
        ...


ItemT = TypeVar("ItemT", bound=Item)
ReadT = TypeVar("ReadT")
AnswerT = TypeVar("AnswerT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Call(Generic[ItemT, ReadT, AnswerT, ResultT]):
    """How the items of a request, or of each message of a stream, are answered.

    Attributes:
        method: the method's name, for metrics.
        path: where the items stand in the request, for errors: "pairs".
        bounds: what items are checked against.
        metrics: what counts the items.
        read: checks and translates an item; raises InvalidItem.
        answer: answers what was read together, an error in a bad one's place; given too: their places among the items.
        result: an item's result, from its id and its answer.
        failed: an item's result, from its ``id`` and its ``error``.
    """

    method: str
    path: str
    bounds: Bounds
    metrics: Metrics
    read: Callable[[ItemT, Bounds], ReadT]
    answer: Callable[[Sequence[ReadT], Sequence[int]], Awaitable[Sequence[AnswerT | AssayError]]]
    result: Callable[[str, AnswerT], ResultT]
    failed: Callable[..., ResultT]


AnyCall = Call[Any, Any, Any, Any]


async def answer_items(items: Sequence[ItemT], call: Call[ItemT, ReadT, AnswerT, ResultT]) -> list[ResultT]:
    """One result for each item, in order.

    Raises:
        AssayError: the call as a whole fails (overload, deadline, a server that stops).
    """
    turn = Turn()
    good: dict[int, ReadT] = {}
    outcomes: dict[int, AnswerT | AssayError] = {}
    for place, item in enumerate(items):
        try:
            good[place] = call.read(item, call.bounds)
        except InvalidItem as error:
            outcomes[place] = error
        await turn.pause()
    if good:
        answers = await call.answer(list(good.values()), list(good))
        outcomes.update(zip(good, answers, strict=True))
        turn = Turn()
    codes: Counter[str] = Counter()
    results: list[ResultT] = []
    for place, item in enumerate(items):
        outcome = outcomes[place]
        if isinstance(outcome, AssayError):
            codes[code_of(outcome).name] += 1
            results.append(call.failed(id=_short(item.id), error=to_status(outcome, within=f"{call.path}[{place}]")))
        else:
            codes["OK"] += 1
            results.append(call.result(item.id, outcome))
        await turn.pause()
    call.metrics.pairs(call.method, codes)
    return results


class Turn:
    """A turn on the event loop."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def pause(self) -> None:
        """Yields to the event loop once the turn is used up."""
        if time.perf_counter() - self._began > TURN_SECONDS:
            await asyncio.sleep(0)
            self._began = time.perf_counter()


def _short(id: str) -> str:
    """The id, cut to the length that ids may have: an error must not repeat megabytes."""
    return id if len(id) <= MAX_ID_BYTES else id[:MAX_ID_BYTES]
