"""How a long computation is watched: what it tells of its progress, and where it may be asked to end.

Statistics run in a thread, which nobody can interrupt from outside. So they ask: ``check`` is called between blocks of pairs,
steps of a fit and chunks of concepts, and ends the work by raising. Between two questions lies one step, whatever the dataset's
size. What is not asked cannot end half way, so a result is whole or not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

# Phase, pairs done in it, pairs in all.
Progress: TypeAlias = Callable[[str, int, int], None]
Check: TypeAlias = Callable[[], None]


def go_on() -> None:
    """Ends nothing."""


def _untold(phase: str, done: int, total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who watches.

    Attributes:
        progress: told after each block of a pass; may raise to end the work.
        check: asked between steps that are no pass over pairs; raises to end the work.
    """

    progress: Progress = _untold
    check: Check = go_on


UNWATCHED = Watch()
