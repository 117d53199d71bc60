"""The stream's bookkeeping without any I/O: packing, back-pressure, order, and what to send again after a lost connection.

`Window` holds every pair between the caller's iterable and the caller's loop. Two drivers feed it: `assay.stream` with
threads, `assay.aio.stream` with asyncio.

Invariants:
- At most `Flow.pairs_in_flight` pairs and about `Flow.bytes_in_flight` bytes are held, whatever the iterable's length.
- Results leave in the order in which pairs came, one for each pair, exactly once, over any number of reconnections: the
  server answers batches in order, so what is unanswered is a suffix, and only that is sent again.
- A pair that cannot travel (too large for any message, no Unicode) fails in its place without being sent.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from assay.errors import AssayError, ConnectionFailed, ItemError, ModelChanged, NotReady, Overloaded, ServerFault
from assay.intervention_results import OffsetResult, offset_result
from assay.model import Limits, ModelInfo
from assay.pairs import Pair
from assay.results import PairResult, pair_result
from assay.v1 import intervention_service_pb2, pair_pb2, scoring_pb2

R = TypeVar("R")  # one pair's result

ENVELOPE_BYTES = 64  # what a message adds around its pairs, at most
FRAME_BYTES = 6  # tag and length of one pair inside it, at most


@dataclass(frozen=True, slots=True)
class Flow:
    """How much a stream sends at once.

    Attributes:
        pairs_per_message: pairs packed into one message; the server's limit wins where it is lower.
        bytes_per_message: bytes of one message; the server's limit wins where it is lower.
        pairs_in_flight: pairs sent and not yet answered. Two or more of the server's sorting windows keep it busy.
        bytes_in_flight: bytes of those pairs.
        linger_seconds: how long a half-full message waits for more pairs when the iterable is slow.
        answer_seconds: a connection that answers nothing for so long counts as lost; None waits forever.
    """

    pairs_per_message: int = 64
    bytes_per_message: int = 1 << 20
    pairs_in_flight: int = 1024
    bytes_in_flight: int = 16 << 20
    linger_seconds: float = 0.05
    answer_seconds: float | None = 600.0

    def __post_init__(self) -> None:
        counts = (self.pairs_per_message, self.bytes_per_message, self.pairs_in_flight, self.bytes_in_flight)
        if min(counts) < 1:
            raise ValueError(f"every count of {self} must be at least 1")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a stream gives up on a lost connection. Any answer starts the count again.

    Attributes:
        attempts: reconnections without an answer in between; 0 never reconnects.
        initial_seconds: wait before the first of them.
        max_seconds: the longest wait, unless the server asks for a longer one.
        multiplier: growth of the wait.
        jitter: share of the wait that is random, in [0, 1], so that clients do not come back all at once.
    """

    attempts: int = 12
    initial_seconds: float = 0.1
    max_seconds: float = 10.0
    multiplier: float = 2.0
    jitter: float = 0.25

    def delay(self, failures: int, retry_after: float | None, uniform: Callable[[], float] = random.random) -> float:
        """Seconds to wait after `failures` failures in a row; at least what the server requested."""
        backoff = min(self.max_seconds, self.initial_seconds * self.multiplier ** min(failures - 1, 64))
        backoff *= 1 - self.jitter * uniform()
        return backoff if retry_after is None else retry_after + backoff * self.jitter


