"""Pairs read once: the SAE's features, a random dictionary's and the mean residual, all of one pass; kept by content.

The scratch folder is outside the repository: it holds no text, but it is made from texts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from assay_server.audit.matrices import Csr, Floats, Ints
from assay_server.subject.pooling import PooledRows
from assay_server.subject.types import Pair
from scipy import sparse

from benchmarks.readability.data import DTYPE
from benchmarks.validity.data import digest_of, subject_of

SCRATCH = Path(tempfile.gettempdir()) / "assay-explained"
_BATCH = 16  # pairs of a forward pass


@dataclass(frozen=True, eq=False)
class Controls:
    """Of n pairs; rows 2i are chosen responses, 2i + 1 rejected ones."""

    tokens: Ints  # [2n]
    means: Floats  # [2n, d_in] float32, not rounded
    trained: Csr  # [2n, d_sae] share of tokens on which a feature fires
    random: Csr  # the same of the random dictionary


def read_controls(pairs: Sequence[Pair], seed: int, say: Callable[[str], None] = lambda _: None) -> Controls:
    """From the scratch folder, or from the model."""
    path = SCRATCH / f"{digest_of(pairs, DTYPE)}-{seed}.npz"
    if not path.exists():
        SCRATCH.mkdir(parents=True, exist_ok=True)
        _save(path, pairs, seed, say)
    with np.load(path) as stored:
        shape = (len(stored["tokens"]), int(stored["d_sae"]))
        parts = [Csr(tuple(stored[f"{name}_{key}"] for key in ("data", "indices", "indptr")), shape=shape) for name in _NAMES]
        return Controls(stored["tokens"], stored["means"], *parts)


_NAMES = ("trained", "random")


def _save(path: Path, pairs: Sequence[Pair], seed: int, say: Callable[[str], None]) -> None:
    from assay_server.subject.random_dictionary import RandomDictionary, SpansRead, read_spans

    subject = subject_of(DTYPE)
    encoders = (subject.encoder, RandomDictionary(subject, seed))
    trees = [subject.tokenizer.pair(pair) for pair in pairs]
    order = sorted(range(len(pairs)), key=lambda place: trees[place].size)
    reads: list[SpansRead] = []
    for start in range(0, len(order), _BATCH):
        reads.append(read_spans(subject, encoders, [trees[place] for place in order[start : start + _BATCH]]))
        if start % (20 * _BATCH) == 0:
            say(f"read {min(start + _BATCH, len(order)):,} of {len(order):,} pairs")
    back = np.argsort((2 * np.array(order)[:, None] + np.arange(2)).ravel())
    found: dict[str, Any] = {
        "tokens": np.concatenate([one.tokens for one in reads])[back],
        "means": np.concatenate([one.means for one in reads])[back],
        "d_sae": np.array(subject.info.d_sae),
    }
    for place, name in enumerate(_NAMES):
        parts = [_frequencies(one.pooled[place], one.tokens, subject.info.d_sae) for one in reads]
        freq = Csr(Csr(sparse.vstack(parts, format="csr"))[back])
        found |= {f"{name}_data": freq.data, f"{name}_indices": freq.indices, f"{name}_indptr": freq.indptr}
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **found)
    partial.rename(path)


def _frequencies(pooled: PooledRows, tokens: Ints, d_sae: int) -> Csr:
    return Csr((pooled.count / tokens[pooled.span], (pooled.span, pooled.feature)), shape=(len(tokens), d_sae))
