"""Figures of runs: trait rates with intervals over prompts, recovery, off-target change, accuracy, margins. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.training.detectors import DETECTORS

Floats = NDArray[np.float64]
DRAWS = 2_000
LEAST_SHIFT = 0.10  # of a trait's rate, in training without a plan: less leaves nothing to recover


def shown(texts: Sequence[str], name: str) -> Floats:
    """1 where a text shows the trait, [texts]."""
    return np.array([float(DETECTORS[name](text)) for text in texts])


def drawn(count: int, seed: int) -> NDArray[np.int64]:
    """Bootstrap draws of prompts, [draws, prompts]."""
    return np.random.default_rng([seed, 31]).integers(0, count, (DRAWS, count))


def interval(values: Any) -> list[float]:
    """95% of bootstrap values; NaN ones left out."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    return [float(q) for q in np.quantile(finite, [0.025, 0.975])] if len(finite) else [float("nan")] * 2


def rate(values: Floats, draws: NDArray[np.int64]) -> dict[str, Any]:
    """Mean over prompts with its interval."""
    return {"value": float(values.mean()), "interval": interval(values[draws].mean(axis=1))}


def recovery(untrained: Floats, trained: Floats, planned: Floats, draws: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """(trained - planned) / (trained - untrained) of means over prompts: 1 is back to untrained, 0 is as without the plan.

    None where training moved the trait by less than `LEAST_SHIFT`.
    """
    moved = float(trained.mean() - untrained.mean())
    if abs(moved) < LEAST_SHIFT:
        return {"value": None, "interval": None}
    value = float(trained.mean() - planned.mean()) / moved
    if draws is None:
        return {"value": value, "interval": None}
    means = [one[draws].mean(axis=1) for one in (untrained, trained, planned)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"value": value, "interval": interval((means[1] - means[2]) / (means[1] - means[0]))}


def off_target(others: Mapping[str, tuple[Floats, Floats, Floats]], seed: int = 0) -> dict[str, Any]:
    """Mean over the other concepts of |planned - trained| / |trained - untrained|, of rates; None where none of them moved.

    `chance` is what the same figure would be, in the mean over bootstrap draws of prompts, if the plan changed nothing: two
    independent sets of rollouts differ too, and an absolute value does not average that out.

    Args:
        others: (untrained, trained, planned) of each, [prompts].
    """
    kept = [one for one in others.values() if abs(float(one[1].mean() - one[0].mean())) >= LEAST_SHIFT]
    if not kept:
        return {"value": None, "chance": None}
    changes: list[float] = []
    by_chance: list[float] = []
    for at, (untrained, trained, planned) in enumerate(kept):
        moved = abs(float(trained.mean() - untrained.mean()))
        changes.append(abs(float(planned.mean() - trained.mean())) / moved)
        sets = [trained[drawn(len(trained), seed + 2 * at + side)].mean(axis=1) for side in range(2)]
        by_chance.append(float(np.abs(sets[0] - sets[1]).mean()) / moved)
    return {"value": float(np.mean(changes)), "chance": float(np.mean(by_chance))}


def accuracy(margins: Sequence[float]) -> float:
    """Share of pairs with a margin over 0, ties half."""
    values = np.asarray(margins)
    return float(((values > 0) + 0.5 * (values == 0)).mean())


def accuracy_lost(without: Sequence[Sequence[float]], planned: Sequence[Sequence[float]], seed: int) -> dict[str, Any]:
    """Accuracy without the plan minus accuracy with it, in points, with a 95% interval over pairs.

    Args:
        without: margins of the same pairs after each training without the plan, [trainings][pairs]; trainings are averaged.
        planned: the same with it.
    """
    right = [((np.asarray(one) > 0) + 0.5 * (np.asarray(one) == 0)).mean(axis=0) for one in (without, planned)]
    lost = 100 * (right[0] - right[1])
    return {"value": float(lost.mean()), "interval": mean_interval(lost.tolist(), seed), "pairs": len(lost)}


def mean_interval(values: Sequence[float], seed: int) -> list[float]:
    """95% bootstrap interval of a mean."""
    array = np.asarray(values, np.float64)
    return interval(array[drawn(len(array), seed)].mean(axis=1))


def nats(record: Mapping[str, Any], name: str) -> float:
    """How far the policy raised a trait: the mean over held-out texts of the log-ratio of the text with it over the one without,
    policy against reference, in nats. Nothing is sampled, so it is sure where rates are not."""
    return float(np.mean(record["probes"][name])) / float(record["recipe"]["beta"])


def cost(record: Mapping[str, Any]) -> dict[str, float]:
    """What a run took."""
    keys = ("tokens", "train_seconds", "prepare_seconds", "cpu_seconds", "rollout_cpu_seconds")
    return {key: round(float(record[key]), 1) for key in keys}
