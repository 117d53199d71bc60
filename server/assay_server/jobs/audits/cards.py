"""Cards: what an audit found, as the few statements that somebody can act on, in the order of reading.

The length of responses first, where it is a lesson; then distinct lessons of all views by turns, the strongest and most stable
first; then what is not the cause, and what is not established; then how much is left. A card is plain data: the report, the
terminal and the API show the same sentences under the same id.

Invariants:
- A card's id is that of the hypothesis that leads it, or "length", which has none. No id comes twice.
- A lesson under a condition that only repeats a global one is no card: it is told with the global one.
- Equal input, equal cards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import zip_longest

from assay_server import figures
from assay_server.audit.findings import Evidence, ViewKind
from assay_server.audit.length import LengthVerdict
from assay_server.jobs.audits.card_words import (
    carried,
    controlled_words,
    exception,
    is_less,
    length_words,
    member_names,
    sentence,
    sureness,
    title,
)
from assay_server.jobs.audits.naming import concept_name, condition_name, listed, quantified, where_words
from assay_server.jobs.audits.snippets import Mark, SideName, Snippet, snippet, word_marks
from assay_server.jobs.audits.tables import hypothesis_id
from assay_server.jobs.audits.types import AuditInfo, AuditSettings, HypothesisRow
from assay_server.subject.types import Pair

LESSONS = 10  # cards of lessons
MISSES = 3  # closest misses that are shown
STABLE = 0.75  # share of resamples that return an established lesson (Hennig 2007)
SNIPPETS = 2
EXAMPLES = 3  # of what is not the cause

Sides = tuple[Sequence[Mark], Sequence[Mark]]


class CardKind(StrEnum):
    """What a card is about."""

    LENGTH = "length"
    LESSON = "lesson"
    NOT_CAUSE = "not_cause"
    NOT_ESTABLISHED = "not_established"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Card:
    """One statement.

    Attributes:
        id: of the hypothesis that leads it: the fragment on the page, and the id in the terminal, in Parquet and in the API.
        kind: what it is about.
        title: in a few words.
        sentence: in full.
        exceptions: where it does not hold, "" if nothing is known.
        sureness: how sure it is.
        carried: by how many pairs, "" if that was not measured.
        members: names of what it is made of, the lead first.
        hypothesis: resource name of the lead; "" where none leads.
        concept: name of the lead's concept.
        condition: name of its condition; "" for everywhere.
        snippets: where it shows, two at most.
        decide: the command that takes it out of the learning signal; "" where there is nothing to decide.
    """

    id: str
    kind: CardKind
    title: str
    sentence: str
    exceptions: str = ""
    sureness: str = ""
    carried: str = ""
    members: tuple[str, ...] = ()
    hypothesis: str = ""
    concept: str = ""
    condition: str = ""
    snippets: tuple[Snippet, ...] = ()
    decide: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    """A finding that leads, what goes along with it, and what was folded into it."""

    lead: HypothesisRow
    others: tuple[HypothesisRow, ...] = ()
    strongest: tuple[HypothesisRow, ...] = ()
    weaker: tuple[HypothesisRow, ...] = ()


def build_cards(
    info: AuditInfo,
    rows: Sequence[HypothesisRow],
    *,
    evidence: Mapping[str, Evidence] | None = None,
    pairs: Mapping[int, Pair] | None = None,
    highlights: Mapping[tuple[str, int], Sides] | None = None,
) -> tuple[Card, ...]:
    """The cards of a finished audit, in the order of reading.

    Args:
        info: the audit, with its views' counts.
        rows: the kept rows of all views, in order of view and rank.
        evidence: by hypothesis name; without it no card has snippets.
        pairs: texts by dataset row.
        highlights: where a concept fires, by hypothesis name and dataset row: chosen, rejected.
    """
    shown = _Shown(info.settings, evidence or {}, pairs or {}, highlights or {})
    lessons, unstable = _lessons(info, rows)
    first = lessons[:LESSONS]
    cards = [*_length(info), *(shown.card(CardKind.LESSON, lesson) for lesson in first), *_not_cause(info, rows, {*_ids(first)})]
    taken = {card.id for card in cards}
    misses = [*unstable, *(_Lesson(row) for row in _misses(info, rows))]
    cards += [shown.card(CardKind.NOT_ESTABLISHED, one) for one in misses if _id(one.lead) not in taken]
    return (*cards, *_rest(info, lessons, {card.id for card in cards}))


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """What snippets are made of."""

    settings: AuditSettings
    evidence: Mapping[str, Evidence]
    pairs: Mapping[int, Pair]
    highlights: Mapping[tuple[str, int], Sides]

    def card(self, kind: CardKind, lesson: _Lesson) -> Card:
        lead, names = lesson.lead, member_names(lesson.lead, lesson.others)
        return Card(
            id=_id(lead),
            kind=kind,
            title=title(lead, lesson.others),
            sentence=sentence(lead, lesson.others, names),
            exceptions=_exceptions(lesson),
            sureness=sureness(lead, self.settings) if kind is CardKind.LESSON else _why_not(lead, self.settings),
            carried=carried(lead),
            members=tuple(names),
            hypothesis=lead.name,
            concept=lead.concept.name,
            condition="" if lead.condition is None else lead.condition.name,
            snippets=self._snippets(lead),
            decide=f"assay decide {lead.name} explain-away" if kind is CardKind.LESSON else "",
        )

    def _snippets(self, lead: HypothesisRow) -> tuple[Snippet, ...]:
        found = self.evidence.get(lead.name)
        told = [] if found is None else [row for row in found.supporting.tolist() if row in self.pairs]
        side: SideName = "rejected" if is_less(lead) else "chosen"
        return tuple(self._snippet(lead, row, side) for row in list(dict.fromkeys(told))[:SNIPPETS])

    def _snippet(self, lead: HypothesisRow, row: int, side: SideName) -> Snippet:
        pair = self.pairs[row]
        text, other = (pair.chosen, pair.rejected) if side == "chosen" else (pair.rejected, pair.chosen)
        marks = self.highlights.get((lead.name, row), ((), ()))[side == "rejected"]
        if not marks and lead.concept.name.startswith("word/"):
            marks = [_Word(*span) for span in word_marks(text, lead.concept.name.removeprefix("word/"))]
        return snippet(row, side, text, other, marks)


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    value: float = 1.0


def _lessons(info: AuditInfo, rows: Sequence[HypothesisRow]) -> tuple[list[_Lesson], list[_Lesson]]:
    """Lessons of all views by turns, those that repeat a global one told with it; and those that resampling does not return."""
    by_view = {summary.view: [row for row in rows if row.view is summary.view] for summary in info.views}
    found = {view: [_readable(_Lesson(lead, _others(lead, own))) for lead in _leads(own)] for view, own in by_view.items()}
    stable = {view: [one for one in own if _is_stable(one.lead)] for view, own in found.items()}
    unstable = [one for own in found.values() for one in own if not _is_stable(one.lead)]
    glob = {_key(one.lead): one for one in stable.get(ViewKind.GLOBAL, [])}
    by_concept = {key[0]: key for key in glob}
    strongest: dict[object, list[HypothesisRow]] = {}
    weaker: dict[object, list[HypothesisRow]] = {}
    queues: list[list[_Lesson]] = []
    for view, own in stable.items():
        queue: list[_Lesson] = []
        for one in own:
            key = _key(one.lead)
            general = glob.get(by_concept.get(key[0], key))
            if view in (ViewKind.GLOBAL, ViewKind.STATED) or general is None:
                queue.append(one)
                continue
            (strongest if key in glob else weaker).setdefault(_key(general.lead), []).append(one.lead)
            if _strength(one) > _strength(general):  # it does not only repeat it
                queue.append(one)
        queues.append(queue)
    told = [
        [
            _Lesson(one.lead, one.others, tuple(strongest.get(_key(one.lead), ())), tuple(weaker.get(_key(one.lead), ())))
            if one.lead.view is ViewKind.GLOBAL
            else one
            for one in sorted(queue, key=_strength, reverse=True)
        ]
        for queue in queues
    ]
    turns = sorted((queue for queue in told if queue), key=lambda queue: _strength(queue[0]), reverse=True)
    return [one for turn in zip_longest(*turns) for one in turn if one is not None], unstable


def _leads(rows: Sequence[HypothesisRow]) -> list[HypothesisRow]:
    """The findings that lead distinct lessons; where a view has none, its findings, one per concept and condition by name."""
    findings = [row for row in rows if row.finding]
    leads = sorted((row for row in findings if row.lesson_z is not None), key=lambda row: row.lesson)
    first: dict[tuple[str, str], HypothesisRow] = {}
    for row in leads or findings:
        where = condition_name(row.condition).text.casefold() if row.condition else ""
        first.setdefault((concept_name(row.concept).text.casefold(), where), row)
    return list(first.values())


def _others(lead: HypothesisRow, rows: Sequence[HypothesisRow]) -> tuple[HypothesisRow, ...]:
    if lead.lesson_z is None:
        return ()
    return tuple(row for row in rows if row.finding and row.lesson == lead.lesson and row is not lead)


def _readable(lesson: _Lesson) -> _Lesson:
    """The same lesson, led by its strongest member with a name that says what it is, where the lead has none or only tokens.

    A member leads only where its |z| is at least half of the lead's.
    """
    lead = lesson.lead
    if concept_name(lead.concept).kind not in ("tokens", ""):
        return lesson
    named = [row for row in lesson.others if concept_name(row.concept).kind not in ("tokens", "") and _same_side(row, lead)]
    strong = [row for row in named if 2 * abs(row.effect.z) >= abs(lead.effect.z)]
    if not strong:
        return lesson
    best = max(strong, key=lambda row: abs(row.effect.z))
    others = (lead, *(row for row in lesson.others if row is not best))
    return replace(lesson, lead=replace(best, lesson_z=lead.lesson_z), others=others)


def _same_side(row: HypothesisRow, other: HypothesisRow) -> bool:
    return is_less(row) == is_less(other)


def _strength(lesson: _Lesson) -> float:
    """|z| of what a lesson says beyond those before it, times the share of resamples that return it."""
    lead = lesson.lead
    z = lead.effect.z if lead.lesson_z is None else lead.lesson_z
    return abs(z) * (1.0 if lead.lesson_stability is None else lead.lesson_stability)


def _is_stable(row: HypothesisRow) -> bool:
    return row.lesson_stability is None or row.lesson_stability >= STABLE


def _key(row: HypothesisRow) -> tuple[str, bool]:
    name = concept_name(row.concept)
    return (name.text.casefold() if name.known else row.concept.name), is_less(row)


def _exceptions(lesson: _Lesson) -> str:
    told: list[str] = []
    if lesson.weaker:
        told.append(f"Not everywhere: {listed([exception(row) for row in lesson.weaker], limit=3)}.")
    if lesson.strongest:
        where = ["{} {}".format(*where_words(row.condition)) for row in lesson.strongest if row.condition is not None]
        told.append(f"Strongest {listed(where, limit=3)}.")
    return " ".join(told)


def _length(info: AuditInfo) -> list[Card]:
    """The card of lesson 0, where chosen and rejected responses differ in length."""
    length = info.length
    if length is None or length.direction not in ("longer", "shorter"):
        return []
    head, told, sure = length_words(length)
    return [Card("length", CardKind.LENGTH, head, told, sureness=sure)]


def _not_cause(info: AuditInfo, rows: Sequence[HypothesisRow], taken: set[str]) -> list[Card]:
    """Raw findings that what is controlled for explains: how many, and three of them."""
    words, explained = controlled_words(info.settings), sum(view.explained for view in info.views)
    gone = [row for row in rows if row.length_verdict == LengthVerdict.EXPLAINED and not row.finding and _id(row) not in taken]
    if not words or not gone or not explained:
        return []
    first: dict[str, HypothesisRow] = {}
    for row in sorted(gone, key=lambda row: -abs(row.raw.z)):
        name = concept_name(row.concept)
        if name.known:
            first.setdefault(quantified(name, less=row.raw.estimate < 0), row)
    names = list(first)[:EXAMPLES]
    raw, lead = sum(view.findings_raw for view in info.views), next(iter(first.values()), gone[0])
    told = (
        f"{figures.share(explained, raw)} of {figures.plural(raw, 'raw finding')} {'is' if explained == 1 else 'are'} explained "
    )
    told += f"by {words}: at least two thirds of the effect goes with it"
    examples = f", for example of {listed(names)}" if names else ""
    return [
        Card(
            id=_id(lead),
            kind=CardKind.NOT_CAUSE,
            title=f"{words.capitalize()} explains {figures.plural(explained, 'raw finding')}",
            sentence=f"{told}{examples}.",
            members=tuple(names),
            hypothesis=lead.name,
            concept=lead.concept.name,
            condition="" if lead.condition is None else lead.condition.name,
        )
    ]


def _misses(info: AuditInfo, rows: Sequence[HypothesisRow]) -> list[HypothesisRow]:
    """What came closest to a finding, one per concept by name; of a stated hypothesis, it alone."""
    missed = [row for row in rows if not row.finding and row.length_verdict != LengthVerdict.EXPLAINED]
    stated = [row for row in missed if row.view is ViewKind.STATED]
    tested = [row for row in missed if not row.effect.reason and row.view is not ViewKind.STATED]
    known = {_key(row)[0] for row in rows if row.finding}
    first: dict[str, HypothesisRow] = {}
    for row in sorted(tested, key=lambda row: row.effect.q):
        if _key(row)[0] not in known and concept_name(row.concept).known:
            first.setdefault(_key(row)[0], row)
    return stated or list(first.values())[:MISSES]


def _why_not(row: HypothesisRow, settings: AuditSettings) -> str:
    if row.finding:
        return f"Not stable enough to be relied on. {sureness(row, settings)}"
    if row.effect.reason or row.view is ViewKind.STATED:
        return sureness(row, settings)
    level = settings.statistics.q_level
    why = "The halves of the data disagree." if row.effect.q <= level else f"Not sure enough: q must be at most {level:g}."
    return f"{why} {sureness(row, settings)}"


def _rest(info: AuditInfo, lessons: Sequence[_Lesson], taken: set[str]) -> list[Card]:
    """How much is left: lessons past those shown, and findings that go along with one."""
    left = [one for one in lessons if _id(one.lead) not in taken]
    findings = sum(view.findings_controlled for view in info.views if view.view is not ViewKind.STATED)
    if findings <= len(lessons) - len(left):
        return []
    told = f"{figures.plural(findings, 'finding')} in all"
    more = f"; {figures.plural(len(left), 'lesson')} {'is' if len(left) == 1 else 'are'} not shown here" if left else ""
    named = [title(one.lead, one.others) for one in left[:EXAMPLES]]
    lead = left[0].lead if left else None
    return [
        Card(
            id="rest",
            kind=CardKind.REST,
            title="The rest",
            sentence=f"{told}{more}{': ' + '; '.join(named) if named else ''}.",
            members=tuple(named),
            hypothesis="" if lead is None else lead.name,
        )
    ]


def _ids(lessons: Sequence[_Lesson]) -> list[str]:
    return [_id(one.lead) for one in lessons]


def _id(row: HypothesisRow) -> str:
    return hypothesis_id(row.view, row.rank)
