"""Whether training did what its data predicted: predicted shifts, observed ones, and what chance does (METHOD.md §5).

    compared = compare(names, training, rollouts, noise, Options(...), control)
    compared.retained.pearson_squared, compared.above_noise, compared.noise_floor, compared.control

Three datasets of pairs go in: the training data, rollouts (after, before) and noise (before, before) on the same prompts. Without
the noise there is no telling what a shift of 0.01 means, and without the control whether the policy moved at all.

Invariant: a figure that is not defined is None; every array but ``gap`` is finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from assay_server.audit.comparison.agreement import Agreement, agreements
from assay_server.audit.comparison.control import Control
from assay_server.audit.comparison.shifts import Rollouts, Shift, aligned, difference_error
from assay_server.audit.disparity import TAU
from assay_server.audit.intervals import LEVEL
from assay_server.audit.matrices import Bools, Floats, Ints
from assay_server.audit.watch import Check, go_on

DRAWS = 1_000
MIN_TELLING = 25
KEEP = 500


@dataclass(frozen=True, slots=True)
class Options:
    """Knobs of a comparison; see ``assay.v1.CompareRolloutsRequest``."""

    tau: float = TAU
    interval_level: float = LEVEL
    min_telling: int = MIN_TELLING
    draws: int = DRAWS
    seed: int = 0
    keep: int = KEEP


@dataclass(frozen=True, eq=False)
class Comparison:
    """Observed shifts beside predicted ones; arrays are [concepts]."""

    names: tuple[str, ...]
    options: Options
    predicted: Shift
    observed: Shift
    noise: Shift
    low: Floats  # interval of the observed shift
    high: Floats
    difference_error: Floats  # of observed minus noise
    is_retained: Bools
    clears_noise: Bools
    order: Ints  # by |observed| over `difference_error`, largest first
    prompts: int  # drawn in the bootstrap
    retained: Agreement
    above_noise: Agreement
    noise_floor: Agreement
    control: Control | None
    gap: Floats | None = None  # imitation gap, NaN where a concept has none


def compare(
    names: Sequence[str],
    training: Shift,
    rollouts: Rollouts,
    noise: Rollouts,
    options: Options,
    control: Control | None = None,
    check: Check = go_on,
    *,
    gap: Floats | None = None,
) -> Comparison:
    """Compare shifts over the same concepts in the same order.

    Args:
        names: of the concepts.
        training: predicted shifts.
        rollouts: pairs (after, before).
        noise: pairs (before, before).
        options: knobs.
        control: the positive control, if margins are known.
        check: called from time to time; may raise to stop.
        gap: imitation gap of each concept (``comparison_shifts.imitation_gap``); None where it is not known.

    Raises:
        ValueError: the three hold different numbers of concepts.
    """
    if not len(names) == len(training.mean) == len(rollouts.sizes) == len(noise.sizes):
        counts = (len(names), len(training.mean), len(rollouts.sizes), len(noise.sizes))
        raise ValueError(f"names, training, rollouts and noise hold {counts} concepts; they must be the same")
    rollouts, noise = aligned(rollouts, noise)
    observed, chance = rollouts.shift, noise.shift
    error = difference_error(rollouts, noise)
    retained = training.telling >= options.min_telling
    clears = clears_noise(observed.mean, chance.mean, error, options.interval_level)
    subsets = [np.flatnonzero(retained).astype(np.int64), np.flatnonzero(retained & clears).astype(np.int64)]

    def agreement(shifted: Rollouts, subsets: list[Ints], gap: Floats | None = None) -> list[Agreement]:
        draws, seed, level = options.draws, options.seed, options.interval_level
        return agreements(training.mean, shifted, subsets, draws=draws, seed=seed, level=level, gap=gap, check=check)

    over_all, above = agreement(rollouts, subsets, gap)
    (floor,) = agreement(noise, subsets[:1])  # no gap: it is measured from one of the noise's own sides
    low, high = observed.interval(options.interval_level)
    return Comparison(
        names=tuple(names),
        options=options,
        predicted=training,
        observed=observed,
        noise=chance,
        low=low,
        high=high,
        difference_error=error,
        is_retained=retained,
        clears_noise=clears,
        order=by_strength(observed.mean, error),
        prompts=len(rollouts.sums.ids),
        retained=over_all,
        above_noise=above,
        noise_floor=floor,
        control=control,
        gap=gap,
    )


def clears_noise(observed: Floats, noise: Floats, error: Floats, level: float) -> Bools:
    """|observed| > z·error and |observed| > |noise|: larger than chance makes it, and than chance made it here.

    Args:
        observed: mean u of (after, before), [concepts].
        noise: mean u of (before, before), [concepts].
        error: standard error of their difference, [concepts].
        level: z is the normal quantile of a two-sided interval of this level.
    """
    z = float(special.ndtri((1 + level) / 2))
    size = np.abs(observed)
    return (size > z * error) & (size > np.abs(noise))


def by_strength(observed: Floats, error: Floats) -> Ints:
    """Concepts by |observed| over ``error``, largest first; one that shifts without any error comes before all, zeros last."""
    size = np.abs(observed)
    ratio = np.divide(size, error, out=np.where(size > 0, np.inf, 0.0), where=error > 0)
    return np.lexsort((np.arange(len(size)), -size, -ratio)).astype(np.int64)
