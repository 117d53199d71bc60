"""Audits as plain data: settings, state, and the rows of the result.

Labels are looked up when rows are read; they are in no table and enter no test (METHOD.md §2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.explained import Explained
from assay_server.audit.families import FamilyCount
from assay_server.audit.findings import AuditOptions, TestTable, ViewKind
from assay_server.audit.length import Direction
from assay_server.subject.identity import SubjectRef
from assay_server.subject.types import Pair


class DecisionMode(StrEnum):
    """What training should do about a concept."""

    EXPLAIN_AWAY = "explain_away"
    AMPLIFY = "amplify"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class LabelText:
    """A label: a few words, the method that made them, and how well they predict where the concept fires."""

    text: str = ""
    method: str = ""
    detection_score: float | None = None


@dataclass(frozen=True, slots=True)
class NamedText:
    """What a concept or a condition is called by what can be seen of it, which needs no model and no label.

    Attributes:
        text: a noun phrase, words, or a metadata value; "" where nothing is known.
        kind: where the text comes from: "descriptor", "words", "label", "metadata", "tokens", or "" for nowhere.
        share: how much of the concept the text covers, in [0, 1]; None where that was not measured.
    """

    text: str = ""
    kind: Literal["descriptor", "words", "label", "metadata", "tokens", ""] = ""
    share: float | None = None


LabelLookup = Callable[[str, Sequence[int]], LabelText]
"""From a concept's or condition's name and its features, strongest first, to its label."""


@dataclass(frozen=True, slots=True)
class ConceptRow:
    """What a hypothesis is about: ``audit.findings.TestedConcept`` with its label, which no test may see."""

    name: str
    features: tuple[int, ...]
    size: int
    label: LabelText
    named: NamedText | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MarkedDirection:
    """A concept that is a direction, as the audit scored it: a response shows it where some token's ⟨h, v⟩ passes the threshold.

    Attributes:
        vector: v, float32 [d_in].
        threshold: in units of ⟨h, v⟩.
    """

    vector: NDArray[np.float32]
    threshold: float


@dataclass(frozen=True, slots=True)
class ConditionRow:
    """Where a hypothesis holds: ``audit.findings.Condition`` with its label, which no test may see."""

    name: str
    features: tuple[int, ...]
    label: LabelText
    named: NamedText | None = None


@dataclass(frozen=True, slots=True)
class EffectRow:
    """One row of ``audit.findings.Effects``; fields as in ``assay.v1.Effect``. ``reason``: a sentence, "" where tested."""

    estimate: float
    low: float
    high: float
    z: float
    p: float
    q: float
    q_by: float
    p_max_t: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DecisionInfo:
    """A decision on a hypothesis; ``strength`` None where it was not given."""

    name: str
    hypothesis: str
    mode: DecisionMode
    strength: float | None
    note: str
    author: str
    created: float


@dataclass(frozen=True, slots=True)
class HypothesisRow:
    """One tested statement; fields as in ``assay.v1.Hypothesis``, without evidence. ``rank`` counts from 1."""

    name: str
    view: ViewKind
    concept: ConceptRow
    condition: ConditionRow | None
    raw: EffectRow
    controlled: EffectRow | None
    finding: bool
    cohen_d: float
    consistent: bool
    delta_min: float
    inside: int
    outside: int
    prompts: int
    rank: int
    rank_first_half: int
    rank_second_half: int
    rank_stable: bool
    decision: DecisionInfo | None = None
    log_odds: float | None = None  # of a word
    log_odds_z: float | None = None
    lesson: int = 0
    lesson_z: float | None = None  # where it leads its lesson
    lesson_stability: float | None = None  # of its lesson, in [0, 1]; None where none was looked for
    length_verdict: int = 0  # audit.length.LengthVerdict
    only_chosen: int | None = None
    only_rejected: int | None = None
    carried_by: float | None = None
    left_without_top: float | None = None

    @property
    def effect(self) -> EffectRow:
        """The effect that decides: the controlled one, or the raw one where nothing is controlled for."""
        return self.raw if self.controlled is None else self.controlled


@dataclass(frozen=True, slots=True)
class EvidencePair:
    """One pair for or against a hypothesis; ``disparity`` is the concept's u in it, ``strength`` its activation difference."""

    row: int
    pair: Pair
    disparity: float
    strength: float | None = None


