"""How much of a real preference do findings and descriptors explain, against what needs no audit?

    python -m benchmarks.readability.explained --pairs PAIRS.jsonl.gz [--repeats 3] [--limit 1512]

Blocks of differences, chosen minus rejected, each a logistic model on the same folds of whole prompts, by the audit's own
`assay_server.audit.explained`; what is selected, and the penalty, is chosen inside the training folds. Against the audit's blocks
stand hand-made surface features (`surface.py`) and TF-IDF of words and pairs of words; above them the mean residual, under them a
frozen random dictionary of the SAE's shape and sparsity. The model reads every pair once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from assay_server.audit.auc import both_orders_auc
from assay_server.audit.disparity import firing_difference
from assay_server.audit.explained import (
    DENSE,
    DRAWS,
    FOLDS,
    PENALTIES,
    RANDOM,
    SAE,
    SAE_OVER_STYLE,
    STYLE,
    Block,
    bootstrap,
    held_out,
)
from assay_server.audit.findings import AuditOptions
from assay_server.audit.matrices import Csr, Floats, Ints
from assay_server.jobs.audits.nuisances import descriptor_differences, format_differences
from assay_server.subject.types import Pair

from benchmarks.common import arguments, read_pairs
from benchmarks.readability.controls import Controls, read_controls
from benchmarks.readability.data import Subject, audit_texts, read_data
from benchmarks.readability.surface import surface_differences, surface_names
from experiments.results import Metric, write_result

LEVEL = 0.95
SURFACE, TFIDF, DESCRIPTORS, FINDINGS = "surface features", "TF-IDF, 1-2 grams", "descriptors", "SAE findings"
TEXT_FINDINGS, BOTH = "descriptor and word findings", "SAE findings + descriptors"
STANDARDISED, RANDOM_FINDINGS, RANDOM_BOTH = f"{DENSE}, standardised", "random findings", "random findings + descriptors"
# (what, over what): paired differences of AUC.
DIFFERENCES = (
    (BOTH, TFIDF),
    (BOTH, SURFACE),
    (DESCRIPTORS, SURFACE),
    (BOTH, DESCRIPTORS),
    (BOTH, DENSE),
    (BOTH, RANDOM_BOTH),
    (SAE, TFIDF),
    (SAE_OVER_STYLE, STYLE),
    (SAE, RANDOM),
    (FINDINGS, RANDOM_FINDINGS),
    (SAE_OVER_STYLE, f"{RANDOM} over style"),
)
BARS = DIFFERENCES[:2]


def blocks_of(pairs: Sequence[Pair], found: Controls, tau: float) -> list[Block]:
    """Every block, in the order of the page."""
    chosen, rejected = [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]
    texts = audit_texts(read_data(pairs, Subject.NONE))
    logs = np.log(np.maximum(found.tokens, 1))
    length = (logs[0::2] - logs[1::2])[:, None]
    shows = Csr(descriptor_differences(texts, np.arange(len(pairs))))
    said = Csr(texts.columns().values).astype(np.float64)
    dense = Csr((found.means[0::2] - found.means[1::2]).astype(np.float64))
    trained, random = (_firing(freq, tau) for freq in (found.trained, found.random))
    return [
        Block("length", Csr(length), scaled=True),
        Block(STYLE, Csr(np.hstack([length, format_differences(texts)])), scaled=True),
        Block(SURFACE, Csr(surface_differences(chosen, rejected)), scaled=True),
        Block(TFIDF, tfidf(chosen, rejected)),
        Block(DESCRIPTORS, shows, scaled=True),
        Block(TEXT_FINDINGS, said, selected=True),
        Block(FINDINGS, trained, selected=True),
        Block(BOTH, shows, scaled=True, beside=FINDINGS),
        Block(SAE, trained),
        Block(SAE_OVER_STYLE, trained, over=STYLE),
        Block(f"{SAE} + {DESCRIPTORS}", shows, scaled=True, beside=SAE),
        Block(DENSE, dense),
        Block(STANDARDISED, dense, scaled=True),
        Block(RANDOM, random),
        Block(RANDOM_FINDINGS, random, selected=True),
        Block(RANDOM_BOTH, shows, scaled=True, beside=RANDOM_FINDINGS),
        Block(f"{RANDOM} over style", random, over=STYLE),
    ]


def tfidf(chosen: Sequence[str], rejected: Sequence[str]) -> Csr:
    """Differences of unit rows: words and pairs of words of at least two responses, log counts; no label is used."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit_transform(
        [*chosen, *rejected]
    )
    return Csr(Csr(rows[: len(chosen)]) - Csr(rows[len(chosen) :]))


