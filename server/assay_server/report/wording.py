"""Names on the page for concepts, conditions, views and directions."""

from __future__ import annotations

from assay_server import figures
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.naming import concept_name, condition_name, where_words
from assay_server.jobs.audits.tables import hypothesis_id
from assay_server.jobs.audits.types import ConceptRow, ConditionRow, DecisionMode, EffectRow, HypothesisRow
from assay_server.labelling.labels import LABEL_BAR
from assay_server.report.markup import Html, clip, el
from assay_server.report.model import Report

LABEL_LIMIT = 160  # code points of a label that are shown

VIEW_TITLES = {
    ViewKind.GLOBAL: "Everywhere",
    ViewKind.FEATURE_CONDITIONED: "In clusters of similar pairs",
    ViewKind.PROMPT_CONDITIONED: "By what the prompt is about",
    ViewKind.STATED: "Stated hypotheses",
}
VIEW_LEADS = {
    ViewKind.GLOBAL: "What chosen responses carry more, or less, than the rejected ones, over all pairs.",
    ViewKind.FEATURE_CONDITIONED: (
        "Pairs are clustered by what happens in both responses together. An effect is the difference between the pairs inside a "
        "cluster and all others, so what holds everywhere does not show here."
    ),
    ViewKind.PROMPT_CONDITIONED: (
        "What chosen responses carry more, or less, where the prompt is about one thing than where it is not. This is where "
        "narrow lessons hide."
    ),
    ViewKind.STATED: "Asked for by somebody and tested alone; there are no other tests to correct for.",
}
VIEW_UNITS = {
    ViewKind.GLOBAL: "effect: mean signed disparity, from −1 to +1",
    ViewKind.FEATURE_CONDITIONED: "effect: mean inside the cluster minus mean outside",
    ViewKind.PROMPT_CONDITIONED: "effect: mean inside minus mean outside, in standard deviations",
    ViewKind.STATED: "effect: mean signed disparity (inside minus outside, where there is a condition)",
}
_MARKS = {"more": "▲", "less": "▼", "even": "■"}
MODES = {DecisionMode.EXPLAIN_AWAY: "Explain away", DecisionMode.AMPLIFY: "Amplify", DecisionMode.KEEP: "Keep"}


def concept_title(concept: ConceptRow) -> str:
    """What the concept is called, "unnamed (feature 17)" where nothing good enough is known."""
    return concept_name(concept).text


def condition_title(condition: ConditionRow) -> str:
    """What the condition is called: "topic = cooking", "unnamed (data cluster 7)"."""
    return condition_name(condition).text


def place(condition: ConditionRow | None, tail: str = "") -> Html:
    """Where a hypothesis holds, in words: "where the prompt is about cooking", with the title set off; "" for everywhere."""
    if condition is None:
        return Html("")
    words, title = where_words(condition)
    return el("span", " ", words, " ", el("bdi", title), tail, class_="where")


def direction(hypothesis: HypothesisRow, effect: EffectRow | None = None) -> str:
    """ "more", "less" or "even": what the chosen responses carry of the concept, by the effect that decides or a given one."""
    estimate = (effect or hypothesis.effect).estimate
    return "less" if estimate < 0 else "more" if estimate > 0 else "even"


def arrow(hypothesis: HypothesisRow, effect: EffectRow | None = None) -> Html:
    """The direction as a mark and a word, so that colour is never alone."""
    word = direction(hypothesis, effect)
    return el("span", _MARKS[word], " ", word, class_=f"dir {word}")


def concept_note(concept: ConceptRow) -> str:
    """The small print under a concept's title: its name, its size, its label where too weak for a title, and its score."""
    parts = [clip(concept.name, 80)] if concept.label.text or concept.named is not None else []
    if concept.size > 1:
        parts.append(figures.plural(concept.size, "feature"))
    if concept.label.text and concept.label.detection_score is not None:
        weak = concept.label.detection_score < LABEL_BAR
        sure = f"unsure label: {clip(concept.label.text, LABEL_LIMIT)}" if weak else "label"
        parts.append(f"{sure} ({concept.label.detection_score:.2f})")
    return " · ".join(parts)


def anchor(hypothesis: HypothesisRow) -> str:
    """The fragment under which the page opens a hypothesis, its id: "global-1"."""
    return hypothesis_id(hypothesis.view, hypothesis.rank)


def link(hypothesis: HypothesisRow) -> Html:
    """A link that opens the hypothesis with its evidence."""
    return el("a", concept_title(hypothesis.concept), class_="open", href=f"#{anchor(hypothesis)}", dir="auto")


def level(report: Report) -> str:
    """ "q ≤ 0.05"."""
    return f"q ≤ {report.options.q_level:g}"
