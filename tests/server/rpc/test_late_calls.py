"""A call that has reached a server when it stops is answered or told to come back; gRPC alone would cancel it."""

import asyncio
import time

import grpc
import pytest
from assay.v1 import model_pb2, model_pb2_grpc

from tests.support.harness import Start
from tests.support.wire import rich


@pytest.mark.parametrize("turns", [0, 2])
async def test_calls_that_reached_the_server_when_it_drains_are_told_to_come_back(start: Start, turns: int) -> None:
    harness = await start()
    async with grpc.aio.insecure_channel(harness.address) as channel:
        stub = model_pb2_grpc.ModelServiceStub(channel)
        await stub.GetModel(model_pb2.GetModelRequest())
        calls = [stub.GetModel(model_pb2.GetModelRequest()) for _ in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 - what a loaded machine does: the calls arrive, and nobody takes them
        assert await harness.server.drain()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    refused = [end for end in ends if isinstance(end, grpc.aio.AioRpcError)]
    assert {rich(one).info.reason for one in refused} <= {"DRAINING"}
