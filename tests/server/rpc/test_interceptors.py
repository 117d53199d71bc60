"""Observe around calls of all four shapes, over a real channel: counted once, rich errors, the drain, cancellation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from assay.v1 import model_pb2
from assay_server.config import ServerConfig
from assay_server.errors import FailedPrecondition
from assay_server.rpc.interceptors import Observe
from assay_server.rpc.state import ServerState
from assay_server.rpc.streams import receive
from assay_server.telemetry.metrics import Metrics

from tests.support.waiting import until
from tests.support.wire import rich

Request = model_pb2.GetModelRequest
Response = model_pb2.GetModelResponse
NAMES = {(False, False): "UU", (False, True): "US", (True, False): "SU", (True, True): "SS"}
SHAPES = pytest.mark.parametrize(
    "shape", ["/assay.v1.Probe/UU", "/assay.v1.Probe/US", "/assay.v1.Probe/SU", "/assay.v1.Probe/SS", "/assay.v1.Probe/Gen"]
)


class Probe:
    """A server whose every method does what the test says, and what it left behind."""

    def __init__(self) -> None:
        self.state = ServerState(ServerConfig(port=0, max_message_bytes=2048), Metrics())
        self.act: Callable[[], Any] = lambda: None
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = 0
        self.cancelled = 0
        self.channel: grpc.aio.Channel

    async def behave(self, requests: Any, context: Any, streams_in: bool) -> None:
        self.entered += 1
        try:
            if streams_in:
                while await receive(context, self.state) is not None:
                    pass
            await self.gate.wait()
            self.act()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def handlers(self) -> dict[str, Any]:
        def shape(streams_in: bool, streams_out: bool) -> Any:
            async def run(request: Any, context: Any) -> Any:
                await self.behave(request, context, streams_in)
                if not streams_out:
                    return Response()
                await context.write(Response())
                await context.write(Response())
                return None

            make: Any = {
                "UU": grpc.unary_unary_rpc_method_handler,
                "US": grpc.unary_stream_rpc_method_handler,
                "SU": grpc.stream_unary_rpc_method_handler,
                "SS": grpc.stream_stream_rpc_method_handler,
            }[NAMES[streams_in, streams_out]]
            return make(run, Request.FromString, lambda m: m.SerializeToString())

        async def generate(request: Any, context: Any) -> AsyncIterator[Response]:
            yield Response()
            await self.behave(request, context, False)
            yield Response()

        handlers = {name: shape(*flags) for flags, name in NAMES.items()}
        handlers["Gen"] = grpc.unary_stream_rpc_method_handler(generate, Request.FromString, lambda m: m.SerializeToString())
        return handlers

    async def call(self, method: str, data: bytes = b"") -> int:
        """Calls with one message of these bytes; how many messages came back."""
        name = method.rsplit("/", 1)[-1]
        if name == "UU":
            await self.channel.unary_unary(method)(data)
            return 1
        if name == "SU":
            await self.channel.stream_unary(method)(iter([data]))
            return 1
        make = self.channel.stream_stream if name == "SS" else self.channel.unary_stream
        call: Any = make(method)(iter([data]) if name == "SS" else data)
        return len([message async for message in call])

    def counted(self, name: str) -> dict[str, float]:
        return {
            sample.labels["code"]: sample.value
            for metric in self.state.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "assay_requests_total" and sample.labels["method"] == name
        }


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    async with AsyncExitStack() as stack:
        probe = Probe()
        server = grpc.aio.server(interceptors=[Observe(probe.state)])
        for service in ("assay.v1.Probe", "google.longrunning.Operations", "other.Service"):
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, probe.handlers()),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        probe.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        stack.push_async_callback(probe.channel.close)
        yield probe


async def status_of(probe: Probe, method: str, data: bytes = b"") -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await probe.call(method, data)
    return rich(caught.value)


@SHAPES
async def test_a_call_that_ends_well_is_counted_once(probe: Probe, shape: str) -> None:
    assert await probe.call(shape) == (1 if shape.endswith("U") else 2)
    await until(probe.state.idle.is_set)
    assert probe.counted(shape.rsplit("/", 1)[-1]) == {"OK": 1.0}


@SHAPES
async def test_an_error_of_the_family_arrives_rich_and_is_counted_once(probe: Probe, shape: str) -> None:
    def act() -> None:
        raise FailedPrecondition("Not yet.", reason="NOT_DONE")

    probe.act = act
    error = await status_of(probe, shape)
    assert (error.code, error.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_DONE")
    await until(probe.state.idle.is_set)
    assert probe.counted(shape.rsplit("/", 1)[-1]) == {"FAILED_PRECONDITION": 1.0}


@SHAPES
async def test_an_unexpected_error_arrives_as_an_incident_without_its_words(probe: Probe, shape: str) -> None:
    probe.act = lambda: {}["secret words"]
    error = await status_of(probe, shape)
    assert (error.code, error.info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert error.info.metadata["incident"]
    assert "secret" not in error.message
    await until(probe.state.idle.is_set)
    assert probe.counted(shape.rsplit("/", 1)[-1]) == {"INTERNAL": 1.0}


@SHAPES
@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\xff\xff", "MALFORMED_MESSAGE"), (b"\x0a\x02\xff\xfe", "INVALID_UTF8"), (b"\x0a" * 3000, "MESSAGE_TOO_LARGE")],
)
async def test_bytes_that_are_no_message_are_refused_with_a_reason(probe: Probe, shape: str, data: bytes, reason: str) -> None:
    error = await status_of(probe, shape, data)
    assert (error.code, error.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


@SHAPES
async def test_a_cancelled_call_ends_at_once_and_is_counted_as_cancelled(probe: Probe, shape: str) -> None:
    probe.gate.clear()
    calling = asyncio.ensure_future(probe.call(shape))
    await until(lambda: probe.entered == 1)
    calling.cancel()
    await until(lambda: probe.cancelled == 1 and probe.state.idle.is_set())
    assert probe.counted(shape.rsplit("/", 1)[-1]) == {"CANCELLED": 1.0}


@SHAPES
async def test_a_call_after_the_drain_began_is_told_to_go_elsewhere(probe: Probe, shape: str) -> None:
    probe.state.drain()
    error = await status_of(probe, shape)
    assert (error.code, error.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert error.retry_seconds is not None
    assert probe.entered == 0


@pytest.mark.parametrize("name", ["SU", "SS"])
async def test_a_silent_client_does_not_hold_up_the_drain(probe: Probe, name: str) -> None:
    make: Any = probe.channel.stream_unary if name == "SU" else probe.channel.stream_stream
    call = make(f"/assay.v1.Probe/{name}")()
    await call.write(b"")
    await until(lambda: probe.entered == 1)
    probe.state.drain()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call if name == "SU" else call.read())
    assert rich(caught.value).info.reason == "DRAINING"


async def test_long_running_operations_are_observed_and_other_services_are_not(probe: Probe) -> None:
    await probe.call("/google.longrunning.Operations/UU")
    await probe.call("/other.Service/UU")
    await until(probe.state.idle.is_set)
    assert probe.counted("UU") == {"OK": 1.0}
    probe.act = lambda: {}["secret words"]
    assert (await status_of(probe, "/google.longrunning.Operations/UU")).info.reason == "INTERNAL"
    with pytest.raises(grpc.aio.AioRpcError) as bare:
        await probe.call("/other.Service/UU")
    assert bare.value.code() is grpc.StatusCode.UNKNOWN
