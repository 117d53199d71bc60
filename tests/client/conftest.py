"""A scripted server for each test, and clients of it that do not wait long."""

from collections.abc import Iterator

import pytest
from assay import Client, Flow, Pair, RetryPolicy, chat

from tests.client.support.proxy import CuttingProxy
from tests.client.support.server import ScriptedServer

QUICK = RetryPolicy(attempts=4, initial_seconds=0.02, max_seconds=0.1)
SMALL = Flow(pairs_per_message=4, pairs_in_flight=16, linger_seconds=0.02, answer_seconds=20)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    one = ScriptedServer()
    yield one
    one.stop()


@pytest.fixture
def proxy(server: ScriptedServer) -> Iterator[CuttingProxy]:
    one = CuttingProxy(server.port)
    yield one
    one.close()


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Client]:
    with Client(server.address, flow=SMALL, retry=QUICK) as one:
        yield one


def pairs(count: int) -> list[Pair]:
    return [Pair(chat(f"What is {i} plus {i}?"), f"It is {2 * i}.", f"I would say {i + 7}!", id=f"p{i}") for i in range(count)]
