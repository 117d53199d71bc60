"""Whether few pairs carry an effect or many, which says whether taking pairs out can undo it.

A pair contributes u in the effect's direction, less the mean outside where the effect is a contrast; the contributions of the
compared pairs add up to the effect. Contributions of thousands of hypotheses are added up in bins of activation difference, 128
on either side of 0, none wider than a factor of 1.25 (`bins`). The order of pairs within a bin is not known: they count as
evenly mixed. So what is left without the top is exact at the edges of bins, and between two edges off by at most the
contributions of one sign in the bin that is cut; the share that carries half is off by at most that bin's share of the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay_server.audit.bins import BINS, bins_of
from assay_server.audit.evidence import Asked, Entries
from assay_server.audit.matrices import Floats, Ints

TOP = 0.05  # share of the compared pairs that is left out
UNKNOWN = -1
_ZERO = BINS  # the bin of pairs without an activation difference; those against the effect lie under it


@dataclass(frozen=True, eq=False)
class Carried:
    """Columns of a table, [hypotheses]; `UNKNOWN` where the compared pairs show no effect in the direction asked for."""

    only_chosen: Ints
    only_rejected: Ints
    carried_by: Floats
    left_without_top: Floats


class ConcentrationSketch:
    """Contributions of every hypothesis by activation difference, block by block: 3 KB a hypothesis."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        many = self.hypotheses = len(asked.concept)
        self._u = np.zeros((many, 2 * BINS + 1))
        self._pairs = np.zeros((many, 2 * BINS + 1), np.int32)
        self._compared, self._for, self._against = (np.zeros(many, np.int64) for _ in range(3))

    def add(self, entries: Entries) -> None:
        """Count one block."""
        many, hypothesis, strength = len(self._compared), entries.hypothesis, entries.strength
        self._compared += entries.compared
        self._for += np.bincount(hypothesis[entries.u > 0], minlength=many)
        self._against += np.bincount(hypothesis[entries.u < 0], minlength=many)
        place = np.full(len(strength), _ZERO)
        some = np.flatnonzero(strength)
        size = bins_of(np.abs(strength[some]))
        place[some] += np.where(strength[some] > 0, 1 + size, -1 - size)
        place += hypothesis * self._u.shape[1]
        np.add.at(self._u.reshape(-1), place, entries.u)
        np.add.at(self._pairs.reshape(-1), place, np.int32(1))

    def finish(self, effect: Floats) -> Carried:
        """The columns.

        Args:
            effect: the raw estimate, [hypotheses]: the mean of u over the compared pairs, less that outside a condition.
        """
        sign, many = self._asked.sign, len(self._compared)
        pairs = self._pairs.astype(np.int64)
        pairs[:, _ZERO] += self._compared - pairs.sum(axis=1)
        mean = self._u.sum(axis=1) / np.maximum(self._compared, 1)
        outside = np.where(self._asked.condition < 0, 0.0, mean - effect * sign)
        shown = (self._u - outside[:, None] * pairs)[:, ::-1]
        pairs = pairs[:, ::-1]
        total = shown.sum(axis=1)
        carried, left = np.full(many, float(UNKNOWN)), np.full(many, float(UNKNOWN))
        for row in np.flatnonzero((effect * sign > 0) & (total > 0)):
            sums, counts = (np.concatenate([[0.0], np.cumsum(of[row])]) for of in (shown, pairs))
            carried[row] = _crossed(sums, counts, total[row] / 2) / self._compared[row]
            top = min(TOP * self._compared[row], counts[BINS])
            left[row] = np.clip(1 - np.interp(top, counts[: BINS + 1], sums[: BINS + 1]) / total[row], 0.0, 1.0)
        chosen = np.where(sign > 0, self._for, self._against)
        return Carried(chosen, self._for + self._against - chosen, carried, left)


def _crossed(sums: Floats, counts: Floats, level: float) -> float:
    """How many pairs it takes, from the strongest, until their contributions reach a level; bins are evenly mixed."""
    last = int((sums >= level).argmax())
    share = (level - sums[last - 1]) / (sums[last] - sums[last - 1])
    return float(counts[last - 1] + share * (counts[last] - counts[last - 1]))
