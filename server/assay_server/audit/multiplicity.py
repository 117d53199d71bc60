"""Correction for multiple testing: q-values over everything tested in one view (METHOD.md §3.5)."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from assay_server.audit.matrices import Bools, Floats


class Procedure(StrEnum):
    """Which false discovery rate procedure: BH under positive dependence, BY under any."""

    BENJAMINI_HOCHBERG = "bh"
    BENJAMINI_YEKUTIELI = "by"


def q_values(
    p: ArrayLike,
    procedure: Procedure = Procedure.BENJAMINI_HOCHBERG,
    *,
    tested: ArrayLike | None = None,
    families: ArrayLike | None = None,
) -> Floats:
    """The smallest false discovery rate at which each hypothesis is found, in the shape of `p`.

    Benjamini and Hochberg 1995; Benjamini and Yekutieli 2001 (METHOD.md §3.5).

    Args:
        p: p-values in [0, 1], any shape.
        procedure: which of the two.
        tested: where a test was made, in the shape of `p`; elsewhere q is 1 and nothing is counted. What is tested
            must be decided without looking at p.
        families: a code per test, in the shape of `p`: equal codes are corrected together, others apart. All together by default.

    Raises:
        ValueError: a p-value is NaN or outside [0, 1], or the shapes differ.
    """
    values = np.asarray(p, np.float64)
    mask: Bools = np.ones(values.shape, np.bool_) if tested is None else np.asarray(tested, np.bool_)
    if mask.shape != values.shape:
        raise ValueError(f"tested has shape {mask.shape} but p {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("p-values must lie in [0, 1] and none may be NaN")
    codes = np.zeros(values.shape, np.int64) if families is None else np.asarray(families, np.int64)
    if codes.shape != values.shape:
        raise ValueError(f"families has shape {codes.shape} but p {values.shape}")
    result = np.ones(values.shape)
    for code in np.unique(codes[mask]):
        here = mask & (codes == code)
        result[here] = stats.false_discovery_control(values[here], method=procedure.value)
    return result
