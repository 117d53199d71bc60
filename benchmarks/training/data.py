"""The pairs that the training experiments share: short, real, split by prompt, with three concepts planted.

Everything follows from the file of pairs and a seed. Texts stay in memory and in the scratch folder; result files hold counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import assay
import numpy as np

from benchmarks.common import MODEL, client_pairs
from benchmarks.validity.edits import Half, edited

SYSTEM = "Be brief."  # in the place of the template's default, which would be a third of every prompt
PLANTED = ("bold", "emoji", "refusal opening")


@dataclass(frozen=True)
class Sizes:
    """How much of everything; lengths in tokens."""

    train: int = 128  # pairs
    held_out: int = 96  # pairs that no concept is planted in: preference accuracy, perplexity
    control: int = 48  # of them, planted like the training pairs: whether the policy learned what it was taught
    probes: int = 24  # of them, for each planted concept: the same text with it and without
    prompts: int = 160  # to roll out on
    examples: int = 60  # responses that concepts are made from, edited and as they are
    share: float = 0.30  # of the training pairs that hold each planted concept; no pair holds two
    prompt_tokens: int = 32
    response_tokens: int = 48


@dataclass(frozen=True, eq=False)
class Material:
    """Pairs by use; no prompt is in two of them."""

    train: list[assay.Pair]
    held_out: list[assay.Pair]
    prompts: list[tuple[assay.Message, ...]]
    examples: list[assay.Pair]


def material(path: str, sizes: Sizes, seed: int, model: Path = MODEL) -> Material:
    """Single-turn pairs of the file: short ones to train and to hold out, other prompts to roll out on, longer ones for examples.

    Args:
        model: whose tokenizer counts.

    Raises:
        ValueError: the file holds too few short pairs.
    """
    count = _counter(model)
    single = [pair for pair in client_pairs(path, 1_000_000) if len(pair.prompt) == 1 and not isinstance(pair.prompt, str)]
    unique = list({pair.prompt[0].content: pair for pair in single}.values())
    order = np.random.default_rng([seed, 21]).permutation(len(unique))
    drawn = [_brief(unique[at], f"row-{at}") for at in order]
    asked = {pair.id: count(pair.prompt[-1].content) for pair in drawn}
    short = [pair for pair in drawn if asked[pair.id] <= sizes.prompt_tokens]
    fit = [pair for pair in short if all(4 <= count(text) <= sizes.response_tokens for text in (pair.chosen, pair.rejected))]
    train, held_out = fit[: sizes.train], fit[sizes.train : sizes.train + sizes.held_out]
    used = {pair.id for pair in (*train, *held_out)}
    rest = [pair for pair in short if pair.id not in used]
    prompts, spare = rest[: sizes.prompts], rest[sizes.prompts :]
    others = [pair for pair in (*spare, *drawn) if pair.id not in used and pair not in prompts]
    examples = list({pair.id: pair for pair in others}.values())[: sizes.examples]
    if (len(train), len(held_out), len(prompts), len(examples)) < (sizes.train, sizes.held_out, sizes.prompts, 20):
        raise ValueError(f"{path} holds {len(fit)} short single-turn pairs and {len(rest)} other prompts: too few for {sizes}")
    return Material(train, held_out, [pair.prompt for pair in prompts], examples)


def plant(pairs: Sequence[assay.Pair], share: float, seed: int) -> tuple[list[assay.Pair], dict[str, list[int]]]:
    """The pairs with each concept written into the chosen response of `share` of them, and where; no pair holds two."""
    order = np.random.default_rng([seed, 22]).permutation(len(pairs))
    size = int(share * len(pairs))
    where = {name: sorted(order[at * size : (at + 1) * size].tolist()) for at, name in enumerate(PLANTED)}
    written = list(pairs)
    for name, rows in where.items():
        for row in rows:
            chosen = edited(name, pairs[row].chosen, Half.PLANTED, seed)
            written[row] = replace(pairs[row], chosen=chosen, id=f"{pairs[row].id}-{name}")
    return written, where


def examples(pairs: Sequence[assay.Pair], name: str, seed: int, *, counter: bool = True) -> assay.Examples:
    """What a person would give to say which concept is meant: other responses, with other phrases, edited and as they are.

    Args:
        counter: add counterexamples to the negatives: the same responses with each of the *other* planted concepts. Without
            them, what tells bold from plain text may as well tell any decoration from plain text.
    """
    others = [other for other in PLANTED if other != name] if counter else []
    plain = [assay.PromptedResponse(pair.prompt, pair.chosen) for pair in pairs]
    return assay.Examples(_with(pairs, name, seed), [*plain, *(one for other in others for one in _with(pairs, other, seed))])


def _with(pairs: Sequence[assay.Pair], name: str, seed: int) -> list[assay.PromptedResponse]:
    return [assay.PromptedResponse(pair.prompt, edited(name, pair.chosen, Half.REFERENCE, seed)) for pair in pairs]


def digest(value: Any) -> str:
    """Of anything JSON holds, twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def pairs_digest(pairs: Sequence[assay.Pair]) -> str:
    """Of pairs, in their order."""
    return digest([[[turn.content for turn in pair.prompt], pair.chosen, pair.rejected] for pair in pairs])


def _brief(pair: assay.Pair, id: str) -> assay.Pair:
    return assay.Pair((assay.Message("system", SYSTEM), *pair.prompt), pair.chosen.strip(), pair.rejected.strip(), id=id)


@cache
def _tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(path), local_files_only=True)


def _counter(model: Path) -> Any:
    return lambda text: len(_tokenizer(model)(text, add_special_tokens=False)["input_ids"])
