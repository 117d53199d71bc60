"""Long work: stored when it is submitted, run in lanes of bounded size, resumed after a crash.

A *handler* does the work of one kind. It is an async function of the operation's arguments (JSON) and its ``Progress``; it
returns the name of the resource that it made. It must be able to start again from the beginning at any
moment: the store is its only record of what it finished before.

Invariants:
- An operation that ``submit`` returned is on disk; its end is on disk before it is reported.
- Each lane bounds how many operations run at once; the others wait in the order of submission, also across a restart.
- A cancellation is on disk before it takes effect: a cancelled operation is never resumed.
- Stopping the server ends handlers like a cancellation, but their operations stay open and resume at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from assay_server.errors import AssayError, Cancelled, EngineFailure, FailedPrecondition, InvalidItem, NotFound, NotReady
from assay_server.jobs.operations.files import OperationFiles, operation_record
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.operations.state import OperationState
from assay_server.jobs.operations.telemetry import NoTelemetry, Telemetry
from assay_server.jobs.operations.types import OperationInfo
from assay_server.store.files import Files

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Handler = Callable[[Mapping[str, Any], Progress], Awaitable[str]]
Ended = Callable[[Mapping[str, Any], AssayError], Awaitable[None]]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kind:
    handler: Handler
    lane: str
    on_failure: Ended | None
    lasting: bool


class Operations:
    """All operations of one data directory. Confined to one event loop.

    Args:
        files: where they are stored, under "operations/".
        lanes: how many operations of each lane run at once.
        telemetry: counts them.
    """

    def __init__(self, files: Files, lanes: Mapping[str, int], telemetry: Telemetry | None = None) -> None:
        self._files = OperationFiles(files)
        self._lanes = {name: asyncio.Semaphore(bound) for name, bound in lanes.items()}
        self.telemetry = telemetry or NoTelemetry()
        self._kinds: dict[str, _Kind] = {}
        self._operations: dict[str, OperationState] = {}
        self._closing = False
        self._submitting = asyncio.Lock()
        self._endings: set[asyncio.Future[None]] = set()

    def register(self, kind: str, handler: Handler, *, lane: str, on_failure: Ended | None = None, lasting: bool = False) -> None:
        """Register the handler of a kind; before ``start``.

        Args:
            kind: letters, digits, "-".
            handler: does the work; returns the response's resource name.
            lane: one of ``lanes``.
            on_failure: called with the arguments when it failed or was cancelled, before that is reported.
            lasting: its result has no name of its own, so a successful operation does not expire.
        """
        if lane not in self._lanes:
            raise ValueError(f"there is no lane {lane!r}; the lanes are {sorted(self._lanes)}")
        if any(_stem(kind) == _stem(other) for other in self._kinds):
            raise ValueError(f"the kind {kind!r} is registered already, or spelt like one that is")
        self._kinds[kind] = _Kind(handler, lane, on_failure, lasting)
        self.telemetry.queued(kind, 0)
        self.telemetry.running(kind, 0)

    async def start(self) -> None:
        """Read the stored operations, and resume the unfinished ones."""
        loaded = await asyncio.to_thread(self._files.read_all)
        self._operations.update({operation.id: operation for operation in loaded})
        for operation in sorted(loaded, key=lambda one: (one.created, one.order)):
            if operation.done:
                continue
            if operation.kind not in self._kinds:
                _log.warning("operation %s is of the unknown kind %s and stays as it is", operation.id, operation.kind)
                continue
            operation.resumed += 1
            operation.progress.enter("waiting")
            await self._write(operation)
            self._launch(operation)

    async def aclose(self) -> None:
        """Stop running operations at their next safe point; they stay open on disk."""
        self._closing = True
        async with self._submitting:  # an operation that is being submitted is launched first, and stopped with the others
            pass
        tasks = [operation.task for operation in self._operations.values() if operation.task and not operation.task.done()]
        for operation in self._operations.values():
            operation.progress.stop()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._endings:
            await asyncio.wait(set(self._endings))

    async def submit(
        self, kind: str, *, target: str, arguments: Mapping[str, Any], request_id: str = "", defaults: tuple[str, ...] = ()
    ) -> OperationInfo:
        """Start an operation; the same request id gives the same operation.

        Args:
            kind: a registered one.
            target: the resource that it makes.
            arguments: the handler's, as JSON.
            request_id: "" for a fresh one.
            defaults: keys of ``arguments`` that the caller filled in; they do not distinguish requests.

        Raises:
            InvalidItem: INVALID_REQUEST_ID; or REQUEST_ID_REUSED: the id belongs to another request.
            NotReady: the server is stopping.
        """
        check_request_id(request_id)
        id = f"{_stem(kind)}-{request_id or secrets.token_hex(8)}"
        async with self._submitting:
            if self._closing:
                raise NotReady("The server is stopping and takes no new work.", reason="STOPPING")
            if known := self._operations.get(id):
                if _asked(known.arguments, defaults) != _asked(arguments, defaults):
                    raise reused(request_id)
                return known.info()
            operation = OperationState(id, kind, target, dict(arguments), time.time(), len(self._operations))
            await self._write(operation)
            self._operations[id] = operation
            self._launch(operation)
        return operation.info()

    def get(self, name: str) -> OperationInfo:
        """One operation. Raises NotFound."""
        return self._find(name).info()

    def find(self, kind: str, request_id: str) -> OperationInfo | None:
        """The operation of a request, if there is one."""
        operation = self._operations.get(f"{_stem(kind)}-{request_id}") if request_id else None
        return operation.info() if operation else None

    def all(self) -> list[OperationInfo]:
        """All operations, newest first."""
        ordered = sorted(self._operations.values(), key=lambda one: (one.created, one.order), reverse=True)
        return [operation.info() for operation in ordered]

    def open_targets(self) -> set[str]:
        """Targets of operations that are not done."""
        return {operation.target for operation in self._operations.values() if not operation.done}

    def arguments(self) -> list[Mapping[str, Any]]:
        """Arguments of all operations."""
        return [operation.arguments for operation in self._operations.values()]

    def open_arguments(self) -> list[Mapping[str, Any]]:
        """Arguments of operations that are not done."""
        return [operation.arguments for operation in self._operations.values() if not operation.done]

    async def wait(self, name: str, seconds: float | None = None) -> OperationInfo:
        """The operation once it is done, or after ``seconds``."""
        operation = self._find(name)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(operation.over.wait(), seconds)
        return operation.info()

    async def cancel(self, name: str) -> None:
        """Cancel an operation; ``wait`` returns when it has stopped."""
        await self._unbroken(self._cancel(self._find(name)))

    async def cancel_target(self, target: str) -> None:
        """Cancel the operations that make this resource, and wait until they have stopped."""
        for operation in [one for one in self._operations.values() if one.target == target and not one.over.is_set()]:
            await self.cancel(f"operations/{operation.id}")
            await operation.over.wait()

    async def forget_target(self, target: str) -> None:
        """Delete the finished operations that made this resource, after it was deleted."""
        for operation in [one for one in self._operations.values() if one.target == target and one.over.is_set()]:
            await self.delete(f"operations/{operation.id}")

    async def expire(self, max_age_seconds: float) -> None:
        """Delete operations that ended longer ago, unless their kind lasts or is unknown, or their target is being worked on."""
        oldest, under_way, forgotten = time.time() - max_age_seconds, self.open_targets(), 0
        for operation in list(self._operations.values()):
            kind = self._kinds.get(operation.kind)
            if kind is None or (kind.lasting and operation.error is None):
                continue
            if operation.over.is_set() and operation.ended < oldest and operation.target not in under_way:
                await self.delete(f"operations/{operation.id}")
                forgotten += 1
        if forgotten:
            _log.info("forgot %d operations that ended more than %.0f s ago", forgotten, max_age_seconds)

    async def delete(self, name: str) -> None:
        """Delete an operation. Raises FailedPrecondition (NOT_DONE) while it runs."""
        operation = self._find(name)
        if not operation.over.is_set():
            raise FailedPrecondition(
                f"{name} is not done; cancel it first.", reason="NOT_DONE", field="name", details={"name": name}
            )
        await self._unbroken(self._delete(operation))

    def _find(self, name: str) -> OperationState:
        operation = self._operations.get(name.removeprefix("operations/"))
        if operation is None or not name.startswith("operations/"):
            raise NotFound(f"There is no operation {name!r}; `assay audits` lists audits with theirs.", field="name")
        return operation

    def _launch(self, operation: OperationState) -> None:
        operation.task = asyncio.get_running_loop().create_task(self._run(operation), name=f"operation {operation.id}")

    async def _run(self, operation: OperationState) -> None:
        response, error = "", None
        try:
            if operation.cancelled:
                raise _cancelled()
            response = await self._in_lane(operation)
        except asyncio.CancelledError:
            error = _cancelled()
        except AssayError as failure:
            error = failure
        except Exception as failure:
            _log.exception("operation %s failed", operation.id)
            error = _unexpected(failure)
        if error is not None and self._closing and not operation.cancelled:
            return  # stopped by the server, not ended: it resumes when the server is back
        if operation.cancelled and error is not None:
            error = _cancelled()
        await self._unbroken(self._finish(operation, response, error))  # too late for a cancellation

    async def _in_lane(self, operation: OperationState) -> str:
        kind, tell = self._kinds[operation.kind], self.telemetry
        lane = self._lanes[kind.lane]
        tell.queued(operation.kind, +1)
        try:
            await lane.acquire()
        finally:
            tell.queued(operation.kind, -1)
        tell.running(operation.kind, +1)
        try:
            return await kind.handler(operation.arguments, operation.progress)
        finally:
            lane.release()
            tell.running(operation.kind, -1)

    async def _finish(self, operation: OperationState, response: str, error: AssayError | None) -> None:
        on_failure = self._kinds[operation.kind].on_failure
        if error is not None and on_failure is not None:
            try:
                await on_failure(operation.arguments, error)
            except Exception:
                _log.exception("cleaning up after operation %s failed", operation.id)
        await self._end(operation, response=response, error=error)

    async def _end(self, operation: OperationState, *, response: str = "", error: AssayError | None = None) -> None:
        async with operation.saving:
            operation.done, operation.response, operation.error, operation.ended = True, response, error, time.time()
            await self._write(operation)
        operation.over.set()
        self.telemetry.ended(operation.kind, operation.outcome, operation.progress.seconds())

    async def _cancel(self, operation: OperationState) -> None:
        async with operation.saving:
            if operation.done or operation.cancelled:
                return
            operation.cancelled = True
            await self._write(operation)
        operation.progress.stop()
        if operation.task is not None:
            operation.task.cancel()
        else:  # its kind is not registered
            await self._end(operation, error=_cancelled())

    async def _delete(self, operation: OperationState) -> None:
        async with operation.saving:  # the last write comes first; it is done, so none follows
            await asyncio.to_thread(self._files.delete, operation.id)
        self._operations.pop(operation.id, None)

    async def _unbroken(self, work: Coroutine[Any, Any, None]) -> None:
        """Await work that continues if the caller is cancelled: half of it would leave disk and memory different."""
        task = asyncio.ensure_future(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        await asyncio.shield(task)

    async def _write(self, operation: OperationState) -> None:
        """Write its record; the caller holds ``saving``, or nobody else has the operation yet."""
        await asyncio.to_thread(self._files.write, operation.id, operation_record(operation))


def check_request_id(request_id: str) -> None:
    """Raises InvalidItem where a request id is given and is not one."""
    if request_id and not REQUEST_ID.fullmatch(request_id):
        raise InvalidItem(
            f"request_id has {len(request_id)} characters; give 1 to 64 letters, digits, '-' and '_'.",
            reason="INVALID_REQUEST_ID",
            field="request_id",
        )


def reused(request_id: str) -> InvalidItem:
    """The error for a request id that belongs to another request."""
    return InvalidItem(
        f"request_id {request_id} was used before, for other arguments. Give another one.",
        reason="REQUEST_ID_REUSED",
        field="request_id",
        details={"request_id": request_id},
    )


def _stem(kind: str) -> str:
    """The prefix of a kind's ids: without "-", so that two kinds with any request ids never give the same id."""
    return kind.replace("-", "")


def _asked(arguments: Mapping[str, Any], defaults: tuple[str, ...]) -> str:
    asked = {key: value for key, value in arguments.items() if key not in defaults}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _cancelled() -> Cancelled:
    return Cancelled("The operation was cancelled.")


def _unexpected(error: Exception) -> EngineFailure:
    return EngineFailure(
        f"The server failed: {type(error).__name__}. Its log has the details.",
        reason="INTERNAL",
        details={"exception": type(error).__name__},
    )
