"""Texts to token trees: which tokens the model reads, which are shared, and which belong to a span.

Invariants:
- Both sides of a pair are rendered and tokenised whole, then share their longest common token prefix. Each side is therefore
  exactly the sequence that a trainer would feed, and sharing can never move a token boundary.
- A token belongs to a span when its characters overlap the span's characters. Template and special tokens belong to none.
- The first token of a sequence belongs to none: it is the residual stream's outlier (METHOD.md §6).
- Tokens after the last one that any span needs are not read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from assay_server.errors import ContextOverflow, EmptySpan, InvalidItem, SubjectMismatch
from assay_server.subject.template import ChatTemplate
from assay_server.subject.types import (
    Message,
    Pair,
    Prompt,
    PromptedResponse,
    SpanName,
    TokenInfo,
    TokenTree,
    Truncation,
)

Ids = NDArray[np.int32]


@dataclass(slots=True)
class TokenPath:
    """One tokenised path: ids, and the token positions of the prompt's contents and of the response."""

    ids: Ids
    prompt: Ids
    response: Ids


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """One text for token-level encoding: ids, and what each token covers."""

    ids: Ids
    tokens: tuple[TokenInfo, ...]


class TreeTokenizer:
    """Turns pairs and responses into token trees.

    Args:
        tokenizer: a Hugging Face *fast* tokenizer.
        context_tokens: longest sequence that may be read.
        prepend_bos: put the beginning-of-sequence token before raw text where the tokenizer does not, as the SAE was trained.

    Raises:
        SubjectMismatch: the tokenizer has no fast backend, so characters cannot be told from tokens.
    """

    def __init__(self, tokenizer: Any, *, context_tokens: int, prepend_bos: bool = False) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise SubjectMismatch(
                f"{type(tokenizer).__name__} has no fast backend, which spans need for character offsets. "
                "Convert it: AutoTokenizer.from_pretrained(..., use_fast=True).save_pretrained(folder).",
                reason="SLOW_TOKENIZER",
            )
        self.template = ChatTemplate(tokenizer)
        self.context_tokens = context_tokens
        self._backend = _without_trimming(backend)
        self._bos: int | None = tokenizer.bos_token_id if prepend_bos else None

    def pair(self, pair: Pair, truncation: Truncation = Truncation.REFUSE) -> TokenTree:
        """The tree of a pair: shared prefix as trunk, what differs as two branches.

        Raises:
            EmptySpan: a response has no token of its own.
            ContextOverflow: a side is longer than the context, and truncation was not requested or does not help.
            InvalidItem: the template refuses the conversation.
        """
        sides = [
            self._sequence(pair.prompt, response, field)
            for response, field in ((pair.chosen, "chosen"), (pair.rejected, "rejected"))
        ]
        shared = _common_prefix(sides[0].ids, sides[1].ids)
        dropped = self._truncate(sides, truncation, ("chosen", "rejected"), shared)
        chosen, rejected = sides
        n = _common_prefix(chosen.ids, rejected.ids)
        offset = len(chosen.ids) - n  # the rejected branch follows the chosen one in the flat order
        return TokenTree(
            trunk=chosen.ids[:n],
            branches=(chosen.ids[n:], rejected.ids[n:]),
            spans={
                SpanName.PROMPT: chosen.prompt,
                SpanName.CHOSEN: chosen.response,
                SpanName.REJECTED: np.where(rejected.response < n, rejected.response, rejected.response + offset),
            },
            truncated=dropped,
        )

    def response(self, item: PromptedResponse, truncation: Truncation = Truncation.REFUSE) -> TokenTree:
        """The tree of one response: a trunk without branches. Raises as ``pair``."""
        side = self._sequence(item.prompt, item.response, "response")
        dropped = self._truncate([side], truncation, ("response",), len(side.ids))
        return TokenTree(side.ids, (), {SpanName.PROMPT: side.prompt, SpanName.CHOSEN: side.response}, dropped)

    def text(self, text: Prompt, truncation: Truncation = Truncation.REFUSE) -> TokenizedText:
        """Every token of a conversation or raw text, with the characters that it covers.

        Raises:
            ContextOverflow, InvalidItem: as ``pair``; truncation from the prompt's start is refused, there is no prompt.
        """
        if truncation is Truncation.PROMPT_START:
            raise InvalidItem(
                "PROMPT_START has no meaning for a text without a response; use RESPONSE_END to drop the text's end.",
                field="truncation",
                reason="TRUNCATION_UNSUPPORTED",
            )
        if isinstance(text, str):
            full, contents, lead = text, ((0, len(text)),), (0,)
        else:
            rendered = self.template.render(text)
            full, contents, lead = rendered.text, rendered.contents, rendered.lead
        ids, offsets = self._encode(full, special=isinstance(text, str))
        if len(ids) > self.context_tokens and truncation is Truncation.REFUSE:
            raise self._overflow(len(ids), "text")
        ids, offsets = ids[: self.context_tokens], offsets[: self.context_tokens]
        if len(ids) == 0:
            raise EmptySpan("The text holds no token.", field="text")
        return TokenizedText(ids, _token_infos(full, ids, offsets, contents, lead, self._backend))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens, special ones left out."""
        return self._backend.decode([int(id) for id in ids], skip_special_tokens=True)

    def _sequence(self, prompt: Prompt, response: str, field: str) -> TokenPath:
        if not response:
            raise EmptySpan(f"The {field} response is empty.", field=field, details={"characters": 0})
        if isinstance(prompt, str):
            text, prompts = prompt + response, [(0, len(prompt))]
            answer = (len(prompt), len(text))
        else:
            rendered = self.template.render((*prompt, Message("assistant", response)))
            text, answer = rendered.text, rendered.contents[-1]
            prompts = list(rendered.contents[:-1])
        ids, offsets = self._encode(text, special=isinstance(prompt, str))
        in_response = _overlapping(offsets, answer)
        if len(in_response) == 0:
            raise EmptySpan(
                f"The {field} response holds no token: {len(response)} characters, all of them dropped by the chat template "
                "or merged into the sequence's first token.",
                field=field,
                details={"characters": len(response)},
            )
        in_prompt = np.concatenate([_overlapping(offsets, piece) for piece in prompts]) if prompts else in_response[:0]
        in_prompt = np.unique(in_prompt[in_prompt < in_response[0]])  # one token may touch two contents
        return TokenPath(ids[: in_response[-1] + 1], in_prompt, in_response)

    def _encode(self, text: str, *, special: bool) -> tuple[Ids, NDArray[np.int32]]:
        try:
            encoding = self._backend.encode(text, add_special_tokens=special)
        except (TypeError, UnicodeError) as error:  # what the backend makes of half a surrogate pair, as cut-up JSON holds
            raise InvalidItem("The text is not valid Unicode: it holds a lone surrogate.", reason="INVALID_UNICODE") from error
        ids = np.asarray(encoding.ids, dtype=np.int32)
        offsets = np.asarray(encoding.offsets, dtype=np.int32).reshape(-1, 2)
        if special and self._bos is not None and (len(ids) == 0 or ids[0] != self._bos):
            ids = np.concatenate([np.array([self._bos], np.int32), ids])
            offsets = np.concatenate([np.zeros((1, 2), np.int32), offsets])
        return ids, offsets

    def _truncate(self, sides: list[TokenPath], how: Truncation, fields: tuple[str, ...], shared: int) -> int:
        """Shorten the sides in place; return the tokens dropped, a shared one once."""
        longest = max(len(side.ids) for side in sides)
        excess = longest - self.context_tokens
        if excess <= 0:
            return 0
        if how is Truncation.REFUSE:
            side = next(i for i, side in enumerate(sides) if len(side.ids) == longest)
            raise self._overflow(longest, fields[side])
        if how is Truncation.PROMPT_START:
            return self._drop_prompt_start(sides, excess, fields)
        return self._drop_response_end(sides, fields, shared)

    def _drop_prompt_start(self, sides: list[TokenPath], excess: int, fields: tuple[str, ...]) -> int:
        for side, field in zip(sides, fields, strict=True):
            room = int(side.response[0]) - 1  # the first token of the sequence stays
            if excess > room:
                raise ContextOverflow(
                    f"The {field} response alone, {len(side.response)} tokens, leaves no room to drop {excess} prompt tokens "
                    f"(only {room} precede it) for a context of {self.context_tokens}.",
                    field=field,
                    details={"response_tokens": len(side.response), "context_tokens": self.context_tokens},
                )
        for side in sides:
            side.ids = np.concatenate([side.ids[:1], side.ids[1 + excess :]])
            side.prompt = side.prompt[side.prompt >= 1 + excess] - excess
            side.response = side.response - excess
        return excess

    def _drop_response_end(self, sides: list[TokenPath], fields: tuple[str, ...], shared: int) -> int:
        limit = self.context_tokens
        dropped = sum(max(0, len(side.ids) - max(limit, shared)) for side in sides) + max(0, shared - limit)
        for side, field in zip(sides, fields, strict=True):
            kept = side.response[side.response < limit]
            if len(kept) == 0:
                raise ContextOverflow(
                    f"The prompt alone, {int(side.response[0])} tokens, fills the context of {limit}; dropping the end of the "
                    f"{field} response leaves none of it. Use PROMPT_START, or shorten the prompt.",
                    field=field,
                    details={"prompt_tokens": int(side.response[0]), "context_tokens": limit},
                )
            side.ids, side.response = side.ids[:limit], kept
        return dropped

    def _overflow(self, length: int, field: str) -> ContextOverflow:
        return ContextOverflow(
            f"The sequence has {length} tokens and the context holds {self.context_tokens}. Shorten it, or ask for truncation "
            "(PROMPT_START or RESPONSE_END).",
            field=field,
            details={"sequence_tokens": length, "context_tokens": self.context_tokens},
        )


def _without_trimming(backend: Tokenizer) -> Tokenizer:
    """A private copy that neither pads nor truncates, and whose offsets include the spaces that a token covers."""

    def untrimmed(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: False if key == "trim_offsets" else untrimmed(value) for key, value in node.items()}
        return [untrimmed(value) for value in node] if isinstance(node, list) else node

    specification = json.loads(backend.to_str())
    for part in ("pre_tokenizer", "post_processor", "decoder"):
        specification[part] = untrimmed(specification.get(part))
    copy = Tokenizer.from_str(json.dumps(specification))
    copy.no_padding()
    copy.no_truncation()
    return copy


def _overlapping(offsets: NDArray[np.int32], span: tuple[int, int]) -> Ids:
    """Positions of the tokens whose characters overlap the span, the sequence's first token never; an empty span has none."""
    start, end = span
    if start >= end:
        return np.empty(0, np.int32)
    hit = (offsets[:, 0] < end) & (offsets[:, 1] > start)
    hit[:1] = False
    return np.flatnonzero(hit).astype(np.int32)


def _common_prefix(a: Ids, b: Ids) -> int:
    n = min(len(a), len(b))
    differs = np.flatnonzero(a[:n] != b[:n])
    return int(differs[0]) if len(differs) else n


def _token_infos(
    text: str,
    ids: Ids,
    offsets: NDArray[np.int32],
    contents: Sequence[tuple[int, int]],
    lead: Sequence[int],
    backend: Tokenizer,
) -> tuple[TokenInfo, ...]:
    infos: list[TokenInfo] = []
    message = 0
    for token, (start, end) in zip(ids.tolist(), offsets.tolist(), strict=True):
        while message < len(contents) - 1 and start >= contents[message][1]:
            message += 1
        lo, hi = contents[message]
        if end > start and lo < hi and start < hi and end > lo:
            first, last = max(start, lo), min(end, hi)
            shift = lead[message] - lo
            infos.append(TokenInfo(token, text[start:end], message, first + shift, last + shift))
        else:
            infos.append(TokenInfo(token, backend.id_to_token(token) or "", -1, 0, 0))
    return tuple(infos)
