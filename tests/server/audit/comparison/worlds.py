"""Small comparisons with known truth, and the same figures once more: slowly, pair by pair, with scipy and loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from assay_server.audit.comparison.shifts import Rollouts, ShiftSums, rollouts_of
from assay_server.audit.disparity import Disparity
from assay_server.audit.matrices import Csr
from scipy import stats


@dataclass(frozen=True, eq=False)
class Pairs:
    """Disparities of some pairs: integers t_m·u, [pairs, concepts]."""

    values: np.ndarray
    prompts: np.ndarray
    sizes: np.ndarray

    @property
    def u(self) -> np.ndarray:
        return self.values / np.maximum(self.sizes, 1)

    def part(self, rows: slice) -> tuple[Disparity, np.ndarray]:
        return Disparity(Csr(self.values[rows]), self.sizes), self.prompts[rows]

    def rollouts(self, step: int = 1000) -> Rollouts:
        return rollouts_of(self.sizes, [self.part(slice(first, first + step)) for first in range(0, len(self.values), step)])

    def shift_sums(self, step: int = 1000, weights: np.ndarray | None = None) -> ShiftSums:
        blocks = np.arange(len(self.values)) // step
        shared = [int(prompt) for prompt in np.unique(self.prompts) if len(set(blocks[self.prompts == prompt])) > 1]
        sums = ShiftSums(self.sizes, shared)
        for first in range(0, len(self.values), step):
            rows = slice(first, first + step)
            sums.add(*self.part(rows), None if weights is None else weights[rows])
        return sums


def drawn_pairs(
    seed: int, lean: np.ndarray, *, pairs: int = 90, prompts: int = 30, sizes: Sequence[int] | None = None, first: int = 0
) -> Pairs:
    """Pairs whose concept m leans by `lean[m]` in [−1, 1], each prompt by some more of its own: they depend on each other."""
    draws = np.random.default_rng(seed)
    size = np.array(sizes) if sizes is not None else draws.integers(1, 5, len(lean))
    ids = np.concatenate([np.arange(prompts), draws.integers(0, prompts, pairs - prompts)])
    tilt = lean + 0.3 * draws.normal(size=(prompts, len(lean)))[ids]
    noise = draws.normal(size=tilt.shape)
    return Pairs(np.clip(np.rint(size * (tilt + 0.7 * noise)), -size, size).astype(np.int64), ids * 11 + first, size)


def slow_error(values: np.ndarray, prompts: np.ndarray) -> float:
    """Clustered standard error of a mean, prompt by prompt."""
    clusters = [values[prompts == prompt] for prompt in np.unique(prompts)]
    if len(clusters) < 2:
        return 0.0
    total = sum(float((cluster - values.mean()).sum()) ** 2 for cluster in clusters)
    return float(np.sqrt(slow_factor([len(cluster) for cluster in clusters]) * total)) / len(values)


def slow_factor(sizes: Sequence[int]) -> float:
    """By the covariance of the centred sums of prompts that share one effect each; 1 under two prompts."""
    shares = np.array(sizes) / sum(sizes)
    root = np.diag(shares) @ (np.eye(len(shares)) - shares[None, :])
    return float(shares @ shares) / float(np.trace(root @ root.T)) if len(shares) > 1 else 1.0


def slow_figures(predicted: np.ndarray, observed: np.ndarray, gap: np.ndarray | None = None) -> dict[str, float | None]:
    """The figures of one row of shifts, by scipy and by the formulas of the contract."""
    found: dict[str, float | None] = dict.fromkeys(
        ("pearson_squared", "r_squared", "fitted_r_squared", "slope", "spearman", "same_sign", "with_gap", "gap_slope")
    )
    about = float(((observed - observed.mean()) ** 2).sum())
    varies = len(set(observed.tolist())) > 1
    if len(predicted) >= 3 and varies and len(set(predicted.tolist())) > 1:
        found["pearson_squared"] = float(stats.pearsonr(predicted, observed)[0]) ** 2
        found["spearman"] = float(stats.spearmanr(predicted, observed)[0])
    if varies:
        found["r_squared"] = 1 - float(((observed - predicted) ** 2).sum()) / about
    if predicted.any():
        slope = float(np.linalg.lstsq(predicted[:, None], observed, rcond=None)[0][0])
        found["slope"] = slope
        if varies:
            found["fitted_r_squared"] = 1 - float(((observed - slope * predicted) ** 2).sum()) / about
    both = [(p, o) for p, o in zip(predicted, observed, strict=True) if p and o]
    if both:
        found["same_sign"] = sum((p > 0) == (o > 0) for p, o in both) / len(both)
    if gap is not None:
        there = ~np.isnan(gap)
        found["with_gap"], found["gap_slope"] = slow_plane(predicted[there], gap[there], observed[there])
    return found


def slow_plane(first: np.ndarray, second: np.ndarray, values: np.ndarray) -> tuple[float | None, float | None]:
    """R² of least squares on both and a constant, and the second's coefficient; None under 4 values and where neither is told."""
    if len(values) < 4:
        return None, None
    design = np.column_stack([first, second, np.ones(len(values))])
    found, _, rank, _ = np.linalg.lstsq(design, values, rcond=1e-10)
    both, alone = rank, np.linalg.matrix_rank(design[:, [0, 2]], tol=1e-10)
    slope = float(found[1]) if both > alone else None
    if len(set(values.tolist())) < 2 or both < 2:
        return None, slope
    left = values - design @ found
    return 1 - float(left @ left) / float(((values - values.mean()) ** 2).sum()), slope


def slow_draws(pairs: Pairs, draws: int, seed: int) -> list[np.ndarray]:
    """Mean u in each bootstrap draw of prompts: prompts picked one by one, their pairs' u put behind each other."""
    generator, ids = np.random.default_rng(seed), np.unique(pairs.prompts)
    rows = [np.flatnonzero(pairs.prompts == prompt) for prompt in ids]
    picks = [generator.integers(len(ids), size=len(ids)) for _ in range(draws)]
    return [pairs.u[np.concatenate([rows[prompt] for prompt in pick])].mean(axis=0) for pick in picks]
