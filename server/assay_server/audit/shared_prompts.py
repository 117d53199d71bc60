"""The variance of an inside/outside difference when pairs share prompts (beyond METHOD.md §3.2, required by its §3.5).

Welch's error takes pairs as independent. Here the unit is the prompt: with x_c and y_c the centred sums of prompt c inside
and outside over n_in and n_out, the variance of Δ is Σ x_c² + Σ y_c² − 2 Σ x_c y_c, each side with its small-sample factor.
Shards merge to the bit for integer values, provided that no shard splits a prompt.

Prompts differ in size, and a few large ones are fewer independent draws than they look. With w_c the share of a side's pairs
that prompt c holds and W_k = Σ w_c^k, let pairs of a prompt share one effect of unit variance, the least favourable case: the
centred sums are R η with R = diag(w)(I − 1 wᵀ), and with C = R Rᵀ

    E Σ x_c² = tr C = W₂ − 2 W₃ + W₂²,    Var(mean) = W₂,
    ‖C‖² = W₂⁴ + 2 W₂ W₄ − 4 W₂² W₃ + 2 W₃² + W₄ (1 + 2 W₂) − 4 W₅,

so the factor W₂ / tr C makes the squared error unbiased, and Satterthwaite's degrees of freedom are (tr C)² / ‖C‖² (Bell and
McCaffrey 2002, with this working model in place of independent pairs). Where prompts are of one size these are G/(G − 1) and
G − 1 over G prompts; with one pair a prompt it is Welch's test, exactly. Where pairs of a prompt are independent it errs
towards caution. With ten to thirty prompts of very unequal sizes, G/(G − 1) and G − 1 would call up to a fifth of true nulls p
≤ 0.05 (docs/statistics.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay_server.audit.matrices import (
    Csr,
    Floats,
    Ints,
    added,
    csr,
    dense_product,
    dense_row,
    prompt_ids,
    squared_values,
    sum_by_prompt,
)

# Of prompt sizes, beside Σ n and Σ n². As floats: the fifth power of a prompt of ten thousand pairs would pass 63 bits.
_POWERS = (3, 4, 5)


@dataclass(frozen=True, eq=False)
class SharedPromptSums:
    """Sums over prompts. A, a: a prompt's value sum and pair count inside a group; T, t: over all its compared pairs."""

    aa: NDArray[Any]  # [groups, concepts] Σ A²
    at: NDArray[Any]  # [groups, concepts] Σ A·T
    a_inside: NDArray[Any]  # [groups, concepts] Σ A·a
    a_pairs: NDArray[Any]  # [groups, concepts] Σ A·t
    t_inside: NDArray[Any]  # [groups, concepts] Σ T·a
    tt: NDArray[Any]  # [concepts] Σ T²
    t_pairs: NDArray[Any]  # [concepts] Σ T·t
    inside_squared: Ints  # [groups] Σ a²
    inside_pairs: Ints  # [groups] Σ a·t
    pairs_squared: Ints  # scalar Σ t²
    prompts_inside: Ints  # [groups] prompts with a pair inside
    prompts_outside: Ints  # [groups] prompts with a pair outside
    inside_powers: Floats  # [3, groups] Σ a³, Σ a⁴, Σ a⁵
    outside_powers: Floats  # [3, groups] the same of b = t − a


@dataclass(frozen=True, eq=False)
class SharedErrors:
    """What Δ's variance is made of, [groups, concepts], in the squared units of the values, and how sure each side's part is."""

    inside: Floats
    outside: Floats
    covariance: Floats  # between the two means
    freedom_in: Floats  # [groups] degrees of freedom of `inside`
    freedom_out: Floats


def shared_prompt_sums(values: Any, groups: Csr, prompts: ArrayLike, *, compared: ArrayLike | None = None) -> SharedPromptSums:
    """The sums of one shard, which holds every pair of each of its prompts.

    Args:
        values: as in `group_moments`, CSR or dense [pairs, concepts].
        groups: 0/1 membership [pairs, groups].
        prompts: an integer id per pair, [pairs].
        compared: True for the pairs that take part, [pairs].

    Raises:
        ValueError: shapes disagree, or a value is not finite.
    """
    matrix, members = csr(values, name="values"), csr(groups, name="groups").astype(np.int64)
    dtype = np.dtype(np.int64 if np.issubdtype(matrix.dtype, np.integer) else np.float64)
    pairs = matrix.shape[0]
    ids = prompt_ids(prompts, pairs)
    mask = np.ones(pairs, np.bool_) if compared is None else np.asarray(compared, np.bool_)
    if members.shape[0] != pairs or mask.shape != (pairs,):
        raise ValueError(f"groups and compared must have {pairs} rows, got {members.shape[0]} and {mask.shape}")
    _, inverse, counts = np.unique(ids[mask], return_inverse=True, return_counts=True)
    alone = np.zeros(pairs, np.bool_)
    alone[mask] = counts[np.ravel(inverse)] == 1
    shared = mask & ~alone
    single, several = np.flatnonzero(alone), np.flatnonzero(shared)
    own = _single_sums(Csr(matrix[single]).astype(dtype), Csr(members[single]))
    if not len(several):
        return own
    return merge_shared_prompt_sums(own, _several_sums(Csr(matrix[several]).astype(dtype), Csr(members[several]), ids[several]))


