"""Amounts of every descriptor in responses: each text is split into words once, and everything is counted from there."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from assay_server.descriptors import lexicon, markup, style
from assay_server.descriptors.language import language_of
from assay_server.descriptors.vocabulary import DESCRIPTORS
from assay_server.descriptors.words import emoji_of, folded, is_end, tokens, without_code, words_of

_IDS = tuple(one.id for one in DESCRIPTORS)
_CAPITALS = 4  # letters of a word in capitals that is no acronym


def amounts(prompt: str, responses: Sequence[str]) -> list[list[float]]:
    """How much of each descriptor each response shows.

    Args:
        prompt: what the responses answer; only "echo" and "other-language" read it.
        responses: any texts.

    Returns:
        A row per response with a column per descriptor, in the order of ``DESCRIPTORS``; finite, at least 0.
    """
    return read(prompt, responses)[0]


def read(prompt: str, responses: Sequence[str]) -> tuple[list[list[float]], list[list[str]]]:
    """As ``amounts``; and the words of the prompt and of each response, as ``words.words``, which come of the same reading."""
    asking = without_code(folded(prompt))
    asked = words_of(tokens(asking))
    language = language_of(asking, asked)
    threes = frozenset(style.trigrams(asked))
    rows = [_row(response, threes, language) for response in responses]
    return [row for row, _ in rows], [asked, *(found for _, found in rows)]


def _row(response: str, asked: AbstractSet[style.Trigram], language: str | None) -> tuple[list[float], list[str]]:
    """One response's amounts and words."""
    whole = folded(response)
    text = without_code(whole)
    parts = tokens(text)
    found = words_of(parts)
    threes = style.trigrams(found)
    held: dict[str, float] = dict(zip(lexicon.names(), lexicon.counts(found), strict=True))
    held |= markup.arena_counts(whole)
    held |= markup.markup_counts(text, whole)
    held |= style.sentence_counts(found)
    held |= _marks(text, parts)
    emoji = frozenset[str]() if text.isascii() else emoji_of(parts)
    held["emoji"] = sum(map(emoji.__contains__, parts)) if emoji else 0
    held["emoji-end"] = style.closing_emoji(parts, emoji) if emoji else 0
    held["closing-question"] = style.asks_at_the_end(text)
    held["steps"] = style.steps(found)
    held["capitals"] = sum(len(part) >= _CAPITALS and part.isalpha() for part in parts if part.isupper())
    held["other-language"] = language is not None and language_of(text, found) not in {None, language}
    held["repetition"] = style.repeated(threes)
    held["echo"] = style.echoed(threes, asked)
    held["truncation"] = style.cut_off(text, whole, held["length"], int(held["emoji-end"]))
    return [float(held[identifier]) for identifier in _IDS], found


def _marks(text: str, parts: list[str]) -> dict[str, float]:
    """Exclamation marks and questions that end sentences."""
    exclamations = questions = 0
    if not text.isascii() or "!" in text or "?" in text:
        last = len(parts) - 1
        for at, part in enumerate(parts):
            if part != "\n" and is_end(part) and (at == last or part[-1].isspace() or part[0] in "\uff01\uff1f"):
                exclamations += part.count("!") + part.count("\uff01")
                questions += "?" in part or "\uff1f" in part
    return {"exclamation": exclamations, "question": questions}
