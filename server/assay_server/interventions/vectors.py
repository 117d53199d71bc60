"""Directions and bases that a trainer puts into its model (METHOD.md §4, steering in training and ablation)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay_server.errors import InvalidItem

Floats = NDArray[np.float64]
INDEPENDENT = 1e-6  # singular values under this share of the largest are rounding


def unit(vector: ArrayLike) -> Floats:
    """The vector at unit length, [d_in] (METHOD.md §1: vectors are unit-normalised).

    Raises:
        InvalidItem: NO_DIRECTION: its length is 0 or not finite.
    """
    values = np.asarray(vector, np.float64)
    size = float(np.linalg.norm(values))
    if not (np.isfinite(size) and size > 0):
        raise InvalidItem(
            f"The concept's direction has length {size}; there is nothing to steer along.",
            reason="NO_DIRECTION",
            details={"length": size},
        )
    return values / size


def feature_direction(decoder_rows: ArrayLike, weights: ArrayLike) -> Floats:
    """Unit direction of weighted features: Σ_f w_f W_dec[f], normalised.

    Args:
        decoder_rows: W_dec of the features, [features, d_in].
        weights: w, [features].
    """
    return unit(np.asarray(weights, np.float64) @ np.asarray(decoder_rows, np.float64))


def ablation_basis(rows: ArrayLike, rank: int = 0) -> Floats:
    """Orthonormal columns Q [d_in, k] that span the rows, or their strongest ``rank`` principal directions (METHOD.md §4).

    Args:
        rows: directions or decoder rows, [n, d_in]; each counts at unit length, so that none is lost for being short.
        rank: columns at most; 0 for all that are independent.

    Raises:
        InvalidItem: NO_DIRECTION: no row has a length.
    """
    directions = np.asarray(rows, np.float64)
    sizes = np.linalg.norm(directions, axis=1)
    directions = directions[sizes > 0] / sizes[sizes > 0, None]
    if not len(directions):
        unit(np.zeros(1))
    _, strengths, right = np.linalg.svd(directions, full_matrices=False)
    independent = int((strengths > INDEPENDENT * strengths[0]).sum())
    basis = right[: min(independent, rank or independent)].T
    # A basis is free up to signs: the largest entry of each column is positive, so that equal inputs give equal bytes.
    flips = np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])])
    return np.ascontiguousarray(basis * flips)


def steer(residual: ArrayLike, direction: ArrayLike, coefficient: float) -> Floats:
    """h + coefficient · v (METHOD.md §4), v a unit vector [d_in]."""
    return np.asarray(residual, np.float64) + coefficient * np.asarray(direction, np.float64)
