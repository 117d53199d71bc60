"""Datasets and audits: stored pairs, audit options and audit summaries.

    options = AuditOptions(views=[View.GLOBAL], metadata_keys=["topic"], seed=7)
    audit = client.audit(client.upload_pairs("pairs.jsonl"), options).wait()
    audit.views[0].findings_controlled       findings of the global view once length is controlled for
    audit.options.tau                        what was used: every default filled in

Hypotheses, their evidence and decisions are in `assay.hypotheses`.

Invariant: a result holds plain values and tuples, never a protobuf message; a time is UTC, or None where there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from assay.audit_summaries import Explained, LengthSummary, NuisanceSummary
from assay.times import utc
from assay.v1 import audit_pb2
from assay.wire import from_wire, members, plain, to_wire


class View(Enum):
    """How hypotheses are made (METHOD.md 3.1 to 3.4)."""

    GLOBAL = "global"
    FEATURE_CONDITIONED = "feature_conditioned"
    PROMPT_CONDITIONED = "prompt_conditioned"
    STATED = "stated"


class Correction(Enum):
    """How p-values become q-values over everything that a view tests."""

    BENJAMINI_HOCHBERG = "benjamini_hochberg"
    BENJAMINI_YEKUTIELI = "benjamini_yekutieli"


class Nuisance(Enum):
    """What a difference between responses may be explained by before a concept is."""

    LENGTH = "length"
    FORMAT = "format"
    PROVENANCE = "provenance"


class ConceptFamily(Enum):
    """Which concepts are tested: SAE features by themselves, clusters of them, text descriptors, words and phrases."""

    FEATURES = "features"
    CLUSTERS = "clusters"
    DESCRIPTORS = "descriptors"
    WORDS = "words"


class AuditState(Enum):
    """How far an audit is."""

    UNSPECIFIED = "unspecified"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_PLAIN_OPTIONS = (
    "tau",
    "q_level",
    "interval_level",
    "max_t_flips",
    "silent_percentile",
    "min_features",
    "min_inside",
    "min_firings",
    "top_share",
    "keep",
    "evidence",
    "local",
)
_COUNTS = ("data_clusters", "prompt_clusters", "response_clusters", "seed", "control_pairs")


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """Knobs of an audit; None, 0 or an empty sequence leaves one to the server, and `Audit.options` says what was used.

    Attributes:
        views: which views to test; all three by default.
        families: any of them; all by default (clusters where there are any). They are corrected apart.
        concepts: stored concepts ("concepts/...") that are tested beside them.
        tau: share of a span's tokens above which a feature counts as expressed (0.01).
        q_level: a finding has q at most this (0.05).
        interval_level: share that intervals cover (0.95).
        correction: which q-value makes a finding (Benjamini-Hochberg).
        nuisances: what effects are controlled for: None for length, () for nothing. PROVENANCE needs metadata of the models.
        max_t_flips: flips of the family-wise test, a multiple of 64 (1024); 0 leaves it out.
        data_clusters: clusters of pairs in the feature-conditioned view.
        silent_percentile: pairs whose activity is under it are in no cluster (5).
        min_features: features that a concept needs in the feature-conditioned view (10).
        min_inside: pairs that a condition needs (25).
        min_firings: pairs in which a feature must fire for the prompt-conditioned view (200, at most a tenth of the pairs).
        prompt_clusters: clusters of prompt features.
        response_clusters: clusters of response-delta features; 0 takes them singly under 20,000 pairs.
        top_share: share of the pairs that at most stand inside a prompt condition (0.1).
        metadata_keys: keys whose values are conditions too; at most 8.
        seed: of every random choice (0).
        keep: hypotheses that are kept with their evidence, a view (1000, at most 10,000).
        evidence: pairs of evidence a hypothesis, on each side (5, at most 50).
        local: whether features that tau hides are tested by their largest activation too, as "feature/17@max" (yes).
        control_pairs: pairs that are read once more, so that `Audit.explained` holds the SAE against the mean residual and a
            frozen random dictionary; every block is then fitted on these (none, at most 20,000).
    """

    views: Sequence[View] = ()
    families: Sequence[ConceptFamily] = ()
    concepts: Sequence[str] = ()
    tau: float | None = None
    q_level: float | None = None
    interval_level: float | None = None
    correction: Correction | None = None
    nuisances: Sequence[Nuisance] | None = None
    max_t_flips: int | None = None
    data_clusters: int = 0
    silent_percentile: float | None = None
    min_features: int | None = None
    min_inside: int | None = None
    min_firings: int | None = None
    prompt_clusters: int = 0
    response_clusters: int = 0
    top_share: float | None = None
    metadata_keys: Sequence[str] = ()
    seed: int = 0
    keep: int | None = None
    evidence: int | None = None
    local: bool | None = None
    control_pairs: int = 0

    def to_proto(self) -> audit_pb2.AuditOptions:
        """The wire form; ValueError where a number does not fit its field."""
        values: dict[str, Any] = {name: getattr(self, name) for name in (*_PLAIN_OPTIONS, *_COUNTS)}
        nuisances = [to_wire(audit_pb2.Nuisance, "NUISANCE", one) for one in self.nuisances or ()]
        return audit_pb2.AuditOptions(
            views=[to_wire(audit_pb2.View, "VIEW", one) for one in self.views],
            families=[to_wire(audit_pb2.ConceptFamily, "CONCEPT_FAMILY", one) for one in self.families],
            concepts=self.concepts,
            correction=to_wire(audit_pb2.Correction, "CORRECTION", self.correction),
            nuisances=[audit_pb2.NUISANCE_UNSPECIFIED] if self.nuisances is not None and not nuisances else nuisances,
            metadata_keys=self.metadata_keys,
            **values,
        )

    @classmethod
    def from_proto(cls, message: audit_pb2.AuditOptions) -> "AuditOptions":
        """From the wire."""
        values: dict[str, Any] = {name: getattr(message, name) if message.HasField(name) else None for name in _PLAIN_OPTIONS}
        return cls(
            views=members(View, audit_pb2.View, "VIEW", message.views),
            families=members(ConceptFamily, audit_pb2.ConceptFamily, "CONCEPT_FAMILY", message.families),
            concepts=tuple(message.concepts),
            correction=from_wire(Correction, audit_pb2.Correction, "CORRECTION", message.correction),
            nuisances=members(Nuisance, audit_pb2.Nuisance, "NUISANCE", message.nuisances) if message.nuisances else None,
            metadata_keys=tuple(message.metadata_keys),
            **values,
            **{name: getattr(message, name) for name in _COUNTS},
        )


DEFAULT_AUDIT = AuditOptions()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Preference pairs that the server keeps; the fields of ``assay.v1.Dataset``, where each is described.

    Equal pairs in equal order are one dataset, however often they are uploaded: `name` follows from `fingerprint`.
    """

    name: str
    display_name: str
    fingerprint: str
    pairs: int
    unusable_pairs: int
    prompts: int
    metadata_keys: tuple[str, ...]
    create_time: datetime | None
    scored: bool

    @classmethod
    def from_proto(cls, message: audit_pb2.Dataset) -> "Dataset":
        """From the wire."""
        return cls(
            **plain(cls, message, "metadata_keys", "create_time"),
            metadata_keys=tuple(message.metadata_keys),
            create_time=utc(message, "create_time"),
        )


