"""Compiles a plan: two passes over a dataset's stored features, no forward pass.

The first pass scores every pair on every target; from that follow z-scores, offsets, picked rows and thresholds. The second
correlates every other concept's disparity with the targets', and weighs it by what the interventions leave of each pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.disparity import disparity, firing_difference, membership
from assay_server.audit.shards import PairShard
from assay_server.interventions.expectations import SATURATED, Companions, CompanionSums, strongest
from assay_server.interventions.filters import default_order, pick_rows
from assay_server.interventions.offsets import Offsets, reward_shaping
from assay_server.interventions.plans import (
    ConceptName,
    Expected,
    Intervention,
    PlanRows,
    PlanWarning,
    SideEffect,
    WarningCode,
)
from assay_server.interventions.targets import Target, shard_disparity, shard_scores, threshold_disparity
from assay_server.interventions.types import (
    DEFAULT_SHARES,
    PICKING,
    PUBLISHED_SHARES,
    PUBLISHED_STRENGTH,
    Family,
    Mode,
    Parameters,
)
from assay_server.interventions.weights import dropped_weights, flipped_weights, offset_weights
from assay_server.interventions.zscore import ZScore, fit_zscore

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FEW_PAIRS = 25
FEW_SHARE = 0.005
SIDE_EFFECTS = 10
MOVES_ALONG = 0.5


@dataclass(frozen=True, slots=True)
class Specification:
    """One intervention that is asked for, its target resolved; parameters that the data decides are None.

    ``note`` says, where something stands in for what was decided about, what does.
    """

    target: Target
    mode: Mode
    strength: float
    family: Family
    parameters: Parameters
    decision: str = ""
    note: str = ""


@dataclass(frozen=True, eq=False)
class ScoredShard:
    """A shard of usable pairs with what the plan needs beside their features.

    Attributes:
        shard: the features.
        digests: of prompt and responses, 16 bytes a pair.
        along: scores along the plan's directions, (chosen, rejected), float32 [pairs, directions] each.
    """

    shard: PairShard
    digests: Sequence[bytes]
    along: tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Concepts:
    """The concepts whose side effects are looked for: every feature, and these groups of features."""

    groups: Sequence[tuple[str, Sequence[int]]]  # name ("cluster/3") and features
    label: Callable[[str, Sequence[int]], str] = lambda name, features: ""


@dataclass(frozen=True, eq=False)
class Compiled:
    """What compiling gives, beside tensors."""

    interventions: tuple[Intervention, ...]
    rows: PlanRows
    clamps: dict[int, NDArray[np.float32]]  # by intervention id: mean `max` of each feature where it fires


def compile_plan(
    specifications: Sequence[Specification],
    shards: Callable[[], Iterable[ScoredShard]],
    concepts: Concepts,
    d_sae: int,
    advance: Callable[[str, int], None] = lambda phase, pairs: None,
) -> Compiled:
    """Compile specifications over a dataset.

    Args:
        specifications: in order; targets are of the loaded subject.
        shards: the dataset's, as often as asked, in the same order.
        concepts: whose side effects are looked for.
        d_sae: SAE features.
        advance: told of every shard's pairs, by phase; what it raises ends the work.
    """
    scores = _Scores(specifications, d_sae)
    for scored in shards():
        scores.add(scored)
        advance("testing", len(scored.shard.rows))
    fitted = [_Fitted.of(specification, *scores.of(index)) for index, specification in enumerate(specifications)]
    companions = _companions(fitted, shards, concepts, d_sae, advance)
    interventions = tuple(
        _intervention(number, one, others, concepts, d_sae)
        for number, (one, others) in enumerate(zip(fitted, companions, strict=True), start=1)
    )
    return Compiled(interventions, scores.rows(fitted), scores.clamps())


class _Scores:
    """The first pass: every pair's score and disparity on every target."""

    def __init__(self, specifications: Sequence[Specification], d_sae: int) -> None:
        self._specifications = specifications
        self._rows: list[Ints] = []
        self._digests: list[bytes] = []
        self._chosen: list[list[Floats]] = [[] for _ in specifications]
        self._rejected: list[list[Floats]] = [[] for _ in specifications]
        self._disparity: list[list[Floats]] = [[] for _ in specifications]
        self._fired = np.zeros((2, d_sae))  # responses in which each feature fires, and the sum of its `max` there
        self._clamping = any(one.family is Family.SAE_CLAMP for one in specifications)

    def add(self, scored: ScoredShard) -> None:
        shard, direction = scored.shard, 0
        self._rows.append(shard.rows)
        self._digests += scored.digests
        for index, specification in enumerate(self._specifications):
            target = specification.target
            if target.is_direction:
                chosen, rejected = (side[:, direction].astype(np.float64) for side in scored.along)
                direction += 1
            else:
                chosen, rejected = shard_scores(shard, target, specification.parameters.statistic)
                self._disparity[index].append(shard_disparity(shard, target))
            self._chosen[index].append(chosen)
            self._rejected[index].append(rejected)
        if self._clamping:
            for values in (shard.max_chosen, shard.max_rejected):
                self._fired[0] += np.bincount(values.indices, minlength=self._fired.shape[1])
                self._fired[1] += np.bincount(values.indices, weights=values.data, minlength=self._fired.shape[1])

    def of(self, index: int) -> tuple[Floats, Floats, Floats | None]:
        """s⁺, s⁻ and, for a target made of features, u: float64 [pairs] each."""
        disparity = None if self._specifications[index].target.is_direction else _joined(self._disparity[index])
        return _joined(self._chosen[index]), _joined(self._rejected[index]), disparity

    def rows(self, fitted: Sequence[_Fitted]) -> PlanRows:
        rows = np.concatenate([np.zeros(0, np.int64), *self._rows])
        return PlanRows(
            rows=rows,
            digests=tuple(self._digests),
            chosen=tuple(one.chosen for one in fitted),
            rejected=tuple(one.rejected for one in fitted),
            picked=tuple(np.isin(np.arange(len(rows)), one.picked) for one in fitted),
        )

    def clamps(self) -> dict[int, NDArray[np.float32]]:
        means = self._fired[1] / np.maximum(self._fired[0], 1)
        return {
            number: means[one.target.features].astype(np.float32)
            for number, one in enumerate(self._specifications, start=1)
            if one.family is Family.SAE_CLAMP
        }


