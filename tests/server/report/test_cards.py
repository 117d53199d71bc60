"""Cards on the page: what is in its HTML before any script runs."""

from __future__ import annotations

from dataclasses import replace

from assay_server.jobs.audits.cards import CardKind
from assay_server.jobs.audits.types import HypothesisRow, LengthSummary, ViewSummary
from assay_server.report import Report, render_report
from assay_server.report.card_list import card_sections, cards_of
from assay_server.report.markup import join

from tests.server.report import examples
from tests.server.report.test_markup import Reader, read


def told(report: Report) -> str:
    return " ".join(read(join(card_sections(report), " ")).text.split())


def test_the_page_has_the_cards_that_the_builder_makes_in_its_order_under_their_ids() -> None:
    report = examples.lively()
    cards = [card for card in cards_of(report) if card.kind is not CardKind.REST]
    page = read(render_report(report))
    assert [attrs["id"] for tag, attrs in page.tags if tag == "article"] == [card.id for card in cards]
    text = told(report)
    for card in cards:
        assert " ".join(card.title.split()) in text
        assert " ".join(card.sureness.split()) in text
        assert card.decide in text
    assert text.index(cards[0].title) < text.index("Not established")


def test_a_sentence_is_not_said_twice() -> None:
    text = told(examples.lively())
    assert "over all pairsThe effect is +0.490 (mean signed disparity, from −1 to +1)." in text
    assert "over all pairs More tokens" not in text


def marks(page: Reader, tag: str, kind: str) -> int:
    return sum(one == tag and (attrs.get("class") or "") == kind for one, attrs in page.tags)


def test_excerpts_tell_where_a_concept_fires_from_what_differs() -> None:
    report = examples.lively()
    page = read(join(card_sections(report)))
    shown = [snippet for card in cards_of(report) for snippet in card.snippets]
    assert marks(page, "figure", "excerpt") == len(shown) > 10
    assert marks(page, "mark", "s3") > 1 < marks(page, "span", "differs"), "beside those of the legend"
    text = page.text
    assert all(snippet.text in text for snippet in shown), "nothing of a text is lost between its marks"


def test_length_is_a_card_without_a_command() -> None:
    report = examples.lively()
    length = LengthSummary(pairs=9, direction="longer", ratio=1.5, longer=0.7, shorter=0.2, accuracy=0.75, p=0.001)
    text = told(replace(report, info=replace(report.info, length=length)))
    assert text.startswith("What it teaches")
    assert "Longer responsesThe chosen one has 1.50 times the tokens of the rejected one" in text


def explained(row: HypothesisRow) -> HypothesisRow:
    return replace(row, length_verdict=1) if not row.finding else row


def test_what_is_not_the_cause_has_its_examples_and_its_bars() -> None:
    report = examples.lively()
    (view, *others) = report.views
    summary = replace(view.summary, explained=900)
    report = replace(report, views=(replace(view, summary=summary, hypotheses=tuple(map(explained, view.hypotheses))), *others))
    text = told(report)
    part = text[text.index("Not the cause") :]
    assert "Length explains 900 raw findings" in part
    assert "1,485 raw" in part


def test_a_report_without_findings_has_no_lessons_and_says_what_came_closest() -> None:
    report = examples.closest()
    assert "What it teaches" in told(report), "length is a lesson too"
    text = told(replace(report, info=replace(report.info, length=None)))
    assert "What it teaches" not in text
    assert text.startswith("Not established")
    assert "Controlled for length; q = " in text
    assert "assay decide" not in text
    empty = examples.nothing("one prompt")
    assert told(replace(empty, info=replace(empty.info, length=None))) == ""


def test_the_rest_leads_to_the_table() -> None:
    report = examples.lively()
    counted = replace(report.views[0].summary, findings_controlled=397)
    assert isinstance(counted, ViewSummary)
    page = read(join(card_sections(report)))
    assert ("a", "#hypotheses") in [(tag, attrs.get("href")) for tag, attrs in page.tags]
    assert "404 findings in all" in " ".join(page.text.split())
