"""Pooled features to bytes and back. The layout of an entry, all little endian, no padding but what is written here:

    header      u8 format | key [32] | 3 zero bytes | u32 prompt_tokens, read, shared, truncated
                u8 bytes an index (2, 4) | u8 bytes a count (1, 2, 4) | u8 spans | u8 direction spans
    spans       u8 name | u8 zero | i16 exponent, residual_exponent | u16 zero | u32 tokens, features, d_in      each
    directions  u8 name | 3 zero bytes | u32 n                                                                   each
    sections    f32 direction scores | indices | f16 max | f16 mean residual | counts      each over all spans in turn
    checksum    blake2b of all of the above [8]

Invariants:
- ``decode(key, encode(key, pooled))`` gives the same bits. What breaks the invariants of ``Pooled`` is not encoded.
- ``decode`` returns what was encoded under that key, or raises CorruptEntry: whatever the bytes are, it raises nothing else
  and allocates no more than they are long.
- Sections run over all spans, so that the work is a fixed number of array operations; no loop runs over elements.
"""

import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from assay_server.cache.key import KEY_BYTES
from assay_server.subject.types import Pooled, PooledSpan, SpanName

FORMAT = 1

CorruptReason = Literal["format", "key", "length", "checksum", "content"]


class CorruptEntry(Exception):
    """Bytes that are not what ``encode`` wrote under this key.

    Args:
        reason: "format", "key" (another key's entry), "length", "checksum", or "content" (well framed, but not features).
    """

    def __init__(self, reason: CorruptReason) -> None:
        super().__init__(f"cache entry is corrupt: {reason}")
        self.reason: CorruptReason = reason


_T = TypeVar("_T", np.float16, np.float32, np.uint32)

_HEADER = struct.Struct("<B32s3xIIIIBBBB")
_SPAN = struct.Struct("<BxhhxxIII")
_DIRECTIONS = struct.Struct("<B3xI")
_CHECKSUM_BYTES = 8
_NAMES = (SpanName.PROMPT, SpanName.CHOSEN, SpanName.REJECTED)
_CODES = {name: code for code, name in enumerate(_NAMES)}
_INDEX_TYPES = {2: np.dtype("<u2"), 4: np.dtype("<u4")}
_COUNT_TYPES = {1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}
_F16, _F32, _BITS16 = np.dtype("<f2"), np.dtype("<f4"), np.dtype("<u2")
_INFINITY_BITS = 0x7C00  # float16: everything below is finite and not negative
_SIGN_MASK = np.uint16(0x7FFF)


class _SpanRow(NamedTuple):
    """One row of the span table."""

    name: int
    exponent: int
    residual_exponent: int
    tokens: int
    features: int
    d_in: int


class _Sections(NamedTuple):
    """The arrays of an entry, each over all spans in turn."""

    scores: NDArray[np.float32]
    indices: NDArray[np.uint32]
    maxima: NDArray[np.float16]
    residuals: NDArray[np.float16]
    counts: NDArray[np.uint32]


