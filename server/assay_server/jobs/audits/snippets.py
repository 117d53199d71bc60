"""A response in a window: the stretch that shows a concept best, with what differs from the other response.

Offsets are code points of the text that is shown. What is cut off is an ellipsis, which no mark covers.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal, Protocol

WINDOW = 160  # code points of text
LOOKED_AT = 4000  # code points of a response that are compared with the other one
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]+")
_REACH = 16  # code points by which a window may move to end between words

Span = tuple[int, int]
SideName = Literal["chosen", "rejected"]


class Mark(Protocol):
    """A stretch of a response on which a concept fires, [start, end) in code points, with its largest activation."""

    @property
    def start(self) -> int:
        """First code point."""
        ...

    @property
    def end(self) -> int:
        """Past the last."""
        ...

    @property
    def value(self) -> float:
        """Largest activation."""
        ...


@dataclass(frozen=True, slots=True)
class Snippet:
    """A window of one response of one pair.

    Attributes:
        row: the pair's place in the dataset, from 0.
        side: which response.
        text: the window.
        marks: where the concept fires, ascending, in code points of ``text``.
        differs: words that the other response does not have there, ascending, in code points of ``text``.
    """

    row: int
    side: SideName
    text: str
    marks: tuple[Span, ...] = ()
    differs: tuple[Span, ...] = ()


def snippet(row: int, side: SideName, text: str, other: str, marks: Sequence[Mark] = ()) -> Snippet:
    """The window of ``text`` around its strongest mark, else around its first run of words that ``other`` has not."""
    differing = differing_words(text, other)
    inside = [mark for mark in marks if 0 <= mark.start < mark.end <= len(text)]
    strongest = max(inside, key=lambda mark: mark.value, default=None)
    centre = (strongest.start, strongest.end) if strongest is not None else differing[0] if differing else (0, 0)
    start, end = _window(text, *centre)
    before, after = "…" if start > 0 else "", "…" if end < len(text) else ""
    shift = len(before) - start
    spans = sorted((mark.start, mark.end) for mark in inside)
    return Snippet(
        row, side, f"{before}{text[start:end]}{after}", _cut(spans, start, end, shift), _cut(differing, start, end, shift)
    )


def differing_words(text: str, other: str) -> list[Span]:
    """Runs of words of ``text`` that a word by word comparison does not find in ``other``; within the first ``LOOKED_AT``."""
    words = list(_WORD.finditer(text[:LOOKED_AT]))
    theirs = [match.group().casefold() for match in _WORD.finditer(other[:LOOKED_AT])]
    compared = SequenceMatcher(None, [match.group().casefold() for match in words], theirs, autojunk=False)
    return [
        (words[first].start(), words[last - 1].end())
        for tag, first, last, _, _ in compared.get_opcodes()
        if tag in ("replace", "delete") and last > first
    ]


def word_marks(text: str, word: str) -> list[Span]:
    """Where a word stands in a text by itself, whatever its case."""
    if not word.strip():
        return []
    return [match.span() for match in re.finditer(rf"(?<!\w){re.escape(word.strip())}(?!\w)", text, re.IGNORECASE)]


def _window(text: str, start: int, end: int) -> Span:
    """``WINDOW`` code points around [start, end), moved inwards at the text's ends, and to ends of words where one is near."""
    if len(text) <= WINDOW:
        return 0, len(text)
    middle = start + min(end - start, WINDOW) // 2
    first = min(max(0, middle - WINDOW // 2), len(text) - WINDOW)
    last = first + WINDOW
    breaks = [place for place in range(first, last) if text[place].isspace()]
    if first > 0 and (at := bisect_left(breaks, first)) < len(breaks) and breaks[at] < min(first + _REACH, start):
        first = breaks[at] + 1
    if last < len(text) and not text[last].isspace():
        near = [place for place in breaks if place >= max(last - _REACH, min(end, last))]
        last = near[-1] if near else last
    return first, last


def _cut(spans: Sequence[Span], start: int, end: int, shift: int) -> tuple[Span, ...]:
    """Spans within [start, end), moved by ``shift``, overlapping ones as one."""
    found: list[Span] = []
    for one, other in spans:
        low, high = max(one, start) + shift, min(other, end) + shift
        if low >= high:
            continue
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return tuple(found)
