"""Pairs read once through the real scorer, kept by content in a scratch folder, and handed to the views as shards in memory.

Invariants:
- Features come from ``Scorer`` with the prompt pooled too: there is no second way from a pair to its features.
- A scratch file is named by what it was made from (texts, model, SAE, dtype), so that nothing stale is ever read.
- Swapping the two responses of a pair moves rows of one stacked matrix: a relabelled dataset costs milliseconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from assay_server.audit.matrices import Bools, Csr, Floats, Ints
from assay_server.audit.shards import PairShard
from assay_server.errors import AssayError
from assay_server.subject.types import Message, Pair, PooledSpan, PromptedResponse, SpanName
from scipy import sparse

from benchmarks.common import MODEL, ROOT, SAE

SCRATCH = ROOT / ".build" / "validity"
DTYPE = "bfloat16"  # the fastest on a CPU that has it; every contender of an experiment reads the same features
FORMAT = 1
_CHUNK = 64
Item = Pair | PromptedResponse


@dataclass(frozen=True, eq=False)
class Spans:
    """Pooled features of n texts."""

    freq: Csr  # [n, d_sae] float32
    peak: Csr  # [n, d_sae] float32, largest activations, same pattern
    tokens: Ints  # [n]
    residual: Floats  # [n, d_in] float32, mean over the span's tokens

    def take(self, rows: Any) -> Spans:
        """The texts at `rows`, in that order."""
        return Spans(Csr(self.freq[rows]), Csr(self.peak[rows]), self.tokens[rows], self.residual[rows])


@dataclass(frozen=True, eq=False)
class Features:
    """What the subject read of n pairs. `prompts` numbers prompts by content, from 0 in order of appearance."""

    prompt: Spans
    chosen: Spans
    rejected: Spans
    prompts: Ints  # [n]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def d_sae(self) -> int:
        """SAE features."""
        return self.chosen.freq.shape[1]

    @property
    def length(self) -> Floats:
        """Difference of log token counts, chosen minus rejected, [n]."""
        return np.log(self.chosen.tokens) - np.log(self.rejected.tokens)

    def take(self, rows: Any) -> Features:
        """The pairs at `rows`, in that order."""
        return Features(self.prompt.take(rows), self.chosen.take(rows), self.rejected.take(rows), self.prompts[rows])

    def swapped(self, where: Bools) -> Features:
        """Exchange chosen and rejected where `where` [n] holds."""
        both, rows = stacked(self.chosen, self.rejected), np.arange(len(self))
        first = np.where(where, rows + len(self), rows)
        return Features(self.prompt, both.take(first), both.take((first + len(self)) % (2 * len(self))), self.prompts)

    def replaced(self, rows: Ints, chosen: Spans) -> Features:
        """The same pairs with other chosen responses at `rows`; row j of `chosen` goes to `rows[j]`."""
        pick = np.arange(len(self))
        pick[rows] = len(self) + np.arange(len(rows))
        return Features(self.prompt, stacked(self.chosen, chosen).take(pick), self.rejected, self.prompts)


class Shards:
    """Features as the views read them (`assay_server.audit.shards.Shards`), in shards of `size` pairs."""

    def __init__(self, features: Features, *, size: int = 4_096, control_length: bool = True) -> None:
        self._features, self._size, self._control = features, size, control_length

    @property
    def pairs(self) -> int:
        """Usable pairs."""
        return len(self._features)

    @property
    def d_sae(self) -> int:
        """SAE features."""
        return self._features.d_sae

    def __iter__(self) -> Iterator[PairShard]:
        for start in range(0, self.pairs, self._size):
            rows = np.arange(start, min(start + self._size, self.pairs))
            yield self._shard(self._features.take(rows), rows)

    def _shard(self, part: Features, rows: Ints) -> PairShard:
        return PairShard(
            rows=rows,
            prompts=part.prompts,
            tokens=np.stack([part.prompt.tokens, part.chosen.tokens, part.rejected.tokens], axis=1),
            freq_chosen=part.chosen.freq,
            freq_rejected=part.rejected.freq,
            freq_prompt=part.prompt.freq,
            max_chosen=part.chosen.peak,
            max_rejected=part.rejected.peak,
            nuisance=part.length[:, None] if self._control else np.zeros((len(rows), 0)),
            directions=Csr((len(rows), 0), dtype=np.int64),
            groups=Csr((len(rows), 0), dtype=np.int64),
        )


def stacked(*parts: Spans) -> Spans:
    """All texts of all parts, end to end."""
    return Spans(
        Csr(sparse.vstack([part.freq for part in parts], format="csr")),
        Csr(sparse.vstack([part.peak for part in parts], format="csr")),
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.residual for part in parts]),
    )


def read(pairs: Sequence[Pair], *, dtype: str = DTYPE, say: Callable[[str], None] = lambda _: None) -> Features:
    """The features of `pairs`, from the scratch folder where they were read before.

    Raises:
        AssayError: a pair cannot be scored; pairs are filtered beforehand.
    """
    prompt, chosen, rejected = _cached(pairs, tuple(SpanName), dtype, say)
    return Features(prompt, chosen, rejected, numbered([_key(pair.prompt) for pair in pairs]))


def read_responses(
    items: Sequence[PromptedResponse], *, dtype: str = DTYPE, say: Callable[[str], None] = lambda _: None
) -> Spans:
    """The features of single responses, without their prompts'. Raises as `read`."""
    return _cached(items, (SpanName.CHOSEN,), dtype, say)[0]


