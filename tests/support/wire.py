"""Requests to send and statuses to read, for tests that talk to a server."""

import asyncio
import dataclasses
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from assay.v1 import pair_pb2, scoring_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from tests.support.waiting import PATIENCE


def pair(number: int = 0, **changes: Any) -> pair_pb2.Pair:
    """A good pair; ``changes`` replace its fields."""
    fields: dict[str, Any] = {
        "id": f"pair-{number}",
        "conversation": {"messages": [{"role": "user", "content": f"question {number}"}]},
        "chosen": f"a good answer, number {number}",
        "rejected": f"another answer, number {number}",
    }
    if "text" in changes:
        del fields["conversation"]
    return pair_pb2.Pair(**{**fields, **changes})


def turns(*roles: str) -> pair_pb2.Conversation:
    """A conversation of these roles."""
    return pair_pb2.Conversation(messages=[pair_pb2.Message(role=role, content=f"said by {role}") for role in roles])


def head(**options: Any) -> scoring_pb2.StreamPairsRequest:
    """The first message of a stream."""
    return scoring_pb2.StreamPairsRequest(options={"score": options})


def batch(sequence: int, *pairs: pair_pb2.Pair) -> scoring_pb2.StreamPairsRequest:
    """A later message of a stream; one good pair unless told otherwise."""
    return scoring_pb2.StreamPairsRequest(batch={"sequence": sequence, "pairs": pairs or [pair(sequence)]})


@dataclasses.dataclass
class Rich:
    """A decoded ``google.rpc.Status``."""

    code: grpc.StatusCode
    message: str
    info: error_details_pb2.ErrorInfo
    violations: list[str]
    retry_seconds: float | None
    metadata: dict[str, Any]


def decode(status: status_pb2.Status, metadata: dict[str, Any] | None = None) -> Rich:
    """The parts of a status, which holds exactly one ErrorInfo of our domain."""
    infos, violations, retry = [], [], None
    for detail in status.details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if detail.Is(kind.DESCRIPTOR):
                message: Message = kind()
                detail.Unpack(message)
                if isinstance(message, error_details_pb2.ErrorInfo):
                    infos.append(message)
                elif isinstance(message, error_details_pb2.BadRequest):
                    violations += [violation.field for violation in message.field_violations]
                else:
                    retry = message.retry_delay.seconds + message.retry_delay.nanos / 1e9
                break
        else:
            raise AssertionError(f"unexpected detail {detail.type_url}")
    assert len(infos) == 1, "exactly one ErrorInfo"
    assert infos[0].domain == "assay"
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    return Rich(code, status.message, infos[0], violations, retry, metadata or {})


def rich(error: Any) -> Rich:
    """The rich status of a failed call; its code and message agree with gRPC's own."""
    metadata = dict(error.trailing_metadata() or ())
    assert "grpc-status-details-bin" in metadata, (error.code(), error.details())
    decoded = decode(status_pb2.Status.FromString(metadata["grpc-status-details-bin"]), metadata)
    assert decoded.code == error.code()
    assert decoded.message == error.details()
    return decoded


async def refused(call: Awaitable[Any]) -> Rich:
    """The rich status that the call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rich(caught.value)


async def refused_stream(
    address: str, *messages: Any, method: str = "/assay.v1.ScoringService/StreamPairs", token: str | None = None
) -> tuple[Rich, list[int]]:
    """The rich status that a stream of these messages ends with, and the sequences that were answered before.

    Through the synchronous client: the asynchronous one loses the server's status where a write is under way when it arrives.
    """
    answered: list[int] = []
    metadata = () if token is None else (("authorization", token),)

    def run() -> Rich:
        with grpc.insecure_channel(address) as channel:
            call: Any = channel.stream_stream(method, lambda m: m.SerializeToString(), scoring_pb2.StreamPairsResponse.FromString)
            try:
                for response in call(iter(messages), metadata=metadata, timeout=PATIENCE):
                    answered.append(response.sequence)  # noqa: PERF401 - a comprehension would lose them at the error
            except grpc.RpcError as error:
                return rich(error)
        raise AssertionError("the stream ended well")

    return await asyncio.to_thread(run), answered


async def drained(stream: Any) -> list[scoring_pb2.StreamPairsResponse]:
    """Every response until the stream's end; raises as the stream does."""
    return [response async for response in stream]
