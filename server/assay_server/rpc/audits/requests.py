"""Requests of AuditService: from protobuf to the audit jobs' types, with every check that needs no look-up.

Invariants:
- An option that is not set becomes the default of ``AuditSettings``; no default is stated twice.
- Every number is finite and within its bounds; a refusal names the field, the value and the bounds.
- ``read_settings(messages.settings(s))`` is ``s``: the options that an audit reports repeat it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from assay.v1 import audit_pb2, audit_service_pb2

from assay_server.audit.explained import MOST_PAIRS
from assay_server.audit.findings import AuditOptions, ViewKind
from assay_server.audit.multiplicity import Procedure
from assay_server.errors import InvalidItem
from assay_server.interventions.types import MAX_STRENGTH
from assay_server.jobs.audits.types import (
    AuditCondition,
    AuditSettings,
    ConceptFamily,
    DecisionMode,
    MetadataValue,
    Nuisance,
    PromptConcept,
    StatedCondition,
)
from assay_server.rpc import names
from assay_server.rpc.enums import EnumMap
from assay_server.rpc.fields import MAX_COUNT, SHARE, Range, check_many, out_of_range, unique, within
from assay_server.rpc.specs import Bounds
from assay_server.subject.pair_checks import MAX_METADATA_BYTES

MAX_NOTE_BYTES = 4096
MAX_AUTHOR_BYTES = 256
MAX_URI_BYTES = 4096
MAX_METADATA_KEYS = 8
MAX_KEY_BYTES = 1024
MAX_KEEP = 10_000
MAX_EVIDENCE = 50
MAX_FLIPS = 1 << 16
FLIPS_UNIT = 64  # sign flips are packed into 64-bit words
MAX_CLUSTERS = 1 << 16
ALL_AUDITS = "audits/-"


class Format(Enum):
    """The files that an audit is exported as."""

    HTML = "html"
    PARQUET = "parquet"


FORMATS = EnumMap(audit_service_pb2.ExportAuditRequest.Format, Format, Format.HTML)
MODES = EnumMap(audit_pb2.Decision.Mode, DecisionMode)
VIEWS = EnumMap(audit_pb2.View, ViewKind)
FAMILIES = EnumMap(audit_pb2.ConceptFamily, ConceptFamily)
NUISANCES = EnumMap(audit_pb2.Nuisance, Nuisance)
CORRECTIONS = EnumMap(audit_pb2.Correction, Procedure, Procedure.BENJAMINI_HOCHBERG)

_RANGES: Mapping[str, Range] = {
    "tau": Range(0.0, 1.0, open_high=True),
    "q_level": SHARE,
    "interval_level": SHARE,
    "max_t_flips": Range(0, MAX_FLIPS),
    "silent_percentile": Range(0.0, 100.0, open_high=True),
    "min_features": Range(1, MAX_COUNT),
    "min_inside": Range(1, MAX_COUNT),
    "min_firings": Range(1, MAX_COUNT),
    "top_share": SHARE,
    "keep": Range(1, MAX_KEEP),
    "evidence": Range(0, MAX_EVIDENCE),
}
# 0 is the default.
_COUNTS: Mapping[str, Range] = {
    "data_clusters": Range(0, MAX_CLUSTERS),
    "prompt_clusters": Range(0, MAX_CLUSTERS),
    "response_clusters": Range(0, MAX_CLUSTERS),
    "control_pairs": Range(0, MOST_PAIRS),
}
OPTION_NUMBERS = (*_RANGES, *_COUNTS)


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """A decision to record."""

    hypothesis: str
    mode: DecisionMode
    strength: float | None
    note: str
    author: str


def read_uri(uri: str) -> str:
    """A URI that is neither missing nor too long. Raises InvalidItem (MISSING_URI, TEXT_TOO_LONG)."""
    if not uri:
        raise InvalidItem('uri is missing; give "file:///path" of a file.', reason="MISSING_URI", field="uri")
    return names.short_text(uri, "uri", most=MAX_URI_BYTES)


def read_stated(request: audit_service_pb2.TestHypothesisRequest, bounds: Bounds) -> tuple[str, StatedCondition | None]:
    """The concept and the condition of a stated hypothesis; None means all pairs. Raises InvalidItem."""
    concept = names.tested_concept_name(request.concept, bounds, "concept")
    kind = request.WhichOneof("condition")
    if kind == "prompt_concept":
        return concept, PromptConcept(names.concept_name(request.prompt_concept, bounds, "prompt_concept"))
    if kind == "audit_condition":
        return concept, AuditCondition(names.audit_condition_name(request.audit_condition, "audit_condition"))
    if kind == "metadata":
        if not request.metadata.key:
            raise InvalidItem("The condition names no metadata key; name one.", reason="MISSING_KEY", field="metadata.key")
        return concept, MetadataValue(
            names.short_text(request.metadata.key, "metadata.key", most=MAX_METADATA_BYTES),
            names.short_text(request.metadata.value, "metadata.value", most=MAX_METADATA_BYTES),
        )
    return concept, None


def read_decision(decision: audit_pb2.Decision) -> DecisionRequest:
    """A decision, without the fields that the server sets. Raises InvalidItem."""
    hypothesis = names.hypothesis_name(decision.hypothesis, "decision.hypothesis")
    if decision.mode == audit_pb2.Decision.MODE_UNSPECIFIED:
        raise InvalidItem(
            "The decision has no mode; say MODE_EXPLAIN_AWAY, MODE_AMPLIFY or MODE_KEEP.",
            reason="MISSING_MODE",
            field="decision.mode",
        )
    mode = MODES.read(decision.mode, "decision.mode")
    strength = decision.strength if decision.HasField("strength") else None
    if strength is not None and not (math.isfinite(strength) and 0 <= strength <= MAX_STRENGTH):
        raise InvalidItem(
            f"strength is {strength}; give a number from 0 to {MAX_STRENGTH:g}.",
            reason="OUT_OF_RANGE",
            field="decision.strength",
            details={"strength": strength, "max_strength": MAX_STRENGTH},
        )
    note = names.short_text(decision.note, "decision.note", most=MAX_NOTE_BYTES)
    author = names.short_text(decision.author, "decision.author", most=MAX_AUTHOR_BYTES)
    return DecisionRequest(hypothesis, mode, strength, note, author)


def read_decisions_parent(parent: str) -> str:
    """ "audits/{id}", or "audits/-" for all. Raises InvalidItem (INVALID_NAME)."""
    return parent if parent == ALL_AUDITS else names.audit_name(parent, "parent")


def read_settings(
    options: audit_pb2.AuditOptions, bounds: Bounds, *, stated: bool = False, path: str = "options"
) -> AuditSettings:
    """Checks and translates options.

    Args:
        options: as received.
        bounds: the limits in force.
        stated: the options of one stated hypothesis, whose only view is STATED.
        path: where the options stand in the request.

    Raises:
        InvalidItem: a value is out of bounds; the error names the field, the value and the bounds.
    """
    numbers: dict[str, Any] = {
        name: within(name, getattr(options, name), span, path) for name, span in _RANGES.items() if options.HasField(name)
    }
    for name, span in _COUNTS.items():
        numbers[name] = within(name, getattr(options, name), span, path)
    if numbers.get("max_t_flips", 0) % FLIPS_UNIT:
        raise out_of_range(numbers["max_t_flips"], f"a multiple of {FLIPS_UNIT}, or 0 for none", f"{path}.max_t_flips")
    statistics = AuditOptions(
        views=(ViewKind.STATED,) if stated else _read_views(options, path),
        yekutieli=CORRECTIONS.read(options.correction, f"{path}.correction") is Procedure.BENJAMINI_YEKUTIELI,
        seed=options.seed,
        local=options.local if options.HasField("local") else AuditOptions().local,
        **numbers,
    )
    default = AuditSettings()
    families = FAMILIES.read_each(options.families, f"{path}.families")
    nothing = list(options.nuisances) == [audit_pb2.NUISANCE_UNSPECIFIED]
    nuisances = () if nothing else NUISANCES.read_each(options.nuisances, f"{path}.nuisances") or default.nuisances
    return AuditSettings(
        statistics=statistics,
        families=families or default.families,
        concepts=_read_concepts(options, bounds, path),
        nuisances=nuisances,
        metadata_keys=_read_keys(options, path),
    )


def _read_views(options: audit_pb2.AuditOptions, path: str) -> tuple[ViewKind, ...]:
    views = VIEWS.read_each(options.views, f"{path}.views")
    if ViewKind.STATED in views:
        raise InvalidItem(
            "VIEW_STATED is no view of an audit; `assay test` tests one stated hypothesis.",
            reason="INVALID_VIEW",
            field=f"{path}.views[{views.index(ViewKind.STATED)}]",
        )
    return views or AuditOptions().views


def _read_concepts(options: audit_pb2.AuditOptions, bounds: Bounds, path: str) -> tuple[str, ...]:
    path = f"{path}.concepts"
    most = bounds.limits.max_concepts
    check_many(len(options.concepts), most, "max_concepts", "concepts", path)
    return unique([names.stored_concept_name(name, f"{path}[{place}]") for place, name in enumerate(options.concepts)], path)


def _read_keys(options: audit_pb2.AuditOptions, path: str) -> tuple[str, ...]:
    path = f"{path}.metadata_keys"
    check_many(len(options.metadata_keys), MAX_METADATA_KEYS, "max_metadata_keys", "metadata keys", path)
    keys = [names.short_text(key, f"{path}[{place}]", most=MAX_KEY_BYTES) for place, key in enumerate(options.metadata_keys)]
    return unique(keys, path)
