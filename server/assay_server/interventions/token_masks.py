"""Which response tokens a token filter takes out of the loss (METHOD.md §4, token filter: unit word, aggregated by max)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay_server.interventions.types import MaskUnit

Ints = NDArray[np.int64]
_WORD = re.compile(r"\S+")
MASK_PERCENTILE = 90.0


@dataclass(frozen=True, eq=False)
class TokenMask:
    """Masked tokens of one response: places among its tokens, ascending, and the characters each covers; int64 [masked]."""

    tokens: Ints
    starts: Ints
    ends: Ints
    of: int  # tokens of the response


def mask_tokens(
    response: str, starts: ArrayLike, ends: ArrayLike, scores: ArrayLike, threshold: float, unit: MaskUnit
) -> TokenMask:
    """The tokens (or all tokens of the words) whose score reaches the threshold.

    A word is a run of characters without white space; its score is the largest of its tokens'. A token belongs to the word that
    its first character that is no white space lies in; a token of white space alone is a unit of its own.

    Args:
        response: the text.
        starts: offset of each token's first character, [tokens], code points of ``response``.
        ends: offset past its last, [tokens].
        scores: the concept's score on each, [tokens].
        threshold: masked from this score on.
        unit: what is masked at once.

    Raises:
        ValueError: arrays of different lengths, or a threshold that is not finite.
    """
    first, last, values = np.asarray(starts, np.int64), np.asarray(ends, np.int64), np.asarray(scores, np.float64)
    if not first.shape == last.shape == values.shape or first.ndim != 1:
        raise ValueError(f"one start, end and score a token, got {first.shape}, {last.shape} and {values.shape}")
    if not np.isfinite(threshold):
        raise ValueError(f"threshold must be finite, got {threshold}")
    hit = values >= threshold
    if unit is MaskUnit.WORD and len(values):
        words = token_words(response, first, last)
        best = np.full(int(words.max()) + 1, -np.inf)
        np.maximum.at(best, words, values)
        hit = best[words] >= threshold
    tokens = np.flatnonzero(hit).astype(np.int64)
    return TokenMask(tokens, first[tokens], last[tokens], len(values))


def default_threshold(largest: ArrayLike, *, activations: bool) -> float:
    """The score that a tenth of the responses reach on some token: the 90th percentile of responses' largest token scores.

    Args:
        largest: of each response, [responses].
        activations: whether scores are activations, of which 0 says nothing: the threshold is then above 0, so that tokens on
            which nothing fires are never masked, however rarely the concept does.
    """
    values = np.asarray(largest, np.float64)
    if activations:
        firing = values[values > 0]
        if not len(firing):
            return float(np.finfo(np.float64).tiny)
        return max(float(np.percentile(values, MASK_PERCENTILE)), float(firing.min()))
    return float(np.percentile(values, MASK_PERCENTILE)) if len(values) else 0.0


def token_words(response: str, starts: Ints, ends: Ints) -> Ints:
    """The unit that each token belongs to, [tokens]: equal numbers are one word."""
    spans = [match.span() for match in _WORD.finditer(response)]
    begins = np.array([begin for begin, _ in spans], np.int64)
    words = np.zeros(len(starts), np.int64)
    alone = len(spans)  # tokens of white space get numbers of their own, after the words
    for token, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        piece = response[start:end]
        lead = len(piece) - len(piece.lstrip())
        if lead == len(piece):
            words[token], alone = alone, alone + 1
        else:
            words[token] = int(np.searchsorted(begins, start + lead, "right")) - 1
    return words
