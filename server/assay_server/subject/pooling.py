"""Pooling on the device: feature activations of tokens to ``max`` and firing counts of spans, nonzeros only (METHOD.md §1).

Invariants:
- Rows of residuals come span by span: span s owns rows ``bounds[s]:bounds[s + 1]``. A token that two spans share has two rows.
- Nothing larger than [rows, block] is ever held, and only nonzeros leave the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay_server.subject.sae import BlockEncoder, FeatureEncoder, TopKEncoder
from assay_server.subject.types import PooledSpan

F16_MAX = 65504.0


@dataclass(frozen=True, slots=True)
class PooledRows:
    """Nonzero pooled features of a batch's spans, on the CPU, ordered by span, then feature.

    Attributes:
        span: span of each entry, int64 [entries].
        feature: feature id, int64 [entries].
        maximum: largest activation over the span's rows, float32 [entries].
        count: rows on which it fires, int64 [entries].
    """

    span: NDArray[np.int64]
    feature: NDArray[np.int64]
    maximum: NDArray[np.float32]
    count: NDArray[np.int64]


def pool(encoder: FeatureEncoder, residual: Tensor, bounds: Sequence[int]) -> PooledRows:
    """Encode residual rows [rows, d_in] and pool them over the spans that ``bounds`` delimits (len spans + 1)."""
    x = encoder.inputs(residual)
    if isinstance(encoder, TopKEncoder):
        return _pool_top(encoder, x, bounds)
    assert isinstance(encoder, BlockEncoder)
    return _pool_blocks(encoder, x, bounds)


def mean_rows(residual: Tensor, bounds: Sequence[int]) -> NDArray[np.float32]:
    """Mean residual of each span, float32 [spans, d_in]."""
    owner = _owners(bounds, residual.device)
    total = torch.zeros(len(bounds) - 1, residual.shape[1], dtype=torch.float32, device=residual.device)
    total.index_add_(0, owner, residual.float())
    sizes = torch.tensor(np.diff(bounds), dtype=torch.float32, device=residual.device)
    return (total / sizes[:, None]).cpu().numpy()


def _owners(bounds: Sequence[int], device: torch.device) -> Tensor:
    sizes = np.diff(bounds)
    return torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)).to(device)


def _pool_top(encoder: TopKEncoder, x: Tensor, bounds: Sequence[int]) -> PooledRows:
    values, ids = encoder.encode_top(x)
    together = encoder.block_width(encoder.d_sae)  # spans whose [spans, d_sae] is within the bound of a block
    parts: list[PooledRows] = []
    for first in range(0, len(bounds) - 1, together):
        edges = bounds[first : first + together + 1]
        rows = slice(edges[0], edges[-1])
        parts.append(_scatter_top(values[rows], ids[rows], [edge - edges[0] for edge in edges], encoder.d_sae, first))
    return _concatenate(parts)


def _scatter_top(values: Tensor, ids: Tensor, bounds: Sequence[int], d_sae: int, first_span: int) -> PooledRows:
    spans = len(bounds) - 1
    cell = (_owners(bounds, ids.device)[:, None] * d_sae + ids).flatten()
    values = values.float().flatten()
    maximum = torch.zeros(spans * d_sae, dtype=torch.float32, device=ids.device)
    maximum.scatter_reduce_(0, cell, values, "amax")
    count = torch.zeros_like(maximum).scatter_add_(0, cell, (values > 0).float())  # exact below 2**24 tokens
    return _nonzeros(maximum.view(spans, -1), count.view(spans, -1), 0, first_span)


def _concatenate(parts: Sequence[PooledRows]) -> PooledRows:
    return PooledRows(
        np.concatenate([part.span for part in parts]),
        np.concatenate([part.feature for part in parts]),
        np.concatenate([part.maximum for part in parts]),
        np.concatenate([part.count for part in parts]),
    )


def _pool_blocks(encoder: BlockEncoder, x: Tensor, bounds: Sequence[int]) -> PooledRows:
    padded = None if x.device.type == "cpu" else _padded_rows(bounds, x.device)
    parts: list[PooledRows] = []
    for start, activations in encoder.blocks(x):
        if padded is None:
            slices = [activations[a:b] for a, b in pairwise(bounds)]
            maximum = torch.stack([rows.amax(dim=0) for rows in slices])
            count = torch.stack([(rows > 0).sum(dim=0) for rows in slices])
        else:
            maximum, count = _reduce_padded(activations, *padded)
        parts.append(_nonzeros(maximum, count, start))
    joined = _concatenate(parts)
    order = np.argsort(joined.span, kind="stable")  # blocks ascend in features already
    return PooledRows(joined.span[order], joined.feature[order], joined.maximum[order], joined.count[order])


def _padded_rows(bounds: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Row indices int64 [spans, longest] and which of them are real."""
    sizes = np.diff(bounds)
    columns = np.arange(sizes.max())
    real = columns[None] < sizes[:, None]
    index = np.where(real, np.asarray(bounds[:-1])[:, None] + columns[None], 0)
    return torch.from_numpy(index).to(device), torch.from_numpy(real).to(device)


def _reduce_padded(activations: Tensor, index: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Max and counts over spans, a few spans at a time so that padding never outgrows the block itself."""
    step = max(1, activations.shape[0] // max(1, index.shape[1]))
    maximum: list[Tensor] = []
    count: list[Tensor] = []
    for start in range(0, len(index), step):
        rows = activations[index[start : start + step]] * real[start : start + step, :, None]
        maximum.append(rows.amax(dim=1))
        count.append((rows > 0).sum(dim=1))
    return torch.cat(maximum), torch.cat(count)


def _nonzeros(maximum: Tensor, count: Tensor, first_feature: int, first_span: int = 0) -> PooledRows:
    where = count.nonzero(as_tuple=True)
    span, feature = (index.cpu().numpy() for index in where)
    return PooledRows(
        span + first_span,
        feature + first_feature,
        maximum[where].float().cpu().numpy(),
        count[where].to(torch.int64).cpu().numpy(),
    )


def quantise(values: NDArray[np.float32]) -> tuple[NDArray[np.float16], int]:
    """float16 under the smallest non-negative power of two that keeps every value finite."""
    peak = float(np.abs(values).max(initial=0.0))
    exponent = 0 if peak < F16_MAX else int(np.frexp(peak / F16_MAX)[1])
    return np.ldexp(values, -exponent).astype(np.float16), exponent


def split_spans(rows: PooledRows, means: NDArray[np.float32], sizes: Sequence[int]) -> list[PooledSpan]:
    """One ``PooledSpan`` for each span of a batch.

    A value that float16 flushes to 0 keeps the smallest positive one: what fired stays visible as having fired.
    """
    edges = np.searchsorted(rows.span, np.arange(len(sizes) + 1))
    spans: list[PooledSpan] = []
    for i, tokens in enumerate(sizes):
        entries = slice(edges[i], edges[i + 1])
        max_f16, exponent = quantise(rows.maximum[entries])
        np.maximum(max_f16, np.float16(6e-8), out=max_f16)
        mean_f16, mean_exponent = quantise(means[i])
        spans.append(
            PooledSpan(
                tokens=int(tokens),
                indices=rows.feature[entries].astype(np.uint32),
                max_f16=max_f16,
                counts=rows.count[entries].astype(np.uint32),
                exponent=exponent,
                mean_residual_f16=mean_f16,
                residual_exponent=mean_exponent,
            )
        )
    return spans
