"""Inside against outside: does a concept separate chosen from rejected more in this group of pairs than elsewhere?

METHOD.md §3.2 and §3.3 ([A]'s global and local views). Groups may overlap, and outside means every compared pair that is
not inside. All is computed from counts, sums and squares per half, so shards merge: to the bit for integer
disparities, to rounding for z-scored ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from assay_server.audit.matrices import Bools, Codes, Csr, Floats, Ints, added, csr, dense_product, squared_values
from assay_server.audit.moments import split_halves
from assay_server.audit.reason import Reason
from assay_server.audit.shared_prompts import SharedErrors, SharedPromptSums, shared_errors

MIN_SHIFT = 1e-6
LEVEL = 0.95
# A variance this small beside the mean square is rounding, left by subtracting one from the other.
_ROUNDING = 1e-13

Sums = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GroupMoments:
    """Per half (even and odd rows), over all compared pairs and over each group: counts, Σ value, Σ value²."""

    sizes: Ints  # [concepts] what values are divided by: t_m for numerators, 1 for values that are already means
    pairs: Ints  # [2]
    totals: Sums  # [2, concepts]
    squares: Sums  # [2, concepts]
    group_pairs: Ints  # [2, groups]
    group_totals: Sums  # [2, groups, concepts]
    group_squares: Sums  # [2, groups, concepts]


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Every group against its outside, for every concept: arrays are [groups, concepts] unless said."""

    delta: Floats  # mean inside − mean outside, in units of u
    se: Floats  # of delta: √(s²_in/n_in + s²_out/n_out), or its clustered form
    z: Floats  # delta / se (Welch)
    df: Floats  # Welch–Satterthwaite; 1 where not tested
    p: Floats  # two-sided, from Student's t
    low: Floats  # bounds of delta
    high: Floats
    d: Floats  # Cohen: delta / s_pooled
    consistent: Bools  # SC: both halves move by more than 1e-6 the same way
    delta_min: Floats  # min(|Δ_A|, |Δ_B|); 0 when a half has no inside or no outside
    inside: Ints  # [groups] n_k
    outside: Ints  # [groups]
    reason: Codes  # Reason


def groups_from_labels(labels: ArrayLike, groups: int) -> Csr:
    """The 0/1 array [pairs, groups] of a partition; label −1 is in no group.

    Raises:
        ValueError: a label lies outside −1..groups−1.
    """
    values = np.asarray(labels, np.int64)
    if values.size and (values.min() < -1 or values.max() >= groups):
        raise ValueError(f"labels must lie in -1..{groups - 1}, got {values.min()} to {values.max()}")
    rows = np.flatnonzero(values >= 0)
    return csr(Csr((np.ones(len(rows), np.int64), (rows, values[rows])), shape=(len(values), groups)))


def group_moments(
    values: Any,
    groups: Csr,
    sizes: ArrayLike | None = None,
    *,
    compared: ArrayLike | None = None,
    halves: ArrayLike | None = None,
) -> GroupMoments:
    """The sums of one shard.

    Args:
        values: disparity numerators (integers) or any finite values, CSR or dense [pairs, concepts].
        groups: 0/1 membership [pairs, groups], from the symmetric activity or the prompt, never from `values`.
        sizes: t_m, [concepts], when values are numerators; ones otherwise.
        compared: True for the pairs that take part, [pairs]; the silent bucket is left out of both sides (§3.2).
        halves: 0 or 1 per pair, [pairs]; by default the parity of its place.

    Raises:
        ValueError: shapes disagree, a value is not finite, or `groups` is not a 0/1 array.
    """
    matrix = csr(values, name="values")
    matrix = matrix.astype(np.int64 if np.issubdtype(matrix.dtype, np.integer) else np.float64)
    pairs, concepts = matrix.shape
    members = csr(groups, name="groups")
    if members.shape[0] != pairs or (members.nnz and not (members.data == 1).all()):
        raise ValueError(f"groups must be 0/1 with {pairs} rows, got shape {members.shape}")
    keep = np.ones(pairs, np.bool_) if compared is None else np.asarray(compared, np.bool_)
    size = np.ones(concepts, np.int64) if sizes is None else np.asarray(sizes, np.int64)
    if keep.shape != (pairs,) or size.shape != (concepts,):
        raise ValueError(f"compared must be [{pairs}] and sizes [{concepts}], got {keep.shape} and {size.shape}")
    side = split_halves(pairs, halves)
    parts = [_half_sums(matrix, members, keep & (side == half)) for half in (False, True)]
    stacked = [np.stack(column) for column in zip(*parts, strict=True)]
    return GroupMoments(size, *stacked)


