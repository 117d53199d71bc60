"""An audit's options: from the contract to ``AuditSettings`` with every bound checked, and back with every default filled in.

Invariants:
- What is not set becomes the default of ``AuditSettings``; no default is stated twice.
- Every number is finite and within its bounds, or refused by name, value and bounds.
- ``read_settings(settings_message(s))`` is ``s``: what an audit says of its options repeats it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from assay.v1 import audit_pb2

from assay_server.audit.findings import AuditOptions, ViewKind
from assay_server.errors import InvalidItem
from assay_server.jobs.audits.types import AuditSettings, ConceptFamily, Nuisance
from assay_server.rpc.names import short_text, stored_concept_name
from assay_server.rpc.pairs import choose
from assay_server.rpc.specs import Bounds

MAX_METADATA_KEYS = 8
MAX_KEY_BYTES = 1024
MAX_KEEP = 10_000
MAX_EVIDENCE = 50
MAX_FLIPS = 1 << 16
FLIPS_UNIT = 64  # sign flips are packed into 64-bit words
MAX_CLUSTERS = 1 << 16
MAX_COUNT = (1 << 31) - 1

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

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """Where a number may lie; ``open_low`` and ``open_high`` leave the end itself out."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether it lies there."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        return f"{'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


SHARE = Range(0.0, 1.0, open_low=True, open_high=True)
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
        raise _refuse("max_t_flips", numbers["max_t_flips"], f"give a multiple of {FLIPS_UNIT}, or 0 for none", path)
    statistics = AuditOptions(
        views=(ViewKind.STATED,) if stated else _read_views(options, path),
        yekutieli=choose(_YEKUTIELI, options.correction, f"{path}.correction"),
        seed=options.seed,
        **numbers,
    )
    default = AuditSettings()
    families = read_enums(FAMILIES, options.families, f"{path}.families")
    nothing = list(options.nuisances) == [audit_pb2.NUISANCE_UNSPECIFIED]
    nuisances = () if nothing else read_enums(_NUISANCES, options.nuisances, f"{path}.nuisances") or default.nuisances
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
        views=_numbers(VIEWS, used.views),
        families=_numbers(FAMILIES, settings.families),
        concepts=settings.concepts,
        correction=(audit_pb2.CORRECTION_BENJAMINI_YEKUTIELI if used.yekutieli else audit_pb2.CORRECTION_BENJAMINI_HOCHBERG),
        nuisances=_numbers(_NUISANCES, settings.nuisances) or [audit_pb2.NUISANCE_UNSPECIFIED],
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
    return _numbers(VIEWS, (view,))[0]


def _read_views(options: audit_pb2.AuditOptions, path: str) -> tuple[ViewKind, ...]:
    views = read_enums(VIEWS, options.views, f"{path}.views")
    if ViewKind.STATED in views:
        raise InvalidItem(
            "VIEW_STATED is no view of an audit; TestHypothesis tests one stated hypothesis.",
            reason="INVALID_VIEW",
            field=f"{path}.views[{views.index(ViewKind.STATED)}]",
        )
    return views or AuditOptions().views


def read_enums(known: Mapping[int, T], values: Sequence[int], path: str) -> tuple[T, ...]:
    """What the numbers stand for. Raises InvalidItem for a number that is unknown, or named twice."""
    return unique([choose(known, value, f"{path}[{place}]") for place, value in enumerate(values)], path)


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


def check_many(count: int, most: int, limit: str, what: str, path: str) -> None:
    """Raises InvalidItem (LIMIT_EXCEEDED) where more are named than ``most``, which is called ``limit``."""
    if count > most:
        raise InvalidItem(
            f"{count} {what} are named; {limit} is {most}.",
            reason="LIMIT_EXCEEDED",
            field=path,
            details={"named": count, limit: most},
        )


def unique(values: Sequence[T], path: str) -> tuple[T, ...]:
    """The values. Raises InvalidItem (DUPLICATE_VALUE) where one is named twice."""
    seen: set[T] = set()
    for place, value in enumerate(values):
        if value in seen:
            raise InvalidItem(
                f"Entry {place} is named before; name each once.",
                reason="DUPLICATE_VALUE",
                field=f"{path}[{place}]",
                details={"place": place},
            )
        seen.add(value)
    return tuple(values)


def within(name: str, value: float, span: Range, path: str) -> float:
    """The value of a field of ``path``. Raises InvalidItem (OUT_OF_RANGE) where it is outside of the span."""
    if not math.isfinite(value) or not span.holds(value):
        raise _refuse(name, value, f"give a number in {span}", path)
    return value


def _refuse(name: str, value: float, fix: str, path: str) -> InvalidItem:
    field = f"{path}.{name}" if path else name
    return InvalidItem(f"{name} is {value}; {fix}.", reason="OUT_OF_RANGE", field=field, details={name: value})


def _numbers(known: Mapping[int, T], values: Sequence[T]) -> list[Any]:
    numbers = {value: number for number, value in known.items()}
    return [numbers[value] for value in values]
