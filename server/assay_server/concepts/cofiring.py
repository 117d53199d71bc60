"""Which features fire on the same samples: the strongest pairs by normalised mutual information (METHOD.md §2, [A]).

A feature is the binary variable "fired on this sample". Of all pairs that fired together at least once, the top share by
``MI(g, h) / √(H_g H_h)`` are the edges of a graph.

Invariants:
- Work and memory follow the co-firing pairs, never d_sae²: counts come from AᵀA in blocks, and between blocks only what can
  still be in the top share is kept.
- Features are taken in *canonical order*, which depends on when each fires and not on its id. Values, ties and all that
  follows are therefore the same however the SAE numbers its features (features that always fire together may swap).
- The selection is exact and total: by value, ties by canonical position.

**Beyond [A]**, each a knob: a feature that fired on fewer than ``min_samples`` samples is left out, since two that fired once,
together, have an NMI of 1 by accident; and of two features that fire together less often than independent ones would, the
mutual information says "not the same concept", so such a pair is no edge.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import xlog1py, xlogy

Ids = NDArray[np.int64]
Positions = NDArray[np.int32]
Values = NDArray[np.float64]

# Entries worked on at once: their columns fit a core's cache.
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class CofiringEdges:
    """The strongest co-firing pairs.

    Attributes:
        features: ids of the features considered, in canonical order, int64 [f].
        left: position in ``features`` of each edge's one end, int32 [m].
        right: of the other, left < right; edges ascend by (left, right).
        nmi: normalised mutual information, float64 [m], in [0, 1].
        samples: samples in the corpus.
        pairs: pairs that the share was taken of.
    """

    features: Ids
    left: Positions
    right: Positions
    nmi: Values
    samples: int
    pairs: int


def cofiring_edges(
    fired: sparse.csr_array,
    *,
    top_share: float = 0.01,
    min_samples: int = 10,
    positive_only: bool = True,
    block_entries: int = 1 << 23,
    check: Callable[[], None] = lambda: None,
) -> CofiringEdges:
    """Return the ``ceil(top_share · pairs)`` strongest co-firing pairs.

    Args:
        fired: samples x features; whatever is not zero counts as fired. Not written to.
        top_share: part of the co-firing pairs to keep, in (0, 1].
        min_samples: a feature is considered if it fired on at least so many samples, and not on all of them (its entropy
            is 0 then), >= 1.
        positive_only: leave out pairs that fire together less often than independence says (n·n_gh <= n_g·n_h).
        block_entries: about how many counts are held at once (24 bytes each). Changes no result.
        check: called for every chunk of counts; may raise to stop.

    Source: [A] (arXiv 2606.12360); NMI with the geometric mean of entropies: Strehl and Ghosh 2002, JMLR 3:583.
    """
    if not 0 < top_share <= 1 or min_samples < 1 or block_entries < 1:
        raise ValueError(f"top_share {top_share}, min_samples {min_samples} or block_entries {block_entries} out of range")
    samples, _ = cast("tuple[int, int]", fired.shape)
    features, matrix, counts = _canonical(fired, min_samples)
    selection = _Selection(top_share, len(features))
    information = _Information(samples, counts)
    for pairs, done in _cofirings(matrix, block_entries):
        check()
        if positive_only:
            independent = counts[pairs.left] * counts[pairs.right] / samples
            pairs = pairs.where(np.flatnonzero(pairs.together > independent))  # noqa: PLW2901
        selection.add(pairs.left, pairs.right, information.normalised(pairs), done)
    left, right, nmi = selection.finish()
    return CofiringEdges(features, left, right, nmi, samples=samples, pairs=selection.seen)


def _canonical(fired: sparse.csr_array, min_samples: int) -> tuple[Ids, sparse.csr_array, Ids]:
    """Features considered, in canonical order; their firings as int32 ones [samples, f]; how often each fired [f]."""
    ones = sparse.csr_array(fired, copy=True)
    ones.sum_duplicates()
    ones.eliminate_zeros()
    samples, d_sae = cast("tuple[int, int]", ones.shape)
    ones = sparse.csr_array((np.ones(ones.nnz, dtype=np.int32), ones.indices, ones.indptr), shape=ones.shape)
    counts = np.bincount(ones.indices, minlength=d_sae).astype(np.int64)
    # The sum of its samples' hashes names a feature by when it fires.
    hashes = np.repeat(_hash(np.arange(samples, dtype=np.uint64)), np.diff(ones.indptr))
    names = np.zeros(d_sae, dtype=np.uint64)
    np.add.at(names, ones.indices, hashes)
    # Most frequent first: the columns that cost most are done, and dropped, first.
    order = np.lexsort((np.arange(d_sae), names, -counts)).astype(np.int64)
    order = order[(counts[order] >= min_samples) & (counts[order] < samples)]
    matrix = ones[:, order]
    matrix.sort_indices()
    return order, matrix, counts[order]


def _hash(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    mixed = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Co-firing pairs: canonical positions, left < right, and on how many samples both fired."""

    left: Positions
    right: Positions
    together: Positions

    def where(self, kept: NDArray[np.int64]) -> "_Pairs":
        return _Pairs(self.left[kept], self.right[kept], self.together[kept])


