"""Tree attention: packed trees in one row, each token seeing exactly its own path.

All trees of a batch lie one behind the other in a single row without padding, so every token-wise operation of the model does
useful work only. Attention alone needs to know where trees begin: it is registered with transformers as an attention
implementation and reads the batch's ``TreeLayout`` from the thread that runs the forward pass.

Invariants:
- A token attends to the tokens of its own root-to-leaf path up to itself, and to nothing else; within ``sliding_window`` where
  a layer has one. Each path's activations are those of the path read alone (up to floating-point summation order).
- The model never builds a mask: the mask interface returns None, and ``tree_attention`` makes what it needs from the layout.

Two ways to run it, the faster by measurement on each kind of device: on CPU one call a tree; elsewhere all trees
padded to the longest (only attention pays for that padding).
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


@dataclass(slots=True)
class TreeLayout:
    """Where each tree of a packed row lies, and who sees whom in it.

    Attributes:
        starts: first flat position of each tree in the row.
        sizes: tokens of each tree.
        positions: position of every token in its own path, int64 [row].
        allowed: for each tree, bool [size, size]: row may attend to column.
    """

    starts: list[int]
    sizes: list[int]
    positions: Tensor
    allowed: list[Tensor | None]
    padded: bool
    _padded: tuple[Tensor, Tensor] | None = None
    _windowed: dict[int, Any] = field(default_factory=dict[int, Any])

    @classmethod
    def of(cls, trees: Sequence[TokenTree], device: torch.device) -> "TreeLayout":
        """Lay out trees for a device; masks are built on the CPU and moved."""
        sizes = [tree.size for tree in trees]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int).tolist()
        positions = torch.from_numpy(np.concatenate([tree_positions(tree) for tree in trees]))
        padded = device.type != "cpu"
        allowed = [None if not tree.branches and not padded else torch.from_numpy(visibility(tree)) for tree in trees]
        layout = cls(starts, sizes, positions.to(device), allowed, padded)
        if padded:
            layout._padded = _pad(layout, device)
        return layout

    def masks(self, window: int | None) -> list[Tensor | None]:
        """For each tree its mask; None where plain causal attention is the same."""
        if window is None or all(self._longest(i) <= window for i in range(len(self.sizes))):
            return self.allowed
        if window not in self._windowed:
            self._windowed[window] = [self._window(i, window) for i in range(len(self.sizes))]
        return self._windowed[window]

    def padded_index(self, window: int | None) -> tuple[Tensor, Tensor]:
        """Row positions int64 [trees, longest] (padding repeats position 0) and mask bool [trees, 1, longest, longest]."""
        assert self._padded is not None, "a layout for the CPU has no padded form: this is a bug"
        index, mask = self._padded
        if window is None or int(self.positions.max()) < window:
            return index, mask
        if window not in self._windowed:
            positions = self.positions[index]
            near = positions[:, :, None] - positions[:, None, :] < window
            eye = torch.eye(index.shape[1], dtype=torch.bool, device=index.device)
            self._windowed[window] = mask & (near | eye)[:, None]
        return index, self._windowed[window]

    def _longest(self, tree: int) -> int:
        start = self.starts[tree]
        return int(self.positions[start : start + self.sizes[tree]].max()) + 1

    def _window(self, tree: int, window: int) -> Tensor:
        start, size = self.starts[tree], self.sizes[tree]
        mask = self.allowed[tree]
        if mask is None:
            mask = torch.ones(size, size, dtype=torch.bool).tril()
        positions = self.positions[start : start + size]
        return mask & (positions[:, None] - positions[None, :] < window)


def tree_positions(tree: TokenTree) -> NDArray[np.int64]:
    """Position of each flat token in its own path, int64 [size]."""
    n = len(tree.trunk)
    parts = [np.arange(n)] + [np.arange(n, n + len(branch)) for branch in tree.branches]
    return np.concatenate(parts).astype(np.int64)


def visibility(tree: TokenTree) -> NDArray[np.bool_]:
    """Who sees whom: bool [size, size], row attends to column."""
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
    sliding_window: int | None = None,
    softcap: float | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface over the current layout.

    Args:
        query: [1, heads, row, head_dim]; key and value: [1, kv_heads, row, head_dim].

    Returns:
        [1, row, heads, head_dim], and no weights.

    Raises:
        SubjectMismatch: the layer wants something that trees do not offer (attention sinks, a position bias).
    """
    layout: TreeLayout | None = getattr(_current, "layout", None)
    if layout is None:
        raise RuntimeError("tree attention ran outside `reading(layout)`: this is a bug")
    for extra in ("s_aux", "position_bias", "head_mask"):
        if unused.get(extra) is not None:
            raise SubjectMismatch(f"A layer asks for {extra}, which tree attention does not offer.", reason="ATTENTION")
    window = sliding_window or getattr(module, "sliding_window", None)
    if layout.padded:
        return _padded_attention(layout, query, key, value, window, scaling, softcap), None
    pieces: list[Tensor] = []
    for start, size, mask in zip(layout.starts, layout.sizes, layout.masks(window), strict=True):
        rows = slice(start, start + size)
        pieces.append(_attend(query[:, :, rows], key[:, :, rows], value[:, :, rows], mask, scaling, softcap))
    return torch.cat(pieces, dim=2).transpose(1, 2), None


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
    scores = scores.masked_fill(~mask, float("-inf"))
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
    index, mask = layout.padded_index(window)
    padded = [t[0].index_select(1, index.flatten()).unflatten(1, index.shape).transpose(0, 1) for t in (query, key, value)]
    out = _attend(padded[0], padded[1], padded[2], mask, scaling, softcap)  # [trees, heads, longest, head_dim]
    real = torch.zeros(index.shape, dtype=torch.bool, device=index.device)
    sizes = torch.tensor(layout.sizes, device=index.device)
    real = torch.arange(index.shape[1], device=index.device)[None] < sizes[:, None]
    return out.transpose(1, 2)[real][None]


def _pad(layout: TreeLayout, device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(layout.sizes)
    index = np.zeros((len(layout.sizes), longest), np.int64)
    mask = np.zeros((len(layout.sizes), 1, longest, longest), np.bool_)
    for i, (start, size, allowed) in enumerate(zip(layout.starts, layout.sizes, layout.allowed, strict=True)):
        assert allowed is not None
        index[i, :size] = np.arange(start, start + size)
        mask[i, 0, :size, :size] = allowed.numpy()
        mask[i, 0, size:, 0] = True  # padding rows must see something, or softmax gives NaN
    return torch.from_numpy(index).to(device), torch.from_numpy(mask).to(device)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, _no_mask)
