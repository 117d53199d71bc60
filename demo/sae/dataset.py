"""The demo SAE's activations by source and part, read once and kept in a scratch folder outside the project.

Invariant: training sees parts named "train" only, and every figure that is reported comes from parts named "held-out".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from demo.sae.activations import RESPONSE, TEMPLATE, Reader, Reading
from demo.sae.corpus import Conversation, Part

SOURCES = ("hh", "self-chat", "self-web", "self-hh", "web")


def select(conversations: Sequence[Conversation], source: str, part: Part) -> list[Conversation]:
    """The conversations of one source and part, in file order: what the rows of a reading count."""
    return [c for c in conversations if c.source == source and c.part == part]


def reading(
    conversations: Sequence[Conversation],
    source: str,
    part: Part,
    reader: Callable[[], Reader],
    scratch: Path,
) -> Reading:
    """The activations of one source and part, from `scratch` where they were read before."""
    path = scratch / f"{source}-{part}.safetensors"
    if not path.exists():
        reader().read(select(conversations, source, part)).save(path)
    return Reading.load(path)


def training_acts(conversations: Sequence[Conversation], reader: Callable[[], Reader], scratch: Path) -> Tensor:
    """Every training token but each conversation's first, [tokens, d_in] bfloat16."""
    return torch.cat([reading(conversations, source, "train", reader, scratch).acts for source in SOURCES])


def held_out_spans(conversations: Sequence[Conversation], reader: Callable[[], Reader], scratch: Path) -> dict[str, Reading]:
    """The held-out tokens of every source that lie in a prompt or a response: the corpus for dead features."""
    spans: dict[str, Reading] = {}
    for source in (*SOURCES, "web-unseen"):
        if select(conversations, source, "held-out"):
            read = reading(conversations, source, "held-out", reader, scratch)
            spans[source] = read.where(read.spans != TEMPLATE)
    return spans


def responses(read: Reading) -> Tensor:
    """The response tokens of a reading, [tokens, d_in]."""
    return read.acts[read.spans == RESPONSE]