def _cached(items: Sequence[Item], names: Sequence[SpanName], dtype: str, say: Callable[[str], None]) -> list[Spans]:
    path = SCRATCH / f"{digest_of(items, dtype)}.npz"
    if not path.exists():
        say(f"reading {len(items)} items with the model")
        SCRATCH.mkdir(parents=True, exist_ok=True)
        parts = asyncio.run(_score(items, names, dtype))
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **{f"{name}_{key}": array for name, span in parts.items() for key, array in _arrays(span).items()})
        partial.rename(path)
    with np.load(path) as stored:
        return [_spans(stored, name.value) for name in names]


def numbered(keys: Sequence[str]) -> Ints:
    """A number for each distinct key, from 0 in order of appearance."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)


def prompt_text(pair: Pair) -> str:
    """What the prompt says, its turns joined; for keywords only."""
    return pair.prompt if isinstance(pair.prompt, str) else "\n".join(turn.content for turn in pair.prompt)


async def _score(items: Sequence[Item], names: Sequence[SpanName], dtype: str) -> dict[str, Spans]:
    from assay_server.cache import build_cache
    from assay_server.scorer import Scored, ScoreOptions, build_scorer

    scorer = build_scorer(subject_of(dtype), build_cache(None, lru_bytes=0))
    options = ScoreOptions(include_prompt=SpanName.PROMPT in names, bypass_cache=True, patient=True)
    try:
        chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
        scored = [item for part in await asyncio.gather(*(scorer.score(c, options) for c in chunks)) for item in part]
        d_sae = scorer.info.d_sae
    finally:
        await scorer.aclose()
    for item in scored:
        if isinstance(item, AssayError):
            raise item
    pooled = [item.pooled for item in scored if isinstance(item, Scored)]
    return {name.value: _pack([item.spans[name] for item in pooled], d_sae) for name in names}


@cache
def subject_of(dtype: str) -> Any:
    """The demo model and SAE."""
    from assay_server.subject.subject import load_subject

    return load_subject(str(MODEL), str(SAE), dtype=dtype)


def _pack(spans: Sequence[PooledSpan], d_sae: int) -> Spans:
    indptr = np.concatenate([[0], np.cumsum([len(span.indices) for span in spans])])
    indices = np.concatenate([span.indices.astype(np.int64) for span in spans])
    shape = (len(spans), d_sae)
    return Spans(
        Csr((np.concatenate([span.freq for span in spans]), indices, indptr), shape=shape),
        Csr((np.concatenate([span.max for span in spans]), indices, indptr), shape=shape),
        np.array([span.tokens for span in spans], np.int64),
        np.stack([span.mean_residual for span in spans]),
    )


def _arrays(span: Spans) -> dict[str, Any]:
    return {
        "freq": span.freq.data,
        "peak": span.peak.data,
        "indices": span.freq.indices.astype(np.int32),
        "indptr": span.freq.indptr.astype(np.int64),
        "tokens": span.tokens,
        "residual": span.residual,
        "d_sae": np.array(span.freq.shape[1]),
    }


def _spans(stored: Any, name: str) -> Spans:
    part = {key: stored[f"{name}_{key}"] for key in ("freq", "peak", "indices", "indptr", "tokens", "residual", "d_sae")}
    shape = (len(part["tokens"]), int(part["d_sae"]))
    freq, peak = (Csr((part[key], part["indices"], part["indptr"]), shape=shape) for key in ("freq", "peak"))
    return Spans(freq, peak, part["tokens"], part["residual"])


def _key(prompt: Sequence[Message] | str) -> str:
    return prompt if isinstance(prompt, str) else json.dumps([[turn.role, turn.content] for turn in prompt])


def digest_of(items: Sequence[Item], dtype: str) -> str:
    """What a reading of the items is kept under."""
    digest = hashlib.sha256(json.dumps([FORMAT, dtype, _files()]).encode())
    for item in items:
        texts = [item.chosen, item.rejected] if isinstance(item, Pair) else [item.response]
        digest.update(json.dumps([_key(item.prompt), *texts]).encode())
    return digest.hexdigest()[:24]


@cache
def _files() -> list[str]:
    files = [MODEL / "model.safetensors", MODEL / "tokenizer.json", MODEL / "chat_template.jinja"]
    return [_file_digest(path) for path in [*files, SAE / "cfg.json", SAE / "sae_weights.safetensors"]]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
