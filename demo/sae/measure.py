"""What an SAE is worth on given activations: explained variance, L0 and dead features, as METHOD.md section 6 has them.

The SAE is used as anyone would: ``sae.encode`` and ``sae.decode`` on raw activations, in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """How an SAE reads some tokens: `explained` variance, mean `l0`, and `fired` [d_sae], how many tokens each feature
    fired on out of `tokens`."""

    explained: float
    l0: float
    fired: Tensor
    tokens: int

    @property
    def dead(self) -> float:
        """The share of features that fired on no token."""
        return float((self.fired == 0).float().mean())


@torch.inference_mode()
def fit(sae: Any, acts: Tensor) -> Fit:
    """Measure `sae` on `acts` [tokens, d_in] (any float dtype).

    Explained variance is 1 - sum |h - h'|^2 / sum |h - mean|^2, the mean over all of `acts` (METHOD.md, section 6).
    """
    mean = acts.float().mean(0)
    error = total = active = 0.0
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.long)
    for block in acts.split(4096):
        h = block.float()
        features = sae.encode(h)
        error += float((h - sae.decode(features)).square().sum(dtype=torch.float64))
        total += float((h - mean).square().sum(dtype=torch.float64))
        on = features > 0
        fired += on.sum(0)
        active += float(on.sum())
    return Fit(1 - error / total, active / len(acts), fired, len(acts))
