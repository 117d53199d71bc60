"""The positive control of a comparison: did the policy move at all? (METHOD.md §5)

From implicit-reward margins β((log p⁺ − ref⁺) − (log p⁻ − ref⁻)) of the trained policy on preference pairs: before training each
is 0, so their mean is 0 and the share over 0, ties counting half, is one half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from assay_server.audit.comparison.agreement import Estimate

FEWEST = 2


@dataclass(frozen=True, slots=True)
class Control:
    """See ``assay.v1.PositiveControl``."""

    pairs: int
    of: str
    margin: Estimate
    accuracy: Estimate

    @property
    def passed(self) -> bool:
        """Both intervals lie above what no training gives."""
        return self.margin.low > 0.0 and self.accuracy.low > 0.5


def positive_control(margins: ArrayLike, of: str = "", *, level: float = 0.95) -> Control:
    """Mean margin with Student's interval, and preference accuracy with Wilson's (Wilson 1927), pairs taken as independent.

    Args:
        margins: one per pair, finite, at least 2.
        of: what the pairs are, for people.
        level: share that intervals cover.

    Raises:
        ValueError: there are fewer than 2 margins, one is not finite, or the level is outside (0, 1).
    """
    values = np.asarray(margins, np.float64)
    if values.ndim != 1 or len(values) < FEWEST or not np.isfinite(values).all():
        raise ValueError(f"at least {FEWEST} finite margins are needed, got shape {values.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    pairs, mean = len(values), float(values.mean())
    width = float(special.stdtrit(pairs - 1, (1 + level) / 2)) * float(values.std(ddof=1)) / pairs**0.5
    right = float(((values > 0) + 0.5 * (values == 0)).mean())
    return Control(pairs, of, Estimate(mean, mean - width, mean + width), _wilson(right, pairs, level))


def _wilson(share: float, count: int, level: float) -> Estimate:
    z = float(special.ndtri((1 + level) / 2))
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    width = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return Estimate(share, max(0.0, middle - width), min(1.0, middle + width))
