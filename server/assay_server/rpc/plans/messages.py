"""Plans out: what the plan jobs and the arithmetic answer, to protobuf. Translation only."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
from assay.v1 import audit_pb2, pair_pb2
from assay.v1 import intervention_pb2 as pb
from assay.v1 import intervention_service_pb2 as service_pb
from google.rpc import status_pb2
from numpy.typing import NDArray

from assay_server.interventions.apply import PairOffset, Reward
from assay_server.interventions.data_plan import Row, Text
from assay_server.interventions.dose import DoseResponse
from assay_server.interventions.offsets import Offsets
from assay_server.interventions.plans import CompiledPlan, ConceptName, Expected, Intervention, Plan, SideEffect
from assay_server.interventions.shifts import reference_shift
from assay_server.interventions.token_masks import TokenMask
from assay_server.interventions.types import Family, Parameters
from assay_server.rpc.audits.messages import instant
from assay_server.rpc.errors import to_status
from assay_server.rpc.plans.requests import FAMILIES, MODES, ORDERS, PLACEMENTS, READ_BY, SIDES, SPANS, STATISTICS, UNITS
from assay_server.subject.types import SubjectInfo


def plan(made: Plan) -> pb.Plan:
    """A plan."""
    binding = made.binding
    return pb.Plan(
        name=made.name,
        display_name=made.display_name,
        create_time=instant(made.created),
        dataset=made.dataset,
        dataset_fingerprint=made.dataset_fingerprint,
        subject=audit_pb2.SubjectRef(
            model_id=binding.model_id,
            model_fingerprint=binding.model_fingerprint,
            sae_id=binding.sae_id,
            sae_fingerprint=binding.sae_fingerprint,
            tokenizer_fingerprint=binding.tokenizer_fingerprint,
            template_fingerprint=binding.template_fingerprint,
            hook=binding.hook,
            dtype=binding.dtype,
        ),
        whole_model_fingerprint=made.whole_model_fingerprint,
        interventions=[intervention(made, one) for one in made.interventions],
        pairs=made.pairs,
        unusable_pairs=made.unusable_pairs,
        fingerprint=made.fingerprint,
    )


def intervention(made: Plan, one: Intervention) -> pb.Intervention:
    """One intervention of a plan."""
    message = pb.Intervention(
        name=f"{made.name}/interventions/{one.id}",
        concept=_concept(one.concept),
        mode=_number(MODES, one.mode),
        strength=one.strength,
        family=_number(FAMILIES, one.family),
        parameters=_parameters(one.parameters, one.family),
        decision=one.decision,
        z=_z(one),
        expected=_expected(one.expected),
        side_effects=[_side_effect(effect) for effect in one.side_effects],
        warnings=[pb.PlanWarning(code=f"CODE_{warning.code.name}", text=warning.text) for warning in one.warnings],
    )
    if one.dose_response is not None:
        message.dose_response.CopyFrom(_curve(one.dose_response))
    return message


def artifact(compiled: CompiledPlan, one: Intervention, info: SubjectInfo) -> pb.InterventionArtifact | None:
    """What a trainer puts into its model; None for families that need nothing there."""
    tensors, binding = compiled.tensors, compiled.plan.binding
    message = pb.InterventionArtifact(
        hook=binding.hook,
        hook_module=binding.hook_module,
        dtype=binding.dtype,
        side=_number(SIDES, one.parameters.side),
        span=_number(SPANS, one.parameters.span),
    )
    if one.id in tensors.directions:
        message.steering.vector.CopyFrom(_tensor(tensors.directions[one.id]))
        message.steering.coefficient = one.coefficient
        message.steering.norm = abs(one.coefficient)
    elif one.id in tensors.bases:
        message.ablation.basis.CopyFrom(_tensor(tensors.bases[one.id]))
        message.ablation.mean.CopyFrom(_tensor(tensors.means[one.id]))
        message.ablation.strength = min(1.0, one.strength)
    elif one.id in tensors.clamps:
        message.clamp.sae_id, message.clamp.sae_fingerprint = info.sae_id, info.sae_fingerprint
        message.clamp.features.extend(compiled.targets[one.id - 1].features.tolist())
        message.clamp.values.extend(tensors.clamps[one.id].tolist())
        message.clamp.decoder.CopyFrom(_tensor(tensors.decoders[one.id]))
    else:
        return None
    return message


def pair_offset(made: Plan, one: PairOffset, beta: float | None) -> service_pb.PairOffset:
    """One pair's offset, and the equivalent shift of the reference where β is given."""
    message = service_pb.PairOffset(chosen=one.chosen, rejected=one.rejected, offset=one.chosen - one.rejected, stored=one.stored)
    if beta is not None:
        shift = reference_shift(Offsets(np.array([one.chosen]), np.array([one.rejected])), beta)
        message.shift.ref_chosen_logps = float(shift.chosen[0])
        message.shift.ref_rejected_logps = float(shift.rejected[0])
    for part in one.parts:
        entry = message.parts.add(
            intervention=f"{made.name}/interventions/{part.intervention.id}",
            chosen=part.chosen,
            rejected=part.rejected,
            chosen_raw=part.chosen_raw,
            rejected_raw=part.rejected_raw,
        )
        if part.intervention.family is Family.REWARD_SHAPING:
            entry.z.CopyFrom(_z(part.intervention))
    return message


