"""Cards for a terminal: the sentences that the report begins with, in lines; a pure function of them."""

import textwrap
from collections.abc import Sequence

from assay.cards import Card, CardKind, Snippet
from assay.cli.findings import cut, one_line

HEADINGS = {
    CardKind.LENGTH: "What it teaches",
    CardKind.LESSON: "What it teaches",
    CardKind.NOT_CAUSE: "Not the cause",
    CardKind.NOT_ESTABLISHED: "Not established",
    CardKind.REST: "The rest",
}
_INDENT = "  "
_NAMES = 11  # characters of "where", "how sure", "carried by", and a space


def card_lines(cards: Sequence[Card], *, width: int) -> list[str]:
    """The cards in lines of `width` characters, those of a kind under one heading; what fires in a snippet is between « and »."""
    if not cards:
        return ["Nothing was found, and nothing came close."]
    lines: list[str] = []
    heading = ""
    for card in cards:
        told = HEADINGS.get(card.kind, "More") if card.kind else "More"
        if told != heading:
            lines += ["", told] if lines else [told]
            heading = told
        lines += ["", *_lines(card, width)]
    return lines


def _lines(card: Card, width: int) -> list[str]:
    sentence = one_line(card.sentence)
    if card.hypothesis and card.kind is not CardKind.REST:
        sentence = f"{card.id}  {sentence}"
    lines = textwrap.wrap(sentence, width, subsequent_indent=_INDENT)
    for name, text in (("where", card.exceptions), ("how sure", card.sureness), ("carried by", card.carried)):
        if text:
            first = f"{_INDENT}{name:<{_NAMES}}"
            lines += textwrap.wrap(one_line(text), width, initial_indent=first, subsequent_indent=" " * len(first))
    lines += [cut(f"{_INDENT}{one.side}, row {one.row}: {one_line(marked(one))}", width) for one in card.snippets]
    # A command is never wrapped: it is there to be copied.
    return lines + ([f"{_INDENT}{card.decide}"] if card.decide else [])


def marked(snippet: Snippet) -> str:
    """A snippet's text with what fires between « and »."""
    text = snippet.text
    for start, end in sorted(snippet.marks, reverse=True):
        text = f"{text[:start]}«{text[start:end]}»{text[end:]}"
    return text