def _firing(freq: Csr, tau: float) -> Csr:
    return Csr(firing_difference(Csr(freq[0::2]), Csr(freq[1::2]), tau)).astype(np.float64)


def experiment(blocks: Sequence[Block], prompts: Ints, *, repeats: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """AUC, share and differences, means over divisions into folds, with bootstrap intervals over prompts."""
    areas: dict[str, list[float]] = {block.name: [] for block in blocks}
    drawn: dict[str, list[Floats]] = {block.name: [] for block in blocks}
    columns: dict[str, list[int]] = {block.name: [] for block in blocks}
    for repeat in range(repeats):
        margins, fitted = held_out(blocks, prompts, seed=seed + 101 * repeat)
        draws = bootstrap(margins, prompts, seed=seed)  # the same prompts in each repeat
        for name, values in margins.items():
            areas[name].append(both_orders_auc(values))
            drawn[name].append(draws[name])
            columns[name].append(fitted[name])
        say(", ".join(f"{name} {np.mean(area):.3f}" for name, area in areas.items()))
    auc = {name: float(np.mean(values)) for name, values in areas.items()}
    means = {name: np.mean(values, axis=0) for name, values in drawn.items()}
    raw: dict[str, Any] = {"blocks": {}, "differences": {}}
    for name, value in auc.items():
        raw["blocks"][name] = {
            "columns": float(np.mean(columns[name])),
            "auc": value,
            "interval": _interval(means[name]),
            "repeats": areas[name],
            "share": (value - 0.5) / (auc[DENSE] - 0.5),
            "share_interval": _interval((means[name] - 0.5) / (means[DENSE] - 0.5)),
        }
    for what, base in DIFFERENCES:
        entry = {"value": auc[what] - auc[base], "interval": _interval(means[what] - means[base])}
        raw["differences"][f"{what} − {base}"] = entry
    return raw


def _interval(draws: Floats) -> list[float]:
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()


def metrics(raw: dict[str, Any]) -> list[Metric]:
    """The bar is on intervals: what is not sure is not met."""
    found: list[Metric] = []
    for what, base in BARS:
        entry = raw["differences"][f"{what} − {base}"]
        low, high = entry["interval"]
        goal, note = f"more than {base}: the interval lies over 0", f"95% bootstrap over prompts {low:+.3f} to {high:+.3f}"
        found.append(Metric(f"AUC: {what} minus {base}", entry["value"], "AUC", goal, low > 0, note))
    for name, entry in raw["blocks"].items():
        note = "95% bootstrap over prompts {:.3f} to {:.3f}".format(*entry["interval"])
        found.append(Metric(f"AUC: {name}", entry["auc"], "AUC", notes=note))
    return found


def main() -> None:
    """Read, hold out, predict, write the result."""
    args = arguments(str(__doc__), pairs="", repeats=3, limit=1_000_000, seed=0)
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    pairs = read_pairs(args.pairs, args.limit)
    found = read_controls(pairs, args.seed, say)
    prompts = read_data(pairs, Subject.NONE).features.prompts
    began = time.perf_counter()
    blocks = blocks_of(pairs, found, AuditOptions().tau)
    raw = {
        "pairs": len(pairs),
        "prompts": len(np.unique(prompts)),
        "folds": FOLDS,
        "repeats": args.repeats,
        "draws": DRAWS,
        "penalties": list(PENALTIES),
        "surface": len(surface_names()),
        **experiment(blocks, prompts, repeats=args.repeats, seed=args.seed, say=say),
    }
    raw["seconds"] = time.perf_counter() - began
    write_result("readability-explained", metrics(raw), seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
