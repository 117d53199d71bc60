"""The data block of the page: hypotheses as rows, evidence texts once each, within a budget of bytes.

The page stays readable on a phone: at most `HYPOTHESES` rows per view, texts clipped to `TEXT` code points, and evidence for
the surest hypotheses of all views first, until `EVIDENCE_BYTES` are spent. The block counts what was left out, and the page says
so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import cast

from assay_server.audit.families import family_of
from assay_server.jobs.audits.naming import where_words
from assay_server.jobs.audits.types import ConceptRow, ConditionRow, EffectRow, HypothesisRow
from assay_server.report.markup import Html, clean
from assay_server.report.model import Highlight, Report, View
from assay_server.report.wording import anchor, concept_note, concept_title
from assay_server.subject.types import Message, Pair

HYPOTHESES = 1000
TEXT = 4000
TURNS = 8
HIGHLIGHTS = 120
FEATURES = 16
EVIDENCE_BYTES = 2_400_000

FIELDS = (
    *("id", "view", "rank", "concept", "condition", "raw", "controlled", "finding", "d", "consistent", "deltaMin", "inside"),
    *("outside", "prompts", "rankFirst", "rankSecond", "stable", "decision", "pro", "con", "missing"),
    *("verdict", "onlyChosen", "onlyRejected", "carried", "left", "logOdds", "logOddsZ"),
)
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}

Row = list[object]


@dataclass(slots=True)
class _Budget:
    """The remaining bytes of evidence, and the pairs that were taken."""

    report: Report
    left: int = EVIDENCE_BYTES
    pairs: dict[int, object] = field(default_factory=dict[int, object])

    def take(self, hypothesis: str, row: int, disparity: float) -> Row | None:
        """One pair of evidence as a row of the block, or None where its pair is missing or no longer fits."""
        pair = self.report.pairs.get(row)
        if pair is None or (row not in self.pairs and _at_least(pair) > self.left):
            return None
        chosen, rejected = self.report.highlights.get((hypothesis, row), ((), ()))
        entry: Row = [row, _round(disparity), _highlights(chosen, pair.chosen), _highlights(rejected, pair.rejected)]
        text = None if row in self.pairs else _pair(pair)
        size = len(_dumps(entry)) + (len(_dumps(text).encode(errors="replace")) + 12 if text is not None else 0)
        if size > self.left:
            return None
        self.left -= size
        if text is not None:
            self.pairs[row] = text
        return entry


def payload(report: Report) -> Html:
    """The data block, as JSON that no HTML parser can be led out of."""
    budget = _Budget(report)
    evidence = {id(item): _evidence(item, budget) for item in _surest(report)}
    tables = _Tables()
    decided = {decision.hypothesis: place for place, decision in enumerate(report.decisions)}
    rows = [
        _row(item, tables, decided.get(item.name, -1), *evidence[id(item)])
        for view in report.views
        for item in view.hypotheses[:HYPOTHESES]
    ]
    block: dict[str, object] = {
        "fields": FIELDS,
        "rows": rows,
        "concepts": tables.concepts,
        "conditions": tables.conditions,
        "pairs": budget.pairs,
        "decisions": [[item.mode, item.strength, item.note[:2000]] for item in report.decisions],
        "level": report.options.q_level,
        "interval": report.options.interval_level,
        "audit": report.info.name[:200],
        "fingerprint": report.info.result_fingerprint[:200],
        "leftOut": sum(max(0, len(view.hypotheses) - HYPOTHESES) for view in report.views),
    }
    return Html(_dumps(_cleaned(block)).translate(_ESCAPES))


def _surest(report: Report) -> Iterator[HypothesisRow]:
    """Hypotheses in the order in which they get evidence: findings first, views by turns."""

    def ordered(view: View) -> list[HypothesisRow]:
        return sorted(view.hypotheses[:HYPOTHESES], key=lambda item: not item.finding)

    for round_ in zip_longest(*(ordered(view) for view in report.views)):
        yield from (item for item in round_ if item is not None)


def _evidence(item: HypothesisRow, budget: _Budget) -> tuple[Row, Row, int]:
    found = budget.report.evidence.get(item.name)
    if found is None:
        return [], [], 0
    sides: list[Row] = [
        [entry for row, u in zip(rows.tolist(), values.tolist(), strict=True) if (entry := budget.take(item.name, row, u))]
        for rows, values in ((found.supporting, found.supporting_u), (found.contradicting, found.contradicting_u))
    ]
    pro, con = sides
    return pro, con, len(found.supporting) + len(found.contradicting) - len(pro) - len(con)


@dataclass(slots=True)
class _Tables:
    """Each concept and condition once."""

    concepts: list[object] = field(default_factory=list[object])
    conditions: list[object] = field(default_factory=list[object])
    places: dict[ConceptRow | ConditionRow, int] = field(default_factory=dict[ConceptRow | ConditionRow, int])

    def concept(self, concept: ConceptRow) -> int:
        if concept not in self.places:
            self.places[concept] = len(self.concepts)
            method, features = concept.label.method[:80], concept.features[:FEATURES]
            family = family_of(concept.name).title
            self.concepts.append([concept_title(concept), concept_note(concept), method, features, concept.size, family])
        return self.places[concept]

    def condition(self, condition: ConditionRow | None) -> int:
        if condition is None:
            return -1
        if condition not in self.places:
            self.places[condition] = len(self.conditions)
            words, title = where_words(condition)
            self.conditions.append([words, title, condition.name[:120], condition.features[:FEATURES]])
        return self.places[condition]


def _row(item: HypothesisRow, tables: _Tables, decision: int, pro: object, con: object, missing: int) -> Row:
    return [
        anchor(item),
        item.view.value,
        item.rank,
        tables.concept(item.concept),
        tables.condition(item.condition),
        _effect(item.raw),
        _effect(item.controlled) if item.controlled is not None else None,
        int(item.finding),
        _round(item.cohen_d),
        int(item.consistent),
        _round(item.delta_min),
        item.inside,
        item.outside,
        item.prompts,
        item.rank_first_half,
        item.rank_second_half,
        int(item.rank_stable),
        decision,
        pro,
        con,
        missing,
        item.length_verdict,
        item.only_chosen,
        item.only_rejected,
        *(None if value is None else _round(value) for value in _known(item)),
    ]


def _known(item: HypothesisRow) -> tuple[float | None, ...]:
    return item.carried_by, item.left_without_top, item.log_odds, item.log_odds_z


def _effect(effect: EffectRow) -> Row:
    numbers = (effect.estimate, effect.low, effect.high, effect.z, effect.p, effect.q, effect.q_by)
    p_max_t = None if effect.p_max_t is None else _round(effect.p_max_t)
    return [*map(_round, numbers), p_max_t, effect.reason[:300]]


def _pair(pair: Pair) -> Row:
    turns = [[turn.role[:40], *_text(turn.content)] for turn in _turns(pair)]
    earlier = max(len(pair.prompt) - TURNS, 0) if isinstance(pair.prompt, tuple) else 0
    return [pair.id[:120], earlier, turns, _text(pair.chosen), _text(pair.rejected)]


def _turns(pair: Pair) -> tuple[Message, ...]:
    """The last turns of the prompt; raw text is one turn without a role."""
    return (Message("", pair.prompt),) if isinstance(pair.prompt, str) else pair.prompt[-TURNS:]


def _at_least(pair: Pair) -> int:
    """A lower bound of the pair's bytes, to refuse quickly once the budget is nearly spent."""
    texts = (pair.chosen, pair.rejected, *(turn.content for turn in _turns(pair)))
    return sum(min(len(text), TEXT) for text in texts)


def _text(text: str) -> Row:
    """The shown text, and its full length in code points."""
    return [text[:TEXT], len(text)]


def _highlights(marks: tuple[Highlight, ...], text: str) -> Row:
    end = min(len(text), TEXT)
    inside = sorted((mark for mark in marks if 0 <= mark.start < mark.end and mark.start < end), key=lambda mark: mark.start)
    return [[mark.start, min(mark.end, end), _round(mark.value)] for mark in inside[:HIGHLIGHTS]]


def _round(value: float) -> float | int:
    """To five digits, more than the page shows."""
    rounded = float(f"{value:.5g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def _cleaned(value: object) -> object:
    """`value` with every text in it cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: _cleaned(entry) for key, entry in cast(dict[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [_cleaned(entry) for entry in cast(list[object], value)]
    return value


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
