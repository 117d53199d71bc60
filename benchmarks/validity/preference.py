"""How well a description of pairs predicts which response was preferred, on prompts that the fit never saw.

P(chosen preferred) = σ(w · x) with x antisymmetric (exchanging the responses negates it), so there is no intercept and a pair
counts in both orders. The penalty, and which of a contender's representations is used, are chosen by cross-validation inside
the training part; folds keep prompts whole and are the same for every contender.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from assay_server.audit.matrices import Floats, Ints
from assay_server.concepts.metrics import auroc
from assay_server.concepts.solvers import coordinates
from scipy import optimize, sparse, special

# Of the mean loss, for rows of mean square 1. The strongest first: each fit starts from the one before.
GRID = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
INNER_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Description:
    """x of all pairs, in no more coordinates than there are pairs: an L2 fit cannot tell the difference."""

    values: Floats  # [pairs, coordinates]
    columns: int  # that x has


# From training rows (numbers of pairs) and a seed to representations of all pairs: what one learns, it learns from those rows.
Describe = Callable[[Ints, int], Sequence[Description]]


def described(rows: Any) -> Description:
    """From x itself, dense or sparse [pairs, columns]."""
    x = sparse.csr_array(rows) if sparse.issparse(rows) else np.asarray(rows, np.float64)
    return Description(coordinates(x).values if x.shape[1] else np.zeros((x.shape[0], 1)), int(x.shape[1]))


@dataclass(frozen=True, eq=False)
class Prediction:
    """Log-odds of the label as given, out of fold."""

    margins: Floats  # [repeats, pairs]
    chosen: list[int]  # representation that was used, a fold
    penalties: list[float]
    columns: list[int]  # of the representation that was used

    @property
    def auc(self) -> float:
        """Held-out AUC, mean over repeats."""
        return float(np.mean([pair_auc(row) for row in self.margins]))


def pair_auc(margins: Floats) -> float:
    """AUC of telling preferred from not, each pair in both orders."""
    both = np.concatenate([margins, -margins])
    return auroc(both, np.arange(len(both)) < len(margins))


def folds(prompts: Ints, count: int, seed: int) -> Ints:
    """A fold for each pair; pairs of a prompt stay together."""
    ids, inverse = np.unique(prompts, return_inverse=True)
    deal = np.random.default_rng([seed, 17]).permutation(len(ids)) % count
    return deal[inverse]


def predict(describe: Describe, prompts: Ints, *, repeats: int, count: int, seed: int) -> Prediction:
    """Out-of-fold margins of every pair, `repeats` times over other folds."""
    margins = np.zeros((repeats, len(prompts)))
    chosen, penalties, columns = [], [], []
    for repeat in range(repeats):
        fold = folds(prompts, count, seed + repeat)
        for left_out in range(count):
            train, test = np.flatnonzero(fold != left_out), np.flatnonzero(fold == left_out)
            options = describe(train, 1_000 * (seed + repeat) + left_out)
            best, penalty, values = _choose(options, train, prompts, seed)
            margins[repeat, test] = values[test] @ fit(values[train], penalty)
            chosen.append(best)
            penalties.append(penalty)
            columns.append(options[best].columns)
    return Prediction(margins, chosen, penalties, columns)


def fit(x: Floats, penalty: float, start: Floats | None = None) -> Floats:
    """The minimum of mean log(1 + exp(−x·w)) + ½ penalty ‖w‖², [columns]."""
    n = len(x)

    def loss(w: Floats) -> tuple[float, Floats]:
        margin = x @ w
        value = float(np.logaddexp(0.0, -margin).mean()) + 0.5 * penalty * float(w @ w)
        return value, penalty * w - x.T @ special.expit(-margin) / n

    first = np.zeros(x.shape[1]) if start is None else start
    answer = optimize.minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-6, "ftol": 1e-10})
    return np.asarray(answer.x)


def _choose(options: Sequence[Description], train: Ints, prompts: Ints, seed: int) -> tuple[int, float, Floats]:
    """The representation and penalty of least log loss over inner folds, and that representation's values for all pairs."""
    inner = folds(prompts[train], INNER_FOLDS, seed + 5)
    best: tuple[float, int, float, Floats] | None = None
    for index, option in enumerate(options):
        values = _scaled(option, train)
        losses = np.zeros(len(GRID))
        for left_out in range(INNER_FOLDS):
            seen, held = train[inner != left_out], train[inner == left_out]
            w = None
            for step, penalty in enumerate(GRID):
                w = fit(values[seen], penalty, w)
                losses[step] += float(np.logaddexp(0.0, -(values[held] @ w)).sum())
        step = int(np.argmin(losses))
        if best is None or losses[step] < best[0]:
            best = (float(losses[step]), index, float(GRID[step]), values)
    assert best is not None
    return best[1], best[2], best[3]


def _scaled(option: Description, train: Ints) -> Floats:
    """Mean square 1 over the training rows."""
    scale = np.sqrt(np.square(option.values[train]).sum(axis=1).mean())
    return option.values / scale if scale > 0 else option.values
