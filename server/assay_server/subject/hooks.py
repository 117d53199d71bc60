"""Where a hook is: SAELens's hook strings to a block of a Hugging Face model, and how many blocks that needs.

Hooks are named by SAELens's strings only; a bare layer number is refused, because public code disagrees by one on what it means
(METHOD.md §1). ``blocks.L.hook_resid_post`` is the output of block L, ``blocks.L.hook_resid_pre`` its input, which is the
output of block L - 1. Both are read off the blocks themselves, so the final norm never touches them.
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from assay_server.errors import SubjectMismatch

_SAELENS = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)")
_HUGGING_FACE = re.compile(r"(?:model|transformer|gpt_neox)\.(?:layers|h)\.(\d+)")
_BLOCK_LISTS = ("layers", "h", "blocks", "block")


@dataclass(frozen=True, slots=True)
class Hook:
    """A place in the residual stream.

    Attributes:
        name: SAELens's string.
        block: the block whose output (or, for block 0's ``resid_pre``, input) is read.
        is_input: whether the block's input is read, which only ``blocks.0.hook_resid_pre`` needs.
    """

    name: str
    block: int
    is_input: bool = False

    @property
    def blocks_run(self) -> int:
        """Blocks that must run."""
        return self.block + 1


def parse_hook(name: str) -> Hook:
    """Read a hook's name.

    Raises:
        SubjectMismatch: it is not a residual-stream hook (UNKNOWN_HOOK).
    """
    if match := _SAELENS.fullmatch(name):
        layer, place = int(match[1]), match[2]
        if place == "post":
            return Hook(name, layer)
        return Hook(name, layer - 1) if layer else Hook(name, 0, is_input=True)
    if match := _HUGGING_FACE.fullmatch(name):  # SAEs trained by SAELens on AutoModel name the module
        return Hook(name, int(match[1]))
    raise SubjectMismatch(
        f"Hook {name!r} is not a place in the residual stream. Use blocks.L.hook_resid_post or blocks.L.hook_resid_pre.",
        reason="UNKNOWN_HOOK",
        details={"hook": name},
    )


def find_blocks(model: Any) -> tuple[nn.Module, str, nn.ModuleList]:
    """The decoder, the attribute that holds its blocks, and the blocks, of any Hugging Face causal model.

    Raises:
        SubjectMismatch: no list of blocks was found (UNKNOWN_ARCHITECTURE).
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    for candidate in (decoder, getattr(model, "base_model", None), getattr(model, "model", None), model):
        if candidate is None:
            continue
        for attribute in _BLOCK_LISTS:
            blocks = getattr(candidate, attribute, None)
            if isinstance(blocks, nn.ModuleList):
                return candidate, attribute, blocks
    raise SubjectMismatch(
        f"{type(model).__name__} keeps its blocks under none of {', '.join(_BLOCK_LISTS)}; it cannot be read at a hook.",
        reason="UNKNOWN_ARCHITECTURE",
    )
