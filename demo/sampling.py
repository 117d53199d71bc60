"""Samples responses from the demo model in batches: the one sampler that the SAE's corpus and the sample pairs share.

Invariants:

- A conversation goes through the tokenizer's own chat template, so a sampled response is what a user would have got.
- Same model, conversations, settings and seed give the same responses on the same machine: batches are formed by length
  and order alone, and one generator draws every token.
- A response that was cut by the token limit says so (`ended` is false); it is never passed off as a whole answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

Message = dict[str, str]
Conversation = list[Message]


@dataclass(frozen=True)
class Sampled:
    """One response: its text, its length in tokens, and whether the model ended its own turn."""

    text: str
    tokens: int
    ended: bool


@dataclass(frozen=True)
class Settings:
    """How to sample: nucleus sampling at a temperature, with a bound on new tokens.

    `repetition_penalty` divides the positive (multiplies the negative) logits of tokens already drawn (CTRL, arXiv
    1909.05858); 1 leaves them alone. The model cannot end its turn before `min_new_tokens`. `responses` are drawn for
    each conversation, which is read once.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    max_new_tokens: int = 160
    responses: int = 1
    batch_size: int = 96
    seed: int = 0


class Sampler:
    """The whole demo model in bfloat16 on the CPU, drawing responses to conversations."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True).eval()
        self.end: int = self.tokenizer.convert_tokens_to_ids("<|im_end|>")

    def sample(
        self,
        conversations: Sequence[Conversation],
        settings: Settings,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> list[list[Sampled]]:
        """`settings.responses` responses per conversation, in the given order; `progress` gets (done, total)."""
        prompts = [self._prompt_ids(conversation) for conversation in conversations]
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        generator = torch.Generator().manual_seed(settings.seed)
        responses: list[list[Sampled]] = [[] for _ in prompts]
        size = max(1, settings.batch_size // settings.responses)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            drawn = self._sample_batch([prompts[i] for i in batch], settings, generator)
            for row, tokens in enumerate(drawn):
                responses[batch[row // settings.responses]].append(self._response(tokens))
            progress(start + len(batch), len(prompts))
        return responses

    def _response(self, tokens: list[int]) -> Sampled:
        ended = bool(tokens) and tokens[-1] == self.end
        kept = tokens[:-1] if ended else tokens
        return Sampled(self.tokenizer.decode(kept, skip_special_tokens=True), len(kept), ended)

    def _prompt_ids(self, conversation: Conversation) -> list[int]:
        text = self.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.inference_mode()
    def _sample_batch(self, prompts: list[list[int]], settings: Settings, generator: torch.Generator) -> list[list[int]]:
        drawn: list[list[int]] = [[] for _ in range(len(prompts) * settings.responses)]
        for rows, tokens in self._decode(prompts, settings, generator):
            for row, token in zip(rows, tokens, strict=True):
                drawn[row].append(token)
        return drawn

    def _decode(
        self, prompts: list[list[int]], settings: Settings, generator: torch.Generator
    ) -> Iterator[tuple[list[int], list[int]]]:
        ids, mask = _left_pad(prompts, self.end)
        cache = DynamicCache()
        logits = self._forward(ids, mask, cache)
        if settings.responses > 1:
            cache.batch_repeat_interleave(settings.responses)
            logits = logits.repeat_interleave(settings.responses, 0)
            mask = mask.repeat_interleave(settings.responses, 0)
        live = list(range(len(logits)))
        seen = torch.zeros_like(logits, dtype=torch.bool)
        for step in range(settings.max_new_tokens):
            if step < settings.min_new_tokens:
                logits[:, self.end] = -torch.inf
            tokens = _nucleus(logits, seen, settings, generator)
            yield live, tokens.tolist()
            seen.scatter_(1, tokens[:, None], True)
            going = (tokens != self.end).nonzero().flatten()
            if not len(going):
                return
            if len(going) < len(live):
                # Finished rows leave the batch at once: the tail of a batch is otherwise mostly padding.
                cache.batch_select_indices(going)
                mask, tokens, seen = mask[going], tokens[going], seen[going]
                live = [live[i] for i in going.tolist()]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=-1)
            logits = self._forward(tokens[:, None], mask, cache)

    def _forward(self, ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]


def _left_pad(prompts: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [rows, longest], padded on the left so that every row ends at its last token."""
    longest = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


def _nucleus(logits: Tensor, seen: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """One token a row [rows] from the smallest set of tokens with probability top_p, at a temperature."""
    if settings.repetition_penalty != 1.0:
        penalty = settings.repetition_penalty
        logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    # The nucleus of a 49k vocabulary lies in its top 256 tokens but for noise; sorting those is 40 times cheaper.
    top, index = logits.topk(256, dim=-1)
    probabilities = torch.softmax(top.float() / settings.temperature, dim=-1)
    before = probabilities.cumsum(-1) - probabilities
    probabilities = probabilities.masked_fill(before >= settings.top_p, 0.0)
    return index.gather(-1, torch.multinomial(probabilities, 1, generator=generator)).squeeze(-1)