def encode(key: bytes, pooled: Pooled) -> bytes:
    """``pooled`` as an entry under ``key``.

    Raises:
        ValueError: the key is not 32 bytes, or ``pooled`` breaks its own invariants (types.py), and must not be kept.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a cache key has {KEY_BYTES} bytes, this one {len(key)}")
    spans = tuple(pooled.spans.values())
    rows = [
        _SpanRow(_CODES[name], s.exponent, s.residual_exponent, s.tokens, len(s.indices), len(s.mean_residual_f16))
        for name, s in pooled.spans.items()
    ]
    sections = _Sections(
        scores=_join(tuple(pooled.directions.values()), np.float32),
        indices=_join([s.indices for s in spans], np.uint32),
        maxima=_join([s.max_f16 for s in spans], np.float16),
        residuals=_join([s.mean_residual_f16 for s in spans], np.float16),
        counts=_join([s.counts for s in spans], np.uint32),
    )
    if not _aligned(spans) or not _sound(rows, sections):
        raise ValueError("pooled features break their own invariants and are not cached")
    index_bytes = _index_bytes(sections.indices)
    count_bytes = _count_bytes(rows)
    try:
        tables = [
            _HEADER.pack(
                FORMAT,
                key,
                pooled.prompt_tokens,
                pooled.read,
                pooled.shared,
                pooled.truncated,
                index_bytes,
                count_bytes,
                len(rows),
                len(pooled.directions),
            ),
            *(_SPAN.pack(*row) for row in rows),
            *(_DIRECTIONS.pack(_CODES[name], len(scores)) for name, scores in pooled.directions.items()),
        ]
    except struct.error as error:
        raise ValueError(f"pooled features hold a number outside its range: {error}") from None
    body = b"".join(
        (
            *tables,
            sections.scores.astype(_F32, copy=False).tobytes(),
            sections.indices.astype(_INDEX_TYPES[index_bytes], copy=False).tobytes(),
            sections.maxima.astype(_F16, copy=False).tobytes(),
            sections.residuals.astype(_F16, copy=False).tobytes(),
            sections.counts.astype(_COUNT_TYPES[count_bytes], copy=False).tobytes(),
        )
    )
    return body + _checksum(body)


def decode(key: bytes, data: bytes) -> Pooled:
    """The features that were encoded under ``key``; their arrays are read-only and do not refer to ``data``.

    Raises:
        CorruptEntry: ``data`` is anything else.
    """
    if len(data) < _HEADER.size + _CHECKSUM_BYTES:
        raise CorruptEntry("length")
    fields = _HEADER.unpack_from(data)
    form, own_key, prompt_tokens, read, shared, truncated, index_bytes, count_bytes, n_spans, n_directions = fields
    if form != FORMAT:
        raise CorruptEntry("format")
    if own_key != key:
        raise CorruptEntry("key")
    body = memoryview(data)[:-_CHECKSUM_BYTES]
    if _checksum(body) != data[-_CHECKSUM_BYTES:]:
        raise CorruptEntry("checksum")
    # Beyond this line only an entry that was made wrong, not one that was damaged, can fail.
    spans_end = _HEADER.size + n_spans * _SPAN.size
    start = spans_end + n_directions * _DIRECTIONS.size
    if start > len(body):
        raise CorruptEntry("length")
    rows = [_SpanRow._make(row) for row in _SPAN.iter_unpack(body[_HEADER.size : spans_end])]
    directions = list(_DIRECTIONS.iter_unpack(body[spans_end:start]))
    sections = _sections(body, start, index_bytes, count_bytes, rows, directions)
    if not _named_once([row.name for row in rows]) or not _named_once([code for code, _ in directions]):
        raise CorruptEntry("content")
    if not _sound(rows, sections):
        raise CorruptEntry("content")
    return Pooled(
        spans=_spans(rows, sections),
        prompt_tokens=prompt_tokens,
        read=read,
        shared=shared,
        truncated=truncated,
        directions=_scores(directions, sections.scores),
    )


def _sections(
    body: memoryview,
    start: int,
    index_bytes: int,
    count_bytes: int,
    rows: Sequence[_SpanRow],
    directions: Sequence[tuple[int, int]],
) -> _Sections:
    """Arrays of their own out of the sections of ``body`` from ``start``. Raises CorruptEntry unless they fill it exactly."""
    index_type, count_type = _INDEX_TYPES.get(index_bytes), _COUNT_TYPES.get(count_bytes)
    if index_type is None or count_type is None:
        raise CorruptEntry("content")
    n_scores = sum(n for _, n in directions)
    n_features = sum(row.features for row in rows)
    n_residual = sum(row.d_in for row in rows)
    indices_at = start + 4 * n_scores
    maxima_at = indices_at + index_bytes * n_features
    residuals_at = maxima_at + 2 * n_features
    counts_at = residuals_at + 2 * n_residual
    if counts_at + count_bytes * n_features != len(body):
        raise CorruptEntry("length")
    sections = _Sections(
        scores=np.frombuffer(body, _F32, n_scores, start).astype(np.float32),
        indices=np.frombuffer(body, index_type, n_features, indices_at).astype(np.uint32),
        maxima=np.frombuffer(body, _F16, n_features, maxima_at).astype(np.float16),
        residuals=np.frombuffer(body, _F16, n_residual, residuals_at).astype(np.float16),
        counts=np.frombuffer(body, count_type, n_features, counts_at).astype(np.uint32),
    )
    for array in sections:
        array.flags.writeable = False  # one entry is handed to many callers
    return sections


def _aligned(spans: Sequence[PooledSpan]) -> bool:
    """Whether every feature of every span has its values."""
    return all(len(span.indices) == len(span.max_f16) == len(span.counts) for span in spans)


def _sound(rows: Sequence[_SpanRow], sections: _Sections) -> bool:
    """Whether the sections hold features: finite, ascending, each count in [1, tokens]."""
    finite = (
        (not len(sections.scores) or bool(np.isfinite(sections.scores).all()))
        and (not len(sections.maxima) or bool(sections.maxima.view(_BITS16).max() < _INFINITY_BITS))
        and (not len(sections.residuals) or bool((sections.residuals.view(_BITS16) & _SIGN_MASK).max() < _INFINITY_BITS))
    )
    return finite and all(row.tokens >= 1 for row in rows) and _counted(rows, sections.indices, sections.counts)


def _counted(rows: Sequence[_SpanRow], indices: NDArray[np.uint32], counts: NDArray[np.uint32]) -> bool:
    """Whether each span's indices ascend and its counts lie in [1, tokens]."""
    if not len(indices):
        return True
    ascends = indices[1:] > indices[:-1]
    start = 0
    for row in rows:
        end = start + row.features
        if end > start and counts[start:end].max() > row.tokens:
            return False
        if 0 < start < len(indices):
            ascends[start - 1] = True  # a span's first index follows no other
        start = end
    return bool(ascends.all()) and bool(counts.min() >= 1)


