"""Requests of InterventionService: from protobuf to the plan jobs' types, with every check that needs no look-up.

Invariants as in ``pairs``: what passes is well-formed, refusals name the path and both numbers. A strength that is negative, not
finite, or so large that its products could overflow never passes: the mode sets the direction of an intervention.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from assay.v1 import intervention_pb2 as pb
from assay.v1 import intervention_service_pb2 as service_pb

from assay_server.errors import InvalidItem
from assay_server.interventions.plan_checks import Applied, check_strength
from assay_server.interventions.reading import Reading
from assay_server.interventions.sweep import DEFAULT_TOKENS, PERPLEXITY_LIMIT, SweepOptions
from assay_server.interventions.targets import Target
from assay_server.interventions.types import (
    READ_BY,
    EditedSpan,
    Family,
    MaskUnit,
    Mode,
    Parameters,
    Placement,
    RowOrder,
    Side,
    Statistic,
)
from assay_server.interventions.vectors import unit
from assay_server.jobs.plans.types import (
    DEFAULT_ROWS,
    DecisionName,
    InterventionRequest,
    NamedConcept,
    PlanRequest,
    RankingRequest,
)
from assay_server.rpc import names
from assay_server.rpc.enums import EnumMap
from assay_server.rpc.fields import MAX_COUNT, Range, out_of_bounds, within
from assay_server.rpc.pairs import LANES, TRUNCATIONS
from assay_server.rpc.specs import Bounds, read_concepts
from assay_server.scorer import Lane

MAX_PROMPT_BYTES = 4096
MAX_PROMPTS = 64
# Beyond what any trainer uses; within them no offset or shift of finite numbers overflows.
MIN_BETA, MAX_BETA = 1e-9, 1e6

MODES = EnumMap(pb.InterventionMode, Mode)
FAMILIES = EnumMap(pb.InterventionFamily, Family, Family.REWARD_SHAPING)
SIDES = EnumMap(pb.ResponseSide, Side)
SPANS = EnumMap(pb.EditedSpan, EditedSpan)
PLACEMENTS = EnumMap(pb.PromptPlacement, Placement, Placement.AUTO)
PARAMETER_ENUMS: Mapping[str, EnumMap[Any]] = {
    "statistic": EnumMap(pb.ScoreStatistic, Statistic),
    "side": SIDES,
    "span": SPANS,
    "order": EnumMap(pb.RowOrder, RowOrder),
    "unit": EnumMap(pb.MaskUnit, MaskUnit),
    "placement": PLACEMENTS,
}
_RANGES: Mapping[str, Range] = {
    "coefficient": Range(0.0, 1e6, open_low=True),
    "share": Range(0.0, 1.0, open_low=True),
    "threshold": Range(-math.inf, math.inf, open_low=True, open_high=True),
    "rank": Range(0, MAX_COUNT),
}
_PRESENT = ("coefficient", "share", "threshold")  # parameters whose zero is not their absence


def read_plan_request(request: service_pb.CreatePlanRequest, bounds: Bounds, most: int) -> PlanRequest:
    """Checks and translates a request for a plan of at most ``most`` interventions.

    Raises:
        InvalidItem: with the field's path.
    """
    count = len(request.interventions)
    if not 1 <= count <= most:
        raise InvalidItem(
            f"{count} interventions are given; give 1 to {most}.",
            reason="LIMIT_EXCEEDED" if count else "EMPTY_REQUEST",
            field="interventions",
            details={"interventions": count, "max_plan_interventions": most},
        )
    return PlanRequest(
        dataset=names.dataset_name(request.dataset, "dataset") if request.dataset else "",
        interventions=tuple(_intervention(spec, bounds, f"interventions[{at}]") for at, spec in enumerate(request.interventions)),
        plan_id=request.plan_id,
        display_name=names.short_text(request.display_name, "display_name"),
        request_id=names.request_id(request.request_id, "request_id"),
    )


def read_applied(target: service_pb.PlanTarget) -> Applied:
    """The model, tokenizer and dataset that the caller applies a plan to."""
    return Applied(target.model_fingerprint, target.tokenizer_fingerprint, target.dataset_fingerprint)


def read_beta(options: service_pb.OffsetOptions) -> float | None:
    """The trainer's β, from 1e-9 to 1e6; None where no shift is asked for."""
    return within("beta", options.beta, Range(MIN_BETA, MAX_BETA), "options") if options.HasField("beta") else None


def read_reading(truncation: int, lane: int, path: str, deadline: float | None) -> Reading:
    """How texts are read."""
    return Reading(TRUNCATIONS.read(truncation, f"{path}truncation"), LANES.read(lane, f"{path}lane", Lane.BULK), deadline)


