"""How observed shifts agree with predicted ones over concepts, with a bootstrap over prompts (METHOD.md §5).

The prediction stands still; what is drawn are the prompts of the rollouts, all pairs of a prompt together. Draws times concepts
never exist at once: some draws at a time are one sparse product, whatever the number of concepts.

Draws of one seed are the same prompts, however many are made at a time. A draw adds the rollouts' own sampling error once more,
so that correlations of draws lie below the figure, about as far as the figure lies below what endless rollouts would give. An
interval is therefore that of the figure with as many rollouts: the draws' percentiles, moved so that their median is the figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from assay_server.audit.comparison.shifts import Rollouts, means
from assay_server.audit.matrices import Bools, Csr, Floats, Ints
from assay_server.audit.watch import Check, go_on

FIGURES = ("pearson_squared", "r_squared", "fitted_r_squared", "slope", "spearman", "same_sign", "with_gap", "gap_slope")
# What each figure can be.
BOUNDS = ((0.0, 1.0), (-np.inf, 1.0), (-np.inf, 1.0), (-np.inf, np.inf), (-1.0, 1.0), (0.0, 1.0), (0.0, 1.0), (-np.inf, np.inf))
FEW_CONCEPTS = 3  # under which no correlation is given
_VALUES = 1 << 22  # draws x concepts that exist at once
_FLAT = 1e-24  # a sum of squares about the mean under this share of the squares is what rounding leaves of zero


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How observed shifts agree with predicted ones over ``concepts``; see ``assay.v1.Agreement``. None: not defined."""

    concepts: int
    pearson_squared: Estimate | None = None
    r_squared: Estimate | None = None
    fitted_r_squared: Estimate | None = None
    slope: Estimate | None = None
    spearman: Estimate | None = None
    same_sign: Estimate | None = None
    with_gap: Estimate | None = None
    gap_slope: Estimate | None = None


def agreements(
    predicted: Floats,
    observed: Rollouts,
    subsets: Sequence[Ints],
    *,
    draws: int,
    seed: int,
    level: float,
    gap: Floats | None = None,
    check: Check = go_on,
) -> list[Agreement]:
    """Agreement over each subset of concepts.

    Args:
        predicted: predicted shifts, [concepts].
        observed: rollouts with the same concepts.
        subsets: columns, ascending; each gives one answer.
        draws: resamples of prompts.
        seed: of the resamples.
        level: share that intervals cover.
        gap: the second term of ``with_gap``, [concepts], NaN where a concept has none; it stands still too. None leaves it out.
        check: called between draws; may raise to stop.

    Raises:
        ValueError: level is outside (0, 1), or draws is not positive.
    """
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level must lie in (0, 1) and draws be positive, got {level} and {draws}")
    whole = observed.shift.mean
    drawn = [np.full((draws, len(FIGURES)), np.nan) for _ in subsets]
    gaps = [None if gap is None else gap[subset] for subset in subsets]
    columns = np.unique(np.concatenate([np.zeros(0, np.int64), *subsets]))
    places = [np.searchsorted(columns, subset) for subset in subsets]
    first = 0
    for block in _resampled(observed, columns, draws, seed):
        check()
        for values, subset, place, second in zip(drawn, subsets, places, gaps, strict=True):
            values[first : first + len(block)] = figures(predicted[subset], block[:, place], second)
        first += len(block)
    return [
        _agreement(len(subset), figures(predicted[subset], whole[subset][None], second)[0], values, level)
        for subset, values, second in zip(subsets, drawn, gaps, strict=True)
    ]


def figures(predicted: Floats, observed: Floats, gap: Floats | None = None) -> Floats:
    """The figures of ``FIGURES`` for each row of observed shifts, [rows, figures]; NaN where one is not defined.

    Args:
        predicted: [concepts].
        observed: [rows, concepts].
        gap: [concepts], NaN where a concept has none; None for none at all.
    """
    found = np.full((len(observed), len(FIGURES)), np.nan)
    if not predicted.size or not len(observed):
        return found
    product, square = observed @ predicted, float(predicted @ predicted)
    about = _about_mean(observed)
    found[:, 1] = _explained(((observed - predicted) ** 2).sum(axis=1), about)
    if square > 0:
        slope = product / square
        found[:, 2] = _explained(((observed - slope[:, None] * predicted) ** 2).sum(axis=1), about)
        found[:, 3] = slope
    if len(predicted) >= FEW_CONCEPTS:
        found[:, 0] = _correlation(predicted, observed) ** 2
        found[:, 4] = _correlation(stats.rankdata(predicted), stats.rankdata(observed, axis=1))
    telling = (observed != 0) & (predicted != 0)
    count = telling.sum(axis=1)
    agreeing = (telling & (np.sign(observed) == np.sign(predicted))).sum(axis=1)
    found[:, 5] = np.divide(agreeing, count, out=np.full(len(observed), np.nan), where=count > 0)
    if gap is not None and (there := np.isfinite(gap)).sum() > FEW_CONCEPTS:
        found[:, 6] = _plane(predicted[there], gap[there], observed[:, there])
        found[:, 7] = _partial_slope(predicted[there], gap[there], observed[:, there])
    return found


