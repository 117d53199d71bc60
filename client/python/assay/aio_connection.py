# ruff: noqa: ASYNC109 - a call's deadline travels to the server with it, which asyncio.timeout cannot do
"""An asyncio connection: `assay.connection` with ``await``."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from assay import audit_calls, calls
from assay.errors import AssayError, ConnectionFailed, DeadlineExceeded, NotReady, from_rpc_error
from assay.flow import Flow, RetryPolicy
from assay.model import ModelInfo
from assay.operations import AsyncOperation
from assay.transport import DEFAULT_ADDRESS, MAX_RECEIVE_BYTES, Endpoint, Tls
from assay.v1 import (
    audit_service_pb2_grpc,
    concept_service_pb2_grpc,
    intervention_service_pb2_grpc,
    model_pb2_grpc,
    scoring_pb2_grpc,
)


class AsyncConnection:
    """A connection to one Assay server. Use it as an async context manager, or await `close`.

    Args:
        address: host:port.
        token: bearer token; travels only encrypted or over loopback unless `allow_insecure_token`.
        tls: how to encrypt; None sends plain text.
        timeouts: seconds for single calls where a call does not say otherwise.
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
        timeouts: calls.Timeouts | None = None,
        flow: Flow | None = None,
        retry: RetryPolicy | None = None,
        max_receive_bytes: int = MAX_RECEIVE_BYTES,
        allow_insecure_token: bool = False,
    ) -> None:
        endpoint = Endpoint(address, token, tls, max_receive_bytes, allow_insecure_token)
        self.address = address
        self._timeouts = timeouts or calls.Timeouts()
        self._flow = flow or Flow()
        self._retry = retry or RetryPolicy()
        self._metadata = endpoint.metadata()
        self._channel: Any = endpoint.aio_channel()
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
        return calls.model_info(await self._call(self._models.GetModel, calls.model_request(), timeout, self._timeouts.lookup))

    async def wait_until_ready(self, timeout: float = 120.0) -> ModelInfo:
        """What is loaded, as soon as it is loaded: for scripts that have just started the server.

        Raises:
            ConnectionFailed, NotReady, DeadlineExceeded: it was not there, or not ready, when the time was up.
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
        """Long work that was started before, by its name: an audit, a test, a concept, a plan, clusters, labels, an import."""
        return self._handle(await self._ask(self._operations.GetOperation, audit_calls.operation_request(name), timeout))

    async def operations(self, *, timeout: float | None = None) -> AsyncIterator[AsyncOperation[Any]]:
        """All long work that the server remembers, page by page."""
        pages = self._pages(self._operations.ListOperations, audit_calls.operations_request, "operations", timeout)
        async for message in pages:
            yield self._handle(message)

    def _handle(self, first: operations_pb2.Operation) -> AsyncOperation[Any]:
        async def look(name: str) -> operations_pb2.Operation:
            return await self._ask(self._operations.GetOperation, audit_calls.operation_request(name), None)

        async def stop(name: str) -> object:
            return await self._ask(self._operations.CancelOperation, audit_calls.cancel_request(name), None)

        return AsyncOperation(first, look, stop, self._retry)

    async def _pages(
        self, method: Callable[..., Any], request: Callable[[str], object], field: str, timeout: float | None
    ) -> AsyncIterator[Any]:
        """The messages of a repeated field over all pages."""
        token = ""
        while True:
            page = await self._ask(method, request(token), timeout)
            for message in getattr(page, field):
                yield message
            token = page.next_page_token
            if not token:
                return

    async def _ask(self, method: Callable[..., Any], request: object, timeout: float | None) -> Any:
        """A call that looks something up, or starts work that goes on without it."""
        return await self._call(method, request, timeout, self._timeouts.lookup)

    async def _call(self, method: Callable[..., Any], request: object, timeout: float | None, default: float) -> Any:
        try:
            return await method(request, timeout=default if timeout is None else timeout, metadata=self._metadata)
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise self._error(error) from None

    async def _stream(self, method: Callable[..., Any], request: object, timeout: float | None) -> AsyncIterator[Any]:
        """The answers of a call that streams them."""
        try:
            async for message in method(request, timeout=timeout, metadata=self._metadata):
                yield message
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> AssayError:
        if isinstance(error, grpc.RpcError):
            rpc: Any = error
            return from_rpc_error(rpc, address=self.address)
        return AssayError(f"this client is closed; open another ({error})", reason="CLOSED")
