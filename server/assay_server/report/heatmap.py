"""The heat map: concepts down, clusters of pairs across, the effect inside against outside in each cell.

A grid of numbers, coloured: arrow keys move, Enter opens the hypothesis, findings are outlined. An empty cell is a combination
that is not among the kept hypotheses.
"""

from __future__ import annotations

from collections import Counter

from assay_server import figures
from assay_server.jobs.audits.types import HypothesisRow
from assay_server.report.markup import Html, el
from assay_server.report.model import View
from assay_server.report.wording import anchor, concept_title, condition_title

CONCEPTS = 12
CLUSTERS = 12
_SHADES = 4

Cells = dict[tuple[str, str], HypothesisRow]
"""Hypotheses by concept and condition name."""


def heatmap(view: View) -> Html:
    """The grid of the view's strongest concepts and clusters; "" where there is nothing to cross."""
    cells: Cells = {}
    for item in view.hypotheses:
        if item.condition and not item.effect.reason:
            cells.setdefault((item.concept.name, item.condition.name), item)
    concepts = _most_telling(cells, 0, CONCEPTS)
    clusters = _most_telling(cells, 1, CLUSTERS)
    shown = {key: item for key, item in cells.items() if key[0] in concepts and key[1] in clusters}
    if len(shown) < 2:
        return Html("")
    top = max(abs(item.effect.estimate) for item in shown.values()) or 1.0
    names = {name: str(index) for index, name in enumerate(clusters, 1)}
    rows = [_row(concept, clusters, shown, top, names) for concept in concepts]
    grid = el(
        "table",
        el("caption", "Effect of each concept in each cluster", class_="sr"),
        _head(clusters, names),
        el("tbody", *rows),
        role="grid",
        class_="heat",
        aria_label="Effect of each concept in each cluster of pairs. Arrow keys move, Enter opens.",
    )
    return el(
        "figure",
        el(
            "figcaption",
            el("strong", "Concept by cluster. "),
            "Blue, plus: chosen responses carry the concept more inside the cluster than outside. Orange, minus: less. "
            "Outlined cells are findings; empty ones were not among the kept hypotheses.",
        ),
        el("div", grid, class_="scroll", tabindex=0, role="region", aria_label="Heat map, scrolls sideways"),
        _key(clusters, shown, names),
        class_="heatmap",
    )


def _most_telling(cells: Cells, side: int, limit: int) -> list[str]:
    """Names with the most findings first, then by how often they occur."""
    findings = Counter(key[side] for key, item in cells.items() if item.finding)
    present = Counter(key[side] for key in cells)
    order = {key[side]: place for place, key in reversed(list(enumerate(cells)))}
    return sorted(present, key=lambda name: (-findings[name], -present[name], order[name]))[:limit]


def _head(clusters: list[str], names: dict[str, str]) -> Html:
    columns = [el("th", el("abbr", f"C{names[name]}", title=name), scope="col") for name in clusters]
    return el("thead", el("tr", el("th", "Concept", scope="col"), *columns))


def _row(concept: str, clusters: list[str], shown: Cells, top: float, names: dict[str, str]) -> Html:
    title = next((concept_title(item.concept) for key, item in shown.items() if key[0] == concept), concept)
    cells = [_cell(shown.get((concept, name)), top, f"C{names[name]}") for name in clusters]
    return el("tr", el("th", el("bdi", title), scope="row", title=title), *cells)


def _cell(item: HypothesisRow | None, top: float, column: str) -> Html:
    if item is None:
        return el("td", el("span", "not kept", class_="sr"), role="gridcell", tabindex=-1, class_="none")
    value = item.effect.estimate
    text = _short(value)
    shade = min(_SHADES, 1 + int(_SHADES * abs(value) / top * 0.999))
    side = "even" if text == "0" else f"less{shade}" if value < 0 else f"more{shade}"
    label = f"{concept_title(item.concept)}, {column}: {text}, {'a finding' if item.finding else 'no finding'}"
    return el(
        "td",
        text,
        role="gridcell",
        tabindex=-1,
        class_=f"{side}{' found' if item.finding else ''}",
        data_h=anchor(item),
        aria_label=label,
    )


def _short(value: float) -> str:
    """ "+.41": two digits are what a cell has room for."""
    text = figures.signed(round(value, 2))[:5]
    return text.replace("0.", ".", 1) if text != "0" else "0"


def _key(clusters: list[str], shown: Cells, names: dict[str, str]) -> Html:
    entries: list[Html] = []
    for name in clusters:
        item = next((item for key, item in shown.items() if key[1] == name), None)
        if item and item.condition:
            about = el("bdi", condition_title(item.condition))
            entries.append(el("li", el("b", f"C{names[name]}"), " ", about, f" ({figures.plural(item.inside, 'pair')})"))
    return el("ul", *entries, class_="key", aria_label="The clusters")
