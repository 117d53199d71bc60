"""Fixed bins for positive values, four to an octave: what is counted in them adds up to the bit in any order.

A bin is a float32's own exponent and the two leading bits of its fraction, so edges are exact (1, 1.25, 1.5, 1.75, 2, 2.5, ...)
and finding one costs a shift. The widest bin spans a factor of 1.25.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.matrices import Floats, Ints

OCTAVES = 32  # 2^-16 to 2^16; values beyond lie in the outermost bins
BINS = 4 * OCTAVES
_SHIFT, _LOWEST = 21, (127 - OCTAVES // 2) << 2

EDGES: NDArray[np.float32] = ((np.arange(BINS + 1, dtype=np.int32) + _LOWEST) << _SHIFT).view(np.float32)
"""Lower edges of all bins, then the upper edge of the last, [BINS + 1]."""

MIDDLES: Floats = np.sqrt(EDGES[:-1].astype(np.float64) * EDGES[1:])
"""Geometric middles, [BINS]."""


def bins_of(values: NDArray[np.floating]) -> Ints:
    """The bin of each value, all of them positive, [values] in 0..BINS − 1; values are rounded to float32 first."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32) >> _SHIFT
    return np.clip(bits - _LOWEST, 0, BINS - 1).astype(np.int64)
