"""Hooks are SAELens's strings, or the module's name, and nothing shorter."""

import pytest
import torch
from assay_server.errors import SubjectMismatch
from assay_server.subject.hooks import find_blocks, parse_hook
from torch import nn

from tests.server.subject.conftest import Bench
from tests.support.models import BLOCKS, FAMILIES


@pytest.mark.parametrize(
    ("name", "block", "is_input"),
    [
        ("blocks.0.hook_resid_pre", 0, True),
        ("blocks.0.hook_resid_post", 0, False),
        ("blocks.1.hook_resid_pre", 0, False),  # the input of block 1 is the output of block 0
        ("blocks.15.hook_resid_post", 15, False),
        ("blocks.15.hook_resid_pre", 14, False),
        ("model.layers.7", 7, False),
        ("transformer.h.7", 7, False),
        ("gpt_neox.layers.7", 7, False),
    ],
)
def test_a_residual_hook_is_read_as_a_block_and_a_side(name: str, block: int, is_input: bool) -> None:
    hook = parse_hook(name)
    assert (hook.name, hook.block, hook.is_input, hook.blocks_run) == (name, block, is_input, block + 1)


@pytest.mark.parametrize(
    "name",
    [
        "15", "", "layer 15", "blocks.15", "blocks.15.hook_mlp_out", "blocks.3.attn.hook_z", "blocks.3.hook_resid_mid",
        "blocks.-1.hook_resid_post", "blocks.3.hook_resid_post.", " blocks.3.hook_resid_post", "hook_embed", "model.layers.3.mlp",
        "blocks.3.hook_resid_post\n",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_the_form_to_use(name: str) -> None:
    with pytest.raises(SubjectMismatch, match=r"blocks\.L\.hook_resid_post") as raised:
        parse_hook(name)
    assert (raised.value.reason, raised.value.details["hook"]) == ("UNKNOWN_HOOK", name)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_blocks_of_every_family_are_found(bench: Bench, family: str) -> None:
    decoder, attribute, blocks = find_blocks(bench.model(family))
    assert len(blocks) == BLOCKS
    assert getattr(decoder, attribute) is blocks


def test_a_model_without_a_list_of_blocks_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.ModuleList([nn.Linear(2, 2)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.stages[0](x)

    with pytest.raises(SubjectMismatch, match="Odd") as raised:
        find_blocks(Odd())
    assert raised.value.reason == "UNKNOWN_ARCHITECTURE"
