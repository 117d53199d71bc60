"""Samples the demo's preference pairs and writes them with their card's figures (``python -m demo.make_pairs``).

Writes ``demo/assets/pairs.jsonl`` and rewrites the generated table of ``demo/assets/PAIRS.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

from demo import ASSETS
from demo.cards import regenerate
from demo.model import ensure_model
from demo.pairs.card import table
from demo.pairs.prompts import all_prompts
from demo.pairs.recipe import sample_pairs
from demo.sampling import Sampler


def main() -> None:
    """Parse the command line, sample, label, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ASSETS / "pairs.jsonl")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "assay-pairs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.scratch.mkdir(parents=True, exist_ok=True)
    pairs = sample_pairs(Sampler(ensure_model(_say)), all_prompts(), args.seed, args.scratch, _say)
    args.out.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
    regenerate(ASSETS / "PAIRS.md", table(pairs))
    _say(f"{len(pairs)} pairs in {args.out}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
