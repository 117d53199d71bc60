"""Texts for synthetic pairs: words by Zipf's law, sentences, paragraphs, some formatting, all written by code from a seed.

The commonest words are English function words, the rest are syllables. A block of features that a response holds brings its own
words; a few signs of style stand in some responses, in the chosen ones a little more often.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from assay_server.audit.matrices import Floats, Ints
from assay_server.subject.types import Message, Pair, SpanName

from benchmarks.synthetic import CLUSTERS, Drawn

WORDS = 30_000
WORDS_A_TOKEN = 0.75
BLOCK_WORDS, FIRST_OF_BLOCKS = 3, 400  # words of a block, and the rank of the first of them
SENTENCE = 14  # words of one on average
STYLED = (0.35, 0.25)  # share of chosen and rejected responses that are formatted
_COMMON = (
    "the of and to a in is it you that for on with as are this be or can have not at from by an if your they will which one all "
    "there more when some other what so use make about each then many them like into time has two how most people first also "
    "after over such only new these work used way may should well where because good even through very just while often need"
)
_ENDS = (". ", ".\n\n", "! ", "? ", ".\n\n## ", ".\n- ")
_PLAIN, _RICH = (0.74, 0.22, 0.02, 0.02, 0.0, 0.0), (0.45, 0.2, 0.03, 0.02, 0.05, 0.25)
_OPENINGS = ("", "Sure! ", "Thank you for asking. ", "I'm sorry, but ", "Great question! ", "I think that ", "Perhaps ")
_CLOSINGS = ("", "\n\nI hope this helps!", "\n\nWould you like to know more?", " \U0001f642", "\n\n```\nx = 1\n```\n")


def pairs_of(drawn: Drawn, seed: int) -> list[Pair]:
    """The pairs of a shard with their texts; equal prompt ids are one prompt."""
    draws = np.random.default_rng([seed, 1, int(drawn.rows[0])])
    prompts = _texts(drawn, SpanName.PROMPT, draws, 0.0)
    chosen = _texts(drawn, SpanName.CHOSEN, draws, STYLED[0])
    rejected = _texts(drawn, SpanName.REJECTED, draws, STYLED[1])
    first = drawn.rows[0]
    known = zip(*(column.tolist() for column in (drawn.rows, drawn.prompts, drawn.topic)), strict=True)
    return [
        Pair(
            (Message("user", f"{prompts[prompt - first]} ({prompt})"),),
            chosen[place],
            rejected[place],
            f"synthetic-{row}",
            {"topic": f"topic {topic}"},
        )
        for place, (row, prompt, topic) in enumerate(known)
    ]


@lru_cache(maxsize=1)
def _spelled() -> tuple[np.ndarray, Floats]:
    """Every word plain, capitalised and bold, [3 WORDS]; and cumulative chances of the plain ones."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in ("a", "e", "i", "o", "u", "ai")]
    words = _COMMON.split()
    for rank in range(len(words), WORDS):
        rest, word = rank, ""
        while rest or len(word) < 3:
            rest, digit = divmod(rest, len(syllables))
            word += syllables[digit]
        words.append(word + "n")
    chance = 1.0 / (np.arange(WORDS) + 3.7)
    forms = [*words, *(word.capitalize() for word in words), *(f"**{word}**" for word in words)]
    return np.array(forms, object), np.cumsum(chance) / chance.sum()


def _texts(drawn: Drawn, name: SpanName, draws: np.random.Generator, styled: float) -> list[str]:
    span, (spelled, chances) = drawn.spans[name], _spelled()
    pairs = len(span.tokens)
    sizes = np.maximum((span.tokens * WORDS_A_TOKEN).astype(np.int64), 8)
    ends = np.cumsum(sizes)
    word = np.minimum(np.searchsorted(chances, draws.random(int(ends[-1]))), WORDS - 1)
    _tell_blocks(word, ends - sizes, sizes, span.blocks, draws)
    rich = np.repeat(draws.random(pairs) < styled, sizes)
    closed = draws.random(len(word)) < 1 / SENTENCE
    closed[ends - 1] = True
    kind = np.where(rich, *(np.searchsorted(np.cumsum(share), draws.random(len(word)) * 0.999) for share in (_RICH, _PLAIN)))
    opens = np.concatenate([[True], closed[:-1]])
    bold = rich & ~opens & (draws.random(len(word)) < 0.02)
    between = np.where(closed, 1 + kind, 0)
    between[ends - 1] = 1 + len(_ENDS)
    pieces = np.empty(2 * len(word), object)
    pieces[::2] = spelled[word + WORDS * opens + 2 * WORDS * bold]
    pieces[1::2] = np.array([" ", *_ENDS, "."], object)[between]
    flat = pieces.tolist()
    if name is SpanName.PROMPT:
        return ["".join(flat[2 * start : 2 * stop]) for start, stop in zip((ends - sizes).tolist(), ends.tolist(), strict=True)]
    often = 0.2 + 0.4 * styled
    opening = np.where(draws.random(pairs) < often, draws.integers(0, len(_OPENINGS), pairs), 0)
    closing = np.where(draws.random(pairs) < often, draws.integers(0, len(_CLOSINGS), pairs), 0)
    return [
        _OPENINGS[first] + "".join(flat[2 * start : 2 * stop]) + _CLOSINGS[last]
        for start, stop, first, last in zip(*(x.tolist() for x in (ends - sizes, ends, opening, closing)), strict=True)
    ]


def _tell_blocks(word: Ints, starts: Ints, sizes: Ints, blocks: Ints, draws: np.random.Generator) -> None:
    """Put the words of most held blocks somewhere into their texts."""
    own = FIRST_OF_BLOCKS + blocks[:, :, None] + CLUSTERS * np.arange(BLOCK_WORDS)  # [pairs, blocks, words]
    place = starts[:, None, None] + (draws.random(own.shape) * sizes[:, None, None]).astype(np.int64)
    told = draws.random(own.shape) < 0.6
    word[place[told]] = own[told]