def merge_group_moments(left: GroupMoments, right: GroupMoments) -> GroupMoments:
    """The sums of both shards: to the bit for integer values, in any order.

    Raises:
        ValueError: groups or concepts differ.
    """
    if left.group_totals.shape != right.group_totals.shape or not np.array_equal(left.sizes, right.sizes):
        raise ValueError("group moments of different groups or concepts do not merge")
    return added(left, right, sizes=left.sizes)


def contrasts(sums: GroupMoments, shared: SharedPromptSums | None = None, *, level: float = LEVEL) -> Contrasts:
    """Δ, Welch's z and p, Cohen's d and split-half consistency (METHOD.md §3.2, §3.3; [A]).

    A side of fewer than two pairs (or prompts), or two sides without variance, has no test: see `reason`; Δ is still
    reported where both sides hold a pair.

    Args:
        sums: merged over all shards.
        shared: of the same pairs; makes the error and its degrees of freedom those of prompts, not of pairs. Without it
            pairs of one prompt count as independent. With one pair a prompt it changes nothing.
        level: share that the intervals cover.

    Raises:
        ValueError: level is outside (0, 1), or `shared` is of other groups or concepts.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    sides = _compare(sums, slice(None))
    units_in, units_out, errors = _floored(*_errors(sides, sums, shared), sides, sums)
    square = errors.inside + errors.outside - 2 * errors.covariance
    square = np.where(square <= _ROUNDING * (errors.inside + errors.outside), 0.0, square)
    reason = np.where(square == 0, Reason.CONSTANT, Reason.NONE).astype(np.uint8)
    reason[(units_in < 2) | (units_out < 2)] = Reason.ONE_PROMPT
    reason[sides.n_out < 2] = Reason.FEW_OUTSIDE
    reason[sides.n_in < 2] = Reason.FEW_INSIDE
    reason[:, sums.sizes == 0] = Reason.EMPTY_CONCEPT
    stands, delta = reason == Reason.NONE, sides.delta
    se = np.sqrt(np.where(stands, square, 0.0))
    z = np.divide(delta, se, out=np.zeros_like(delta), where=stands)
    df = _welch_freedom(errors, stands)
    width = special.stdtrit(df, (1 + level) / 2) * se
    halves = half_deltas(sums)
    pooled = sides.pooled_variance
    return Contrasts(
        delta=delta,
        se=se,
        z=z,
        df=df,
        p=np.where(stands, np.minimum(1.0, 2 * special.stdtr(df, -np.abs(z))), 1.0),
        low=delta - width,
        high=delta + width,
        d=np.divide(delta, np.sqrt(pooled), out=np.zeros_like(delta), where=stands & (pooled > 0)),
        consistent=(np.abs(halves) > MIN_SHIFT).all(axis=0) & (np.sign(halves[0]) == np.sign(halves[1])),
        delta_min=np.abs(halves).min(axis=0),
        inside=sides.n_in,
        outside=sides.n_out,
        reason=reason,
    )


def half_deltas(sums: GroupMoments) -> Floats:
    """Δ within even and within odd rows, [2, groups, concepts]; 0 where a half has no inside or no outside."""
    return np.stack([_compare(sums, slice(half, half + 1)).delta for half in (0, 1)])


@dataclass(frozen=True, eq=False)
class _Sides:
    n_in: Ints  # [groups]
    n_out: Ints
    mean_in: Floats  # [groups, concepts], like all below
    mean_out: Floats
    var_in: Floats
    var_out: Floats

    @property
    def delta(self) -> Floats:
        both = ((self.n_in > 0) & (self.n_out > 0))[:, None]
        return np.where(both, self.mean_in - self.mean_out, 0.0)

    @property
    def pooled_variance(self) -> Floats:
        spread = (self.n_in - 1)[:, None] * self.var_in + (self.n_out - 1)[:, None] * self.var_out
        return spread / np.maximum(self.n_in + self.n_out - 2, 1)[:, None]


def _errors(sides: _Sides, sums: GroupMoments, shared: SharedPromptSums | None) -> tuple[Ints, Ints, SharedErrors]:
    """How many independent units each side has, and the squared errors of Δ."""
    if shared is None:
        inside = sides.var_in / np.maximum(sides.n_in, 1)[:, None]
        outside = sides.var_out / np.maximum(sides.n_out, 1)[:, None]
        free_in, free_out = (np.maximum(n - 1, 1).astype(np.float64) for n in (sides.n_in, sides.n_out))
        return sides.n_in, sides.n_out, SharedErrors(inside, outside, np.zeros_like(inside), free_in, free_out)
    if shared.aa.shape != sides.mean_in.shape:
        raise ValueError(f"shared prompts are of shape {shared.aa.shape} but groups and concepts of {sides.mean_in.shape}")
    size = np.maximum(sums.sizes, 1).astype(np.float64)
    raw = shared_errors(shared, sides.n_in, sides.n_out, sides.mean_in * size, sides.mean_out * size)
    inside, outside, covariance = (part / size / size for part in (raw.inside, raw.outside, raw.covariance))
    errors = SharedErrors(inside, outside, covariance, raw.freedom_in, raw.freedom_out)
    return shared.prompts_inside, shared.prompts_outside, errors


def _floored(
    units_in: Ints, units_out: Ints, errors: SharedErrors, sides: _Sides, sums: GroupMoments
) -> tuple[Ints, Ints, SharedErrors]:
    """Neither side's squared error below what the variance over all compared pairs gives for as many pairs.

    A side of few pairs on which a sparse concept never shows has no variance of its own, and its mean would count as known to be
    0: where a concept is preferred everywhere alike, every small group would then differ from the rest.
    """
    n_all, total, square = sums.pairs.sum(), sums.totals.sum(axis=0), sums.squares.sum(axis=0)
    size = np.maximum(sums.sizes, 1).astype(np.float64)
    variance = _mean_variance(np.asarray([n_all]), total, square, size)[1]
    n_in, n_out = (np.maximum(n, 1)[:, None].astype(np.float64) for n in (sides.n_in, sides.n_out))
    inside, outside = np.maximum(errors.inside, variance / n_in), np.maximum(errors.outside, variance / n_out)
    return units_in, units_out, replace(errors, inside=inside, outside=outside)


def _half_sums(matrix: Csr, members: Csr, keep: Bools) -> tuple[Any, ...]:
    rows = np.flatnonzero(keep)
    values, picked = Csr(matrix[rows]), Csr(members[rows]).astype(np.int64)
    squares = squared_values(values)
    sums = [np.asarray(part.sum(axis=0)).ravel() for part in (values, squares)]
    by_group = picked.T.tocsr()
    grouped = [dense_product(by_group, part) for part in (values, squares)]
    return np.int64(len(rows)), *sums, np.asarray(picked.sum(axis=0)).ravel(), *grouped


def _compare(sums: GroupMoments, part: slice) -> _Sides:
    """Both sides of every group, over the halves in `part`."""
    n_all, n_in = int(sums.pairs[part].sum()), sums.group_pairs[part].sum(axis=0)
    total_in, square_in = sums.group_totals[part].sum(axis=0), sums.group_squares[part].sum(axis=0)
    total_out, square_out = sums.totals[part].sum(axis=0) - total_in, sums.squares[part].sum(axis=0) - square_in
    size = np.maximum(sums.sizes, 1).astype(np.float64)
    mean_in, var_in = _mean_variance(n_in, total_in, square_in, size)
    mean_out, var_out = _mean_variance(n_all - n_in, total_out, square_out, size)
    return _Sides(n_in, n_all - n_in, mean_in, mean_out, var_in, var_out)


def _mean_variance(n: Ints, total: Any, square: Any, size: Floats) -> tuple[Floats, Floats]:
    count = np.maximum(n, 1).astype(np.float64)[:, None]
    mean = total / count
    spread = square - mean * total
    spread = np.where(spread <= _ROUNDING * np.abs(square), 0.0, spread)
    return mean / size, spread / np.maximum(count - 1, 1) / size / size


def _welch_freedom(errors: SharedErrors, stands: Bools) -> Floats:
    """Welch–Satterthwaite, over the degrees of freedom of each side."""
    part_in, part_out = errors.inside**2 / errors.freedom_in[:, None], errors.outside**2 / errors.freedom_out[:, None]
    whole = (errors.inside + errors.outside) ** 2
    return np.divide(whole, part_in + part_out, out=np.ones_like(whole), where=stands & (part_in + part_out > 0))
