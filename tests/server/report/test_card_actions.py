"""Cards in a real browser: copied, decided about, saved as a file; and what axe-core says of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.report import examples
from tests.server.report.conftest import Open

AXE = Path(__file__).parents[3] / "client" / "typescript" / "node_modules" / "axe-core" / "axe.min.js"


def decide(page: Any, card: str, words: str) -> Any:
    button = page.locator(f"#{card}").get_by_role("button", name=words, exact=True)
    button.click()
    return button


def saved(page: Any) -> dict[str, Any]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save decisions.json").click()
    assert download.value.suggested_filename == "decisions.json"
    return json.loads(Path(download.value.path()).read_text(encoding="utf-8"))


def test_decisions_are_collected_and_saved_as_the_file_that_the_command_reads(open_report: Open) -> None:
    report = examples.lively()
    page = open_report(report, accept_downloads=True)
    assert page.locator("#tray").is_hidden()
    decide(page, "global-2", "Explain away")
    page.locator("#global-2").get_by_label("Strength").fill("0.5")
    page.locator("#global-2").get_by_label("Why").fill("</script> “not” meant")
    decide(page, "prompt-1", "Amplify")
    decide(page, "prompt-1", "Keep")
    assert page.locator("#prompt-1").get_by_label("Strength").is_hidden(), "there is none of what is kept"
    decide(page, "global-3", "Amplify")
    assert page.locator("#tray").get_by_text("3 decisions on this page").is_visible()
    assert decide(page, "global-3", "Amplify").get_attribute("aria-pressed") == "false", "a second press takes it back"
    assert saved(page) == {
        "audit": report.info.name,
        "result_fingerprint": report.info.result_fingerprint,
        "decisions": [
            {"hypothesis": "global-2", "mode": "explain_away", "strength": 0.5, "note": "</script> “not” meant"},
            {"hypothesis": "prompt-1", "mode": "keep", "strength": None, "note": ""},
        ],
    }
    page.get_by_role("button", name="Discard").click()
    assert page.locator("#tray").is_hidden()
    assert page.locator("[aria-pressed=true]").count() == 0


def test_what_was_decided_before_is_said(open_report: Open) -> None:
    page = open_report(examples.lively())
    assert page.locator("#global-1").get_by_text("Decided: explain away.").is_visible()
    decide(page, "global-1", "Keep")
    assert page.locator("#global-1").get_by_text("Decided:").count() == 0


def test_command_and_link_are_copied(open_report: Open) -> None:
    page = open_report(examples.lively(), permissions=["clipboard-read", "clipboard-write"])
    card = page.locator("#global-2")
    card.get_by_role("button", name="Copy command").click()
    assert page.evaluate("navigator.clipboard.readText()") == f"assay decide {examples.AUDIT}/hypotheses/global-2 explain-away"
    assert page.get_by_role("status").filter(has_text="Copied").count() == 1
    card.get_by_role("button", name="Copy link").click()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url + "#global-2"
    page.goto(link)
    page.reload()
    assert "numbered steps" in page.locator("dialog[open] h2").inner_text()


def test_where_the_clipboard_is_refused_the_command_is_selected(open_report: Open) -> None:
    page = open_report(examples.lively())
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }")
    page.locator("#global-2").get_by_role("button", name="Copy command").click()
    page.get_by_text("Selected: press Ctrl+C").first.wait_for()
    assert page.evaluate("String(getSelection())").startswith("assay decide ")


def test_excerpts_can_be_hidden_and_marks_differ_by_more_than_colour(open_report: Open) -> None:
    page = open_report(examples.lively())
    assert page.locator(".excerpt").first.is_visible()
    style = "(node) => { const s = getComputedStyle(node); return [s.textDecorationLine, s.borderBottomStyle]; }"
    assert page.locator(".excerpt mark").first.evaluate(style) == ["underline", "none"]
    assert page.locator(".excerpt .differs").first.evaluate(style)[1] == "dotted"
    page.get_by_role("button", name="Hide excerpts").click()
    assert page.locator(".excerpt").first.is_hidden()
    page.get_by_role("button", name="Show excerpts").click()
    assert page.locator(".excerpt").first.is_visible()


def test_without_its_script_the_cards_are_there(open_report: Open) -> None:
    page = open_report(examples.lively(), java_script_enabled=False)
    assert page.locator("article.card").count() > 10
    assert page.locator("#global-2 .command").is_visible()
    assert page.locator("#global-2 button").count() == 0


def test_the_first_lesson_is_on_the_first_screen(open_report: Open) -> None:
    for width, height in ((1280, 900), (360, 780)):
        page = open_report(examples.lively(), width=width, height=height)
        assert page.locator("article.card h3").first.bounding_box()["y"] < height - 100


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["lively", "closest"])
def test_axe_finds_nothing_serious(open_report: Open, name: str, scheme: str, width: int) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed (npm ci in client/typescript)")
    page = open_report(getattr(examples, name)(), scheme=scheme, width=width)
    if name == "lively":
        decide(page, "global-2", "Explain away")
    page.locator("details summary").first.click()
    # By the debugger, which no content policy binds: the page itself still takes no script but its own.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert len(found["passes"]) > 20, "it looked"
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in serious] == []
    opener = page.locator("a.open:visible").first
    opener.click()
    found = page.evaluate("axe.run(document.querySelector('dialog'), { resultTypes: ['violations'] })")
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in serious] == []
