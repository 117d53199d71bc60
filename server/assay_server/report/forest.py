"""The forest plot: a table of the strongest hypotheses, each with its raw effect beside its controlled one, and intervals.

The plot is a table: each drawn value is also there as a number.
"""

from __future__ import annotations

from collections.abc import Sequence

from assay_server import figures
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.card_words import controlled_words
from assay_server.jobs.audits.types import EffectRow, HypothesisRow
from assay_server.report.markup import Html, el
from assay_server.report.model import Report, View
from assay_server.report.scale import Scale, linear, tick_label
from assay_server.report.wording import (
    VIEW_TITLES,
    VIEW_UNITS,
    arrow,
    concept_note,
    direction,
    link,
    place,
)

ROWS = 12
SHOWN_WITHOUT_FINDINGS = 5
_DIAMOND = "M0-6 6 0 0 6-6 0z"


def forest(report: Report, view: View) -> Html:
    """The view's first findings as a forest plot; without findings its first rows, marked as no findings."""
    findings = [item for item in view.hypotheses if item.finding]
    items = findings[:ROWS] or list(view.hypotheses[:SHOWN_WITHOUT_FINDINGS])
    effects = [effect for item in items for effect in (item.raw, item.controlled) if effect is not None and not effect.reason]
    scale = linear([value for effect in effects for value in (effect.low, effect.high, effect.estimate)])
    body = el("tbody", *[_row(item, scale) for item in items], role="rowgroup")
    parts = [el("caption", _caption(view, len(items), len(findings)))]
    return el(
        "div",
        el("table", *parts, _head(scale, view), body, class_="forest", role="table"),
        _legend(report, items),
        class_="forest-wrap",
    )


def _caption(view: View, shown: int, findings: int) -> Html:
    if view.kind is ViewKind.STATED:
        text = "As it was stated" if shown == 1 else "As they were stated"
    elif not findings:
        text = f"Nothing is a finding. The {figures.plural(shown, 'hypothesis', 'hypotheses')} that came closest:"
    elif view.summary.findings_controlled > shown:
        text = f"The first {shown} of {figures.plural(view.summary.findings_controlled, 'finding')}, in the view's own order"
    else:
        text = f"{figures.plural(shown, 'finding')}, in the view's own order"
    return el("span", text, el("span", f" ({VIEW_TITLES[view.kind].lower()})", class_="sr"))


def _head(scale: Scale, view: View) -> Html:
    step = scale.ticks[1] - scale.ticks[0]
    ticks = [
        el("text", tick_label(tick, step), x=f"{scale.percent(tick)}%", y=12, text_anchor="middle") for tick in _thin(scale.ticks)
    ]
    axis = el("svg", *ticks, class_="axis", aria_hidden="true", height=16, width="100%")
    return el(
        "thead",
        el(
            "tr",
            el("th", "Concept", scope="col", role="columnheader"),
            el("th", el("span", VIEW_UNITS[view.kind], class_="sr"), axis, scope="col", role="columnheader", class_="strip"),
            el("th", "Effect", scope="col", role="columnheader", class_="num"),
            el("th", "q", scope="col", role="columnheader", class_="num"),
            role="row",
        ),
        role="rowgroup",
    )


def _row(item: HypothesisRow, scale: Scale) -> Html:
    effect = item.effect
    estimate = el("b", figures.signed(effect.estimate), class_="value")
    numbers = [el("span", estimate, " ", el("span", figures.interval(effect.low, effect.high), class_="ci"))]
    if item.controlled is not None:
        raw = "\N{EN DASH}" if item.raw.reason else figures.signed(item.raw.estimate)
        numbers.append(el("span", " raw ", raw, class_="rawvalue"))
    if effect.reason:
        numbers = [el("span", "not tested: ", effect.reason, class_="ci")]
    return el(
        "tr",
        el(
            "th",
            el("span", arrow(item), " ", link(item), class_="title"),
            place(item.condition, f" ({figures.plural(item.inside, 'pair')})"),
            el("span", concept_note(item.concept), class_="note"),
            scope="row",
            role="rowheader",
        ),
        el("td", _strip(item, scale), class_="strip", role="cell"),
        el("td", *numbers, class_="num", role="cell"),
        el("td", el("span", "q ", class_="narrow"), figures.probability(effect.q), class_="num q", role="cell"),
        role="row",
        class_=None if item.finding else "weak",
    )


def _strip(item: HypothesisRow, scale: Scale) -> Html:
    zero = f"{scale.percent(0)}%"
    places = [f"{scale.percent(tick)}%" for tick in _thin(scale.ticks)]
    parts = [el("line", x1=place, x2=place, y1=0, y2="100%", class_="zero" if place == zero else "grid") for place in places]
    if item.controlled is not None:
        if not item.raw.reason:
            parts += _mark(item.raw, scale, y=11, kind="raw")
        if not item.controlled.reason:
            parts += _mark(item.controlled, scale, y=25, kind=direction(item))
    elif not item.raw.reason:
        parts += _mark(item.raw, scale, y=18, kind="raw")
    return el("svg", *parts, width="100%", height=36, aria_hidden="true")


def _mark(effect: EffectRow, scale: Scale, *, y: int, kind: str) -> list[Html]:
    low, high, middle = (f"{scale.percent(value)}%" for value in (effect.low, effect.high, effect.estimate))
    line = el("line", x1=low, x2=high, y1=y, y2=y, class_=f"whisker {kind}")
    if kind == "raw":
        return [line, el("circle", cx=middle, cy=y, r=4.5, class_="dot raw")]
    diamond = el("svg", el("path", d=_DIAMOND, class_=f"dot {kind}"), x=middle, y=y, class_="mark")
    return [line, diamond]


def _legend(report: Report, items: Sequence[HypothesisRow]) -> Html:
    percent = f"{100 * report.options.interval_level:g}%"
    raw = el("svg", el("circle", cx=7, cy=7, r=4.5, class_="dot raw"), width=14, height=14, aria_hidden="true")
    parts = [el("span", raw, " raw effect")]
    if any(item.controlled is not None for item in items):
        drawing = el("path", d=_DIAMOND, transform="translate(7 7)", class_="dot more")
        words = controlled_words(report.info.settings) or "nuisances"
        parts.append(el("span", el("svg", drawing, width=14, height=14, aria_hidden="true"), f" {words} controlled"))
    parts.append(el("span", f"lines: {percent} intervals"))
    return el("p", *parts, el("span", "Open a concept for the pairs that show it."), class_="legend")


def _thin(ticks: Sequence[float]) -> Sequence[float]:
    """Few enough labels for a phone, zero included."""
    if len(ticks) <= 5:
        return ticks
    zero = min(range(len(ticks)), key=lambda index: abs(ticks[index]))
    return [tick for index, tick in enumerate(ticks) if (index - zero) % 2 == 0]
