"""What a transport asks of comparisons of rollouts, and what they answer: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from assay_server.audit.comparison.agreement import Agreement, Estimate
from assay_server.audit.comparison.control import Control
from assay_server.audit.comparison.run import Options
from assay_server.jobs.audits.types import SAE_FAMILIES, ConceptFamily, ConceptRow
from assay_server.subject.identity import SubjectRef

PLOTTED = 1_000  # points that a picture bears


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """A request for a comparison; fields as in ``assay.v1.CompareRolloutsRequest``, defaults filled in.

    Attributes:
        margins: implicit rewards of the trained policy, one a pair; None where none were sent.
        margins_of: what these pairs are, for people.
    """

    dataset: str
    rollouts: str
    noise: str
    plan: str = ""
    concepts: tuple[str, ...] = ()
    families: tuple[ConceptFamily, ...] = SAE_FAMILIES
    margins: tuple[float, ...] | None = None
    margins_of: str = ""
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class ShiftRow:
    """One concept's predicted and observed shift; fields as in ``assay.v1.ConceptShift``."""

    concept: ConceptRow
    predicted: float
    predicted_error: float
    observed: Estimate
    noise: float
    noise_error: float
    difference_error: float
    retained: bool
    clears_noise: bool
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class ComparisonHead:
    """What a comparison says beside its shifts; fields as in ``assay.v1.RolloutComparison``."""

    name: str
    dataset: str
    rollouts: str
    noise: str
    plan: str
    subject: SubjectRef
    created: float
    dataset_pairs: int
    rollout_pairs: int
    prompts: int
    noise_pairs: int
    retained: Agreement
    above_noise: Agreement
    noise_floor: Agreement
    control: Control | None
    conclusions: tuple[str, ...]
    total_shifts: int
    options: Options


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """A finished comparison. Rows are by observed shift over its noise, largest first; labels are current.

    Attributes:
        head: its figures.
        shifts: the first ``keep`` concepts.
        plotted: the first ``PLOTTED`` retained concepts.
        noise_error: median ``difference_error`` of the retained concepts; 0 where there is none.
    """

    head: ComparisonHead
    shifts: tuple[ShiftRow, ...] = ()
    plotted: tuple[ShiftRow, ...] = ()
    noise_error: float = 0.0
