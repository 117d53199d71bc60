"""Which tokens of a tree an edit of the residual stream touches (``EditedSpan``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from assay_server.interventions.types import EditedSpan
from assay_server.subject.logprobs import predecessors
from assay_server.subject.tokenize import TreeTokenizer
from assay_server.subject.types import Message, Pair, PromptedResponse, SpanName, TokenTree, Truncation

Positions = NDArray[np.int32]


def edited_positions(
    tokenizer: TreeTokenizer, item: Pair | PromptedResponse, tree: TokenTree, span: EditedSpan, truncation: Truncation
) -> Positions:
    """Flat positions, int32 ascending; the sequence's first token, which is the residual stream's outlier, is never among them.

    Args:
        tokenizer: what made the tree.
        item: what it was made of.
        tree: as it was made.
        span: which tokens.
        truncation: as it was made.
    """
    if span is EditedSpan.RESPONSE:
        return response_positions(tree)
    first = 1
    if span is EditedSpan.FINAL_TURN_ON and not isinstance(item.prompt, str):
        first = max(1, _final_turn(tokenizer, item.prompt, _response(item)))
        if truncation is Truncation.PROMPT_START:
            first = max(1, first - tree.truncated)
    return np.arange(first, tree.size, dtype=np.int32)


def response_positions(tree: TokenTree) -> Positions:
    """The responses' tokens, and the token that each one's first is predicted from."""
    before = predecessors(tree)
    spans: Sequence[NDArray[np.int32]] = [tree.spans[side] for side in (SpanName.CHOSEN, SpanName.REJECTED) if side in tree.spans]
    starts = np.array([before[span[0]] for span in spans if len(span)], np.int32)
    positions = np.unique(np.concatenate([starts, *spans])).astype(np.int32)
    return positions[positions > 0]


def _final_turn(tokenizer: TreeTokenizer, prompt: Sequence[Message], response: str) -> int:
    """Position of the first token of the last prompt turn's content; 1 where that has none."""
    text = tokenizer.text((*prompt, Message("assistant", response)), Truncation.RESPONSE_END)
    last = len(prompt) - 1
    return next((place for place, token in enumerate(text.tokens) if token.message == last), 1)


def _response(item: Pair | PromptedResponse) -> str:
    return item.chosen if isinstance(item, Pair) else item.response
