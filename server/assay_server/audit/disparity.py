"""From pooled frequencies to what is tested: disparities of chosen against rejected, per pair and concept.

METHOD.md §3 ([A] §3). A disparity u is an integer over the concept's size t_m; the integers are what is kept, so that
every sum made of them later is exact. Everything is sparse, works on any shard of pairs, and a shard's rows depend on
that shard alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from assay_server.audit.matrices import Csr, Floats, Ints, csr, dense_row

TAU = 0.01


@dataclass(frozen=True, eq=False)
class Disparity:
    """u[i, m] of a shard, kept as integers: u = numerators / sizes."""

    numerators: Csr  # [pairs, concepts] int64: t_m · u
    sizes: Ints  # [concepts] t_m, features in the concept; 0 for an empty concept

    def values(self) -> Csr:
        """u [pairs, concepts] in [−1, 1], float64; an empty concept is 0 everywhere."""
        return _scale_columns(self.numerators, 1.0 / np.maximum(self.sizes, 1))


def membership(concepts: Sequence[Sequence[int]], features: int) -> Csr:
    """The 0/1 array [features, concepts] of which features each concept holds (repeats count once).

    Raises:
        ValueError: a feature lies outside 0..features−1.
    """
    columns = np.repeat(np.arange(len(concepts)), [len(concept) for concept in concepts])
    rows = np.fromiter(chain.from_iterable(concepts), np.int64, len(columns))
    outside = (rows < 0) | (rows >= features)
    if outside.any():
        raise ValueError(f"concept {columns[outside.argmax()]} names a feature outside 0..{features - 1}")
    held = csr(Csr((np.ones(len(rows), np.int64), (rows, columns)), shape=(features, len(concepts))))
    held.data[:] = 1
    return held


def firing_difference(freq_chosen: Any, freq_rejected: Any, tau: float = TAU) -> Csr:
    """b[i, g] = 1{freq_c > τ} − 1{freq_r > τ}, as int64 CSR [pairs, features] of ±1 (METHOD.md §3).

    Args:
        freq_chosen: share of the chosen span's tokens that fire, CSR [pairs, features], in [0, 1].
        freq_rejected: the same for the rejected span.
        tau: the share above which a feature counts, rounded to the arrays' own precision, so that a frequency of
            exactly τ never passes because it was stored in fewer bits.

    Raises:
        ValueError: shapes differ, a frequency is outside [0, 1] or not finite, or τ is outside [0, 1).
    """
    if not 0 <= tau < 1:
        raise ValueError(f"tau must lie in [0, 1), got {tau}")
    chosen, rejected = _frequencies(freq_chosen, freq_rejected)
    return csr(_fires(chosen, tau) - _fires(rejected, tau))


def disparity(differences: Csr, concepts: Csr | None = None) -> Disparity:
    """u[i, m] = (1/t_m) Σ_{g∈T_m} b[i, g]: the signed disparity that is tested (METHOD.md §3).

    Args:
        differences: b from `firing_difference`, [pairs, features].
        concepts: 0/1 membership [features, concepts]; None makes each feature its own concept.

    Raises:
        ValueError: `concepts` does not have one row per feature, or holds anything but zeros and ones.
    """
    if concepts is None:
        return Disparity(differences, np.ones(differences.shape[1], np.int64))
    concepts = _checked(concepts, differences.shape[1])
    sizes = dense_row(concepts.sum(axis=0)).astype(np.int64)
    return Disparity(csr(differences.astype(np.int64) @ concepts), sizes)


def presence_difference(max_chosen: Any, max_rejected: Any, features: Csr, thresholds: Floats) -> Csr:
    """1{max_c >= θ} − 1{max_r >= θ} of single features, int64 CSR [pairs, concepts] of ±1 (METHOD.md §3.5, local concepts).

    Args:
        max_chosen: largest activations in the chosen response, CSR [pairs, features].
        max_rejected: the same in the rejected response.
        features: 0/1 membership [features, concepts], one feature each.
        thresholds: θ > 0 of each concept, [concepts].
    """
    picked = (Csr(csr(side).astype(np.float64) @ features.astype(np.float64)) for side in (max_chosen, max_rejected))
    chosen, rejected = (_at_least(csr(side), thresholds) for side in picked)
    return csr(chosen - rejected)


def activity(freq_chosen: Any, freq_rejected: Any, concepts: Csr | None = None) -> Csr:
    """s[i, m] = Σ_{g∈T_m} (freq_c + freq_r), float64: what pairs are grouped by, never tested (METHOD.md §3).

    Unchanged when chosen and rejected swap, which is what keeps the test of u inside groups of s from proving itself.
    """
    chosen, rejected = _frequencies(freq_chosen, freq_rejected)
    return _pool(csr(chosen.astype(np.float64) + rejected.astype(np.float64)), concepts)


def firing(frequencies: Any, tau: float = TAU) -> Csr:
    """1{freq > τ} of single spans, int64 CSR [spans, features] of ones; ``tau`` as in ``firing_difference``."""
    return _fires(csr(frequencies, name="frequencies"), tau)


def _frequencies(chosen: Any, rejected: Any) -> tuple[Csr, Csr]:
    first, second = csr(chosen, name="freq_chosen"), csr(rejected, name="freq_rejected")
    if first.shape != second.shape:
        raise ValueError(f"freq_chosen has shape {first.shape} but freq_rejected {second.shape}")
    for name, matrix in (("freq_chosen", first), ("freq_rejected", second)):
        if matrix.nnz and (matrix.data.min() < 0 or matrix.data.max() > 1):
            raise ValueError(f"{name} must hold shares in [0, 1], got {matrix.data.min()} to {matrix.data.max()}")
    return first, second


def _fires(frequencies: Csr, tau: float) -> Csr:
    keep = frequencies.data > frequencies.dtype.type(tau)
    before = np.concatenate([[0], np.cumsum(keep)])
    parts = (np.ones(int(before[-1]), np.int64), frequencies.indices[keep], before[frequencies.indptr])
    return Csr(parts, shape=frequencies.shape)


def _at_least(values: Csr, thresholds: Floats) -> Csr:
    keep = values.data >= thresholds[values.indices]
    before = np.concatenate([[0], np.cumsum(keep)])
    parts = (np.ones(int(before[-1]), np.int64), values.indices[keep], before[values.indptr])
    return Csr(parts, shape=values.shape)


def _pool(values: Csr, concepts: Csr | None) -> Csr:
    if concepts is None:
        return values
    return csr(values @ _checked(concepts, values.shape[1]).astype(np.float64))


def _checked(concepts: Csr, features: int) -> Csr:
    result = csr(concepts, name="concepts").astype(np.int64)
    if result.shape[0] != features:
        raise ValueError(f"concepts has {result.shape[0]} rows for {features} features")
    if result.nnz and not (result.data == 1).all():
        raise ValueError("concepts must be a 0/1 membership")
    return result


def _scale_columns(matrix: Csr, factors: Any) -> Csr:
    return Csr((matrix.data * factors[matrix.indices], matrix.indices, matrix.indptr), shape=matrix.shape)
