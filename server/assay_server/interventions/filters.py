"""Which pairs a plan drops, flips or flags: the most telling share by s⁺ − s⁻ (METHOD.md §4, example filter and label flip).

Which end is taken follows from what is wanted. A pair whose chosen response scores higher (s⁺ − s⁻ > 0) teaches the concept, so
EXPLAIN_AWAY takes the largest s⁺ − s⁻ and AMPLIFY the largest s⁻ − s⁺. METHOD.md's table names "the top ρ by s⁻ − s⁺" for the
filter; taken literally beside EXPLAIN_AWAY that drops the pairs that teach *against* the concept and leaves more of it. Callers
who mean exactly that ask for ``RowOrder.OPPOSING``; ``tests/server/interventions/test_filters.py`` holds what each order does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay_server.interventions.types import Mode, RowOrder

Ints = NDArray[np.int64]


def default_order(mode: Mode) -> RowOrder:
    """The pairs that the mode is against: those that teach the concept, or those that teach against it."""
    return RowOrder.TEACHING if mode is Mode.EXPLAIN_AWAY else RowOrder.OPPOSING


def pick_rows(differences: ArrayLike, share: float, order: RowOrder) -> Ints:
    """The top share of pairs, ascending indices.

    Pairs on the wrong side of zero are never taken, however large the share: a pair that does not teach the concept is no
    evidence for dropping it. Ties at the border go to the earlier pair.

    Args:
        differences: s⁺ − s⁻ of each usable pair, [pairs].
        share: ρ in (0, 1]; of n pairs at most ⌈ρ n⌉ are taken.
        order: which end comes first.

    Raises:
        ValueError: the share is outside (0, 1], or a difference is not finite.
    """
    values = np.asarray(differences, np.float64)
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    if not np.isfinite(values).all():
        raise ValueError("differences must be finite")
    ranked = values if order is RowOrder.TEACHING else -values
    most = math.ceil(share * len(ranked) - 1e-9)
    first = np.argsort(-ranked, kind="stable")[:most]
    return np.sort(first[ranked[first] > 0]).astype(np.int64)
