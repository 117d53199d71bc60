"""What no plan can hold, and where a plan does not belong: refused by name, with both fingerprints."""

from __future__ import annotations

from dataclasses import dataclass

from assay_server.errors import FailedPrecondition, InvalidItem
from assay_server.interventions.plans import Intervention, Plan
from assay_server.interventions.targets import Target
from assay_server.interventions.types import (
    BLOCK_ONLY,
    MAX_STRENGTH,
    PROMPTED,
    Family,
    Mode,
    Parameters,
    Statistic,
)
from assay_server.subject.identity import SubjectRef
from assay_server.subject.types import SubjectInfo


@dataclass(frozen=True, slots=True)
class Applied:
    """What a caller says a plan is applied to; "" where it does not say."""

    model_fingerprint: str = ""
    tokenizer_fingerprint: str = ""
    dataset_fingerprint: str = ""


def check_subject(plan: Plan, info: SubjectInfo, *, needs_whole_model: bool = False) -> None:
    """Refuse a plan that was made for another subject than the loaded one.

    Raises:
        FailedPrecondition: MODEL_MISMATCH or TOKENIZER_MISMATCH, with both fingerprints; WHOLE_MODEL_REQUIRED.
    """
    made, loaded = plan.subject, SubjectRef.of(info)
    for what in ("model", "sae", "tokenizer", "template"):
        key = f"{what}_fingerprint"
        reason = "TOKENIZER_MISMATCH" if what in ("tokenizer", "template") else "MODEL_MISMATCH"
        _same(plan, f"the {what.upper() if what == 'sae' else what}", getattr(made, key), getattr(loaded, key), reason)
    _same(plan, "the hook", made.hook, loaded.hook, "MODEL_MISMATCH")
    _same(plan, "the dtype", made.dtype, loaded.dtype, "MODEL_MISMATCH")
    if needs_whole_model:
        require_whole_model(info)
        _same(plan, "the whole model", plan.whole_model_fingerprint, info.whole_model_fingerprint, "MODEL_MISMATCH")


def check_target(plan: Plan, applied: Applied) -> None:
    """Refuse a plan that the caller would apply to another model, tokenizer or dataset than it was made for.

    Raises:
        FailedPrecondition: MODEL_MISMATCH, TOKENIZER_MISMATCH or DATASET_MISMATCH, with both fingerprints.
    """
    for what, made, met in (
        ("model", plan.subject.model_fingerprint, applied.model_fingerprint),
        ("tokenizer", plan.subject.tokenizer_fingerprint, applied.tokenizer_fingerprint),
        ("dataset", plan.dataset_fingerprint, applied.dataset_fingerprint),
    ):
        if met:
            _same(plan, f"the {what}", made, met, f"{what.upper()}_MISMATCH")


def require_whole_model(info: SubjectInfo) -> None:
    """Raises FailedPrecondition (WHOLE_MODEL_REQUIRED) where the model is kept up to the hook only."""
    if not info.whole_model_fingerprint:
        raise FailedPrecondition(
            f"STEERING, INOCULATION and dose-response curves need log-probabilities, and this server keeps {info.blocks_run} of "
            f"{info.blocks_total} blocks and no head. Start it with --whole-model.",
            reason="WHOLE_MODEL_REQUIRED",
            details={"blocks_run": info.blocks_run, "blocks_total": info.blocks_total},
        )


def require_family(plan: Plan, families: frozenset[Family], what: str, field: str = "plan") -> tuple[Intervention, ...]:
    """The plan's interventions of some families. Raises FailedPrecondition (NO_SUCH_FAMILY) where it has none."""
    found = plan.of_families(families)
    if not found:
        names = ", ".join(sorted(family.name for family in families))
        raise FailedPrecondition(
            f"{plan.name} has no intervention that gives {what} ({names}).",
            reason="NO_SUCH_FAMILY",
            field=field,
            details={"plan": plan.name},
        )
    return found


def check_strength(strength: float, path: str) -> float:
    """The same strength. Raises InvalidItem (OUT_OF_RANGE) for one that is negative, not finite, or so large as to overflow."""
    if not 0 <= strength <= MAX_STRENGTH:  # NaN is not in the range either
        raise InvalidItem(
            f"strength is {strength:g}; give 0 to {MAX_STRENGTH:g}. Which way an intervention pushes is said by its mode.",
            reason="OUT_OF_RANGE",
            field=path,
            details={"strength": strength, "max_strength": MAX_STRENGTH},
        )
    return strength


def check_specification(family: Family, mode: Mode, parameters: Parameters, target: Target, path: str) -> None:
    """Refuse what no plan can hold.

    Raises:
        InvalidItem: CANNOT_AMPLIFY, PROMPT_REQUIRED, NOT_A_FEATURE, or INVALID_STATISTIC, with the field's path.
    """
    if mode is Mode.AMPLIFY and family in BLOCK_ONLY:
        raise InvalidItem(
            f"{family.name} takes a concept out and cannot put more of it in; use REWARD_SHAPING or STEERING_VECTOR.",
            reason="CANNOT_AMPLIFY",
            field=f"{path}.mode",
        )
    if family in PROMPTED and not parameters.prompt.strip():
        raise InvalidItem(
            f"{family.name} needs the prompt that asks for the concept; RankInoculationPrompts helps to find one.",
            reason="PROMPT_REQUIRED",
            field=f"{path}.parameters.prompt",
        )
    if family is Family.SAE_CLAMP and target.is_direction:
        raise InvalidItem(
            "SAE_CLAMP sets features, and this concept is a direction; use ABLATION or STEERING_VECTOR.",
            reason="NOT_A_FEATURE",
            field=f"{path}.family",
        )
    if parameters.statistic is Statistic.FIRING and target.is_direction:
        raise InvalidItem(
            "FIRING counts features that fire, and this concept is a direction; use LARGEST.",
            reason="INVALID_STATISTIC",
            field=f"{path}.parameters.statistic",
        )


def _same(plan: Plan, what: str, made: str, met: str, reason: str) -> None:
    if made != met:
        raise FailedPrecondition(
            f"{plan.name} was made for {what} {made or '(none)'} and meets {met or '(none)'}. Make a plan for this one.",
            reason=reason,
            details={"made_for": made, "met": met, "plan": plan.name},
        )