class Recovery:
    """Counts failures of one run, and keeps it to the model that it started with."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._identity: dict[str, str] | None = None

    def admit(self, model: ModelInfo) -> None:
        """Takes note of the model that a fresh connection reaches; ModelChanged where it is another than before."""
        if self._identity is None:
            self._identity = model.identity
        changed = {key: value for key, value in model.identity.items() if self._identity[key] != value}
        if changed:
            was = {key: self._identity[key] for key in changed}
            raise ModelChanged(
                f"the server came back with another model ({', '.join(changed)} changed from {was} to {changed}); "
                "results of two models must not mix: score the rest as a run of its own",
                reason="MODEL_CHANGED",
                details=changed,
            )

    def failed(self, error: AssayError, *, transport: bool) -> float:
        """Seconds to wait before the next connection; raises the error where it should give up."""
        worth_it = transport or isinstance(error, ConnectionFailed | NotReady | Overloaded)
        self._failures += 1
        if not worth_it:
            raise error
        if self._failures > self._policy.attempts:
            error.message += f" (gave up after {self._failures} connections in a row without an answer)"
            raise error
        return self._policy.delay(self._failures, getattr(error, "retry_after_seconds", None))

    @property
    def wary(self) -> bool:
        """Whether the last connection brought no answer."""
        return self._failures > 0

    def progressed(self) -> None:
        """An answer came."""
        self._failures = 0


@dataclass(frozen=True, slots=True)
class Dialect(Generic[R]):
    """What a stream of pairs says: `score` and `offsets` differ in this alone.

    Attributes:
        head: the first message, which carries the options.
        batch: the message that carries a batch.
        result: a pair's result from its index and the wire.
        refused: the result of a pair that never left, from its index, id and error.
    """

    head: Any
    batch: Callable[[scoring_pb2.PairBatch], Any]
    result: Callable[[int, Any], R]
    refused: Callable[[int, str, ItemError], R]


def scoring(options: scoring_pb2.ScoreOptions) -> Dialect[PairResult]:
    """What `score` says."""
    return Dialect(
        head=scoring_pb2.StreamPairsRequest(options=scoring_pb2.StreamOptions(score=options)),
        batch=lambda batch: scoring_pb2.StreamPairsRequest(batch=batch),
        result=pair_result,
        refused=lambda index, id, error: PairResult(index, id, None, error),
    )


def offsets(options: intervention_service_pb2.OffsetOptions) -> Dialect[OffsetResult]:
    """What `offsets` says."""
    return Dialect(
        head=intervention_service_pb2.StreamOffsetsRequest(options=options),
        batch=lambda batch: intervention_service_pb2.StreamOffsetsRequest(batch=batch),
        result=offset_result,
        refused=lambda index, id, error: OffsetResult(index, id, None, error),
    )


@dataclass(slots=True)
class _Batch(Generic[R]):
    sequence: int
    first_index: int
    pairs: list[pair_pb2.Pair] = field(default_factory=list[pair_pb2.Pair])
    # One for each pair that was given: its local failure, or None where the server has the word.
    outcomes: list[R | None] = field(default_factory=lambda: [])
    size: int = 0
    message: Any = None

    def close(self, dialect: Dialect[R]) -> None:
        self.message = dialect.batch(scoring_pb2.PairBatch(sequence=self.sequence, pairs=self.pairs))
        self.pairs = []


class Window(Generic[R]):
    """Pairs between the caller's iterable and the caller's loop.

    Args:
        limits: what the server accepts; 0 in a limit means that it did not say.
        flow: how much to send at once.
        clock: seconds, monotonic.
        dialect: what the stream says.
    """

    def __init__(self, limits: Limits, flow: Flow, clock: Callable[[], float], dialect: Dialect[R]) -> None:
        self._dialect = dialect
        self._flow = flow
        self._clock = clock
        self._most_bytes = (limits.max_message_bytes or (4 << 20)) - ENVELOPE_BYTES
        self._message_bytes = min(flow.bytes_per_message, self._most_bytes)
        self._message_pairs = min(flow.pairs_per_message, limits.max_pairs_per_message or flow.pairs_per_message)
        self._open: _Batch[R] | None = None
        self._opened_at = 0.0
        self._closed: deque[_Batch[R]] = deque()
        self._sent = 0  # batches at the front of `_closed` that this connection has carried
        self._pairs = 0
        self._bytes = 0
        self._index = 0
        self._sequence = 0

    @property
    def full(self) -> bool:
        """Whether to stop taking pairs until an answer comes."""
        return self._pairs >= self._flow.pairs_in_flight or self._bytes >= self._flow.bytes_in_flight

    @property
    def empty(self) -> bool:
        """Whether every pair's result has left."""
        return self._pairs == 0

    @property
    def has_unsent(self) -> bool:
        """Whether a message waits to be sent on this connection."""
        return self._sent < len(self._closed)

    @property
    def has_open(self) -> bool:
        """Whether a half-full message waits for more pairs."""
        return self._open is not None

    @property
    def lingers(self) -> bool:
        """Whether a half-full message has waited for more pairs for long enough."""
        return self._open is not None and self._clock() - self._opened_at >= self._flow.linger_seconds

    def add(self, pair: Pair) -> None:
        """Takes one pair; closes the open message where it is full."""
        failure: R | None = None
        size = 0
        message = None
        try:
            message = pair.to_proto()
            size = message.ByteSize() + FRAME_BYTES
        except ValueError as error:
            # Not the exception's text: it quotes the pair's.
            failure = self._refusal(pair.id, "INVALID_UTF8", f"a text is no Unicode: {type(error).__name__}", {})
        if message is not None and size > self._most_bytes:
            details = {"bytes": str(size), "max_message_bytes": str(self._most_bytes + ENVELOPE_BYTES)}
            text = f"the pair takes {size} bytes, more than one message of {self._most_bytes + ENVELOPE_BYTES} holds"
            failure = self._refusal(pair.id, "MESSAGE_TOO_LARGE", text, details)
        batch = self._open_batch(0 if failure else size)
        batch.outcomes.append(failure)
        if failure is None and message is not None:
            batch.pairs.append(message)
            batch.size += size
            self._bytes += size
        self._index += 1
        self._pairs += 1
        if len(batch.outcomes) >= self._message_pairs or self.full:
            self.flush()

    def flush(self) -> None:
        """Closes the open message, however full."""
        if self._open is not None:
            self._open.close(self._dialect)
            self._closed.append(self._open)
            self._open = None

    def next_unsent(self) -> Any:
        """The next message for this connection; None where there is none now."""
        while self._sent < len(self._closed):
            batch = self._closed[self._sent]
            self._sent += 1
            if _awaits_server(batch) and batch.message is not None:
                return batch.message
        return None

    def take_local(self) -> list[R]:
        """Results at the front that need no answer: batches in which every pair failed here."""
        ready: list[R] = []
        while self._closed and not _awaits_server(self._closed[0]):
            ready += [outcome for outcome in self._pop().outcomes if outcome is not None]
        return ready

    def answer(self, response: Any) -> list[R]:
        """The results that an answer brings, in order; ServerFault where it is not the answer that is due."""
        ready = self.take_local()
        if not self._closed or self._sent == 0 or self._closed[0].sequence != response.sequence:
            due = self._closed[0].sequence if self._closed and self._sent else None
            raise _broken(f"the server answered sequence {response.sequence} where {due} was due")
        asked = self._closed[0].outcomes.count(None)
        if len(response.results) != asked:
            raise _broken(f"the server sent {len(response.results)} results for a batch of {asked} pairs")
        batch = self._pop()
        answers = iter(response.results)
        for offset, outcome in enumerate(batch.outcomes):
            if outcome is None:
                outcome = self._dialect.result(batch.first_index + offset, next(answers))  # noqa: PLW2901
            ready.append(outcome)
        return ready + self.take_local()

    def rewind(self) -> None:
        """The connection is lost: everything unanswered is sent again."""
        self._sent = 0

    def _open_batch(self, size: int) -> _Batch[R]:
        if self._open is not None and self._open.size + size > self._message_bytes:
            self.flush()
        if self._open is None:
            self._open = _Batch(self._sequence, self._index)
            self._opened_at = self._clock()
            self._sequence += 1
        return self._open

    def _pop(self) -> _Batch[R]:
        batch = self._closed.popleft()
        self._sent = max(0, self._sent - 1)
        self._pairs -= len(batch.outcomes)
        self._bytes -= batch.size
        return batch

    def _refusal(self, id_: str, reason: str, message: str, details: dict[str, str]) -> R:
        return self._dialect.refused(self._index, id_, ItemError("INVALID_ARGUMENT", reason, message, details))


def _awaits_server(batch: _Batch[Any]) -> bool:
    return None in batch.outcomes


def _broken(message: str) -> ServerFault:
    return ServerFault(f"{message}: client and server do not agree on the contract", reason="PROTOCOL")
