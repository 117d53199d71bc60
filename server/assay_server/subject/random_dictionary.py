"""A frozen random dictionary of the loaded SAE's shape and sparsity, and the residuals themselves: what an SAE is held against.

A random dictionary that predicts as well as the trained one says that what was learnt is not what predicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay_server.errors import EngineFailure
from assay_server.subject import pooling
from assay_server.subject.pooling import PooledRows
from assay_server.subject.sae import FeatureEncoder, TopKEncoder, wants_centred_residual
from assay_server.subject.subject import Subject, TreeRequest
from assay_server.subject.types import SpanName, TokenTree


class RandomDictionary(TopKEncoder):
    """d_sae random directions of unit length: the k largest inner products of a token, those above 0.

    Its input is the SAE's own: centred, normalised, the decoder's bias taken off; without the bias the mean residual would decide
    which directions win. k is the trained SAE's where it is a TopK SAE, and otherwise its mean number of active features.

    Args:
        subject: whose SAE gives shape, input and sparsity.
        seed: of the directions; the same seed, the same dictionary.

    Attributes:
        directions: [d_in, d_sae].
    """

    def __init__(self, subject: Subject, seed: int) -> None:
        FeatureEncoder.__init__(self, subject.sae, center=wants_centred_residual(subject.sae))
        trained = subject.encoder
        k = trained.k if isinstance(trained, TopKEncoder) else round(subject.info.mean_l0)
        self.k = min(max(k, 1), self.d_sae)
        drawn = np.random.default_rng([seed, self.d_in, self.d_sae]).standard_normal((self.d_in, self.d_sae), dtype=np.float32)
        drawn /= np.sqrt(np.einsum("if,if->f", drawn, drawn))
        self.directions = torch.from_numpy(drawn)

    def inputs(self, residual: Tensor) -> Tensor:
        """As the SAE's, [tokens, d_in]; the decoder's bias is taken off where the SAE's own configuration leaves it in, too."""
        x = super().inputs(residual)
        return x if self._sae.cfg.apply_b_dec_to_input else x - self._sae.b_dec

    def _pre(self, x: Tensor, block: slice) -> Tensor:
        # Here and not before: only the device's thread may run operations of torch in parallel.
        self.directions = self.directions.to(x.device, x.dtype)
        return x @ self.directions[:, block]


@dataclass(frozen=True, slots=True, eq=False)
class SpansRead:
    """What one pass gives of n pairs' responses: rows 2i are chosen, rows 2i + 1 rejected.

    Attributes:
        tokens: of each response, int64 [2n].
        means: residual, mean over the response's tokens, float32 [2n, d_in].
        pooled: of each encoder, spans numbered as the rows.
    """

    tokens: NDArray[np.int64]
    means: NDArray[np.float32]
    pooled: tuple[PooledRows, ...]


@torch.inference_mode()
def read_spans(subject: Subject, encoders: Sequence[FeatureEncoder], trees: Sequence[TokenTree]) -> SpansRead:
    """Read pairs once and pool their responses under several encoders; on the device's thread only.

    Raises:
        EngineFailure: a residual is not finite (NON_FINITE).
    """
    batch = subject.prepare([TreeRequest(tree) for tree in trees])
    assert [name for _, name in batch.spans] == [SpanName.CHOSEN, SpanName.REJECTED] * len(trees)
    residual = subject.reader.read(batch.trees, batch.needed)[batch.rows]
    means = pooling.mean_rows(residual, batch.bounds)
    if not np.isfinite(means).all():
        raise EngineFailure("The residual at the hook is not finite.", reason="NON_FINITE")
    pooled = tuple(pooling.pool(encoder, residual, batch.bounds) for encoder in encoders)
    return SpansRead(np.diff(batch.bounds), means, pooled)
