"""Any statistic of the pairs with a percentile interval over prompts, the unit that varies independently (METHOD.md §5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from assay_server.audit.matrices import Ints, prompt_ids
from assay_server.audit.reason import Reason
from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A statistic of the pairs and its percentile interval over prompts drawn with replacement."""

    value: float
    low: float
    high: float
    draws: int  # draws in which the statistic was finite
    reason: Reason


def bootstrap(
    statistic: Callable[[Ints], float], prompts: ArrayLike, *, draws: int = 1_000, seed: int = 0, level: float = 0.95
) -> Bootstrap:
    """The statistic of all pairs, with its interval.

    Args:
        statistic: from row numbers of pairs (with repeats) to a number; a result that is not finite is left out.
        prompts: an integer id per pair, [pairs].
        draws: resamples.
        seed: of the resamples.
        level: share that the interval covers.

    Raises:
        ValueError: level is outside (0, 1), draws is not positive, or prompts is not one integer per pair.
    """
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level must lie in (0, 1) and draws be positive, got {level} and {draws}")
    ids = prompt_ids(prompts, len(np.asarray(prompts)))
    order = np.argsort(ids, kind="stable").astype(np.int64)
    members = np.split(order, np.flatnonzero(np.diff(ids[order])) + 1) if len(ids) else []
    value = float(statistic(np.arange(len(ids)))) if members else 0.0
    reason = Reason.NO_PAIRS if not members else Reason.ONE_PROMPT if len(members) == 1 else Reason.NONE
    if reason != Reason.NONE or not np.isfinite(value):
        finite = value if np.isfinite(value) else 0.0
        return Bootstrap(finite, finite, finite, 0, reason if reason != Reason.NONE else Reason.CONSTANT)
    generator = np.random.default_rng(seed)
    picks = (generator.integers(len(members), size=len(members)) for _ in range(draws))
    values = np.array([float(statistic(np.concatenate([members[prompt] for prompt in pick]))) for pick in picks])
    values = values[np.isfinite(values)]
    if not len(values):
        return Bootstrap(value, value, value, 0, Reason.CONSTANT)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Bootstrap(value, float(low), float(high), len(values), Reason.NONE)
