"""A real server on loopback around a scripted scorer, and what tests need to talk to it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from assay_server.config import ServerConfig
from assay_server.labelling.labels import FeatureLabel, Labels
from assay_server.rpc.server import AssayServer
from assay_server.telemetry.metrics import Metrics

from tests.support.fake_library import FakeLibrary
from tests.support.fake_scorer import D_SAE, FakeScorer
from tests.support.harness import Harness, Start


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts servers with the knobs that a test names; stops them after it."""
    async with AsyncExitStack() as stack:

        async def begin(
            *, scorer: FakeScorer | None = None, library: FakeLibrary | None = None, ready: bool = True, **knobs: Any
        ) -> Harness:
            config = ServerConfig(**{"port": 0, "drain_seconds": 2.0, **knobs})
            metrics = Metrics()
            server = AssayServer(config, metrics)
            await server.start()
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.max_receive_message_length", -1)])
            scorer, library = scorer or FakeScorer(), library or FakeLibrary()
            if ready:
                labels = Labels(D_SAE, {7: FeatureLabel(7, label="flattery", detection_score=0.75)})
                await server.open(scorer, labels, library)  # type: ignore[arg-type]

            async def stop() -> None:
                scorer.gate.set()
                library.gate.set()
                await channel.close()
                await server.drain()
                await library.aclose()

            stack.push_async_callback(stop)
            return Harness(server, scorer, library, channel, metrics)

        yield begin


@pytest.fixture
async def harness(start: Start) -> Harness:
    """A server with every default."""
    return await start()
