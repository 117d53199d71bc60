"""An audit's options: from the contract to ``AuditSettings`` with every bound checked, and back with every default filled in.

Invariants:
- What is not set becomes the default of ``AuditSettings``; no default is stated twice.
- Every number is finite and within its bounds, or refused by name, value and bounds.
- ``read_settings(settings_message(s))`` is ``s``: what an audit says of its options repeats it.
"""

from collections.abc import Mapping
from typing import Any

from assay.v1 import audit_pb2

from assay_server.audit.findings import AuditOptions, ViewKind
from assay_server.errors import InvalidItem
from assay_server.jobs.audits.types import AuditSettings, ConceptFamily, Nuisance
from assay_server.rpc.fields import (
    MAX_COUNT,
    SHARE,
    Range,
    check_many,
    choose,
    choose_each,
    number_of,
    out_of_range,
    unique,
    within,
)
from assay_server.rpc.names import short_text, stored_concept_name
from assay_server.rpc.specs import Bounds

MAX_METADATA_KEYS = 8
MAX_KEY_BYTES = 1024
MAX_KEEP = 10_000
MAX_EVIDENCE = 50
MAX_FLIPS = 1 << 16
FLIPS_UNIT = 64  # sign flips are packed into 64-bit words
MAX_CLUSTERS = 1 << 16

VIEWS: Mapping[int, ViewKind] = {
    audit_pb2.VIEW_GLOBAL: ViewKind.GLOBAL,
    audit_pb2.VIEW_FEATURE_CONDITIONED: ViewKind.FEATURE_CONDITIONED,
    audit_pb2.VIEW_PROMPT_CONDITIONED: ViewKind.PROMPT_CONDITIONED,
    audit_pb2.VIEW_STATED: ViewKind.STATED,
}
FAMILIES: Mapping[int, ConceptFamily] = {
    audit_pb2.CONCEPT_FAMILY_FEATURES: ConceptFamily.FEATURES,
    audit_pb2.CONCEPT_FAMILY_CLUSTERS: ConceptFamily.CLUSTERS,
}
_NUISANCES: Mapping[int, Nuisance] = {
    audit_pb2.NUISANCE_LENGTH: Nuisance.LENGTH,
    audit_pb2.NUISANCE_FORMAT: Nuisance.FORMAT,
}
_YEKUTIELI: Mapping[int, bool] = {
    audit_pb2.CORRECTION_UNSPECIFIED: False,
    audit_pb2.CORRECTION_BENJAMINI_HOCHBERG: False,
    audit_pb2.CORRECTION_BENJAMINI_YEKUTIELI: True,
}

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
_CLUSTERS = ("data_clusters", "prompt_clusters", "response_clusters")  # 0 is the default


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
        InvalidItem: a value cannot be; it names the field, the value and the bounds.
    """
    numbers: dict[str, Any] = {
        name: within(name, getattr(options, name), span, path) for name, span in _RANGES.items() if options.HasField(name)
    }
    for name in _CLUSTERS:
        numbers[name] = within(name, getattr(options, name), Range(0, MAX_CLUSTERS), path)
    if numbers.get("max_t_flips", 0) % FLIPS_UNIT:
        raise out_of_range(numbers["max_t_flips"], f"a multiple of {FLIPS_UNIT}, or 0 for none", f"{path}.max_t_flips")
    statistics = AuditOptions(
        views=(ViewKind.STATED,) if stated else _read_views(options, path),
        yekutieli=choose(_YEKUTIELI, options.correction, f"{path}.correction"),
        seed=options.seed,
        **numbers,
    )
    default = AuditSettings()
    families = choose_each(FAMILIES, options.families, f"{path}.families")
    nothing = list(options.nuisances) == [audit_pb2.NUISANCE_UNSPECIFIED]
    nuisances = () if nothing else choose_each(_NUISANCES, options.nuisances, f"{path}.nuisances") or default.nuisances
    return AuditSettings(
        statistics=statistics,
        families=families or default.families,
        concepts=_read_concepts(options, bounds, path),
        nuisances=nuisances,
        metadata_keys=_read_keys(options, path),
    )


def settings_message(settings: AuditSettings) -> audit_pb2.AuditOptions:
    """The options, with every default that is known filled in."""
    used = settings.statistics
    message = audit_pb2.AuditOptions(
        views=[number_of(VIEWS, view) for view in used.views],
        families=[number_of(FAMILIES, family) for family in settings.families],
        concepts=settings.concepts,
        correction=(audit_pb2.CORRECTION_BENJAMINI_YEKUTIELI if used.yekutieli else audit_pb2.CORRECTION_BENJAMINI_HOCHBERG),
        nuisances=[number_of(_NUISANCES, nuisance) for nuisance in settings.nuisances] or [audit_pb2.NUISANCE_UNSPECIFIED],
        metadata_keys=settings.metadata_keys,
        seed=used.seed,
    )
    for name in (*_RANGES, *_CLUSTERS):
        value = getattr(used, name)
        if name != "min_firings" or value:  # 0 there says that the data will decide
            setattr(message, name, value)
    return message


def view_number(view: ViewKind) -> audit_pb2.View:
    """The contract's number of a view."""
    return number_of(VIEWS, view)


def _read_views(options: audit_pb2.AuditOptions, path: str) -> tuple[ViewKind, ...]:
    views = choose_each(VIEWS, options.views, f"{path}.views")
    if ViewKind.STATED in views:
        raise InvalidItem(
            "VIEW_STATED is no view of an audit; TestHypothesis tests one stated hypothesis.",
            reason="INVALID_VIEW",
            field=f"{path}.views[{views.index(ViewKind.STATED)}]",
        )
    return views or AuditOptions().views


def _read_concepts(options: audit_pb2.AuditOptions, bounds: Bounds, path: str) -> tuple[str, ...]:
    path = f"{path}.concepts"
    most = bounds.limits.max_concepts
    check_many(len(options.concepts), most, "max_concepts", "concepts", path)
    return unique([stored_concept_name(name, f"{path}[{place}]") for place, name in enumerate(options.concepts)], path)


def _read_keys(options: audit_pb2.AuditOptions, path: str) -> tuple[str, ...]:
    path = f"{path}.metadata_keys"
    check_many(len(options.metadata_keys), MAX_METADATA_KEYS, "max_metadata_keys", "metadata keys", path)
    keys = [short_text(key, f"{path}[{place}]", most=MAX_KEY_BYTES) for place, key in enumerate(options.metadata_keys)]
    return unique(keys, path)
