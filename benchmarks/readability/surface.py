"""Hand-made surface features of a response: what a careful baseline counts without a vocabulary of concepts.

Counts enter as log(1 + count), shares and means as they are. No word list but six function words; no descriptor of the server is
used, so that the baseline stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from assay_server.audit.matrices import Floats

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_SENTENCE = re.compile(r"[.!?]+(?=\s|$)")
_LINES = {
    "headers": re.compile(r"^#{1,6}\s", re.MULTILINE),
    "bullets": re.compile(r"^\s*[-*+]\s", re.MULTILINE),
    "numbered items": re.compile(r"^\s*\d+[.)]\s", re.MULTILINE),
    "bold": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
    "code": re.compile(r"`[^`]+`"),
    "links": re.compile(r"https?://|www\."),
    "ellipses": re.compile(r"\.\.\.|\u2026"),
}
_MARKS = {
    "commas": ",",
    "periods": ".",
    "exclamation marks": "!",
    "question marks": "?",
    "colons": ":",
    "semicolons": ";",
    "double quotes": '"\u201c\u201d',
    "apostrophes": "'\u2019",
    "parentheses": "()",
    "hyphens": "-",
    "dashes": "\u2013\u2014",
    "slashes": "/",
    "digits": "0123456789",
    "line breaks": "\n",
}
_FUNCTION_WORDS = ("i", "you", "we", "not", "and", "the")


def surface_names() -> list[str]:
    """Of the columns."""
    return list(_features("A word."))


def surface_differences(chosen: Sequence[str], rejected: Sequence[str]) -> Floats:
    """Chosen minus rejected, [pairs, features]."""
    sides = [np.array([list(_features(text).values()) for text in side]) for side in (chosen, rejected)]
    return sides[0] - sides[1]


def _features(text: str) -> Mapping[str, float]:
    said = _WORD.findall(text)
    words = [word.lower() for word in said]
    sentences = max(1, len(_SENTENCE.findall(text)))
    letters = max(1, sum(map(str.isalpha, text)))
    most: Callable[[int], int] = lambda count: max(1, count)  # noqa: E731
    counts = {
        "characters": len(text),
        "words": len(words),
        "sentences": sentences,
        "paragraphs": len([part for part in text.split("\n\n") if part.strip()]),
        "distinct words": len(set(words)),
        "long words": sum(len(word) > 6 for word in words),
        "words in capitals": sum(len(word) > 1 and word.isupper() for word in said),
        "capitalised words": sum(word[0].isupper() for word in said),
        "contractions": sum("'" in word or "\u2019" in word for word in words),
        "other than ASCII": sum(ord(sign) > 127 for sign in text),
        **{name: len(pattern.findall(text)) for name, pattern in _LINES.items()},
        **{name: sum(map(text.count, signs)) for name, signs in _MARKS.items()},
        **{f'"{word}"': words.count(word) for word in _FUNCTION_WORDS},
    }
    shares = {
        "type-token ratio": len(set(words)) / most(len(words)),
        "mean word length": sum(map(len, words)) / most(len(words)),
        "mean sentence length": len(words) / sentences,
        "share of capitals": sum(map(str.isupper, text)) / letters,
        "share of punctuation": sum(not (sign.isalnum() or sign.isspace()) for sign in text) / most(len(text)),
        "ends with a question": float(text.rstrip().endswith("?")),
        "ends with a period": float(text.rstrip().endswith(".")),
        "begins with a capital": float(text.lstrip()[:1].isupper()),
    }
    return {**{name: float(np.log1p(count)) for name, count in counts.items()}, **shares}
