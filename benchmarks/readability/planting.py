"""Which pairs are edited: the same draws for every edit, over real labels."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from assay_server.audit.matrices import Bools, Ints
from assay_server.subject.types import Pair

from benchmarks.readability.data import Subject, Written, write
from benchmarks.readability.edits import edited
from benchmarks.validity.conditional import TOPICS
from benchmarks.validity.data import prompt_text

RATES = (0.05, 0.10)
POOL = 0.12  # share of the pairs that planting draws from where a model must read what is written
CHOSEN_TOPICS = ("family", "money")
INSIDE = 0.5  # share of a topic's pairs that are edited


@dataclass(frozen=True, eq=False)
class Topic:
    """Pairs by a value of their metadata."""

    name: str
    about: Bools  # [pairs]


def pool(pairs: int, subject: Subject, seed: int) -> Ints:
    """The pairs that draws are made from, ascending; all where reading costs nothing."""
    if subject is Subject.NONE:
        return np.arange(pairs)
    return np.sort(np.random.default_rng([seed, 21]).permutation(pairs)[: round(POOL * pairs)])


def drawn(rows: Ints, pairs: int, rate: float, repeat: int, seed: int) -> Ints:
    """The pairs that one repeat edits, ascending; a larger rate holds a smaller one's."""
    order = np.random.default_rng([seed, 22, repeat]).permutation(rows)
    return np.sort(order[: round(rate * pairs)])


def topics(pairs: Sequence[Pair]) -> list[Topic]:
    """Two topics of the validity experiments as values of one metadata key: what is about both has the first."""
    found: list[Topic] = []
    left = np.ones(len(pairs), np.bool_)
    for name in CHOSEN_TOPICS:
        pattern = re.compile(rf"\b(?:{TOPICS[name]})\b", re.IGNORECASE)
        about = left & np.array([bool(pattern.search(prompt_text(pair))) for pair in pairs])
        found.append(Topic(name, about))
        left &= ~about
    return found


def inside(topic: Topic, seed: int) -> Ints:
    """The pairs of a topic that are edited, ascending."""
    rows = np.flatnonzero(topic.about)
    return np.sort(np.random.default_rng([seed, 23]).permutation(rows)[: round(INSIDE * len(rows))])


def written(name: str, pairs: Sequence[Pair], rows: Ints, subject: Subject, seed: int) -> Written:
    """The chosen responses at `rows` with an edit."""
    say = functools.partial(print, f"{name}:", file=sys.stderr, flush=True)
    return write(pairs, rows, lambda text: edited(name, text, seed), subject, say)
