"""The audit's statistics a second time: slow, plain, and sharing no code with it (scipy, statsmodels, loops over pairs).

Everything takes dense arrays. Only what is tested is passed in; nothing is merged, blocked or sparse.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

Array = NDArray[Any]


def disparity(chosen: Array, rejected: Array, members: Sequence[Sequence[int]], tau: float) -> Array:
    """u [pairs, concepts] by a loop over pairs and features; frequencies and tau in single precision."""
    bar = np.float32(tau)
    u = np.zeros((len(chosen), len(members)))
    for pair in range(len(chosen)):
        for concept, features in enumerate(members):
            steps = [int(chosen[pair, g] > bar) - int(rejected[pair, g] > bar) for g in features]
            u[pair, concept] = sum(steps) / len(steps)
    return u


def by_prompt(values: Array, prompts: Array) -> Array:
    """Sums over the pairs of each prompt."""
    return np.array([sum(v for v, p in zip(values, prompts, strict=True) if p == prompt) for prompt in np.unique(prompts)])


def sign_flip_p(u: Array, prompts: Array, size: int) -> float:
    """P(|Σ ε S| >= |Σ S|) over all 2^G sign patterns of the prompt sums, counted exactly in whole numbers."""
    sums = [round(float(s) * size) for s in by_prompt(u, prompts)]
    patterns: dict[int, int] = {0: 1}
    for s in (abs(s) for s in sums if s):
        grown: dict[int, int] = {}
        for total, count in patterns.items():
            grown[total + s] = grown.get(total + s, 0) + count
            grown[total - s] = grown.get(total - s, 0) + count
        patterns = grown
    bar = abs(sum(sums))
    return float(Fraction(sum(c for t, c in patterns.items() if abs(t) >= bar), sum(patterns.values())))


def sign_flip_additions(u: Array, prompts: Array, size: int) -> int:
    """What counting costs: prompts that tell times the sum of their magnitudes, in units of their common divisor."""
    sums = np.array([round(float(s) * size) for s in by_prompt(u, prompts)])
    sums = np.abs(sums[sums != 0])
    return int(len(sums) * (sums.sum() // np.gcd.reduce(sums))) if len(sums) else 0


def mean_interval(u: Array, prompts: Array, level: float) -> tuple[float, float, float]:
    """Mean and bounds: the squared centred prompt sums, with the factor and the degrees of freedom of the prompts' sizes."""
    ids, sizes = np.unique(prompts, return_counts=True)
    factor, freedom = small_sample(sizes.tolist())
    squares = sum(float((u[prompts == id] - u.mean()).sum()) ** 2 for id in ids)
    width = float(stats.t.ppf((1 + level) / 2, freedom)) * np.sqrt(factor * squares) / len(u)
    return float(u.mean()), max(float(u.mean() - width), -1.0), min(float(u.mean() + width), 1.0)


