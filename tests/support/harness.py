"""One running server and a channel to it."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from assay.v1 import model_pb2_grpc, scoring_pb2_grpc
from assay_server.rpc.server import AssayServer
from assay_server.telemetry.metrics import Metrics

from tests.support.fake_scorer import FakeScorer


@dataclasses.dataclass
class Harness:
    """One running server and a channel to it."""

    server: AssayServer
    scorer: FakeScorer
    channel: grpc.aio.Channel
    metrics: Metrics

    @property
    def scoring(self) -> Any:
        return scoring_pb2_grpc.ScoringServiceStub(self.channel)

    @property
    def models(self) -> Any:
        return model_pb2_grpc.ModelServiceStub(self.channel)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"


Start = Callable[..., Awaitable[Harness]]
