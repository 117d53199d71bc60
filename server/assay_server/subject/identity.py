"""Which subject stored work belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from assay_server.errors import SubjectMismatch
from assay_server.subject.types import SubjectInfo

_TELLING = ("model_fingerprint", "sae_fingerprint", "tokenizer_fingerprint", "template_fingerprint", "hook", "dtype")


@dataclass(frozen=True, slots=True)
class SubjectRef:
    """Which subject read the pairs; fields as in ``assay.v1.SubjectRef``. Ids name its parts, and do not tell subjects apart."""

    model_id: str
    model_fingerprint: str
    sae_id: str
    sae_fingerprint: str
    tokenizer_fingerprint: str
    template_fingerprint: str
    hook: str
    dtype: str

    @classmethod
    def of(cls, info: SubjectInfo) -> SubjectRef:
        """The loaded subject."""
        return cls(**{name: getattr(info, name) for name in cls.__dataclass_fields__})

    def differing(self, info: SubjectInfo) -> tuple[str, ...]:
        """The fields that tell this subject from the loaded one; none where they are the same."""
        return tuple([name for name in _TELLING if getattr(info, name) != getattr(self, name)])

    def require(self, info: SubjectInfo) -> None:
        """Raises SubjectMismatch (OTHER_SUBJECT) where work belongs to a subject that is not loaded."""
        if differs := ", ".join(self.differing(info)):
            raise SubjectMismatch(
                f"This was asked of another subject; the loaded one differs in {differs}. Load {self.model_id} with "
                f"{self.sae_id} at {self.hook} in {self.dtype}, or ask anew.",
                reason="OTHER_SUBJECT",
                details={"differs": differs, "hook": self.hook, "loaded_hook": info.hook},
            )


def subject_record(info: SubjectInfo, *, whole_model: bool = False) -> dict[str, str]:
    """The loaded subject as an operation keeps it; ``whole_model``: its blocks past the hook and its head count too."""
    return {**asdict(SubjectRef.of(info)), "whole_model_fingerprint": info.whole_model_fingerprint if whole_model else ""}


def require_recorded(record: Mapping[str, str], info: SubjectInfo) -> None:
    """Raises SubjectMismatch (OTHER_SUBJECT) where an operation was asked of a subject that is not loaded."""
    parts = dict(record)
    whole = parts.pop("whole_model_fingerprint")
    SubjectRef(**parts).require(info)
    if whole and whole != info.whole_model_fingerprint:
        raise SubjectMismatch(
            "This was asked of another subject; the loaded one differs in its blocks past the hook or its head, or keeps none. "
            "Load that one with --whole-model, or ask anew.",
            reason="OTHER_SUBJECT",
            details={"differs": "whole_model_fingerprint", "asked": whole, "loaded": info.whole_model_fingerprint},
        )
