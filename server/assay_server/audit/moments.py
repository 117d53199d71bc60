"""Sufficient statistics of disparities: sums that merge exactly, whatever the shards and their order.

Two invariants make that so. Every term is an integer (u times t_m), so addition is associative; and a prompt whose
pairs lie in more than one shard stays open, as a row of sums, until `Moments.closed` squares it. Shards that never split
a prompt need no open rows. What a sign-flip test needs of the prompts is only how often each magnitude |Σ u| occurs:
the histogram `magnitudes` holds that, and with it the exact null distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from assay_server.audit.disparity import Disparity
from assay_server.audit.matrices import (
    Bools,
    Csr,
    Floats,
    Ints,
    PromptSums,
    added,
    csr,
    dense_row,
    merge_prompt_sums,
    no_prompts,
    split_sums_by_prompt,
    squared_values,
)
from assay_server.audit.shared_prompts import size_powers


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the pairs of each half (rows 0 and 1: even and odd rows) and over prompts, per concept."""

    sizes: Ints  # [concepts] t_m
    pairs: Ints  # [2] pairs per half
    totals: Ints  # [2, concepts] Σ t_m·u
    squares: Ints  # [2, concepts] Σ (t_m·u)²
    prompts: int  # closed prompts
    prompt_pairs_squared: int  # Σ n_c² over closed prompts
    prompt_powers: Floats  # [3] Σ n_c³, Σ n_c⁴, Σ n_c⁵ over closed prompts
    prompt_cross: Ints  # [concepts] Σ n_c S_c over closed prompts, S_c = Σ_{i∈c} t_m·u
    magnitudes: Csr  # [concepts, max |S| + 1] closed prompts with |S_c| equal to the column; column 0 is not counted
    open: PromptSums  # prompts of which more pairs may come

    def closed(self) -> Moments:
        """The same sums with every open prompt counted: call it when all shards are merged."""
        return _close(replace(self, open=no_prompts(len(self.sizes))), self.open) if len(self.open.ids) else self

    @property
    def total(self) -> Ints:
        """Σ t_m·u over all pairs, [concepts]."""
        return self.totals.sum(axis=0)

    @property
    def mean(self) -> Floats:
        """Mean u over pairs, [concepts]; 0 where there are no pairs or no features."""
        return self.total / np.maximum(int(self.pairs.sum()) * self.sizes, 1)

    @property
    def half_means(self) -> Floats:
        """Mean u per half, [2, concepts]; 0 where there is nothing."""
        return self.totals / np.maximum(self.pairs[:, None] * self.sizes[None, :], 1)

    @property
    def prompt_squares(self) -> Ints:
        """Σ S_c² over closed prompts, [concepts]: the variance of the total under sign flips by prompt."""
        return self.magnitudes @ (np.arange(self.magnitudes.shape[1], dtype=np.int64) ** 2)

    @property
    def telling_prompts(self) -> Ints:
        """Closed prompts with S_c ≠ 0, [concepts]."""
        return dense_row(self.magnitudes.sum(axis=1)).astype(np.int64)


def moments(
    shard: Disparity,
    prompts: ArrayLike,
    *,
    halves: ArrayLike | None = None,
    open_prompts: ArrayLike | None = None,
) -> Moments:
    """The sums of one shard (METHOD.md §3.1, §3.5).

    Args:
        shard: disparities of the shard's pairs.
        prompts: an integer id per pair, [pairs]; equal ids are one prompt, in every shard.
        halves: 0 or 1 per pair, [pairs]; by default the parity of its place.
        open_prompts: ids of prompts that other shards may hold too; None when no shard splits a prompt.

    Raises:
        ValueError: lengths differ, or a half is neither 0 nor 1.
        OverflowError: the squares of this many pairs and features would not fit 63 bits.
    """
    values, n = shard.numerators, shard.numerators.shape[0]
    side = split_halves(n, halves)
    squares = squared_values(values)
    still_open, done = split_sums_by_prompt(values, prompts, open_prompts)
    concepts = values.shape[1]
    empty = Moments(
        sizes=shard.sizes,
        pairs=np.array([(~side).sum(), side.sum()], np.int64),
        totals=_by_half(values, side),
        squares=_by_half(squares, side),
        prompts=0,
        prompt_pairs_squared=0,
        prompt_powers=np.zeros(3),
        prompt_cross=np.zeros(concepts, np.int64),
        magnitudes=Csr((concepts, 1), dtype=np.int64),
        open=still_open,
    )
    return _close(empty, done)


def merge_moments(left: Moments, right: Moments) -> Moments:
    """The sums of both: associative and commutative to the bit.

    Raises:
        ValueError: the two describe different concepts.
        OverflowError: the squares would not fit 63 bits.
    """
    if not np.array_equal(left.sizes, right.sizes):
        raise ValueError("moments of different concepts do not merge")
    magnitudes = _add_wide(left.magnitudes, right.magnitudes)
    merged = added(left, right, sizes=left.sizes, magnitudes=magnitudes, open=merge_prompt_sums(left.open, right.open))
    return _fitting(merged)


def split_halves(pairs: int, halves: ArrayLike | None = None) -> Bools:
    """True for the second half, [pairs]: where `halves` is 1, or by default every second pair (METHOD.md §3.2).

    Raises:
        ValueError: `halves` is not one 0 or 1 per pair.
    """
    if halves is None:
        return (np.arange(pairs) % 2).astype(np.bool_)
    side = np.asarray(halves)
    if side.shape != (pairs,) or not np.isin(side, (0, 1)).all():
        raise ValueError(f"halves must be {pairs} zeros and ones, got shape {side.shape}")
    return side.astype(np.bool_)


def _close(base: Moments, sums: PromptSums) -> Moments:
    rows = sums.rows
    magnitude = np.abs(rows.data)
    width = int(magnitude.max(initial=0)) + 1
    counts = Csr((np.ones(rows.nnz, np.int64), (rows.indices, magnitude)), shape=(rows.shape[1], width))
    closed = replace(
        base,
        prompts=base.prompts + len(sums.ids),
        prompt_pairs_squared=base.prompt_pairs_squared + int((sums.pairs**2).sum()),
        prompt_powers=base.prompt_powers + size_powers(sums.pairs),
        prompt_cross=base.prompt_cross + np.asarray(rows.T @ sums.pairs, np.int64),
        magnitudes=_add_wide(base.magnitudes, csr(counts)),
    )
    return _fitting(closed)


def _fitting(merged: Moments) -> Moments:
    largest = int(merged.sizes.max(initial=0))
    pairs_squared = merged.prompt_pairs_squared + int(merged.pairs.sum())
    if pairs_squared * largest**2 >= 2**63:
        raise OverflowError(
            f"{pairs_squared} squared pair counts by {largest} features per concept pass 63 bits: use smaller concepts"
        )
    return merged


def _by_half(values: Csr, side: Bools) -> Ints:
    sides = np.stack([~side, side]).astype(np.int64)
    return np.ascontiguousarray((values.T @ sides.T).T, dtype=np.int64)


def _add_wide(left: Csr, right: Csr) -> Csr:
    width = max(left.shape[1], right.shape[1])
    return csr(_widened(left, width) + _widened(right, width))


def _widened(matrix: Csr, width: int) -> Csr:
    return Csr((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], width))
