"""The page in a real browser: what is on it, at every width and in every scheme. Each page must also run without complaint and
ask for nothing: `open_report` checks that when a test ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from assay_server.report.markup import clean
from assay_server.report.model import Highlight, Report
from assay_server.subject.types import Pair

from tests.server.report import examples
from tests.server.report.conftest import Open

CHECKS = Path(__file__).with_name("audit_page.js").read_text(encoding="utf-8")
REPORTS = {
    "lively": examples.lively,
    "hostile": examples.hostile,
    "nothing": examples.nothing,
    "closest": examples.closest,
    "stated": examples.stated,
}


def open_evidence(page: Any, inside: str = "#pairs-list", limit: int = 3) -> None:
    for details in page.locator(f"{inside} details").all()[:limit]:
        details.locator("summary").click()
        details.locator(".pair").first.wait_for()


def overflow(page: Any) -> int:
    return page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", sorted(REPORTS))
def test_everything_has_contrast_names_and_structure(open_report: Open, name: str, scheme: str) -> None:
    page = open_report(REPORTS[name](), scheme=scheme)
    open_evidence(page)
    page.locator(".reading summary").click()
    assert page.evaluate(CHECKS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sheet_of_a_hypothesis_has_contrast_and_names_too(open_report: Open, scheme: str) -> None:
    page = open_report(examples.lively(), scheme=scheme, fragment="#global-2")
    open_evidence(page, "dialog")
    assert page.locator("dialog mark").count() > 3
    assert page.evaluate(CHECKS) == []


def test_the_checks_themselves_complain_where_there_is_reason_to(open_report: Open) -> None:
    page = open_report(examples.stated())
    page.evaluate(
        """() => {
          document.querySelector("h1").style.color = "#bbb";
          document.querySelector(".filters input").parentElement.firstChild.remove();
          document.querySelector("main").prepend(document.createElement("h4"), document.createElement("button"));
          document.querySelector("table caption").remove();
          document.querySelector("nav").id = "findings";
        }"""
    )
    found = " ".join(page.evaluate(CHECKS))
    for complaint in ("contrast", "no name", "heading skips", "table without", "two of id findings"):
        assert complaint in found


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("name", sorted(REPORTS))
def test_nothing_sticks_out_at_any_width(open_report: Open, name: str, width: int) -> None:
    page = open_report(REPORTS[name](), width=width)
    open_evidence(page)
    page.locator(".reading summary").click()
    assert overflow(page) <= 0
    link = page.locator("a.open:visible").first
    if link.count():
        link.click()
        open_evidence(page, "dialog")
        assert page.evaluate("document.querySelector('dialog').scrollWidth - document.querySelector('dialog').clientWidth") <= 0
        assert overflow(page) <= 0


def test_attacks_stay_text(open_report: Open) -> None:
    page = open_report(examples.hostile())
    open_evidence(page, limit=99)
    page.locator(".check input").set_checked(False)
    page.locator("#table-place a.open").first.click()
    open_evidence(page, "dialog")
    assert page.evaluate("Object.keys(window).filter((name) => name === 'hacked')") == []
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed, form:not(.filters), script').length") == 2
    assert (
        page.evaluate(
            "[...document.querySelectorAll('*')].flatMap((n) => [...n.attributes]).filter((a) => /^on/.test(a.name)).length"
        )
        == 0
    )
    text = page.evaluate("document.body.textContent")
    assert clean(examples.ATTACK) in text
    assert not set("\u202e\u2066\x00\x07\x1b\x7f\x9b\ud800") & set(text)
    assert page.locator("dialog .text").first.evaluate("(node) => getComputedStyle(node).unicodeBidi") == "isolate"


def test_a_script_that_got_in_would_not_run_and_could_not_call_out(chromium: Any, tmp_path: Path) -> None:
    from assay_server.report import render_report

    html = render_report(examples.stated()).replace(
        "<footer>", "<footer><script>window.hacked = 1</script><img src='http://127.0.0.1:9/x' onerror='window.hacked = 2'>"
    )
    file = tmp_path / "tampered.html"
    file.write_text(html, encoding="utf-8")
    page = chromium.new_page()
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.failure))
    page.goto(file.as_uri())
    assert page.evaluate("window.hacked") is None
    assert failed == ["csp"]
    inject = "(() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } })()"
    assert page.evaluate(inject) == "TypeError"
    page.close()


def test_a_long_text_is_clipped_and_says_so(open_report: Open) -> None:
    page = open_report(examples.hostile())
    open_evidence(page, limit=1)
    length = f"{len(examples.ATTACK) + 1_000_000:,}"
    assert page.get_by_text(f"Clipped: the first 4,000 of {length} characters are shown.").count() >= 1
    assert page.get_by_text("22 earlier turns not shown.").count() >= 1


def marked(open_report: Open, pair: Pair, marks: tuple[Highlight, ...]) -> Any:
    report = examples.lively(rows=20)
    item = report.views[0].hypotheses[0]
    report = replace(report, views=(replace(report.views[0], hypotheses=(item,)),), pairs={3: pair})
    page = open_report(replace(report, evidence={item.name: examples.evidence_of([3])}, highlights={(item.name, 3): (marks, ())}))
    open_evidence(page)
    return page


def test_highlights_fall_on_the_right_characters_beyond_the_basic_plane(open_report: Open) -> None:
    text = "🫖👩‍👧 tea\r\n漢字 is **bold**"
    at = text.index("bold")
    marks = (Highlight(0, 1, 1.0), Highlight(text.index("漢"), text.index("漢") + 2, 2.0), Highlight(at, at + 4, 6.0))
    page = marked(open_report, Pair("raw", text, "plain"), marks)
    assert page.locator("#pairs-list mark").all_text_contents() == ["🫖", "漢字", "bold"]
    assert page.locator("#pairs-list mark").evaluate_all("(nodes) => nodes.map((n) => n.className)") == ["s1", "s1", "s3"]


def test_highlights_that_overlap_or_have_no_strength_lose_no_text(open_report: Open) -> None:
    marks = (Highlight(0, 6, 0.0), Highlight(3, 9, 0.0), Highlight(4, 5, 0.0), Highlight(20, 99, 0.0))
    page = marked(open_report, Pair((), "0123456789 and a tail", ""), marks)
    assert page.locator("#pairs-list .text").first.text_content() == "0123456789 and a tail"
    assert page.locator("#pairs-list mark").all_text_contents() == ["012345", "678", "l"]
    assert page.get_by_text("(empty)").count() == 1


def test_pairs_stay_closed_until_they_are_opened_and_carry_a_warning(open_report: Open) -> None:
    page = open_report(examples.lively())
    assert page.locator(".pair").count() == 0
    assert "may offend" in page.locator("#pairs").inner_text()
    page.locator("#pairs-list summary").nth(1).click()
    page.locator(".pair").first.wait_for()
    assert page.locator(".pair:visible").count() == 3
    assert "What a lovely poem!" in page.locator(".pair").first.inner_text()
    page.locator("a.open").first.click()
    assert "may offend" in page.locator("dialog").inner_text()
    assert page.locator("dialog .pair").count() == 0


def test_the_sheet_shows_the_same_figures_as_the_plot(open_report: Open) -> None:
    page = open_report(examples.lively())
    row = page.locator("#prompt_conditioned .forest tbody tr").first
    shown = [row.locator(".value").inner_text(), row.locator(".ci").inner_text(), row.locator("td.q").inner_text()]
    row.locator("a.open").click()
    cells = page.locator("dialog .effects td.decides").all_inner_texts()
    assert cells[:2] == shown[:2]
    assert cells[4] == shown[2]
    assert "Decided: Keep." in page.locator("dialog").inner_text()


def test_three_thousand_hypotheses_open_quickly_and_show_a_page_at_a_time(open_report: Open) -> None:
    page = open_report(examples.huge(), width=360)
    assert page.evaluate("performance.getEntriesByType('navigation')[0].domComplete") < 5000
    page.locator(".check input").set_checked(False)
    assert page.locator("#table-place tbody tr").count() == 25
    assert page.locator("#table-place [role=status]").inner_text() == "3,000 hypotheses"
    assert overflow(page) <= 0


def test_who_wants_less_motion_gets_none(open_report: Open) -> None:
    page = open_report(examples.stated(), reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_on_paper_there_are_no_controls(open_report: Open) -> None:
    page = open_report(examples.lively())
    page.emulate_media(media="print")
    assert page.locator(".filters, .pager, nav, .readout").filter(visible=True).count() == 0
    assert page.locator(".forest, h1, #method").filter(visible=True).count() == 6


def test_without_its_script_the_page_still_says_what_was_found(open_report: Open) -> None:
    page = open_report(examples.lively(), java_script_enabled=False)
    assert page.locator(".forest tbody tr").filter(visible=True).count() > 12
    assert page.get_by_text("The table needs this page's script.").is_visible()


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (examples.nothing("all pairs share one prompt, so nothing varies independently"), "No hypothesis was kept."),
        (
            examples.nothing("all pairs share one prompt, so nothing varies independently"),
            "Nothing to show. All pairs share one prompt",
        ),
        (examples.closest(), "There are no findings to show pairs for."),
        (examples.closest(), "Nothing is a finding. The 5 hypotheses that came closest:"),
    ],
)
def test_where_there_is_nothing_the_page_says_why(open_report: Open, report: Report, said: str) -> None:
    assert said in open_report(report).locator("body").inner_text()
