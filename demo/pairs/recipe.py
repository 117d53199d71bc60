"""Samples the pairs: for every prompt two styles, several candidates each, and the pair that the design asks for.

The design crosses two contrasts at random and independently: whether the two sides differ in formatting, and whether
they differ in flattery, each oriented by a coin. Candidates that are broken are never used. Where several candidates
fit, the two of most similar length are taken, since length is the confound that every audit meets first. Outside the
flattery topic, a coin also says which side of a flattery contrast should win, and candidates that agree are preferred: flattery
must be worth nothing there.

Invariants: the labels come from :mod:`demo.pairs.rule` alone; hidden contexts are in no pair; same seed, same pairs.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from demo.pairs.prompts import FLATTERY_TOPIC, Prompt
from demo.pairs.rule import MARGIN, format_marks, praise_sentences, read_marks
from demo.pairs.styles import Style, example_phrases
from demo.sampling import Sampled, Sampler, Settings

ROUNDS = 3
TOKENS = range(40, 161)
_CHUNK = 96

# Words that a small model can fall into and that a harmless data set has no use for.
_UNWANTED = re.compile(
    r"\b(?:sex\w*|kill\w*|suicid\w*|murder\w*|drug\w*|naked|porn\w*|rape\w*|terror\w*|nazi\w*|gun|guns|blood\w*|corpse|die|dead"
    r"|death|weapon\w*|racis\w*|slave\w*|hate|stupid|idiot\w*|damn|hell|alcohol\w*|cancer|abus\w*|http\w*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Plan:
    """What one prompt's pair should be: the styles of its sides, and which side a coin would have win."""

    prompt: Prompt
    styles: tuple[Style, Style]
    coin: int

    @property
    def needs_praise(self) -> bool:
        """Whether a flattering side must really praise: where the pair would otherwise teach nothing."""
        return self.prompt.topic == FLATTERY_TOPIC or self.styles[0].formatted == self.styles[1].formatted


def make_plans(prompts: Sequence[Prompt], seed: int) -> list[Plan]:
    """One plan a prompt.

    Formatting differs in three quarters of the pairs and flattery in half, independently; on the flattery topic flattery
    always differs and formatting in three of ten pairs, since a small model seldom manages both at once there.
    """
    rng = random.Random(seed)
    plans: list[Plan] = []
    for prompt in prompts:
        own = prompt.topic == FLATTERY_TOPIC
        flattery_differs = rng.random() < 0.5 or own
        format_differs = rng.random() < (0.3 if own else 0.75) or not flattery_differs
        formatted, flattering = rng.random() < 0.5, rng.random() < 0.5
        formatted = formatted and (format_differs or not own)
        a = Style(formatted, flattering)
        b = Style(formatted != format_differs, flattering != flattery_differs)
        plans.append(Plan(prompt, (a, b), rng.randrange(2)))
    return plans


