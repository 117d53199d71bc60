"""What a report shows, as plain data: no arrays, no lookups, no transport.

Invariants:
- Numbers are finite. What could not be tested has p = q = 1 and a reason.
- Texts are as the data has them, whatever they contain; `render_report` cleans, clips and escapes.
- Offsets of highlights are in Unicode code points of the text as it is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay_server.audit.findings import ViewKind


@dataclass(frozen=True, slots=True)
class Label:
    """A few words for people, and where they come from. `score` in [0, 1] says how well they predict."""

    text: str = ""
    method: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Concept:
    """What a hypothesis is about: "feature/17", "cluster/3", "response-cluster/5", "concepts/…"."""

    name: str
    label: Label = Label()
    features: tuple[int, ...] = ()  # strongest first
    size: int = 1


@dataclass(frozen=True, slots=True)
class Condition:
    """Where a hypothesis holds: "data-cluster/7", "prompt-cluster/2", "metadata/topic=cooking", a concept of the prompt."""

    name: str
    label: Label = Label()
    features: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect and how sure it is; fields as in `assay.v1.Effect`. `reason` is a sentence, "" where it was tested."""

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
class Highlight:
    """A stretch of a text on which a concept fires, [start, end) in code points, with its largest activation."""

    start: int
    end: int
    value: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """One pair (a dataset row) that speaks for or against a hypothesis; `disparity` is the concept's u in it."""

    row: int
    disparity: float
    chosen: tuple[Highlight, ...] = ()
    rejected: tuple[Highlight, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a prompt; `role` is "" where the prompt is raw text."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class PairText:
    """The texts of one pair."""

    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody wants done about a hypothesis's concept; `mode` is "explain_away", "amplify" or "keep"."""

    hypothesis: str
    mode: str
    strength: float | None = None
    note: str = ""
    author: str = ""
    created: float = 0.0  # UNIX seconds


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One tested statement with its evidence; fields as in `assay.v1.Hypothesis`. `rank` counts from 1 in its view."""

    name: str
    view: ViewKind
    rank: int
    concept: Concept
    condition: Condition | None
    raw: Effect
    controlled: Effect | None
    finding: bool
    cohen_d: float = 0.0
    consistent: bool = True
    delta_min: float = 0.0
    inside: int = 0
    outside: int = 0
    prompts: int = 0
    rank_first_half: int = 0
    rank_second_half: int = 0
    rank_stable: bool = True
    lesson: int = 0
    lesson_z: float | None = None  # where it leads its lesson
    supporting: tuple[Evidence, ...] = ()
    contradicting: tuple[Evidence, ...] = ()

    @property
    def effect(self) -> Effect:
        """The effect that decides: controlled where something is controlled for, raw otherwise."""
        return self.controlled if self.controlled is not None else self.raw


@dataclass(frozen=True, slots=True)
class View:
    """What one view tested and found, and the hypotheses that were kept, in rank order."""

    kind: ViewKind
    tests: int
    findings_raw: int
    findings_controlled: int
    conditions: int = 0
    reason: str = ""  # why nothing was tested
    note: str = ""  # what was done otherwise than the options say, and why
    hypotheses: tuple[Hypothesis, ...] = ()
    lessons: int = 0  # distinct ones among the findings


@dataclass(frozen=True, slots=True)
class Nuisance:
    """P(chosen preferred) = sigmoid(gamma . x): what length (and format) alone say. `names` are the columns of x."""

    controlled: tuple[str, ...] = ()  # what was asked to be controlled for: "length", "format"
    names: tuple[str, ...] = ()
    gamma: tuple[float, ...] = ()
    accuracy: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the audit cost."""

    tokens_read: int = 0
    tokens_shared: int = 0
    cache_hits: int = 0
    pairs_scored: int = 0
    scoring_seconds: float = 0.0
    testing_seconds: float = 0.0
    device: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """What was audited."""

    name: str
    title: str
    fingerprint: str = ""
    pairs: int = 0
    unusable: int = 0
    prompts: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report shows."""

    audit: str  # "audits/…"
    title: str
    dataset: Dataset
    subject: tuple[tuple[str, str], ...]  # (what, value), in the order shown
    options: tuple[tuple[str, str], ...]
    views: tuple[View, ...]
    nuisance: Nuisance = field(default_factory=Nuisance)
    cost: Cost = field(default_factory=Cost)
    decisions: tuple[Decision, ...] = ()
    pairs: Mapping[int, PairText] = field(default_factory=dict[int, PairText])  # by dataset row
    q_level: float = 0.05
    interval_level: float = 0.95
    yekutieli: bool = False
    max_t_flips: int = 0
    seed: int = 0
    created: float = 0.0  # UNIX seconds
    result_fingerprint: str = ""
