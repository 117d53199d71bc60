"""Ctrl-C and SIGTERM as KeyboardInterrupt, but not in the middle of what must be whole."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # the exit code


class Interrupts:
    """What signals do while `interrupts` is open."""

    def __init__(self) -> None:
        self._deferring = False
        self._pending = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self._deferring:
            self._pending = True
        else:
            raise KeyboardInterrupt

    @contextmanager
    def deferred(self) -> Generator[None, None, None]:
        """A block that is not interrupted; a signal that came meanwhile acts at its end."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt


@contextmanager
def interrupts() -> Generator[Interrupts, None, None]:
    """Both signals raise KeyboardInterrupt in the block."""
    handler = Interrupts()
    before = {number: signal.signal(number, handler.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield handler
    finally:
        for number, old in before.items():
            signal.signal(number, old)
