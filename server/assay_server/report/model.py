"""What a report shows: the audit's own rows, with the texts of their evidence and where concepts fire in them.

Invariants:
- Numbers are finite. What could not be tested has p = q = 1 and a reason.
- Texts are as the data has them, whatever they contain; `render_report` cleans, clips and escapes.
- Offsets of highlights are Unicode code points of the response as it was uploaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay_server.audit.findings import AuditOptions, Evidence, ViewKind
from assay_server.jobs.audits.types import AuditInfo, DecisionInfo, HypothesisRow, ViewSummary
from assay_server.jobs.datasets.types import DatasetInfo
from assay_server.subject.types import Pair


@dataclass(frozen=True, slots=True)
class Highlight:
    """A stretch of a response on which a concept fires, [start, end) in code points, with its largest activation."""

    start: int
    end: int
    value: float


Sides = tuple[tuple[Highlight, ...], tuple[Highlight, ...]]
"""Highlights of the chosen and of the rejected response."""


@dataclass(frozen=True, slots=True)
class View:
    """One view's counts and its kept hypotheses, in rank order."""

    summary: ViewSummary
    hypotheses: tuple[HypothesisRow, ...] = ()

    @property
    def kind(self) -> ViewKind:
        """Which view."""
        return self.summary.view


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report shows.

    Attributes:
        info: the audit, with its options, subject and cost.
        dataset: what was audited.
        views: those that were tested, in order.
        evidence: by hypothesis name.
        pairs: by dataset row; evidence whose pair is missing is counted, not shown.
        highlights: by hypothesis name and dataset row.
        decisions: of this audit, oldest first.
        raw_first: the strongest rows of the global view by the raw effect.
    """

    info: AuditInfo
    dataset: DatasetInfo
    views: tuple[View, ...]
    evidence: Mapping[str, Evidence] = field(default_factory=dict[str, Evidence])
    pairs: Mapping[int, Pair] = field(default_factory=dict[int, Pair])
    highlights: Mapping[tuple[str, int], Sides] = field(default_factory=dict[tuple[str, int], Sides])
    decisions: tuple[DecisionInfo, ...] = ()
    raw_first: tuple[HypothesisRow, ...] = ()

    @property
    def title(self) -> str:
        """What the dataset is called, else the audit; "" where neither has a title."""
        return self.dataset.display_name or self.info.display_name

    @property
    def options(self) -> AuditOptions:
        """The options of the tests, as they were used."""
        return self.info.settings.statistics

    @property
    def usable_pairs(self) -> int:
        """Pairs that could be tested."""
        return self.dataset.pairs - self.dataset.unusable_pairs
