"""Groups of pairs by what happens in them: spherical k-means on symmetric activity (METHOD.md §3.2).

Rows s_i/‖s_i‖ are grouped by cosine. Pairs with ‖s_i‖ under the 5th percentile, and pairs where nothing fires, go to a
silent bucket, label −1. Swapping chosen and rejected changes no s, so no grouping can favour a hypothesis. Every result
depends on the rows and the seed alone; ties go to the lower group. Rows stay sparse, and similarities exist for a block
of rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from assay_server.audit.matrices import Bools, Csr, Floats, Ints, csr
from assay_server.audit.reason import Reason
from assay_server.audit.watch import Check, go_on

GROUPS = 512
SILENT_PERCENTILE = 5.0
_BLOCK = 4_096
_SEED_ROWS = 32
_TOLERANCE = 1e-7
_DENSE = 0.03


@dataclass(frozen=True, eq=False)
class Grouping:
    """The group of each pair. Fewer groups than requested come of fewer distinct active pairs."""

    labels: Ints  # [pairs] 0..groups−1, or −1 for the silent bucket
    centroids: Floats  # [groups, concepts], unit length
    counts: Ints  # [groups] pairs in each
    silent_below: float  # the norm under which a pair is silent
    objective: float  # mean cosine of active pairs to their centroid
    steps: int
    converged: bool
    reason: Reason  # NO_PAIRS when nothing fires in any pair


def group_pairs(
    activity: Any,
    groups: int = GROUPS,
    *,
    seed: int = 0,
    max_steps: int = 50,
    silent_percentile: float = SILENT_PERCENTILE,
    check: Check = go_on,
) -> Grouping:
    """Spherical k-means by full passes (Dhillon and Modha 2001; METHOD.md §3.2; [A] has K = 512 for 260k pairs).

    Args:
        activity: s [pairs, concepts], CSR or dense, not negative.
        groups: K ≥ 1.
        seed: of the starting centroids.
        max_steps: passes over the rows at most.
        silent_percentile: of ‖s‖, in [0, 100).
        check: called between steps; may raise to stop.

    Raises:
        ValueError: an argument is out of range, or activity is negative or not finite.
    """
    rows, active, threshold = _prepared(activity, groups, silent_percentile)
    centroids = _start(rows, groups, np.random.default_rng(seed), check)
    nearest, cosine = assign(rows, centroids, check=check)
    objective, steps, converged = _mean(cosine), 0, len(centroids) == 0
    while not converged and steps < max_steps:
        steps += 1
        centroids = _recentred(rows, nearest, cosine, centroids)
        moved, cosine = assign(rows, centroids, check=check)
        better = _mean(cosine)
        converged = bool((moved == nearest).all()) or better - objective <= _TOLERANCE
        nearest, objective = moved, better
    return _grouping(active, nearest, centroids, threshold, objective, steps, converged)


def assign(rows: Csr, centroids: Floats, *, check: Check = go_on) -> tuple[Ints, Floats]:
    """The nearest centroid of each row and the cosine to it, [rows]; scaling a row changes only the cosine's scale."""
    nearest, cosine = np.zeros(rows.shape[0], np.int64), np.zeros(rows.shape[0])
    if not len(centroids):
        return nearest - 1, cosine
    columns = np.ascontiguousarray(centroids.T)
    # A dense product does an addition some thirty times faster than a sparse one.
    dense = rows.nnz > _DENSE * rows.shape[0] * rows.shape[1]
    for first in range(0, rows.shape[0], _BLOCK):
        check()
        part = rows[first : first + _BLOCK]
        similarity = np.asarray((part.toarray() if dense else part) @ columns)
        best = similarity.argmax(axis=1)
        nearest[first : first + _BLOCK] = best
        cosine[first : first + _BLOCK] = similarity[np.arange(len(best)), best]
    return nearest, cosine


def _prepared(activity: Any, groups: int, silent_percentile: float) -> tuple[Csr, Bools, float]:
    rows = csr(activity, name="activity").astype(np.float64)
    if groups < 1 or not 0 <= silent_percentile < 100:
        raise ValueError(f"groups must be positive and silent_percentile in [0, 100), got {groups}, {silent_percentile}")
    if rows.nnz and rows.data.min() < 0:
        raise ValueError(f"activity must not be negative, got {rows.data.min()}")
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    threshold = float(np.percentile(norms, silent_percentile)) if len(norms) else 0.0
    active = (norms >= threshold) & (norms > 0)
    kept = Csr(rows[np.flatnonzero(active)])
    scaled = kept.data / np.repeat(norms[active], np.diff(kept.indptr))
    return Csr((scaled, kept.indices, kept.indptr), shape=kept.shape), active, threshold


def _start(rows: Csr, groups: int, draws: np.random.Generator, check: Check) -> Floats:
    """k-means++ (Arthur and Vassilvitskii 2007) with 1 − cosine as the squared distance, on at most 32 rows per group."""
    count = rows.shape[0]
    if count > _SEED_ROWS * groups:
        rows = Csr(rows[np.sort(draws.choice(count, _SEED_ROWS * groups, replace=False))])
        count = rows.shape[0]
    chosen: list[int] = []
    distance = np.ones(count)
    while len(chosen) < min(groups, count) and distance.max(initial=0.0) > 1e-12:
        check()
        pick = int(draws.choice(count, p=distance / distance.sum()))
        chosen.append(pick)
        similarity = np.asarray(rows @ rows[[pick]].toarray().ravel())
        distance = np.minimum(distance, np.maximum(1.0 - similarity, 0.0))
        distance[distance < 1e-12] = 0.0
    return np.asarray(rows[np.asarray(chosen, np.int64)].toarray(), np.float64)


def _recentred(rows: Csr, nearest: Ints, cosine: Floats, centroids: Floats) -> Floats:
    """Mean directions; a group left empty restarts at a row that its own group fits worst."""
    sums = _sums(rows, nearest, len(centroids))
    empty = np.flatnonzero(np.bincount(nearest, minlength=len(centroids)) == 0)
    worst = np.argsort(cosine, kind="stable")[: len(empty)]
    sums[empty[: len(worst)]] = rows[worst].toarray()
    return _unit(sums)


def _sums(rows: Csr, nearest: Ints, groups: int) -> Floats:
    picks = Csr((np.ones(len(nearest)), (nearest, np.arange(len(nearest)))), shape=(groups, len(nearest)))
    return np.asarray((picks @ rows).toarray(), np.float64)


def _unit(sums: Floats) -> Floats:
    norms = np.sqrt(np.square(sums).sum(axis=1, keepdims=True))
    return sums / np.where(norms > 0, norms, 1.0)


def _mean(cosine: Floats) -> float:
    return float(cosine.mean()) if len(cosine) else 0.0


def _grouping(
    active: Bools, nearest: Ints, centroids: Floats, threshold: float, objective: float, steps: int, converged: bool
) -> Grouping:
    """Drop groups that ended empty, and number the others from the largest."""
    counts = np.bincount(nearest[nearest >= 0], minlength=len(centroids)).astype(np.int64)
    order = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
    rename = np.full(len(counts), -1, np.int64)
    rename[order] = np.arange(len(order))
    labels = np.full(len(active), -1, np.int64)
    labels[active] = rename[nearest]
    reason = Reason.NONE if len(order) else Reason.NO_PAIRS
    return Grouping(labels, centroids[order], counts[order], threshold, objective, steps, converged, reason)