def _resampled(observed: Rollouts, columns: Ints, draws: int, seed: int) -> Iterator[Floats]:
    """Mean u of some columns in each draw of prompts, some draws at a time, [draws, columns]."""
    sums, sizes = observed.sums, observed.sizes[columns]
    prompts, by_concept = len(sums.ids), Csr(sums.rows[:, columns]).T.tocsr()
    generator, at_once = np.random.default_rng(seed), max(1, min(64, _VALUES // max(1, len(columns))))
    for first in range(0, draws, at_once):
        rows = [_multiplicities(generator, prompts) for _ in range(min(at_once, draws - first))]
        weights = np.stack(rows).astype(np.float64)
        pairs = np.maximum(weights @ sums.pairs, 1.0)  # a draw without a pair says 0
        yield means(np.ascontiguousarray((by_concept @ weights.T).T), pairs[:, None], sizes)


def _multiplicities(generator: np.random.Generator, prompts: int) -> Ints:
    """How often each prompt is drawn in as many draws with replacement, [prompts]."""
    return np.bincount(generator.integers(prompts, size=prompts), minlength=prompts)


def _about_mean(values: Floats) -> Floats:
    """Σ (x − mean)² of each row, 0 where it is rounding."""
    squares = ((values - values.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    return np.where(squares <= _FLAT * (values**2).sum(axis=-1), 0.0, squares)


def _explained(left: Floats, about: Floats) -> Floats:
    return 1.0 - np.divide(left, about, out=np.full(len(left), np.nan), where=about > 0)


def _correlation(first: Floats, second: Floats) -> Floats:
    """Pearson's r of ``first`` [concepts] and each row of ``second``, NaN where either does not vary."""
    product = (second - second.mean(axis=1, keepdims=True)) @ (first - first.mean())
    scale = np.sqrt(_about_mean(first) * _about_mean(second))
    found = np.divide(product, scale, out=np.full(len(second), np.nan), where=scale > 0)
    return np.clip(found, -1.0, 1.0)


def _plane(first: Floats, second: Floats, values: Floats) -> Floats:
    """R² of least squares of each row of ``values`` on both terms and a constant; NaN where a row or both terms do not vary."""
    terms = np.stack([one - one.mean() for one in (first, second) if _about_mean(one) > 0] or [np.zeros_like(first)])
    terms /= np.maximum(np.linalg.norm(terms, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    _, sizes, basis = np.linalg.svd(terms, full_matrices=False)
    basis = basis[sizes > _FLAT**0.5]  # the terms may be multiples of each other
    about = _about_mean(values)
    explained = ((values @ basis.T) ** 2).sum(axis=1)
    found = np.divide(explained, about, out=np.full(len(values), np.nan), where=about > 0)
    return np.clip(found, 0.0, 1.0) if len(basis) else np.full(len(values), np.nan)


def _partial_slope(first: Floats, second: Floats, values: Floats) -> Floats:
    """Least-squares coefficient of ``second`` beside ``first`` and a constant, one per row of ``values``; NaN where
    the two terms are collinear."""
    own, other = second - second.mean(), first - first.mean()
    square = float(other @ other)
    rest = own - other * (float(other @ own) / square) if _about_mean(first) > 0 else own
    size = float(rest @ rest)
    if size <= _FLAT**0.5 * float(own @ own) or _about_mean(second) == 0:
        return np.full(len(values), np.nan)
    return values @ rest / size


def _agreement(concepts: int, whole: Floats, drawn: Floats, level: float) -> Agreement:
    return Agreement(concepts, **{name: _estimate(whole[at], drawn[:, at], level, BOUNDS[at]) for at, name in enumerate(FIGURES)})


def _estimate(value: float, drawn: Floats, level: float, bounds: tuple[float, float]) -> Estimate | None:
    """None where the figure, or most of its draws, are not defined."""
    defined: Bools = np.isfinite(drawn)
    if not np.isfinite(value) or 2 * defined.sum() < len(drawn):
        return None
    low, middle, high = np.quantile(drawn[defined], [(1 - level) / 2, 0.5, (1 + level) / 2])
    least, most = bounds
    return Estimate(float(value), float(max(least, value + low - middle)), float(min(most, value + high - middle)))
