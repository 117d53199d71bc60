"""From an audit's result to its report: the one place that knows both.

Reading pairs and highlighting tokens is work (the model reads those pairs again), so it is asked for first: `wanted_evidence`
names what a report would show, surest findings first, and `build_report` takes what the caller found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import TYPE_CHECKING

from assay_server.audit.findings import AuditOptions, TestTable
from assay_server.report.model import (
    Concept,
    Condition,
    Cost,
    Dataset,
    Decision,
    Effect,
    Evidence,
    Highlight,
    Hypothesis,
    Label,
    Nuisance,
    PairText,
    Report,
    Turn,
    View,
)
from assay_server.report.payload import HYPOTHESES

if TYPE_CHECKING:
    from assay_server.jobs.audits.types import AuditInfo, AuditResult, DecisionInfo, EffectRow, HypothesisRow, LabelText
    from assay_server.jobs.datasets.types import DatasetInfo
    from assay_server.subject.types import Pair

    Highlights = tuple[Sequence[Highlight], Sequence[Highlight]]
    """Highlights of the chosen and of the rejected response."""

HIGHLIGHTED = 60

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
}


@dataclass(frozen=True, slots=True)
class WantedEvidence:
    """One pair of one hypothesis: the dataset row to read, and what to highlight in it: the concept, by name and features."""

    hypothesis: str
    row: int
    concept: str
    features: tuple[int, ...]


def wanted_evidence(result: AuditResult, *, hypotheses: int = HIGHLIGHTED) -> list[WantedEvidence]:
    """What is worth highlighting: evidence of the first `hypotheses`, findings first, views by turns, each row once for each."""
    ordered = sorted(_by_turns(result), key=lambda row: not row.finding)[:hypotheses]
    wanted: list[WantedEvidence] = []
    for row in ordered:
        rows = {item.row: None for side in _sides(result, row) for item in side}
        wanted += [WantedEvidence(row.name, number, row.concept.name, row.concept.features) for number in rows]
    return wanted


def evidence_rows(result: AuditResult) -> list[int]:
    """The dataset rows whose texts a report may show, ascending."""
    return sorted({item.row for row in _shown(result) for side in _sides(result, row) for item in side})


def build_report(
    result: AuditResult,
    dataset: DatasetInfo,
    *,
    pairs: Mapping[int, Pair],
    highlights: Callable[[str, int], Highlights | None] = lambda name, row: None,
    decisions: Iterable[DecisionInfo] = (),
) -> Report:
    """The report of a finished audit.

    Args:
        result: what the audit found.
        dataset: what it was found in.
        pairs: texts by dataset row, of `evidence_rows`; evidence whose pair is not there is left out.
        highlights: from a hypothesis's name and a row to where its concept fires, or None where nobody looked.
        decisions: of this audit, oldest first.
    """
    info = result.info
    options = info.settings.statistics
    return Report(
        audit=info.name,
        title=info.display_name,
        dataset=_dataset(dataset, info),
        subject=_subject(info),
        options=_options(info),
        views=_views(result, highlights),
        nuisance=_nuisance(info),
        cost=Cost(**{item.name: getattr(info.cost, item.name) for item in fields(Cost)}),
        decisions=tuple(
            Decision(item.hypothesis, str(item.mode), item.strength, item.note, item.author, item.created) for item in decisions
        ),
        pairs={row: _pair(pair) for row, pair in pairs.items()},
        q_level=options.q_level,
        interval_level=options.interval_level,
        yekutieli=options.yekutieli,
        max_t_flips=options.max_t_flips,
        seed=options.seed,
        created=info.created,
        result_fingerprint=info.result_fingerprint,
    )


def _views(result: AuditResult, highlights: Callable[[str, int], Highlights | None]) -> tuple[View, ...]:
    views: list[View] = []
    for summary in result.info.views:
        rows = [row for row in result.hypotheses if row.view == summary.view]
        views.append(
            View(
                kind=summary.view,
                tests=summary.tests,
                findings_raw=summary.findings_raw,
                findings_controlled=summary.findings_controlled,
                conditions=summary.conditions,
                lessons=summary.lessons,
                reason=summary.reason,
                note=summary.note,
                hypotheses=tuple(_hypothesis(result, row, highlights) for row in rows),
            )
        )
    return tuple(views)


def _hypothesis(result: AuditResult, row: HypothesisRow, highlights: Callable[[str, int], Highlights | None]) -> Hypothesis:
    supporting, contradicting = (
        tuple(_highlighted(item, highlights(row.name, item.row)) for item in side) for side in _sides(result, row)
    )
    condition = row.condition
    return Hypothesis(
        name=row.name,
        view=row.view,
        rank=row.rank,
        concept=Concept(row.concept.name, _label(row.concept.label), row.concept.features, row.concept.size),
        condition=Condition(condition.name, _label(condition.label), condition.features) if condition else None,
        raw=_effect(row.raw),
        controlled=_effect(row.controlled) if row.controlled else None,
        finding=row.finding,
        cohen_d=row.cohen_d,
        consistent=row.consistent,
        delta_min=row.delta_min,
        inside=row.inside,
        outside=row.outside,
        prompts=row.prompts,
        rank_first_half=row.rank_first_half,
        rank_second_half=row.rank_second_half,
        rank_stable=row.rank_stable,
        lesson=row.lesson,
        lesson_z=row.lesson_z,
        supporting=supporting,
        contradicting=contradicting,
    )


def _sides(result: AuditResult, row: HypothesisRow) -> tuple[list[Evidence], list[Evidence]]:
    """Supporting and contradicting evidence of a kept row, without highlights. Tables are in rank order, ranks from 1."""
    table: TestTable | None = result.tables.get(row.view)
    if table is None or not 0 < row.rank <= len(table.evidence):
        return [], []
    found = table.evidence[row.rank - 1]
    return (
        [Evidence(int(number), float(u)) for number, u in zip(found.supporting, found.supporting_u, strict=True)],
        [Evidence(int(number), float(u)) for number, u in zip(found.contradicting, found.contradicting_u, strict=True)],
    )


def _highlighted(item: Evidence, found: Highlights | None) -> Evidence:
    return item if found is None else Evidence(item.row, item.disparity, tuple(found[0]), tuple(found[1]))


def _shown(result: AuditResult) -> list[HypothesisRow]:
    return [row for row in result.hypotheses if row.rank <= HYPOTHESES]


def _by_turns(result: AuditResult) -> list[HypothesisRow]:
    views = [[row for row in _shown(result) if row.view == summary.view] for summary in result.info.views]
    return [row for turn in zip_longest(*views) for row in turn if row is not None]


def _effect(row: EffectRow) -> Effect:
    return Effect(row.estimate, row.low, row.high, row.z, row.p, row.q, row.q_by, row.p_max_t, row.reason)


def _label(label: LabelText) -> Label:
    return Label(label.text, label.method, label.detection_score)


def _dataset(dataset: DatasetInfo, info: AuditInfo) -> Dataset:
    title = dataset.display_name or info.display_name
    return Dataset(dataset.name, title, dataset.fingerprint, dataset.pairs, dataset.unusable_pairs, dataset.prompts)


def _nuisance(info: AuditInfo) -> Nuisance:
    controlled = tuple(str(item) for item in info.settings.nuisances)
    found = info.nuisance
    return Nuisance(controlled, found.names, found.gamma, found.accuracy, found.reason)


def _subject(info: AuditInfo) -> tuple[tuple[str, str], ...]:
    subject = info.subject
    return (
        ("Model", subject.model_id),
        ("Model fingerprint", subject.model_fingerprint),
        ("SAE", subject.sae_id),
        ("SAE fingerprint", subject.sae_fingerprint),
        ("Tokenizer fingerprint", subject.tokenizer_fingerprint),
        ("Template fingerprint", subject.template_fingerprint),
        ("Hook", subject.hook),
        ("Dtype", subject.dtype),
    )


def _options(info: AuditInfo) -> tuple[tuple[str, str], ...]:
    settings = info.settings
    entries: list[tuple[str, str]] = [
        ("Concepts tested", ", ".join([*(str(family) for family in settings.families), *settings.concepts]) or "none"),
        ("Controlled for", ", ".join(str(item) for item in settings.nuisances) or "nothing"),
    ]
    if settings.metadata_keys:
        entries.append(("Metadata conditions", ", ".join(settings.metadata_keys)))
    for item in fields(AuditOptions):
        value = getattr(settings.statistics, item.name)
        entries.append((_OPTION_TITLES.get(item.name, item.name), _option(item.name, value)))
    return tuple(entries)


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


def _pair(pair: Pair) -> PairText:
    prompt = (
        (Turn("", pair.prompt),) if isinstance(pair.prompt, str) else tuple(Turn(turn.role, turn.content) for turn in pair.prompt)
    )
    return PairText(prompt, pair.chosen, pair.rejected, pair.id)
