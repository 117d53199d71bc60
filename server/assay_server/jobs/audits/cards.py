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
from dataclasses import dataclass
from enum import StrEnum

from assay_server import figures
from assay_server.audit.findings import Evidence, ViewKind
from assay_server.audit.length import LengthVerdict
from assay_server.jobs.audits.card_lessons import Lesson, Told, reading_key, told_lessons
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
from assay_server.jobs.audits.naming import concept_name, listed, quantified, where_words
from assay_server.jobs.audits.snippets import Mark, SideName, Snippet, snippet, word_marks
from assay_server.jobs.audits.tables import hypothesis_id
from assay_server.jobs.audits.types import AuditInfo, AuditSettings, HypothesisRow
from assay_server.subject.types import Pair

LESSONS = 10  # cards of lessons
MISSES = 3  # closest misses that are shown
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
    told = told_lessons(info, rows)
    first = told.lessons[:LESSONS]
    cards = [*_length(info), *(shown.card(CardKind.LESSON, lesson) for lesson in first), *_not_cause(info, rows, {*_ids(first)})]
    taken = {card.id for card in cards}
    misses = [*told.unstable, *told.crowded[:MISSES], *(Lesson(row) for row in _misses(info, rows))]
    shared = {_id(one.lead): told.families for one in told.crowded}
    cards += [shown.card(CardKind.NOT_ESTABLISHED, one, shared) for one in misses if _id(one.lead) not in taken]
    return (*cards, *_rest(info, told, {card.id for card in cards}))


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """What snippets are made of."""

    settings: AuditSettings
    evidence: Mapping[str, Evidence]
    pairs: Mapping[int, Pair]
    highlights: Mapping[tuple[str, int], Sides]

    def card(self, kind: CardKind, lesson: Lesson, shared: Mapping[str, int] | None = None) -> Card:
        lead, names = lesson.lead, member_names(lesson.lead, lesson.others)
        families = (shared or {}).get(_id(lead), 0)
        return Card(
            id=_id(lead),
            kind=kind,
            title=title(lead, lesson.others),
            sentence=sentence(lead, lesson.others, names),
            exceptions=_exceptions(lesson),
            sureness=sureness(lead, self.settings) if kind is CardKind.LESSON else _why_not(lead, self.settings, families),
            carried=carried(lead) if kind is CardKind.LESSON else "",
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


def _exceptions(lesson: Lesson) -> str:
    told: list[str] = []
    if lesson.weaker:
        told.append(f"Not everywhere: {listed([exception(row) for row in lesson.weaker], limit=3)}.")
    for word, rows in (("Strongest", lesson.strongest), ("Also", lesson.also)):
        where = ["{} {}".format(*where_words(row.condition)) for row in rows if row.condition is not None]
        told += [f"{word} {listed(where, limit=3)}."] if where else []
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
    known = {reading_key(row)[0] for row in rows if row.finding}
    first: dict[str, HypothesisRow] = {}
    for row in sorted(tested, key=lambda row: row.effect.q):
        if reading_key(row)[0] not in known and concept_name(row.concept).known:
            first.setdefault(reading_key(row)[0], row)
    return stated or list(first.values())[:MISSES]


def _why_not(row: HypothesisRow, settings: AuditSettings, families: int) -> str:
    """What it lacks; `families` where it passes among its own tests, and not on a page that so many families share."""
    if families:
        why = f"It passes among its own tests, but not among the {families} families of tests that share this page."
        return f"{why} {sureness(row, settings)}"
    if row.finding:
        return f"Not stable enough to be relied on. {sureness(row, settings)}"
    if row.effect.reason or row.view is ViewKind.STATED:
        return sureness(row, settings)
    level = settings.statistics.q_level
    why = "The halves of the data disagree." if row.effect.q <= level else f"Not sure enough: q must be at most {level:g}."
    return f"{why} {sureness(row, settings)}"


def _rest(info: AuditInfo, told: Told, taken: set[str]) -> list[Card]:
    """How much is left: lessons past those shown with what was folded into them, and findings that go along with one."""
    lessons = (*told.lessons, *told.crowded)
    left = [one for one in lessons if _id(one.lead) not in taken]
    many = sum(1 + len(one.strongest) + len(one.weaker) + len(one.also) for one in left)
    findings = sum(view.findings_controlled for view in info.views if view.view is not ViewKind.STATED)
    if findings <= len(lessons) - len(left):
        return []
    counted = f"{figures.plural(findings, 'finding')} in all"
    more = f"; {figures.plural(many, 'lesson')} {'is' if many == 1 else 'are'} not shown here" if left else ""
    named = [title(one.lead, one.others) for one in left[:EXAMPLES]]
    lead = left[0].lead if left else None
    return [
        Card(
            id="rest",
            kind=CardKind.REST,
            title="The rest",
            sentence=f"{counted}{more}{': ' + '; '.join(named) if named else ''}.",
            members=tuple(named),
            hypothesis="" if lead is None else lead.name,
        )
    ]


def _ids(lessons: Sequence[Lesson]) -> list[str]:
    return [_id(one.lead) for one in lessons]


def _id(row: HypothesisRow) -> str:
    return hypothesis_id(row.view, row.rank)
