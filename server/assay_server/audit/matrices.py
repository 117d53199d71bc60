"""The arrays that every module of the audit shares: their types, their checks, and sums of rows by prompt.

Pairs that share a prompt are not independent, so every variance here is built from sums over prompts. A prompt whose
pairs lie in several shards cannot be squared until all of them have arrived: `PromptSums` keeps such rows, and merges.
"""

# ruff: noqa: D102 - the typed view of csr_array restates methods that scipy documents.

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    class Csr:
        """What is used here of `scipy.sparse.csr_array`, which carries no types of its own."""

        data: NDArray[Any]
        indices: NDArray[Any]
        indptr: NDArray[Any]
        shape: tuple[int, int]
        dtype: np.dtype[Any]
        ndim: int
        nnz: int
        T: Csr

        def __init__(self, arg1: Any, shape: tuple[int, int] = ..., dtype: Any = ..., copy: bool = ...) -> None: ...
        def __matmul__(self, other: Any) -> Any: ...
        def __add__(self, other: Csr) -> Csr: ...
        def __sub__(self, other: Csr) -> Csr: ...
        def __getitem__(self, index: Any) -> Csr: ...
        def astype(self, dtype: Any) -> Csr: ...
        def multiply(self, other: Any) -> Csr: ...
        def sum(self, axis: int) -> Any: ...
        def toarray(self) -> NDArray[Any]: ...
        def tocsr(self) -> Csr: ...
        def sum_duplicates(self) -> None: ...
        def sort_indices(self) -> None: ...
        def eliminate_zeros(self) -> None: ...

else:
    Csr = sparse.csr_array

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Codes: TypeAlias = NDArray[np.uint8]
_Sums = TypeVar("_Sums", bound="DataclassInstance")


@dataclass(frozen=True, eq=False)
class PromptSums:
    """Rows summed over the pairs of each prompt; `ids` ascend and are distinct."""

    ids: Ints  # [prompts]
    pairs: Ints  # [prompts] n_c, the number of pairs of each prompt
    rows: Csr  # [prompts, columns] Σ over the prompt's pairs


def csr(matrix: Any, *, name: str = "matrix") -> Csr:
    """A canonical CSR array (sorted, no duplicates, no stored zeros) that shares nothing with `matrix`.

    Raises:
        ValueError: a value is NaN or infinite, or the array is not two-dimensional.
    """
    result = Csr(matrix, copy=True)
    if result.ndim != 2:
        raise ValueError(f"{name} must be two-dimensional, got {result.ndim} dimensions")
    if not np.isfinite(result.data).all():
        raise ValueError(f"{name} holds a NaN or an infinity")
    result.sum_duplicates()
    result.eliminate_zeros()
    return result


def prompt_ids(prompts: ArrayLike, pairs: int) -> Ints:
    """`prompts` as int64 [pairs].

    Raises:
        ValueError: it is not one integer per pair.
    """
    ids = np.asarray(prompts)
    if ids.shape != (pairs,) or (pairs and not np.issubdtype(ids.dtype, np.integer)):
        raise ValueError(f"prompts must be {pairs} integers, got shape {ids.shape} of {ids.dtype}")
    return ids.astype(np.int64)


def sum_by_prompt(values: Csr, prompts: Ints) -> PromptSums:
    """Sum the rows of `values` [pairs, columns] over the pairs of each prompt id in `prompts` [pairs]."""
    ids, inverse, pairs = np.unique(prompts, return_inverse=True, return_counts=True)
    rows = _gather(inverse, len(ids), values)
    return PromptSums(ids.astype(np.int64), pairs.astype(np.int64), rows)


def split_sums_by_prompt(values: Csr, prompts: ArrayLike, open_prompts: ArrayLike | None) -> tuple[PromptSums, PromptSums]:
    """Sums by prompt: of the prompts that other shards may hold too (`open_prompts`, None for none), and of the others.

    Raises:
        ValueError: see `prompt_ids`.
    """
    sums = sum_by_prompt(values, prompt_ids(prompts, values.shape[0]))
    shared = np.isin(sums.ids, np.asarray([] if open_prompts is None else open_prompts, np.int64))
    return _take(sums, np.flatnonzero(shared)), _take(sums, np.flatnonzero(~shared))


def merge_prompt_sums(left: PromptSums, right: PromptSums) -> PromptSums:
    """One row per prompt of either side: exact for integer rows, whatever the order of merging."""
    ids, inverse = np.unique(np.concatenate([left.ids, right.ids]), return_inverse=True)
    pairs = np.zeros(len(ids), np.int64)
    np.add.at(pairs, inverse, np.concatenate([left.pairs, right.pairs]))
    stacked = Csr(sparse.vstack([left.rows, right.rows], format="csr"))
    return PromptSums(ids.astype(np.int64), pairs, _gather(inverse, len(ids), stacked))


def no_prompts(columns: int, dtype: Any = np.int64) -> PromptSums:
    """The neutral element of `merge_prompt_sums`."""
    return PromptSums(np.zeros(0, np.int64), np.zeros(0, np.int64), Csr((0, columns), dtype=dtype))


def added(left: _Sums, right: _Sums, **other: Any) -> _Sums:
    """Two dataclasses of sums, added field by field, except for the fields in `other`, which are given."""
    names = [field.name for field in fields(left) if field.name not in other]
    return replace(left, **other, **{name: getattr(left, name) + getattr(right, name) for name in names})


def squared_values(matrix: Csr) -> Csr:
    """Every value squared."""
    return Csr((matrix.data**2, matrix.indices, matrix.indptr), shape=matrix.shape)


def scaled_rows(matrix: Csr, factors: NDArray[Any]) -> Csr:
    """Each row multiplied by its factor in `factors` [rows]."""
    return Csr((matrix.data * np.repeat(factors, np.diff(matrix.indptr)), matrix.indices, matrix.indptr), shape=matrix.shape)


def dense_product(left: Csr, right: Csr) -> NDArray[Any]:
    """left @ right as a dense array, by whichever product is cheaper."""
    filled = right.nnz > 0.1 * right.shape[0] * right.shape[1]
    return np.asarray(left @ right.toarray() if filled else (left @ right).toarray())


def dense_row(matrix: Any) -> Any:
    """A sum over one axis of a sparse array, flat and dense whatever scipy returned."""
    return np.asarray(matrix).ravel()


def _take(sums: PromptSums, index: NDArray[np.intp]) -> PromptSums:
    return PromptSums(sums.ids[index], sums.pairs[index], Csr(sums.rows[index]))


def _gather(inverse: NDArray[np.intp], groups: int, values: Csr) -> Csr:
    """Add row i of `values` to row inverse[i] of the result."""
    ones = np.ones(len(inverse), values.dtype)
    picks = Csr((ones, (inverse.ravel(), np.arange(len(inverse)))), shape=(groups, len(inverse)))
    summed = Csr(picks @ values)  # not shared and without duplicates: sorted in place
    summed.sort_indices()
    summed.eliminate_zeros()
    return summed
