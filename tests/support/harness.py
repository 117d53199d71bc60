"""One running server and a channel to it."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from assay.v1 import audit_service_pb2_grpc, model_pb2_grpc, scoring_pb2_grpc
from assay_server.rpc.server import AssayServer
from assay_server.telemetry.metrics import Metrics
from google.longrunning import operations_pb2_grpc

from tests.support.fake_library import FakeLibrary
from tests.support.fake_scorer import FakeScorer
from tests.support.waiting import until


@dataclasses.dataclass
class Harness:
    """One running server and a channel to it."""

    server: AssayServer
    scorer: FakeScorer
    library: FakeLibrary
    channel: grpc.aio.Channel
    metrics: Metrics

    @property
    def scoring(self) -> Any:
        return scoring_pb2_grpc.ScoringServiceStub(self.channel)

    @property
    def models(self) -> Any:
        return model_pb2_grpc.ModelServiceStub(self.channel)

    @property
    def audits(self) -> Any:
        return audit_service_pb2_grpc.AuditServiceStub(self.channel)

    @property
    def operations(self) -> Any:
        return operations_pb2_grpc.OperationsStub(self.channel)

    def scoring_on(self, channel: grpc.aio.Channel) -> Any:
        return scoring_pb2_grpc.ScoringServiceStub(channel)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"


Start = Callable[..., Awaitable[Harness]]


async def settled(harness: Harness) -> None:
    """Waits until no call is open and nothing runs in the scorer."""
    await until(lambda: harness.scorer.running == 0 and harness.server.state.idle.is_set())
