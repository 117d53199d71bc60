"""Plans to protobuf: results of the plan jobs and of the arithmetic. Translation only."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from assay.v1 import audit_pb2
from assay.v1 import intervention_pb2 as pb
from assay.v1 import intervention_service_pb2 as service_pb

from assay_server.interventions.apply import PairOffset, Reward
from assay_server.interventions.data_plan import Row, texts_of
from assay_server.interventions.offsets import Offsets
from assay_server.interventions.plans import CompiledPlan, Intervention, Plan, WarningCode
from assay_server.interventions.shifts import reference_shift
from assay_server.interventions.token_masks import TokenMask
from assay_server.interventions.types import READ_BY, Family, Parameters
from assay_server.rpc.enums import EnumMap
from assay_server.rpc.errors import to_status
from assay_server.rpc.messages import instant, subject, tensor
from assay_server.rpc.plans.requests import FAMILIES, MODES, PARAMETER_ENUMS, PLACEMENTS, SIDES, SPANS
from assay_server.subject.types import SubjectInfo

_WARNINGS = EnumMap(pb.PlanWarning.Code, WarningCode)


def plan(made: Plan) -> pb.Plan:
    """A plan."""
    return pb.Plan(
        name=made.name,
        display_name=made.display_name,
        create_time=instant(made.created),
        dataset=made.dataset,
        dataset_fingerprint=made.dataset_fingerprint,
        subject=subject(made.subject),
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
        concept=audit_pb2.ConceptRef(**asdict(one.concept)),
        mode=MODES.number(one.mode),
        strength=one.strength,
        family=FAMILIES.number(one.family),
        parameters=_parameters(one.parameters, one.family),
        decision=one.decision,
        z=_z(one),
        expected=pb.ExpectedEffect(**asdict(one.expected)),
        side_effects=[pb.SideEffect(**asdict(effect)) for effect in one.side_effects],
        warnings=[pb.PlanWarning(code=_WARNINGS.number(warning.code), text=warning.text) for warning in one.warnings],
    )
    if one.dose_response is not None:
        message.dose_response.CopyFrom(pb.DoseResponse(**asdict(one.dose_response)))
    return message


def artifact(compiled: CompiledPlan, one: Intervention, info: SubjectInfo) -> pb.InterventionArtifact | None:
    """What a trainer puts into its model; None for families that need nothing there."""
    tensors, made, parameters = compiled.tensors, compiled.plan, one.parameters
    message = pb.InterventionArtifact(
        hook=made.subject.hook,
        hook_module=made.hook_module,
        dtype=made.subject.dtype,
        side=SIDES.number(parameters.side),
        span=SPANS.number(parameters.span),
    )
    if one.id in tensors.directions:
        message.steering.vector.CopyFrom(tensor(tensors.directions[one.id]))
        message.steering.coefficient = one.coefficient
        message.steering.norm = abs(one.coefficient)
    elif one.id in tensors.bases:
        message.ablation.basis.CopyFrom(tensor(tensors.bases[one.id]))
        message.ablation.mean.CopyFrom(tensor(tensors.means[one.id]))
        message.ablation.strength = min(1.0, one.strength)
    elif one.id in tensors.clamps:
        message.clamp.sae_id, message.clamp.sae_fingerprint = info.sae_id, info.sae_fingerprint
        message.clamp.features.extend(compiled.targets[one.id - 1].features.tolist())
        message.clamp.values.extend(tensors.clamps[one.id].tolist())
        message.clamp.decoder.CopyFrom(tensor(tensors.decoders[one.id]))
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


def data_head(made: Plan) -> service_pb.DataPlanHead:
    """The part that all rows of a data plan share."""
    return service_pb.DataPlanHead(
        plan=made.name,
        dataset_fingerprint=made.dataset_fingerprint,
        tokenizer_fingerprint=made.subject.tokenizer_fingerprint,
        texts=[service_pb.InoculationText(text=one.text, placement=PLACEMENTS.number(one.placement)) for one in texts_of(made)],
    )


def data_row(row: Row) -> service_pb.DataPlanRow:
    """What a plan does to one pair."""
    message = service_pb.DataPlanRow(
        row=row.row,
        id=row.id,
        weight=row.weight,
        flip=row.flip,
        offset=row.offset,
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


def _parameters(parameters: Parameters, family: Family) -> pb.InterventionParameters:
    """The parameters that the family reads, in the form of a request."""
    told = {name: getattr(parameters, name) for name, families in READ_BY.items() if family in families}
    numbers = {name: kind.number(told[name]) for name, kind in PARAMETER_ENUMS.items() if told.get(name) is not None}
    return pb.InterventionParameters(**{**told, **numbers})


def _z(one: Intervention) -> pb.ZScore:
    return pb.ZScore(mean=one.z.mean, deviation=one.z.deviation, responses=one.z.responses)


def _mask(mask: TokenMask) -> service_pb.TokenMask:
    return service_pb.TokenMask(tokens=mask.tokens.tolist(), starts=mask.starts.tolist(), ends=mask.ends.tolist(), of=mask.of)
