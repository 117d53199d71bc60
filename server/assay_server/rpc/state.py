"""What the servicers of one server share: the subject once it is loaded, the limits in force, and the work under way.

Invariants:
- Until ``open`` the server has no scorer and every call that needs one is refused as LOADING; after ``drain`` begins,
  new calls and further batches of open streams are refused as DRAINING. The phase never goes back.
- Everything here is used on the event loop only.
"""

import asyncio
import time
from typing import Any, TypeAlias

import grpc
from assay.v1 import model_pb2

from assay_server import __version__
from assay_server.config import ServerConfig
from assay_server.errors import NotReady, Overloaded
from assay_server.jobs.library import Library
from assay_server.jobs.plans.jobs import PlanJobs
from assay_server.labelling.labels import Labels
from assay_server.rpc.fields import kept
from assay_server.rpc.specs import Bounds
from assay_server.scorer import ScorerLike, default_batch_tokens
from assay_server.scorer.ranking import Ranker
from assay_server.subject.types import SubjectInfo
from assay_server.telemetry.metrics import Metrics

STREAM_RETRY_SECONDS = 1.0

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class Loaded:
    """The subject, once loaded, and what goes with it.

    Args:
        scorer: the one path from pairs to features.
        labels: feature labels.
        limits: the limits in force.
        library: what the server keeps; None without a data directory.
    """

    def __init__(
        self,
        scorer: ScorerLike,
        labels: Labels,
        limits: model_pb2.Limits,
        library: Library | None = None,
    ) -> None:
        info = scorer.info
        self.scorer = scorer
        self.labels = labels
        self.library = library
        self.bounds = Bounds(limits, info.d_in, info.d_sae, stored=None if library is None else library.concepts.get)
        self.ranker = Ranker(info.d_sae)


class ServerState:
    """The server's phase and its open work."""

    def __init__(self, config: ServerConfig, metrics: Metrics) -> None:
        self.config = config
        self.metrics = metrics
        self.version = __version__
        self.draining = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.calls_taken = 0  # calls that began, ended or not
        self._loaded: Loaded | None = None
        self._calls = 0
        self._streams = 0

    @property
    def serving(self) -> bool:
        """Whether the server takes work."""
        return self._loaded is not None and not self.draining.is_set()

    @property
    def loaded(self) -> Loaded:
        """The loaded subject and what goes with it.

        Raises:
            NotReady: the subject is still loading.
        """
        if self._loaded is None:
            raise NotReady("The model is still loading; come back in a second.", reason="LOADING")
        return self._loaded

    @property
    def library(self) -> Library:
        """What the server keeps.

        Raises:
            NotReady: the subject is still loading.
            FailedPrecondition: NO_DATA_DIR: the server keeps nothing.
        """
        return kept(self.loaded.library)

    @property
    def plans(self) -> PlanJobs:
        """Plans of interventions. Raises as ``library``."""
        return kept(self.library.plans)

    def open(self, scorer: ScorerLike, labels: Labels, library: Library | None = None) -> None:
        """The subject is verified: take work."""
        self._loaded = Loaded(scorer, labels, limits_in_force(self.config, scorer.info), library)
        self.metrics.loaded(scorer.info, self.version)
        self.metrics.serving(self.serving)

    def drain(self) -> None:
        """Take no more work."""
        self.draining.set()
        self.metrics.serving(False)

    def refuse_if_draining(self) -> None:
        """Raises NotReady once the server is stopping."""
        if self.draining.is_set():
            raise draining()

    def enter_call(self) -> None:
        """A call began."""
        self._calls += 1
        self.calls_taken += 1
        self.idle.clear()

    def leave_call(self) -> None:
        """A call ended, with or without an error."""
        self._calls -= 1
        if self._calls == 0:
            self.idle.set()

    def enter_stream(self) -> None:
        """A stream opens. Raises Overloaded where too many are open; else ``leave_stream`` must follow."""
        most = self.config.max_streams
        if self._streams >= most:
            raise Overloaded(
                f"{self._streams} streams are open; max_streams is {most}. Come back, or send more pairs per stream.",
                retry_after_seconds=STREAM_RETRY_SECONDS,
                reason="TOO_MANY_STREAMS",
                details={"streams": self._streams, "max_streams": most},
            )
        self._streams += 1

    def leave_stream(self) -> None:
        """A stream closed."""
        self._streams -= 1


def limits_in_force(config: ServerConfig, info: SubjectInfo) -> model_pb2.Limits:
    """The limits, with those that depend on the subject settled."""
    limits: dict[str, int] = {name: getattr(config, name) for name in model_pb2.Limits.DESCRIPTOR.fields_by_name}
    limits["max_sequence_tokens"] = min(config.max_sequence_tokens or info.context_tokens, info.context_tokens)
    limits["batch_tokens"] = config.batch_tokens or default_batch_tokens(info.dtype, info.device.partition(":")[0])
    return model_pb2.Limits(**limits)


def draining() -> NotReady:
    """The refusal of work while the server stops."""
    return NotReady("The server is stopping; go on with another one, or with this one once it is back.", reason="DRAINING")


def deadline_of(context: Context) -> float | None:
    """The call's deadline as a ``time.monotonic()`` instant, None where it has none."""
    left = seconds_left(context)
    return None if left is None else time.monotonic() + left


def seconds_left(context: Context) -> float | None:
    """The time until the call's deadline, None where it has none."""
    remaining: Any = context.time_remaining  # typed as always having one
    left: float | None = remaining()
    return left
