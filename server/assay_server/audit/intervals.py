"""How sure a mean disparity is: its interval, clustered by prompt, the unit that varies independently (METHOD.md §3.5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from assay_server.audit.matrices import Codes, Floats
from assay_server.audit.moments import Moments
from assay_server.audit.reason import Reason
from assay_server.audit.shared_prompts import mean_freedom

LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Intervals:
    """Mean disparities with bounds; arrays are [concepts]. Where nothing can be said the bounds are −1 and 1."""

    mean: Floats  # mean u over pairs
    se: Floats
    low: Floats
    high: Floats
    reason: Codes  # Reason


def mean_intervals(sums: Moments, *, level: float = LEVEL) -> Intervals:
    """Mean u with a prompt-clustered Student interval, cut to [−1, 1] (METHOD.md §3.5).

    Var = f · Σ_c (S_c − n_c·mean)² / n² over prompts (Liang and Zeger 1986), with the factor f and the degrees of freedom that
    their sizes give (`shared_prompts`): G/(G − 1) and G − 1 over G prompts of one size, and with one pair a prompt the textbook
    interval.

    Raises:
        ValueError: level is outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    sums = sums.closed()
    pairs, prompts, size = int(sums.pairs.sum()), sums.prompts, np.maximum(sums.sizes, 1)
    mean = sums.mean
    whole = sums.total / max(pairs, 1)
    spread = sums.prompt_squares - 2 * whole * sums.prompt_cross + whole**2 * sums.prompt_pairs_squared
    spread = np.where(spread <= 1e-13 * sums.prompt_squares, 0.0, spread)
    reason = np.where(spread == 0, Reason.CONSTANT, Reason.NONE).astype(np.uint8)
    if prompts == 1:
        reason[:] = Reason.ONE_PROMPT
    if pairs == 0:
        reason[:] = Reason.NO_PAIRS
    reason[sums.sizes == 0] = Reason.EMPTY_CONCEPT
    stands = reason == Reason.NONE
    factor, freedom = mean_freedom(pairs, sums.prompt_pairs_squared, sums.prompt_powers, prompts)
    se = np.where(stands, np.sqrt(spread * factor) / max(pairs, 1) / size, 0.0)
    width = np.where(stands, float(special.stdtrit(freedom, (1 + level) / 2)) * se, 2.0)
    return Intervals(mean, se, np.maximum(mean - width, -1.0), np.minimum(mean + width, 1.0), reason)
