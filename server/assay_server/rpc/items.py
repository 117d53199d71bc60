"""From received items to results: read each, score the good ones together, translate each answer in its place.

Invariants:
- Results stand in the order of the items; a bad item's result is its error, and the items beside it are scored.
- Translation never holds the event loop for long: after a few milliseconds of it, others have their turn.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from assay.v1 import pair_pb2, scoring_pb2
from google.rpc import status_pb2

from assay_server.errors import AssayError, InvalidItem
from assay_server.rpc import messages as results
from assay_server.rpc.errors import code_of, to_status
from assay_server.rpc.pairs import CallOptions, read_pair, read_response
from assay_server.rpc.specs import Bounds
from assay_server.rpc.state import Loaded
from assay_server.scorer import Scored
from assay_server.scorer.ranking import Ranker
from assay_server.subject.checks import MAX_ID_BYTES
from assay_server.subject.types import Pair, PromptedResponse
from assay_server.telemetry.metrics import Metrics

TURN_SECONDS = 0.004

ItemT = TypeVar("ItemT", pair_pb2.Pair, pair_pb2.PromptedResponse)
ResultT = TypeVar("ResultT", scoring_pb2.PairResult, scoring_pb2.ResponseResult)


@dataclass(frozen=True, slots=True)
class Form(Generic[ItemT, ResultT]):
    """How one kind of item is read and answered."""

    read: Callable[[ItemT, Bounds], Pair | PromptedResponse]
    result: Callable[[str, Scored, CallOptions, Ranker], ResultT]
    error: Callable[[str, status_pb2.Status], ResultT]


PAIRS = Form(read_pair, results.pair_result, results.pair_error)
RESPONSES = Form(read_response, results.response_result, results.response_error)


@dataclass(frozen=True, slots=True)
class Call:
    """What the items of one message share.

    Attributes:
        method: the method's name, for metrics.
        path: where the items stand in the request, for errors: "pairs".
        loaded: what answers.
        options: what was asked.
        deadline: ``time.monotonic()`` instant past which nothing is started; None waits.
        metrics: what counts the items.
    """

    method: str
    path: str
    loaded: Loaded
    options: CallOptions
    deadline: float | None
    metrics: Metrics


async def score_items(form: Form[ItemT, ResultT], items: Sequence[ItemT], call: Call) -> list[ResultT]:
    """One result for each item, in order.

    Raises:
        AssayError: the call as a whole fails (overload, deadline, a server that stops).
    """
    turn = Turn()
    outcomes: list[Pair | PromptedResponse | Scored | AssayError] = []
    for item in items:
        try:
            outcomes.append(form.read(item, call.loaded.bounds))
        except InvalidItem as error:
            outcomes.append(error)
        await turn.pause()
    good = [(place, outcome) for place, outcome in enumerate(outcomes) if isinstance(outcome, Pair | PromptedResponse)]
    if good:
        answers = await call.loaded.scorer.score([item for _, item in good], call.options.engine, deadline=call.deadline)
        for (place, _), answer in zip(good, answers, strict=True):
            outcomes[place] = answer
        turn = Turn()
    codes: Counter[str] = Counter()
    answered: list[ResultT] = []
    for place, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
        if isinstance(outcome, Scored):
            codes["OK"] += 1
            answered.append(form.result(item.id, outcome, call.options, call.loaded.ranker))
        else:
            assert isinstance(outcome, AssayError), "every good item was answered"
            codes[code_of(outcome).name] += 1
            answered.append(form.error(_short(item.id), to_status(outcome, within=f"{call.path}[{place}]")))
        await turn.pause()
    call.metrics.pairs(call.method, codes)
    return answered


class Turn:
    """A turn on the event loop."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def pause(self) -> None:
        """Gives the loop back once a turn's worth of it is used."""
        if time.perf_counter() - self._began > TURN_SECONDS:
            await asyncio.sleep(0)
            self._began = time.perf_counter()


def _short(id: str) -> str:
    """The id, cut where it is longer than ids may be: an error is not an echo of megabytes."""
    return id if len(id) <= MAX_ID_BYTES else id[:MAX_ID_BYTES]
