"""Requests of InterventionService: what both clients share."""

from collections.abc import Sequence

from assay.audit_calls import PAGE_SIZE, fresh_id, resource
from assay.audits import to_wire
from assay.flow import Dialect
from assay.intervention_results import OffsetResult, PlanTarget, offset_result
from assay.interventions import Intervene, PromptPlacement
from assay.options import Lane, Truncation
from assay.pairs import PromptedResponse
from assay.v1 import intervention_pb2 as pb
from assay.v1 import intervention_service_pb2 as service


def create_plan_request(
    dataset: str, interventions: Sequence[Intervene], *, plan_id: str, display_name: str, request_id: str | None
) -> service.CreatePlanRequest:
    """A plan to make."""
    return service.CreatePlanRequest(
        plan_id=plan_id,
        display_name=display_name,
        dataset=resource(dataset, "datasets") if dataset else "",
        interventions=[one.to_proto() for one in interventions],
        request_id=request_id or fresh_id(),
    )


def plan_request(name: str) -> service.GetPlanRequest:
    """One plan."""
    return service.GetPlanRequest(name=resource(name, "plans"))


def plans_request(dataset: str, token: str) -> service.ListPlansRequest:
    """A page of plans."""
    wanted = resource(dataset, "datasets") if dataset else ""
    return service.ListPlansRequest(page_size=PAGE_SIZE, page_token=token, dataset=wanted)


def delete_plan_request(name: str) -> service.DeletePlanRequest:
    """A plan to delete."""
    return service.DeletePlanRequest(name=resource(name, "plans"))


def offsets_dialect(
    plan: str, beta: float | None, target: PlanTarget, dataset_pairs_only: bool, truncation: Truncation, lane: Lane
) -> Dialect[OffsetResult]:
    """What a stream of offsets says."""
    options = service.OffsetOptions(
        plan=resource(plan, "plans"),
        beta=beta,
        target=target.to_proto(),
        dataset_pairs_only=dataset_pairs_only,
        truncation=truncation.value,
        lane=lane.value,
    )
    return Dialect(
        head=service.StreamOffsetsRequest(options=options),
        batch=lambda batch: service.StreamOffsetsRequest(batch=batch),
        result=offset_result,
        refused=lambda index, id, error: OffsetResult(index, id, None, error),
    )


def intervention_request(name: str, target: PlanTarget) -> service.GetInterventionRequest:
    """One intervention with its artifact."""
    return service.GetInterventionRequest(name=resource(name, "plans"), target=target.to_proto())


def measure_request(
    name: str, coefficients: Sequence[float], generated_tokens: int, perplexity_limit: float | None, request_id: str | None
) -> service.MeasureInterventionRequest:
    """A curve to measure."""
    return service.MeasureInterventionRequest(
        name=resource(name, "plans"),
        coefficients=coefficients,
        generated_tokens=generated_tokens,
        perplexity_limit=perplexity_limit,
        request_id=request_id or fresh_id(),
    )


def data_plan_request(plan: str, target: PlanTarget, start_row: int) -> service.StreamDataPlanRequest:
    """A data plan, from a row on."""
    return service.StreamDataPlanRequest(plan=resource(plan, "plans"), target=target.to_proto(), start_row=start_row)


def export_data_plan_request(plan: str, target: PlanTarget) -> service.ExportDataPlanRequest:
    """A data plan as Parquet."""
    return service.ExportDataPlanRequest(plan=resource(plan, "plans"), target=target.to_proto())


def ranking_request(
    dataset: str,
    concept: str,
    prompts: Sequence[str],
    description: str,
    rows: int,
    placement: PromptPlacement | None,
    request_id: str | None,
) -> service.RankInoculationPromptsRequest:
    """Prompts to rank."""
    request = service.RankInoculationPromptsRequest(
        dataset=resource(dataset, "datasets"),
        concept=concept,
        prompts=prompts,
        description=description,
        rows=rows,
        request_id=request_id or fresh_id(),
    )
    if placement is not None:
        request.placement = to_wire(pb.PromptPlacement, "PROMPT_PLACEMENT", placement)
    return request


def rewards_request(
    plan: str, responses: Sequence[PromptedResponse], rewards: Sequence[float], target: PlanTarget, truncation: Truncation
) -> service.ScoreRewardsRequest:
    """Rewards of responses; ValueError where a text is no Unicode, or the lengths differ."""
    if rewards and len(rewards) != len(responses):
        raise ValueError(f"{len(rewards)} rewards stand beside {len(responses)} responses; give one for each, or none")
    return service.ScoreRewardsRequest(
        plan=resource(plan, "plans"),
        responses=[one.to_proto() for one in responses],
        rewards=rewards,
        target=target.to_proto(),
        truncation=truncation.value,
    )
