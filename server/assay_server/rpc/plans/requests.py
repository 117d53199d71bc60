"""Requests of InterventionService in: protobuf to what the plan jobs are asked, with every check that needs no model.

Invariants as in ``convert``: what passes is well-formed, refusals name the path and both numbers. A strength that is negative or
not finite never passes, nor one so large that what is made of it could overflow: which way an intervention pushes is its mode's
business.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from assay.v1 import intervention_pb2 as pb
from assay.v1 import intervention_service_pb2 as service_pb
from assay.v1 import scoring_pb2

from assay_server.errors import InvalidItem
from assay_server.interventions.compile import Specification
from assay_server.interventions.plan_checks import Applied, check_specification
from assay_server.interventions.reading import Reading
from assay_server.interventions.sweep import DEFAULT_TOKENS, PERPLEXITY_LIMIT, SweepOptions
from assay_server.interventions.targets import Target
from assay_server.interventions.types import (
    PICKING,
    PROMPTED,
    STEERED,
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
from assay_server.jobs.plans.jobs import PlanRequest
from assay_server.jobs.plans.ranking import DEFAULT_ROWS, RankingRequest
from assay_server.jobs.plans.run import ConceptSources
from assay_server.jobs.plans.sources import target_of
from assay_server.rpc import names
from assay_server.rpc.audits.requests import MAX_STRENGTH
from assay_server.rpc.pairs import choose
from assay_server.rpc.specs import Bounds, out_of_bounds, read_concepts
from assay_server.scorer import Lane
from assay_server.subject.types import Truncation

MAX_PROMPT_BYTES = 4096
MAX_PROMPTS = 64
MAX_COEFFICIENT = 1e6
# Over and under what any trainer uses; within them no offset or shift that is made of finite numbers overflows.
MIN_BETA, MAX_BETA = 1e-9, 1e6

MODES: Mapping[int, Mode] = {
    pb.INTERVENTION_MODE_EXPLAIN_AWAY: Mode.EXPLAIN_AWAY,
    pb.INTERVENTION_MODE_AMPLIFY: Mode.AMPLIFY,
}
FAMILIES: Mapping[int, Family] = {pb.InterventionFamily.Value(f"INTERVENTION_FAMILY_{one.name}"): one for one in Family}
STATISTICS: Mapping[int, Statistic] = {pb.ScoreStatistic.Value(f"SCORE_STATISTIC_{one.name}"): one for one in Statistic}
SIDES: Mapping[int, Side] = {pb.ResponseSide.Value(f"RESPONSE_SIDE_{one.name}"): one for one in Side}
SPANS: Mapping[int, EditedSpan] = {pb.EditedSpan.Value(f"EDITED_SPAN_{one.name}"): one for one in EditedSpan}
ORDERS: Mapping[int, RowOrder] = {pb.RowOrder.Value(f"ROW_ORDER_{one.name}"): one for one in RowOrder}
UNITS: Mapping[int, MaskUnit] = {pb.MaskUnit.Value(f"MASK_UNIT_{one.name}"): one for one in MaskUnit}
PLACEMENTS: Mapping[int, Placement] = {
    pb.PROMPT_PLACEMENT_UNSPECIFIED: Placement.AUTO,
    pb.PROMPT_PLACEMENT_SYSTEM: Placement.SYSTEM,
    pb.PROMPT_PLACEMENT_USER: Placement.USER,
}
_TRUNCATIONS: Mapping[int, Truncation] = {
    scoring_pb2.TRUNCATION_UNSPECIFIED: Truncation.REFUSE,
    scoring_pb2.TRUNCATION_PROMPT_START: Truncation.PROMPT_START,
    scoring_pb2.TRUNCATION_RESPONSE_END: Truncation.RESPONSE_END,
}
_LANES: Mapping[int, Lane] = {
    scoring_pb2.LANE_UNSPECIFIED: Lane.BULK,
    scoring_pb2.LANE_INTERACTIVE: Lane.INTERACTIVE,
    scoring_pb2.LANE_BULK: Lane.BULK,
}
_EDITING = frozenset({Family.STEERING_VECTOR, Family.ABLATION, Family.SAE_CLAMP})
# Which families read a parameter; set beside another one it is a mistake, and is refused. Plans tell no others either.
READ_BY: Mapping[str, frozenset[Family]] = {
    "coefficient": STEERED,
    "share": PICKING,
    "order": PICKING,
    "threshold": frozenset({Family.TOKEN_FILTER}),
    "unit": frozenset({Family.TOKEN_FILTER}),
    "prompt": PROMPTED,
    "placement": PROMPTED,
    "rank": frozenset({Family.ABLATION}),
    "side": _EDITING | {Family.TOKEN_FILTER},
    "span": _EDITING | {Family.STEERING},
    "statistic": PICKING | {Family.REWARD_SHAPING, Family.REWEIGHT, Family.ONLINE_REWARD},
}
_PRESENT = ("coefficient", "share", "threshold")  # parameters whose zero is not their absence


async def read_plan_request(
    request: service_pb.CreatePlanRequest, bounds: Bounds, sources: ConceptSources, most: int
) -> PlanRequest:
    """Checks a request for a plan of at most so many interventions, and looks up what it is about.

    Raises:
        InvalidItem, NotFound, SubjectMismatch: with the field's path.
    """
    count = len(request.interventions)
    if not 1 <= count <= most:
        raise InvalidItem(
            f"{count} interventions are given; give 1 to {most}.",
            reason="LIMIT_EXCEEDED" if count else "EMPTY_REQUEST",
            field="interventions",
            details={"interventions": count, "max_plan_interventions": most},
        )
    found = [await _specification(spec, bounds, sources, f"interventions[{at}]") for at, spec in enumerate(request.interventions)]
    return PlanRequest(
        dataset=_dataset(request.dataset, [dataset for _, dataset in found]),
        specifications=tuple(specification for specification, _ in found),
        plan_id=request.plan_id,
        display_name=names.short_text(request.display_name, "display_name"),
        request_id=names.request_id(request.request_id, "request_id"),
    )


def read_applied(target: service_pb.PlanTarget) -> Applied:
    """What a caller says a plan is applied to."""
    return Applied(target.model_fingerprint, target.tokenizer_fingerprint, target.dataset_fingerprint)


def read_beta(options: service_pb.OffsetOptions) -> float | None:
    """The trainer's β, from 1e-9 to 1e6; None where no shift is asked for."""
    return _within(options.beta, MIN_BETA, MAX_BETA, "options.beta") if options.HasField("beta") else None


