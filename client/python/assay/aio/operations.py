"""Long work on the server: a handle to wait for it, watch it, cancel it, and find it again by its name.

    run = await client.audit(dataset)
    audit = await run.wait(lambda progress: print(progress.phase, progress.pairs_done))
    again = await (await client.operation(run.name)).wait()             later, from another process

| method    | does                                                                     |
|-----------|--------------------------------------------------------------------------|
| `wait`    | the result, once it is there; raises what went wrong                     |
| `refresh` | looks once, without waiting                                              |
| `cancel`  | asks the server to stop; `wait` then raises `Cancelled`                  |
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, cast

from google.longrunning import operations_pb2

from assay.errors import AssayError
from assay.flow import RetryPolicy
from assay.operations import OperationStatus, Waiting, Watch, outcome

T = TypeVar("T")


class AsyncOperation(Generic[T]):
    """Long work on the server, from `AsyncClient.operation` or a method that starts it.

    Attributes:
        status: as it was when last looked at.
    """

    def __init__(
        self,
        first: operations_pb2.Operation,
        look: Callable[[str], Awaitable[operations_pb2.Operation]],
        stop: Callable[[str], Awaitable[object]],
        retry: RetryPolicy,
    ) -> None:
        self.status = OperationStatus.from_proto(first)
        self._look = look
        self._stop = stop
        self._retry = retry

    @property
    def name(self) -> str:
        """Its name, to find it again with."""
        return self.status.name

    @property
    def done(self) -> bool:
        """Whether it was over when last looked at."""
        return self.status.done

    async def refresh(self) -> OperationStatus:
        """Looks once."""
        self.status = OperationStatus.from_proto(await self._look(self.name))
        return self.status

    async def wait(self, on_progress: Watch | None = None, *, timeout: float | None = None) -> T:  # noqa: ASYNC109
        """The result, once it is there.

        Args:
            on_progress: called with each new state, where `wait` runs.
            timeout: seconds to wait at most; None waits for as long as it takes.

        Raises:
            DeadlineExceeded: the time is up; the work goes on on the server.
            AssayError: why the work failed, or the server was lost for good.
        """
        waiting = Waiting(self._retry, on_progress, timeout)
        while not waiting.saw(self.status):
            await asyncio.sleep(waiting.pause(self.name))
            try:
                await self.refresh()
            except AssayError as error:
                await asyncio.sleep(waiting.failed(error))
        return cast(T, outcome(self.status))

    async def cancel(self) -> None:
        """Asks the server to stop it; `wait` tells when it has."""
        await self._stop(self.name)
