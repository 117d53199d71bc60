"""Reading: the forward pass over a batch of trees, stopped at the hook, and nothing after it.

``TreeReader`` packs trees into one row and shares prefixes (see ``attention``). ``PathReader`` reads every path as a sequence
of its own in a padded batch with the model's own attention: slower, and right for any causal architecture. At load the subject
compares the two on a probe and keeps the first only where they agree, so an architecture that ignores the attention interface,
or bends it, costs speed and never correctness.

Logits are never computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from assay_server.subject import attention
from assay_server.subject.hooks import Hook
from assay_server.subject.loading import LoadedModel
from assay_server.subject.types import TokenTree


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

    def read(self, batch: PreparedTrees) -> Tensor:
        """Residuals at the hook [total tree tokens, width], tree after tree in flat order."""
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
        block = model.blocks[hook.block]
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
    """Packed rows with shared prefixes."""

    padded = False

    def prepare(self, trees: Sequence[TokenTree]) -> PreparedTrees:
        """See ``Reader``."""
        flat = np.concatenate([part for tree in trees for part in (tree.trunk, *tree.branches)]).astype(np.int64)
        layout = attention.TreeLayout.of(trees, self._device)
        ids = torch.from_numpy(flat)[None].to(self._device, non_blocking=True)
        return PreparedTrees(tuple(trees), ids, layout, len(flat))

    def read(self, batch: PreparedTrees) -> Tensor:
        """See ``Reader``."""
        self._model.decoder.config._attn_implementation = attention.NAME
        with attention.reading(batch.state):
            return self._run(batch.ids, position_ids=batch.state.positions[None])[0]


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

    def read(self, batch: PreparedTrees) -> Tensor:
        """See ``Reader``."""
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
