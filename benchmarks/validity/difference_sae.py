"""The WIMHF recipe's autoencoder (Movva, Milli, Min and Pierson 2025, arXiv 2510.26202), restated for the comparison.

A sparse autoencoder of 32 features, 4 of which are active on average (BatchTopK), is trained on differences of response
embeddings. Activations are signed (identity in place of ReLU) and nothing is added, so that exchanging the two responses
negates them; at inference a learned threshold keeps the mean number of active features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FEATURES, ACTIVE = 32, 4


@dataclass(frozen=True)
class DifferenceSae:
    """A trained encoder: z = x·W where |x·W| passes the threshold, else 0."""

    encoder: Tensor  # [d, features]
    threshold: float

    def encode(self, differences: NDArray[np.float64]) -> NDArray[np.float64]:
        """Signed activations [n, features]."""
        z = torch.from_numpy(np.ascontiguousarray(differences, np.float32)) @ self.encoder
        return torch.where(z.abs() > self.threshold, z, 0.0).double().numpy()


def train_difference_sae(
    differences: NDArray[np.float64], *, seed: int, steps: int = 1_500, batch: int = 512, rate: float = 5e-4
) -> DifferenceSae:
    """Fit on embedding differences [n, d] by Adam on the squared error; decoder rows are unit vectors."""
    torch.manual_seed(seed)
    x = torch.from_numpy(np.ascontiguousarray(differences, np.float32))
    scale = float(x.square().sum(dim=1).mean().sqrt())
    x = x / scale
    decoder = torch.nn.functional.normalize(torch.randn(FEATURES, x.shape[1]), dim=1).requires_grad_()
    encoder = decoder.detach().T.clone().requires_grad_()
    optimiser = torch.optim.Adam([encoder, decoder], lr=rate)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = x[torch.randint(len(x), (min(batch, len(x)),), generator=draws)]
        z, _ = _batch_top_k(rows @ encoder)
        loss = (z @ decoder - rows).square().sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            decoder.copy_(torch.nn.functional.normalize(decoder, dim=1))
    with torch.no_grad():
        _, threshold = _batch_top_k(x @ encoder)
    return DifferenceSae(encoder.detach() / scale, threshold)


def _batch_top_k(z: Tensor) -> tuple[Tensor, float]:
    """All but the batch × 4 activations of largest magnitude set to zero, and the magnitude of the last that was kept."""
    bar = z.abs().flatten().topk(ACTIVE * len(z)).values[-1]
    return torch.where(z.abs() >= bar, z, 0.0), float(bar.detach()) * (1 - 1e-6)
