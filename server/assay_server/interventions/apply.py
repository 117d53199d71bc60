"""Applies a plan: offsets of pairs, and rewards of fresh responses.

What a plan knows of its own dataset's pairs, it looks up: reward shaping then needs no tokenising and no forward pass. Other
pairs are scored through the one scorer, with the constants that the plan was fitted with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from assay_server.errors import AssayError, FailedPrecondition, InvalidItem
from assay_server.interventions.offsets import Offsets, log_ratio, no_offsets, reward_shaping, shaped_rewards
from assay_server.interventions.plan_checks import require_family
from assay_server.interventions.plans import CompiledPlan, Intervention, Plan
from assay_server.interventions.reading import Change, Engine, Prompting, Reading, Steering, log_ratios
from assay_server.interventions.targets import Target, directions_of, span_score
from assay_server.interventions.types import OFFSETS, REWARDING, Family
from assay_server.scorer import CacheState, Item, Scored, ScoreOptions
from assay_server.store.pairs import canonical
from assay_server.subject.types import Pair, PromptedResponse, SpanName

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """One family's part of one pair's offset: o⁺, o⁻, and the score or A that each was made from."""

    intervention: Intervention
    chosen: float
    rejected: float
    chosen_raw: float
    rejected_raw: float


@dataclass(frozen=True, slots=True)
class PairOffset:
    """One pair's offset, summed and in parts; ``stored`` where no forward pass was needed."""

    chosen: float
    rejected: float
    parts: tuple[Part, ...]
    stored: bool


@dataclass(frozen=True, slots=True)
class Reward:
    """One response's shaped reward: r', what was taken off, and each intervention's score and z."""

    reward: float
    penalty: float
    scores: tuple[float, ...]
    z: tuple[float, ...]


class PlanIndex:
    """A compiled plan whose pairs can be looked up by what they say."""

    def __init__(self, compiled: CompiledPlan) -> None:
        self.compiled = compiled
        self._places: Mapping[bytes, int] = {digest: place for place, digest in enumerate(compiled.rows.digests)}

    @property
    def rows(self) -> int:
        """How many pairs it holds."""
        return len(self.compiled.rows.rows)

    def told(self, plan: Plan) -> PlanIndex:
        """The same rows and tensors under the plan's head as it is now: curves are measured later."""
        index = copy(self)
        index.compiled = replace(self.compiled, plan=plan)
        return index

    def place(self, pair: Pair) -> int | None:
        """Where the pair stands among the plan's usable pairs, by prompt and responses; None where it does not."""
        return self._places.get(pair_digest(pair))


def pair_digest(pair: Pair) -> bytes:
    """16 bytes over prompt and responses; id and metadata do not count."""
    return hashlib.sha256(canonical(Pair(pair.prompt, pair.chosen, pair.rejected))).digest()[:16]


async def pair_offsets(
    engine: Engine, index: PlanIndex, pairs: Sequence[Pair], how: Reading, *, dataset_pairs_only: bool = False
) -> list[PairOffset | AssayError]:
    """Offsets of pairs by all offset families of the plan; an error in a bad pair's place.

    Raises:
        FailedPrecondition: NO_SUCH_FAMILY.
        Overloaded, Expired, NotReady: the call as a whole.
    """
    interventions = require_family(index.compiled.plan, OFFSETS, "offsets")
    outcomes: list[PairOffset | AssayError | None] = [None] * len(pairs)
    places = [_placed(index, pair) for pair in pairs]
    for slot, place in enumerate(places):
        if isinstance(place, AssayError):
            outcomes[slot] = place
        elif place is None and dataset_pairs_only:
            outcomes[slot] = InvalidItem(
                f"This pair is not in {index.compiled.plan.dataset}, which {index.compiled.plan.name} was made for.",
                reason="NOT_IN_DATASET",
            )
    todo = [slot for slot, outcome in enumerate(outcomes) if outcome is None]
    scored = await _pair_scores(engine, index, [(pairs[slot], places[slot]) for slot in todo], interventions, how)
    ratios = await _pair_ratios(engine, index, [pairs[slot] for slot in todo], interventions, how)
    for slot, scores, read in zip(todo, scored, ratios, strict=True):
        failed = scores if isinstance(scores, AssayError) else read if isinstance(read, AssayError) else None
        if failed is not None or isinstance(scores, AssayError) or isinstance(read, AssayError):
            outcomes[slot] = failed
        else:
            outcomes[slot] = _finite(_offset(interventions, *scores, read), index.compiled)
    return [outcome for outcome in outcomes if outcome is not None]


async def response_rewards(
    engine: Engine, compiled: CompiledPlan, responses: Sequence[PromptedResponse], rewards: Sequence[float], how: Reading
) -> list[Reward | AssayError]:
    """Shaped rewards of fresh responses (METHOD.md §4, online reward); an error in a bad response's place. Raises as above."""
    interventions = require_family(compiled.plan, REWARDING, "rewards")
    targets = [compiled.targets[one.id - 1] for one in interventions]
    outcomes = await engine.score(responses, _options(targets, how), deadline=how.deadline)
    results: list[Reward | AssayError] = []
    for outcome, reward in zip(outcomes, rewards, strict=True):
        if isinstance(outcome, AssayError):
            results.append(outcome)
            continue
        scores = _scores(outcome, SpanName.CHOSEN, targets, interventions)
        shaped = float(reward)
        for one, score in zip(interventions, scores, strict=True):
            shaped = float(shaped_rewards([shaped], [score], one.z, one.mode, one.strength)[0])
        z = tuple(float(one.z.of([score])[0]) for one, score in zip(interventions, scores, strict=True))
        results.append(_finite(Reward(shaped, float(reward) - shaped, tuple(scores), z), compiled))
    return results


