"""The two convex fits behind probes: L2 logistic regression, and Bradley-Terry on pair differences.

Both minimise ``mean_i log(1 + exp(−m_i)) + (l2 / 2) ‖w‖²`` by Newton's method, m the signed margins; the logistic one has an
intercept that is not penalised, Bradley-Terry has none.

Invariants:
- The objective is strictly convex for l2 > 0, so the answer is one point, found to a gradient norm under 1e-8, whether
  the data are separable, constant or rank-deficient. Not converging is an error, never a half-fitted probe.
- Rows are expected at unit scale (mean square about 1): the tolerance and the usable range of l2 are in that unit.
- Everything happens in at most min(n, d) coordinates: the fit depends on the rows only through their inner products
  (the representer theorem), so 300 examples of 65,536 features cost a 300 x 300 problem.

Our own rather than scikit-learn's, whose fits warn where they do not converge instead of failing, cannot be stopped between
steps, and include no Bradley-Terry (one class, no intercept).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.special import expit

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Rows = Matrix | sparse.csr_array

Check = Callable[[], None]
"""Called between steps of a fit; stops it by raising."""

_MAX_STEPS = 100
_TOLERANCE = 1e-8
# Directions under this share of the largest variance are rounding, not data.
_RANK_TOLERANCE = 1e-10


class NotConverged(ArithmeticError):
    """Newton's method stopped short of a stationary point: a bug, since the objective is strictly convex."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Rows seen in their own span: ``(rows - mean) @ lift(beta) == values @ beta`` and ``‖lift(beta)‖ == ‖beta‖``.

    Attributes:
        values: [n, r], r <= min(n, d).
        mean: what was taken off each row, [d]; zeros where nothing was.
        rows: dense rows with the mean taken off, or CSR rows as they are, [n, d].
        duals: [n, r] such that ``(rows - mean).T @ duals`` has orthonormal columns; None when values are the rows.
    """

    values: Matrix
    mean: Vector
    rows: Rows
    duals: Matrix | None

    def lift(self, beta: Vector) -> Vector:
        """Return the weights [d] over the original columns."""
        # Of centred rows the duals' columns sum to 0, so rows that still carry their mean give the same weights.
        return beta if self.duals is None else np.asarray(self.rows.T @ (self.duals @ beta))


def shape_of(rows: Rows) -> tuple[int, int]:
    """Return ``(n, d)``."""
    return cast("tuple[int, int]", rows.shape)


def go_on() -> None:
    """The ``Check`` that never stops."""


def coordinates(rows: Rows, *, centre: bool = False) -> Coordinates:
    """Return the rows in an orthonormal basis of their span where that is narrower than d; else as they are.

    Args:
        rows: dense or CSR, float64 [n, d]. A CSR matrix of n < d stays sparse: only [n, n] becomes dense.
        centre: take the mean row off first.
    """
    n, d = shape_of(rows)
    mean = np.asarray(rows.mean(axis=0)).reshape(-1) if centre else np.zeros(d)
    if isinstance(rows, sparse.csr_array) and n < d:
        gram = _dense(cast("Rows", rows @ rows.T))
        if centre:
            share = gram.mean(axis=0)
            gram = gram - share - share[:, None] + share.mean()
    else:
        rows = _dense(rows) - mean
        if n >= d:
            return Coordinates(values=rows, mean=mean, rows=rows, duals=None)
        gram = rows @ rows.T
    variances, vectors = cast("tuple[Vector, Matrix]", linalg.eigh(gram))
    kept = variances > _RANK_TOLERANCE * float(variances[-1])
    roots = np.sqrt(variances[kept])
    return Coordinates(values=vectors[:, kept] * roots, mean=mean, rows=rows, duals=vectors[:, kept] / roots)


def fit_logistic(values: Matrix, positive: NDArray[np.bool_], l2: float, *, check: Check = go_on) -> tuple[Vector, float]:
    """Return weights [r] and intercept of L2 logistic regression: ``P(positive) = σ(values @ weights + intercept)``.

    Args:
        values: [n, r].
        positive: bool [n], both classes present (else the intercept is infinite).
        l2: strength > 0, on the mean loss.
        check: called before each Newton step; may raise to stop.

    Raises:
        NotConverged: the rows are far from unit scale.
    """
    signs = np.where(positive, 1.0, -1.0)
    design = np.column_stack([values, np.ones(len(values))]) * signs[:, None]
    penalty = np.full(design.shape[1], l2)
    penalty[-1] = 0.0
    fitted = _minimise(design, penalty, check)
    return fitted[:-1], float(fitted[-1])


def fit_bradley_terry(differences: Matrix, l2: float, *, check: Check = go_on) -> Vector:
    """Return weights [r] of ``P(chosen ≻ rejected) = σ(w · (x_chosen − x_rejected))``; no intercept: sides have no bias.

    Args:
        differences: chosen minus rejected, [n, r].
        l2: strength > 0, on the mean loss.
        check: called before each Newton step; may raise to stop.

    Source: Bradley and Terry 1952; Rafailov et al. 2023 (arXiv 2305.18290), eq. 1.
    """
    return _minimise(differences, np.full(differences.shape[1], l2), check)


def log_loss(margins: Vector) -> float:
    """Return the mean of ``log(1 + exp(−m))`` over signed margins [n], without overflow."""
    return float(np.logaddexp(0.0, -margins).mean())


def _minimise(design: Matrix, penalty: Vector, check: Check) -> Vector:
    """Newton with step halving on ``mean log(1 + exp(−design @ w)) + ½ Σ penalty w²``, from zero."""
    n = len(design)
    w = np.zeros(design.shape[1])

    def objective(point: Vector) -> float:
        return log_loss(design @ point) + 0.5 * float(penalty @ point**2)

    value = objective(w)
    for _ in range(_MAX_STEPS):
        check()
        miss = expit(-(design @ w))
        gradient = penalty * w - design.T @ miss / n
        if float(np.linalg.norm(gradient)) < _TOLERANCE:
            return w
        hessian = (design * (miss * (1 - miss))[:, None]).T @ design / n
        hessian[np.diag_indices_from(hessian)] += penalty
        step = cast("Vector", linalg.solve(hessian, gradient, assume_a="pos"))
        w, value = _descend(objective, w, value, step, float(gradient @ step))
    raise NotConverged(f"no minimum after {_MAX_STEPS} Newton steps on {design.shape} examples: this is a bug")


def _descend(objective: Callable[[Vector], float], w: Vector, value: float, step: Vector, slope: float) -> tuple[Vector, float]:
    """Take the longest of step, step/2, step/4 ... that lowers the objective enough (Armijo)."""
    size = 1.0
    while size > 2**-40:
        candidate = w - size * step
        reached = objective(candidate)
        if reached <= value - 1e-4 * size * slope:
            return candidate, reached
        size /= 2
    # At the floor of float64 no step lowers the value any more; the full Newton step still lowers the gradient.
    return w - step, value


def _dense(rows: Rows) -> Matrix:
    return rows.toarray() if isinstance(rows, sparse.csr_array) else rows
