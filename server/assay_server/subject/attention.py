"""Tree attention: packed trees in one row, each token seeing exactly its own path.

All trees of a batch lie one behind the other in a single row without padding, so every token-wise operation of the model does
useful work only. Attention alone needs to know where trees begin: it is registered with transformers as an attention
implementation and reads the batch's ``TreeLayout`` from the thread that runs the forward pass.

Invariants:
- A token attends to the tokens of its own root-to-leaf path up to itself, and to nothing else; within ``sliding_window`` where
  a layer has one. Each path's activations are those of the path read alone (up to floating-point summation order).
- The model never builds a mask: the mask interface returns None, and ``tree_attention`` makes what it needs from the layout.

Two ways to run it, the faster by measurement on each kind of device: on a CPU one call per tree, or two where the trunk is long
(trunk causally, then all branches against the whole tree); elsewhere all trees padded to the longest, for which attention
alone pays.
"""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from assay_server.errors import SubjectMismatch
from assay_server.subject.types import TokenTree

NAME = "assay_tree"
_current = threading.local()
_UNSAID: Any = object()  # a layer that passes no ``sliding_window`` at all, as against one that passes None
LONG_TRUNK = 96  # tokens from which reading trunk and branches in two calls pays (measured: docs/design.md)


@dataclass(slots=True)
class TreeLayout:
    """Where each tree of a packed row lies, and which tokens attend to which.

    Attributes:
        starts: first flat position of each tree in the row.
        sizes: tokens of each tree.
        trunks: tokens of each tree's trunk; the whole tree where it has no branches.
        positions: position of every token in its own path, int64 [row].
        allowed: for each tree, bool [size, size]: row may attend to column.
        padded: whether attention pads trees to the longest, instead of one call per tree.
        windows_masked: windows (or chunks) that the model asked masks for, as it is read.
        windows_used: windows that its attention layers then named themselves.
    """

    starts: list[int]
    sizes: list[int]
    trunks: list[int]
    positions: Tensor
    allowed: list[Tensor]
    padded: bool
    windows_masked: set[int] = field(default_factory=set[int])
    windows_used: set[int] = field(default_factory=set[int])
    _padded: tuple[Tensor, Tensor, Tensor] | None = None
    _masks: dict[Any, Any] = field(default_factory=dict[Any, Any])

    @classmethod
    def of(cls, trees: Sequence[TokenTree], device: torch.device, *, padded: bool | None = None) -> "TreeLayout":
        """Lay out trees for a device; masks are built on the CPU and moved. ``padded`` is decided by the device unless given."""
        sizes = [tree.size for tree in trees]
        trunks = [len(tree.trunk) if tree.branches else tree.size for tree in trees]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int).tolist()
        positions = torch.from_numpy(np.concatenate([tree_positions(tree) for tree in trees]))
        allowed = [torch.from_numpy(visibility(tree)) for tree in trees]
        layout = cls(starts, sizes, trunks, positions.to(device), allowed, device.type != "cpu" if padded is None else padded)
        if layout.padded:
            layout._padded = _pad(layout, device)
        return layout

    def pieces(self, window: int | None, dtype: torch.dtype) -> "list[_Piece]":
        """What to attend with what, on the CPU: one or two pieces per tree, with additive masks in ``dtype``."""
        window = window if window is not None and self._reaches(window) else None
        if (window, dtype) not in self._masks:
            self._masks[window, dtype] = [piece for tree in range(len(self.sizes)) for piece in self._cut(tree, window, dtype)]
        return self._masks[window, dtype]

    def padded_index(self, window: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Row positions int64 [trees, longest] (padding repeats position 0), mask bool [trees, 1, longest, longest], and which
        positions are real, bool [trees, longest]."""
        assert self._padded is not None, "a layout of single calls has no padded form: this is a bug"
        index, mask, real = self._padded
        if window is None or not self._reaches(window):
            return index, mask, real
        if window not in self._masks:
            positions = self.positions[index]
            near = positions[:, :, None] - positions[:, None, :] < window
            self._masks[window] = mask & (near | ~real[:, :, None])[:, None]
        return index, self._masks[window], real

    def _reaches(self, window: int) -> bool:
        return max(self.sizes) > window  # a path is no longer than its tree

    def _cut(self, tree: int, window: int | None, dtype: torch.dtype) -> "list[_Piece]":
        start, size, trunk = self.starts[tree], self.sizes[tree], self.trunks[tree]
        end, middle = start + size, start + trunk
        if window is None and trunk == size:
            return [_Piece(slice(start, end), slice(start, end), None)]
        allowed = self.allowed[tree]
        if window is not None:
            positions = self.positions[start:end]
            allowed = allowed & (positions[:, None] - positions[None, :] < window)
        mask = torch.zeros(size, size, dtype=dtype).masked_fill_(~allowed, float("-inf"))
        if trunk < LONG_TRUNK or window is not None:
            return [_Piece(slice(start, end), slice(start, end), mask)]
        return [
            _Piece(slice(start, middle), slice(start, middle), None),
            _Piece(slice(middle, end), slice(start, end), mask[trunk:].contiguous()),
        ]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows of queries, rows of keys, and the additive mask between them; None for plain causal attention."""

    queries: slice
    keys: slice
    mask: Tensor | None


def tree_positions(tree: TokenTree) -> NDArray[np.int64]:
    """Position of each flat token in its own path, int64 [size]."""
    n = len(tree.trunk)
    parts = [np.arange(n)] + [np.arange(n, n + len(branch)) for branch in tree.branches]
    return np.concatenate(parts).astype(np.int64)


def visibility(tree: TokenTree) -> NDArray[np.bool_]:
    """Which tokens attend to which: bool [size, size], row attends to column."""
    mask = np.tri(tree.size, dtype=np.bool_)
    start = n = len(tree.trunk)
    for branch in tree.branches:
        mask[start : start + len(branch), n:start] = False  # earlier branches are another path
        start += len(branch)
    return mask


@contextmanager
def reading(layout: TreeLayout) -> Generator[None]:
    """Run forward passes of this thread under a layout."""
    _current.layout = layout
    try:
        yield
    finally:
        _current.layout = None


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = _UNSAID,
    softcap: float | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface over the current layout.

    Args:
        query: [rows, heads, row, head_dim]; key and value: [rows, kv_heads, row, head_dim]; rows is 1, but where variants of
            one packed row are read at once.

    Returns:
        [rows, row, heads, head_dim], and no weights.

    Raises:
        SubjectMismatch: the layer wants something that trees do not offer (attention sinks, a position bias).
    """
    layout: TreeLayout | None = getattr(_current, "layout", None)
    if layout is None:
        raise RuntimeError("tree attention ran outside `reading(layout)`: this is a bug")
    for extra in ("s_aux", "position_bias", "head_mask"):
        if unused.get(extra) is not None:
            raise SubjectMismatch(f"A layer asks for {extra}, which tree attention does not offer.", reason="ATTENTION")
    window = getattr(module, "sliding_window", None) if sliding_window is _UNSAID else sliding_window
    if window is not None:
        layout.windows_used.add(window)
    if layout.padded:
        return _padded_attention(layout, query, key, value, window, scaling, softcap), None
    attended = [  # the kernel's output lies token after token in memory, so joining along tokens is a plain copy
        _attend(
            query[:, :, piece.queries], key[:, :, piece.keys], value[:, :, piece.keys], piece.mask, scaling, softcap
        ).transpose(1, 2)
        for piece in layout.pieces(window, query.dtype)
    ]
    return torch.cat(attended, dim=1), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, softcap: float | None
) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    if softcap is None:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=grouped
        )
    if grouped:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], dim=1) for t in (key, value))
    scores = torch.matmul(query, key.transpose(2, 3)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = torch.tanh(scores / softcap) * softcap
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return torch.matmul(scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype), value)


def _padded_attention(
    layout: TreeLayout,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: int | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    index, mask, real = layout.padded_index(window)
    rows: list[Tensor] = []
    for row in range(query.shape[0]):  # one, but where variants of a row are read at once
        q, k, v = (t[row][:, index].transpose(0, 1) for t in (query, key, value))  # [trees, heads, longest, head_dim]
        rows.append(_attend(q, k, v, mask, scaling, softcap).transpose(1, 2)[real])
    return torch.stack(rows)


def _pad(layout: TreeLayout, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(layout.sizes)
    index = np.zeros((len(layout.sizes), longest), np.int64)
    mask = np.zeros((len(layout.sizes), 1, longest, longest), np.bool_)
    for tree, (start, size, allowed) in enumerate(zip(layout.starts, layout.sizes, layout.allowed, strict=True)):
        index[tree, :size] = np.arange(start, start + size)
        mask[tree, 0, :size, :size] = allowed.numpy()
        mask[tree, 0, size:, 0] = True  # padding rows must see something, or softmax gives NaN
    real = np.arange(longest)[None] < np.asarray(layout.sizes)[:, None]
    return torch.from_numpy(index).to(device), torch.from_numpy(mask).to(device), torch.from_numpy(real).to(device)


def _no_mask(*_: Any, local_size: int | None = None, **__: Any) -> None:
    layout: TreeLayout | None = getattr(_current, "layout", None)
    if layout is not None and local_size is not None:
        layout.windows_masked.add(local_size)


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, _no_mask)
