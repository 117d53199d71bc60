"""The page without a mouse: everything can be reached, is seen to be reached, and can be operated."""

from __future__ import annotations

import itertools
from typing import Any

from tests.server.report import examples
from tests.server.report.conftest import Open


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.textContent.trim()")


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_tab_reaches_every_kind_of_control_in_the_order_of_the_page(open_report: Open) -> None:
    page = open_report(examples.lively())
    seen: list[str] = []
    tops: list[float] = []
    kinds = (
        ".skip, nav a, .card .open, .deciders button, .copies button, .rest a, summary, .forest a, .cloud, .names a, .scroll, "
    )
    kinds += ".heat td, input, select, th button, .all a"
    for _ in range(300):
        press(page, "Tab")
        kind, top, ringed = page.evaluate(
            f"""() => {{
              const node = document.activeElement;
              const {{ outlineStyle, outlineWidth }} = getComputedStyle(node);
              const kind = {kinds!r}.split(", ").find((one) => node.matches(one)) || node.className;
              return [kind, node.getBoundingClientRect().top + scrollY, outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
            }}"""
        )
        if not kind:
            break
        assert ringed, kind
        seen.append(kind)
        tops.append(top)
    assert set(kinds.split(", ")) <= set(seen)
    # Columns and lines aside, focus only goes down.
    assert all(after > before - 300 for before, after in itertools.pairwise(tops))


def test_enter_opens_a_hypothesis_and_escape_gives_the_focus_back(open_report: Open) -> None:
    page = open_report(examples.lively())
    page.locator("#global-2 a.open").focus()
    press(page, "Enter")
    assert page.locator("dialog[open] h2").inner_text() == "▲ more tokens: numbered steps"
    assert focused(page) == "Close"
    assert page.evaluate("location.hash") == "#global-2"
    press(page, "Tab", "Enter")
    page.locator("dialog .pair").first.wait_for()
    press(page, "Escape")
    assert page.locator("dialog[open]").count() == 0
    assert focused(page) == "Numbers and pairs"
    assert page.evaluate("location.hash") == ""


def test_focus_does_not_leave_an_open_sheet(open_report: Open) -> None:
    page = open_report(examples.lively(), fragment="#global-1")
    for _ in range(6):
        press(page, "Tab")
        assert page.evaluate("document.activeElement === document.body || document.activeElement.closest('dialog') !== null")
    press(page, "Escape")
    assert page.locator("dialog[open]").count() == 0


def test_a_fragment_opens_its_hypothesis_and_an_unknown_one_opens_nothing(open_report: Open) -> None:
    page = open_report(examples.lively(), fragment="#feature-17")
    assert page.locator("dialog[open]").count() == 1
    assert open_report(examples.lively(), fragment="#global-9999").locator("dialog[open]").count() == 0


def test_arrows_walk_the_volcano_and_enter_opens_a_point(open_report: Open) -> None:
    page = open_report(examples.lively())
    plot = page.locator("#global .cloud")
    plot.focus()
    active = "(node) => document.getElementById(node.getAttribute('aria-activedescendant')).getAttribute('aria-label')"
    assert plot.evaluate(active).startswith("more tokens “**”, “:**”, “.**”: +0.490")
    press(page, "Home")
    assert plot.evaluate(active).startswith("less tokens: hedges")
    press(page, "ArrowRight")
    second = plot.evaluate(active)
    assert not second.startswith("less tokens: hedges")
    assert page.locator("#global .readout").inner_text() == second
    press(page, "ArrowLeft", "ArrowLeft", "ArrowLeft", "Enter")
    assert "hedges" in page.locator("dialog[open] h2").inner_text()
    press(page, "Escape", "End", " ")
    assert "“**”" in page.locator("dialog[open] h2").inner_text()


