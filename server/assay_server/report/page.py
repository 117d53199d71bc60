"""The whole page: one HTML file with style, script and data inside, which needs no network.

The content security policy allows the script and the style by their digests and nothing else, so a text that got past the
escaping could still not run, load or send anything.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files

from assay_server import figures
from assay_server.audit.findings import ViewKind
from assay_server.report import explained, method
from assay_server.report.card_list import card_sections
from assay_server.report.explained import explained_section
from assay_server.report.forest import forest
from assay_server.report.headline import headline
from assay_server.report.heatmap import heatmap
from assay_server.report.markup import Html, clip, el, join
from assay_server.report.model import Report, View
from assay_server.report.payload import HYPOTHESES, payload
from assay_server.report.volcano import volcano
from assay_server.report.wording import VIEW_LEADS, VIEW_TITLES, level

_SCRIPTS = ("format.js", "data.js", "detail.js", "plots.js", "table.js", "cards.js", "start.js")


def render_report(report: Report) -> str:
    """One self-contained HTML page of bounded size; see `payload`."""
    style, script = _asset("report.css"), _script()
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("link", rel="icon", href="data:,"),
        el("title", f"{clip(report.title, 80)} · Assay audit"),
        el("style", style),
    )
    body = el(
        "body",
        el("a", "Skip to the findings", href="#findings", class_="skip"),
        headline(report),
        _contents(report),
        el("main", *_sections(report), id="findings", tabindex=-1),
        _footer(report),
        el("aside", id="tray", hidden=True, aria_label="Decisions on this page"),
        el("p", id="said", role="status", class_="sr"),
        el("dialog", id="detail", aria_labelledby="detail-title"),
        el("script", payload(report), type="application/json", id="data"),
        el("script", script),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _sections(report: Report) -> list[Html]:
    parts: list[str] = [*card_sections(report), method.reading()]
    parts += [*explained_section(report), *(_view(report, view) for view in report.views)]
    parts += [_evidence(), _table(report), method.method(report), method.decisions(report), method.provenance(report)]
    return [part for part in parts if isinstance(part, Html)]


def _view(report: Report, view: View) -> Html:
    heading = [el("h2", VIEW_TITLES[view.kind]), el("p", VIEW_LEADS[view.kind], class_="lead")]
    if view.summary.note:
        heading.append(el("p", el("strong", "Done otherwise than asked. "), _sentence(view.summary.note), class_="empty"))
    if view.summary.reason or not view.hypotheses:
        reason = view.summary.reason or _why_empty(report, view)
        return el(
            "section", *heading, el("p", el("strong", "Nothing to show. "), _sentence(reason), class_="empty"), id=view.kind.value
        )
    cross = heatmap(view) if view.kind is ViewKind.FEATURE_CONDITIONED else Html("")
    return el("section", *heading, forest(report, view), cross, volcano(report, view), id=view.kind.value)


def _why_empty(report: Report, view: View) -> str:
    if view.summary.tests:
        return f"{figures.plural(view.summary.tests, 'test')} were made, and none was kept"
    if report.usable_pairs < 2:
        return f"{figures.plural(report.usable_pairs, 'usable pair')} cannot be tested"
    return "no concept had enough pairs to be tested"


def _sentence(text: str) -> str:
    """A reason as a sentence: reasons are written without a capital and a full stop."""
    whole = text[:1].upper() + text[1:]
    return whole if whole.endswith((".", "!", "?")) else whole + "."


def _evidence() -> Html:
    return el(
        "section",
        el("h2", "Pairs that show it"),
        el(
            "p",
            "The pairs that carry each of the strongest findings most, and those that contradict it most. Marked are the tokens "
            "on which the concept fires; the more underlined, the more strongly. The texts come from the dataset as they are and "
            "may offend; they stay closed until you open them.",
            class_="lead",
        ),
        el("div", el("p", "The pairs need this page's script.", class_="empty"), id="pairs-list"),
        id="pairs",
    )


def _table(report: Report) -> Html:
    kept = sum(min(len(view.hypotheses), HYPOTHESES) for view in report.views)
    left = sum(max(0, len(view.hypotheses) - HYPOTHESES) for view in report.views)
    lead = f"{figures.plural(kept, 'hypothesis', 'hypotheses')} {'was' if kept == 1 else 'were'} kept."
    if left:
        lead = f"The first {figures.count(kept)} of {figures.count(kept + left)} hypotheses; the Parquet export holds all."
    if kept > 1:
        lead += " Sort by a column's head; arrow keys walk the rows."
    return el(
        "section",
        el("h2", "All hypotheses"),
        el("p", lead, class_="lead"),
        el("div", el("p", "The table needs this page's script.", class_="empty"), id="table-place"),
        id="hypotheses",
    )


def _contents(report: Report) -> Html:
    entries = [("findings", "Cards"), *([("explained", explained.TITLE)] if explained_section(report) else [])]
    entries += [(view.kind.value, VIEW_TITLES[view.kind]) for view in report.views]
    entries += [
        ("pairs", "Pairs that show it"),
        ("hypotheses", "All hypotheses"),
        ("method", "What was corrected for"),
        ("decisions", "Decisions"),
        ("provenance", "Options and cost"),
    ]
    links = [el("li", el("a", title, href=f"#{target}")) for target, title in entries]
    return el("nav", el("ol", *links), aria_label="On this page", class_="contents")


def _footer(report: Report) -> Html:
    text = f"Made by Assay from {report.info.name}. A finding has {level(report)}. The method follows arXiv 2606.12360."
    return el("footer", el("p", text))


def _policy(style: Html, script: Html) -> str:
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@lru_cache
def _script() -> Html:
    return Html('"use strict";\n(() => {\n' + join(_asset(name) for name in _SCRIPTS) + "})();\n")


@lru_cache
def _asset(name: str) -> Html:
    """A file of ours; it must not contain its element's end tag."""
    return Html((files("assay_server.report") / "assets" / name).read_text(encoding="utf-8"))
