"""What a policy writes and how likely it finds texts: rollouts, implicit-reward margins, perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import assay
import torch
from assay.pairs import Prompt
from torch.nn.functional import log_softmax


@dataclass(frozen=True)
class Sampling:
    """How rollouts are drawn; `seed` tells independent sets apart."""

    tokens: int = 40  # at most, a response
    temperature: float = 0.8
    top_k: int = 50  # not top_p, whose sort of the vocabulary costs a CPU more than the model does
    batch: int = 96


@torch.inference_mode()
def roll_out(model: Any, tokenizer: Any, prompts: Sequence[Sequence[dict[str, str]]], sampling: Sampling, seed: int) -> list[str]:
    """One response to each prompt (chat turns), in their order.

    Drawn in batches of the prompts' order with the key-value cache; the same seed and batches give the same texts on one machine.
    """
    torch.manual_seed(seed)
    written: list[str] = []
    for start in range(0, len(prompts), sampling.batch):
        ids = [prompt_ids(tokenizer, prompt) for prompt in prompts[start : start + sampling.batch]]
        width = max(map(len, ids))
        padded = torch.tensor([[tokenizer.pad_token_id] * (width - len(one)) + one for one in ids])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids])
        out = model.generate(
            input_ids=padded,
            attention_mask=mask,
            do_sample=True,
            temperature=sampling.temperature,
            top_p=1.0,
            top_k=sampling.top_k,
            max_new_tokens=sampling.tokens,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        written += tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
    return written


@dataclass(frozen=True)
class Readings:
    """Log-probabilities of some pairs' responses, in nats; parallel lists."""

    chosen: list[float]
    rejected: list[float]
    chosen_tokens: list[int]
    rejected_tokens: list[int]

    @property
    def perplexity(self) -> float:
        """Of the chosen responses."""
        return math.exp(-sum(self.chosen) / sum(self.chosen_tokens))


@torch.inference_mode()
def read_pairs(model: Any, tokenizer: Any, pairs: Sequence[assay.Pair], *, reference: bool = False, batch: int = 16) -> Readings:
    """Both responses' log-probabilities under a policy, or with `reference` under what its adapter was put on."""
    texts = [(prompt_turns(pair.prompt), text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    items = [response_ids(tokenizer, *one) for one in texts]
    order = sorted(range(len(items)), key=lambda at: len(items[at][0]) + len(items[at][1]))
    sums = [0.0] * len(items)
    with model.disable_adapter() if reference else nullcontext():
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            for place, value in zip(places, _log_probabilities(model, tokenizer, [items[at] for at in places]), strict=True):
                sums[place] = value
    counts = [len(response) for _, response in items]
    return Readings(sums[0::2], sums[1::2], counts[0::2], counts[1::2])


def margins(policy: Readings, reference: Readings, beta: float) -> list[float]:
    """Implicit rewards of chosen over rejected: beta ((log p+ - ref+) - (log p- - ref-)), one a pair."""
    sides = zip(policy.chosen, reference.chosen, policy.rejected, reference.rejected, strict=True)
    return [beta * ((plus - ref_plus) - (minus - ref_minus)) for plus, ref_plus, minus, ref_minus in sides]


def prompt_turns(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as chat turns; raw text is one turn of the user's."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def prompt_ids(tokenizer: Any, turns: Sequence[dict[str, str]]) -> list[int]:
    """A prompt's tokens, up to where the response begins."""
    return list(tokenizer.apply_chat_template(list(turns), add_generation_prompt=True, return_dict=True)["input_ids"])


def response_ids(tokenizer: Any, turns: Sequence[dict[str, str]], response: str) -> tuple[list[int], list[int]]:
    """Tokens of a prompt and of a response with what the template ends it with, as TRL cuts them."""
    before = prompt_ids(tokenizer, turns)
    answer = {"role": "assistant", "content": response}
    whole = list(tokenizer.apply_chat_template([*turns, answer], return_dict=True)["input_ids"])
    shared = next((at for at, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), min(len(before), len(whole)))
    return whole[:shared], whole[shared:]


def _log_probabilities(model: Any, tokenizer: Any, items: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    width = max(len(prompt) + len(response) for prompt, response in items)
    ids = torch.full((len(items), width), tokenizer.pad_token_id)
    mask = torch.zeros((len(items), width), dtype=torch.long)
    scored = torch.zeros((len(items), width), dtype=torch.bool)
    for at, (prompt, response) in enumerate(items):
        length = len(prompt) + len(response)
        ids[at, :length] = torch.tensor(prompt + response)
        mask[at, :length] = 1
        scored[at, len(prompt) : length] = True
    hidden = base.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    logits = base.get_output_embeddings()(hidden[:, :-1][scored[:, 1:]]).float()
    values = log_softmax(logits, -1).gather(-1, ids[:, 1:][scored[:, 1:]][:, None])[:, 0]
    rows = torch.arange(len(items))[:, None].expand(-1, width)[scored]
    return torch.zeros(len(items)).index_add(0, rows, values).tolist()
