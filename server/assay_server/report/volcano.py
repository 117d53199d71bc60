"""The volcano plot: every kept hypothesis of a view by its effect (across) and its evidence (up).

The evidence is −log₁₀ p on a square-root axis, nearly linear in |z|, so that p-values of 10⁻⁵⁰ and 0.01 fit one plot. Points are
options of one list box: arrow keys move, Enter opens one. The strongest are numbered and named below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay_server import figures
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.types import HypothesisRow
from assay_server.report.headline import strongest
from assay_server.report.markup import Html, el
from assay_server.report.model import Report, View
from assay_server.report.scale import Scale, linear, tick_label
from assay_server.report.wording import VIEW_TITLES, VIEW_UNITS, anchor, arrow, level, link, place

HEIGHT = 280
NUMBERED = 8
MIN_POINTS = 8
_FLOOR = 1e-300
NARROW = 260  # pixels of the plot on a phone
_SIDES = ((7, 4, "start"), (-7, 4, "end"), (0, -7, "middle"), (0, 16, "middle"))
_POWERS = (3, 6, 12, 25, 50, 100, 200, 300)


def volcano(report: Report, view: View) -> Html:
    """The plot with axes, a readout and the numbered points in words; "" where there are too few points."""
    items = [item for item in view.hypotheses if not item.effect.reason]
    if len(items) < MIN_POINTS:
        return Html("")
    across = linear([item.effect.estimate for item in items])
    top = max(*(_evidence(item.effect.p) for item in items), _evidence(1e-3)) * 1.04
    named = strongest(view, NUMBERED)
    findings = sum(item.finding for item in items)
    summary = (
        f"{figures.plural(len(items), 'hypothesis', 'hypotheses')} by effect and evidence, {figures.count(findings)} of them "
        "findings. Arrow keys move between points, Enter opens one."
    )
    plot = el(
        "svg",
        *_grid(report, across, items, top),
        *[_point(item, across, top) for item in items],
        *_numbers(named, across, top),
        class_="cloud",
        width="100%",
        height=HEIGHT,
        role="listbox",
        tabindex=0,
        aria_label=f"{VIEW_TITLES[view.kind]}: {summary}",
    )
    return el(
        "figure",
        el("figcaption", el("strong", "Effect against evidence. "), _explain(report, items, view)),
        el("div", _up(top), plot, Html("<span></span>"), _axis(across), class_="plot"),
        el("p", VIEW_UNITS[view.kind], class_="unit"),
        el("p", "Point at a dot, or use the arrow keys.", class_="readout", aria_hidden="true"),
        _names(named),
        class_="volcano",
    )


def _explain(report: Report, items: Sequence[HypothesisRow], view: View) -> str:
    left_out = view.summary.tests - len(items)
    rest = f" The {figures.count(left_out)} weakest are not drawn." if left_out > 0 else ""
    halves = "" if view.kind in (ViewKind.GLOBAL, ViewKind.STATED) else " and the same sign in both halves of the data"
    if not any(_q(report, item) <= report.options.q_level for item in items):
        return f"None reaches {level(report)}.{rest}"
    return f"Filled dots are findings ({level(report)}{halves}); the dashed line is the p-value that this takes.{rest}"


def _evidence(p: float) -> float:
    return math.sqrt(-math.log10(min(max(p, _FLOOR), 1.0)))


def _y(p: float, top: float) -> float:
    return round(HEIGHT - 8 - (HEIGHT - 20) * _evidence(p) / top, 1)


def _levels(top: float) -> list[tuple[float, str]]:
    levels = [(0.05, "p 0.05")]
    superscripts = figures.probability
    previous = _y(0.05, top)
    for power in _POWERS:
        p = 10.0**-power
        if _evidence(p) <= top and previous - _y(p, top) >= 22:
            levels.append((p, superscripts(p) if power > 3 else "0.001"))
            previous = _y(p, top)
    return levels


def _up(top: float) -> Html:
    labels = [el("text", text, x="100%", y=_y(p, top) + 4, text_anchor="end") for p, text in _levels(top)]
    return el("svg", *labels, class_="axis up", width=52, height=HEIGHT, aria_hidden="true")


def _axis(across: Scale) -> Html:
    step = across.ticks[1] - across.ticks[0]
    labels = [
        el("text", tick_label(tick, step), x=f"{across.percent(tick)}%", y=13, text_anchor="middle")
        for tick in across.ticks[1:-1]
    ]
    return el("svg", *labels, class_="axis", width="100%", height=18, aria_hidden="true")


def _grid(report: Report, across: Scale, items: Sequence[HypothesisRow], top: float) -> list[Html]:
    lines = [el("line", x1=0, x2="100%", y1=_y(p, top), y2=_y(p, top), class_="grid") for p, _ in _levels(top)]
    zero = f"{across.percent(0)}%"
    lines.append(el("line", x1=zero, x2=zero, y1=0, y2="100%", class_="zero"))
    passing = [item.effect.p for item in items if _q(report, item) <= report.options.q_level]
    if passing:
        failing = [item.effect.p for item in items if item.effect.p > max(passing)]
        y = (_y(max(passing), top) + _y(min(failing, default=1.0), top)) / 2
        lines.append(el("line", x1=0, x2="100%", y1=y, y2=y, class_="threshold"))
    return lines


def _q(report: Report, item: HypothesisRow) -> float:
    return item.effect.q_by if report.options.yekutieli else item.effect.q


def _point(item: HypothesisRow, across: Scale, top: float) -> Html:
    side = "less" if item.effect.estimate < 0 else "more"
    return el(
        "circle",
        cx=f"{across.percent(item.effect.estimate)}%",
        cy=_y(item.effect.p, top),
        r=4 if item.finding else 3,
        class_=side if item.finding else None,
        data_h=anchor(item),
        role="option",
    )


def _numbers(named: Sequence[HypothesisRow], across: Scale, top: float) -> list[Html]:
    """The numbers beside their points, on a side that is free at a phone's width."""
    centres = [(across.percent(item.effect.estimate) / 100 * NARROW, _y(item.effect.p, top)) for item in named]
    taken = list(centres)
    drawn: list[Html] = []
    for index, (item, (x, y)) in enumerate(zip(named, centres, strict=True), 1):
        sides = _SIDES if item.effect.estimate >= 0 else (_SIDES[1], _SIDES[0], *_SIDES[2:])

        def crowding(side: tuple[int, int, str], x: float = x, y: float = y) -> int:
            at = (x + 1.4 * side[0], y + 1.4 * (side[1] - 4))
            return sum(abs(at[0] - other[0]) < 11 and abs(at[1] - other[1]) < 11 for other in taken)

        side = min(sides, key=crowding)
        taken.append((x + 1.4 * side[0], y + 1.4 * (side[1] - 4)))
        text = el("text", str(index), x=side[0], y=side[1], text_anchor=side[2])
        drawn.append(el("svg", text, x=f"{across.percent(item.effect.estimate)}%", y=y, class_="mark", aria_hidden="true"))
    return drawn


def _names(named: Sequence[HypothesisRow]) -> Html:
    if not named:
        return Html("")
    entries = [el("li", arrow(item), " ", link(item), place(item.condition)) for item in named]
    return el("ol", *entries, class_="names")