@dataclass(frozen=True, slots=True)
class HypothesisDetail:
    """One hypothesis with its evidence, most telling first; ``direction`` where its concept is one."""

    hypothesis: HypothesisRow
    supporting: tuple[EvidencePair, ...]
    contradicting: tuple[EvidencePair, ...]
    direction: MarkedDirection | None = field(default=None, compare=False)


class ConceptFamily(StrEnum):
    """Which concepts an audit tests, besides the stored ones it names."""

    FEATURES = "features"
    CLUSTERS = "clusters"
    DESCRIPTORS = "descriptors"
    WORDS = "words"


SAE_FAMILIES = (ConceptFamily.FEATURES, ConceptFamily.CLUSTERS)


class Nuisance(StrEnum):
    """What effects are controlled for."""

    LENGTH = "length"
    FORMAT = "format"
    PROVENANCE = "provenance"


class AuditState(StrEnum):
    """Where an audit is between request and result."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Every option of an audit.

    Attributes:
        statistics: the options of the tests.
        families: concepts that are tested.
        concepts: stored concepts that are tested too, "concepts/…".
        nuisances: what effects are controlled for; may be empty.
        metadata_keys: keys whose values are conditions too.
    """

    statistics: AuditOptions = field(default_factory=AuditOptions)
    families: tuple[ConceptFamily, ...] = tuple(ConceptFamily)
    concepts: tuple[str, ...] = ()
    nuisances: tuple[Nuisance, ...] = (Nuisance.LENGTH,)
    metadata_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ViewSummary:
    """What one view tested and found; fields as in ``assay.v1.ViewSummary``. ``note``: where it departed from the options."""

    view: ViewKind
    tests: int
    findings_raw: int
    findings_controlled: int
    kept: int
    conditions: int
    reason: str = ""
    note: str = ""
    lessons: int = 0
    families: tuple[FamilyCount, ...] = ()
    explained: int = 0
    weakened: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class NuisanceSummary:
    """The fitted nuisance model; fields as in ``assay.v1.NuisanceSummary``."""

    names: tuple[str, ...] = ()
    gamma: tuple[float, ...] = ()
    accuracy: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LengthSummary:
    """Lesson 0, what length alone says: ``audit.length.LengthLesson``; fields as in ``assay.v1.LengthSummary``."""

    pairs: int = 0
    direction: Direction = Direction.NEITHER
    ratio: float = 1.0
    ratio_low: float = 1.0
    ratio_high: float = 1.0
    longer: float = 0.0
    shorter: float = 0.0
    accuracy: float = 0.5
    auc: float = 0.5
    auc_low: float = 0.0
    auc_high: float = 1.0
    p: float = 1.0
    information_left: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an audit cost: its shards' ``store.features.ShardCost`` in sum, and the tests; fields as in ``assay.v1.Cost``."""

    tokens_read: int = 0
    tokens_shared: int = 0
    cache_hits: int = 0
    pairs_scored: int = 0
    scoring_seconds: float = 0.0
    testing_seconds: float = 0.0
    device: str = ""


@dataclass(frozen=True, slots=True)
class AuditInfo:
    """One audit. ``settings`` has defaults filled in: those that depend on the data once the audit is done.

    ``views``, ``nuisance`` and ``result_fingerprint`` are set when it is done, ``ended`` when it is done, failed or cancelled.
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
    length: LengthSummary | None = None  # None until it is done, and in audits older than the field
    explained: Explained | None = None  # likewise; None too where one hypothesis was stated


@dataclass(frozen=True, eq=False)
class AuditResult:
    """A finished audit: its tables as computed, and the kept rows of all views, in order of view and rank.

    A table may hold more rows than are kept (the global one has every test). ``directions`` holds, by name, the concepts that
    are directions. ``raw_first`` holds the strongest rows of the global view by the raw effect, kept or not.
    """

    info: AuditInfo
    tables: Mapping[ViewKind, TestTable]
    hypotheses: tuple[HypothesisRow, ...]
    directions: Mapping[str, MarkedDirection] = field(default_factory=dict[str, MarkedDirection])
    raw_first: tuple[HypothesisRow, ...] = ()


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
