"""What was corrected for and how, decisions, options, subject and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from assay_server import figures
from assay_server.audit.findings import AuditOptions, ViewKind
from assay_server.jobs.audits.card_words import controlled_words
from assay_server.jobs.audits.types import AuditSettings, DecisionMode, HypothesisRow
from assay_server.labelling.labels import LABEL_BAR
from assay_server.report.markup import Html, clip, el
from assay_server.report.model import Report
from assay_server.report.wording import MODES, VIEW_TITLES, direction, level, link

VALUE_LIMIT = 400

_SUBJECT_TITLES = {
    "model_id": "Model",
    "model_fingerprint": "Model fingerprint",
    "sae_id": "SAE",
    "sae_fingerprint": "SAE fingerprint",
    "tokenizer_fingerprint": "Tokenizer fingerprint",
    "template_fingerprint": "Template fingerprint",
    "hook": "Hook",
    "dtype": "Dtype",
}
_OPTION_TITLES = {
    "views": "Views",
    "tau": "Expressed above (share of tokens)",
    "q_level": "Finding at q up to",
    "interval_level": "Intervals cover",
    "yekutieli": "Correction",
    "max_t_flips": "Max-T sign flips",
    "data_clusters": "Data clusters",
    "silent_percentile": "Silent below percentile",
    "min_features": "Features a concept needs",
    "min_inside": "Pairs a condition needs",
    "min_firings": "Pairs a feature must fire in",
    "prompt_clusters": "Prompt clusters",
    "response_clusters": "Response clusters",
    "top_share": "Largest share inside a prompt condition",
    "svd_rank": "Rank of the decomposition",
    "delta_of_freq": "Response deltas of frequency instead of maximum",
    "prompt_values": "Prompt activity by value instead of firing",
    "seed": "Seed",
    "keep": "Hypotheses kept a view",
    "evidence": "Evidence pairs a side",
    "local": "Features that tau hides by their maximum too",
    "control_pairs": "Pairs read once more for dense and a random dictionary",
}


def method(report: Report) -> Html:
    """How counts become findings: corrections, controls and the number of tests."""
    return el(
        "section",
        el("h2", "What was corrected for, and how"),
        el("dl", *_entries(report), class_="prose"),
        _tests(report),
        id="method",
    )


def _entries(report: Report) -> list[Html]:
    entries: list[tuple[str, str]] = [("Many tests", _multiplicity(report))]
    entries.append(("Length and other simple explanations", _nuisance(report)))
    entries.append(
        (
            "Pairs that share a prompt",
            "They are not independent. Errors are computed over prompts, not pairs, and sign flips turn all pairs of a prompt "
            "together.",
        )
    )
    if any(view.kind in (ViewKind.FEATURE_CONDITIONED, ViewKind.PROMPT_CONDITIONED) for view in report.views):
        entries.append(
            (
                "Chance patterns",
                "A finding in part of the data must have the same sign in both halves of the data (even and odd rows), and is "
                "ranked by the smaller of both effects. What defines a cluster is never what is tested in it.",
            )
        )
    entries.append(
        (
            "Labels",
            "They were made to help you find your way. No label entered a test. A score beside one says how well it predicts, on "
            f"texts it was not made from, where its feature fires; under {LABEL_BAR:g} it is called unsure and names nothing.",
        )
    )
    return [item for term, text in entries for item in (el("dt", term), el("dd", text))]


def _multiplicity(report: Report) -> str:
    corrected = [view for view in report.views if view.kind is not ViewKind.STATED]
    tests = sum(view.summary.tests for view in corrected)
    if not corrected:
        return "One stated hypothesis was tested, alone: its q-value is its p-value."
    rule = (
        "Benjamini and Yekutieli, which holds under any dependence"
        if report.options.yekutieli
        else "Benjamini and Hochberg, which holds where tests are independent or positively dependent"
    )
    text = (
        f"{figures.plural(tests, 'test')} in {figures.plural(len(corrected), 'view')}. Within each view p-values became q-values "
        f"by the rule of {rule}. A finding has {level(report)}: of all findings of a view, about "
        f"{figures.share(report.options.q_level, 1)} or fewer are expected to be false."
    )
    if report.options.max_t_flips and any(view.kind is ViewKind.GLOBAL for view in corrected):
        flips = figures.count(report.options.max_t_flips)
        text += f" Over all pairs a stricter, family-wise p-value was made too, from {flips} random sign flips (max-T)."
    return text


def _nuisance(report: Report) -> str:
    nuisance = report.info.nuisance
    words = controlled_words(report.info.settings)
    if not words:
        return "Nothing was controlled for, by choice. Effects are as the data shows them."
    if nuisance.reason:
        return f"{words.capitalize()} was to be controlled for, but could not: {nuisance.reason}."
    text = (
        f"First a model guesses which response was preferred from {words} alone"
        + (f"; it is right for {figures.share(nuisance.accuracy, 1)} of the pairs" if nuisance.accuracy else "")
        + ". Then every concept is tested for what it adds to that guess. This is the controlled effect, the one that decides; "
        "the raw effect is shown beside it."
    )
    if nuisance.names:
        terms = ", ".join(f"{name} {figures.signed(value)}" for name, value in zip(nuisance.names, nuisance.gamma, strict=False))
        text += f" Fitted log-odds a unit: {terms}."
    return text


def _tests(report: Report) -> Html:
    heads = ("View", "Tests", "Conditions", "Raw findings", "Findings", "Shown here")
    rows: list[Html] = []
    for view in report.views:
        one = view.summary
        cells = [one.tests, one.conditions, one.findings_raw, one.findings_controlled, len(view.hypotheses)]
        rows.append(
            el(
                "tr",
                el("th", VIEW_TITLES[view.kind], scope="row"),
                *[el("td", figures.count(value), class_="num") for value in cells],
            )
        )
    head = el(
        "thead", el("tr", *[el("th", text, scope="col", class_="num" if index else None) for index, text in enumerate(heads)])
    )
    table = el("table", el("caption", "What was tested", class_="sr"), head, el("tbody", *rows), class_="plain")
    return el("div", table, class_="scroll", tabindex=0, role="region", aria_label="What was tested, scrolls sideways")


def reading() -> Html:
    """How to read an effect, for readers new to the method."""
    entries = (
        (
            "Effect",
            "For one feature over all pairs: the share of pairs in which only the chosen response carries it, minus the share in "
            "which only the rejected one does. +0.41 means 41 of 100 pairs net. For a concept of several features it is their "
            "average.",
        ),
        ("Interval", "Where the effect lies, with that confidence. One that excludes zero is not yet a finding: see q."),
        ("q", "The share of false findings to expect if this and everything surer is believed."),
        (
            "Raw and controlled",
            "Raw is what is there; controlled is what is left of it once length (or what else was asked) is known.",
        ),
        ("Stable", "Both halves of the data give the hypothesis a similar rank."),
    )
    rows = [item for term, text in entries for item in (el("dt", term), el("dd", text))]
    return el("details", el("summary", "How to read the numbers"), el("dl", *rows, class_="prose"), class_="reading")


def decisions(report: Report) -> Html:
    """Decisions on the findings, oldest first."""
    if not report.decisions:
        body = el(
            "p", "None yet. A decision says what training should do about a finding: explain it away, amplify it, or keep it."
        )
        return el("section", el("h2", "Decisions"), body, id="decisions")
    anchors = {item.name: item for view in report.views for item in view.hypotheses}
    rows: list[Html] = []
    for decision in report.decisions:
        known = anchors.get(decision.hypothesis)
        unweighted = decision.strength is None or decision.mode is DecisionMode.KEEP
        strength = "" if unweighted else f", strength {decision.strength:g}"
        by = " · ".join(part for part in (clip(decision.author, 80), figures.instant(decision.created)) if part)
        rows.append(
            el(
                "li",
                el("strong", MODES[decision.mode], strength),
                ": ",
                _about(decision.hypothesis, known),
                el("p", clip(decision.note, 2000), class_="quote", dir="auto") if decision.note else "",
                el("p", by, class_="note") if by else "",
            )
        )
    return el("section", el("h2", "Decisions"), el("ol", *rows, class_="decisions"), id="decisions")


def _about(name: str, known: HypothesisRow | None) -> Html:
    if known is None:
        return el("code", clip(name, 120))
    return el("span", f"{direction(known)} ", link(known))


def provenance(report: Report) -> Html:
    """Subject, options and cost: what it takes to reproduce the result, and what this run took."""
    names: list[tuple[str, str]] = [
        ("Audit", report.info.name),
        ("Dataset", report.dataset.name),
        ("Dataset fingerprint", report.dataset.fingerprint),
        ("Result fingerprint", report.info.result_fingerprint),
        *((title, getattr(report.info.subject, name)) for name, title in _SUBJECT_TITLES.items()),
    ]
    return el(
        "section",
        el("h2", "Subject, options and cost"),
        el("h3", "Cost"),
        _pairs(_cost(report)),
        el("h3", "Options"),
        el("p", "With equal dataset, subject and options, the result is the same, to the bit.", class_="note"),
        _pairs(options(report.info.settings)),
        el("h3", "Subject and data"),
        _pairs([entry for entry in names if entry[1]]),
        id="provenance",
    )


def options(settings: AuditSettings) -> list[tuple[str, str]]:
    """Every option of an audit by its title, as text."""
    entries = [
        ("Concepts tested", ", ".join([*settings.families, *settings.concepts]) or "none"),
        ("Controlled for", ", ".join(settings.nuisances) or "nothing"),
    ]
    if settings.metadata_keys:
        entries.append(("Metadata conditions", ", ".join(settings.metadata_keys)))
    statistics = settings.statistics
    return [
        *entries,
        *((_OPTION_TITLES[one.name], _option(one.name, getattr(statistics, one.name))) for one in fields(AuditOptions)),
    ]


def _option(name: str, value: object) -> str:
    if name == "yekutieli":
        return "Benjamini-Yekutieli" if value else "Benjamini-Hochberg"
    if name in ("interval_level", "top_share") and isinstance(value, float):
        return f"{100 * value:g}%"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(part).replace("_", " ") for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cost(report: Report) -> list[tuple[str, str]]:
    cost = report.info.cost
    entries = [
        ("Tokens read", figures.count(cost.tokens_read)),
        ("Tokens saved by shared prompts", figures.count(cost.tokens_shared)),
        ("Pairs scored", figures.count(cost.pairs_scored)),
        ("Answered by the cache", f"{figures.count(cost.cache_hits)} ({figures.share(cost.cache_hits, cost.pairs_scored)})"),
        ("Scoring", figures.seconds(cost.scoring_seconds)),
        ("Statistics", figures.seconds(cost.testing_seconds)),
    ]
    if cost.device:
        entries.append(("Device", cost.device))
    return entries


def _pairs(entries: Sequence[tuple[str, str]]) -> Html:
    rows = [el("div", el("dt", clip(what, 80)), el("dd", el("bdi", clip(value, VALUE_LIMIT)))) for what, value in entries]
    return el("dl", *rows, class_="facts-list")
