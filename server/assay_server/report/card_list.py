"""The first screen: cards of lessons, of what is not the cause, and of what is not established.

The page's script adds what has to be operated: copying, and decisions. Excerpts are short and visible; a button hides them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from assay_server.jobs.audits.cards import Card, CardKind, build_cards
from assay_server.jobs.audits.snippets import Snippet, Span
from assay_server.report.headline import shares
from assay_server.report.markup import Html, clip, el
from assay_server.report.model import Report

TEXT_LIMIT = 600  # code points of a sentence; names are clipped before


def cards_of(report: Report) -> tuple[Card, ...]:
    """The cards of what a report shows."""
    return build_cards(
        replace(report.info, views=tuple(view.summary for view in report.views)),
        [row for view in report.views for row in view.hypotheses],
        evidence=report.evidence,
        pairs=report.pairs,
        highlights=report.highlights,
    )


def card_sections(report: Report) -> list[Html]:
    """The sections of cards, in the order of reading; those without a card are left out."""
    cards = cards_of(report)
    lessons = [card for card in cards if card.kind in (CardKind.LENGTH, CardKind.LESSON)]
    blamed = [card for card in cards if card.kind is CardKind.NOT_CAUSE]
    missed = [card for card in cards if card.kind is CardKind.NOT_ESTABLISHED]
    rest = [card for card in cards if card.kind is CardKind.REST]
    left = [
        el("p", clip(card.sentence, TEXT_LIMIT), " ", el("a", "See all of them", href="#hypotheses"), class_="rest")
        for card in rest
    ]
    return [
        *_section("lessons", "What it teaches", lessons, [*_legend(lessons), *_list(lessons, "h3"), *left]),
        *_section("not-cause", "Not the cause", blamed, [*_list(blamed, "h3"), *shares(report)], empty=shares(report)),
        *_section("not-established", "Not established", missed, _list(missed, "h3")),
    ]


def _section(id: str, title: str, cards: Sequence[Card], inside: list[Html], *, empty: list[Html] | None = None) -> list[Html]:
    shown = inside if cards else empty or []
    return [el("section", el("h2", title), *shown, id=id, class_="cards")] if shown else []


def _list(cards: Sequence[Card], heading: str) -> list[Html]:
    return [_card(card, heading) for card in cards]


def _legend(cards: Sequence[Card]) -> list[Html]:
    if not any(card.snippets for card in cards):
        return []
    fires, differs = el("mark", "marked", class_="s3"), el("span", "dotted", class_="differs")
    told = (
        "Excerpts are the dataset's own and may offend. ",
        fires,
        " where the concept fires; ",
        differs,
        " what the other response lacks.",
    )
    return [el("p", *told, class_="note", id="excerpt-note")]


def _card(card: Card, heading: str) -> Html:
    title = f"{card.id}-title"
    rest = card.sentence.removeprefix(card.title).removeprefix(" than elsewhere").lstrip(":, ")
    facts = [("Where", card.exceptions), ("How sure", card.sureness), ("Carried by", card.carried)]
    shown = [el("div", el("dt", name), el("dd", clip(text, TEXT_LIMIT))) for name, text in facts if text]
    told = [_figure(one) for one in card.snippets]
    tail: list[Html] = []
    if card.hypothesis and card.id != "length":
        tail.append(el("p", el("a", "Numbers and pairs", class_="open", href=f"#{card.id}"), class_="more-of"))
    if card.decide:
        tail.append(el("p", el("code", card.decide), class_="command"))
    return el(
        "article",
        el(heading, clip(card.title, TEXT_LIMIT), id=title, dir="auto"),
        el("p", clip(rest[:1].upper() + rest[1:], TEXT_LIMIT), class_="say", dir="auto") if rest else "",
        el("dl", *shown, class_="sure") if shown else "",
        el("div", *told, class_="excerpts") if told else "",
        *tail,
        id=card.id,
        class_=f"card {card.kind.value.replace('_', '-')}",
        aria_labelledby=title,
        tabindex=-1,
    )


def _figure(one: Snippet) -> Html:
    caption = f"{one.side.capitalize()}, row {one.row}"
    return el("figure", el("figcaption", caption), el("p", *_marked(one), class_="text", dir="auto"), class_="excerpt")


def _marked(one: Snippet) -> list[Html | str]:
    """The text in pieces: where the concept fires, what differs, and both."""
    edges = sorted({0, len(one.text), *(edge for span in (*one.marks, *one.differs) for edge in span)})
    pieces: list[Html | str] = []
    for start, end in itertools.pairwise(edges):
        piece: Html | str = one.text[start:end]
        if _covered(one.marks, start):
            piece = el("mark", piece, class_="s3")
        if _covered(one.differs, start):
            piece = el("span", piece, class_="differs")
        pieces.append(piece)
    return pieces


def _covered(spans: Sequence[Span], place: int) -> bool:
    return any(start <= place < end for start, end in spans)