@dataclass(frozen=True, eq=False)
class _Fitted:
    """One specification over the dataset."""

    specification: Specification
    parameters: Parameters
    chosen: Floats
    rejected: Floats
    u: Floats
    z: ZScore
    offsets: Offsets | None
    picked: Ints
    weights: Floats | None

    @classmethod
    def of(cls, specification: Specification, chosen: Floats, rejected: Floats, u: Floats | None) -> _Fitted:
        family, mode, parameters = specification.family, specification.mode, specification.parameters
        z = fit_zscore(chosen, rejected)
        if u is None:
            threshold = specification.target.threshold
            u = threshold_disparity(chosen, rejected, z.mean if threshold is None else threshold)
        picked = np.zeros(0, np.int64)
        if family in PICKING:
            order, share = parameters.order or default_order(mode), parameters.share or DEFAULT_SHARES[family]
            parameters = replace(parameters, order=order, share=share)
            picked = pick_rows(chosen - rejected, share, order)
        offsets = None
        if family in (Family.REWARD_SHAPING, Family.REWEIGHT):
            offsets = reward_shaping(chosen, rejected, z, mode, specification.strength)
        weights = _weights(family, len(chosen), offsets, picked)
        return cls(specification, parameters, chosen, rejected, u, z, offsets, picked, weights)


def _weights(family: Family, pairs: int, offsets: Offsets | None, picked: Ints) -> Floats | None:
    if offsets is not None:
        return offset_weights(offsets.total)
    if family is Family.EXAMPLE_FILTER:
        return dropped_weights(pairs, picked)
    return flipped_weights(pairs, picked) if family is Family.LABEL_FLIP else None


def _companions(
    fitted: Sequence[_Fitted],
    shards: Callable[[], Iterable[ScoredShard]],
    concepts: Concepts,
    d_sae: int,
    advance: Callable[[str, int], None],
) -> list[Companions]:
    """The second pass: every feature, then every group, beside every target."""
    nothing = np.full(len(fitted[0].u), np.nan)
    sums = CompanionSums([one.u for one in fitted], [nothing if one.weights is None else one.weights for one in fitted])
    members = membership([[feature] for feature in range(d_sae)] + [list(features) for _, features in concepts.groups], d_sae)
    for scored in shards():
        differences = firing_difference(scored.shard.freq_chosen, scored.shard.freq_rejected)
        sums.add(disparity(differences, members))
        advance("evidence", len(scored.shard.rows))
    return sums.finish()


def _intervention(number: int, one: _Fitted, others: Companions, concepts: Concepts, d_sae: int) -> Intervention:
    specification, target = one.specification, one.specification.target
    effects = tuple(_side_effects(one, others, concepts, d_sae))
    pairs = len(one.u)
    expected = Expected(
        telling_pairs=int(np.count_nonzero(one.u)),
        shift_before=_mean(one.u),
        shift_after=None if one.weights is None else _mean(one.weights * one.u),
        mean_offset=None if one.offsets is None else _mean(np.abs(one.offsets.total)),
        rows=len(one.picked),
    )
    label = target.label or concepts.label(target.name, target.features.tolist())
    return Intervention(
        id=number,
        concept=ConceptName(target.name, label, tuple(target.features[:64].tolist()), len(target.features)),
        concept_digest=target.digest(),
        mode=specification.mode,
        strength=specification.strength,
        family=specification.family,
        parameters=one.parameters,
        decision=specification.decision,
        z=one.z,
        expected=expected,
        side_effects=effects,
        warnings=tuple(_warnings(one, expected, effects, pairs)),
    )


