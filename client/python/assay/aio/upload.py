"""The asyncio driver of an upload: as `assay.upload`, with ``await`` in place of a thread.

A write that meets the call's end hides the server's status from grpc.aio, and with it the reason of a refusal. It then looks
like a lost connection; the next one sends one batch and gives the server time to refuse it before it sends another.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from assay.aio.stream import each
from assay.audits import Dataset
from assay.errors import AssayError, ServerFault, from_rpc_error, is_transport_fault
from assay.flow import Flow, Recovery, RetryPolicy
from assay.model import ModelInfo
from assay.pairs import Pair
from assay.transport import Metadata
from assay.upload import (
    ANSWER_SECONDS,
    Parcels,
    Source,
    Told,
    complete_already,
    end,
    made_of,
    other_pairs,
    pairs_of,
    unanswered,
)
from assay.v1 import audit_service_pb2 as service

_TRUST_SECONDS = 0.2


class AsyncUpload:
    """One run of `AsyncClient.upload_pairs`; arguments as of `assay.upload.Upload`, with awaitable questions."""

    def __init__(
        self,
        method: Callable[..., Any],
        where: Callable[[], Awaitable[service.GetUploadResponse]],
        get_model: Callable[[], Awaitable[ModelInfo]],
        head: service.UploadPairsRequest,
        *,
        metadata: Metadata,
        flow: Flow,
        retry: RetryPolicy,
        address: str,
    ) -> None:
        self._method = method
        self._where = where
        self._get_model = get_model
        self._metadata = metadata
        self._head = head
        self._flow = flow
        self._address = address
        self._recovery = Recovery(retry)
        self._stored = 0

    async def run(self, source: Source | AsyncIterable[Pair], told: Told | None) -> Dataset:
        """Sends what the server does not have yet; returns the dataset."""
        pairs = source if isinstance(source, AsyncIterable) else pairs_of(source)
        state = await self._stands()
        if state.HasField("dataset"):
            return complete_already(state, pairs)
        parcels = Parcels((await self._patiently(self._get_model)).limits, self._flow, state)
        rest = await _skip(each(pairs), state.pairs, parcels)
        while True:
            call = self._method(metadata=self._metadata)
            try:
                return made_of(await self._send(call, rest, parcels, told), parcels.pairs)
            except grpc.RpcError as failure:
                rpc: Any = failure
                error = from_rpc_error(rpc, address=self._address)
                await asyncio.sleep(self._recovery.failed(error, transport=is_transport_fault(rpc)))
            finally:
                call.cancel()
            parcels.stored(await self._stands(), again=True)

    async def _send(self, call: Any, source: AsyncIterator[Pair], parcels: Parcels, told: Told | None) -> Any:
        """Sends all there is over one connection; returns the answer to it."""
        wary = self._recovery.wary
        try:
            await call.write(self._head)
            async for message in _outgoing(source, parcels):
                await call.write(message)
                if wary:
                    wary = False
                    await _trust(call)
                if parcels.wants_to_know:
                    parcels.stored(await self._stands())
                if told is not None:
                    told(parcels.pairs)
            await call.write(end(parcels.pairs))
        except asyncio.InvalidStateError:  # it is over: its status says why
            await call
            raise ServerFault("the server ended the upload before its end was sent", reason="PROTOCOL") from None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                with contextlib.suppress(asyncio.InvalidStateError):  # it is over already: what is awaited says how
                    await call.done_writing()
                return await call
        except TimeoutError:
            raise unanswered() from None

    async def _stands(self) -> service.GetUploadResponse:
        state = await self._patiently(self._where)
        if state.next_sequence > self._stored:
            self._stored = state.next_sequence
            self._recovery.progressed()
        return state

    async def _patiently(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await ask()
            except AssayError as error:
                await asyncio.sleep(self._recovery.failed(error, transport=False))


async def _trust(call: Any) -> None:
    """Gives the server time to refuse; raises how the call ended where it has."""
    over = asyncio.Event()
    call.add_done_callback(lambda _: over.set())
    try:
        async with asyncio.timeout(_TRUST_SECONDS):
            await over.wait()
    except TimeoutError:
        return
    raise asyncio.InvalidStateError


async def _skip(source: AsyncIterator[Pair], count: int, parcels: Parcels) -> AsyncIterator[Pair]:
    for passed in range(count):
        if await anext(source, None) is None:
            raise other_pairs(passed, count)
    parcels.pairs = count
    return source


async def _outgoing(source: AsyncIterator[Pair], parcels: Parcels) -> AsyncIterator[service.UploadPairsRequest]:
    while True:
        while (message := parcels.next_unsent()) is not None:
            yield message
        pair = await anext(source, None)
        if pair is None:
            parcels.flush()
            if (message := parcels.next_unsent()) is not None:
                yield message
            return
        parcels.add(pair)
