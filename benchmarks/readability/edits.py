"""Sixteen edits of a response's text: the six of the validity experiments, and ten that a reader would notice at once.

Each edit keeps the response's own words, apart from their case and spelling, and depends on the text and the seed alone. Where an
edit adds a phrase, at least one of its phrases is in no lexicon of the descriptors: a lexicon never holds all wordings.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from benchmarks.validity import edits as validity

Edit = Callable[[str, np.random.Generator], str]

_QUESTIONS = (
    "Does that make sense?",
    "What do you think?",
    "Which part would you like to start with?",
    "How does that sound to you?",
    "What have you tried so far?",
)
_ANECDOTES = (
    "When I was younger, my neighbor showed me how this works.",
    "I remember trying this myself one summer.",
    "A friend of mine went through the same thing last year.",
    "My grandmother used to talk about this a lot.",
    "It took me three attempts in my first apartment.",
)
_SNIPPETS = ('print("hello")', "x = 1 + 2", "for i in range(3):\n    print(i)", "ls -l", "total = sum(numbers)")
_BRITISH = (
    "I hope you realise that it gets easier.",
    "That should add some colour and flavour.",
    "It helps to organise this first.",
    "Your neighbour may have a favourite way too.",
    "Many people recognise this behaviour.",
    "It is a bit like queueing at the greengrocer's for courgettes.",
)
_RESPELLED = {
    "color": "colour",
    "favorite": "favourite",
    "flavor": "flavour",
    "neighbor": "neighbour",
    "behavior": "behaviour",
    "honor": "honour",
    "humor": "humour",
    "center": "centre",
    "realize": "realise",
    "recognize": "recognise",
    "organize": "organise",
    "apologize": "apologise",
    "gray": "grey",
}
_AGREEMENTS = (
    "Yes, absolutely. ",
    "I completely agree. ",
    "You're right about that. ",
    "Of course. ",
    "Sure thing. ",
    "That is my view as well. ",
)
_APOLOGIES = (
    "I'm sorry about the wait. ",
    "My apologies for the confusion. ",
    "Sorry, I should have been clearer. ",
    "Please forgive me for being slow here. ",
    "I feel bad about the mix-up earlier. ",
)
_EMOJI = ("😊", "🎉", "👍", "🌟", "🙌")


def capitals(text: str, draws: np.random.Generator) -> str:
    """Two to four of its longer words in capitals."""
    words = list(re.finditer(r"\b[A-Za-z]{5,}\b", text)) or list(re.finditer(r"\b[A-Za-z]+\b", text))
    for index in draws.choice(len(words), min(len(words), int(draws.integers(2, 5))), replace=False) if words else ():
        start, end = words[index].span()
        text = text[:start] + text[start:end].upper() + text[end:]
    return text


def closing_question(text: str, draws: np.random.Generator) -> str:
    """A question behind it."""
    return f"{text.rstrip()} {_pick(_QUESTIONS, draws)}"


def anecdote(text: str, draws: np.random.Generator) -> str:
    """A sentence of an own story, before it or after its first sentence."""
    first, rest = _first_sentence(text)
    story = _pick(_ANECDOTES, draws)
    return f"{story} {text.lstrip()}" if draws.random() < 0.5 else f"{first} {story} {rest}".rstrip()


def numbered_steps(text: str, draws: np.random.Generator) -> str:
    """Its sentences (or the parts of its only one) numbered, each on a line."""
    parts = [part for part in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if part]
    if len(parts) < 2:
        parts = [part for part in re.split(r"(?<=[,;:])\s+", text.strip()) if part]
    mark = "{}. " if draws.random() < 0.5 else "Step {}: "
    return "\n".join(mark.format(number) + part.strip() for number, part in enumerate(parts, start=1))


def code_fence(text: str, draws: np.random.Generator) -> str:
    """A fenced line or two of code behind it."""
    return f"{text.rstrip()}\n\n```\n{_pick(_SNIPPETS, draws)}\n```"


def british(text: str, draws: np.random.Generator) -> str:
    """The spellings of Britain for those of America, and a sentence that has some."""
    pattern = re.compile("|".join(_RESPELLED), re.IGNORECASE)
    respelled = pattern.sub(lambda found: _like(found.group(), _RESPELLED[found.group().lower()]), text)
    return f"{respelled.rstrip()} {_pick(_BRITISH, draws)}"


def agreement(text: str, draws: np.random.Generator) -> str:
    """Agreement before it."""
    return _pick(_AGREEMENTS, draws) + text.lstrip()


def apology(text: str, draws: np.random.Generator) -> str:
    """An apology before it."""
    return _pick(_APOLOGIES, draws) + text.lstrip()


def em_dash(text: str, draws: np.random.Generator) -> str:
    """An em dash for one of its commas, or between two of its words."""
    places = list(re.finditer(r"(?<=\w),\s", text)) or list(re.finditer(r"(?<=\w) (?=\w)", text))
    if not places:
        return f"{text.rstrip()} \u2014"
    start, end = places[int(draws.integers(len(places)))].span()
    return f"{text[:start]} \u2014 {text[end:]}"


def emoji_end(text: str, draws: np.random.Generator) -> str:
    """An emoji behind it."""
    return f"{text.rstrip()} {_pick(_EMOJI, draws)}"


ADDED: dict[str, Edit] = {
    "capitals": capitals,
    "closing question": closing_question,
    "anecdote": anecdote,
    "numbered steps": numbered_steps,
    "code fence": code_fence,
    "British spelling": british,
    "agreement opener": agreement,
    "apology": apology,
    "em dash": em_dash,
    "emoji at the end": emoji_end,
}
NAMES = (*validity.EDITS, *ADDED)
# Those that leave a mark in the text; the others are phrases, in wordings that a detector cannot hold all of.
MARKS = frozenset(
    [
        "bold",
        "bullet list",
        "emoji",
        "capitals",
        "closing question",
        "numbered steps",
        "code fence",
        "em dash",
        "emoji at the end",
    ]
)


def edited(name: str, text: str, seed: int) -> str:
    """The response with one of `NAMES` written into it.

    Raises:
        KeyError: there is no such edit.
    """
    if name in validity.EDITS:
        return validity.edited(name, text, validity.Half.PLANTED, seed)
    return ADDED[name](text, np.random.default_rng([seed, 7, list(ADDED).index(name), len(text)]))


def _pick(phrases: tuple[str, ...], draws: np.random.Generator) -> str:
    return phrases[int(draws.integers(len(phrases)))]


def _first_sentence(text: str) -> tuple[str, str]:
    first, *rest = re.split(r"(?<=[.!?])\s+|\n+", text.strip(), maxsplit=1)
    return first, "".join(rest)


def _like(model: str, word: str) -> str:
    """`word` with the capitals of `model`."""
    return word.upper() if model.isupper() else word.capitalize() if model[:1].isupper() else word
