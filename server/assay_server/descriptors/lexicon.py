"""Counts of the lexicons' phrases in the words of a text, by one walk over the words.

``lexicons.json`` gives each lexicon its phrases. ``(a|b|)`` stands for either word or none, ``^`` before a phrase for the
beginning of a sentence. A phrase never crosses a sentence or a line. At one place the longest phrase of a lexicon counts, and
the words of a phrase count once; phrases under "except" take their words and count nothing. "where" is "anywhere", "early"
(begins in the first two sentences) or "opening" (begins the text, but for interjections).
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from assay_server.descriptors.words import BOUNDARY

_EARLY = 2  # sentences
_INTERJECTIONS = frozenset(["oh", "ah", "well", "hmm", "hm", "um", "uh", "hi", "hello", "hey", "gosh"])
_CHOICE = re.compile(r"\(([^()]*)\)")


class _Node:
    """A place in the tree of phrases: the words that may follow, and the phrases that end here."""

    __slots__ = ("ends", "following")

    def __init__(self) -> None:
        self.following: dict[str, _Node] = {}
        self.ends: list[tuple[int, bool, bool]] = []  # lexicon, counts, only at the beginning of a sentence


def contents() -> dict[str, Any]:
    """What ``lexicons.json`` holds."""
    return json.loads(files("assay_server.descriptors").joinpath("lexicons.json").read_text(encoding="utf-8"))


@cache
def names() -> tuple[str, ...]:
    """The lexicons' names, in the order of their counts."""
    return _compiled()[1]


@cache
def _compiled() -> tuple[_Node, tuple[str, ...], tuple[str, ...]]:
    """The tree, and for each lexicon its name and where its phrases count."""
    held = contents()
    root = _Node()
    lexicons: dict[str, Any] = held["lexicons"]
    for index, (name, lexicon) in enumerate(lexicons.items()):
        spelled = spellings(held["spellings"], name == "american") if name in {"british", "american"} else ()
        for kind in ("phrases", "except"):
            for written in (*lexicon[kind], *(spelled if kind == "phrases" else ())):
                for phrase in expanded(written.removeprefix("^")):
                    node = root
                    for word in phrase:
                        node = node.following.setdefault(word, _Node())
                    node.ends.append((index, kind == "phrases", written.startswith("^")))
    return root, tuple(lexicons), tuple(lexicon["where"] for lexicon in lexicons.values())


def expanded(written: str) -> Iterator[list[str]]:
    """The phrases, as words, that a written phrase stands for."""
    parts = _CHOICE.split(written)
    choices = [part.split("|") if at % 2 else [part] for at, part in enumerate(parts)]
    for chosen in itertools.product(*choices):
        yield " ".join(chosen).split()


def spellings(groups: Sequence[dict[str, Any]], american: bool) -> list[str]:
    """Words in the spelling of one side: each pair "colour/color" with each of its group's endings."""
    stems = [(pair.split("/")[american], group["endings"]) for group in groups for pair in group["pairs"].split()]
    return [stem + ending for stem, endings in stems if stem for ending in endings]


def counts(words: Sequence[str]) -> list[int]:
    """How often each lexicon's phrases occur in words with boundaries, in the order of ``names()``."""
    root, lexicons, where = _compiled()
    found = [0] * len(lexicons)
    free = [0] * len(lexicons)  # each lexicon's first word that no phrase has taken
    first = root.following.get
    opening, early = _beginning(words)
    for start, node in [(at, node) for at, word in enumerate(words) if (node := first(word)) is not None]:
        hits: dict[int, tuple[int, bool]] = {}
        end = start + 1
        while True:
            for lexicon, counted, at_beginning in node.ends:
                if free[lexicon] <= start and not (at_beginning and start and words[start - 1]):
                    hits[lexicon] = (end, counted)
            if not node.following or end == len(words) or (node := node.following.get(words[end])) is None:
                break
            end += 1
        for lexicon, (after, counted) in hits.items():
            place = where[lexicon]
            free[lexicon] = after
            if counted and (place == "anywhere" or (start < early if place == "early" else start == opening)):
                found[lexicon] += 1
    return found


def _beginning(words: Sequence[str]) -> tuple[int, int]:
    """Where the first word stands that is no interjection, and where the first two sentences end."""
    opening = next((at for at, word in enumerate(words) if word not in _INTERJECTIONS and word[:1].isalpha()), 0)
    sentences = 0
    for at in range(opening, len(words)):
        sentences += words[at] == BOUNDARY
        if sentences == _EARLY:
            return opening, at
    return opening, len(words)
