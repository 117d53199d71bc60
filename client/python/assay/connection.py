"""A blocking connection: the channel, single calls with their errors, pages, and streams of answers."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc

from assay import audit_calls, calls
from assay.errors import AssayError, ConnectionFailed, DeadlineExceeded, NotReady, from_rpc_error
from assay.flow import Flow, RetryPolicy
from assay.model import ModelInfo
from assay.operations import Operation
from assay.transport import DEFAULT_ADDRESS, MAX_RECEIVE_BYTES, Endpoint, Tls
from assay.v1 import (
    audit_service_pb2_grpc,
    concept_service_pb2_grpc,
    intervention_service_pb2_grpc,
    model_pb2_grpc,
    scoring_pb2_grpc,
)

Reply = TypeVar("Reply")


class Connection:
    """A connection to one Assay server. Use it as a context manager, or call `close`.

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
        self._channel = endpoint.channel()
        self._models: Any = model_pb2_grpc.ModelServiceStub(self._channel)
        self._scoring: Any = scoring_pb2_grpc.ScoringServiceStub(self._channel)
        self._audits: Any = audit_service_pb2_grpc.AuditServiceStub(self._channel)
        self._concepts: Any = concept_service_pb2_grpc.ConceptServiceStub(self._channel)
        self._plans: Any = intervention_service_pb2_grpc.InterventionServiceStub(self._channel)
        self._operations: Any = operations_pb2_grpc.OperationsStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls still under way end as cancelled."""
        self._channel.close()

    def model(self, *, timeout: float | None = None) -> ModelInfo:
        """What the server has loaded, and what it accepts."""
        return calls.model_info(self._call(self._models.GetModel, calls.model_request(), timeout, self._timeouts.lookup))

    def wait_until_ready(self, timeout: float = 120.0) -> ModelInfo:
        """What is loaded, as soon as it is loaded: for scripts that have just started the server.

        Raises:
            ConnectionFailed, NotReady, DeadlineExceeded: it was not there, or not ready, when the time was up.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                return self.model(timeout=max(0.1, min(5.0, end - time.monotonic())))
            except (ConnectionFailed, DeadlineExceeded, NotReady):
                if time.monotonic() >= end:
                    raise
                time.sleep(0.2)

    def operation(self, name: str, *, timeout: float | None = None) -> Operation[Any]:
        """Long work that was started before, by its name: an audit, a test, a concept, a plan, clusters, labels, an import."""
        return self._handle(self._ask(self._operations.GetOperation, audit_calls.operation_request(name), timeout))

    def operations(self, *, timeout: float | None = None) -> Iterator[Operation[Any]]:
        """All long work that the server remembers, page by page."""
        for message in self._pages(self._operations.ListOperations, audit_calls.operations_request, "operations", timeout):
            yield self._handle(message)

    def _handle(self, first: operations_pb2.Operation) -> Operation[Any]:
        def look(name: str) -> operations_pb2.Operation:
            return self._ask(self._operations.GetOperation, audit_calls.operation_request(name), None)

        def stop(name: str) -> object:
            return self._ask(self._operations.CancelOperation, audit_calls.cancel_request(name), None)

        return Operation(first, look, stop, self._retry)

    def _pages(
        self, method: Callable[..., Any], request: Callable[[str], object], field: str, timeout: float | None
    ) -> Iterator[Any]:
        """The messages of a repeated field over all pages."""
        token = ""
        while True:
            page = self._ask(method, request(token), timeout)
            yield from getattr(page, field)
            token = page.next_page_token
            if not token:
                return

    def _ask(self, method: Callable[..., Reply], request: object, timeout: float | None) -> Reply:
        """A call that looks something up, or starts work that goes on without it."""
        return self._call(method, request, timeout, self._timeouts.lookup)

    def _call(self, method: Callable[..., Reply], request: object, timeout: float | None, default: float) -> Reply:
        with_timeout = default if timeout is None else timeout
        return self._guarded(lambda: method(request, timeout=with_timeout, metadata=self._metadata))

    def _stream(self, method: Callable[..., Any], request: object, timeout: float | None) -> Iterator[Any]:
        """The answers of a call that streams them."""
        call = self._guarded(lambda: iter(method(request, timeout=timeout, metadata=self._metadata)))
        while (message := self._guarded(lambda: next(call, None))) is not None:
            yield message

    def _guarded(self, act: Callable[[], Reply]) -> Reply:
        try:
            return act()
        except grpc.RpcError as failure:
            rpc: Any = failure
            raise self._error(rpc) from None
        except ValueError as error:
            if "closed" in str(error):
                raise AssayError("this client is closed; open another", reason="CLOSED") from None
            raise

    def _error(self, rpc: Any) -> AssayError:
        return from_rpc_error(rpc, address=self.address)
