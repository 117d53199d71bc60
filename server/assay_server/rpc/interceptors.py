"""The interceptor of every call of ours: parsing that cannot break the call, counting, logs, and errors as rich statuses.

Invariants:
- Whatever a call raises, the client gets a status of the error family; an unexpected exception gives INTERNAL with an
  incident number, and the log says where it came from without its words.
- ``CancelledError`` passes through: swallowing it leaks the call.
- Each call is counted once, with the status that left.
- Bytes that are no message, or too many, are refused by a status that says so, instead of gRPC's bare UNKNOWN.
"""

from __future__ import annotations  # gRPC's generic types cannot be subscripted at run time

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from inspect import isasyncgen
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from assay_server.errors import AssayError, InvalidItem
from assay_server.rpc.errors import MessageTooLarge, abort, code_of, incident
from assay_server.rpc.state import ServerState
from assay_server.telemetry.logs import event, get_logger, trace_of

_log = get_logger("rpc")
_OURS = ("/assay.v1.", "/google.longrunning.Operations/")

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a message that could not be read; ``error`` says why."""

    error: AssayError


def readable(received: M | Unreadable) -> M:
    """The message that was received. Raises the error of one that could not be read."""
    if isinstance(received, Unreadable):
        raise received.error
    return received


class Observe(grpc.aio.ServerInterceptor):
    """Wraps the handlers of our services and of long-running operations; health and reflection pass untouched.

    A handler that answers with a stream may write to its context or be an asynchronous generator.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The call's own handler, wrapped."""
        handler: Any = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(_OURS):
            return handler
        method = handler_call_details.method.rsplit("/", 1)[-1]
        read = handler.request_deserializer and _reader(handler.request_deserializer, self._state.config.max_message_bytes)
        make, behaviour = _shape(handler)
        return make(self._around(method, behaviour), read, handler.response_serializer)

    def _around(self, method: str, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            began, code, incident_number = time.perf_counter(), "OK", ""
            self._state.enter_call()
            self._state.metrics.in_flight(method, +1)
            try:
                self._state.refuse_if_draining()
                return await _answer(behaviour(readable(request), context), context)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except grpc.aio.AbortError:
                code = _name(context.code())
                raise
            except AssayError as error:
                code = code_of(error).name
                await abort(context, error)
            except Exception as error:
                incident_number, told = incident()
                code = code_of(told).name
                event(_log, logging.ERROR, "incident", incident=incident_number, method=method, trace=trace_of(error))
                await abort(context, told)
            finally:
                seconds = time.perf_counter() - began
                self._state.leave_call()
                self._state.metrics.in_flight(method, -1)
                self._state.metrics.request(method, code, seconds)
                event(_log, logging.DEBUG, "call", method=method, code=code, seconds=seconds)

        return call


def _shape(handler: Any) -> tuple[Callable[..., grpc.RpcMethodHandler[Any, Any]], Callable[[Any, Any], Any]]:
    """gRPC's function that makes a handler of this shape, and the handler's behaviour."""
    made: dict[tuple[bool, bool], tuple[Any, Any]] = {
        (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    }
    return made[handler.request_streaming, handler.response_streaming]


async def _answer(behaviour: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
    """What the behaviour returns; a generator's messages are written, and it is closed whatever ends the call."""
    if not isasyncgen(behaviour):
        return await behaviour
    async with aclosing(behaviour) as messages:
        async for message in messages:
            await context.write(message)
    return None


def _reader(deserialize: Callable[[bytes], Message], most: int) -> Callable[[bytes], Message | Unreadable]:
    def read(data: bytes) -> Message | Unreadable:
        if len(data) > most:
            return Unreadable(
                MessageTooLarge(
                    f"The message takes {len(data)} bytes; max_message_bytes is {most}. Send fewer pairs per message.",
                    details={"message_bytes": len(data), "max_message_bytes": most},
                )
            )
        try:
            return deserialize(data)
        except DecodeError as error:
            bad_text = "UTF-8" in str(error)
            reason, what = (
                ("INVALID_UTF8", "A text in it is not UTF-8") if bad_text else ("MALFORMED_MESSAGE", "It is no protobuf")
            )
            return Unreadable(
                InvalidItem(
                    f"The message of {len(data)} bytes cannot be read: {what}. Send what the contract in assay.v1 describes.",
                    reason=reason,
                    details={"message_bytes": len(data)},
                )
            )

    return read


def _name(code: Any) -> str:
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), "UNKNOWN")
