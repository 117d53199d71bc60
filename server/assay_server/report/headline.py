"""The top of the page: what the dataset would teach, in sentences made from the strongest findings.

Only findings are named, in their view's own order, each label once: twelve features of one habit are one lesson.
"""

from __future__ import annotations

from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.types import HypothesisRow
from assay_server.report import figures
from assay_server.report.lengths import NOT_NOTHING, judged, lesson_zero, verdict_words
from assay_server.report.markup import Html, clip, el
from assay_server.report.model import Report, View
from assay_server.report.wording import (
    VIEW_TITLES,
    arrow,
    concept_title,
    condition_title,
    controlled_words,
    level,
    link,
    place,
)

NAMED_GLOBAL = 5
NAMED_CONDITIONED = 3
NAMED_MEMBERS = 2  # beside the concept that leads a lesson
TITLE_LIMIT = 90


def headline(report: Report) -> Html:
    """Title, length as lesson 0, the strongest lessons, and what nuisances leave of the raw findings."""
    title = clip(report.title or report.dataset.name, TITLE_LIMIT)
    return el(
        "header",
        el("p", "Assay · Audit of a preference dataset", class_="eyebrow"),
        el("h1", "What ", el("span", "“", el("bdi", title), "”", class_="subject"), " would teach"),
        _facts(report),
        *lesson_zero(report),
        *_lessons(report),
        *_shares(report),
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


def _lessons(report: Report) -> list[Html]:
    parts: list[Html] = []
    for view in report.views:
        if view.kind is ViewKind.GLOBAL:
            parts += _global(report, view)
    conditioned = [view for view in report.views if view.kind in (ViewKind.FEATURE_CONDITIONED, ViewKind.PROMPT_CONDITIONED)]
    # Prompts first: a lesson that hides behind a topic is what a reader can act on.
    narrow = [_lesson(view, item) for view in reversed(conditioned) for item in strongest(view, NAMED_CONDITIONED)]
    if narrow:
        parts.append(el("p", "And only in part of the data:", class_="lede"))
        parts.append(el("ul", *narrow, class_="lessons"))
    for view in report.views:
        if view.kind is ViewKind.STATED:
            parts += _stated(view)
    if not parts:
        parts.append(el("p", "No view tested over all pairs.", class_="lede"))
    return parts


def _global(report: Report, view: View) -> list[Html]:
    if view.summary.reason or not view.summary.tests:
        reason = view.summary.reason or "no concept fires in any pair"
        return [el("p", f"Over all pairs nothing could be tested: {_sentence(reason)}", class_="lede")]
    tested, pairs = figures.plural(view.summary.tests, "concept"), figures.plural(report.usable_pairs, "pair")
    if not view.summary.findings_controlled:
        return [
            el(
                "p",
                f"Over all {pairs}, none of {tested} tells chosen from rejected responses surely enough to be called a finding "
                f"({level(report)}). If these pairs teach something general, this audit cannot see it.",
                class_="lede",
            ),
            el("p", NOT_NOTHING, class_="aside"),
        ]
    items = strongest(view, NAMED_GLOBAL)
    lede = (
        f"In {pairs}, {figures.count(view.summary.findings_controlled)} of {tested} "
        f"{'tells' if view.summary.findings_controlled == 1 else 'tell'} chosen from rejected responses. "
        + _come_down_to(view)
        + ("Most surely, a model trained on them would learn:" if items else "")
    )
    return [el("p", lede, class_="lede"), *([_list(view, items)] if items else [])]


def _come_down_to(view: View) -> str:
    if not 0 < view.summary.lessons < view.summary.findings_controlled:
        return ""
    lessons = "one lesson" if view.summary.lessons == 1 else f"{view.summary.lessons} distinct lessons"
    return f"They come down to {lessons}: what each says beyond the ones before it. "


def _stated(view: View) -> list[Html]:
    if not view.hypotheses:
        return [el("p", f"The stated hypothesis could not be tested: {_sentence(view.summary.reason)}", class_="lede")]
    items = view.hypotheses[:NAMED_GLOBAL]
    holds = sum(item.finding for item in items)
    lede = (
        ("The stated hypothesis holds:" if holds else "The stated hypothesis does not hold:")
        if len(items) == 1
        else f"{holds} of {len(view.hypotheses)} stated hypotheses hold:"
    )
    return [el("p", lede, class_="lede"), _list(view, items)]


def members(view: View, lead: HypothesisRow, limit: int = NAMED_MEMBERS) -> list[HypothesisRow]:
    """The first other findings of the lesson that a hypothesis leads, one per concept title; none where it leads no lesson."""
    if lead.lesson_z is None:
        return []
    chosen: list[HypothesisRow] = []
    seen = {concept_title(lead.concept).casefold()}
    for hypothesis in view.hypotheses:
        title = concept_title(hypothesis.concept).casefold()
        if hypothesis.finding and hypothesis.lesson == lead.lesson and title not in seen and len(chosen) < limit:
            seen.add(title)
            chosen.append(hypothesis)
    return chosen


def _list(view: View, items: list[HypothesisRow] | tuple[HypothesisRow, ...]) -> Html:
    return el("ul", *[_lesson(view, item) for item in items], class_="lessons")


def _turned(other: HypothesisRow, lead: HypothesisRow) -> str:
    """The direction, where it differs from the lead's."""
    if (other.effect.estimate < 0) == (lead.effect.estimate < 0):
        return ""
    return "less " if other.effect.estimate < 0 else "more "


def _lesson(view: View, hypothesis: HypothesisRow) -> Html:
    others = members(view, hypothesis)
    along: list[str | Html] = [part for other in others for part in ("; ", _turned(other, hypothesis), link(other))][1:]
    return el(
        "li",
        arrow(hypothesis),
        " ",
        el(
            "span",
            link(hypothesis),
            place(hypothesis.condition),
            *([el("span", " along with ", *along, class_="along")] if along else []),
            class_="what",
        ),
        " ",
        el("span", figures.signed(hypothesis.effect.estimate), class_="num"),
    )


def _shares(report: Report) -> list[Html]:
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
            el("h2", f"What {words} explains"),
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
