"""Resampled prompts: what the scores of some findings would have been on other draws of the same prompts.

Prompts, not pairs, are independent, so prompts are what is drawn anew (Field and Welsh 2007, the cluster bootstrap). They are
dealt by a seed into at most 256 buckets of equal size, and a resample draws buckets with replacement. Of every bucket the sums of
the scores and of their products are kept, so a resample is a weighted sum: its cost depends on the findings, not on the pairs.
Squares are of prompts, never of buckets: buckets decide only what is drawn together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from assay_server.audit.draws import drawn_bits
from assay_server.audit.matrices import Csr, Floats, Ints, sum_by_prompt
from assay_server.audit.watch import Check, go_on

BUCKETS = 256
RESAMPLES = 200
_CHUNK = 8  # resamples whose products are in memory at once
_FLUSH = 1 << 15  # pairs that wait for their bucket
_BUCKET_STREAM, _DRAW_STREAM = 1 << 24, 1 << 25


@dataclass(frozen=True, eq=False)
class Scores:
    """z and correlations of some findings over one weighting of the prompts."""

    z: Floats  # [findings]
    correlation: Floats  # [findings, findings] of their prompts' scores


@dataclass(frozen=True, eq=False)
class BucketSums:
    """Sums over the prompts of each bucket, of rows that hold a column per finding and some that they are adjusted for."""

    totals: Floats  # [buckets, columns] sums of the rows
    products: NDArray[np.float32]  # [buckets, columns (columns + 1) / 2] upper triangles of their products


@dataclass(frozen=True, eq=False)
class Adjustment:
    """How a score is made of a row: row[findings] − slope · row[adjusted for], a deviation that sums to 0 over all prompts."""

    slope: Floats  # [findings, columns adjusted for]
    effect: Floats  # [findings] what scores are deviations of, as a sum over all prompts


def dealt(prompts: Ints, seed: int, buckets: int = BUCKETS) -> tuple[Ints, Ints]:
    """Distinct prompt ids, ascending, and the bucket of each: sizes differ by one at most, whatever the order of the pairs."""
    ids = np.unique(prompts)
    place = np.empty(len(ids), np.int64)
    place[np.argsort(drawn_bits(ids, _BUCKET_STREAM, seed), kind="stable")] = np.arange(len(ids))
    return ids, place % max(1, min(buckets, len(ids)))


def resample_weights(buckets: int, seed: int, resamples: int = RESAMPLES) -> Ints:
    """How often each bucket is drawn, [resamples, buckets]."""
    draws = np.random.default_rng([seed, _DRAW_STREAM])
    return draws.multinomial(buckets, np.full(buckets, 1.0 / buckets), size=resamples).astype(np.int64)


class BucketCollector:
    """Adds up rows block by block, for several sets of columns at once; prompts that blocks split are kept back."""

    def __init__(self, sets: Sequence[Ints], columns: int, prompts: Ints, open_prompts: Ints, seed: int) -> None:
        """Say what is summed.

        Args:
            sets: columns whose products with each other are wanted, ascending, one set per result.
            columns: of the rows.
            prompts: the prompt of every pair that will come.
            open_prompts: prompts whose pairs lie in more than one block.
            seed: of the buckets.
        """
        self._sets, self._open = sets, open_prompts
        self._ids, self._bucket = dealt(prompts, seed)
        buckets = int(self._bucket.max(initial=-1)) + 1
        self._totals = np.zeros((buckets, columns))
        self._products = [np.zeros((buckets, len(some) * (len(some) + 1) // 2), np.float32) for some in sets]
        self._waiting: list[tuple[Ints, Csr]] = []
        self._held: list[tuple[Ints, Csr]] = []

    def add(self, rows: Csr, prompts: Ints) -> None:
        """Count the rows of some pairs, float64 [pairs, columns]."""
        held = np.isin(prompts, self._open)
        if held.any():
            self._held.append((prompts[held], Csr(rows[np.flatnonzero(held)])))
        self._waiting.append((prompts[~held], Csr(rows[np.flatnonzero(~held)])))
        if sum(len(ids) for ids, _ in self._waiting) >= _FLUSH:
            self._flush()

    def finish(self) -> list[BucketSums]:
        """The sums of each set."""
        self._waiting += self._held
        self._held = []
        self._flush()
        return [BucketSums(self._totals[:, some], part) for some, part in zip(self._sets, self._products, strict=True)]

    def _flush(self) -> None:
        prompts = np.concatenate([part for part, _ in self._waiting])
        summed = sum_by_prompt(Csr(sparse.vstack([part for _, part in self._waiting], format="csr")), prompts)
        self._waiting, ids, rows = [], summed.ids, summed.rows
        bucket = self._bucket[np.searchsorted(self._ids, ids)]
        order = np.argsort(bucket, kind="stable")
        here, first = np.unique(bucket[order], return_index=True)
        edges = list(pairwise([*first.tolist(), len(ids)]))
        rows = Csr(rows[order])
        by_bucket = Csr((np.ones(len(ids)), np.arange(len(ids)), [*first.tolist(), len(ids)]), shape=(len(here), len(ids)))
        self._totals[here] += (by_bucket @ rows).toarray()
        for some, products in zip(self._sets, self._products, strict=True):
            upper = np.triu_indices(len(some))
            dense = Csr(rows[:, some]).astype(np.float32).toarray()
            for b, (start, stop) in zip(here.tolist(), edges, strict=True):
                part = dense[start:stop]
                products[b] += (part.T @ part)[upper]


def scores(sums: BucketSums, adjustment: Adjustment, weights: Ints, *, check: Check = go_on) -> Iterator[Scores]:
    """z and correlations for each weighting of the buckets.

    Args:
        sums: of every bucket.
        adjustment: of the findings; of all prompts, and not estimated again: the tests are orthogonal to it.
        weights: [weightings, buckets].
        check: called before every chunk; may raise to stop.
    """
    columns = sums.totals.shape[1]
    upper = np.triu_indices(columns)
    full = np.zeros((columns, columns))
    for first in range(0, len(weights), _CHUNK):
        check()
        some = weights[first : first + _CHUNK]
        products: Any = some.astype(np.float32) @ sums.products
        for total, product in zip(some @ sums.totals, products, strict=True):
            full[upper] = product
            full.T[upper] = product
            yield _scores(total, full, adjustment)


def _scores(total: Floats, product: Floats, adjustment: Adjustment) -> Scores:
    slope = adjustment.slope
    findings = len(slope)
    score = total[:findings] - slope @ total[findings:] + adjustment.effect
    cross = slope @ product[findings:, :findings]
    outer = product[:findings, :findings] - cross - cross.T + slope @ product[findings:, findings:] @ slope.T
    variance = np.maximum(outer.diagonal(), 0.0)
    known = variance > 1e-6 * np.maximum(product.diagonal()[:findings], 1e-300)
    size = np.where(known, np.sqrt(np.where(known, variance, 1.0)), np.inf)
    correlation = np.clip(outer / size[:, None] / size[None, :], -1.0, 1.0)
    np.fill_diagonal(correlation, 1.0)
    return Scores(score / size, correlation)
