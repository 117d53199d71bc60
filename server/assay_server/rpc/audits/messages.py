"""Datasets, audits, hypotheses and decisions to protobuf. Translation only: nothing here looks anything up or decides."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from assay.v1 import audit_pb2, pair_pb2

from assay_server.audit.auc import Estimate
from assay_server.audit.explained import Explained
from assay_server.audit.families import FamilyCount
from assay_server.audit.length import Direction
from assay_server.audit.multiplicity import Procedure
from assay_server.jobs.audits.cards import Card, CardKind
from assay_server.jobs.audits.snippets import Snippet
from assay_server.jobs.audits.tables import COLUMNS
from assay_server.jobs.audits.types import (
    AuditInfo,
    AuditSettings,
    AuditState,
    ConceptRow,
    ConditionRow,
    DecisionInfo,
    EffectRow,
    EvidencePair,
    HypothesisDetail,
    HypothesisRow,
    LengthSummary,
    NamedText,
    ViewSummary,
)
from assay_server.jobs.datasets.types import DatasetInfo
from assay_server.report.model import Sides
from assay_server.rpc.audits.requests import CORRECTIONS, FAMILIES, MODES, NUISANCES, OPTION_NUMBERS, VIEWS
from assay_server.rpc.enums import EnumMap
from assay_server.rpc.messages import instant, subject
from assay_server.store.datasets import MAX_METADATA_KEYS
from assay_server.subject.types import Pair

MAX_NAMED_FEATURES = 64

_STATES = EnumMap(audit_pb2.Audit.State, AuditState)
_DIRECTIONS = EnumMap(audit_pb2.LengthSummary.Direction, Direction)
_CARD_KINDS = EnumMap(audit_pb2.Card.Kind, CardKind)


def dataset(info: DatasetInfo) -> audit_pb2.Dataset:
    """A dataset."""
    return audit_pb2.Dataset(
        name=info.name,
        display_name=info.display_name,
        fingerprint=info.fingerprint,
        pairs=info.pairs,
        unusable_pairs=info.unusable_pairs,
        prompts=info.prompts,
        metadata_keys=info.metadata_keys[:MAX_METADATA_KEYS],
        create_time=instant(info.created),
        scored=info.scored,
    )


def audit(info: AuditInfo) -> audit_pb2.Audit:
    """An audit, with its options as they were used."""
    return audit_pb2.Audit(
        name=info.name,
        dataset=info.dataset,
        display_name=info.display_name,
        state=_STATES.number(info.state),
        options=settings(info.settings),
        subject=subject(info.subject),
        views=[_view(summary) for summary in info.views],
        nuisance=audit_pb2.NuisanceSummary(**asdict(info.nuisance)),
        length=None if info.length is None else _length(info.length),
        explained=None if info.explained is None else _explained(info.explained),
        cost=audit_pb2.Cost(**asdict(info.cost)),
        create_time=instant(info.created),
        end_time=None if info.ended is None else instant(info.ended),
        error=info.error,
        result_fingerprint=info.result_fingerprint,
    )


def settings(used: AuditSettings) -> audit_pb2.AuditOptions:
    """An audit's options, with every known default filled in."""
    statistics = used.statistics
    correction = Procedure.BENJAMINI_YEKUTIELI if statistics.yekutieli else Procedure.BENJAMINI_HOCHBERG
    message = audit_pb2.AuditOptions(
        views=[VIEWS.number(view) for view in statistics.views],
        families=[FAMILIES.number(family) for family in used.families],
        concepts=used.concepts,
        correction=CORRECTIONS.number(correction),
        nuisances=[NUISANCES.number(nuisance) for nuisance in used.nuisances] or [audit_pb2.NUISANCE_UNSPECIFIED],
        metadata_keys=used.metadata_keys,
        seed=statistics.seed,
        local=statistics.local,
    )
    for name in OPTION_NUMBERS:
        value = getattr(statistics, name)
        if name != "min_firings" or value:  # 0: the data decide
            setattr(message, name, value)
    return message


def hypothesis(row: HypothesisRow) -> audit_pb2.Hypothesis:
    """A hypothesis without its evidence."""
    return audit_pb2.Hypothesis(
        name=row.name,
        view=VIEWS.number(row.view),
        concept=concept(row.concept),
        condition=None if row.condition is None else _condition(row.condition),
        raw=_effect(row.raw),
        controlled=None if row.controlled is None else _effect(row.controlled),
        rank=row.rank,
        **{column.name: getattr(row, column.name) for column in COLUMNS},
        decision=None if row.decision is None else decision(row.decision),
    )


def hypothesis_detail(detail: HypothesisDetail, highlights: Mapping[int, Sides]) -> audit_pb2.Hypothesis:
    """A hypothesis with its evidence, highlighted where ``highlights`` says so."""
    message = hypothesis(detail.hypothesis)
    message.supporting.extend([_evidence(pair, highlights) for pair in detail.supporting])
    message.contradicting.extend([_evidence(pair, highlights) for pair in detail.contradicting])
    return message