def _single_sums(matrix: Csr, members: Csr) -> SharedPromptSums:
    """Of prompts with one compared pair, whose sums over prompts are sums over pairs."""
    by_group = members.T.tocsr().astype(matrix.dtype)
    inside, squared = (dense_product(by_group, part) for part in (matrix, squared_values(matrix)))
    held, pairs = dense_row(members.sum(axis=0)).astype(np.int64), matrix.shape[0]
    return SharedPromptSums(
        aa=squared,
        at=squared,
        a_inside=inside,
        a_pairs=inside,
        t_inside=inside,
        tt=dense_row(squared_values(matrix).sum(axis=0)),
        t_pairs=dense_row(matrix.sum(axis=0)),
        inside_squared=held,
        inside_pairs=held,
        pairs_squared=np.asarray(pairs, np.int64),
        prompts_inside=held,
        prompts_outside=pairs - held,
        inside_powers=np.tile(held.astype(np.float64), (len(_POWERS), 1)),
        outside_powers=np.tile((pairs - held).astype(np.float64), (len(_POWERS), 1)),
    )


def _several_sums(matrix: Csr, members: Csr, ids: Ints) -> SharedPromptSums:
    """Of prompts with any number of pairs."""
    dtype = matrix.dtype
    whole, count = sum_by_prompt(matrix, ids), sum_by_prompt(members, ids).rows
    total, size, n_groups = whole.rows, whole.pairs, members.shape[1]
    pair_of, group_of = np.repeat(np.arange(len(ids)), np.diff(members.indptr)), members.indices.astype(np.int64)
    cells, cell = np.unique(np.searchsorted(whole.ids, ids)[pair_of] * n_groups + group_of, return_inverse=True)
    inside = sum_by_prompt(Csr(matrix[pair_of]), np.asarray(cell, np.int64).ravel()).rows
    prompt, group = cells // max(n_groups, 1), cells % max(n_groups, 1)
    n_inside = np.bincount(np.asarray(cell).ravel(), minlength=len(cells)).astype(np.int64)

    def by_group(rows: Csr, weights: Ints | None = None) -> NDArray[Any]:
        picked = np.ones(len(cells), dtype) if weights is None else weights.astype(dtype)
        return np.asarray((Csr((picked, (group, np.arange(len(cells)))), shape=(n_groups, len(cells))) @ rows).toarray())

    def powers(counts: Ints) -> Floats:
        sums = [np.bincount(group, counts.astype(np.float64) ** k, n_groups) for k in _POWERS]
        return np.stack(sums).astype(np.float64)

    full = np.bincount(group[n_inside == size[prompt]], minlength=n_groups)
    everywhere = np.array([[(size.astype(np.float64) ** k).sum()] for k in _POWERS])
    return SharedPromptSums(
        aa=by_group(squared_values(inside)),
        at=by_group(Csr(inside.multiply(total[prompt]))),
        a_inside=by_group(inside, n_inside),
        a_pairs=by_group(inside, size[prompt]),
        t_inside=np.asarray((Csr(count.T).astype(dtype) @ total).toarray()),
        tt=dense_row(squared_values(total).sum(axis=0)),
        t_pairs=np.asarray(total.T @ size.astype(dtype)),
        inside_squared=dense_row(squared_values(count).sum(axis=0)).astype(np.int64),
        inside_pairs=np.asarray(count.T @ size, np.int64),
        pairs_squared=np.asarray((size**2).sum(), np.int64),
        prompts_inside=np.bincount(group, minlength=n_groups).astype(np.int64),
        prompts_outside=(len(size) - full).astype(np.int64),
        inside_powers=powers(n_inside),
        outside_powers=everywhere - powers(size[prompt]) + powers(size[prompt] - n_inside),
    )


def merge_shared_prompt_sums(left: SharedPromptSums, right: SharedPromptSums) -> SharedPromptSums:
    """The sums of both shards, which share no prompt: to the bit for integer values.

    Raises:
        ValueError: groups or concepts differ.
    """
    if left.aa.shape != right.aa.shape:
        raise ValueError("sums of different groups or concepts do not merge")
    return added(left, right)


