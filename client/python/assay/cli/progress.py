"""How far a run is: a bar where a person watches, a line now and then where a log does. On standard error."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

from assay.extras import rich

_LINE_SECONDS = 10.0


class Progress:
    """Counts rows done. Use it as a context manager.

    Args:
        total: rows there are.
        done: rows that an earlier run has done; they count as progress, not as speed.
        quiet: show nothing.
        what: what is done to them.
    """

    def __init__(
        self, total: int, done: int = 0, *, quiet: bool = False, stream: TextIO | None = None, what: str = "scoring"
    ) -> None:
        self._what = what
        self._stream = stream or sys.stderr
        self._total = total
        self._start_rows = done
        self._done = done
        self._errors = 0
        self._clock: Callable[[], float] = time.monotonic
        self._start = self._clock()
        self._said = self._start
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None

    @property
    def rate(self) -> float:
        """Rows a second, of this run."""
        return (self._done - self._start_rows) / max(1e-9, self._clock() - self._start)

    def __enter__(self) -> "Progress":
        self._start = self._said = self._clock()
        progress = rich("rich.progress") if self._stream.isatty() and not self._quiet else None
        if progress is not None:
            console = rich("rich.console")
            self._bar = progress.Progress(
                progress.TextColumn(self._what),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[rate]}"),
                progress.TimeRemainingColumn(compact=True),
                progress.TextColumn("{task.fields[errors]}"),
                console=console.Console(file=self._stream) if console else None,
            )
            self._task = self._bar.add_task("", total=self._total, completed=self._done, rate="", errors="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._show()
            self._bar.stop()

    def advance(self, *, failed: bool) -> None:
        """One more row is done."""
        self._done += 1
        self._errors += failed
        now = self._clock()
        if self._quiet or now - self._said < (0.1 if self._bar is not None else _LINE_SECONDS):
            return
        self._said = now
        if self._bar is not None:
            self._show()
        else:
            print(self.line(), file=self._stream, flush=True)

    def line(self) -> str:
        """How far it is, in words."""
        left = (self._total - self._done) / self.rate if self.rate > 0 else 0.0
        share = 100 * self._done / self._total if self._total else 100.0
        text = f"{self._done:,} of {self._total:,} rows ({share:.0f}%), {self.rate:.1f} pairs/s, {duration(left)} left"
        return text + (f", {self._errors:,} failed" if self._errors else "")

    def _show(self) -> None:
        errors = f"{self._errors:,} failed" if self._errors else ""
        self._bar.update(self._task, completed=self._done, rate=f"{self.rate:.1f} pairs/s", errors=errors)


def duration(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
