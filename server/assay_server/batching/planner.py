"""Selects the next batch from what is queued. Pure: no threads, no clock of its own.

A batch holds at most ``budget`` tokens (a single longer piece of work goes alone). What is picked depends on what uneven
lengths cost the reader:

- *packed* rows have no padding, so order of arrival is kept and later work that still fits fills what room is left;
- *padded* readers (and padded attention on an accelerator) get a run of similar lengths from the window of what came first,
  the run with the most useful tokens under the budget.

Ageing: work that has waited longer than ``max_age`` seconds is in the very next batch, so a length that never fits well, or a
lane that is always overtaken, does not starve.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Planner:
    """Batch selection.

    Attributes:
        budget: tokens of a batch.
        window: pieces of work to choose from, oldest first.
        max_age: seconds after which the oldest work must go next.
        padded: whether uneven lengths cost padding.
    """

    budget: int
    window: int = 512
    max_age: float = 2.0
    padded: bool = False

    def select(self, sizes: Sequence[int], oldest_age: float) -> list[int]:
        """Indices into ``sizes`` (tokens of each piece of work, oldest first) that make the next batch, ascending.

        Never empty for a non-empty input. ``oldest_age`` is how many seconds the first piece has waited.
        """
        if not sizes:
            return []
        looked_at = sizes[: self.window]
        if not self.padded:
            return self._fill(looked_at)
        return self._best_run(looked_at, must_hold_first=oldest_age > self.max_age)

    def cut(self, sizes: Sequence[int]) -> list[list[int]]:
        """All of ``sizes`` in batches, as ``select`` would pick them if nothing else came; each index is in one of them."""
        left = list(range(len(sizes)))
        batches: list[list[int]] = []
        while left:
            chosen = self.select([sizes[index] for index in left[: self.window]], 0.0)
            batches.append([left[position] for position in chosen])
            for position in reversed(chosen):
                del left[position]
        return batches

    def _fill(self, sizes: Sequence[int]) -> list[int]:
        chosen = [0]
        room = self.budget - sizes[0]
        for index in range(1, len(sizes)):
            if sizes[index] <= room:
                chosen.append(index)
                room -= sizes[index]
                if room <= 0:
                    break
        return chosen

    def _best_run(self, sizes: Sequence[int], must_hold_first: bool) -> list[int]:
        """The run of the length-sorted window with the most tokens whose padded size fits; ties go to the oldest work."""
        # A run is cut at its start. So among equal lengths the oldest comes last, to go before younger ones; but where the oldest
        # must be in the run, its equals, which soon must be too, come after it and go with it.
        order = sorted(range(len(sizes)), key=lambda index: (sizes[index], index if must_hold_first else -index))
        best: tuple[int, int] = (-1, 0)
        best_run = [0]
        first = 0
        total = 0
        for last, index in enumerate(order):
            total += sizes[index]
            while first < last and (last - first + 1) * sizes[index] > self.budget:
                total -= sizes[order[first]]
                first += 1
            run = order[first : last + 1]
            if must_hold_first and 0 not in run:
                continue
            rank = (total, -min(run))
            if rank > best:
                best, best_run = rank, run
        return sorted(best_run)