def shared_errors(sums: SharedPromptSums, n_in: Ints, n_out: Ints, mean_in: Floats, mean_out: Floats) -> SharedErrors:
    """Squared errors of both means and their covariance, clustered by prompt (Liang and Zeger 1986), see the module.

    Args:
        sums: merged over all shards.
        n_in: pairs inside each group, [groups].
        n_out: pairs outside, [groups].
        mean_in: mean value inside, [groups, concepts].
        mean_out: mean value outside.
    """
    squared_out = sums.pairs_squared - 2 * sums.inside_pairs + sums.inside_squared
    factor_in, freedom_in = _small_sample(n_in, sums.inside_squared, sums.inside_powers, sums.prompts_inside)
    factor_out, freedom_out = _small_sample(n_out, squared_out, sums.outside_powers, sums.prompts_outside)
    weigh_in = (np.sqrt(factor_in) / np.maximum(n_in, 1))[:, None]
    weigh_out = (np.sqrt(factor_out) / np.maximum(n_out, 1))[:, None]
    aa, ab, bb = sums.aa, sums.at - sums.aa, sums.tt - 2 * sums.at + sums.aa
    a_out, b_in = sums.a_pairs - sums.a_inside, sums.t_inside - sums.a_inside
    b_out = sums.t_pairs - sums.t_inside - a_out
    in_in, in_out = sums.inside_squared[:, None], (sums.inside_pairs - sums.inside_squared)[:, None]
    out_out = squared_out[:, None]
    inside = aa - 2 * mean_in * sums.a_inside + mean_in**2 * in_in
    outside = bb - 2 * mean_out * b_out + mean_out**2 * out_out
    both = ab - mean_in * b_in - mean_out * a_out + mean_in * mean_out * in_out
    inside, outside = (np.where(part <= 1e-13 * np.abs(top), 0.0, part) for part, top in ((inside, aa), (outside, bb)))
    return SharedErrors(inside * weigh_in**2, outside * weigh_out**2, both * weigh_in * weigh_out, freedom_in, freedom_out)


def side_freedom(sizes: ArrayLike) -> tuple[float, float]:
    """The factor of a mean's squared error, clustered by prompt, and its degrees of freedom, see the module; 1 and 1 under two
    prompts.

    Args:
        sizes: pairs of each prompt, [prompts].
    """
    n = np.asarray(sizes, np.float64)
    return mean_freedom(int(n.sum()), int((n**2).sum()), size_powers(n), len(n))


def size_powers(sizes: ArrayLike) -> Floats:
    """Σ n³, Σ n⁴ and Σ n⁵ over prompts of n pairs, [3]: with Σ n and Σ n², what `mean_freedom` needs; it adds up over shards."""
    n = np.asarray(sizes, np.float64)
    return np.array([(n**k).sum() for k in _POWERS])


def mean_freedom(pairs: int, squared: int, powers: Floats, prompts: int) -> tuple[float, float]:
    """`side_freedom` from sums.

    Args:
        pairs: Σ n.
        squared: Σ n².
        powers: see `size_powers`.
        prompts: how many there are.
    """
    sums = np.array([pairs]), np.array([squared]), powers[:, None], np.array([prompts])
    factor, freedom = _small_sample(*sums)
    return float(factor[0]), float(freedom[0])


def _small_sample(pairs: Ints, squared: Ints, powers: Floats, prompts: Ints) -> tuple[Floats, Floats]:
    """The factor of a side's squared error and its degrees of freedom, [groups] each; 1 and 1 under two prompts.

    Args:
        pairs: on this side, [groups].
        squared: Σ n_c² over its prompts, [groups].
        powers: Σ n_c³, Σ n_c⁴, Σ n_c⁵, [3, groups].
        prompts: with a pair on this side, [groups].
    """
    n, several = np.maximum(pairs, 1).astype(np.float64), prompts > 1
    w2, (w3, w4, w5) = squared / n**2, (power / n**k for k, power in zip(_POWERS, powers, strict=True))
    trace = w2 - 2 * w3 + w2**2
    norm = w2**4 + 2 * w2 * w4 - 4 * w2**2 * w3 + 2 * w3**2 + w4 * (1 + 2 * w2) - 4 * w5
    factor = np.divide(w2, trace, out=np.ones_like(w2), where=several & (trace > 0))
    freedom = np.divide(trace**2, norm, out=np.ones_like(w2), where=several & (norm > 0))
    # C has rank G − 1 at most and is positive: between these bounds lies what rounding leaves outside.
    return factor, np.minimum(np.maximum(freedom, 1.0), np.maximum(prompts - 1, 1).astype(np.float64))