def decision(info: DecisionInfo) -> audit_pb2.Decision:
    """A decision as it was recorded."""
    return audit_pb2.Decision(
        name=info.name,
        hypothesis=info.hypothesis,
        mode=MODES.number(info.mode),
        strength=info.strength,
        note=info.note,
        author=info.author,
        create_time=instant(info.created),
    )


def card(item: Card) -> audit_pb2.Card:
    """A card with its snippets."""
    texts = ("id", "title", "sentence", "exceptions", "sureness", "carried", "hypothesis", "concept", "condition", "decide")
    return audit_pb2.Card(
        **{name: _sendable(getattr(item, name)) for name in texts},
        kind=_CARD_KINDS.number(item.kind),
        members=[_sendable(member) for member in item.members],
        snippets=[_snippet(one) for one in item.snippets],
    )


def _snippet(item: Snippet) -> audit_pb2.Snippet:
    side = audit_pb2.Snippet.SIDE_CHOSEN if item.side == "chosen" else audit_pb2.Snippet.SIDE_REJECTED
    message = audit_pb2.Snippet(row=item.row, side=side, text=_sendable(item.text))
    message.marks.extend([audit_pb2.Snippet.Stretch(start=start, end=end) for start, end in item.marks])
    message.differs.extend([audit_pb2.Snippet.Stretch(start=start, end=end) for start, end in item.differs])
    return message


def pair(item: Pair) -> pair_pb2.Pair:
    """A pair as it was uploaded."""
    metadata = {_sendable(key): _sendable(value) for key, value in item.metadata.items()}
    message = pair_pb2.Pair(
        id=_sendable(item.id), chosen=_sendable(item.chosen), rejected=_sendable(item.rejected), metadata=metadata
    )
    if isinstance(item.prompt, str):
        message.text = _sendable(item.prompt)
    else:
        turns = [pair_pb2.Message(role=_sendable(turn.role), content=_sendable(turn.content)) for turn in item.prompt]
        message.conversation.CopyFrom(pair_pb2.Conversation(messages=turns))
    return message


def _sendable(text: str) -> str:
    """Lone surrogates, which a JSON file can spell, become "?": protobuf carries UTF-8 only. Offsets are unchanged."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _length(summary: LengthSummary) -> audit_pb2.LengthSummary:
    record: dict[str, Any] = {**asdict(summary), "direction": _DIRECTIONS.number(summary.direction)}
    return audit_pb2.LengthSummary(**record)


def _explained(found: Explained) -> audit_pb2.Explained:
    return audit_pb2.Explained(
        blocks=[audit_pb2.Explained.Block(**{**asdict(block), **_bounded("share", block.share)}) for block in found.blocks],
        pairs=found.pairs,
        note=found.note,
        **_bounded("over_style", found.over_style),
        **_bounded("over_random", found.over_random),
    )


def _bounded(name: str, one: Estimate | None) -> dict[str, Any]:
    """A number and its bounds as three optional fields."""
    values = (None, None, None) if one is None else (one.value, one.low, one.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _view(summary: ViewSummary) -> audit_pb2.ViewSummary:
    record: dict[str, Any] = {**asdict(summary), "view": VIEWS.number(summary.view)}
    record["families"] = [audit_pb2.FamilySummary(title=one.family.title, **_counts(one)) for one in summary.families]
    return audit_pb2.ViewSummary(**record)


def _counts(count: FamilyCount) -> dict[str, Any]:
    return {name: value for name, value in asdict(count).items() if name != "family"}


def concept(row: ConceptRow) -> audit_pb2.ConceptRef:
    """A concept, with its first features."""
    return audit_pb2.ConceptRef(
        name=row.name,
        label=row.label.text,
        label_method=row.label.method,
        detection_score=row.label.detection_score,
        features=row.features[:MAX_NAMED_FEATURES],
        size=row.size,
        **_named(row.named),
    )


def _condition(row: ConditionRow) -> audit_pb2.Condition:
    return audit_pb2.Condition(
        name=row.name, label=row.label.text, features=row.features[:MAX_NAMED_FEATURES], **_named(row.named)
    )


def _named(named: NamedText | None) -> dict[str, Any]:
    if named is None:
        return {}
    return {"named": _sendable(named.text), "named_kind": named.kind, "named_share": named.share}


def _effect(row: EffectRow) -> audit_pb2.Effect:
    return audit_pb2.Effect(**asdict(row))


def _evidence(evidence: EvidencePair, highlights: Mapping[int, Sides]) -> audit_pb2.Evidence:
    chosen, rejected = highlights.get(evidence.row, ((), ()))
    return audit_pb2.Evidence(
        row=evidence.row,
        pair=pair(evidence.pair),
        disparity=evidence.disparity,
        strength=evidence.strength,
        chosen=[audit_pb2.Highlight(**asdict(highlight)) for highlight in chosen],
        rejected=[audit_pb2.Highlight(**asdict(highlight)) for highlight in rejected],
    )
