"""What an audit tells, in the order of reading, and where in it an edit is named.

Cards are the service's own (`jobs.audits.cards`), those of lessons alone: what a reader sees of each is its title and the few
names that stand along with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from assay_server.audit.findings import AuditOptions, TestTable, ViewKind
from assay_server.audit.matrices import Ints
from assay_server.jobs.audits.card_words import MEMBERS
from assay_server.jobs.audits.cards import CardKind, build_cards
from assay_server.jobs.audits.rows import hypothesis_rows, no_labels
from assay_server.jobs.audits.tables import parse_hypothesis_id, summary_of
from assay_server.jobs.audits.types import AuditInfo, AuditSettings, AuditState
from assay_server.subject.identity import SubjectRef

from benchmarks.readability.expected import Expected

FIRST = 10  # cards that somebody reads
SHOWN = 1 + MEMBERS  # the lead, and the names that a card lists along with it
TOLD_BY = "cards"  # results that do not say so are by lessons in their order, from before there were cards
_NOBODY = SubjectRef("", "", "", "", "", "", "", "")


@dataclass(frozen=True, eq=False)
class Card:
    """One lesson as it is read."""

    names: tuple[str, ...]  # as they are shown, the lead's first
    lead: str  # name of the concept that the title is about
    more: bool  # whether chosen responses express it more
    condition: str  # name; "" for everywhere
    stability: float
    supporting: Ints  # dataset rows that are evidence for the lead, most telling first


def cards_of(tables: Mapping[ViewKind, TestTable], options: AuditOptions) -> list[Card]:
    """The cards of lessons of an audit's tables, in the order of reading."""
    views = tuple(summary_of(table, options.keep) for table in tables.values())
    settings = AuditSettings(statistics=options)
    info = AuditInfo("audits/benchmark", "datasets/benchmark", "", AuditState.DONE, settings, _NOBODY, 0.0, views)
    rows = {row.name: row for row in hypothesis_rows(info.name, tables, options.keep, no_labels, [])}
    found: list[Card] = []
    for card in build_cards(info, tuple(rows.values())):
        place = parse_hypothesis_id(card.id)
        if card.kind is not CardKind.LESSON or place is None:
            continue
        evidence, lead = tables[place[0]].evidence, rows[card.hypothesis]
        supporting = evidence[place[1] - 1].supporting if place[1] <= len(evidence) else np.zeros(0, np.int64)
        stability = lead.lesson_stability or 0.0
        found.append(Card(card.members, card.concept, lead.effect.estimate > 0, card.condition, stability, supporting))
    return found


def named_at(cards: Sequence[Card], expected: Expected, *, shown: int = SHOWN, condition: str = "") -> int | None:
    """The place, from 1, of the first card that says "more" of what names the edit, under that condition; None where none does.

    Args:
        cards: in the order of reading.
        expected: what names the edit.
        shown: names of a card that are read, the lead's included.
        condition: where it must say so; "" for everywhere.
    """
    for place, card in enumerate(cards, start=1):
        # A name that goes the other way than the lead says "less".
        told = [name for name in card.names[:shown] if not name.startswith("less ")]
        if card.more and card.condition == condition and any(expected.said(name) for name in told):
            return place
    return None