def _spans(rows: Sequence[_SpanRow], sections: _Sections) -> Mapping[SpanName, PooledSpan]:
    """The sections cut into spans again."""
    spans: dict[SpanName, PooledSpan] = {}
    start = residual_start = 0
    for row in rows:
        end, residual_end = start + row.features, residual_start + row.d_in
        spans[_NAMES[row.name]] = PooledSpan(
            tokens=row.tokens,
            indices=sections.indices[start:end],
            max_f16=sections.maxima[start:end],
            counts=sections.counts[start:end],
            exponent=row.exponent,
            mean_residual_f16=sections.residuals[residual_start:residual_end],
            residual_exponent=row.residual_exponent,
        )
        start, residual_start = end, residual_end
    return spans


def _scores(directions: Sequence[tuple[int, int]], scores: NDArray[np.float32]) -> dict[SpanName, NDArray[np.float32]]:
    """Direction scores by span."""
    by_span: dict[SpanName, NDArray[np.float32]] = {}
    start = 0
    for code, n in directions:
        by_span[_NAMES[code]] = scores[start : start + n]
        start += n
    return by_span


def _join(arrays: Sequence[NDArray[_T]], dtype: type[_T]) -> NDArray[_T]:
    """``arrays`` end to end, contiguous, of that type; an empty array where there is none."""
    if not arrays:
        return np.empty(0, dtype)
    return np.ascontiguousarray(np.concatenate(arrays) if len(arrays) > 1 else arrays[0], dtype)


def _index_bytes(indices: NDArray[np.uint32]) -> int:
    """Bytes that hold the largest feature id."""
    return 2 if not len(indices) or indices.max() < 1 << 16 else 4


def _count_bytes(rows: Sequence[_SpanRow]) -> int:
    """Bytes that hold every count: none exceeds its span's tokens."""
    tokens = max((row.tokens for row in rows), default=0)
    return 1 if tokens < 1 << 8 else 2 if tokens < 1 << 16 else 4


def _named_once(codes: Sequence[int]) -> bool:
    """Whether every code names a span and none comes twice."""
    return len(set(codes)) == len(codes) and all(code < len(_NAMES) for code in codes)


def _checksum(body: bytes | memoryview) -> bytes:
    """Detects damage with odds of 1 in 2**64 against it."""
    return blake2b(body, digest_size=_CHECKSUM_BYTES).digest()
