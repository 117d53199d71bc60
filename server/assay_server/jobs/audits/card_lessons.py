"""The lessons that a page shows: of all views, those that hold on a page of many families of tests, each told once.

A finding is corrected within its family; a page shows several families. A lesson stands on the page if one of its findings passes
`families.page_levels`, and resampling returns it. A lesson under a condition that only repeats a global one is told with it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TypeAlias

from assay_server.audit.families import Family, family_of, page_levels
from assay_server.audit.findings import ViewKind
from assay_server.jobs.audits.card_words import is_less
from assay_server.jobs.audits.naming import concept_name, condition_name
from assay_server.jobs.audits.types import AuditInfo, HypothesisRow

STABLE = 0.75  # share of resamples that return an established lesson (Hennig 2007)


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A finding that leads, what goes along with it, and what was folded into it."""

    lead: HypothesisRow
    others: tuple[HypothesisRow, ...] = ()
    strongest: tuple[HypothesisRow, ...] = ()
    weaker: tuple[HypothesisRow, ...] = ()


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
    stable = {view: [one for one in own if _is_stable(one.lead)] for view, own in standing.items()}
    unstable = [one for own in standing.values() for one in own if not _is_stable(one.lead)]
    crowded = [one for own in found.values() for one in own if not _stands(one, levels)]
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
    clustered = row.condition is None or row.condition.name.startswith(("data-cluster/", "prompt-cluster/"))
    key = (row.view, family_of(row.concept.name), not clustered)
    return key if key in known else (row.view, None, False)


def _stands(lesson: Lesson, levels: Mapping[_FamilyKey, float]) -> bool:
    """Whether one of its findings passes on a page that several families share."""
    found = (lesson.lead, *lesson.others)
    return any(row.effect.q <= levels.get(_family_key(row, levels), 1.0) for row in found)


def _by_turns(stable: Mapping[ViewKind, list[Lesson]]) -> list[Lesson]:
    """Views by turns; those whose name says what they are before those that only tokens name."""
    glob = {reading_key(one.lead): one for one in stable.get(ViewKind.GLOBAL, [])}
    by_concept = {key[0]: key for key in glob}
    by_member = {(key[0], not key[1]): one for one in glob.values() for key in map(reading_key, (one.lead, *one.others))}
    strongest: dict[_Reading, list[HypothesisRow]] = {}
    weaker: dict[_Reading, list[HypothesisRow]] = {}
    seen: set[tuple[str, _Reading]] = set()
    queues: list[list[Lesson]] = []
    for view, own in stable.items():
        queue: list[Lesson] = []
        for one in own:
            key, where = reading_key(one.lead), _where(one.lead)
            if where and not seen.isdisjoint((where, other) for other in _named_keys(one)[:1]):
                continue  # another view said so of the same pairs
            seen.update((where, other) for other in _named_keys(one) if where)
            general = glob.get(by_concept.get(key[0], key)) or (by_member.get(key) if _still_more(one.lead) else None)
            if view in (ViewKind.GLOBAL, ViewKind.STATED) or general is None:
                queue.append(one)
                continue
            (strongest if key in glob else weaker).setdefault(reading_key(general.lead), []).append(one.lead)
            # It does not only repeat it, nor only say where it is weaker.
            if strength(one) > strength(general) and not _still_more(one.lead):
                queue.append(one)
        queues.append(queue)
    told = [
        [
            _with_places(one, strongest, weaker) if one.lead.view is ViewKind.GLOBAL else one
            for one in sorted(queue, key=strength, reverse=True)
        ]
        for queue in queues
    ]
    turns = sorted((queue for queue in told if queue), key=lambda queue: strength(queue[0]), reverse=True)
    in_turn = [one for turn in zip_longest(*turns) for one in turn if one is not None]
    return sorted(in_turn, key=lambda one: concept_name(one.lead.concept).kind in ("tokens", ""))


def _where(row: HypothesisRow) -> str:
    return condition_name(row.condition).text.casefold() if row.condition else ""


def _named_keys(one: Lesson) -> list[_Reading]:
    """What a reader is told of a lesson: its lead, and its members whose names say what they are."""
    members = [row for row in one.others if concept_name(row.concept).kind not in ("tokens", "")]
    return [reading_key(row) for row in (one.lead, *members)]


def _still_more(row: HypothesisRow) -> bool:
    """Whether a row under a condition says less (or more) than elsewhere of what there too goes the other way."""
    if row.condition is None or row.only_chosen is None or row.only_rejected is None:
        return False
    said, other = (row.only_rejected, row.only_chosen) if is_less(row) else (row.only_chosen, row.only_rejected)
    return said < other


def _with_places(
    one: Lesson, strongest: Mapping[_Reading, list[HypothesisRow]], weaker: Mapping[_Reading, list[HypothesisRow]]
) -> Lesson:
    key = reading_key(one.lead)
    return replace(one, strongest=tuple(strongest.get(key, ())), weaker=tuple(weaker.get(key, ())))


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


def _readable(lesson: Lesson) -> Lesson:
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
