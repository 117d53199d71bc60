"""google.longrunning.Operations: progress, results, waiting and cancelling.

Invariants:
- An operation that is done carries an error or the resource that it made, in its present state; where the resource was deleted
  since, an error says so.
- A wait ends with its own timeout, a moment before the call's deadline, or when the server stops, whichever is first.
"""

import asyncio
from collections.abc import Awaitable, Callable

from assay.v1 import operations_pb2 as assay_pb
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from assay_server.errors import AssayError, EngineFailure, InvalidItem
from assay_server.jobs.operations.types import OperationInfo
from assay_server.rpc.errors import to_status
from assay_server.rpc.messages import instant
from assay_server.rpc.names import operation_name
from assay_server.rpc.paging import Place, page_after
from assay_server.rpc.state import Context, ServerState, draining, seconds_left

MAX_WAIT_SECONDS = 600.0  # per call; the caller asks again after it
MARGIN_SECONDS = 0.5  # before the call's deadline, for the answer's way back

Resolve = Callable[[str], Awaitable[Message]]


class OperationMessages:
    """From ``OperationInfo`` to ``google.longrunning.Operation``; each service registers how its resources are looked up."""

    def __init__(self) -> None:
        self._resolvers: list[tuple[str, Resolve, Resolve]] = []

    def register(self, prefix: str, resolve: Resolve, listed: Resolve | None = None) -> None:
        """Registers how resources whose name has this prefix are looked up; the longest matching prefix is used.

        Args:
            prefix: for example "audits/".
            resolve: the resource's message, from its name; raises an AssayError where there is none.
            listed: a shorter message for lists, where the whole would be large.
        """
        self._resolvers.append((prefix, resolve, listed or resolve))
        self._resolvers.sort(key=lambda entry: -len(entry[0]))

    async def message(self, info: OperationInfo, *, listed: bool = False) -> operations_pb2.Operation:
        """The operation's message; ``listed`` where it is one of many."""
        operation = operations_pb2.Operation(name=info.name, done=info.done)
        operation.metadata.Pack(_metadata(info))
        if not info.done:
            return operation
        try:
            if info.error is not None:
                raise info.error
            operation.response.Pack(await self._resolve(info.response, listed))
        except AssayError as error:
            operation.error.CopyFrom(to_status(error))
        return operation

    async def _resolve(self, name: str, listed: bool) -> Message:
        for prefix, whole, short in self._resolvers:
            if name.startswith(prefix):
                return await (short if listed else whole)(name)
        raise EngineFailure(
            "The operation made something that this server does not know how to show: this is a bug.",
            reason="UNKNOWN_RESOURCE",
            details={"resource": name},
        )


class OperationsServicer(operations_pb2_grpc.OperationsServicer):
    """Translates; the jobs hold the operations."""

    def __init__(self, state: ServerState, messages: OperationMessages) -> None:
        self._state = state
        self._messages = messages

    async def GetOperation(self, request: operations_pb2.GetOperationRequest, context: Context) -> operations_pb2.Operation:
        """One operation."""
        name = operation_name(request.name, "name")
        return await self._messages.message(self._state.library.operations.get(name))

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: Context
    ) -> operations_pb2.ListOperationsResponse:
        """A page of operations, newest first."""
        if request.name not in ("", "operations"):
            raise InvalidItem(
                'Operations have no parent here; leave name empty, or give "operations".', reason="INVALID_NAME", field="name"
            )
        if request.filter:
            raise InvalidItem("Operations take no filter; leave it empty.", reason="INVALID_FILTER", field="filter")
        page, token = page_after(
            self._state.library.operations.all(),
            lambda info: Place(info.name, info.created),
            size=request.page_size,
            token=request.page_token,
            question=("ListOperations",),
        )
        operations = [await self._messages.message(info, listed=True) for info in page]
        return operations_pb2.ListOperationsResponse(operations=operations, next_page_token=token)

    async def WaitOperation(self, request: operations_pb2.WaitOperationRequest, context: Context) -> operations_pb2.Operation:
        """The operation once it is done, or when the time is up."""
        name = operation_name(request.name, "name")
        seconds = _patience(request, context)
        waiting = asyncio.ensure_future(self._state.library.operations.wait(name, seconds))
        stopping = asyncio.ensure_future(self._state.draining.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise draining()
            return await self._messages.message(waiting.result())
        finally:
            stopping.cancel()
            waiting.cancel()

    async def CancelOperation(self, request: operations_pb2.CancelOperationRequest, context: Context) -> empty_pb2.Empty:
        """Asks it to stop; it ends with CANCELLED shortly after."""
        await self._state.library.operations.cancel(operation_name(request.name, "name"))
        return empty_pb2.Empty()

    async def DeleteOperation(self, request: operations_pb2.DeleteOperationRequest, context: Context) -> empty_pb2.Empty:
        """Deletes an operation that is done; its result stays."""
        await self._state.library.operations.delete(operation_name(request.name, "name"))
        return empty_pb2.Empty()


def _metadata(info: OperationInfo) -> assay_pb.OperationMetadata:
    """The progress of an operation."""
    return assay_pb.OperationMetadata(
        target=info.target,
        phase=info.phase,
        pairs_done=info.pairs_done,
        pairs_total=info.pairs_total,
        pairs_per_second=info.pairs_per_second,
        seconds_left=info.seconds_left,
        create_time=instant(info.created),
        update_time=instant(info.updated),
        resumed=info.resumed,
    )


def _patience(request: operations_pb2.WaitOperationRequest, context: Context) -> float:
    """Seconds to wait: what was asked for, what the call's deadline leaves, and at most ``MAX_WAIT_SECONDS``."""
    seconds = MAX_WAIT_SECONDS
    if request.HasField("timeout"):
        asked = request.timeout.seconds + request.timeout.nanos / 1e9
        if asked < 0:
            raise InvalidItem(
                f"timeout is {asked:g} seconds; give 0 or more.",
                reason="OUT_OF_RANGE",
                field="timeout",
                details={"timeout_seconds": f"{asked:g}"},
            )
        seconds = min(seconds, asked)
    left = seconds_left(context)
    return seconds if left is None else max(0.0, min(seconds, left - min(MARGIN_SECONDS, left / 4)))
