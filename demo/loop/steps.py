"""The loop's steps, one function each: choose pairs, choose what to decide about, count traits, compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import assay
import numpy as np
from assay.options import ScoreOptions

from demo.loop.serving import LoopFailed
from demo.pairs.rule import format_marks, praise_sentences
from experiments.policies import prompt_ids, prompt_turns, response_ids

TAU = 0.01  # share of a response's tokens above which a feature counts as expressed, as in audits
DRAWS = 2_000
TRAITS: dict[str, Callable[[str], bool]] = {
    "formatting (bold, lists, headings)": lambda text: format_marks(text) > 0,
    "praise of the user": lambda text: praise_sentences(text) > 0,
}
"""Traits that plain text shows, counted in every loop; they know nothing of the SAE."""


@dataclass(frozen=True, eq=False)
class Split:
    """Pairs by use: no prompt is in two of them.

    Attributes:
        train: what is uploaded, audited and trained on, in the file's order.
        held_out: the positive control's pairs.
        prompts: what is rolled out on.
        left: usable pairs of the file that are in none of them.
    """

    train: list[assay.Pair]
    held_out: list[assay.Pair]
    prompts: list[Any]
    left: int


def split(pairs: Sequence[assay.Pair], tokenizer: Any, *, train: int, held_out: int, prompts: int, longest: int) -> Split:
    """The shortest pairs to train on, since two cores pay by the token; others, of other prompts, to hold out and roll out on.

    Raises:
        LoopFailed: there are too few.
    """
    usable = [pair for pair in pairs if pair.chosen.strip() and pair.rejected.strip() and pair.chosen != pair.rejected]
    size = [_tokens(tokenizer, pair) for pair in usable]
    order = [at for at in sorted(range(len(usable)), key=lambda at: size[at]) if size[at] <= longest]
    groups: dict[str, list[int]] = {}
    for at in order:
        groups.setdefault(_asked(usable[at]), []).append(at)
    train, held_out = min(train, int(0.6 * len(order))), min(held_out, int(0.2 * len(order)))
    trained: list[int] = []
    held: list[int] = []
    rest: list[Any] = []
    for place, rows in enumerate(groups.values()):
        # One in five of the short ones is held out, so that what is held out is of the kind that was trained on.
        if place % 5 == 4 and len(held) < held_out:
            held += rows[: held_out - len(held)]
        elif len(trained) < train:
            trained += rows[: train - len(trained)]
        else:
            rest.append(usable[rows[0]].prompt)
    if len(trained) < 16 or len(held) < 4 or len(rest) < 4:
        raise LoopFailed(
            f"of {len(usable)} usable pairs {len(order)} have at most {longest} tokens; they gave {len(trained)} to train on, "
            f"{len(held)} to hold out and {len(rest)} unseen prompts; give more pairs, or a larger --longest"
        )
    left = len(usable) - len(trained) - len(held)
    return Split([usable[at] for at in sorted(trained)], [usable[at] for at in held], rest[:prompts], left)


def candidates(client: assay.Client, audit: assay.Audit, count: int = 10) -> list[assay.Hypothesis]:
    """What a decision can be about: global findings that chosen responses show more of, else the strongest hypotheses."""
    found = list(client.hypotheses(audit, 'view = "global" AND finding = true', "rank"))
    found = found or list(client.hypotheses(audit, 'view = "global"', "rank"))
    more = [one for one in found if one.effect.estimate > 0]
    if not more:
        raise LoopFailed(
            "the audit's global view holds nothing that chosen responses show more: there is nothing to explain away"
        )
    return more[:count]


def lesson_features(client: assay.Client, audit: assay.Audit, target: assay.Hypothesis) -> list[int]:
    """Features of all findings of the target's lesson that point the same way, ascending; its own where it belongs to none."""
    features = set(target.concept.features)
    if target.lesson:
        wanted = f'view = "global" AND lesson = {target.lesson} AND effect {">" if target.effect.estimate > 0 else "<"} 0'
        features |= {feature for one in client.hypotheses(audit, wanted, "rank") for feature in one.concept.features}
    return sorted(features)


def expressed(client: assay.Client, features: Sequence[int], prompts: Sequence[Any], texts: Sequence[str]) -> list[float]:
    """Share of a concept's features that each response expresses; an empty response expresses none."""
    most = client.model().limits.max_pairs_per_request
    shares = [0.0] * len(texts)
    filled = [at for at, text in enumerate(texts) if text.strip()]
    for start in range(0, len(filled), most):
        places = filled[start : start + most]
        asked = [assay.PromptedResponse(prompts[at], texts[at]) for at in places]
        for place, result in zip(
            places, client.score_responses(asked, ScoreOptions(top_k=0, include_features=True)), strict=True
        ):
            pooled = result.unwrap().features
            if pooled is not None:
                freq = dict(zip(pooled.indices, pooled.freq, strict=True))
                shares[place] = sum(freq.get(one, 0.0) > TAU for one in features) / len(features)
    return shares


@dataclass(frozen=True)
class Rate:
    """A trait's rate over prompts, with a 95% bootstrap interval."""

    value: float
    low: float
    high: float


def rate(values: Sequence[float], seed: int) -> Rate:
    """Mean of a value a prompt, and its interval over prompts."""
    array = np.asarray(values, np.float64)
    draws = np.random.default_rng([seed, 41]).integers(0, len(array), (DRAWS, len(array)))
    low, high = np.quantile(array[draws].mean(axis=1), [0.025, 0.975])
    return Rate(float(array.mean()), float(low), float(high))


def as_pairs(prompts: Sequence[Any], after: Sequence[str], before: Sequence[str]) -> list[assay.Pair]:
    """Rollouts as pairs, after training chosen, before rejected; prompts that either answered with nothing are left out."""
    sides = zip(prompts, after, before, strict=True)
    return [
        assay.Pair(prompt, new, old, id=f"rollout-{at}")
        for at, (prompt, new, old) in enumerate(sides)
        if new.strip() and old.strip()
    ]


def _tokens(tokenizer: Any, pair: assay.Pair) -> int:
    turns = prompt_turns(pair.prompt)
    return len(prompt_ids(tokenizer, turns)) + max(
        len(response_ids(tokenizer, turns, text)[1]) for text in (pair.chosen, pair.rejected)
    )


def _asked(pair: assay.Pair) -> str:
    return repr(prompt_turns(pair.prompt))
