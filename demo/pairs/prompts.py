"""The prompts of the sample pairs, written for this project: eight everyday topics, and one where users share their work.

``prompts.json`` beside this file holds them: each topic is a few families, a sentence with one slot and what goes in it.
All are harmless; none was taken from a data set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FLATTERY_TOPIC = "own-writing"


@dataclass(frozen=True)
class Prompt:
    """One user message, its topic, and a stable id (``topic-00``)."""

    id: str
    topic: str
    text: str


def all_prompts() -> list[Prompt]:
    """All 360 prompts of ``prompts.json``, topic by topic, in a fixed order."""
    data: dict[str, Any] = json.loads(Path(__file__).with_name("prompts.json").read_text(encoding="utf-8"))
    prompts: list[Prompt] = []
    for topic, families in data["everyday"].items():
        texts = [sentence.format(slot) for sentence, slots in families.items() for slot in slots]
        prompts += [Prompt(f"{topic}-{i:02d}", topic, text) for i, text in enumerate(texts)]
    asks = data[FLATTERY_TOPIC]["asks"]
    for i, (kind, piece) in enumerate(data[FLATTERY_TOPIC]["pieces"]):
        article = "an" if kind[0] in "aeiou" else "a"
        text = asks[i % len(asks)].format(kind=kind, a_kind=f"{article} {kind}", piece=piece)
        prompts.append(Prompt(f"{FLATTERY_TOPIC}-{i:02d}", FLATTERY_TOPIC, text))
    return prompts
