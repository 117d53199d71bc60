"""Hypotheses over a real channel: page by page, filtered, with evidence, with highlights."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import grpc
import pytest
from assay.v1 import audit_pb2
from assay.v1 import audit_service_pb2 as service
from assay_server.errors import Overloaded

from tests.support.audited import PAIRS, audited
from tests.support.harness import Harness, settled
from tests.support.waiting import until
from tests.support.wire import refused


async def hypotheses(harness: Harness, parent: str, **question: Any) -> tuple[list[audit_pb2.Hypothesis], list[int]]:
    """All hypotheses that match, page by page, and the sizes of the pages."""
    found: list[audit_pb2.Hypothesis] = []
    sizes: list[int] = []
    token = ""
    while True:
        request = service.ListHypothesesRequest(parent=parent, page_token=token, **question)
        page = await harness.audits.ListHypotheses(request)
        found += page.hypotheses
        sizes.append(len(page.hypotheses))
        if not (token := page.next_page_token):
            assert page.total_size == len(found)
            return found, sizes


async def test_hypotheses_come_by_view_and_rank_page_by_page(harness: Harness) -> None:
    name = await audited(harness)
    found, sizes = await hypotheses(harness, name, page_size=70)
    assert sizes == [70, 70, 40]
    assert [(one.view, one.rank) for one in found] == [(view, rank) for view in (1, 2, 3) for rank in range(1, 61)]
    first = found[0]
    assert first.concept.label == "bullet lists"
    assert (first.HasField("condition"), found[60].condition.name) == (False, "data-cluster/1")
    assert not first.supporting
    assert not first.HasField("decision")
    assert first.raw.estimate == pytest.approx(first.controlled.estimate + 0.5)
    assert not first.raw.HasField("p_max_t")


async def test_hypotheses_are_filtered_and_ordered_on_every_page(harness: Harness) -> None:
    name = await audited(harness)
    question = {"filter": 'view = "global" AND finding = true AND label : "LIST"', "order_by": "effect desc"}
    found, sizes = await hypotheses(harness, name, page_size=4, **question)
    assert sizes == [4, 4, 1]
    assert [one.rank for one in found] == [25, 22, 19, 16, 13, 10, 7, 4, 1]
    conditioned, _ = await hypotheses(harness, name, filter='condition = "data-cluster/2" AND rank <= 7', order_by="rank desc")
    assert [(one.view, one.rank) for one in conditioned] == [(2, 7), (3, 7), (2, 2), (3, 2)]
    nothing, sizes = await hypotheses(harness, name, filter="q < 0")
    assert (nothing, sizes) == ([], [0])


async def test_the_effect_and_p_of_a_filter_are_those_that_make_a_finding(harness: Harness) -> None:
    name = await audited(harness, views=[audit_pb2.VIEW_GLOBAL])
    found, _ = await hypotheses(harness, name, filter="effect > -0.455 AND effect < -0.435")
    assert [(one.rank, round(one.controlled.estimate, 2)) for one in found] == [(5, -0.45), (6, -0.44)]


@pytest.mark.parametrize(
    ("question", "reason", "field"),
    [
        ({"filter": "size > 1"}, "INVALID_FILTER", "filter"),
        ({"filter": "x" * 5000}, "FILTER_TOO_LONG", "filter"),
        ({"order_by": "size"}, "INVALID_ORDER_BY", "order_by"),
        ({"page_size": -1}, "INVALID_PAGE_SIZE", "page_size"),
        ({"page_token": "MTAw"}, "INVALID_PAGE_TOKEN", "page_token"),
    ],
)
async def test_what_cannot_be_asked_is_refused_before_anything_is_looked_up(
    harness: Harness, question: dict[str, Any], reason: str, field: str
) -> None:
    error = await refused(harness.audits.ListHypotheses(service.ListHypothesesRequest(parent="audits/none", **question)))
    assert (error.code, error.info.reason, error.violations) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [field])


async def test_a_page_token_is_good_for_its_own_question_only(harness: Harness) -> None:
    name, other = await audited(harness), await audited(harness, seed=1)
    page = await harness.audits.ListHypotheses(service.ListHypothesesRequest(parent=name, page_size=5, filter="q < 1"))
    token = page.next_page_token
    assert token
    for changed in (
        {"parent": other, "filter": "q < 1"},
        {"parent": name},
        {"parent": name, "filter": "q < 1", "order_by": "q"},
    ):
        error = await refused(harness.audits.ListHypotheses(service.ListHypothesesRequest(page_token=token, **changed)))
        assert error.info.reason == "INVALID_PAGE_TOKEN"


async def test_a_hypothesis_comes_with_the_pairs_for_and_against_it(harness: Harness) -> None:
    name = await audited(harness)
    request = service.GetHypothesisRequest(name=f"{name}/hypotheses/global-3")
    found = (await harness.audits.GetHypothesis(request)).hypothesis
    assert ([one.row for one in found.supporting], [one.row for one in found.contradicting]) == ([0, 1], [2, 3])
    first, second = found.supporting
    assert [(turn.role, turn.content) for turn in first.pair.conversation.messages] == [("user", "What is tea?")]
    assert (first.pair.chosen, dict(first.pair.metadata), first.disparity) == (PAIRS[0].chosen, {"topic": "tea"}, 0.5)
    assert (second.pair.WhichOneof("prompt"), second.pair.text) == ("text", "raw prompt: ")
    assert not any(one.chosen or one.rejected for one in (*found.supporting, *found.contradicting))
    assert harness.scorer.started == 0


async def test_cards_come_in_the_order_of_reading_under_the_ids_of_their_hypotheses(harness: Harness) -> None:
    name = await audited(harness)
    cards = (await harness.audits.ListCards(service.ListCardsRequest(name=name))).cards
    lessons = [card for card in cards if card.kind == audit_pb2.Card.KIND_LESSON]
    assert cards[: len(lessons)] == lessons
    assert [card.kind for card in cards[len(lessons) :]] == [audit_pb2.Card.KIND_REST]
    first = lessons[0]
    assert (first.id, first.concept) == ("global-1", "feature/1")
    assert first.sentence.startswith("Less of something unnamed (feature 1), over all pairs: the effect is −0.490 (mean signed")
    assert first.decide == f"assay decide {first.hypothesis} explain-away"


async def test_highlights_lie_where_the_features_fire_in_each_response(harness: Harness) -> None:
    name = await audited(harness)
    request = service.GetHypothesisRequest(name=f"{name}/hypotheses/global-3", highlights=True)
    found = (await harness.audits.GetHypothesis(request)).hypothesis
    texts = {pair.row: pair for pair in (*found.supporting, *found.contradicting)}
    for row, pair in enumerate(PAIRS[:4]):
        for text, highlights in ((pair.chosen, texts[row].chosen), (pair.rejected, texts[row].rejected)):
            fires = {place for mark in highlights for place in range(mark.start, mark.end)}
            assert fires == {place for place, letter in enumerate(text) if ord(letter) % 2}  # where the scripted scorer says so
            assert all(mark.end <= len(text) for mark in highlights)
            assert all(a.end < b.start for a, b in pairwise(highlights)), "neighbours are one"
            assert all(mark.value == 4.0 for mark in highlights)  # feature 3 is the strongest of the concept's


async def test_highlights_of_another_subjects_audit_are_refused_and_the_rest_is_not(harness: Harness) -> None:
    name = await audited(harness)
    info = harness.library.audits._audits[name]
    harness.library.audits._audits[name] = replace(info, subject=replace(info.subject, sae_fingerprint="f" * 64))
    asked = service.GetHypothesisRequest(name=f"{name}/hypotheses/global-3", highlights=True)
    error = await refused(harness.audits.GetHypothesis(asked))
    assert (error.code, error.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SUBJECT_CHANGED")
    assert list(error.info.metadata) == ["sae_fingerprint"]
    asked.highlights = False
    assert (await harness.audits.GetHypothesis(asked)).hypothesis.supporting


async def test_highlights_that_the_scorer_refuses_end_the_call_and_leave_nothing(harness: Harness) -> None:
    name = await audited(harness)
    asked = service.GetHypothesisRequest(name=f"{name}/hypotheses/global-3", highlights=True)
    harness.scorer.failing = [Overloaded("Full.", retry_after_seconds=2.0)]
    error = await refused(harness.audits.GetHypothesis(asked))
    assert (error.code, error.retry_seconds) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 2.0)
    harness.scorer.gate.clear()
    call = harness.audits.GetHypothesis(asked)
    await until(lambda: harness.scorer.running > 0)
    assert harness.scorer.most_running <= 8
    call.cancel()
    await settled(harness)
