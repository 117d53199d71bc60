"""Family-wise correction by Monte-Carlo sign flips: what is the largest statistic that chance would show?

METHOD.md §3.5; Westfall and Young 1993 (step-down max-T). A prompt's coin in flip b depends on the seed, the prompt's
id and b alone (a counter-based generator), so any shard on any machine tosses the same coins: flipped totals are linear
in the pairs, merge by addition, and need no prompt to be whole. Pairs × features × flips never exist at once: 64 flips
at a time are one sparse product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay_server.audit.draws import drawn_bits
from assay_server.audit.matrices import Csr, Floats, Ints, prompt_ids
from assay_server.audit.watch import Check, go_on

_WORD = 64
# A column with this share of nonzeros is cheaper as a row of a dense product than of a sparse one.
_DENSE = 0.03
_DENSE_ROWS = 1_024
# Flips that one product makes, a multiple of 64.
_WIDTH = 128
_EXACT_FLOAT32 = 2**24


@dataclass(frozen=True, eq=False)
class FlipSums:
    """Σ_i ε_b(prompt of i) · value[i, m] for every column m and flip b."""

    seed: int
    totals: NDArray[Any]  # [columns, flips]; int64 when the values are integers


def no_flip_sums(values: Csr, *, flips: int, seed: int) -> FlipSums:
    """Zeros for columns like those of `values`, to `add_flip_sums` to.

    Raises:
        ValueError: flips is not a positive multiple of 64.
    """
    if flips < 1 or flips % _WORD:
        raise ValueError(f"flips must be a positive multiple of {_WORD}, got {flips}")
    dtype = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float64
    return FlipSums(seed, np.zeros((values.shape[1], flips), dtype))


def add_flip_sums(sums: FlipSums, values: Csr, prompts: ArrayLike, *, check: Check = go_on) -> None:
    """Add the totals of more pairs in place; where ``check`` raises, they are left half added.

    Integers are added in float32 where every partial sum fits its 24 bits, so the result is exact all the same.
    """
    ids, totals = prompt_ids(prompts, values.shape[0]), sums.totals
    integer = np.issubdtype(totals.dtype, np.integer)
    reach = np.bincount(values.indices, np.abs(values.data), values.shape[1]).max(initial=0.0)
    dtype = np.float32 if integer and reach < _EXACT_FLOAT32 else np.float64
    by_column = Csr(values.T.tocsr().astype(dtype))
    filled = np.diff(by_column.indptr)
    often = filled > _DENSE * len(ids)
    common, rarely = np.flatnonzero(often), by_column.data * np.repeat(~often, filled)
    rare = Csr((rarely, by_column.indices, by_column.indptr), shape=by_column.shape, copy=True)
    rare.eliminate_zeros()
    blocks = [common[first : first + _DENSE_ROWS] for first in range(0, len(common), _DENSE_ROWS)]
    dense = [by_column[block].toarray() for block in blocks]
    for first in range(0, totals.shape[1], _WIDTH):
        check()
        span = slice(first, min(first + _WIDTH, totals.shape[1]))
        words = range(first // _WORD, span.stop // _WORD)
        signs = np.concatenate([prompt_signs(ids, word, sums.seed) for word in words], axis=1).astype(dtype)
        part = totals[:, span]
        np.add(part, rare @ signs, out=part, casting="unsafe")
        for block, rows in zip(blocks, dense, strict=True):
            part[block] += (rows @ signs).astype(totals.dtype)


def prompt_signs(prompts: Ints, word: int, seed: int) -> NDArray[np.int8]:
    """The coins, ±1, of flips 64·word to 64·word + 63 for each prompt id: [pairs, 64]."""
    bits = drawn_bits(prompts, word, seed)
    picked = (bits[:, None] >> np.arange(_WORD, dtype=np.uint64)) & np.uint64(1)
    return (2 * picked.astype(np.int8) - 1).astype(np.int8)


def max_t(flipped: FlipSums, observed: ArrayLike, scale: ArrayLike, *, check: Check = go_on) -> Floats:
    """Step-down family-wise adjusted p-values, [columns] (Westfall and Young 1993; METHOD.md §3.5).

    Args:
        flipped: merged flip sums of all pairs.
        observed: the unflipped total of each column, [columns].
        scale: what each total is divided by before columns are compared, [columns]: √Σ S_c², which no flip changes.
            A column of scale 0 gets p = 1.
        check: called every 64 flips; may raise to stop.

    Raises:
        ValueError: lengths differ, or a scale is negative or not finite.
    """
    totals, scales = np.asarray(observed, np.float64), np.asarray(scale, np.float64)
    columns, flips = flipped.totals.shape
    if totals.shape != (columns,) or scales.shape != (columns,):
        raise ValueError(f"expected {columns} totals and scales, got shapes {totals.shape} and {scales.shape}")
    if not (np.isfinite(scales).all() and (scales >= 0).all() and np.isfinite(totals).all()):
        raise ValueError("totals must be finite, and scales finite and not negative")
    inverse = np.divide(1.0, scales, out=np.zeros(columns), where=scales > 0)
    statistic = np.abs(totals) * inverse
    weakest_first = np.argsort(statistic, kind="stable")
    bar = statistic[weakest_first] * (1 - 1e-9)
    reached = np.zeros(columns, np.int64)
    for start in range(0, flips, _WORD):
        check()
        block = np.abs(flipped.totals[:, start : start + _WORD][weakest_first]) * inverse[weakest_first, None]
        reached += (np.maximum.accumulate(block, axis=0) >= bar[:, None]).sum(axis=1)
    p = np.maximum.accumulate(((1 + reached) / (1 + flips))[::-1])[::-1]
    result = np.ones(columns)
    result[weakest_first] = p
    return np.where(scales > 0, result, 1.0)
