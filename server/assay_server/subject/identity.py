"""Which subject stored work belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from assay_server.errors import SubjectMismatch
from assay_server.subject.types import SubjectInfo


@dataclass(frozen=True, slots=True)
class SubjectRef:
    """Which subject read the pairs; fields as in ``assay.v1.SubjectRef``."""

    model_id: str
    model_fingerprint: str
    sae_id: str
    sae_fingerprint: str
    tokenizer_fingerprint: str
    template_fingerprint: str
    hook: str
    dtype: str


def subject_ref(info: SubjectInfo) -> SubjectRef:
    """The loaded subject."""
    return SubjectRef(
        model_id=info.model_id,
        model_fingerprint=info.model_fingerprint,
        sae_id=info.sae_id,
        sae_fingerprint=info.sae_fingerprint,
        tokenizer_fingerprint=info.tokenizer_fingerprint,
        template_fingerprint=info.template_fingerprint,
        hook=info.hook,
        dtype=info.dtype,
    )


def same_subject(ref: SubjectRef, info: SubjectInfo) -> bool:
    """Whether it is the loaded subject, whatever its parts are called."""
    return not _differences(ref, info)


def require_subject(ref: SubjectRef, info: SubjectInfo) -> None:
    """Raises SubjectMismatch (OTHER_SUBJECT) where work belongs to a subject that is not loaded."""
    if differences := _differences(ref, info):
        raise SubjectMismatch(
            f"This was asked of another subject; the loaded one differs in {', '.join(differences)}. Load {ref.model_id} with "
            f"{ref.sae_id} at {ref.hook} in {ref.dtype}, or ask anew.",
            reason="OTHER_SUBJECT",
            details={"differs": ", ".join(differences), "hook": ref.hook, "loaded_hook": info.hook},
        )


def subject_record(info: SubjectInfo, *, whole_model: bool = False) -> dict[str, str]:
    """The loaded subject as an operation keeps it; ``whole_model``: its blocks past the hook and its head count too."""
    return {**asdict(subject_ref(info)), "whole_model_fingerprint": info.whole_model_fingerprint if whole_model else ""}


def require_recorded(record: Mapping[str, str], info: SubjectInfo) -> None:
    """Raises SubjectMismatch (OTHER_SUBJECT) where an operation was asked of a subject that is not loaded."""
    parts = dict(record)
    whole = parts.pop("whole_model_fingerprint")
    require_subject(SubjectRef(**parts), info)
    if whole and whole != info.whole_model_fingerprint:
        raise SubjectMismatch(
            "This was asked of another subject; the loaded one differs in its blocks past the hook or its head, or keeps none. "
            "Load that one with --whole-model, or ask anew.",
            reason="OTHER_SUBJECT",
            details={"differs": "whole_model_fingerprint", "asked": whole, "loaded": info.whole_model_fingerprint},
        )


def _differences(ref: SubjectRef, info: SubjectInfo) -> list[str]:
    loaded = asdict(subject_ref(info))
    names = ("model_fingerprint", "sae_fingerprint", "tokenizer_fingerprint", "template_fingerprint", "hook", "dtype")
    return [name for name in names if loaded[name] != getattr(ref, name)]