def nuisance(x: Array) -> Array:
    """γ by statsmodels' logit on labels given as they are: every pair was preferred as its x says, no constant."""
    turned = np.where(np.arange(len(x)) % 2 == 0, 1.0, -1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = sm.Logit((turned > 0).astype(float), x * turned[:, None]).fit(disp=0, method="newton", maxiter=100, tol=1e-14)
    return np.asarray(fit.params)


def score_test(u: Array, x: Array, gamma: Array, prompts: Array) -> tuple[float, float, float]:
    """z, p and twice the mean efficient score, given γ: weighted least squares for the projection, loops for the sums.

    With q nuisances fitted on G prompts the variance is G / (G − q) times the sum of squares.
    """
    left = np.array([1 / (1 + np.exp(row @ gamma)) for row in x])
    slope = sm.WLS(u, x, weights=left * (1 - left)).fit().params
    efficient = np.array([r * (v - row @ slope) for r, v, row in zip(left, u, x, strict=True)])
    fitted = len(np.unique(prompts)) / (len(np.unique(prompts)) - x.shape[1])
    variance = fitted * sum(float(s) ** 2 for s in by_prompt(efficient, prompts))
    z = float(efficient.sum() / np.sqrt(variance))
    return z, float(2 * stats.norm.sf(abs(z))), float(2 * efficient.sum() / len(u))


def q_values(p: Array, method: str) -> Array:
    """statsmodels' Benjamini-Hochberg ("fdr_bh") or Benjamini-Yekutieli ("fdr_by")."""
    return np.asarray(multipletests(p, method=method)[1])


def max_t(sums: Array, signs: Array) -> Array:
    """Step-down max-T by loops, [concepts].

    Args:
        sums: prompt sums [prompts, concepts].
        signs: ±1 [prompts, flips].
    """
    scale = np.sqrt((sums**2).sum(axis=0))
    observed = np.abs(sums.sum(axis=0)) / scale
    order = np.argsort(-observed, kind="stable")
    counts = np.zeros(len(order))
    for flip in range(signs.shape[1]):
        drawn = np.abs((sums * signs[:, flip : flip + 1]).sum(axis=0)) / scale
        for place in range(len(order)):
            counts[place] += max(drawn[concept] for concept in order[place:]) >= observed[order[place]] * (1 - 1e-9)
    p = (1 + counts) / (1 + signs.shape[1])
    for place in range(1, len(p)):
        p[place] = max(p[place], p[place - 1])
    adjusted = np.empty(len(p))
    adjusted[order] = p
    return adjusted


def small_sample(sizes: Sequence[int]) -> tuple[float, float]:
    """What the squared error of a mean over prompts of these sizes is multiplied with, and its degrees of freedom.

    By the covariance matrix of the prompts' centred sums where pairs of a prompt share one effect of unit variance, written out
    prompt by prompt: Satterthwaite's (tr C)² / tr C².
    """
    pairs = sum(sizes)
    sums = np.zeros((len(sizes), len(sizes)))  # how much of effect d is in the centred sum of prompt c
    for c, here in enumerate(sizes):
        for d, there in enumerate(sizes):
            sums[c, d] = here * ((1.0 if c == d else 0.0) - there / pairs)
    covariance = sums @ sums.T
    true = sum(float(size) ** 2 for size in sizes)
    return true / float(np.trace(covariance)), float(np.trace(covariance)) ** 2 / float(np.trace(covariance @ covariance))


def contrast(u: Array, inside: Array, outside: Array, prompts: Array) -> dict[str, float]:
    """Inside against outside, errors clustered by prompt; with one pair a prompt this is Welch's test of scipy.

    Args:
        u: values [pairs].
        inside: bool [pairs].
        outside: bool [pairs], disjoint from `inside`.
    """
    means = [float(u[side].mean()) for side in (inside, outside)]
    squares, factors, freedoms = [], [], []
    centred = {prompt: [0.0, 0.0] for prompt in np.unique(prompts)}
    for k, side in enumerate((inside, outside)):
        for value, prompt in zip(u[side], prompts[side], strict=True):
            centred[prompt][k] += (value - means[k]) / int(side.sum())
        factor, freedom = small_sample([int((prompts[side] == prompt).sum()) for prompt in np.unique(prompts[side])])
        factors.append(factor)
        freedoms.append(freedom)
        # Nor is a side surer than as many pairs of both sides together: where nothing fires its own variance would be 0.
        least = float(u[inside | outside].var(ddof=1)) / int(side.sum())
        squares.append(max(sum(c[k] ** 2 for c in centred.values()) * factor, least))
    both = sum(c[0] * c[1] for c in centred.values()) * np.sqrt(np.prod(factors))
    se = np.sqrt(squares[0] + squares[1] - 2 * both)
    df = sum(squares) ** 2 / sum(s**2 / freedom for s, freedom in zip(squares, freedoms, strict=True))
    z = (means[0] - means[1]) / se
    a, b = u[inside], u[outside]
    pooled = np.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2))
    return {"estimate": means[0] - means[1], "z": z, "p": float(2 * stats.t.sf(abs(z), df)), "d": (means[0] - means[1]) / pooled}
