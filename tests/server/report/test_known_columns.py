"""Family, verdict, carrying pairs and log-odds: on the sheet, in the table and in its filters, where they are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from assay_server.audit.length import LengthVerdict
from assay_server.jobs.audits.types import ConceptRow, LabelText
from assay_server.report.model import Report

from tests.server.report import examples
from tests.server.report.conftest import Open


def known() -> Report:
    """The first row is a word that few pairs carry; the second is unchanged and carried by many."""
    report = examples.lively(rows=20)
    first, second, *rest = report.views[0].hypotheses
    word = ConceptRow("word/many thanks", (), 1, LabelText())
    counts = {"only_chosen": 1_300, "only_rejected": 40}
    told = {"log_odds": 0.512, "log_odds_z": 4.1, "carried_by": 0.031, "left_without_top": 0.12, **counts}
    first = replace(first, concept=word, length_verdict=int(LengthVerdict.WEAKENED), **told)
    second = replace(second, length_verdict=int(LengthVerdict.UNCHANGED), carried_by=0.31, left_without_top=0.82)
    view = replace(report.views[0], hypotheses=(first, second, *rest))
    return replace(report, views=(view, *report.views[1:]))


def heads(page: Any) -> list[str]:
    return [text.rstrip(" ↓↑") for text in page.locator("#table-place thead button").all_text_contents()]


def cells(page: Any, head: str) -> list[str]:
    return page.locator(f"#table-place tbody td:nth-child({heads(page).index(head) + 1})").all_text_contents()


def test_the_sheet_tells_what_is_known_with_its_scale(open_report: Open) -> None:
    page = open_report(known(), fragment="#global-1")
    facts = dict(
        zip(
            page.locator("dialog .facts-list dt").all_text_contents(),
            page.locator("dialog .facts-list dd").all_text_contents(),
            strict=True,
        )
    )
    assert facts["Family of tests"] == "words"
    assert facts["Raw finding, once controlled"] == "weakened or undecided"
    assert facts["Pairs that differ"] == "1,300 chosen, 40 rejected"
    assert facts["Half of the effect is carried by"] == "3% of the pairs"
    assert facts["Left without the strongest 5%"] == "12%"
    assert facts["Log-odds, in nats"] == "+0.512 (z +4.10)"
    plain = open_report(known(), fragment="#global-5").locator("dialog .facts-list dt").all_text_contents()
    assert not {"Log-odds, in nats", "Half of the effect is carried by", "Raw finding, once controlled"} & set(plain)


def test_the_table_has_columns_for_what_is_known_and_filters_by_it(open_report: Open) -> None:
    page = open_report(known())
    assert heads(page)[5:8] == ["Verdict", "Carried by", "Log-odds, nats"]
    page.locator(".check input").set_checked(False)
    assert set(cells(page, "Carried by")) == {"3%", "31%", ""}

    def titles() -> list[str]:
        return page.locator("#table-place tbody a.open").evaluate_all("(links) => links.map((one) => one.hash)")

    for name, value, left in (
        ("Family", "words", ["#global-1"]),
        ("Verdict", "3", ["#global-2"]),
        ("Half of it carried by", "0.1", ["#global-1"]),
    ):
        page.get_by_role("combobox", name=name).select_option(value)
        assert titles() == left
        page.get_by_role("combobox", name=name).select_option("")
    bare = open_report(examples.lively(rows=20))
    assert heads(bare) == ["Concept", "View", "Effect", "Raw", "q", "Pairs", "Rank"]
    assert bare.locator(".filters select").count() == 3


def test_effects_on_different_scales_are_told_apart_and_never_sorted_into_each_other(open_report: Open) -> None:
    page = open_report(known())
    page.locator(".check input").set_checked(False)
    page.locator("#table-place thead button", has_text="Effect").click()
    while True:
        views, effects = cells(page, "View"), cells(page, "Effect")
        assert [one.endswith("SD") for one in effects] == [one == "By prompt" for one in views]
        assert views == sorted(views, key=lambda one: one == "By prompt")
        if page.get_by_role("button", name="Next").is_disabled():
            break
        page.get_by_role("button", name="Next").click()
    assert "SD. This is" in open_report(known(), fragment="#prompt-1").locator("dialog").inner_text()


@pytest.mark.parametrize("width", [360, 768, 1100, 1280])
def test_the_columns_fit_at_every_width(open_report: Open, width: int) -> None:
    page = open_report(known(), width=width)
    page.locator(".check input").set_checked(False)
    assert page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - innerWidth") <= 0
