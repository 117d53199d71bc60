"""The next message of a client's stream, for every method that takes one.

Invariant: a client that is silent does not hold up a server that stops.
"""

from __future__ import annotations  # gRPC's generic types cannot be subscripted at run time

import asyncio
from typing import Any

import grpc

from assay_server.rpc.interceptors import readable
from assay_server.rpc.state import ServerState, draining

_EOF: Any = vars(grpc.aio)["EOF"]


async def receive(context: grpc.aio.ServicerContext[Any, Any], state: ServerState) -> Any | None:
    """The next message, None after the client's half-close.

    Raises:
        NotReady: the server stops, even if the client is silent.
        InvalidItem: what came is no message.
        MessageTooLarge: it is too large.
    """
    state.refuse_if_draining()
    reading = asyncio.ensure_future(_read(context))
    stopping = asyncio.ensure_future(state.draining.wait())
    try:
        await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise draining()
        received = reading.result()
        return None if received is None else readable(received)
    finally:
        stopping.cancel()
        reading.cancel()


async def _read(context: grpc.aio.ServicerContext[Any, Any]) -> Any | None:
    received: Any = await context.read()
    return None if received is _EOF else received
