"""Builds the demo SAE's text file: HH transcripts, web passages, and the responses sampled from the model itself.

Invariants: sampling goes on from the last finished chunk after an interruption, and the finished file depends on the
inputs and the seed only.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from demo.sae import corpus
from demo.sae.corpus import Conversation
from demo.sampling import Sampler, Settings

_CHUNK = 384
_PROMPTS = 5 * _CHUNK


def build_text(
    hh: Path, wheel: Path, model: Path, scratch: Path, seed: int, progress: Callable[[str], None]
) -> list[Conversation]:
    """All conversations of the demo SAE, from `scratch`/text.jsonl where it is finished.

    `hh` is an HH-RLHF file, `wheel` the evals wheel, `model` the demo model's folder. Sampling takes about ten
    minutes on two idle cores.
    """
    finished = scratch / "text.jsonl"
    if not finished.exists():
        transcripts = list(corpus.hh_conversations(hh))
        passages = list(corpus.web_passages(wheel))
        prompts = [*corpus.evals_prompts(wheel), *corpus.web_requests(passages), *corpus.hh_prompts(transcripts)]
        random.Random(seed).shuffle(prompts)
        answered = _answer(prompts[:_PROMPTS], model, scratch, seed, progress)
        corpus.save_conversations(finished, [*transcripts, *answered, *passages])
    return corpus.load_conversations(finished)


def _answer(
    prompts: list[Conversation], model: Path, scratch: Path, seed: int, progress: Callable[[str], None]
) -> list[Conversation]:
    sampler: Sampler | None = None
    answered: list[Conversation] = []
    for start in range(0, len(prompts), _CHUNK):
        part = scratch / f"sampled-{start:05d}.jsonl"
        if not part.exists():
            sampler = sampler or Sampler(model)
            settings = Settings(temperature=0.9, max_new_tokens=96, seed=seed + start)
            chunk = prompts[start : start + _CHUNK]
            responses = sampler.sample([prompt.messages for prompt in chunk], settings)
            corpus.save_conversations(
                part,
                [
                    Conversation(p.source, p.part, [*p.messages, {"role": "assistant", "content": r.text.strip()}])
                    for p, (r,) in zip(chunk, responses, strict=True)
                    if r.text.strip()
                ],
            )
        answered += corpus.load_conversations(part)
        progress(f"sampled responses to {min(start + _CHUNK, len(prompts))} of {len(prompts)} prompts")
    return answered
