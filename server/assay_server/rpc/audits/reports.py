"""The HTML report of an audit, and its cards: fetches what they show, has the model read the evidence again, and renders.

Invariants:
- A report is made even where something is missing: without the dataset it has no texts; without the subject, or while the model
  is too busy, no highlights.
- The model reads at most ``HIGHLIGHTED_ROWS`` pairs again, the evidence of the surest findings first.
"""

import asyncio
import time
from collections.abc import Sequence

from assay_server.errors import FailedPrecondition, NotFound
from assay_server.jobs.audits.cards import Card
from assay_server.jobs.audits.types import AuditInfo, AuditResult, MarkedDirection
from assay_server.jobs.datasets.types import DatasetInfo
from assay_server.jobs.library import Library
from assay_server.report import build_report, render_report, wanted_evidence
from assay_server.report.build import WantedEvidence, card_evidence, cards_with_texts, evidence_rows
from assay_server.report.model import Sides
from assay_server.rpc.audits.highlights import Wanted, check_same_subject, read_again
from assay_server.rpc.state import Loaded
from assay_server.subject.types import Pair

HIGHLIGHTED_ROWS = 100
READING_SHARE = 0.7  # of the time until the call's deadline; the rest is for rendering and sending
PATIENCE_SECONDS = 30.0  # with a scorer that is busy
CARD_PATIENCE_SECONDS = 3.0  # the same, where only cards are asked


async def render_audit(library: Library, loaded: Loaded, name: str, *, deadline: float | None) -> str:
    """The page.

    Args:
        library: holds the audit.
        loaded: reads the evidence again.
        name: the audit.
        deadline: ``time.monotonic()`` instant past which nothing is read again.

    Raises:
        NotFound: there is no such audit.
        FailedPrecondition: it is not done, or failed.
    """
    result = await library.audits.result(name)
    dataset, pairs = await _texts(library, result, evidence_rows(result))
    found = await _highlights(result, wanted_evidence(result), pairs, loaded, deadline, PATIENCE_SECONDS)
    decisions = await library.audits.decisions(name)

    def render() -> str:
        return render_report(build_report(result, dataset, pairs=pairs, highlights=found, decisions=decisions))

    return await asyncio.to_thread(render)


async def audit_cards(library: Library, loaded: Loaded, name: str, *, deadline: float | None) -> tuple[Card, ...]:
    """The cards of an audit with their snippets; arguments and errors as `render_audit`."""
    result = await library.audits.result(name)
    wanted = await asyncio.to_thread(card_evidence, result)
    _, pairs = await _texts(library, result, sorted({item.row for item in wanted}))
    found = await _highlights(result, wanted, pairs, loaded, deadline, CARD_PATIENCE_SECONDS)
    return await asyncio.to_thread(cards_with_texts, result, pairs=pairs, highlights=found)


async def _texts(library: Library, result: AuditResult, rows: list[int]) -> tuple[DatasetInfo, dict[int, Pair]]:
    name = result.info.dataset
    try:
        datasets = library.datasets
        return await datasets.get(name), await datasets.pairs_at(name, rows)
    except NotFound:
        return _gone(result.info), {}


def _gone(info: AuditInfo) -> DatasetInfo:
    """A stand-in for a deleted dataset."""
    return DatasetInfo(info.dataset, info.display_name, "", 0, 0, 0, (), info.created, False)


async def _highlights(
    result: AuditResult,
    wanted_items: Sequence[WantedEvidence],
    pairs: dict[int, Pair],
    loaded: Loaded,
    deadline: float | None,
    patience: float,
) -> dict[tuple[str, int], Sides]:
    try:
        check_same_subject(result.info.subject, loaded.scorer.info)
    except FailedPrecondition:
        return {}
    most = loaded.bounds.limits.max_features_per_request
    along = result.directions
    asked = [item for item in wanted_items if item.row in pairs and (item.features or item.concept in along)]
    sought: dict[int, tuple[dict[int, None], dict[str, MarkedDirection]]] = {}
    for item in asked:
        if item.row in sought or len(sought) < HIGHLIGHTED_ROWS:
            features, directions = sought.setdefault(item.row, ({}, {}))
            room = most - len(features) - len(directions)
            features.update(dict.fromkeys(item.features[: max(0, room)]))
            if item.concept in along and room > 0:
                directions[item.concept] = along[item.concept]
    wanted = {row: Wanted(pairs[row], tuple(features), directions) for row, (features, directions) in sought.items()}
    now = time.monotonic()
    until = None if deadline is None else now + READING_SHARE * (deadline - now)
    read = await read_again(loaded.scorer, wanted, deadline=until, patience=patience, partial=True)
    found = ((item, read[item.row]) for item in asked if item.row in read)
    return {(item.hypothesis, item.row): pair.highlights(item.features, item.concept) for item, pair in found}
