# ruff: noqa: ASYNC109 - a call's deadline travels to the server with it, which asyncio.timeout cannot do
"""An asyncio connection: the channel, single calls with their errors, pages, and streams of answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

from google.longrunning import operations_pb2, operations_pb2_grpc

from assay.aio.operations import AsyncOperation
from assay.errors import ConnectionFailed, DeadlineExceeded, NotReady
from assay.files import replacing
from assay.flow import Flow, RetryPolicy
from assay.model import DEFAULT_MODEL, ModelInfo
from assay.names import PAGE_SIZE, resource
from assay.transport import CALL_ERRORS, DEFAULT_ADDRESS, MAX_RECEIVE_BYTES, Endpoint, Timeouts, Tls, call_error
from assay.v1 import (
    audit_service_pb2_grpc,
    concept_service_pb2_grpc,
    intervention_service_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    scoring_pb2_grpc,
)


class AsyncConnection:
    """A connection to one Assay server. Use it as an async context manager, or await `close`.

    Args:
        address: host:port.
        token: bearer token; travels only encrypted or over loopback unless `allow_insecure_token`.
        tls: how to encrypt; None sends plain text.
        timeouts: default timeouts of single calls.
        flow: how much `score` and `upload_pairs` send at once.
        retry: when a stream, or waiting for an operation, gives up on a lost connection.
        max_receive_bytes: the largest answer that this client takes.
        allow_insecure_token: send the token unencrypted to another machine.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        timeouts: Timeouts | None = None,
        flow: Flow | None = None,
        retry: RetryPolicy | None = None,
        max_receive_bytes: int = MAX_RECEIVE_BYTES,
        allow_insecure_token: bool = False,
    ) -> None:
        endpoint = Endpoint(address, token, tls, max_receive_bytes, allow_insecure_token)
        self.address = address
        self._timeouts = timeouts or Timeouts()
        self._flow = flow or Flow()
        self._retry = retry or RetryPolicy()
        self._metadata = endpoint.metadata()
        self._channel = endpoint.aio_channel()
        self._models: Any = model_pb2_grpc.ModelServiceStub(self._channel)
        self._scoring: Any = scoring_pb2_grpc.ScoringServiceStub(self._channel)
        self._audits: Any = audit_service_pb2_grpc.AuditServiceStub(self._channel)
        self._concepts: Any = concept_service_pb2_grpc.ConceptServiceStub(self._channel)
        self._plans: Any = intervention_service_pb2_grpc.InterventionServiceStub(self._channel)
        self._operations: Any = operations_pb2_grpc.OperationsStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls still under way end as cancelled."""
        await self._channel.close()

    async def model(self, *, timeout: float | None = None) -> ModelInfo:
        """What the server has loaded, and what it accepts."""
        answer = await self._ask(self._models.GetModel, model_pb2.GetModelRequest(name=DEFAULT_MODEL), timeout)
        return ModelInfo.from_proto(answer.model)

    async def wait_until_ready(self, timeout: float = 120.0) -> ModelInfo:
        """What is loaded, as soon as it is loaded: for scripts that have just started the server.

        Raises:
            ConnectionFailed, NotReady, DeadlineExceeded: the server was not there, or not ready, when the time was up.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                return await self.model(timeout=max(0.1, min(5.0, end - time.monotonic())))
            except (ConnectionFailed, DeadlineExceeded, NotReady):
                if time.monotonic() >= end:
                    raise
                await asyncio.sleep(0.2)

    async def operation(self, name: str, *, timeout: float | None = None) -> AsyncOperation[Any]:
        """Long work started before, by its name: an audit, a test, a concept, a plan, clusters, labels, an import."""
        return self._handle(await self._look(name, timeout))

    async def operations(self, *, timeout: float | None = None) -> AsyncIterator[AsyncOperation[Any]]:
        """All long work that the server remembers, page by page."""
        request = operations_pb2.ListOperationsRequest(name="operations", page_size=PAGE_SIZE)
        async for message in self._pages(self._operations.ListOperations, request, "operations", timeout):
            yield self._handle(message)

    async def _look(self, name: str, timeout: float | None = None) -> operations_pb2.Operation:
        request = operations_pb2.GetOperationRequest(name=resource(name, "operations"))
        return await self._ask(self._operations.GetOperation, request, timeout)

    async def _stop(self, name: str) -> None:
        request = operations_pb2.CancelOperationRequest(name=resource(name, "operations"))
        await self._ask(self._operations.CancelOperation, request, None)

    def _handle(self, first: operations_pb2.Operation) -> AsyncOperation[Any]:
        return AsyncOperation(first, self._look, self._stop, self._retry)

    async def _pages(self, method: Callable[..., Any], request: Any, field: str, timeout: float | None) -> AsyncIterator[Any]:
        """The messages of a repeated field over all pages."""
        while True:
            page = await self._ask(method, request, timeout)
            for message in getattr(page, field):
                yield message
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def _ask(self, method: Callable[..., Any], request: object, timeout: float | None) -> Any:
        """A call that looks something up, or starts long work."""
        return await self._call(method, request, timeout, self._timeouts.lookup)

    async def _call(self, method: Callable[..., Any], request: object, timeout: float | None, default: float) -> Any:
        try:
            return await method(request, timeout=default if timeout is None else timeout, metadata=self._metadata)
        except CALL_ERRORS as error:
            raise call_error(error, self.address) from None

    async def _stream(self, method: Callable[..., Any], request: object, timeout: float | None) -> AsyncIterator[Any]:
        """The answers of a call that streams them."""
        try:
            async for message in method(request, timeout=timeout, metadata=self._metadata):
                yield message
        except CALL_ERRORS as error:
            raise call_error(error, self.address) from None

    async def _download(self, method: Callable[..., Any], request: object, path: Path, timeout: float | None) -> Path:
        """Writes the data that a call streams to a file, whole or not at all."""
        with replacing(path) as temporary, temporary.open("wb") as stream:
            async for chunk in self._stream(method, request, timeout):
                stream.write(chunk.data)
        return path
