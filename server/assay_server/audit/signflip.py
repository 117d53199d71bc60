"""Sign-flip tests of the global view: is a mean disparity larger than swapping chosen and rejected would give?

METHOD.md §3.1. Under the null the sign of each prompt's sum S_c is a fair coin (pairs of a prompt flip together), so the
total is T = Σ ε_c S_c. S_c is an integer, so T lives on a lattice, and its whole distribution is a convolution of
binomials, one for each magnitude |S_c|: exact without enumeration, and from the histogram that `Moments` merges.
Where that is too expensive, the normal approximation is used if no prompt dominates, else Monte-Carlo.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from scipy import special, stats

from assay_server.audit.matrices import Bools, Codes, Floats, Ints
from assay_server.audit.moments import Moments
from assay_server.audit.reason import Reason
from assay_server.audit.watch import Check, go_on

EXACT_WORK = 1_000_000
FLIPS = 9_999
NORMAL_PROMPTS = 50
NORMAL_SHARE = 0.02


class Method(IntEnum):
    """How a p-value was found; stored as uint8."""

    NOT_TESTED = 0
    EXACT = 1
    NORMAL = 2
    MONTE_CARLO = 3


@dataclass(frozen=True, eq=False)
class SignFlip:
    """One two-sided test per concept; arrays are [concepts]."""

    mean: Floats  # mean u over pairs, in [−1, 1]
    z: Floats  # T / √Σ S_c²
    p: Floats
    method: Codes  # Method
    prompts: Ints  # prompts with S_c ≠ 0
    reason: Codes  # Reason


def sign_flip(
    sums: Moments, *, exact_work: int = EXACT_WORK, flips: int = FLIPS, seed: int = 0, check: Check = go_on
) -> SignFlip:
    """Two-sided sign-flip tests of mean u = 0, clustered by prompt (METHOD.md §3.1; beyond [A]).

    Args:
        sums: merged moments; open prompts are counted as they stand.
        exact_work: additions that one concept's exact distribution may cost.
        flips: Monte-Carlo draws where neither the exact nor the normal form serves: p = (1 + count) / (1 + flips).
        seed: of the Monte-Carlo draws; a concept's draws depend on it and the concept's index only.
        check: called before each concept; may raise to stop.
    """
    sums = sums.closed()
    total, variance, prompts = sums.total, sums.prompt_squares, sums.telling_prompts
    z = total / np.sqrt(np.maximum(variance, 1))
    p, method = np.ones(len(z)), np.full(len(z), Method.EXACT, np.uint8)
    normal = normal_serves(sums)
    indptr, values = sums.magnitudes.indptr, sums.magnitudes
    one = np.flatnonzero(np.diff(indptr) == 1)
    p[one] = _one_magnitude(values.indices[indptr[one]].astype(np.int64), values.data[indptr[one]], total[one])
    for concept in np.flatnonzero(np.diff(indptr) > 1):
        check()
        span = slice(indptr[concept], indptr[concept + 1])
        magnitudes, counts = values.indices[span].astype(np.int64), values.data[span]
        magnitudes, observed = _reduced(magnitudes, int(total[concept]))
        if int(counts.sum()) * int(magnitudes @ counts) <= exact_work:
            p[concept] = exact_p(magnitudes, counts, observed)
        elif normal[concept]:
            p[concept], method[concept] = normal_p(magnitudes, counts, observed), Method.NORMAL
        else:
            draws = np.random.default_rng([seed, int(concept)])
            p[concept] = monte_carlo_p(magnitudes, counts, observed, flips, draws)
            method[concept] = Method.MONTE_CARLO
    reason = _reasons(sums, prompts)
    method[(reason != Reason.NONE) & (reason != Reason.ONE_PROMPT)] = Method.NOT_TESTED
    return SignFlip(sums.mean, z, p, method, prompts, reason)


def exact_p(magnitudes: Ints, counts: Ints, total: int) -> float:
    """P(|Σ ε_c S_c| ≥ |total|) for counts[k] prompts with |S_c| = magnitudes[k] > 0, to rounding.

    With B_k ~ Binomial(counts[k], ½), the total is 2 Σ magnitudes·B − Σ magnitudes·counts: the distribution of
    Σ magnitudes·B is built by convolution, at a cost of prompts × Σ magnitudes·counts additions, and one magnitude
    alone is a binomial tail.
    """
    reach = int(magnitudes @ counts)
    if total == 0:
        return 1.0
    if len(magnitudes) == 1:
        return float(_one_magnitude(magnitudes, counts, np.array([total]))[0])
    first, *others = np.argsort(-counts, kind="stable").tolist()
    chances = np.zeros(int(magnitudes[first] * counts[first]) + 1)
    chances[:: int(magnitudes[first])] = _binomial(int(counts[first]))
    for magnitude, count in zip(magnitudes[others].tolist(), counts[others].tolist(), strict=True):
        grown = np.zeros(len(chances) + magnitude * count)
        for hits, weight in enumerate(_binomial(count).tolist()):
            grown[hits * magnitude : hits * magnitude + len(chances)] += weight * chances
        chances = grown
    return min(1.0, 2 * float(chances[: (reach - abs(total)) // 2 + 1].sum()))


def _one_magnitude(magnitudes: Ints, counts: Ints, totals: Ints) -> Floats:
    """`exact_p` of several concepts, each of which has one magnitude only, [concepts]."""
    below = (magnitudes * counts - np.abs(totals)) // (2 * magnitudes)
    return np.where(totals == 0, 1.0, np.minimum(1.0, 2 * special.bdtr(below, counts, 0.5)))


@lru_cache(maxsize=4_096)
def _binomial(count: int) -> Floats:
    """P(k of `count` fair coins), [count + 1]."""
    return np.asarray(stats.binom.pmf(np.arange(count + 1), count, 0.5), np.float64)


def normal_p(magnitudes: Ints, counts: Ints, total: int) -> float:
    """The normal approximation of `exact_p`, corrected for continuity (the total moves in steps of two).

    Sums of fair signs have lighter tails than the normal, so far out this errs towards caution.
    """
    scale = float(np.sqrt(float(magnitudes.astype(np.float64) ** 2 @ counts)))
    return min(1.0, 2 * float(special.ndtr(-max(abs(total) - 1, 0) / scale)))


def normal_serves(sums: Moments) -> Bools:
    """Where the normal approximation is allowed, [concepts].

    At least 50 telling prompts, none of which makes more than 2% of the variance.
    """
    closed = sums.closed()
    telling, widest = closed.telling_prompts, np.zeros(len(closed.sizes))
    ends = closed.magnitudes.indptr[1:][telling > 0]
    widest[telling > 0] = closed.magnitudes.indices[ends - 1]
    share = widest**2 / np.maximum(closed.prompt_squares, 1)
    return (telling >= NORMAL_PROMPTS) & (share <= NORMAL_SHARE)


def monte_carlo_p(magnitudes: Ints, counts: Ints, total: int, flips: int, draws: np.random.Generator) -> float:
    """(1 + #{|T*| ≥ |T|}) / (1 + flips), T* drawn from the same null as `exact_p`.

    Raises:
        ValueError: flips is not positive.
    """
    if flips < 1:
        raise ValueError(f"flips must be positive, got {flips}")
    hits = draws.binomial(counts, 0.5, size=(flips, len(counts)))
    totals = (2 * hits - counts) @ magnitudes
    return (1 + int((np.abs(totals) >= abs(total)).sum())) / (1 + flips)


def _reduced(magnitudes: Ints, total: int) -> tuple[Ints, int]:
    """Divide by the common divisor, which shortens the lattice and changes no comparison."""
    divisor = int(np.gcd.reduce(magnitudes))
    return magnitudes // divisor, total // divisor


def _reasons(sums: Moments, prompts: Ints) -> Codes:
    reason = np.full(len(prompts), Reason.NONE, np.uint8)
    reason[prompts == 1] = Reason.ONE_PROMPT
    reason[prompts == 0] = Reason.NO_DIFFERENCE
    if not sums.pairs.sum():
        reason[:] = Reason.NO_PAIRS
    reason[sums.sizes == 0] = Reason.EMPTY_CONCEPT
    return reason
