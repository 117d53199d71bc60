"""The whole model, kept beside the one that is cut at the hook: the blocks past it, the final norm, and the head.

Scoring reads a decoder that ends at the hook (``loading``). What needs log-probabilities puts the rest back for the length of one
call on the device's thread, and takes it out again.

Invariants:
- Outside ``restored`` the decoder is the cut one; nothing of scoring can tell that the whole model is kept.
- The head is the architecture's own code: its forward is run with the decoder's answer given, so that soft caps, scales and
  biases of logits are its own, not guessed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast


@dataclass(slots=True)
class WholeModel:
    """What ``cut_model`` would have dropped.

    Attributes:
        causal: the model with its head; its decoder is cut, outside ``restored``.
        decoder: the module that holds the blocks.
        attribute: under which name.
        blocks: all blocks.
        norms: the final norms, by the decoder's names for them.
        fingerprint: SHA-256 over all weights and the configuration.
    """

    causal: Any
    decoder: Any
    attribute: str
    blocks: nn.ModuleList
    norms: Mapping[str, nn.Module]
    fingerprint: str

    def to(self, device: torch.device) -> None:
        """Move everything."""
        self.causal.to(device)
        self.blocks.to(device)
        for norm in self.norms.values():
            norm.to(device)

    @contextmanager
    def restored(self) -> Generator[Any]:
        """The whole model, for one call; the device's thread only."""
        cut = {name: getattr(self.decoder, name) for name in (self.attribute, *self.norms)}
        try:
            for name, module in ((self.attribute, self.blocks), *self.norms.items()):
                setattr(self.decoder, name, module)
            yield self.causal
        finally:
            for name, module in cut.items():
                setattr(self.decoder, name, module)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [tokens, vocabulary] of hidden states [tokens, width] that the final norm has seen, in the model's dtype."""
        placeholder = torch.zeros(1, len(hidden), dtype=torch.int64, device=hidden.device)
        self.decoder.forward = lambda *_, **__: _Hidden(last_hidden_state=hidden[None])  # an instance's own comes first
        try:
            return self.causal(input_ids=placeholder, use_cache=False).logits[0]
        finally:
            del self.decoder.forward


class _Hidden(BaseModelOutputWithPast):
    """A decoder's answer that has every other field that an architecture may ask for: nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return None
