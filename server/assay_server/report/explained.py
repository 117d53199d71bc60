"""How much this explains: held-out AUCs of length, style and the SAE as a table with a strip, as in the forest plot."""

from __future__ import annotations

from assay_server import figures
from assay_server.audit.auc import Estimate
from assay_server.audit.explained import Explained, ExplainedBlock
from assay_server.report.markup import Html, clip, el
from assay_server.report.model import Report
from assay_server.report.scale import Scale, linear

TITLE = "How much this explains"
_COIN = 0.5  # an AUC that says nothing; the strip's zero
_LEAD = (
    "How well preference is predicted on prompts that were held out: 0.5 is a coin, 1 is every pair. Style is length and "
    "Markdown. What the SAE adds to style is the figure that matters; findings were selected on the training prompts alone."
)
_DENSE = "Dense is the mean residual, what the subject knows: "
_SHARE = "the share of it that a row explains is beside its AUC. "
_NO_SHARE = "it is not surely over one half itself, so no row has a share of it. "
_CONTROLS = (
    "The random dictionary has the SAE's shape and sparsity and was never trained; what it predicts as well is not what the SAE "
    "learnt."
)
_NOT_HELD = "Not held against the residuals themselves and a random dictionary"
_HOW = ": assay audit --controls reads a sample of the pairs once more for that, of about 2,000 or as --control-pairs says."


def explained_section(report: Report) -> list[Html]:
    """The section, where anything was fitted or there is a reason why not."""
    found = report.info.explained
    if found is None or not (found.blocks or found.note):
        return []
    parts = [el("h2", TITLE), el("p", _LEAD, class_="lead")]
    if found.over_style is not None:
        one = found.over_style
        text = f"The SAE adds {figures.signed(one.value)} {figures.interval(one.low, one.high)} to the AUC of style."
        parts.append(el("p", el("strong", text), " The interval holds zero: nothing sure." if one.low <= 0 <= one.high else ""))
    if found.over_random is not None:
        parts.append(el("p", _over_random(found.over_random)))
    if found.blocks:
        asked = bool(report.info.settings.statistics.control_pairs)
        parts += [_table(found.blocks), el("p", _held_against(found, asked), class_="note")]
    if found.note:
        parts.append(el("p", clip(found.note[:1].upper() + found.note[1:], 400), class_="note"))
    return [el("section", *parts, id="explained")]


def _held_against(found: Explained, asked: bool) -> str:
    if found.over_random is None:
        return _NOT_HELD + ("." if asked else _HOW)
    return _DENSE + (_SHARE if any(row.share is not None for row in found.blocks) else _NO_SHARE) + _CONTROLS


def _over_random(one: Estimate) -> str:
    gain = f"{figures.signed(one.value)} {figures.interval(one.low, one.high)}"
    said = f"Against a random dictionary that was never trained, the SAE's AUC is {gain}."
    if one.low <= 0 <= one.high:
        said += " The interval holds zero: nothing shows that training the SAE helped here."
    return said


def _table(rows: tuple[ExplainedBlock, ...]) -> Html:
    scale = linear([value - _COIN for row in rows for value in (row.low, row.high)])
    ticks = [el("text", f"{tick + _COIN:g}", x=f"{scale.percent(tick)}%", y=12, text_anchor="middle") for tick in scale.ticks]
    shares = any(row.share is not None for row in rows)
    axis = el("svg", *ticks, class_="axis", aria_hidden="true", height=16, width="100%")
    heads = [
        el("th", "Predicted from", scope="col", role="columnheader"),
        el("th", el("span", "held-out AUC", class_="sr"), axis, scope="col", role="columnheader", class_="strip"),
        el("th", "AUC", scope="col", role="columnheader", class_="num"),
        *([el("th", "Share", scope="col", role="columnheader", class_="num")] if shares else []),
        el("th", "Columns", scope="col", role="columnheader", class_="num"),
    ]
    body = el("tbody", *[_row(row, scale, shares=shares) for row in rows], role="rowgroup")
    head = el("thead", el("tr", *heads, role="row"), role="rowgroup")
    return el("table", el("caption", "Held-out AUC of preference", class_="sr"), head, body, class_="forest", role="table")


def _share(one: Estimate | None) -> list[Html | str]:
    if one is None:
        return []
    return [el("b", f"{one.value:.0%}", class_="value"), " ", el("span", f"[{one.low:.0%}, {one.high:.0%}]", class_="ci")]


def _row(row: ExplainedBlock, scale: Scale, *, shares: bool) -> Html:
    low, high, middle, coin = (f"{scale.percent(value - _COIN)}%" for value in (row.low, row.high, row.auc, _COIN))
    strip = [
        el("line", x1=coin, x2=coin, y1=0, y2="100%", class_="zero"),
        el("line", x1=low, x2=high, y1=18, y2=18, class_="whisker raw"),
        el("circle", cx=middle, cy=18, r=4.5, class_="dot raw"),
    ]
    interval = el("span", f"[{row.low:.3f}, {row.high:.3f}]", class_="ci")
    return el(
        "tr",
        el("th", el("span", clip(row.name, 80), class_="title"), scope="row", role="rowheader"),
        el("td", el("svg", *strip, width="100%", height=36, aria_hidden="true"), class_="strip", role="cell"),
        el("td", el("b", f"{row.auc:.3f}", class_="value"), " ", interval, class_="num", role="cell"),
        *([el("td", *_share(row.share), class_="num", role="cell")] if shares else []),
        el("td", el("span", "columns ", class_="narrow"), figures.count(row.columns), class_="num q", role="cell"),
        role="row",
    )
