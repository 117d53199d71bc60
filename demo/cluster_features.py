"""Clusters the demo SAE's features by how they fire together (``python -m demo.cluster_features --hh PATH``).

Writes ``demo/assets/sae/clusters.json.gz``, which a server finds in the SAE's folder. The reference corpus is every response of
the sample pairs and of the HH-RLHF pairs, each one sample, read by the service's own scorer; which of two responses was
preferred plays no part. Of HH nothing is kept but which features fire together (METHOD.md §2, server/assay_server/concepts).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from assay.data import read_pairs
from assay_server.cache import LruCache
from assay_server.concepts.clusters import ClusterOptions, cluster_features
from assay_server.errors import AssayError
from assay_server.jobs.concepts.clusters import to_stored
from assay_server.scorer import Lane, Scored, ScoreOptions, ScorerLike, build_scorer
from assay_server.store.clusters import StoredClusters, save_clusters
from assay_server.subject.subject import Subject, load_subject
from assay_server.subject.types import Message, Pair, SpanName
from scipy import sparse

from demo import ASSETS
from demo.model import ensure_model

_AT_ONCE = 64
_BULK = ScoreOptions(lane=Lane.BULK, patient=True, sealed=True)


def main() -> None:
    """Parse the command line, read, cluster, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hh", type=Path, required=True, help="HH-RLHF pairs, .jsonl or .jsonl.gz")
    parser.add_argument("--pairs", type=Path, default=ASSETS / "pairs.jsonl", help="the sample pairs")
    parser.add_argument("--sae", type=Path, default=ASSETS / "sae")
    parser.add_argument("--out", type=Path, default=ASSETS / "sae" / "clusters.json.gz")
    parser.add_argument(
        "--scratch", type=Path, default=Path(tempfile.gettempdir()) / "assay-sae", help="what was read is kept here"
    )
    # At Leiden's own 1 there are 16 clusters of up to 711 features; at 3 there are 54, in the proportion of [A]'s 814 to 65,536.
    parser.add_argument("--resolution", type=float, default=3.0, help="of Leiden: higher gives more and smaller clusters")
    parser.add_argument("--dtype", default="bfloat16", help="float32 or bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    read = cache(lambda: load_subject(str(ensure_model(print)), str(args.sae), dtype=args.dtype))
    fired = [firings(path, read, args.scratch, args.dtype) for path in (args.pairs, args.hh)]
    joined = sparse.csr_array(sparse.vstack(fired, format="csr"))
    made_from = f"responses of {args.pairs.name} and of HH-RLHF pairs {digest(args.hh)}"
    clusters = cluster(joined, made_from, args.resolution)
    save_clusters(args.out, clusters)
    sizes = [len(entry.features) for entry in clusters.clusters]
    print(
        f"{len(clusters)} clusters of {sum(sizes)} features, {min(sizes)} to {max(sizes)} each, from {clusters.samples} responses"
    )


def cluster(fired: sparse.csr_array, made_from: str, resolution: float) -> StoredClusters:
    """Clusters by the method's defaults but for the resolution; the same firings give the same clusters."""
    return to_stored(cluster_features(fired, ClusterOptions(resolution=resolution)), made_from)


def firings(path: Path, subject: Callable[[], Subject], scratch: Path, dtype: str) -> sparse.csr_array:
    """Which features fire on each response of a file: CSR int8 [responses, d_sae], chosen before rejected, pair by pair.

    Read once, and kept in ``scratch`` under the file's digest.
    """
    kept = scratch / f"firings-{digest(path)}-{dtype}.npz"
    if not kept.exists():
        rows, d_sae = asyncio.run(_read(subject(), list(pairs_of(path))))
        scratch.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial.npz")
        indptr = np.cumsum([0, *(len(row) for row in rows)])
        np.savez(partial, features=np.concatenate(rows).astype(np.uint32), indptr=indptr, d_sae=d_sae)
        partial.rename(kept)
    with np.load(kept) as stored:
        features, indptr = stored["features"].astype(np.int64), stored["indptr"]
        return sparse.csr_array(
            (np.ones(len(features), np.int8), features, indptr), shape=(len(indptr) - 1, int(stored["d_sae"]))
        )


async def fired_on(scorer: ScorerLike, pairs: Sequence[Pair]) -> list[np.ndarray]:
    """The features that fire on each response, chosen before rejected; a pair that cannot be read is left out."""
    rows: list[np.ndarray] = []
    for start in range(0, len(pairs), _AT_ONCE):
        outcomes = await scorer.score(pairs[start : start + _AT_ONCE], _BULK)
        rows += [span for outcome in outcomes for span in _features(outcome)]
        print(f"read {min(start + _AT_ONCE, len(pairs))} of {len(pairs)} pairs", flush=True)
    return rows


def pairs_of(path: Path) -> Iterator[Pair]:
    """The pairs of a file; rows that hold none are passed over."""
    skipped: list[Any] = []
    for pair in read_pairs(path, on_error=skipped.append):
        prompt = pair.prompt if isinstance(pair.prompt, str) else tuple(Message(m.role, m.content) for m in pair.prompt)
        yield Pair(prompt, pair.chosen, pair.rejected)
    print(f"{path.name}: {len(skipped)} rows hold no pair", flush=True)


def digest(path: Path) -> str:
    """The start of a file's SHA-256, to say which one it was."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


async def _read(subject: Subject, pairs: Sequence[Pair]) -> tuple[list[np.ndarray], int]:
    scorer = build_scorer(subject, LruCache(1 << 20))
    try:
        return await fired_on(scorer, pairs), scorer.info.d_sae
    finally:
        await scorer.aclose()


def _features(outcome: Scored | AssayError) -> Iterable[np.ndarray]:
    if isinstance(outcome, AssayError):
        return ()
    return tuple(outcome.pooled.spans[side].indices for side in (SpanName.CHOSEN, SpanName.REJECTED))


if __name__ == "__main__":
    main()