def read_sweep(request: service_pb.MeasureInterventionRequest) -> SweepOptions:
    """Options of a sweep; ``sweep.check_options`` checks them."""
    return SweepOptions(
        coefficients=tuple(request.coefficients),
        generated_tokens=request.generated_tokens or DEFAULT_TOKENS,
        perplexity_limit=request.perplexity_limit if request.HasField("perplexity_limit") else PERPLEXITY_LIMIT,
    )


def read_ranking(request: service_pb.RankInoculationPromptsRequest, bounds: Bounds, most: int) -> RankingRequest:
    """Checks and translates a request to rank prompts on at most ``most`` pairs."""
    if len(request.prompts) > MAX_PROMPTS:
        raise out_of_bounds("prompts", len(request.prompts), MAX_PROMPTS, "max_prompts", "prompts")
    prompts = [names.short_text(text, f"prompts[{at}]", most=MAX_PROMPT_BYTES) for at, text in enumerate(request.prompts)]
    if any(not text.strip() for text in prompts) or not (prompts or request.description.strip()):
        raise InvalidItem("There is no prompt to rank; give prompts or a description.", reason="PROMPT_REQUIRED", field="prompts")
    if not 0 <= request.rows <= most:
        raise out_of_bounds("rows", request.rows, most, "max_ranking_rows", "rows")
    return RankingRequest(
        dataset=names.dataset_name(request.dataset, "dataset"),
        concept=names.concept_name(request.concept, bounds, "concept"),
        prompts=tuple(prompts),
        description=names.short_text(request.description, "description"),
        rows=request.rows or min(DEFAULT_ROWS, most),
        placement=PLACEMENTS.read(request.placement, "placement"),
        request_id=names.request_id(request.request_id, "request_id"),
    )


def read_rewards(request: service_pb.ScoreRewardsRequest) -> list[float]:
    """The task's own rewards, one per response; zeros where none are given."""
    rewards, count = list(request.rewards), len(request.responses)
    if rewards and len(rewards) != count:
        raise InvalidItem(
            f"{len(rewards)} rewards stand beside {count} responses; give one for each, or none.",
            reason="LENGTH_MISMATCH",
            field="rewards",
            details={"rewards": len(rewards), "responses": count},
        )
    for at, reward in enumerate(rewards):
        if not math.isfinite(reward):
            raise InvalidItem(f"Reward {at} is {reward}; give finite numbers.", reason="NOT_FINITE", field=f"rewards[{at}]")
    return rewards or [0.0] * count


def _intervention(spec: pb.InterventionSpec, bounds: Bounds, path: str) -> InterventionRequest:
    family = FAMILIES.read(spec.family, f"{path}.family")
    return InterventionRequest(
        family=family,
        mode=MODES.read(spec.mode, f"{path}.mode") if spec.mode else None,
        target=_target(spec, bounds, path),
        strength=check_strength(spec.strength, f"{path}.strength") if spec.HasField("strength") else None,
        parameters=_parameters(spec.parameters, family, f"{path}.parameters"),
    )


def _target(spec: pb.InterventionSpec, bounds: Bounds, path: str) -> DecisionName | NamedConcept | Target:
    kind = spec.WhichOneof("target")
    if kind == "decision":
        return DecisionName(spec.decision)
    if kind == "concept":
        return NamedConcept(names.concept_name(spec.concept, bounds, f"{path}.concept"))
    if kind is None:
        raise InvalidItem(
            "The intervention is about nothing; set decision, concept or spec.", reason="MISSING_TARGET", field=path
        )
    path, label = f"{path}.spec", spec.spec.name
    if spec.spec.WhichOneof("kind") == "stored":
        return NamedConcept(names.stored_concept_name(spec.spec.stored, f"{path}.stored"), label, "spec.stored")
    (concept,), directions = read_concepts([spec.spec], bounds, path)
    if concept.weighted is not None:
        return Target(f"spec/{label}", label, concept.weighted.indices, concept.weighted.weights.astype(np.float64))
    assert directions is not None, "a concept is made of features or a direction"
    return Target(f"spec/{label}", label, direction=unit(directions.vectors[0]))


def _parameters(raw: pb.InterventionParameters, family: Family, path: str) -> Parameters:
    """Checks and translates parameters; what is not given stays the default of ``Parameters``."""
    given: dict[str, Any] = {}
    for name, families in READ_BY.items():
        value = getattr(raw, name)
        if not (raw.HasField(name) if name in _PRESENT else value):  # pyright: ignore[reportArgumentType]
            continue
        if family not in families:
            raise InvalidItem(
                f"{family.name} does not read {name}; leave it unset.", reason="UNUSED_PARAMETER", field=f"{path}.{name}"
            )
        if name in PARAMETER_ENUMS:
            value = PARAMETER_ENUMS[name].read(value, f"{path}.{name}")
        elif name == "prompt":
            value = names.short_text(value, f"{path}.prompt", most=MAX_PROMPT_BYTES)
        else:
            value = within(name, value, _RANGES[name], path)
        given[name] = value
    return Parameters(**given)
