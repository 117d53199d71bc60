"""Names on the page for concepts, conditions, views and directions."""

from __future__ import annotations

from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.types import (
    AuditSettings,
    ConceptRow,
    ConditionRow,
    DecisionMode,
    EffectRow,
    HypothesisRow,
    Nuisance,
)
from assay_server.report import figures
from assay_server.report.markup import Html, clip, el
from assay_server.report.model import Report

LABEL_LIMIT = 160  # code points of a label that are shown
UNSURE = 0.7  # detection score under which a label is called unsure

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
    """The label, or the name in words: "feature 17", "response cluster 5"."""
    return clip(concept.label.text.strip(), LABEL_LIMIT) or _pretty(concept.name)


def condition_title(condition: ConditionRow) -> str:
    """The label, or the name in words: "data cluster 7", "topic = cooking"."""
    return clip(condition.label.text.strip(), LABEL_LIMIT) or _pretty(condition.name)


def where(condition: ConditionRow) -> tuple[str, str]:
    """The words before a condition's title, and the title: ("where the prompt is about", "cooking")."""
    title = condition_title(condition)
    if condition.name.startswith("data-cluster/"):
        return "in pairs like", title
    if condition.name.startswith("prompt-cluster/"):
        return "where the prompt is about", title
    if condition.name.startswith("metadata/"):
        return "where", title
    return "where the prompt carries", title


def place(condition: ConditionRow | None, tail: str = "") -> Html:
    """Where a hypothesis holds, in words: "where the prompt is about cooking", with the title set off; "" for everywhere."""
    if condition is None:
        return Html("")
    words, title = where(condition)
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
    """The small print under a concept's title: its name, its size, how sure its label is."""
    parts = [clip(concept.name, 80)] if concept.label.text else []
    if concept.size > 1:
        parts.append(figures.plural(concept.size, "feature"))
    if concept.label.text and concept.label.detection_score is not None:
        sure = "unsure label" if concept.label.detection_score < UNSURE else "label"
        parts.append(f"{sure} ({concept.label.detection_score:.2f})")
    return " · ".join(parts)


def controlled_words(settings: AuditSettings) -> str:
    """What is controlled for: "length", "length and formatting", "" for nothing."""
    called = {Nuisance.FORMAT: "formatting", Nuisance.PROVENANCE: "which model wrote a response"}
    return " and ".join(called.get(one, one.value) for one in settings.nuisances)


def anchor(hypothesis: HypothesisRow) -> str:
    """The fragment under which the page opens a hypothesis: "global-1"."""
    return f"{hypothesis.view.value}-{hypothesis.rank}".replace("_", "-")


def link(hypothesis: HypothesisRow) -> Html:
    """A link that opens the hypothesis with its evidence."""
    return el("a", concept_title(hypothesis.concept), class_="open", href=f"#{anchor(hypothesis)}", dir="auto")


def level(report: Report) -> str:
    """ "q ≤ 0.05"."""
    return f"q ≤ {report.options.q_level:g}"


def _pretty(name: str) -> str:
    if name.startswith("metadata/"):
        return clip(name.removeprefix("metadata/").replace("=", " = ", 1), LABEL_LIMIT)
    kind, _, rest = name.partition("/")
    if kind == "concepts":
        return clip(rest, LABEL_LIMIT) or name
    return clip(f"{kind.replace('-', ' ')} {rest}".strip(), LABEL_LIMIT) or "unnamed"
