"""Rows that show a concept and rows that do not, with the prompt of each.

Rows are vectors of one response each: mean residuals over its tokens [d_model], or pooled feature values [d_sae], dense or
CSR. Invariant: rows are finite float64 and every row has a class and a prompt, so functions of ``Examples`` need not check.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from assay_server.concepts.solvers import Rows, Vector, shape_of
from assay_server.concepts.splits import group_codes
from assay_server.errors import InvalidItem


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows that show the concept and rows that do not.

    Attributes:
        rows: float64 [n, d], dense or CSR.
        positive: which rows show the concept, bool [n].
        groups: a number per row, equal where the prompt is, int64 [n].
        pairs: number of pairs p; then row i < p is the chosen and row p + i the rejected side of pair i. 0: no pairs.
    """

    rows: Rows
    positive: NDArray[np.bool_]
    groups: NDArray[np.int64]
    pairs: int = 0


def text_examples(
    positive: Rows,
    negative: Rows,
    *,
    positive_prompts: Sequence[str] | None = None,
    negative_prompts: Sequence[str] | None = None,
) -> Examples:
    """Return examples from rows that show the concept [p, d] and rows that do not [q, d].

    Args:
        positive: dense or CSR, finite.
        negative: the same, of the same d.
        positive_prompts: the prompt (or its digest) of each positive row; None: every row is a prompt of its own.
        negative_prompts: the same for the negatives; a prompt on both lists is one prompt.

    Raises:
        InvalidItem: a value is not finite (NOT_FINITE).
    """
    rows = _stack(positive, negative)
    n_positive, n_negative = shape_of(positive)[0], shape_of(negative)[0]
    names = [*_names(positive_prompts, n_positive, "positive"), *_names(negative_prompts, n_negative, "negative")]
    return Examples(rows=rows, positive=np.arange(len(names)) < n_positive, groups=group_codes(names))


def pair_examples(chosen: Rows, rejected: Rows, *, prompts: Sequence[str] | None = None) -> Examples:
    """Return examples from pairs: chosen rows [p, d] show the concept, rejected rows [p, d] do not.

    Args:
        chosen: dense or CSR, finite; row i belongs to pair i.
        rejected: the same.
        prompts: the prompt (or its digest) of each pair; None: every pair is a prompt of its own.

    Raises:
        InvalidItem: a value is not finite (NOT_FINITE).
    """
    if chosen.shape != rejected.shape:
        raise ValueError(f"chosen {chosen.shape} and rejected {rejected.shape} are not the sides of the same pairs")
    n = shape_of(chosen)[0]
    names = _names(prompts, n, "pair")
    positive = np.arange(2 * n) < n
    return Examples(rows=_stack(chosen, rejected), positive=positive, groups=group_codes([*names, *names]), pairs=n)


def mean_row(rows: Rows) -> Vector:
    """Return the mean row [d] of rows [n, d], n >= 1."""
    return np.asarray(rows.mean(axis=0)).reshape(-1)


def root_mean_square(rows: Rows, *, about_mean: bool = False) -> float:
    """Return the root of the mean squared norm of rows [n, d], n >= 1, or of their distance from the mean row."""
    values = rows.data if isinstance(rows, sparse.csr_array) else rows
    if not about_mean:
        return float(np.sqrt(np.sum(values**2) / shape_of(rows)[0]))
    mean = mean_row(rows)
    if isinstance(rows, sparse.csr_array):
        # ‖x − m‖² over a row's entries, and m² where it has none: nothing is squared that then cancels.
        columns = rows.indices
        total = np.sum((values - mean[columns]) ** 2)
        absent = shape_of(rows)[0] - np.bincount(columns, minlength=len(mean))
        return float(np.sqrt((total + np.sum(absent * mean**2)) / shape_of(rows)[0]))
    return float(np.sqrt(np.sum((values - mean) ** 2) / shape_of(rows)[0]))


def _stack(first: Rows, second: Rows) -> Rows:
    if first.ndim != 2 or second.ndim != 2 or shape_of(first)[1] != shape_of(second)[1]:
        raise ValueError(f"rows {first.shape} and {second.shape} are not [n, d] of the same d")
    if isinstance(first, sparse.csr_array) and isinstance(second, sparse.csr_array):
        rows: Rows = sparse.csr_array(sparse.vstack([first, second], format="csr"), dtype=np.float64)
        rows.sum_duplicates()
        values = rows.data
    elif isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        rows = values = np.concatenate([first, second]).astype(np.float64)
    else:
        raise ValueError("one side is sparse and the other dense: give both the same way")
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise InvalidItem(
            f"{bad} of {values.size} values of the examples are not finite: the model overflowed; leave those texts out.",
            reason="NOT_FINITE",
            details={"not_finite": bad, "total": values.size},
        )
    return rows


def _names(prompts: Sequence[str] | None, n: int, what: str) -> list[str]:
    if prompts is None:
        return [f"{what} {i}" for i in range(n)]
    if len(prompts) != n:
        raise ValueError(f"{len(prompts)} prompts for {n} {what} rows")
    # A prefix keeps a caller's prompt from meeting a made-up name.
    return [f"prompt {prompt}" for prompt in prompts]
