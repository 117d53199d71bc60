"""The top of the page: what was audited, how much was found, and how much of it is only length. The lessons are cards."""

from __future__ import annotations

from assay_server import figures
from assay_server.audit.findings import ViewKind
from assay_server.audit.length import Direction
from assay_server.jobs.audits.card_words import controlled_words
from assay_server.jobs.audits.types import HypothesisRow
from assay_server.report.lengths import NOT_NOTHING, judged, lesson_zero, verdict_words
from assay_server.report.markup import Html, clip, el
from assay_server.report.model import Report, View
from assay_server.report.wording import VIEW_TITLES, concept_title, condition_title, level

TITLE_LIMIT = 90


def headline(report: Report) -> Html:
    """Title, facts, length as lesson 0, and how much was found."""
    title = clip(report.title or report.dataset.name, TITLE_LIMIT)
    return el(
        "header",
        el("p", "Assay · Audit of a preference dataset", class_="eyebrow"),
        el("h1", "What ", el("span", "“", el("bdi", title), "”", class_="subject"), " would teach"),
        _facts(report),
        *lesson_zero(report),
        *[el("p", text, class_="lede") for text in _ledes(report)],
        *_not_nothing(report),
        class_="masthead",
    )


def strongest(view: View, limit: int) -> list[HypothesisRow]:
    """The first findings of a view, one per pair of concept and condition titles; only those that lead a lesson, where the view
    has lessons."""
    chosen: list[HypothesisRow] = []
    seen: set[tuple[str, str]] = set()
    leads = sorted((item for item in view.hypotheses if item.lesson_z is not None), key=lambda item: item.lesson)
    for hypothesis in leads or view.hypotheses:
        condition = condition_title(hypothesis.condition) if hypothesis.condition else ""
        key = (concept_title(hypothesis.concept).casefold(), condition.casefold())
        if hypothesis.finding and key not in seen and len(chosen) < limit:
            seen.add(key)
            chosen.append(hypothesis)
    return chosen


def _facts(report: Report) -> Html:
    dataset = report.dataset
    facts = [figures.plural(dataset.pairs, "pair")]
    if dataset.unusable_pairs:
        facts.append(f"{figures.count(dataset.unusable_pairs)} of them unusable")
    if dataset.prompts:
        facts.append(figures.plural(dataset.prompts, "different prompt"))
    facts += [clip(value, 80) for value in (report.info.subject.model_id, report.info.subject.hook) if value]
    if report.info.created:
        facts.append(figures.instant(report.info.created))
    return el("ul", *[el("li", el("bdi", fact)) for fact in facts], class_="facts")


def _ledes(report: Report) -> list[str]:
    told: list[str] = []
    for view in report.views:
        if view.kind is ViewKind.GLOBAL:
            told.append(_global(report, view))
        elif view.kind is ViewKind.STATED:
            told.append(_stated(view))
    return told or ["No view tested over all pairs."]


def _not_nothing(report: Report) -> list[Html]:
    views = [view.summary for view in report.views if view.kind is ViewKind.GLOBAL]
    empty = any(one.tests and not one.reason and not one.findings_controlled for one in views)
    return [el("p", NOT_NOTHING, class_="aside")] if empty else []


def _global(report: Report, view: View) -> str:
    summary = view.summary
    if summary.reason or not summary.tests:
        return f"Over all pairs nothing could be tested: {_sentence(summary.reason or 'no concept fires in any pair')}"
    tested, pairs = figures.plural(summary.tests, "concept"), figures.plural(report.usable_pairs, "pair")
    if not summary.findings_controlled:
        length = report.info.length
        beside = "else " if length is not None and length.direction in (Direction.LONGER, Direction.SHORTER) else ""
        return (
            f"Over all {pairs}, none of {tested} tells chosen from rejected responses surely enough to be called a finding "
            f"({level(report)}). If these pairs teach something {beside}that is general, this audit cannot see it."
        )
    tell = "tells" if summary.findings_controlled == 1 else "tell"
    return (
        f"In {pairs}, {figures.count(summary.findings_controlled)} of {tested} {tell} chosen from rejected responses. "
        + _come_down_to(report, view)
    ).strip()


def _come_down_to(report: Report, view: View) -> str:
    if not 0 < view.summary.lessons < view.summary.findings_controlled:
        return ""
    lessons = "one lesson" if view.summary.lessons == 1 else f"{view.summary.lessons} distinct lessons"
    parts = any(one.summary.findings_controlled for one in report.views if one.kind is not ViewKind.GLOBAL)
    others = "; others hold in parts of the data alone" if parts else ""
    return f"Over all pairs they come down to {lessons}{others}. The cards tell them in order."


def _stated(view: View) -> str:
    items = view.hypotheses
    if not items:
        return f"The stated hypothesis could not be tested: {_sentence(view.summary.reason)}"
    holds = sum(item.finding for item in items)
    if len(items) == 1:
        return "The stated hypothesis holds." if holds else "The stated hypothesis does not hold."
    return f"{holds} of {len(items)} stated hypotheses hold."


def shares(report: Report) -> list[Html]:
    """How many raw findings what is controlled for explains, over all and by view."""
    views = [view for view in report.views if view.summary.tests and view.kind is not ViewKind.STATED]
    raw, kept = sum(view.summary.findings_raw for view in views), sum(view.summary.findings_controlled for view in views)
    if not views or not (raw or kept):
        return []
    words, failed = controlled_words(report.info.settings), report.info.nuisance.reason
    if not words:
        sentence = "Nothing was controlled for. Where chosen responses are longer, some of these findings may be only that."
        return [el("p", sentence, class_="aside")]
    if failed:
        return [el("p", f"{words.capitalize()} could not be controlled for: {_sentence(failed)}", class_="aside")]
    if judged(views):
        first, rest = verdict_words(report, views, words)
        verdict = el("strong", first)
    else:
        verdict = el(
            "strong", f"{figures.count(raw)} findings pass before {words} is controlled for, {figures.count(kept)} after."
        )
        rest = ""
    rows = [_bars(view, words) for view in views if view.summary.findings_raw or view.summary.findings_controlled]
    return [
        el(
            "section",
            el("h3", f"What {words} explains"),
            el("p", verdict, rest),
            el("table", *_bars_head(words), el("tbody", *rows, role="rowgroup"), class_="bars", role="table"),
            class_="only",
            aria_label=f"What {words} explains",
        )
    ]


def _bars_head(words: str) -> list[Html]:
    heads = ("View", "Raw", f"{words.capitalize()} controlled")
    cells = [el("th", head, scope="col", role="columnheader") for head in heads]
    return [
        el("caption", "Findings by view, before and after control", class_="sr"),
        el("thead", el("tr", *cells, role="row"), class_="sr", role="rowgroup"),
    ]


def _bars(view: View, words: str) -> Html:
    """Both counts of a view, scaled to the larger one, as views differ a thousandfold."""
    top = max(view.summary.findings_raw, view.summary.findings_controlled)

    def bar(value: int, kind: str, note: str) -> Html:
        width = round(100 * value / top, 2) if top else 0
        drawing = el("svg", el("rect", width=f"{width}%", height="100%", class_=kind), class_="bar", aria_hidden="true")
        return el("td", drawing, el("span", el("b", figures.count(value), class_="num"), f" {note}"), role="cell")

    return el(
        "tr",
        el("th", VIEW_TITLES[view.kind], scope="row", role="rowheader"),
        bar(view.summary.findings_raw, "raw", "raw"),
        bar(view.summary.findings_controlled, "kept", f"once {words} is controlled for"),
        role="row",
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."
