"""How far long work on the server is: a bar where a person watches, plain lines where a log does. On standard error."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO, TypeVar

from assay.cli.progress import duration
from assay.cli.reading import say
from assay.client.operations import Operation
from assay.errors import AssayError
from assay.extras import rich
from assay.operations import OperationProgress
from assay.upload import derived_id

_LINE_SECONDS = 10.0
_ATTEMPTS = 1000

T = TypeVar("T")


def begun(kind: str, parts: list[str], start: Callable[[str], Operation[T]]) -> Operation[T]:
    """The operation of these parts: the one that an earlier run began, unless that failed or was cancelled.

    Args:
        kind: what it makes.
        parts: everything that decides the result: equal parts are equal work.
        start: starts it, or finds it, under a request id.
    """
    for attempt in range(_ATTEMPTS):
        operation = start(derived_id(kind, *parts, str(attempt)))
        if operation.status.error is None:
            return operation
    raise AssayError(f"this {kind} failed {_ATTEMPTS} times; change something about it", reason="FAILED_TOO_OFTEN")


def waited(operation: Operation[T], *, quiet: bool) -> T:
    """The result; Ctrl-C leaves the work running, and says how to go on."""
    with Watching(quiet=quiet) as watching:
        try:
            return operation.wait(watching.show)
        except KeyboardInterrupt:
            watching.stop()
            say(
                f"stopped waiting; the server goes on with {operation.name}. The same command waits for it again;\n"
                f"`assay audits cancel {operation.name}` ends it"
            )
            raise


class Watching:
    """Shows an operation's progress. Use it as a context manager.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._clock: Callable[[], float] = time.monotonic
        self._said = -_LINE_SECONDS
        self._phase = ""
        self._resumed = 0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Watching":
        progress = rich("rich.progress") if self._stream.isatty() and not self._quiet else None
        if progress is not None:
            console = rich("rich.console")
            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[numbers]}"),
                console=console.Console(file=self._stream) if console else None,
                transient=True,
            )
            self._task = self._bar.add_task("waiting", total=None, numbers="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def show(self, progress: OperationProgress) -> None:
        """Takes note of a state."""
        if self._quiet or not progress.phase:
            return
        if progress.resumed > self._resumed:
            self._resumed = progress.resumed
            print("the server had stopped, and has taken the work up again", file=self._stream, flush=True)
        if self._bar is not None:
            total = progress.pairs_total or None
            numbers = numbers_of(progress)
            self._bar.update(self._task, description=progress.phase, total=total, completed=progress.pairs_done, numbers=numbers)
            return
        now = self._clock()
        if progress.phase == self._phase and now - self._said < _LINE_SECONDS:
            return
        self._phase, self._said = progress.phase, now
        print(line(progress), file=self._stream, flush=True)


def line(progress: OperationProgress) -> str:
    """A state in words."""
    numbers = numbers_of(progress)
    return f"{progress.phase}: {numbers}" if numbers else progress.phase


def numbers_of(progress: OperationProgress) -> str:
    """Pairs, speed and time left, as far as they are known."""
    parts: list[str] = []
    if progress.pairs_total:
        share = 100 * progress.pairs_done / progress.pairs_total
        parts.append(f"{progress.pairs_done:,} of {progress.pairs_total:,} pairs ({share:.0f}%)")
    elif progress.pairs_done:
        parts.append(f"{progress.pairs_done:,} pairs")
    if progress.pairs_per_second > 0:
        parts.append(f"{progress.pairs_per_second:.1f} pairs/s")
    if progress.seconds_left > 0:
        parts.append(f"{duration(progress.seconds_left)} left")
    return ", ".join(parts)