def reward(one: Reward) -> service_pb.ShapedReward:
    """One response's shaped reward."""
    return service_pb.ShapedReward(reward=one.reward, penalty=one.penalty, scores=one.scores, z=one.z)


def data_head(made: Plan, texts: Sequence[Text]) -> service_pb.DataPlanHead:
    """What all rows of a data plan share."""
    return service_pb.DataPlanHead(
        plan=made.name,
        dataset_fingerprint=made.dataset_fingerprint,
        tokenizer_fingerprint=made.binding.tokenizer_fingerprint,
        texts=[service_pb.InoculationText(text=one.text, placement=_number(PLACEMENTS, one.placement)) for one in texts],
    )


def data_row(row: Row) -> service_pb.DataPlanRow:
    """What a plan does to one pair."""
    message = service_pb.DataPlanRow(
        row=row.row,
        id=row.id,
        weight=row.weight,
        flip=row.flip,
        offset=row.offset_chosen - row.offset_rejected,
        offset_chosen=row.offset_chosen,
        offset_rejected=row.offset_rejected,
        texts=row.texts,
        steered_by=row.steered_by,
        differences=row.differences,
    )
    if row.chosen_mask is not None and row.rejected_mask is not None:
        message.chosen_mask.CopyFrom(_mask(row.chosen_mask))
        message.rejected_mask.CopyFrom(_mask(row.rejected_mask))
    if row.error is not None:
        message.error.CopyFrom(to_status(row.error))
    return message


def ranking(record: Mapping[str, Any]) -> service_pb.PromptRanking:
    """A ranking of prompts."""
    return service_pb.PromptRanking(prompts=[service_pb.RankedPrompt(**one) for one in record["prompts"]], rows=record["rows"])


def offset_error(id: str, error: status_pb2.Status) -> service_pb.OffsetResult:
    """Why a pair has no offset."""
    return service_pb.OffsetResult(id=id, error=error)


def _concept(concept: ConceptName) -> audit_pb2.ConceptRef:
    return audit_pb2.ConceptRef(name=concept.name, label=concept.label, features=concept.features, size=concept.size)


def _parameters(parameters: Parameters, family: Family) -> pb.InterventionParameters:
    """What the family reads, as a request may give it again."""
    told: dict[str, Any] = {
        "statistic": _number(STATISTICS, parameters.statistic),
        "coefficient": parameters.coefficient,
        "side": _number(SIDES, parameters.side),
        "span": _number(SPANS, parameters.span),
        "share": parameters.share,
        "order": None if parameters.order is None else _number(ORDERS, parameters.order),
        "threshold": parameters.threshold,
        "unit": _number(UNITS, parameters.unit),
        "prompt": parameters.prompt,
        "placement": _number(PLACEMENTS, parameters.placement),
        "rank": parameters.rank,
    }
    return pb.InterventionParameters(**{name: value for name, value in told.items() if family in READ_BY[name]})


def _z(one: Intervention) -> pb.ZScore:
    return pb.ZScore(mean=one.z.mean, deviation=one.z.deviation, responses=one.z.responses)


def _expected(expected: Expected) -> pb.ExpectedEffect:
    return pb.ExpectedEffect(
        telling_pairs=expected.telling_pairs,
        shift_before=expected.shift_before,
        shift_after=expected.shift_after,
        mean_offset=expected.mean_offset,
        rows=expected.rows,
    )


def _side_effect(effect: SideEffect) -> pb.SideEffect:
    return pb.SideEffect(
        concept=_concept(effect.concept),
        correlation=effect.correlation,
        shift_before=effect.shift_before,
        shift_after=effect.shift_after,
    )


def _curve(curve: DoseResponse) -> pb.DoseResponse:
    return pb.DoseResponse(
        points=[
            pb.DosePoint(
                coefficient=point.coefficient,
                concept_score=point.concept_score,
                concept_score_error=point.concept_score_error,
                perplexity=point.perplexity,
            )
            for point in curve.points
        ],
        low=curve.low,
        high=curve.high,
        recommended=curve.recommended,
        perplexity_limit=curve.perplexity_limit,
        residual_norm=curve.residual_norm,
        perplexity_tokens=curve.perplexity_tokens,
        generated_tokens=curve.generated_tokens,
    )


def _mask(mask: TokenMask) -> service_pb.TokenMask:
    return service_pb.TokenMask(tokens=mask.tokens.tolist(), starts=mask.starts.tolist(), ends=mask.ends.tolist(), of=mask.of)


def _tensor(values: NDArray[np.float32]) -> pair_pb2.Tensor:
    return pair_pb2.Tensor(
        dtype=pair_pb2.Tensor.DTYPE_FLOAT32, shape=values.shape, data=np.ascontiguousarray(values, "<f4").tobytes()
    )


def _number(known: Mapping[int, Enum], value: Enum) -> Any:
    return next(number for number, one in known.items() if one is value)