_Raw = dict[int, tuple[float, float]]  # by intervention id: of the chosen and of the rejected response


async def _pair_scores(
    engine: Engine,
    index: PlanIndex,
    pairs: Sequence[tuple[Pair, int | AssayError | None]],
    interventions: Sequence[Intervention],
    how: Reading,
) -> list[tuple[_Raw, bool] | AssayError]:
    """Scores of the reward-shaping interventions, and whether no forward pass was needed for them."""
    shaping = [one for one in interventions if one.family is Family.REWARD_SHAPING]
    rows = index.compiled.rows
    results: list[tuple[_Raw, bool] | AssayError | None] = []
    for _, place in pairs:
        if isinstance(place, int):
            stored = ((one.id, rows.chosen[one.id - 1][place], rows.rejected[one.id - 1][place]) for one in shaping)
            results.append(({id: (float(chosen), float(rejected)) for id, chosen, rejected in stored}, True))
        else:
            results.append(None if shaping else ({}, True))
    fresh = [slot for slot, result in enumerate(results) if result is None]
    if fresh:
        targets = [index.compiled.targets[one.id - 1] for one in shaping]
        items: list[Item] = [pairs[slot][0] for slot in fresh]
        for slot, outcome in zip(fresh, await engine.score(items, _options(targets, how), deadline=how.deadline), strict=True):
            if isinstance(outcome, AssayError):
                results[slot] = outcome
                continue
            sides = [_scores(outcome, side, targets, shaping) for side in (SpanName.CHOSEN, SpanName.REJECTED)]
            raw = {one.id: (a, b) for one, a, b in zip(shaping, *sides, strict=True)}
            results[slot] = (raw, outcome.timings.cache_state is CacheState.HIT)
    return [result for result in results if result is not None]


async def _pair_ratios(
    engine: Engine, index: PlanIndex, pairs: Sequence[Pair], interventions: Sequence[Intervention], how: Reading
) -> list[_Raw | AssayError]:
    """A(y⁺) and A(y⁻) of the interventions that are made of log-ratios."""
    reading = [one for one in interventions if one.family is not Family.REWARD_SHAPING]
    if not reading or not pairs:
        return [{} for _ in pairs]
    changes = [_change(index.compiled, one) for one in reading]
    results: list[_Raw | AssayError] = []
    for outcome in await log_ratios(engine, pairs, changes, how):
        if isinstance(outcome, AssayError):
            results.append(outcome)
        else:
            results.append({one.id: (float(row[0]), float(row[1])) for one, row in zip(reading, outcome, strict=True)})
    return results


def _change(compiled: CompiledPlan, one: Intervention) -> Change:
    if one.family is Family.STEERING:
        delta = np.float32(one.coefficient) * compiled.tensors.directions[one.id]
        return Steering(delta.astype(np.float32), one.parameters.span)
    return Prompting(one.parameters.prompt, one.parameters.placement)


def _offset(interventions: Sequence[Intervention], scores: _Raw, stored: bool, ratios: _Raw) -> PairOffset:
    total = no_offsets(1)
    parts: list[Part] = []
    for one in interventions:
        chosen, rejected = scores[one.id] if one.id in scores else ratios[one.id]
        part = _part_offsets(one, chosen, rejected)
        total = total + part
        parts.append(Part(one, float(part.chosen[0]), float(part.rejected[0]), chosen, rejected))
    return PairOffset(float(total.chosen[0]), float(total.rejected[0]), tuple(parts), stored and not ratios)


def _part_offsets(one: Intervention, chosen: float, rejected: float) -> Offsets:
    if one.family is Family.REWARD_SHAPING:
        return reward_shaping([chosen], [rejected], one.z, one.mode, one.strength)
    return log_ratio([chosen], [rejected], one.mode, one.strength)


_Applied = TypeVar("_Applied", PairOffset, Reward)


def _finite(applied: _Applied, compiled: CompiledPlan) -> _Applied | FailedPrecondition:
    """The same, or in its place an error: no loss survives a number that is not finite."""
    numbers = (applied.chosen, applied.rejected) if isinstance(applied, PairOffset) else (applied.reward, applied.penalty)
    if np.isfinite([*numbers, numbers[0] - numbers[1]]).all():
        return applied
    return FailedPrecondition(
        f"What {compiled.plan.name} gives here is not finite: {numbers[0]:g} and {numbers[1]:g}. Make a plan of less strength.",
        reason="NOT_FINITE",
        details={"plan": compiled.plan.name},
    )


def _scores(outcome: Scored, side: SpanName, targets: Sequence[Target], interventions: Sequence[Intervention]) -> list[float]:
    along = iter(outcome.pooled.directions.get(side, np.zeros(0, np.float32)).tolist())
    span = outcome.pooled.spans[side]
    return [
        span_score(span, target, one.parameters.statistic, next(along) if target.is_direction else 0.0)
        for target, one in zip(targets, interventions, strict=True)
    ]


def _options(targets: Sequence[Target], how: Reading) -> ScoreOptions:
    return ScoreOptions(directions=directions_of(targets), truncation=how.truncation, lane=how.lane, patient=True)


def _placed(index: PlanIndex, pair: Pair) -> int | AssayError | None:
    try:
        return index.place(pair)
    except AssayError as error:
        return error
