"""Clusters of features that rise and fall together over pairs: truncated SVD of standardised columns, then mini-batch k-means.

METHOD.md §3.3 ([A]'s local view). A column is a feature's value over the pairs, standardised; the matrix Z of standardised
columns is never formed. Centring is implicit, and ZᵀZ meets only thin matrices, a block of pairs at a time, so that memory is
features × rank whatever the number of pairs (randomised subspace iteration: Halko, Martinsson and Tropp 2011).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from assay_server.audit.matrices import Bools, Csr, Floats, Ints, added
from assay_server.audit.watch import Check, go_on

OVERSAMPLING = 10
SVD_PASSES = 3
MAX_CLUSTERS = 256
# Mini-batches, restarts and passes of k-means.
_BATCH, _STARTS, _PASSES = 2_048, 3, 50


@dataclass(frozen=True, eq=False)
class ColumnSums:
    """Sums over pairs for every column; merge by adding."""

    pairs: int
    total: Floats  # [columns] Σ value
    square: Floats  # [columns] Σ value²
    absolute: Floats  # [columns] Σ |value|

    def __add__(self, other: ColumnSums) -> ColumnSums:
        return added(self, other)

    @property
    def mean(self) -> Floats:
        """Mean over pairs, zeros counted."""
        return self.total / max(self.pairs, 1)

    @property
    def sigma(self) -> Floats:
        """Standard deviation over pairs."""
        spread = self.square - self.total * self.mean
        return np.sqrt(np.where(spread <= 1e-12 * self.square, 0.0, spread) / max(self.pairs, 1))


def column_sums(values: Csr) -> ColumnSums:
    """The sums of one block, [pairs, columns]."""
    data = values.data.astype(np.float64)

    def by_column(weights: Floats) -> Floats:
        return np.bincount(values.indices, weights, values.shape[1]).astype(np.float64)

    return ColumnSums(values.shape[0], by_column(data), by_column(data**2), by_column(np.abs(data)))


class Subspace:
    """The strongest right singular vectors of a standardised matrix, by subspace iteration over blocks of its rows."""

    def __init__(self, sums: ColumnSums, kept: Bools, rank: int, seed: int) -> None:
        """Start from seeded Gaussian directions.

        Args:
            sums: of the same rows.
            kept: columns that take part, [columns]; their σ must be positive. The others count as zero.
            rank: directions wanted.
            seed: of the start.
        """
        columns, many = len(kept), int(kept.sum())
        self._scale = np.divide(1.0, sums.sigma, out=np.zeros(columns), where=kept)
        self._shift, self._rank = sums.mean * self._scale, min(rank, many)
        width = min(self._rank + OVERSAMPLING, many)
        start = np.random.default_rng(seed).standard_normal((columns, width)) * kept[:, None]
        self._begin(np.linalg.qr(start)[0])

    def add(self, values: Csr) -> None:
        """Add ZᵀZ·basis of one block of rows, [pairs, columns]: in float32, ample for clusters, but added up in float64."""
        thin = values.astype(np.float32)
        ahead = np.asarray(thin @ self._scaled) - self._offset
        self._back += np.asarray(thin.T.tocsr() @ ahead)
        self._ahead += ahead.sum(axis=0, dtype=np.float64)

    def turn(self) -> None:
        """End a pass: what was reached spans the next basis."""
        self._begin(np.linalg.qr(self._reached)[0])

    @property
    def _reached(self) -> Floats:
        """ZᵀZ·basis of the rows so far."""
        return self._back * self._scale[:, None] - self._shift[:, None] * self._ahead

    def _begin(self, basis: Floats) -> None:
        self._basis, self._back, self._ahead = basis, np.zeros_like(basis), np.zeros(basis.shape[1])
        self._scaled = (basis * self._scale[:, None]).astype(np.float32)
        self._offset = (self._shift @ basis).astype(np.float32)

    def embedding(self) -> Floats:
        """End the last pass: each column's coordinates V·diag(singular value), [columns, rank] (Rayleigh–Ritz)."""
        small = self._basis.T @ self._reached
        values, vectors = np.linalg.eigh((small + small.T) / 2)
        strongest = np.argsort(-values, kind="stable")[: self._rank]
        return (self._basis @ vectors[:, strongest]) * np.sqrt(np.maximum(values[strongest], 0.0))


def cluster_features(embedding: Floats, clusters: int, seed: int, *, check: Check = go_on) -> tuple[Ints, ...]:
    """Clusters of rows of an embedding by direction: row numbers, those nearest the centre first; largest cluster first.

    Args:
        embedding: [features, rank]; rows that are zero are in no cluster.
        clusters: how many; 0 takes the square root of the number of features, at most 256. Empty clusters are left out.
        seed: of k-means.
        check: called after each mini-batch; may raise to stop.
    """
    check()
    norms = np.sqrt(np.square(embedding).sum(axis=1))
    telling = np.flatnonzero(norms > 1e-9 * norms.max(initial=0.0)) if len(norms) else np.zeros(0, np.int64)
    if not len(telling):
        return ()
    rows = embedding[telling] / norms[telling, None]
    wanted = min(clusters or min(MAX_CLUSTERS, max(2, round(len(rows) ** 0.5))), len(rows))
    settings: dict[str, Any] = {"batch_size": _BATCH, "n_init": _STARTS, "max_iter": _PASSES}
    means = _watched_k_means(check)(wanted, random_state=seed % 2**32, **settings)
    # One thread: the order in which threads add up is not fixed, and with it the last bits are not.
    with threadpool_limits(1, user_api="openmp"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        label = np.asarray(means.fit(rows).labels_, np.int64)
    nearness = (rows * np.asarray(means.cluster_centers_)[label]).sum(axis=1)
    groups = [np.flatnonzero(label == k) for k in range(wanted)]
    groups = [telling[group[np.argsort(-nearness[group], kind="stable")]] for group in groups if len(group)]
    return tuple(groups[k] for k in np.argsort([-len(group) for group in groups], kind="stable"))


def _watched_k_means(check: Check) -> Any:
    """The class of scikit-learn's mini-batch k-means that asks between mini-batches, where it looks for convergence.

    The library has no public place for that. Should a later one look elsewhere, the fit is the same and ends when it ends;
    a test would say so.
    """
    from sklearn.cluster import MiniBatchKMeans

    class Watched(MiniBatchKMeans):
        def _mini_batch_convergence(
            self, step: Any, n_steps: Any, n_samples: Any, centers_squared_diff: Any, batch_inertia: Any
        ) -> Any:
            check()
            looked: Any = super()._mini_batch_convergence
            return looked(step, n_steps, n_samples, centers_squared_diff, batch_inertia)

    return Watched


def response_filter(sums: ColumnSums, firings: Ints, min_firings: int) -> Bools:
    """[A]'s filters on response deltas: fires in enough pairs, σ ≥ 1e-3, mean |D| ≥ 1e-4 (METHOD.md §3.3)."""
    return (firings >= min_firings) & (sums.sigma >= 1e-3) & (sums.absolute >= 1e-4 * max(sums.pairs, 1))


def prompt_filter(sums: ColumnSums, firings: Ints, min_firings: int) -> Bools:
    """Fires in enough prompts, and not alike in all of them."""
    return (firings >= min_firings) & (sums.sigma > 0)
