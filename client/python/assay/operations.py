"""Long work on the server as both clients see it: its state, its result, when to look again.

Invariants:
- The work is the server's: leaving `wait`, by a timeout, an exception or the end of the process, does not stop it.
- A server that dies and comes back takes the work up again, and `wait` goes on waiting (`RetryPolicy`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.message import DecodeError

from assay.audits import Audit, Dataset
from assay.comparisons import RolloutComparison
from assay.concepts import ClusterSummary, LabelSummary, StoredConcept
from assay.errors import AssayError, DeadlineExceeded, ItemError, ServerFault
from assay.flow import Recovery, RetryPolicy
from assay.hypotheses import Hypothesis
from assay.intervention_results import PromptRanking
from assay.interventions import Intervention, Plan
from assay.times import utc
from assay.v1 import audit_pb2, comparison_pb2, concept_service_pb2, intervention_pb2, intervention_service_pb2
from assay.v1 import operations_pb2 as assay_operations_pb2

_FIRST_POLL_SECONDS = 0.05
_POLL_SECONDS = 1.0
_POLL_SHARE = 0.1  # of the time waited so far: a wait ends at most a tenth later than the work


@dataclass(frozen=True, slots=True)
class OperationProgress:
    """How far an operation is.

    Attributes:
        target: what is being made, for example "audits/...".
        phase: what it is doing: "waiting", "scoring", "controls", "grouping", "testing", "evidence", "fitting", "writing".
        pairs_done: pairs (or texts) that this phase has finished.
        pairs_total: pairs of this phase; 0 while not known.
        pairs_per_second: over the last seconds; 0 while not known.
        seconds_left: of this phase at that speed; 0 while not known.
        create_time: when it was requested.
        update_time: when it last got further.
        resumed: how often it was taken up again after the server had stopped or died.
    """

    target: str = ""
    phase: str = ""
    pairs_done: int = 0
    pairs_total: int = 0
    pairs_per_second: float = 0.0
    seconds_left: float = 0.0
    create_time: datetime | None = None
    update_time: datetime | None = None
    resumed: int = 0

    @classmethod
    def from_proto(cls, message: assay_operations_pb2.OperationMetadata) -> "OperationProgress":
        """From the wire."""
        return cls(
            message.target,
            message.phase,
            message.pairs_done,
            message.pairs_total,
            message.pairs_per_second,
            message.seconds_left,
            utc(message, "create_time"),
            utc(message, "update_time"),
            message.resumed,
        )


@dataclass(frozen=True, slots=True)
class OperationStatus:
    """One look at an operation: whether it is over, how far it is, and what came of it.

    Attributes:
        name: "operations/...".
        done: whether it is over; then exactly one of `error` and `result` is set.
        progress: how far it is.
        error: why it failed.
        result: what it made.
    """

    name: str
    done: bool
    progress: OperationProgress
    error: ItemError | None
    result: Any

    @classmethod
    def from_proto(cls, message: operations_pb2.Operation) -> "OperationStatus":
        """From the wire; ServerFault where it is over with neither result nor error."""
        metadata = assay_operations_pb2.OperationMetadata()
        if message.HasField("metadata") and not message.metadata.Unpack(metadata):
            metadata.Clear()
        error = ItemError.from_proto(message.error) if message.WhichOneof("result") == "error" else None
        result = _unpacked(message.response) if message.WhichOneof("result") == "response" else None
        if message.done and error is None and result is None:
            raise ServerFault(f"{message.name} is over with neither a result nor an error", reason="PROTOCOL")
        return cls(message.name, message.done, OperationProgress.from_proto(metadata), error, result)


Watch = Callable[[OperationProgress], object]


class Waiting:
    """When to look again, what to tell, and when to give up: what both kinds of waiting share."""

    def __init__(self, retry: RetryPolicy, on_progress: Watch | None, timeout: float | None) -> None:
        self._recovery = Recovery(retry)
        self._on_progress = on_progress
        self._timeout = timeout
        self._start = time.monotonic()
        self._told: OperationProgress | None = None

    def saw(self, status: OperationStatus) -> bool:
        """Takes note of a state; whether it is the last."""
        if self._on_progress is not None and status.progress != self._told:
            self._told = status.progress
            self._on_progress(status.progress)
        return status.done

    def pause(self, name: str) -> float:
        """Seconds until the next look; DeadlineExceeded where the time is up."""
        waited = time.monotonic() - self._start
        if self._timeout is not None and waited >= self._timeout:
            raise DeadlineExceeded(
                f"{name} is not over after {self._timeout:g} s, and goes on on the server: wait for it again by its name",
                reason="WAIT_TIMEOUT",
                details={"operation": name, "timeout_seconds": f"{self._timeout:g}"},
            )
        pause = min(_POLL_SECONDS, max(_FIRST_POLL_SECONDS, _POLL_SHARE * waited))
        return pause if self._timeout is None else min(pause, self._timeout - waited)

    def failed(self, error: AssayError) -> float:
        """Seconds to wait after a failed look; raises the error where there is no use in another."""
        return self._recovery.failed(error, transport=False)


def outcome(status: OperationStatus) -> Any:
    """The result of an operation that is over; raises its error."""
    if status.error is not None:
        raise status.error.exception()
    return status.result


_RESULTS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "assay.v1.Audit": (audit_pb2.Audit, Audit.from_proto),
    "assay.v1.Dataset": (audit_pb2.Dataset, Dataset.from_proto),
    "assay.v1.Hypothesis": (audit_pb2.Hypothesis, Hypothesis.from_proto),
    "assay.v1.Concept": (concept_service_pb2.Concept, StoredConcept.from_proto),
    "assay.v1.ClusterSummary": (concept_service_pb2.ClusterSummary, ClusterSummary.from_proto),
    "assay.v1.LabelSummary": (concept_service_pb2.LabelSummary, LabelSummary.from_proto),
    "assay.v1.RolloutComparison": (comparison_pb2.RolloutComparison, RolloutComparison.from_proto),
    "assay.v1.Plan": (intervention_pb2.Plan, Plan.from_proto),
    "assay.v1.Intervention": (intervention_pb2.Intervention, Intervention.from_proto),
    "assay.v1.PromptRanking": (intervention_service_pb2.PromptRanking, PromptRanking.from_proto),
}


def _unpacked(packed: Any) -> Any:
    kind: str = packed.TypeName()
    if kind not in _RESULTS:
        raise ServerFault(f"the operation made a {kind or 'nothing'}, which this client does not know", reason="PROTOCOL")
    make, read = _RESULTS[kind]
    message = make()
    try:
        packed.Unpack(message)
    except DecodeError:
        raise ServerFault(f"the operation's {kind} cannot be read", reason="PROTOCOL") from None
    return read(message)