def _cofirings(matrix: sparse.csr_array, entries: int) -> Iterator[tuple[_Pairs, int]]:
    """Each co-firing pair once, in blocks; and how many features have met all others after each block."""
    _, f = cast("tuple[int, int]", matrix.shape)
    by_feature = sparse.csr_array(matrix.T)
    rest = matrix
    start = 0
    while start < f:
        width = min(max(entries // (f - start), 1), f - start)
        together = sparse.coo_array(by_feature[start : start + width] @ rest)
        for first in range(0, together.nnz, _CHUNK):
            chunk = slice(first, first + _CHUNK)
            row, column = cast("Positions", together.row[chunk]), cast("Positions", together.col[chunk])
            above = np.flatnonzero(column > row)
            pairs = _Pairs(row[above] + start, column[above] + start, cast("Positions", together.data[chunk][above]))
            yield pairs, start + width if first + _CHUNK >= together.nnz else start
        rest = rest[:, width:]
        start += width


class _Information:
    """Mutual information from counts. Everything is ``k ln(k / n)`` of integers k, looked up: no logarithm per pair."""

    def __init__(self, samples: int, counts: Ids) -> None:
        k = np.arange(samples + 1, dtype=np.float64)
        # Near n the logarithm is of nearly 1: log1p keeps its digits.
        gap = (k - samples) / max(samples, 1)
        self._table: Values = np.where(gap > -0.5, xlog1py(k, np.maximum(gap, -0.5)), xlogy(k, k / max(samples, 1)))
        self._samples = samples
        self._counts = counts
        entropy = -(self._table[counts] + self._table[samples - counts])
        self._entropy: Values = entropy
        self._weight: Values = 1 / np.sqrt(entropy)

    def normalised(self, pairs: _Pairs) -> Values:
        """``MI / √(H H)`` of pairs that fired together so often, in [0, 1]; the unit of information cancels."""
        n_left, n_right, together = self._counts[pairs.left], self._counts[pairs.right], pairs.together
        table = self._table
        cells = table[together] + table[n_left - together] + table[n_right - together]
        cells += table[self._samples - n_left - n_right + together]
        cells += self._entropy[pairs.left]
        cells += self._entropy[pairs.right]
        cells *= self._weight[pairs.left] * self._weight[pairs.right]
        return np.clip(cells, 0.0, 1.0, out=cells)


class _Selection:
    """The top share of a stream of edges, of unknown length, in memory for twice the most that it can turn out to be."""

    def __init__(self, share: float, features: int) -> None:
        self._share = share
        self._features = features
        self._parts: list[tuple[Positions, Positions, Values]] = []
        self._held = 0
        self._floor = -1.0
        self.seen = 0

    def add(self, left: Positions, right: Positions, nmi: Values, done: int) -> None:
        """Take the edges of a block, after which ``done`` features have met all others."""
        self.seen += len(nmi)
        kept = np.flatnonzero(nmi >= self._floor)
        self._parts.append((left[kept], right[kept], nmi[kept]))
        self._held += len(kept)
        remaining = self._features - done
        most = self._wanted(self.seen + remaining * (remaining - 1) // 2)
        if self._held > 2 * most:
            self._compact(most)

    def finish(self) -> tuple[Positions, Positions, Values]:
        """Return the selected edges, ascending by (left, right)."""
        self._compact(self._wanted(self.seen))
        left, right, nmi = self._parts[0]
        order = np.lexsort((right, left))
        return left[order], right[order], nmi[order]

    def _wanted(self, pairs: int) -> int:
        return ceil(self._share * pairs)

    def _compact(self, size: int) -> None:
        left = np.concatenate([np.empty(0, np.int32), *(part[0] for part in self._parts)])
        right = np.concatenate([np.empty(0, np.int32), *(part[1] for part in self._parts)])
        nmi = np.concatenate([np.empty(0, np.float64), *(part[2] for part in self._parts)])
        if len(nmi) > size:
            self._floor = float(np.partition(nmi, len(nmi) - size)[len(nmi) - size])
            chosen = np.flatnonzero(nmi > self._floor)
            ties = np.flatnonzero(nmi == self._floor)
            first = np.lexsort((right[ties], left[ties]))[: size - len(chosen)]
            chosen = np.concatenate([chosen, ties[first]])
            left, right, nmi = left[chosen], right[chosen], nmi[chosen]
        self._parts = [(left, right, nmi)]
        self._held = len(nmi)
