"""How well length and other nuisance differences alone predict which response was chosen.

METHOD.md §3.5: P(chosen ≻ rejected) = σ(γ·x_i), fitted once on nuisance differences x (chosen minus rejected), with no
intercept, because swapping the two responses must negate the log-odds. A fit that does not exist (the differences
decide every preference) is recognised by a linear programme, not by a number that grew too large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from assay_server.audit.matrices import Floats
from assay_server.audit.reason import Reason

_TOLERANCE = 1e-12
_MAX_STEPS = 100
_FLAT = 1e-12
_SUSPECT_MARGIN = 12.0


@dataclass(frozen=True, eq=False)
class NuisanceFit:
    """The fitted log-odds of the label as given, per unit of each nuisance difference."""

    gamma: Floats  # [nuisances]; 0 when `reason` says that there is no fit
    rank: int  # independent nuisance columns; 0 when all differences are zero
    steps: int  # Newton steps taken
    reason: Reason  # NONE, NO_PAIRS, SEPARATED or NOT_CONVERGED

    def residuals(self, nuisance: Floats) -> Floats:
        """r_i = 1 − σ(γ·x_i), [pairs]: what the nuisance leaves of each preference."""
        return special.expit(-(nuisance @ self.gamma))


def nuisance_array(nuisance: ArrayLike) -> Floats:
    """`nuisance` as float64 [pairs, nuisances]; one column may come flat.

    Raises:
        ValueError: a value is NaN or infinite, or the array has more than two dimensions.
    """
    x = np.asarray(nuisance, np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"nuisance must be finite and [pairs, nuisances], got shape {x.shape}")
    return x


def fit_nuisance(nuisance: ArrayLike) -> NuisanceFit:
    """Maximum likelihood of Π σ(γ·x_i) by damped Newton steps (METHOD.md §3.5).

    Columns may be zero or collinear: the shortest γ (in units of each column's root mean square) is taken. A label in
    conflict is one with γ·x_i < 0; when some γ has no conflict and at least one strict agreement, no maximum exists
    and the fit says SEPARATED.

    Args:
        nuisance: x, chosen minus rejected, [pairs, nuisances] in any units.

    Raises:
        ValueError: see `nuisance_array`.
    """
    x = nuisance_array(nuisance)
    pairs, columns = x.shape
    nothing = np.zeros(columns)
    if pairs == 0:
        return NuisanceFit(nothing, 0, 0, Reason.NO_PAIRS)
    scale = np.sqrt(np.mean(np.square(x), axis=0))
    scale[scale == 0] = 1.0
    x = x / scale
    rank = int(np.linalg.matrix_rank(x.T @ x, hermitian=True)) if columns else 0
    if rank == 0:
        return NuisanceFit(nothing, 0, 0, Reason.NONE)
    gamma, steps, converged = _newton(x)
    if (not converged or np.abs(x @ gamma).max() > _SUSPECT_MARGIN) and _separated(x):
        return NuisanceFit(nothing, rank, steps, Reason.SEPARATED)
    if not converged:
        return NuisanceFit(nothing, rank, steps, Reason.NOT_CONVERGED)
    return NuisanceFit(gamma / scale, rank, steps, Reason.NONE)


def _newton(x: Floats) -> tuple[Floats, int, bool]:
    gamma, height, higher = np.zeros(x.shape[1]), _log_likelihood(np.zeros(len(x))), 0.0
    for step in range(_MAX_STEPS):
        left = special.expit(-(x @ gamma))
        gradient = x.T @ left
        information = (x * (left * (1 - left))[:, None]).T @ x
        move = np.linalg.pinv(information, hermitian=True) @ gradient
        if float(gradient @ move) <= _TOLERANCE**2 * len(x):
            return gamma, step, True
        for _ in range(40):
            higher = _log_likelihood(x @ (gamma + move))
            # Close to the maximum the likelihood is flat to rounding: a full step there must not be refused.
            if higher >= height - _FLAT * (1 - height):
                break
            move = move / 2
        else:
            return gamma, step, False
        gamma, height = gamma + move, higher
    return gamma, _MAX_STEPS, False


def _separated(x: Floats) -> bool:
    """Whether some γ has x γ ≥ 0 everywhere and > 0 somewhere: maximise Σ x γ over the box |γ| ≤ 1."""
    answer = optimize.linprog(-x.sum(axis=0), A_ub=-x, b_ub=np.zeros(len(x)), bounds=(-1, 1), method="highs")
    return bool(answer.status == 0 and -answer.fun > 1e-9 * len(x))


def _log_likelihood(margins: Floats) -> float:
    return float(special.log_expit(margins).sum())
