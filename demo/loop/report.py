"""The loop's page: one HTML file that needs no network. It says what the data teaches, what was decided, what came of it.

Texts of findings and plans are escaped by the audit report's own elements (`assay_server.report.markup`); the page has no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from assay_server.report.markup import Html, clip, el

from demo.loop.steps import Rate

ARMS = ("untrained", "trained", "trained with the plan")
_STYLE = """
.loop-rates { width: 100%; border-collapse: collapse; font-size: 0.9375rem; margin-top: 1rem; }
.loop-rates th, .loop-rates td { text-align: left; padding: 0.35rem 0.75rem 0.35rem 0; border-top: 1px solid var(--line); }
.loop-rates td.draw { width: 45%; }
.loop-rates svg { display: block; }
.loop-rates .track { stroke: var(--line); stroke-width: 2; }
.loop-rates .reach { stroke: var(--raw); stroke-width: 2; }
.loop-rates .at { fill: var(--more); }
.loop-rates tr.first th, .loop-rates tr.first td { border-top: 2px solid var(--strong-line); }
section.loop { margin-top: 3rem; }
section.loop figure svg { width: 100%; height: auto; }
"""


@dataclass(frozen=True)
class Finding:
    """A row of what the data teaches."""

    name: str
    label: str
    estimate: float
    q: float
    decided: str = ""


@dataclass(frozen=True)
class Comparison:
    """What `CompareRollouts` said of one training."""

    title: str
    conclusions: Sequence[str]
    figures: Sequence[tuple[str, str]]
    plot: str = ""  # SVG by the server


@dataclass(frozen=True)
class Story:
    """Everything the page says."""

    title: str
    about: Sequence[tuple[str, str]]
    lede: Sequence[str]
    findings: Sequence[Finding]
    plan: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    rates: Sequence[tuple[str, dict[str, Rate]]]  # trait, and its rate in each arm
    training: Sequence[Sequence[str]]  # rows of a table, the head first
    comparisons: Sequence[Comparison] = field(default_factory=tuple)
    cost: Sequence[tuple[str, str]] = field(default_factory=tuple)


def render(story: Story) -> str:
    """The page."""
    style = Html(files("assay_server.report").joinpath("assets/report.css").read_text() + _STYLE)
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="data:,"),
        el("title", f"{clip(story.title, 80)} · Assay loop"),
        el("style", style),
    )
    masthead = el(
        "header",
        el("p", "Assay · from pairs to a trained policy", class_="eyebrow"),
        el("h1", story.title),
        el("ul", *[el("li", f"{name}: {value}") for name, value in story.about], class_="facts"),
        *[el("p", sentence, class_="lede") for sentence in story.lede],
        class_="masthead",
    )
    sections = [
        _section("What the data teaches", _findings(story.findings)),
        _section("What was decided, and the plan", _terms(story.plan), *_warnings(story.warnings)),
        _section("What the policies write", _note_on_rates(), _rates(story.rates)),
        _section("Did the policies move?", _table(story.training)),
        *[_section(one.title, *_comparison(one)) for one in story.comparisons],
        _section("What it cost", _terms(story.cost)),
    ]
    return f"<!doctype html>\n{el('html', head, el('body', masthead, el('main', *sections)), lang='en')}\n"


def _section(title: str, *parts: str) -> Html:
    return el("section", el("h2", title), *parts, class_="loop")


def _terms(terms: Sequence[tuple[str, str]]) -> Html:
    return el("dl", *[el(tag, text) for name, value in terms for tag, text in (("dt", name), ("dd", value))], class_="prose")


def _findings(findings: Sequence[Finding]) -> Html:
    head = ("Concept", "More in chosen responses", "q", "Decision")
    rows = [
        (f"{one.name} {one.label}".strip(), f"{one.estimate:+.3f}", f"{one.q:.2g}", one.decided or "none") for one in findings
    ]
    return _table([head, *rows])


def _table(rows: Sequence[Sequence[str]]) -> Html:
    head, *body = rows
    top = el("tr", *[el("th", cell, scope="col") for cell in head])
    lines = [el("tr", el("th", row[0], scope="row"), *[el("td", cell, class_="num") for cell in row[1:]]) for row in body]
    return el("div", el("table", el("thead", top), el("tbody", *lines), class_="loop-rates"), class_="scroll")


def _warnings(warnings: Sequence[str]) -> list[Html]:
    if not warnings:
        return [el("p", "The plan came without warnings.", class_="lead")]
    return [el("p", "What speaks against it:", class_="lead"), el("ul", *[el("li", text) for text in warnings])]


def _note_on_rates() -> Html:
    return el(
        "p", "Share of responses to unseen prompts that show each trait; lines are 95% intervals over prompts.", class_="lead"
    )


def _rates(rates: Sequence[tuple[str, dict[str, Rate]]]) -> Html:
    lines: list[Html] = []
    for trait, arms in rates:
        for place, arm in enumerate(name for name in ARMS if name in arms):
            one = arms[arm]
            cells = [
                el("th", trait if place == 0 else "", scope="row"),
                el("td", arm),
                el("td", _drawn(one), class_="draw"),
                el("td", f"{one.value:.0%} ({one.low:.0%} to {one.high:.0%})", class_="num"),
            ]
            lines.append(el("tr", *cells, class_="first" if place == 0 else None))
    head = el("tr", *[el("th", text, scope="col") for text in ("Trait", "Policy", "0 to 100%", "Rate")])
    return el("div", el("table", el("thead", head), el("tbody", *lines), class_="loop-rates"), class_="scroll")


def _drawn(one: Rate) -> Html:
    def at(value: float) -> str:
        return f"{1 + 98 * min(1.0, max(0.0, value)):.2f}%"

    parts = [
        el("line", x1="1%", x2="99%", y1=8, y2=8, class_="track"),
        el("line", x1=at(one.low), x2=at(one.high), y1=8, y2=8, class_="reach"),
        el("circle", cx=at(one.value), cy=8, r=5, class_="at"),
    ]
    return el("svg", *parts, width="100%", height=16, role="img", aria_label=f"{one.value:.0%}")


def _comparison(one: Comparison) -> list[str]:
    parts: list[str] = [el("ul", *[el("li", text) for text in one.conclusions]), _terms(one.figures)]
    if one.plot:
        parts.append(el("figure", Html(one.plot)))  # the server's own picture, escaped where it was drawn
    return parts