def read_reading(truncation: int, lane: int, path: str, deadline: float | None) -> Reading:
    """How texts are read."""
    return Reading(choose(_TRUNCATIONS, truncation, f"{path}truncation"), choose(_LANES, lane, f"{path}lane"), deadline)


def read_sweep(request: service_pb.MeasureInterventionRequest) -> SweepOptions:
    """Knobs of a sweep; ``sweep.check_options`` judges them."""
    return SweepOptions(
        coefficients=tuple(request.coefficients),
        generated_tokens=request.generated_tokens or DEFAULT_TOKENS,
        perplexity_limit=request.perplexity_limit if request.HasField("perplexity_limit") else PERPLEXITY_LIMIT,
    )


def read_ranking(request: service_pb.RankInoculationPromptsRequest, bounds: Bounds, most: int) -> RankingRequest:
    """Checks and translates a request to rank prompts on at most so many pairs."""
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
        placement=choose(PLACEMENTS, request.placement, "placement"),
        request_id=names.request_id(request.request_id, "request_id"),
    )


def read_rewards(request: service_pb.ScoreRewardsRequest) -> list[float]:
    """The task's own rewards, one for each response; 0 for each where none are given."""
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


async def _specification(
    spec: pb.InterventionSpec, bounds: Bounds, sources: ConceptSources, path: str
) -> tuple[Specification, str]:
    """A specification, and the dataset of its decision ("" where it has none)."""
    family = choose({pb.INTERVENTION_FAMILY_UNSPECIFIED: Family.REWARD_SHAPING, **FAMILIES}, spec.family, f"{path}.family")
    mode = choose(MODES, spec.mode, f"{path}.mode") if spec.mode else None
    strength: float | None = spec.strength if spec.HasField("strength") else None
    kind, decision, dataset = spec.WhichOneof("target"), "", ""
    if kind == "decision":
        decided = await sources.decision(spec.decision, f"{path}.decision")
        target, decision, dataset = decided.target, spec.decision, decided.dataset
        mode, strength = mode or decided.mode, decided.strength if strength is None else strength
    elif kind == "concept":
        name = names.concept_name(spec.concept, bounds, f"{path}.concept")
        target = target_of(name, sources.find(name, f"{path}.concept"))
    elif kind == "spec":
        target = _inline(spec, bounds, sources, f"{path}.spec")
    else:
        raise InvalidItem(
            "The intervention is about nothing; set decision, concept or spec.", reason="MISSING_TARGET", field=path
        )
    if mode is None:
        raise InvalidItem(
            "mode is not set, and no decision says it; give EXPLAIN_AWAY or AMPLIFY.", reason="MISSING_MODE", field=f"{path}.mode"
        )
    strength = _strength(1.0 if strength is None else strength, f"{path}.strength")
    parameters = _parameters(spec.parameters, family, f"{path}.parameters")
    check_specification(family, mode, parameters, target, path)
    return Specification(target, mode, strength, family, parameters, decision), dataset


