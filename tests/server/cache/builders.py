"""Features to cache, by seed and by hypothesis, and what it means that two of them are the same."""

from collections import Counter

import numpy as np
from assay_server.cache import Backend, BreakerState, ErrorKind, Side
from assay_server.subject.types import Pooled, PooledSpan, SpanName
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

F16_MAX = float(np.finfo(np.float16).max)


def key_of(number: int) -> bytes:
    """A key that no other number has."""
    return number.to_bytes(32, "big")


def pooled_of(seed: int, *, features: int = 50, d_in: int = 16, d_sae: int = 4096, prompt: bool = False) -> Pooled:
    """Features that no other seed has."""
    rng = np.random.default_rng(seed)
    names = (SpanName.PROMPT,) * prompt + (SpanName.CHOSEN, SpanName.REJECTED)
    return Pooled(
        spans={name: _span(rng, features, d_in, d_sae) for name in names},
        prompt_tokens=30,
        read=seed,
        shared=30,
        truncated=0,
    )


def _span(rng: np.random.Generator, features: int, d_in: int, d_sae: int) -> PooledSpan:
    tokens = int(rng.integers(1, 200))
    return PooledSpan(
        tokens=tokens,
        indices=np.sort(rng.choice(d_sae, features, replace=False)).astype(np.uint32),
        max_f16=rng.random(features).astype(np.float16),
        counts=rng.integers(1, tokens + 1, features).astype(np.uint32),
        exponent=0,
        mean_residual_f16=rng.standard_normal(d_in).astype(np.float16),
        residual_exponent=0,
    )


def same(a: Pooled | None, b: Pooled | None) -> bool:
    """Whether two answers are the same bits, types included."""
    if a is None or b is None:
        return a is b
    return (
        (a.prompt_tokens, a.read, a.shared, a.truncated) == (b.prompt_tokens, b.read, b.shared, b.truncated)
        and list(a.spans) == list(b.spans)
        and all(_same_span(a.spans[name], b.spans[name]) for name in a.spans)
        and list(a.directions) == list(b.directions)
        and all(_same_array(a.directions[name], b.directions[name]) for name in a.directions)
    )


def _same_span(a: PooledSpan, b: PooledSpan) -> bool:
    return (a.tokens, a.exponent, a.residual_exponent) == (b.tokens, b.exponent, b.residual_exponent) and all(
        _same_array(getattr(a, name), getattr(b, name)) for name in ("indices", "max_f16", "counts", "mean_residual_f16")
    )


def _same_array(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@st.composite
def spans(draw: st.DrawFn) -> PooledSpan:
    """Any span that keeps the invariants of its type."""
    largest = draw(st.sampled_from([40, (1 << 16) - 1, 1 << 16, (1 << 32) - 1]))
    ids = sorted(draw(st.sets(st.integers(0, largest), max_size=20)))
    tokens = draw(st.sampled_from([1, 255, 256, 65_535, 65_536, (1 << 32) - 1]))
    n = len(ids)
    finite = st.floats(-F16_MAX, F16_MAX, width=16)
    return PooledSpan(
        tokens=tokens,
        indices=np.array(ids, np.uint32),
        max_f16=draw(npst.arrays(np.float16, n, elements=st.floats(0, F16_MAX, width=16).map(abs))),
        counts=draw(npst.arrays(np.uint32, n, elements=st.integers(1, tokens))),
        exponent=draw(st.integers(-200, 200)),
        mean_residual_f16=draw(npst.arrays(np.float16, st.integers(0, 12), elements=finite)),
        residual_exponent=draw(st.integers(-200, 200)),
    )


def pooleds() -> st.SearchStrategy[Pooled]:
    """Any features that keep the invariants of their type."""
    u32 = st.integers(0, (1 << 32) - 1)
    scores = npst.arrays(np.float32, st.integers(0, 5), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
    return st.builds(
        Pooled,
        spans=st.dictionaries(st.sampled_from(SpanName), spans(), max_size=3),
        prompt_tokens=u32,
        read=u32,
        shared=u32,
        truncated=u32,
        directions=st.dictionaries(st.sampled_from([SpanName.CHOSEN, SpanName.REJECTED]), scores, max_size=2),
    )


class Recorder:
    """A CacheObserver that remembers."""

    def __init__(self) -> None:
        self.asked: Counter[Backend] = Counter()
        self.answered: Counter[Backend] = Counter()
        self.failed: Counter[ErrorKind] = Counter()
        self.states: dict[Side, list[BreakerState]] = {"read": [], "write": []}
        self.held = (0, 0)
        self.evicted = 0
        self.moved: Counter[Side] = Counter()
        self.written = 0
        self.dropped = 0
        self.waiting = (0, 0)

    def queries(self, backend: Backend, n: int) -> None:
        self.asked[backend] += n

    def hits(self, backend: Backend, n: int) -> None:
        self.answered[backend] += n

    def errors(self, kind: ErrorKind, n: int) -> None:
        self.failed[kind] += n

    def breaker(self, side: Side, state: BreakerState) -> None:
        self.states[side].append(state)

    def resident(self, n_bytes: int, entries: int) -> None:
        self.held = (n_bytes, entries)

    def evictions(self, n: int) -> None:
        self.evicted += n

    def transferred(self, side: Side, n_bytes: int) -> None:
        self.moved[side] += n_bytes

    def writes(self, n: int) -> None:
        self.written += n

    def writes_dropped(self, n: int) -> None:
        self.dropped += n

    def queued(self, n_bytes: int, entries: int) -> None:
        self.waiting = (n_bytes, entries)
