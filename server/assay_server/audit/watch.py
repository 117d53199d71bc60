"""Progress and cancellation of a long computation.

Statistics run in a thread, which cannot be interrupted from outside. So they call ``check`` between blocks of pairs, steps of a
fit and chunks of concepts, and it stops them by raising. Between two calls lies one step, whose length does not depend on the
dataset's size. A stopped computation returns nothing: a result is whole or absent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

# Phase, pairs done in it, pairs in all.
Progress: TypeAlias = Callable[[str, int, int], None]
Check: TypeAlias = Callable[[], None]


def go_on() -> None:
    """Never stops."""


def _untold(phase: str, done: int, total: int) -> None:
    """Reports to no one."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How a computation reports, and how it is stopped.

    Attributes:
        progress: called after each block of a pass; may raise to stop.
        check: called between other steps; may raise to stop.
    """

    progress: Progress = _untold
    check: Check = go_on


UNWATCHED = Watch()