@dataclass(frozen=True, slots=True)
class SubjectRef:
    """Which subject read the pairs; the fields of ``assay.v1.SubjectRef``."""

    model_id: str
    model_fingerprint: str
    sae_id: str
    sae_fingerprint: str
    tokenizer_fingerprint: str
    template_fingerprint: str
    hook: str
    dtype: str

    @classmethod
    def from_proto(cls, message: audit_pb2.SubjectRef) -> "SubjectRef":
        """From the wire."""
        return cls(**plain(cls, message))


@dataclass(frozen=True, slots=True)
class FamilySummary:
    """What one family of tests tested and found in a view: q-values are corrected over its tests alone.

    Attributes:
        title: which concepts, in words, such as "text descriptors".
        given: whether under conditions that were named beforehand.
        tests: tests that multiplicity was corrected over.
        findings_raw: findings by the raw effect.
        findings_controlled: findings once nuisances are controlled for.
    """

    title: str
    given: bool
    tests: int
    findings_raw: int
    findings_controlled: int

    @classmethod
    def from_proto(cls, message: audit_pb2.FamilySummary) -> "FamilySummary":
        """From the wire."""
        return cls(**plain(cls, message))


@dataclass(frozen=True, slots=True)
class ViewSummary:
    """What one view tested and found.

    Attributes:
        view: which.
        tests: tests that multiplicity was corrected over.
        findings_raw: findings by the raw effect.
        findings_controlled: findings once nuisances are controlled for.
        kept: hypotheses that can be listed.
        conditions: conditions that were formed; 0 in the global view.
        reason: why the view tested nothing, in a sentence; "" otherwise.
        lessons: lessons among the findings.
        note: what was done otherwise than the options say, and why, in sentences; "" where nothing was.
        explained: raw findings that what is controlled for explains, over all tests.
        weakened: raw findings that are weaker once it is controlled for, or undecided.
        unchanged: raw findings that stand as they are.
        families: tests and findings by family, each corrected by itself.
    """

    view: View | None
    tests: int
    findings_raw: int
    findings_controlled: int
    kept: int
    conditions: int
    reason: str
    lessons: int = 0
    note: str = ""
    explained: int = 0
    weakened: int = 0
    unchanged: int = 0
    families: tuple[FamilySummary, ...] = ()

    @classmethod
    def from_proto(cls, message: audit_pb2.ViewSummary) -> "ViewSummary":
        """From the wire."""
        return cls(
            **plain(cls, message, "view", "families"),
            view=from_wire(View, audit_pb2.View, "VIEW", message.view),
            families=tuple(map(FamilySummary.from_proto, message.families)),
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What an audit cost; the fields of ``assay.v1.Cost``."""

    tokens_read: int
    tokens_shared: int
    cache_hits: int
    pairs_scored: int
    scoring_seconds: float
    testing_seconds: float
    device: str

    @classmethod
    def from_proto(cls, message: audit_pb2.Cost) -> "Cost":
        """From the wire."""
        return cls(**plain(cls, message))


@dataclass(frozen=True, slots=True)
class Audit:
    """One audit of one dataset by one subject; the fields of ``assay.v1.Audit``, where each is described.

    `options` has every default filled in; `result_fingerprint` is equal for equal dataset, subject and options.
    """

    name: str
    dataset: str
    display_name: str
    state: AuditState
    options: AuditOptions
    subject: SubjectRef
    views: tuple[ViewSummary, ...]
    nuisance: NuisanceSummary
    cost: Cost
    create_time: datetime | None
    end_time: datetime | None
    error: str
    result_fingerprint: str
    length: LengthSummary | None = None
    explained: Explained | None = None

    @classmethod
    def from_proto(cls, message: audit_pb2.Audit) -> "Audit":
        """From the wire."""
        return cls(
            name=message.name,
            dataset=message.dataset,
            display_name=message.display_name,
            state=from_wire(AuditState, audit_pb2.Audit.State, "STATE", message.state) or AuditState.UNSPECIFIED,
            options=AuditOptions.from_proto(message.options),
            subject=SubjectRef.from_proto(message.subject),
            views=tuple(map(ViewSummary.from_proto, message.views)),
            nuisance=NuisanceSummary.from_proto(message.nuisance),
            cost=Cost.from_proto(message.cost),
            create_time=utc(message, "create_time"),
            end_time=utc(message, "end_time"),
            error=message.error,
            result_fingerprint=message.result_fingerprint,
            length=LengthSummary.from_proto(message.length) if message.HasField("length") else None,
            explained=Explained.from_proto(message.explained) if message.HasField("explained") else None,
        )