def _inline(spec: pb.InterventionSpec, bounds: Bounds, sources: ConceptSources, path: str) -> Target:
    if spec.spec.WhichOneof("kind") == "stored":
        name = names.stored_concept_name(spec.spec.stored, f"{path}.stored")
        return target_of(name, sources.find(name, f"{path}.stored"), spec.spec.name)
    (concept,), directions = read_concepts([spec.spec], bounds, path)
    name = f"spec/{spec.spec.name}"
    if concept.weighted is not None:
        return Target(name, spec.spec.name, concept.weighted.indices, concept.weighted.weights.astype(np.float64))
    assert directions is not None, "a concept is made of features or a direction"
    return Target(name, spec.spec.name, direction=unit(directions.vectors[0]))


def _parameters(raw: pb.InterventionParameters, family: Family, path: str) -> Parameters:
    for name, families in READ_BY.items():
        given = raw.HasField(name) if name in _PRESENT else bool(getattr(raw, name))  # pyright: ignore[reportArgumentType]
        if given and family not in families:
            raise InvalidItem(
                f"{family.name} does not read {name}; leave it unset.", reason="UNUSED_PARAMETER", field=f"{path}.{name}"
            )
    share = raw.share if raw.HasField("share") else None
    if share is not None and not 0 < share <= 1:
        raise InvalidItem(f"share is {share:g}; give more than 0 and at most 1.", reason="OUT_OF_RANGE", field=f"{path}.share")
    threshold = raw.threshold if raw.HasField("threshold") else None
    if threshold is not None and not math.isfinite(threshold):
        raise InvalidItem(f"threshold is {threshold}; give a finite number.", reason="OUT_OF_RANGE", field=f"{path}.threshold")
    if raw.rank < 0:
        raise InvalidItem(f"rank is {raw.rank}; give 0 or more.", reason="OUT_OF_RANGE", field=f"{path}.rank")
    return Parameters(
        statistic=choose({pb.SCORE_STATISTIC_UNSPECIFIED: Statistic.LARGEST, **STATISTICS}, raw.statistic, f"{path}.statistic"),
        coefficient=_positive(raw.coefficient, MAX_COEFFICIENT, f"{path}.coefficient") if raw.HasField("coefficient") else None,
        side=choose({pb.RESPONSE_SIDE_UNSPECIFIED: Side.BOTH, **SIDES}, raw.side, f"{path}.side"),
        span=choose({pb.EDITED_SPAN_UNSPECIFIED: EditedSpan.FINAL_TURN_ON, **SPANS}, raw.span, f"{path}.span"),
        share=share,
        order=choose(ORDERS, raw.order, f"{path}.order") if raw.order else None,
        threshold=threshold,
        unit=choose({pb.MASK_UNIT_UNSPECIFIED: MaskUnit.WORD, **UNITS}, raw.unit, f"{path}.unit"),
        prompt=names.short_text(raw.prompt, f"{path}.prompt", most=MAX_PROMPT_BYTES),
        placement=choose(PLACEMENTS, raw.placement, f"{path}.placement"),
        rank=raw.rank,
    )


def _dataset(given: str, decided: Sequence[str]) -> str:
    if given:
        return names.dataset_name(given, "dataset")
    datasets = sorted(set(filter(None, decided)))
    if len(datasets) == 1:
        return datasets[0]
    found = f"its decisions were made on {len(datasets)} datasets" if datasets else "no intervention names a decision"
    raise InvalidItem(f"dataset is not set, and {found}; name one dataset.", reason="MISSING_DATASET", field="dataset")


def _strength(value: float, path: str) -> float:
    if not (math.isfinite(value) and 0 <= value <= MAX_STRENGTH):
        raise InvalidItem(
            f"strength is {value:g}; give 0 to {MAX_STRENGTH:g}. Which way an intervention pushes is said by its mode.",
            reason="OUT_OF_RANGE",
            field=path,
            details={"strength": value, "max_strength": MAX_STRENGTH},
        )
    return value


def _positive(value: float, most: float, path: str) -> float:
    if not 0 < value <= most:
        raise _out_of_range(value, f"more than 0 and at most {most:g}", path)
    return value


def _within(value: float, least: float, most: float, path: str) -> float:
    if not least <= value <= most:
        raise _out_of_range(value, f"{least:g} to {most:g}", path)
    return value


def _out_of_range(value: float, wanted: str, path: str) -> InvalidItem:
    what = path.rsplit(".", maxsplit=1)[-1]
    return InvalidItem(f"{what} is {value:g}; give {wanted}.", reason="OUT_OF_RANGE", field=path, details={what: value})
