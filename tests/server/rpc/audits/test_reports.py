"""An audit of a direction from end to end: its evidence and its report are highlighted by what it was tested by."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from assay_server.concepts.measuring import ConceptReport
from assay_server.config import ServerConfig
from assay_server.jobs.audits.jobs import AuditJobs
from assay_server.jobs.audits.types import AuditResult
from assay_server.labelling.labels import Labels
from assay_server.report import build_report
from assay_server.report.card_list import cards_of
from assay_server.rpc.audits.highlights import Wanted, read_again
from assay_server.rpc.audits.reports import audit_cards, render_audit
from assay_server.rpc.state import Loaded, limits_in_force
from assay_server.scorer import Scored, ScoreOptions, Scorer
from assay_server.store.concepts import ConceptKind, StoredConcept
from assay_server.subject.types import Directions, SpanName

from tests.server.jobs.worlds import QUICK, audit, lesson, open_library, upload
from tests.support.tiny_subject import FEATURES, WIDTH

PAIRS = [pair for pair in lesson(40) if pair.rejected]
VECTOR = np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)
NAME = "concepts/loud"


async def loud(scorer: Scorer) -> StoredConcept:
    """A direction whose threshold half of the responses pass."""
    scored = await scorer.score(PAIRS, ScoreOptions(directions=Directions(VECTOR[None], b"d")))
    sides = (SpanName.CHOSEN, SpanName.REJECTED)
    scores = [one.pooled.directions[side][0] for one in scored if isinstance(one, Scored) for side in sides]
    report = ConceptReport(8, 8, 4, 4, 0.9, 0.8, 1.0, 0.9, 0.5, 0.8, float(np.median(scores)), 0.5, 0.6)
    return StoredConcept("loud", "Loud", ConceptKind.DIRECTION, "s", 0.0, direction=VECTOR, report=report)


class Undirected(AuditJobs):
    """Audits without their directions: the report has no highlights of those."""

    def __init__(self, audits: AuditJobs) -> None:
        self._audits = audits
        self.decisions = audits.decisions  # type: ignore[method-assign]

    async def result(self, audit: str) -> AuditResult:
        return replace(await self._audits.result(audit), directions={})


async def test_evidence_and_report_show_where_a_direction_fires(tmp_path: Path, scorer: Scorer) -> None:
    concept = await loud(scorer)
    async with open_library(tmp_path, scorer, stored=[concept]) as library:
        done = await audit(library, await upload(library, PAIRS), replace(QUICK, families=(), concepts=(NAME,)))
        detail = await library.audits.hypothesis(f"{done.name}/hypotheses/global-1")
        assert detail.hypothesis.concept.name == NAME
        assert detail.direction is not None
        evidence = (*detail.supporting, *detail.contradicting)
        assert {one.disparity for one in evidence} == {1.0, -1.0}
        wanted = {one.row: Wanted(one.pair, (), {NAME: detail.direction}) for one in evidence}
        read = await read_again(scorer, wanted, deadline=None)
        for one in evidence:
            chosen, rejected = read[one.row].highlights((), NAME)
            assert (bool(chosen), bool(rejected)) == (one.disparity > 0, one.disparity < 0)

        config = ServerConfig(model="m", sae="s")
        loaded = Loaded(scorer, Labels(FEATURES), limits_in_force(config, scorer.info))
        page = await render_audit(library, loaded, done.name, deadline=None)
        plain = await render_audit(replace(library, audits=Undirected(library.audits)), loaded, done.name, deadline=None)
        assert len(page) > len(plain)

        cards = await audit_cards(library, loaded, done.name, deadline=None)
        marks = [snippet.text[start:end] for card in cards for snippet in card.snippets for start, end in snippet.marks]
        assert marks
        bare = await audit_cards(replace(library, audits=Undirected(library.audits)), loaded, done.name, deadline=None)
        assert [replace(card, snippets=()) for card in bare] == [replace(card, snippets=()) for card in cards]
        assert not any(snippet.marks for card in bare for snippet in card.snippets)
        report = build_report(await library.audits.result(done.name), await library.datasets.get(done.dataset), pairs={})
        assert list(cards_of(report)) == [replace(card, snippets=()) for card in cards], "the page and the wire say the same"
