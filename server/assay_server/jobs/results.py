"""What an audit says of one hypothesis: the rows that ``api.AuditJobs`` answers with. Plain data.

Labels are looked up when rows are read; they are in no table and enter no test (METHOD.md §2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.findings import ViewKind
from assay_server.subject.types import Pair


class DecisionMode(StrEnum):
    """What is wanted of a concept."""

    EXPLAIN_AWAY = "explain_away"
    AMPLIFY = "amplify"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class LabelText:
    """A few words for people, and where they come from."""

    text: str = ""
    method: str = ""
    detection_score: float | None = None


LabelLookup = Callable[[str, Sequence[int]], LabelText]
"""From a concept's or condition's name and its features, strongest first, to its label."""


@dataclass(frozen=True, slots=True)
class ConceptRow:
    """What a hypothesis is about."""

    name: str
    features: tuple[int, ...]
    size: int
    label: LabelText


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
    """Where a hypothesis holds."""

    name: str
    features: tuple[int, ...]
    label: LabelText


@dataclass(frozen=True, slots=True)
class EffectRow:
    """An effect and how sure it is; fields as in ``assay.v1.Effect``. ``reason`` is a sentence, "" where it was tested."""

    estimate: float
    low: float
    high: float
    z: float
    p: float
    q: float
    q_by: float
    p_max_t: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class DecisionInfo:
    """What somebody wants done about a concept; ``strength`` None where it was not given."""

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
    lesson: int = 0
    lesson_z: float | None = None  # where it leads its lesson


@dataclass(frozen=True, slots=True)
class EvidencePair:
    """One pair that speaks for or against a hypothesis; ``disparity`` is the concept's u in it."""

    row: int
    pair: Pair
    disparity: float


@dataclass(frozen=True, slots=True)
class HypothesisDetail:
    """One hypothesis with its evidence, most telling first; ``direction`` where that is what its concept is."""

    hypothesis: HypothesisRow
    supporting: tuple[EvidencePair, ...]
    contradicting: tuple[EvidencePair, ...]
    direction: MarkedDirection | None = field(default=None, compare=False)