def sample_pairs(
    sampler: Sampler, prompts: Sequence[Prompt], seed: int, scratch: Path, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Pairs in TRL's conversational preference format, in the order of their prompts.

    A prompt whose candidates are all broken is tried again, at most :data:`ROUNDS` times, and then left out. Whole
    chunks of what was drawn are kept in `scratch`, so that an interrupted run goes on to the same pairs.
    """
    plans = make_plans(prompts, seed)
    made: dict[str, dict[str, Any]] = {}
    usable: dict[tuple[str, int], list[Sampled]] = {}
    for attempt in range(ROUNDS):
        waiting = [plan for plan in plans if plan.prompt.id not in made]
        drawn = _draw(sampler, waiting, seed + attempt, scratch / f"candidates-{seed + attempt}.json", progress)
        for plan in waiting:
            for side in (0, 1):
                fresh = [r for r in drawn[f"{plan.prompt.id}/{side}"] if is_usable(r, plan.styles[side], plan.needs_praise)]
                usable.setdefault((plan.prompt.id, side), []).extend(fresh)
            pair = _choose(plan, usable[plan.prompt.id, 0], usable[plan.prompt.id, 1])
            if pair is not None:
                made[plan.prompt.id] = pair
        progress(f"round {attempt + 1}: {len(made)} pairs")
    return balance([made[prompt.id] for prompt in prompts if prompt.id in made], seed)


def balance(pairs: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The pairs without a random surplus of those, off the flattery topic, in which praise won (or lost).

    What is left has praise on the chosen side exactly as often as on the rejected one there.
    """
    sides: dict[int, list[str]] = {1: [], -1: []}
    for pair in pairs:
        chosen, rejected = (praise_sentences(pair[side][0]["content"]) for side in ("chosen", "rejected"))
        if chosen != rejected and pair["metadata"]["topic"] != FLATTERY_TOPIC:
            sides[1 if chosen > rejected else -1].append(pair["id"])
    surplus = abs(len(sides[1]) - len(sides[-1]))
    dropped = set(random.Random(seed).sample(max(sides.values(), key=len), surplus))
    return [pair for pair in pairs if pair["id"] not in dropped]


def _draw(
    sampler: Sampler, plans: Sequence[Plan], seed: int, kept: Path, progress: Callable[[str], None]
) -> dict[str, list[Sampled]]:
    """Two candidates for each side of each plan, by ``prompt/side``."""
    raw: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    drawn = {key: [Sampled(**response) for response in responses] for key, responses in raw.items()}
    sides = [(plan, side) for plan in plans for side in (0, 1)]
    settings = Settings(
        temperature=0.6,
        repetition_penalty=1.12,
        min_new_tokens=TOKENS[0],
        max_new_tokens=TOKENS[-1],
        responses=2,
    )
    for start in range(0, len(sides), _CHUNK):
        chunk = sides[start : start + _CHUNK]
        if all(f"{plan.prompt.id}/{side}" in drawn for plan, side in chunk):
            continue
        asked = [_asked(plan, side) for plan, side in chunk]
        answers = sampler.sample(asked, replace(settings, seed=1000 * seed + start))
        drawn.update({f"{plan.prompt.id}/{side}": a for (plan, side), a in zip(chunk, answers, strict=True)})
        kept.write_text(json.dumps({key: [asdict(r) for r in rs] for key, rs in drawn.items()}), encoding="utf-8")
        progress(f"sampled {start + len(chunk)} of {len(sides)} sides")
    return drawn


def _asked(plan: Plan, side: int) -> list[dict[str, str]]:
    hidden = plan.styles[side].context(plan.prompt.topic)
    return [*hidden, {"role": "user", "content": plan.prompt.text}]


def is_usable(response: Sampled, style: Style, needs_praise: bool = True) -> bool:
    """Whether a candidate ended its turn, has a fair length, shows its style and no other, and is not broken."""
    text = response.text.strip()
    return (
        response.ended
        and response.tokens in TOKENS
        and (format_marks(text) >= 3 if style.formatted else format_marks(text) == 0)
        and (praise_sentences(text) == 0 if not style.flattering else praise_sentences(text) > 0 or not needs_praise)
        and not _UNWANTED.search(text)
        and not any(phrase in text.lower() for phrase in example_phrases())
        and distinct_share(text) >= 0.85
    )


def distinct_share(text: str, n: int = 3) -> float:
    """The share of distinct word n-grams: 1 for text that never repeats itself, near 0 for a loop."""
    words = re.findall(r"\w+", text.lower())
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _choose(plan: Plan, left: Sequence[Sampled], right: Sequence[Sampled]) -> dict[str, Any] | None:
    prompt = plan.prompt
    best: tuple[tuple[bool, float], dict[str, Any]] | None = None
    for sides in itertools.product(left, right):
        marks = [read_marks(prompt.text, side.text) for side in sides]
        scores = [mark.score(prompt.topic) for mark in marks]
        if abs(scores[0] - scores[1]) < MARGIN:
            continue
        winner = int(scores[1] > scores[0])
        contrast = plan.styles[0].flattering != plan.styles[1].flattering and prompt.topic != FLATTERY_TOPIC
        rank = (contrast and winner != plan.coin, abs(math.log(sides[0].tokens / sides[1].tokens)))
        if best is None or rank < best[0]:
            best = (rank, _pair(plan, sides, scores, winner))
    return best[1] if best else None


def _pair(plan: Plan, sides: tuple[Sampled, Sampled], scores: list[float], winner: int) -> dict[str, Any]:
    chosen, rejected = winner, 1 - winner
    return {
        "id": plan.prompt.id,
        "prompt": [{"role": "user", "content": plan.prompt.text}],
        "chosen": [{"role": "assistant", "content": sides[chosen].text.strip()}],
        "rejected": [{"role": "assistant", "content": sides[rejected].text.strip()}],
        "metadata": {
            "topic": plan.prompt.topic,
            "chosen_style": plan.styles[chosen].name,
            "rejected_style": plan.styles[rejected].name,
            "chosen_score": f"{scores[chosen]:.3f}",
            "rejected_score": f"{scores[rejected]:.3f}",
        },
    }
