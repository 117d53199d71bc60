"""From an audit's result to its report.

Reading pairs and highlighting tokens takes time (the model reads those pairs again), so it happens first: `wanted_evidence`
lists what the report would show, surest findings first, and `build_report` takes what the caller found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from assay_server.audit.findings import Evidence
from assay_server.jobs.audits.cards import SNIPPETS, Card, build_cards
from assay_server.jobs.audits.types import AuditResult, DecisionInfo, HypothesisRow
from assay_server.jobs.datasets.types import DatasetInfo
from assay_server.report.model import Report, Sides, View
from assay_server.report.payload import HYPOTHESES
from assay_server.subject.types import Pair

HIGHLIGHTED = 60


@dataclass(frozen=True, slots=True)
class WantedEvidence:
    """One pair of one hypothesis: the dataset row to read, and the concept to highlight in it, by name and features."""

    hypothesis: str
    row: int
    concept: str
    features: tuple[int, ...]


def wanted_evidence(result: AuditResult, *, hypotheses: int = HIGHLIGHTED) -> list[WantedEvidence]:
    """What is worth highlighting: what cards show, then evidence of the first `hypotheses`, findings first, views by turns, each
    row once for each."""
    ordered = sorted(_by_turns(result), key=lambda row: not row.finding)[:hypotheses]
    rest = [
        WantedEvidence(row.name, number, row.concept.name, row.concept.features)
        for row in ordered
        for number in dict.fromkeys(_rows(_evidence(result, row)))
    ]
    return list(dict.fromkeys([*card_evidence(result), *rest]))


def card_evidence(result: AuditResult) -> list[WantedEvidence]:
    """What the snippets of an audit's cards show, in the order of the cards."""
    leads = {card.hypothesis: None for card in build_cards(result.info, result.hypotheses) if card.concept}
    rows = {row.name: row for row in result.hypotheses if row.name in leads}
    found = ((rows[name], _evidence(result, rows[name])) for name in leads)
    return [
        WantedEvidence(row.name, number, row.concept.name, row.concept.features)
        for row, evidence in found
        if evidence is not None
        for number in list(dict.fromkeys(evidence.supporting.tolist()))[:SNIPPETS]
    ]


def cards_with_texts(
    result: AuditResult, *, pairs: Mapping[int, Pair], highlights: Mapping[tuple[str, int], Sides]
) -> tuple[Card, ...]:
    """The cards of a finished audit with their snippets; `pairs` and `highlights` as in `build_report`."""
    found = {row.name: evidence for row in result.hypotheses if (evidence := _evidence(result, row)) is not None}
    return build_cards(result.info, result.hypotheses, evidence=found, pairs=pairs, highlights=highlights)


def evidence_rows(result: AuditResult) -> list[int]:
    """The dataset rows whose texts a report may show, ascending."""
    return sorted({number for row in _shown(result) for number in _rows(_evidence(result, row))})


def build_report(
    result: AuditResult,
    dataset: DatasetInfo,
    *,
    pairs: Mapping[int, Pair],
    highlights: Mapping[tuple[str, int], Sides] | None = None,
    decisions: Iterable[DecisionInfo] = (),
) -> Report:
    """The report of a finished audit.

    Args:
        result: what the audit found.
        dataset: what it was found in.
        pairs: texts by dataset row, of `evidence_rows`.
        highlights: by hypothesis name and dataset row; missing where no highlights were made.
        decisions: of this audit, oldest first.
    """
    rows = result.hypotheses
    found = {row.name: evidence for row in rows if (evidence := _evidence(result, row)) is not None}
    return Report(
        info=result.info,
        dataset=dataset,
        views=tuple(View(one, tuple(row for row in rows if row.view == one.view)) for one in result.info.views),
        evidence=found,
        pairs=pairs,
        highlights=highlights or {},
        decisions=tuple(decisions),
        raw_first=result.raw_first,
    )


def _evidence(result: AuditResult, row: HypothesisRow) -> Evidence | None:
    """A kept row's evidence. Tables are in rank order, ranks from 1."""
    table = result.tables.get(row.view)
    return table.evidence[row.rank - 1] if table is not None and 0 < row.rank <= len(table.evidence) else None


def _rows(evidence: Evidence | None) -> list[int]:
    return [] if evidence is None else [*evidence.supporting.tolist(), *evidence.contradicting.tolist()]


def _shown(result: AuditResult) -> list[HypothesisRow]:
    return [row for row in result.hypotheses if row.rank <= HYPOTHESES]


def _by_turns(result: AuditResult) -> list[HypothesisRow]:
    views = [[row for row in _shown(result) if row.view == summary.view] for summary in result.info.views]
    return [row for turn in zip_longest(*views) for row in turn if row is not None]
