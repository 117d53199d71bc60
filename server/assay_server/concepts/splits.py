"""Which examples are fitted on, and which are held out to measure on.

Invariants:
- A group (all examples of one prompt) is never on both sides, nor in two folds.
- Groups are drawn within their kind (positives only, negatives only, both), so the classes keep their shares.
- The split depends on the seed and on the groups' names, not on the order of the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_server.errors import InvalidItem

Labels = NDArray[np.bool_]
Groups = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of both parts, int64, ascending; together every row once."""

    fit: NDArray[np.int64]
    held_out: NDArray[np.int64]


def group_codes(names: Sequence[str] | Sequence[int]) -> Groups:
    """Return a number per row, equal exactly where the names are, int64 [n]; numbers follow the names' own order."""
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64).reshape(-1)


def split_groups(positive: Labels, groups: Groups, *, share: float, minimum: int, seed: int) -> Split:
    """Hold out about ``share`` of the examples, whole groups at a time.

    Args:
        positive: class of each row, bool [n].
        groups: group of each row, int64 [n].
        share: part of the examples to hold out, in (0, 1); met within one group of each kind.
        minimum: examples that each class must have on each side, >= 1.
        seed: of the draw.

    Raises:
        InvalidItem: a class has fewer than ``minimum`` examples on a side (TOO_FEW_EXAMPLES, naming all the counts).
    """
    if not 0 < share < 1 or minimum < 1:
        raise ValueError(f"share {share} is not in (0, 1), or minimum {minimum} is under 1")
    held = np.zeros(len(positive), dtype=np.bool_)
    for kind in _kinds(positive, groups, seed):
        sizes = np.array([len(rows) for rows in kind], dtype=np.int64)
        # Take groups while that brings the held-out part nearer to its share; leave one on each side where two exist.
        taken = int(np.count_nonzero(np.cumsum(sizes) - sizes / 2 <= share * sizes.sum()))
        taken = min(max(taken, 1), len(kind) - 1)
        for rows in kind[:taken]:
            held[rows] = True
    split = Split(np.flatnonzero(~held).astype(np.int64), np.flatnonzero(held).astype(np.int64))
    _require(positive, groups, split, minimum)
    return split


def fold_groups(positive: Labels, groups: Groups, *, folds: int, seed: int) -> NDArray[np.int64]:
    """Deal the groups into folds; return the fold of each row, int64 [n] in [0, folds).

    Each kind is dealt biggest group first to the fold that has the fewest rows of that kind.
    """
    fold = np.zeros(len(positive), dtype=np.int64)
    for kind in _kinds(positive, groups, seed):
        load = np.zeros(folds, dtype=np.int64)
        for rows in sorted(kind, key=len, reverse=True):
            lightest = int(np.argmin(load))
            fold[rows] = lightest
            load[lightest] += len(rows)
    return fold


def _kinds(positive: Labels, groups: Groups, seed: int) -> list[list[NDArray[np.int64]]]:
    """Rows of each group, shuffled, by kind of group."""
    generator = np.random.default_rng(seed)
    order = np.argsort(groups, kind="stable").astype(np.int64)
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    members = np.split(order, starts) if len(order) else []
    kinds: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for rows in members:
        share = positive[rows].mean()
        kinds[0 if share == 0 else 1 if share == 1 else 2].append(rows)
    return [[kind[i] for i in generator.permutation(len(kind))] for kind in kinds if kind]


def _require(positive: Labels, groups: Groups, split: Split, minimum: int) -> None:
    counts = {
        f"{side}_{name}": int(np.count_nonzero(positive[rows] == wanted))
        for side, rows in (("fit", split.fit), ("held_out", split.held_out))
        for name, wanted in (("positive", True), ("negative", False))
    }
    if min(counts.values()) >= minimum:
        return
    n_positive = int(np.count_nonzero(positive))
    n_groups = len(np.unique(groups))
    raise InvalidItem(
        f"{n_positive} positive and {len(positive) - n_positive} negative examples in {n_groups} prompts leave "
        f"{counts['fit_positive']} + {counts['fit_negative']} to fit on and {counts['held_out_positive']} + "
        f"{counts['held_out_negative']} to report on, where each needs {minimum}: give more examples of more prompts.",
        reason="TOO_FEW_EXAMPLES",
        details={
            "positive": n_positive,
            "negative": len(positive) - n_positive,
            "prompts": n_groups,
            "needed": minimum,
            **counts,
        },
    )
