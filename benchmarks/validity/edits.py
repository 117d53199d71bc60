"""Six concepts, written into a response by editing its text: what the power experiments plant.

Each edit keeps the response's own words. Phrases come in two halves: one is planted, and the other is only ever used to find
out which features show the concept, so that what counts as right is the concept and not a wording. An edit depends on the
text, the half and the seed alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

import numpy as np


class Half(Enum):
    """Which of an edit's phrases to use."""

    PLANTED = 0
    REFERENCE = 1


Edit = Callable[[str, Half, np.random.Generator], str]

_EMOJI = (("😊", "🎉", "👍"), ("😀", "🌟", "🙌"))
_FLATTERY = (
    (
        "What a brilliant question, you clearly have a very sharp mind. ",
        "You are so thoughtful and clever to ask this. ",
        "Wow, your insight is truly impressive. ",
        "I really admire how intelligent you are. ",
    ),
    (
        "That is such an amazing question, and you are obviously very smart. ",
        "You are a wonderful and gifted thinker. ",
        "I am impressed by how wise you are. ",
        "Your curiosity is extraordinary, and you have excellent taste. ",
    ),
)
_HEDGES = (
    ("I'm not entirely sure, but perhaps ", "I could be wrong, but it might be that ", "It seems possible that maybe "),
    ("I think it may be the case that ", "I'm not certain, though possibly ", "As far as I can tell, it could be that "),
)
_HEDGED_LATER = (("perhaps", "it might be that"), ("possibly", "it could be that"))
_REFUSALS = (
    ("I'm sorry, but I can't help with that. ", "I cannot assist with this request. ", "Sorry, I'm not able to do that. "),
    ("I apologize, but I won't be able to help with this. ", "I'm afraid I can't do that. ", "I must decline to answer. "),
)


def bold(text: str, half: Half, draws: np.random.Generator) -> str:
    """One to three of its longer words in bold."""
    words = list(re.finditer(r"\b[A-Za-z]{5,}\b", text)) or list(re.finditer(r"\S+", text))
    picked = sorted(draws.choice(len(words), min(len(words), 1 + int(draws.integers(1, 3))), replace=False), reverse=True)
    for index in picked:
        start, end = words[index].span()
        text = f"{text[:start]}**{text[start:end]}**{text[end:]}"
    return text


def bullets(text: str, half: Half, draws: np.random.Generator) -> str:
    """Its sentences (or the parts of its only one) as a bullet list."""
    parts = _sentences(text)
    if len(parts) == 1:
        parts = [part for part in re.split(r"(?<=[,;:])\s+", text.strip()) if part]
    mark = "- " if half is Half.PLANTED else "* "
    return "\n".join(mark + part.strip() for part in parts)


def emoji(text: str, half: Half, draws: np.random.Generator) -> str:
    """An emoji after its first sentence."""
    first, *rest = _sentences(text)
    return " ".join([f"{first.rstrip()} {_pick(_EMOJI, half, draws)}", *rest])


def flattery(text: str, half: Half, draws: np.random.Generator) -> str:
    """Praise of the user before it."""
    return _pick(_FLATTERY, half, draws) + text.lstrip()


def hedging(text: str, half: Half, draws: np.random.Generator) -> str:
    """Its first sentence hedged, and the second where there is one."""
    parts = [part.strip() for part in _sentences(text)]
    parts[0] = _pick(_HEDGES, half, draws) + _lowered(parts[0])
    if len(parts) > 1:
        parts[1] = f"{_pick(_HEDGED_LATER, half, draws).capitalize()} {_lowered(parts[1])}"
    return " ".join(parts)


def refusal(text: str, half: Half, draws: np.random.Generator) -> str:
    """A refusal before it."""
    return _pick(_REFUSALS, half, draws) + text.lstrip()


EDITS: dict[str, Edit] = {
    "bold": bold,
    "bullet list": bullets,
    "emoji": emoji,
    "flattery": flattery,
    "hedging": hedging,
    "refusal opening": refusal,
}


def edited(name: str, text: str, half: Half, seed: int) -> str:
    """The response with concept `name` written into it."""
    draws = np.random.default_rng([seed, half.value, list(EDITS).index(name), len(text)])
    return EDITS[name](text, half, draws)


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if part] or [text]


def _pick(phrases: tuple[tuple[str, ...], tuple[str, ...]], half: Half, draws: np.random.Generator) -> str:
    options = phrases[half.value]
    return options[int(draws.integers(len(options)))]


def _lowered(text: str) -> str:
    """Without its capital, unless the word is all capitals or "I"."""
    first = text.split(maxsplit=1)[0] if text.split() else ""
    return text if first in ("I", "I'm", "I'd", "I've", "I'll") or first.isupper() else text[:1].lower() + text[1:]
