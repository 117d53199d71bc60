"""The picture of a comparison: well formed, alone, readable in both schemes, and nothing in a label gets out of its text."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from assay_server.audit.comparison.agreement import Agreement, Estimate
from assay_server.report import comparison_plot as module
from assay_server.report.comparison_plot import NAMED, Point, comparison_plot
from assay_server.report.markup import clean
from hypothesis import given, settings
from hypothesis import strategies as st

SVG = "{http://www.w3.org/2000/svg}"
FOUND = Agreement(40, pearson_squared=Estimate(0.81, 0.67, 0.9), spearman=Estimate(-0.5, -0.6, -0.4))
SLOPE = Estimate(0.5, 0.4, 0.6)


def point(number: int, *, label: str = "", clears: bool = True, predicted: float = 0.1, observed: float = 0.05) -> Point:
    return Point(f"feature/{number}", label, predicted, 0.02, observed, observed - 0.03, observed + 0.03, clears)


POINTS = [point(n, label=f"label {n}", clears=n < 12, predicted=(n - 20) / 50, observed=(n - 18) / 90) for n in range(40)]


def drawn(points: Sequence[Point] = POINTS, *, slope: Estimate | None = SLOPE, passed: bool | None = True) -> ElementTree.Element:
    return ElementTree.fromstring(picture(points, slope=slope, passed=passed))


def picture(points: Sequence[Point] = POINTS, **more: Any) -> str:
    known = {"level": 0.95, "noise_error": 0.01, "slope": SLOPE, "retained": FOUND, "above": 12, "passed": True}
    return comparison_plot(points, **{**known, **more})


def words(svg: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()) for text in svg.iter(f"{SVG}text")]


def test_every_concept_is_a_point_and_what_clears_the_noise_is_told_by_more_than_colour() -> None:
    svg = drawn()
    circles = [one for one in svg.iter(f"{SVG}circle") if one.find(f"{SVG}title") is not None]
    assert len(circles) == 40
    sizes = {kind: {one.get("r") for one in circles if one.get("class") == kind} for kind in ("clear", "noise")}
    assert sizes == {"clear": {"4"}, "noise": {"2.5"}}
    assert sum(one.get("class") == "bar" for one in svg.iter(f"{SVG}line")) == 2 * 12
    assert {one.get("class") for one in svg.iter(f"{SVG}line")} >= {"identity", "fit", "grid", "zero"}
    assert [text for text in words(svg) if re.fullmatch(r"feature/\d+ label \d+", text)] == [
        f"feature/{n} label {n}" for n in range(NAMED)
    ]


def test_it_has_a_title_a_description_and_a_role() -> None:
    svg = drawn()
    title, description = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert svg.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert svg.get("role") == "img"
    said = description.text or ""
    assert said.startswith("40 retained concepts, 12 of them over the noise floor. Squared Pearson 0.81 [0.67, 0.90].")
    assert "feature/0 label 0: predicted −0.400, observed −0.200 [−0.230, −0.170]" in said


@pytest.mark.parametrize(
    ("passed", "says"),
    [(True, "Positive control passed."), (False, "agreement says nothing"), (None, "whether the policy moved is not known")],
)
def test_the_control_stands_in_the_picture(passed: bool | None, says: str) -> None:
    svg = drawn(passed=passed)
    (line,) = [text for text in svg.iter(f"{SVG}text") if says in (text.text or "")]
    assert (line.get("class") == "warn") == (passed is not True)


def test_what_is_not_drawn_is_counted() -> None:
    svg = drawn(POINTS[:33])
    assert sum(one.find(f"{SVG}title") is not None for one in svg.iter(f"{SVG}circle")) == 33
    assert any(text.startswith("The 7 weakest are not drawn.") for text in words(svg))


@pytest.mark.parametrize("points", [[], [point(0, clears=False, predicted=0.0, observed=0.0)]])
def test_nothing_and_next_to_nothing_are_pictures_too(points: list[Point]) -> None:
    nothing = {"slope": None, "retained": Agreement(len(points)), "above": 0, "noise_error": 0.0, "passed": None}
    svg = ElementTree.fromstring(picture(points, **nothing))
    assert "fitted" not in " ".join(words(svg))
    assert "nan" not in ElementTree.tostring(svg, "unicode").lower()


@given(st.text(max_size=60), st.text(max_size=30))
@settings(max_examples=80, deadline=None)
def test_no_label_gets_out_of_its_text(name: str, label: str) -> None:
    hostile = Point(f"concepts/{name}", label, 0.1, 0.02, 0.05, 0.02, 0.08, True)
    svg = drawn([hostile, *POINTS[:3]])
    assert {one.tag for one in svg.iter()} == {
        f"{SVG}{tag}" for tag in ("svg", "title", "desc", "style", "text", "clipPath", "rect", "line", "circle")
    }
    assert all(not key.startswith("on") for one in svg.iter() for key in one.attrib)


def test_markup_in_a_label_is_shown_as_it_is() -> None:
    label = "<script>x</script>&\"'</text>"
    svg = drawn([point(0, label=label)])
    assert f"feature/0 {label}" in words(svg)
    assert clean(label) == label


def test_it_asks_for_nothing() -> None:
    text = picture()
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert not re.search(r"href|@import|<script|<image|<foreignObject", text)


def test_two_pictures_on_one_page_share_no_id() -> None:
    one, other = drawn(), drawn(passed=False)
    ids = [{found.get("id") for found in svg.iter() if found.get("id")} for svg in (one, other)]
    assert len(ids[0]) == len(ids[1]) == 3
    assert not ids[0] & ids[1]


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_and_points_have_contrast_in_both_schemes() -> None:
    light, dark = module._STYLE.split("@media")
    for scheme in (light, dark):
        paper = re.search(r"background: (#[0-9a-f]{6})", scheme)
        assert paper
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for ink, ground in product(("ink", "soft", "fit"), (paper[1], colours["band"])):
            assert _contrast(colours[ink], ground) >= 4.5, (ink, ground)
        for mark, ground in product(("clear", "strong", "fit"), (paper[1], colours["band"])):
            assert _contrast(colours[mark], ground) >= 3, (mark, ground)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_whole_and_in_the_scheme_that_is_asked_for(chromium: Any, tmp_path: Path, scheme: str) -> None:
    points = [point(n, label=f"a label that goes on and on for a while {n}", observed=n / 90) for n in range(NAMED)]
    (tmp_path / "plot.svg").write_text(picture(points, passed=False))
    context = chromium.new_context(viewport={"width": 768, "height": 700}, color_scheme=scheme)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("request", lambda request: problems.append(request.url) if not request.url.startswith("file:") else None)
    page.goto((tmp_path / "plot.svg").as_uri())
    outside = page.evaluate(
        """() => {
          const box = document.documentElement.viewBox.baseVal;
          return [...document.querySelectorAll("text, circle, line, rect:not(clipPath rect)")].filter((one) => {
            const at = one.getBBox();
            if (one.hasAttribute("transform")) return at.x < 0 && -at.x > box.height;
            return at.x < 0 || at.y < 0 || at.x + at.width > box.width || at.y + at.height > box.height;
          }).map((one) => one.textContent);
        }"""
    )
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    context.close()
    assert outside == []
    assert problems == []
    assert ground == {"light": "rgb(251, 250, 247)", "dark": "rgb(21, 22, 24)"}[scheme]