def _side_effects(one: _Fitted, others: Companions, concepts: Concepts, d_sae: int) -> Iterator[SideEffect]:
    own = set(one.specification.target.features.tolist())
    too_few = np.flatnonzero(others.telling < max(3, min(FEW_PAIRS, len(one.u) // 20)))
    kin = [d_sae + place for place, (_, features) in enumerate(concepts.groups) if own & set(features)]
    for place in strongest(others.correlation, [*own, *kin, *too_few.tolist()], SIDE_EFFECTS).tolist():
        if place < d_sae:
            name, features = f"feature/{place}", (place,)
        else:
            name, members = concepts.groups[place - d_sae]
            features = tuple(members)
        yield SideEffect(
            concept=ConceptName(name, concepts.label(name, features), features[:64], len(features)),
            correlation=float(others.correlation[place]),
            shift_before=float(others.before[place]),
            shift_after=None if others.after is None else float(others.after[place]),
        )


def _warnings(one: _Fitted, expected: Expected, effects: Sequence[SideEffect], pairs: int) -> Iterator[PlanWarning]:
    specification, family = one.specification, one.specification.family
    if specification.note:
        yield PlanWarning(WarningCode.STAND_IN, specification.note)
    if one.z.deviation == 0.0:
        yield PlanWarning(
            WarningCode.NO_VARIATION, f"All {one.z.responses} responses score {one.z.mean:g}: offsets, penalties and picks are 0."
        )
    if expected.telling_pairs < max(FEW_PAIRS, FEW_SHARE * pairs):
        yield PlanWarning(
            WarningCode.TOO_FEW_ROWS,
            f"The concept tells chosen from rejected in {expected.telling_pairs} of {pairs} pairs; narrow, rare behaviours "
            f"barely move. About {max(FEW_PAIRS, int(np.ceil(FEW_SHARE * pairs)))} pairs are needed.",
        )
    if specification.mode is Mode.EXPLAIN_AWAY and expected.shift_before < 0:
        yield PlanWarning(
            WarningCode.AGAINST_THE_DATA,
            f"The mean disparity is {expected.shift_before:+.4f}: chosen responses carry less of the concept, so explaining it "
            "away takes an aversion out and leaves more of it.",
        )
    yield from _range_warnings(specification, one.parameters)
    if specification.mode is Mode.AMPLIFY and family in (Family.EXAMPLE_FILTER, Family.LABEL_FLIP):
        yield PlanWarning(
            WarningCode.CANNOT_AMPLIFY,
            f"{family.name} was seen to block concepts and not to amplify them; REWARD_SHAPING does both.",
        )
    along = [effect for effect in effects if abs(effect.correlation) >= MOVES_ALONG]
    if along:
        named = ", ".join(f"{effect.concept.name} (r = {effect.correlation:+.2f})" for effect in along[:3])
        yield PlanWarning(WarningCode.MOVES_ALONG, f"{len(along)} other concepts move along with it: {named}.")
    if one.offsets is not None and family is Family.REWARD_SHAPING and pairs:
        large = int((np.abs(one.offsets.total) > SATURATED).sum())
        if large > 0.05 * pairs:
            yield PlanWarning(
                WarningCode.SATURATED,
                f"{large} of {pairs} offsets are over {SATURATED:g} in size: those pairs teach almost nothing else. Lower the "
                "strength.",
            )


def _range_warnings(specification: Specification, parameters: Parameters) -> Iterator[PlanWarning]:
    family = specification.family
    low, high = PUBLISHED_STRENGTH
    scaled = (Family.REWARD_SHAPING, Family.STEERING, Family.INOCULATION, Family.REWEIGHT, Family.ONLINE_REWARD)
    if family in scaled and not low <= specification.strength <= high:
        yield PlanWarning(
            WarningCode.OUTSIDE_PUBLISHED_RANGE,
            f"Strength {specification.strength:g} is outside of the {low:g} to {high:g} that was published to work.",
        )
    if family in PUBLISHED_SHARES and parameters.share is not None:
        least, most = PUBLISHED_SHARES[family]
        if not least <= parameters.share <= most:
            yield PlanWarning(
                WarningCode.OUTSIDE_PUBLISHED_RANGE,
                f"Share {parameters.share:g} is outside of the {least:g} to {most:g} that was published to work.",
            )


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate([np.zeros(0), *parts])
