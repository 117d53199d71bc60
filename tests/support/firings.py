"""Texts with firings that a test dictates, and the smallest endpoint that speaks the OpenAI chat API over real sockets."""

from collections.abc import Callable, Sequence

import numpy as np
from assay_server.labelling.firings import FiringsBuilder, TokenFirings

Rule = Callable[[Sequence[str], int], float]
_VOCABULARY: dict[str, int] = {}  # a word has one id wherever it occurs


def texts_with(rules: Sequence[Rule], texts: Sequence[str]) -> TokenFirings:
    """Firings of one feature a rule: a rule says from a text's words and a position how strongly its feature fires there."""
    builder = FiringsBuilder(range(len(rules)))
    for text in texts:
        words = [f" {word}" for word in text.split()]
        ids = [_VOCABULARY.setdefault(word, len(_VOCABULARY)) for word in words]
        acts = np.array([[rule(words, at) for at in range(len(words))] for rule in rules], dtype=np.float32)
        builder.add(ids, words, acts.reshape(len(rules), len(words)))
    return builder.build()


def on(word: str, value: float = 1.0) -> Rule:
    """Fires on a word."""
    return lambda words, at: value if words[at] == f" {word}" else 0.0


def after(word: str) -> Rule:
    """Fires on whatever follows a word."""
    return lambda words, at: 1.0 if at and words[at - 1] == f" {word}" else 0.0


def sentences(count: int, *, seed: int, vocabulary: Sequence[str], length: int = 12) -> list[str]:
    """Random sentences."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(vocabulary, length)) for _ in range(count)]
