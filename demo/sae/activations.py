"""Reads conversations with the demo model cut at the SAE's hook, token by token, and keeps what was read on disk.

Invariants:

- Every conversation goes through the tokenizer's chat template; a token belongs to a span only where it lies wholly
  inside a message's text, so template and special tokens belong to none (METHOD.md, section 1).
- Position 0 is never kept: its residual norm is about 150 times that of any other token (METHOD.md, section 6).
- The model stops at the hook: blocks after it are not even loaded into the cut model, and no logits are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.sae.corpus import Conversation

HOOK = "blocks.14.hook_resid_post"
BLOCKS = 15

TEMPLATE, PROMPT, RESPONSE = 0, 1, 2


@dataclass(frozen=True)
class Reading:
    """What was read of many conversations: one row a token, in conversation order.

    `acts` [tokens, d_in] bfloat16 or float32; `ids` [tokens] int32 token ids; `spans` [tokens] uint8 (TEMPLATE, PROMPT or
    RESPONSE); `rows` [tokens] int32, the conversation's index.
    """

    acts: Tensor
    ids: Tensor
    spans: Tensor
    rows: Tensor

    def save(self, path: Path) -> None:
        """Write as safetensors, whole or not at all."""
        partial = path.with_suffix(".partial")
        save_file({"acts": self.acts, "ids": self.ids, "spans": self.spans, "rows": self.rows}, partial)
        partial.rename(path)

    @classmethod
    def load(cls, path: Path) -> Reading:
        """Read what :meth:`save` wrote."""
        return cls(**load_file(path))

    def where(self, mask: Tensor) -> Reading:
        """The tokens of a boolean mask [tokens]."""
        return Reading(self.acts[mask], self.ids[mask], self.spans[mask], self.rows[mask])


@dataclass(frozen=True)
class Tokens:
    """One conversation as token ids, each with its span; `prompt_key` is all that precedes the response, if there is one."""

    ids: list[int]
    spans: list[int]
    prompt_key: str


class Reader:
    """The demo model cut at the hook, with its tokenizer."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval().model
        model.layers = model.layers[:BLOCKS]
        model.norm = nn.Identity()
        self.model = model

    def tokens(self, conversation: Conversation) -> Tokens:
        """Token ids and spans; the final turn is the response span where the assistant speaks it."""
        messages = conversation.messages
        text: str = self.tokenizer.apply_chat_template(messages, tokenize=False)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        marks: list[tuple[int, int, int]] = []
        cursor = 0
        for i, message in enumerate(messages):
            header = f"<|im_start|>{message['role']}\n"
            start = text.index(header + message["content"] + "<|im_end|>", cursor) + len(header)
            cursor = start + len(message["content"])
            response = i == len(messages) - 1 and message["role"] == "assistant"
            marks.append((start, cursor, RESPONSE if response else PROMPT))
        spans = [_span_of(a, b, marks) for a, b in encoded["offset_mapping"]]
        answered = messages[-1]["role"] == "assistant"
        return Tokens(encoded["input_ids"], spans, text[: marks[-1][0]] if answered else text)

    @torch.inference_mode()
    def read(
        self,
        conversations: Sequence[Conversation],
        *,
        limit: int = 1024,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Reading:
        """Residuals of every token but the first, conversation by conversation.

        Conversations over `limit` tokens are cut on the left but for their first token, so that the final turn stays.
        A prompt that two conversations share is kept once, and the template's default system turn once in 50
        conversations: repeated tokens would otherwise outvote the text.
        """
        texts = [_cut(self.tokens(conversation), limit) for conversation in conversations]
        keep = [_kept(tokens, first) for tokens, first in zip(texts, _first_seen(texts), strict=True)]
        parts: dict[int, Tensor] = {}
        for batch in _batches([len(t.ids) for t in texts]):
            hidden = self._forward([texts[i].ids for i in batch])
            for i, h in zip(batch, hidden, strict=True):
                parts[i] = h[: len(texts[i].ids)][keep[i]].clone()
            progress(len(parts), len(texts))
        order = range(len(texts))
        return Reading(
            acts=torch.cat([parts[i] for i in order]),
            ids=torch.cat([torch.tensor(texts[i].ids, dtype=torch.int32)[keep[i]] for i in order]),
            spans=torch.cat([torch.tensor(texts[i].spans, dtype=torch.uint8)[keep[i]] for i in order]),
            rows=torch.cat([torch.full((int(keep[i].sum()),), i, dtype=torch.int32) for i in order]),
        )

    def _forward(self, batch: list[list[int]]) -> Tensor:
        longest = max(map(len, batch))
        # Right padding under causal attention never reaches a real token, so no mask is needed.
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
        return self.model(input_ids=ids, use_cache=False).last_hidden_state


def _span_of(start: int, end: int, marks: list[tuple[int, int, int]]) -> int:
    return next((kind for a, b, kind in marks if a <= start < end <= b), TEMPLATE)


def _cut(tokens: Tokens, limit: int) -> Tokens:
    if len(tokens.ids) <= limit:
        return tokens
    tail = limit - 1
    return Tokens(tokens.ids[:1] + tokens.ids[-tail:], tokens.spans[:1] + tokens.spans[-tail:], tokens.prompt_key)


def _first_seen(texts: Sequence[Tokens]) -> list[bool]:
    seen: set[str] = set()
    first: list[bool] = []
    for tokens in texts:
        first.append(tokens.prompt_key not in seen)
        seen.add(tokens.prompt_key)
    return first


def _kept(tokens: Tokens, prompt_is_new: bool) -> Tensor:
    spans = torch.tensor(tokens.spans)
    keep = torch.ones(len(spans), dtype=torch.bool)
    keep[0] = False
    said = (spans != TEMPLATE).nonzero().flatten()
    opening = int(said[0]) if len(said) else len(spans)
    if sum(tokens.ids) % 50:
        keep[: max(1, opening - 3)] = False
    if not prompt_is_new:
        keep &= spans == RESPONSE
    return keep


def _batches(lengths: list[int], budget: int = 4096) -> Iterator[list[int]]:
    """Indices sorted by length, in batches of at most `budget` padded tokens."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[i] > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
