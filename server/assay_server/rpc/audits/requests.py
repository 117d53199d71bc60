"""Requests of AuditService in: what its methods ask beside names and options, checked."""

import math
from dataclasses import dataclass

from assay.v1 import audit_pb2, audit_service_pb2

from assay_server.errors import InvalidItem
from assay_server.interventions.types import MAX_STRENGTH
from assay_server.jobs.audits.types import AuditCondition, DecisionMode, MetadataValue, PromptConcept, StatedCondition
from assay_server.rpc.audits.messages import MODES
from assay_server.rpc.fields import choose
from assay_server.rpc.names import audit_condition_name, audit_name, concept_name, hypothesis_name, short_text
from assay_server.rpc.specs import Bounds
from assay_server.subject.checks import MAX_METADATA_BYTES

MAX_NOTE_BYTES = 4096
MAX_AUTHOR_BYTES = 256
MAX_URI_BYTES = 4096
ALL_AUDITS = "audits/-"

Format = audit_service_pb2.ExportAuditRequest.Format
HTML = audit_service_pb2.ExportAuditRequest.FORMAT_HTML
PARQUET = audit_service_pb2.ExportAuditRequest.FORMAT_PARQUET


@dataclass(frozen=True, slots=True)
class Wanted:
    """A decision that somebody asks to record."""

    hypothesis: str
    mode: DecisionMode
    strength: float | None
    note: str
    author: str


def read_uri(uri: str) -> str:
    """A URI of bearable length. Raises InvalidItem (MISSING_URI, TEXT_TOO_LONG)."""
    if not uri:
        raise InvalidItem('uri is missing; give "file:///path" of a file.', reason="MISSING_URI", field="uri")
    return short_text(uri, "uri", most=MAX_URI_BYTES)


def read_stated(request: audit_service_pb2.TestHypothesisRequest, bounds: Bounds) -> tuple[str, StatedCondition | None]:
    """The concept and the condition of a stated hypothesis; None is everywhere. Raises InvalidItem."""
    concept = concept_name(request.concept, bounds, "concept")
    kind = request.WhichOneof("condition")
    if kind == "prompt_concept":
        return concept, PromptConcept(concept_name(request.prompt_concept, bounds, "prompt_concept"))
    if kind == "audit_condition":
        return concept, AuditCondition(audit_condition_name(request.audit_condition, "audit_condition"))
    if kind == "metadata":
        if not request.metadata.key:
            raise InvalidItem("The condition names no metadata key; name one.", reason="MISSING_KEY", field="metadata.key")
        return concept, MetadataValue(
            short_text(request.metadata.key, "metadata.key", most=MAX_METADATA_BYTES),
            short_text(request.metadata.value, "metadata.value", most=MAX_METADATA_BYTES),
        )
    return concept, None


def read_decision(decision: audit_pb2.Decision) -> Wanted:
    """A decision, without the fields that are the server's. Raises InvalidItem."""
    hypothesis = hypothesis_name(decision.hypothesis, "decision.hypothesis")
    if decision.mode == audit_pb2.Decision.MODE_UNSPECIFIED:
        raise InvalidItem(
            "The decision has no mode; say MODE_EXPLAIN_AWAY, MODE_AMPLIFY or MODE_KEEP.",
            reason="MISSING_MODE",
            field="decision.mode",
        )
    mode = choose(MODES, decision.mode, "decision.mode")
    strength = decision.strength if decision.HasField("strength") else None
    if strength is not None and not (math.isfinite(strength) and 0 <= strength <= MAX_STRENGTH):
        raise InvalidItem(
            f"strength is {strength}; give a number from 0 to {MAX_STRENGTH:g}.",
            reason="OUT_OF_RANGE",
            field="decision.strength",
            details={"strength": strength, "max_strength": MAX_STRENGTH},
        )
    note = short_text(decision.note, "decision.note", most=MAX_NOTE_BYTES)
    author = short_text(decision.author, "decision.author", most=MAX_AUTHOR_BYTES)
    return Wanted(hypothesis, mode, strength, note, author)


def read_decisions_parent(parent: str) -> str:
    """ "audits/{id}", or "audits/-" for all. Raises InvalidItem (INVALID_NAME)."""
    return parent if parent == ALL_AUDITS else audit_name(parent, "parent")


def read_format(format: int) -> Format:
    """The report unless another format is named. Raises InvalidItem (UNKNOWN_ENUM_VALUE)."""
    return choose({0: HTML, HTML: HTML, PARQUET: PARQUET}, format, "format")
