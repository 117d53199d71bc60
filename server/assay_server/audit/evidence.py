"""Evidence for a hypothesis: the pairs with the largest disparity for and against it.

One pass, and memory for a few pairs a hypothesis: a running list of the best, from which any order of blocks gives the same
pairs. Ties go to the lower row. A pair without a disparity is no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay_server.audit.findings import Evidence
from assay_server.audit.matrices import Bools, Csr, Floats, Ints


@dataclass(frozen=True, eq=False)
class EvidenceBlock:
    """One block of pairs, as the view tested them."""

    rows: Ints  # [pairs] row in the dataset
    values: Csr  # [pairs, concepts] u
    inside: Csr | None  # [pairs, conditions] 0/1; None where there are no conditions
    compared: Bools | None = None  # [pairs] that conditions formed by the view compare; None for all


@dataclass(frozen=True, eq=False)
class _Best:
    """Kept entries, sorted by hypothesis, then strength."""

    hypothesis: Ints
    row: Ints
    value: Floats  # times the hypothesis's direction


class EvidenceCollector:
    """The most telling pairs on both sides of every hypothesis, block by block, in any order."""

    def __init__(self, concept: Ints, condition: Ints, direction: Floats, count: int) -> None:
        """Say what is looked for.

        Args:
            concept: column of `values` of each hypothesis, [hypotheses].
            condition: column of `inside`, [hypotheses]; −1 takes all pairs.
            direction: sign of the hypothesis's effect, [hypotheses]; 0 counts as positive.
            count: pairs a side.
        """
        self._concept, self._condition, self._count = concept, condition, count
        self._sign = np.where(direction < 0, -1.0, 1.0)
        self._supporting = self._contradicting = _nothing()

    def add(self, part: EvidenceBlock) -> None:
        """Look through one block."""
        entries = _entries(part, self._concept, self._condition, self._sign)
        self._supporting = _strongest(self._supporting, entries, self._count)
        self._contradicting = _strongest(self._contradicting, _turned(entries), self._count)

    def finish(self) -> tuple[Evidence, ...]:
        """The evidence, one per hypothesis."""
        many = np.arange(len(self._concept) + 1)
        edges = [np.searchsorted(side.hypothesis, many) for side in (self._supporting, self._contradicting)]
        found: list[Evidence] = []
        for h, sign in enumerate(self._sign):
            pro, con = (slice(edge[h], edge[h + 1]) for edge in edges)
            supporting, contradicting = self._supporting.value[pro] * sign, -self._contradicting.value[con] * sign
            found.append(Evidence(self._supporting.row[pro], supporting, self._contradicting.row[con], contradicting))
        return tuple(found)


def _entries(part: EvidenceBlock, concept: Ints, condition: Ints, sign: Floats) -> _Best:
    """Every nonzero u of a hypothesis's concept inside its condition."""
    values = part.values
    hypotheses = np.arange(len(concept))
    pick = Csr((sign, (concept, hypotheses)), shape=(values.shape[1], len(concept)))
    turned = Csr(values @ pick)
    if part.inside is not None and (condition >= 0).any():
        inside = part.inside.astype(np.float64)
        everywhere = np.flatnonzero(condition < 0)
        held = np.flatnonzero(condition >= 0)
        choose = Csr((np.ones(len(held)), (condition[held], held)), shape=(inside.shape[1], len(concept)))
        allowed = Csr(inside @ choose)
        kept = Csr(turned.multiply(allowed))
        if len(everywhere):
            mask = np.zeros(len(concept))
            mask[everywhere] = 1.0
            kept = kept + Csr(turned.multiply(mask[None, :]))
        turned = Csr(kept)
    turned.eliminate_zeros()
    pair = np.repeat(np.arange(len(part.rows)), np.diff(turned.indptr))
    return _Best(turned.indices.astype(np.int64), part.rows[pair], turned.data)


def _strongest(kept: _Best, entries: _Best, count: int) -> _Best:
    positive = entries.value > 0
    hypothesis = np.concatenate([kept.hypothesis, entries.hypothesis[positive]])
    row = np.concatenate([kept.row, entries.row[positive]])
    value = np.concatenate([kept.value, entries.value[positive]])
    order = np.lexsort((row, -value, hypothesis))
    hypothesis, row, value = hypothesis[order], row[order], value[order]
    starts = np.searchsorted(hypothesis, hypothesis)
    chosen = np.arange(len(hypothesis)) - starts < count
    return _Best(hypothesis[chosen], row[chosen], value[chosen])


def _turned(entries: _Best) -> _Best:
    return _Best(entries.hypothesis, entries.row, -entries.value)


def _nothing() -> _Best:
    return _Best(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