def test_arrows_walk_the_heat_map_and_stop_at_its_edges(open_report: Open) -> None:
    page = open_report(examples.lively())
    page.locator(".heat td[tabindex='0']").focus()
    place = "[document.activeElement.parentNode.rowIndex, document.activeElement.cellIndex]"
    assert page.evaluate(place) == [1, 1]
    press(page, "ArrowUp", "ArrowLeft")
    assert page.evaluate(place) == [1, 1]
    press(page, "ArrowRight", "ArrowDown", "ArrowDown")
    assert page.evaluate(place) == [3, 2]
    press(page, "End")
    assert page.evaluate(place) == [3, 7]
    press(page, "ArrowRight", "Home", *["ArrowDown"] * 20)
    assert page.evaluate(place) == [8, 1]
    assert page.locator(".heat td[tabindex='0']").count() == 1
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    press(page, "Enter")
    assert page.locator("dialog[open] h2").inner_text().split(" ", 2)[2] == label.split(", C1")[0]


def test_arrows_walk_the_table_and_page_keys_turn_its_pages(open_report: Open) -> None:
    page = open_report(examples.lively())
    page.locator(".check input").set_checked(False)
    rows = page.locator("#table-place tbody a.open")
    first, second, last = (rows.nth(place).inner_text() for place in (0, 1, 24))
    rows.first.focus()
    press(page, "ArrowDown")
    assert focused(page) == second
    press(page, "ArrowUp", "ArrowUp")
    assert focused(page) == first
    press(page, "End")
    assert focused(page) == last
    press(page, "PageDown")
    assert page.locator(".pager span").inner_text() == "Page 2 of 8"
    assert focused(page) == rows.first.inner_text() != first
    press(page, "PageUp", "Home")
    assert focused(page) == first
    assert page.locator("#table-place tbody a[tabindex='0']").count() == 1


def column(page: Any, place: int) -> list[float]:
    texts = page.locator(f"#table-place tbody tr td:nth-child({place})").all_inner_texts()
    return [float(text.replace("−", "-").replace(",", "")) for text in texts]


def test_a_column_sorts_both_ways_and_says_which(open_report: Open) -> None:
    page = open_report(examples.lively())
    page.locator(".check input").set_checked(False)
    head = page.locator("#table-place thead th").nth(2)
    head.locator("button").focus()
    press(page, "Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 3) == sorted(column(page, 3), reverse=True)
    press(page, " ")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 3) == sorted(column(page, 3))
    assert page.locator("#table-place [aria-sort]").count() == 1


def test_filters_narrow_the_table_and_say_how_far(open_report: Open) -> None:
    page = open_report(examples.lively())
    status = page.locator("#table-place [role=status]")
    page.get_by_label("Findings only").set_checked(False)
    assert status.inner_text() == "180 hypotheses"
    find = page.get_by_label("Find a concept or a condition")
    find.fill("PROUD writing")
    titles = page.locator("#table-place tbody th").all_inner_texts()
    assert titles
    assert all("proud" in title and "writing" in title for title in titles)
    page.get_by_role("combobox", name="View").select_option("prompt_conditioned")
    page.get_by_role("combobox", name="Direction").select_option("less")
    assert all(title.startswith("▼ less") for title in page.locator("#table-place tbody th").all_inner_texts())
    find.fill("no such thing")
    assert "Nothing matches." in status.inner_text()
    find.focus()
    press(page, "Escape")
    assert find.input_value() == ""
    assert status.inner_text().endswith("hypotheses of 180")
    assert page.locator("#table-place tbody tr").count() > 0


def test_on_a_phone_the_table_sorts_by_a_list(open_report: Open) -> None:
    page = open_report(examples.lively(), width=360)
    page.get_by_role("combobox", name="Sort by").select_option("inside")
    assert column(page, 6) == sorted(column(page, 6), reverse=True)
    assert "Effect" in page.locator("#table-place tbody td").nth(1).evaluate(
        "(node) => getComputedStyle(node, '::before').content"
    )


def test_a_touch_near_a_point_opens_it(open_report: Open) -> None:
    page = open_report(examples.lively(), width=360, has_touch=True)
    page.locator("#global .cloud").scroll_into_view_if_needed()
    box = page.locator("#global .cloud circle").first.bounding_box()
    page.touchscreen.tap(box["x"] + 12, box["y"] + 6)
    assert "“**”" in page.locator("dialog[open] h2").inner_text()


def test_a_click_beside_the_sheet_closes_it(open_report: Open) -> None:
    page = open_report(examples.lively(), fragment="#global-1")
    page.mouse.click(5, 5)
    assert page.locator("dialog[open]").count() == 0
