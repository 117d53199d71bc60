"""Who may call: one bearer token, compared in constant time. Health checks need none, everything else does.

Invariant: a call without the right token never reaches a servicer, and its refusal says nothing of the token.
"""

from __future__ import annotations  # gRPC's generic types cannot be subscripted at run time

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from assay_server.rpc.errors import Unauthenticated, abort

_OPEN_PREFIX = "/grpc.health.v1.Health/"


class BearerAuth(grpc.aio.ServerInterceptor):
    """Refuses calls whose ``authorization`` is not ``Bearer <token>``.

    Args:
        token: what calls must carry, ASCII, not empty.
    """

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The call's own handler, or one that refuses it."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_OPEN_PREFIX) or self._holds(handler_call_details):
            return handler
        return _refusing(handler)

    def _holds(self, details: grpc.HandlerCallDetails) -> bool:
        given = [value for key, value in details.invocation_metadata or () if key == "authorization"]
        sent = given[0] if len(given) == 1 else ""
        return hmac.compare_digest(sent if isinstance(sent, bytes) else sent.encode(), self._expected)


def _refusing(handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await abort(
            context,
            Unauthenticated("This server asks for a token; send the metadata `authorization: Bearer <token>`."),
        )

    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    # Without a deserializer the refused request is never parsed.
    return make(refuse, None, handler.response_serializer)
