"""The forward pass over a batch of trees, stopped at the hook.

``TreeReader`` packs trees into one row and shares prefixes (see ``attention``). ``PathReader`` reads every path as a sequence
of its own in a padded batch with the model's own attention: slower, and right for any causal architecture. At load the subject
compares the two on a probe and keeps the first only where they agree, so an architecture that ignores the attention interface,
or bends it, costs speed and never correctness.

Logits are never computed.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from assay_server.subject import attention
from assay_server.subject.hooks import Hook
from assay_server.subject.loading import LoadedModel
from assay_server.subject.types import TokenTree

_MOST_NEEDED = 0.9  # share of a row above which taking rows out and putting them back costs more than it saves


@dataclass(slots=True)
class PreparedTrees:
    """A batch of trees as tensors, made off the device's thread.

    Attributes:
        trees: what was prepared.
        ids: token ids as the reader wants them.
        state: what else the reader needs.
        computed: tokens that the model will process, padding included.
    """

    trees: tuple[TokenTree, ...]
    ids: Tensor
    state: Any
    computed: int


class Reader(Protocol):
    """Prepares batches anywhere, reads them on the device's thread."""

    padded: bool  # whether uneven lengths cost padding on token-wise work

    def prepare(self, trees: Sequence[TokenTree]) -> PreparedTrees:
        """Build a batch's tensors."""
        ...

    def read(self, batch: PreparedTrees, needed: Tensor | None = None) -> Tensor:
        """Residuals at the hook [total tree tokens, width], tree after tree in flat order.

        ``needed``: flat positions, ascending, whose residuals are wanted; the others may hold anything finite. None wants all.
        """
        ...

    def close(self) -> None:
        """Take the hook off the model."""
        ...


class _HookedReader:
    """Catches the residual at the hook while the decoder runs."""

    def __init__(self, model: LoadedModel, hook: Hook, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._caught: Tensor | None = None
        self._block = block = model.blocks[hook.block]
        self._handle = (
            block.register_forward_pre_hook(self._catch_input, with_kwargs=True)
            if hook.is_input
            else block.register_forward_hook(self._catch_output)
        )

    def close(self) -> None:
        """Take the hook off the model."""
        self._handle.remove()

    def _catch_input(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._caught = args[0] if args else kwargs["hidden_states"]

    def _catch_output(self, _: Any, __: Any, output: Any) -> None:
        self._caught = output[0] if isinstance(output, tuple) else output

    def _run(self, ids: Tensor, **kwargs: Any) -> Tensor:
        self._caught = None
        self._model.decoder(input_ids=ids, use_cache=False, **kwargs)
        caught, self._caught = self._caught, None
        assert caught is not None, "the hook's block did not run: this is a bug"
        return caught


class TreeReader(_HookedReader):
    """Packed rows with shared prefixes.

    Nothing reads a prompt's residuals after the last attention has seen them, unless the prompt is pooled too: the last block's
    MLP then runs on the needed rows only.
    """

    padded = False

    def __init__(self, model: LoadedModel, hook: Hook, device: torch.device) -> None:
        super().__init__(model, hook, device)
        mlp = getattr(self._block, "mlp", None)
        self._last_mlp = _NarrowedMlp(mlp) if isinstance(mlp, torch.nn.Module) and not hook.is_input else None

    def close(self) -> None:
        """Take the hook off the model, and give the last block its MLP back."""
        super().close()
        if self._last_mlp is not None:
            self._last_mlp.restore()

    def prepare(self, trees: Sequence[TokenTree]) -> PreparedTrees:
        """See ``Reader``."""
        flat = np.concatenate([part for tree in trees for part in (tree.trunk, *tree.branches)]).astype(np.int64)
        layout = attention.TreeLayout.of(trees, self._device)
        ids = torch.from_numpy(flat)[None].to(self._device, non_blocking=True)
        return PreparedTrees(tuple(trees), ids, layout, len(flat))

    def read(self, batch: PreparedTrees, needed: Tensor | None = None) -> Tensor:
        """See ``Reader``."""
        self._model.decoder.config._attn_implementation = attention.NAME
        with attention.reading(batch.state), _narrowed(self._last_mlp, needed, batch.ids.shape[1]):
            return self._run(batch.ids, position_ids=batch.state.positions[None])[0]


class _NarrowedMlp:
    """Stands before a block's MLP and, where ``rows`` are set, runs it on those rows of a packed row; the others get zeros."""

    def __init__(self, mlp: torch.nn.Module) -> None:
        self._mlp = mlp
        self._forward = mlp.forward
        self.rows: Tensor | None = None
        mlp.forward = self

    def restore(self) -> None:
        self._mlp.forward = self._forward

    def __call__(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows = self.rows
        if rows is None:
            return self._forward(hidden, *args, **kwargs)
        some = self._forward(hidden.index_select(1, rows), *args, **kwargs)
        if not isinstance(some, Tensor):  # a router's extra outputs, which cannot be put back together
            return self._forward(hidden, *args, **kwargs)
        return torch.zeros_like(hidden).index_copy_(1, rows, some)


@contextmanager
def _narrowed(mlp: _NarrowedMlp | None, needed: Tensor | None, row: int) -> Generator[None]:
    if mlp is None or needed is None or len(needed) > _MOST_NEEDED * row:
        yield
        return
    mlp.rows = needed
    try:
        yield
    finally:
        mlp.rows = None


class PathReader(_HookedReader):
    """Every path alone, padded on the right, by the model's own attention."""

    padded = True

    def __init__(self, model: LoadedModel, hook: Hook, device: torch.device) -> None:
        super().__init__(model, hook, device)
        self._implementation = "eager"

    def prepare(self, trees: Sequence[TokenTree]) -> PreparedTrees:
        """See ``Reader``."""
        paths = [path for tree in trees for path in tree_paths(tree)]
        longest = max(len(path) for path in paths)
        ids = np.zeros((len(paths), longest), np.int64)
        mask = np.zeros((len(paths), longest), np.int64)
        for row, path in enumerate(paths):
            ids[row, : len(path)] = path
            mask[row, : len(path)] = 1
        flat = torch.from_numpy(_flat_positions(trees, longest)).to(self._device)
        state = (torch.from_numpy(mask).to(self._device), flat)
        return PreparedTrees(tuple(trees), torch.from_numpy(ids).to(self._device), state, ids.size)

    def read(self, batch: PreparedTrees, needed: Tensor | None = None) -> Tensor:
        """See ``Reader``; reads all, not only what is needed."""
        self._model.decoder.config._attn_implementation = self._implementation
        mask, flat = batch.state
        return self._run(batch.ids, attention_mask=mask).flatten(0, 1)[flat]


def tree_paths(tree: TokenTree) -> list[np.ndarray[Any, Any]]:
    """Every root-to-leaf path's token ids."""
    if not tree.branches:
        return [tree.trunk]
    return [np.concatenate([tree.trunk, branch]) for branch in tree.branches]


def _flat_positions(trees: Sequence[TokenTree], longest: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where each tree token lies in the flattened padded batch: trunks are taken from their first path."""
    flat: list[np.ndarray[Any, Any]] = []
    row = 0
    for tree in trees:
        n = len(tree.trunk)
        flat.append(row * longest + np.arange(n))
        for branch in tree.branches:
            flat.append(row * longest + n + np.arange(len(branch)))
            row += 1
        row += not tree.branches
    return np.concatenate(flat).astype(np.int64)
