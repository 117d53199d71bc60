"""Counts over the words of a text: sentences, reading grade, steps, repetition, echo and a cut-off ending."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from functools import lru_cache

from assay_server.descriptors.words import BOUNDARY, EMOJI, ends_in_code, is_end

Trigram = tuple[str, str, str]

_VOWELS = re.compile("[aeiouy\u00e0-\u00e6\u00e8-\u00ef\u00f2-\u00f6\u00f8-\u00fd]+")
_SILENT = re.compile("(?:[^aeiouyl]|[aeiouy]l)(?:e|(?<![sxzcgh])es|(?<![td])ed)$")
_ORDINALS = frozenset(
    ["first", "firstly", "second", "secondly", "third", "thirdly", "fourth", "fourthly", "fifth", "next", "finally", "lastly"]
)
_CLOSERS = " \t\n\"')]}*_~>|\u00bb\u300d\u300f\uff09"
_CLOSED = frozenset(".!?\u2026\u3002\uff01\uff1f\"')]}>\u00bb\u300d\u300f\uff09`$|*_\u0964\u061f\u06d4")
_MARKED_LINE = re.compile(r"[-*+\u2022>|#]|\d{1,9}[.)]|\(?[A-Za-z][.)]\s|https?://|www\.")
_LAST = 200  # characters in which the ending is looked for
_LONGEST = 32  # characters of a word
_FEW = 4  # words: a shorter text may be a bare answer


@lru_cache(maxsize=1 << 16)
def _syllables(word: str) -> int:
    """Runs of vowels, less a silent e of "e", "es" or "ed" at the end; at least one."""
    runs = len(_VOWELS.findall(word))
    return runs - 1 if runs > 1 and _SILENT.search(word, max(len(word) - 4, 0)) else max(runs, 1)


def syllables(words: list[str]) -> int:
    """Syllables of lower-case words together, about; of a word longer than any word, those of its beginning."""
    if max(map(len, words), default=0) > _LONGEST:
        words = [word[:_LONGEST] for word in words]
    return sum(map(_syllables, words))


def sentence_counts(words: list[str]) -> dict[str, float]:
    """Words, words per sentence and reading grade."""
    spoken = [word for word in words if word and word[0].isalnum()]
    if not spoken:
        return {"length": 0, "sentence-length": 0, "reading-grade": 0}
    mean = _mean_sentence(words)
    grade = 0.39 * mean + 11.8 * syllables(spoken) / len(spoken) - 15.59
    return {"length": len(spoken), "sentence-length": mean, "reading-grade": max(grade, 0.0)}


def _mean_sentence(words: list[str]) -> float:
    """Mean words of the sentences that begin a word with a letter: a list's number and an emoji alone are none."""
    sentences = total = held = 0
    lettered = False
    for word in (*words, BOUNDARY):
        if word == BOUNDARY:
            if lettered:
                sentences += 1
                total += held
            held = 0
            lettered = False
        else:
            held += word[0].isalnum()
            lettered = lettered or word[0].isalpha()
    return total / sentences if sentences else 0.0


def steps(words: list[str]) -> int:
    """Numbered "step"s, and sentences that begin with an ordinal."""
    found = 0
    before = BOUNDARY
    for word in words:
        if before == "step":
            found += word.isdecimal()
        elif before == BOUNDARY:
            found += word in _ORDINALS
        before = word
    return found


def trigrams(words: list[str]) -> list[Trigram]:
    """Three words in a row within a sentence, in order."""
    return [three for three in zip(words, words[1:], words[2:], strict=False) if BOUNDARY not in three]


def repeated(found: list[Trigram]) -> float:
    """Share of the 3-grams that occurred earlier."""
    return 1.0 - len(set(found)) / len(found) if found else 0.0


def echoed(found: list[Trigram], prompt: AbstractSet[Trigram]) -> float:
    """Share of the 3-grams that occur in the prompt."""
    return sum(map(prompt.__contains__, found)) / len(found) if found and prompt else 0.0


def closing_emoji(parts: list[str], emoji: AbstractSet[str]) -> int:
    """Emoji among a text's tokens that no word follows."""
    count = 0
    for part in reversed(parts):
        if part in emoji:
            count += 1
        elif not is_end(part):
            break
    return count


def asks_at_the_end(text: str) -> bool:
    """Whether the text ends with a question mark, but for quotes, brackets and emoji."""
    ending = text.rstrip(_CLOSERS)
    if not ending.isascii():
        ending = EMOJI.sub("", ending[-_LAST:]).rstrip(_CLOSERS + "\ufe0f")
    return ending[-1:] in {"?", "\uff1f", "\u061f"}


def cut_off(text: str, whole: str, length: float, emoji: int) -> bool:
    """Whether the text seems to break off.

    Args:
        text: folded, without code blocks.
        whole: folded.
        length: its words.
        emoji: how many end it.
    """
    if ends_in_code(whole):
        return True
    ending = whole.rstrip()
    if length < _FEW or emoji or not ending or ending[-1] in _CLOSED:
        return False
    line = text.rstrip()
    return _MARKED_LINE.match(line[line.rfind("\n") + 1 :].lstrip()) is None
