"""Audits as plain data: what is asked of one, how it stands, what came of it. ``api`` shows all of it to a transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from assay_server.audit.findings import AuditOptions, TestTable, ViewKind
from assay_server.jobs.results import HypothesisRow, MarkedDirection


class ConceptFamily(StrEnum):
    """Which concepts an audit tests beside the stored ones that it names."""

    FEATURES = "features"
    CLUSTERS = "clusters"


class Nuisance(StrEnum):
    """What a difference may be explained by before a concept is."""

    LENGTH = "length"
    FORMAT = "format"


class AuditState(StrEnum):
    """How far an audit is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Every knob of an audit.

    Attributes:
        statistics: the knobs of the tests.
        families: concepts that are tested.
        concepts: stored concepts that are tested beside them, "concepts/…".
        nuisances: what effects are controlled for; () for nothing.
        metadata_keys: keys whose values are conditions too.
    """

    statistics: AuditOptions = field(default_factory=AuditOptions)
    families: tuple[ConceptFamily, ...] = (ConceptFamily.FEATURES, ConceptFamily.CLUSTERS)
    concepts: tuple[str, ...] = ()
    nuisances: tuple[Nuisance, ...] = (Nuisance.LENGTH,)
    metadata_keys: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class ViewSummary:
    """What one view tested and found; fields as in ``assay.v1.ViewSummary``. ``note``: what was done otherwise than asked."""

    view: ViewKind
    tests: int
    findings_raw: int
    findings_controlled: int
    kept: int
    conditions: int
    reason: str = ""
    note: str = ""
    lessons: int = 0


@dataclass(frozen=True, slots=True)
class NuisanceSummary:
    """The fitted nuisance model; fields as in ``assay.v1.NuisanceSummary``."""

    names: tuple[str, ...] = ()
    gamma: tuple[float, ...] = ()
    accuracy: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an audit cost; fields as in ``assay.v1.Cost``."""

    tokens_read: int = 0
    tokens_shared: int = 0
    cache_hits: int = 0
    pairs_scored: int = 0
    scoring_seconds: float = 0.0
    testing_seconds: float = 0.0
    device: str = ""


@dataclass(frozen=True, slots=True)
class AuditInfo:
    """One audit. ``settings`` has every default that did not depend on the data; once it is done, those too.

    ``views``, ``nuisance`` and ``result_fingerprint`` are set once it is done, ``ended`` once it is over.
    """

    name: str
    dataset: str
    display_name: str
    state: AuditState
    settings: AuditSettings
    subject: SubjectRef
    created: float
    views: tuple[ViewSummary, ...] = ()
    nuisance: NuisanceSummary = field(default_factory=NuisanceSummary)
    cost: Cost = field(default_factory=Cost)
    ended: float | None = None
    error: str = ""
    result_fingerprint: str = ""


@dataclass(frozen=True, eq=False)
class AuditResult:
    """A finished audit: its tables as they were computed, and the kept rows of all views, in order of view and rank.

    A table holds more rows than are kept where its view says so (the global one: every test). ``directions``: by name, of the
    concepts that are one.
    """

    info: AuditInfo
    tables: Mapping[ViewKind, TestTable]
    hypotheses: tuple[HypothesisRow, ...]
    directions: Mapping[str, MarkedDirection] = field(default_factory=dict[str, MarkedDirection])


@dataclass(frozen=True, slots=True)
class PromptConcept:
    """Condition: pairs whose prompt expresses this concept ("concepts/…" made of features, "feature/17", "cluster/3")."""

    concept: str


@dataclass(frozen=True, slots=True)
class AuditCondition:
    """Condition: a condition of an audit of the same dataset and subject, "audits/{audit}/conditions/{Condition.name}"."""

    name: str


@dataclass(frozen=True, slots=True)
class MetadataValue:
    """Condition: pairs whose metadata holds exactly this."""

    key: str
    value: str


StatedCondition = PromptConcept | AuditCondition | MetadataValue
