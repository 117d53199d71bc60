"""The lessons that a page shows: of all views, those that hold on a page of many families of tests, each told once.

A finding is corrected within its family; a page shows several families. A lesson stands on the page if one of its findings passes
`families.page_levels`, and resampling returns it. A lesson under a condition that only repeats a global one is told with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TypeAlias

from assay_server.audit.families import Family, family_of, page_levels
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.card_words import group_of, is_less, still_more
from assay_server.jobs.audits.naming import concept_name, condition_name
from assay_server.jobs.audits.types import AuditInfo, HypothesisRow

_FORMED = ("data-cluster/", "prompt-cluster/")
STABLE = 0.75  # share of resamples that return an established lesson (Hennig 2007)


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A finding that leads, what goes along with it, and leads under conditions that were folded into it.

    Attributes:
        lead: the finding that it is told by.
        others: the findings that go along with it.
        strongest: where the same was found, of a global lesson.
        weaker: where it is weaker or turned round, of a global lesson.
        also: where the same was found, of a lesson under a condition.
    """

    lead: HypothesisRow
    others: tuple[HypothesisRow, ...] = ()
    strongest: tuple[HypothesisRow, ...] = ()
    weaker: tuple[HypothesisRow, ...] = ()
    also: tuple[HypothesisRow, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What a page says of lessons.

    Attributes:
        lessons: those that stand, in the order of reading.
        unstable: those that resampling does not return.
        crowded: those of families that do not stand out from all families on the page.
        families: how many families of tests share it.
    """

    lessons: tuple[Lesson, ...]
    unstable: tuple[Lesson, ...]
    crowded: tuple[Lesson, ...]
    families: int


def told_lessons(info: AuditInfo, rows: Sequence[HypothesisRow]) -> Told:
    """Lessons of all views by turns, the strongest and most stable first; those that repeat a global one are told with it.

    Args:
        info: the audit, with its views' counts.
        rows: the kept rows of all views, in order of view and rank.
    """
    by_view = {summary.view: [row for row in rows if row.view is summary.view] for summary in info.views}
    found = {view: [_readable(Lesson(lead, _others(lead, own))) for lead in _leads(own)] for view, own in by_view.items()}
    levels = _levels(info, rows)
    standing = {view: [one for one in own if _stands(one, levels)] for view, own in found.items()}
    stable = {view: _once([one for one in own if _is_stable(one.lead)]) for view, own in standing.items()}
    unstable = [one for own in standing.values() for one in _once([one for one in own if not _is_stable(one.lead)])]
    crowded = [one for own in found.values() for one in _once([one for one in own if not _stands(one, levels)])]
    crowded.sort(key=lambda one: one.lead.effect.q)
    return Told(tuple(_by_turns(stable)), tuple(unstable), tuple(crowded), len(levels))


_Reading: TypeAlias = tuple[str, bool]
_FamilyKey: TypeAlias = tuple[ViewKind, Family | None, bool]


def _levels(info: AuditInfo, rows: Sequence[HypothesisRow]) -> dict[_FamilyKey, float]:
    """The q up to which each family of tests is shown; a stated hypothesis is corrected for nothing and shares no page."""
    least: dict[_FamilyKey, float] = {}
    for summary in info.views:
        if summary.view is not ViewKind.STATED:
            for one in summary.families:
                if one.tests:
                    least[summary.view, one.family, one.given] = 1.0
            if not summary.families and summary.tests:
                least[summary.view, None, False] = 1.0
    for row in rows:
        key = _family_key(row, least)
        if key in least:
            least[key] = min(least[key], row.effect.q)
    return page_levels(least, info.settings.statistics.q_level)


def _family_key(row: HypothesisRow, known: Container[_FamilyKey]) -> _FamilyKey:
    given = row.condition is not None and _named_before(row)
    key = (row.view, family_of(row.concept.name), given)
    return key if key in known else (row.view, None, False)


def _stands(lesson: Lesson, levels: Mapping[_FamilyKey, float]) -> bool:
    """Whether one of its findings passes on a page that several families share."""
    found = (lesson.lead, *lesson.others)
    return any(row.effect.q <= levels.get(_family_key(row, levels), 1.0) for row in found)


def _by_turns(stable: Mapping[ViewKind, list[Lesson]]) -> list[Lesson]:
    """Views by turns, each in its own order; what only tokens name comes last."""
    strongest_last = stable.get(ViewKind.GLOBAL, [])[::-1]  # of those that are called alike the strongest stays
    glob = {_subject(one): one for one in strongest_last}
    by_concept = {_subject(one)[0]: one for one in strongest_last}
    by_member = {(name, not less): one for one in strongest_last for name, less in _told_keys(one)}
    folded: dict[str, dict[str, list[HypothesisRow]]] = defaultdict(lambda: defaultdict(list))  # by lead, then by attribute
    said: set[tuple[_Reading, str]] = set()
    shown: dict[_Reading, Lesson] = {}  # the first under a condition
    queues: list[list[Lesson]] = []
    for view, own in stable.items():
        queue: list[Lesson] = []
        for one in sorted(own, key=_order):
            key, where, still = _subject(one), _where(one.lead), still_more(one.lead)
            if view in (ViewKind.GLOBAL, ViewKind.STATED):
                queue.append(one)
                continue
            general = glob.get(key) or by_concept.get(key[0]) or (by_member.get(reading_key(one.lead)) if still else None)
            if general is not None:
                folded[general.lead.name]["strongest" if key in glob else "weaker"].append(one.lead)
                if strength(one) <= strength(general) or still:
                    continue  # it only repeats it, or only says where it is weaker
            elif (key, where) in said:
                continue  # another view said so of the same pairs
            if key in shown and not _named_before(one.lead):
                folded[shown[key].lead.name]["also"].append(one.lead)
                continue
            queue.append(one)
            shown.setdefault(key, one)
            said.update((told, where) for told in (key, *_told_keys(one)))
        queues.append(queue)
    turns = [[_with(one, folded) for one in queue] for queue in queues if queue]
    turns.sort(key=lambda queue: strength(queue[0]), reverse=True)
    in_turn = [one for turn in zip_longest(*turns) for one in turn if one is not None]
    return sorted(in_turn, key=lambda one: _says_little(one.lead))


def _with(one: Lesson, folded: Mapping[str, Mapping[str, list[HypothesisRow]]]) -> Lesson:
    return replace(one, **{name: tuple(rows) for name, rows in folded.get(one.lead.name, {}).items()})


def _order(one: Lesson) -> tuple[bool, bool, float]:
    """Conditions that somebody named before those that were formed, what can be read before what cannot, strong before weak."""
    return not _named_before(one.lead), _says_little(one.lead), -strength(one)


def _named_before(row: HypothesisRow) -> bool:
    return row.condition is None or not row.condition.name.startswith(_FORMED)


def _says_little(row: HypothesisRow) -> bool:
    return concept_name(row.concept).kind in ("tokens", "")


def _subject(one: Lesson) -> _Reading:
    """What a lesson's title is about, and whether there is less of it."""
    name, less = reading_key(one.lead)
    return group_of(one.lead, one.others) or name, less


def _where(row: HypothesisRow) -> str:
    return condition_name(row.condition).text.casefold() if row.condition else ""


def _told_keys(one: Lesson) -> list[_Reading]:
    """What a reader is told of a lesson: its lead, and its members whose names say what they are."""
    return [reading_key(row) for row in (one.lead, *(row for row in one.others if not _says_little(row)))]


def _leads(rows: Sequence[HypothesisRow]) -> list[HypothesisRow]:
    """The findings that lead distinct lessons, in their order; where a view has none, its findings."""
    findings = [row for row in rows if row.finding]
    return sorted((row for row in findings if row.lesson_z is not None), key=lambda row: row.lesson) or findings


def _once(lessons: Sequence[Lesson]) -> list[Lesson]:
    """Of lessons that are called alike and hold in places called alike the first, with what goes along with the others."""
    first: dict[tuple[_Reading, str], Lesson] = {}
    for one in lessons:
        key = (reading_key(one.lead), _where(one.lead))
        kept = first.get(key)
        first[key] = one if kept is None else replace(kept, others=(*kept.others, one.lead, *one.others))
    return list(first.values())


def _others(lead: HypothesisRow, rows: Sequence[HypothesisRow]) -> tuple[HypothesisRow, ...]:
    if lead.lesson_z is None:
        return ()
    return tuple(row for row in rows if row.finding and row.lesson == lead.lesson and row is not lead)


def _readable(lesson: Lesson) -> Lesson:
    """The same lesson, led by its strongest member with a name that says what it is, where the lead has none or only tokens.

    A member leads only where its |z| is at least half of the lead's.
    """
    lead = lesson.lead
    if not _says_little(lead):
        return lesson
    named = [row for row in lesson.others if not _says_little(row) and _same_side(row, lead)]
    strong = [row for row in named if 2 * abs(row.effect.z) >= abs(lead.effect.z)]
    if not strong:
        return lesson
    best = max(strong, key=lambda row: abs(row.effect.z))
    others = (lead, *(row for row in lesson.others if row is not best))
    return replace(lesson, lead=replace(best, lesson_z=lead.lesson_z), others=others)


def _same_side(row: HypothesisRow, other: HypothesisRow) -> bool:
    return is_less(row) == is_less(other)


def strength(lesson: Lesson) -> float:
    """|z| of what a lesson says beyond those before it, times the share of resamples that return it."""
    lead = lesson.lead
    z = lead.effect.z if lead.lesson_z is None else lead.lesson_z
    return abs(z) * (1.0 if lead.lesson_stability is None else lead.lesson_stability)


def _is_stable(row: HypothesisRow) -> bool:
    return row.lesson_stability is None or row.lesson_stability >= STABLE


def reading_key(row: HypothesisRow) -> _Reading:
    """What a reader tells concepts apart by: the name, and whether there is less of it."""
    name = concept_name(row.concept)
    return (name.text.casefold() if name.known else row.concept.name), is_less(row)
