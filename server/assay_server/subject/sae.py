"""The SAE's encoder, in blocks of features: what ``sae_lens.SAE.encode`` computes, never tokens x features at once.

Invariants:
- For every supported architecture, activations equal ``SAE.encode`` on the same input and dtype up to summation order.
- No tensor is larger than ``tokens x block`` (and ``tokens x 2k`` for TopK), whatever the SAE's width.
- Decoder norms are used only where the SAE's own configuration rescales by them; nothing is folded behind its back.

Architectures are SAELens's names for what is stored. BatchTopK and Matryoshka SAEs are stored for inference as ``jumprelu``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from assay_server.errors import SubjectMismatch

BLOCK_ELEMENTS = 8 * 1024 * 1024  # of one [tokens, block] tensor: 32 MiB in float32


class FeatureEncoder(ABC):
    """Encodes residuals into feature activations, a block of features at a time.

    Args:
        sae: a loaded ``sae_lens.SAE`` on the device and in the dtype to run in.
        center: subtract each residual's own mean first, for SAEs trained on models whose writing weights were centred.
    """

    def __init__(self, sae: Any, *, center: bool) -> None:
        self._sae = sae
        self._center = center
        self.d_in: int = sae.cfg.d_in
        self.d_sae: int = sae.cfg.d_sae

    def inputs(self, residual: Tensor) -> Tensor:
        """What the encoder matrix multiplies: residual [tokens, d_in], cast, centred, normalised, bias removed."""
        if self._center:
            residual = residual - residual.mean(dim=-1, keepdim=True)
        return self._sae.process_sae_in(residual)

    def block_width(self, tokens: int) -> int:
        """Features per block, so that [tokens, block] stays within ``BLOCK_ELEMENTS``."""
        return max(1, min(self.d_sae, BLOCK_ELEMENTS // max(1, tokens)))

    @abstractmethod
    def encode_features(self, x: Tensor, features: Tensor) -> Tensor:
        """Activations [tokens, len(features)] of the named features on encoder inputs [tokens, d_in]."""


class BlockEncoder(FeatureEncoder):
    """Architectures whose features do not compete: any block of features can be computed alone."""

    @abstractmethod
    def activate(self, x: Tensor, block: slice | Tensor) -> Tensor:
        """Activations [tokens, block] on encoder inputs [tokens, d_in]."""

    def blocks(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """First feature id and activations [tokens, block] of each block."""
        width = self.block_width(len(x))
        for start in range(0, self.d_sae, width):
            yield start, self.activate(x, slice(start, start + width))

    def encode_features(self, x: Tensor, features: Tensor) -> Tensor:
        """See ``FeatureEncoder``."""
        return self.activate(x, features)


class StandardEncoder(BlockEncoder):
    """ReLU(x W + b)."""

    def activate(self, x: Tensor, block: slice | Tensor) -> Tensor:
        """See ``BlockEncoder``."""
        return torch.addmm(self._sae.b_enc[block], x, self._sae.W_enc[:, block]).relu_()


class JumpReluEncoder(BlockEncoder):
    """Pre-activations where they exceed the feature's threshold, else 0 (arXiv 2407.14435)."""

    def activate(self, x: Tensor, block: slice | Tensor) -> Tensor:
        """See ``BlockEncoder``."""
        pre = torch.addmm(self._sae.b_enc[block], x, self._sae.W_enc[:, block])
        over = pre > self._sae.threshold[block]
        return pre.relu_().mul_(over)


class GatedEncoder(BlockEncoder):
    """Gate decides whether, magnitude how much; both share one product (arXiv 2404.16014)."""

    def activate(self, x: Tensor, block: slice | Tensor) -> Tensor:
        """See ``BlockEncoder``."""
        product = x @ self._sae.W_enc[:, block]
        open_ = product + self._sae.b_gate[block] > 0
        magnitude = product * self._sae.r_mag[block].exp() + self._sae.b_mag[block]
        return magnitude.relu_().mul_(open_)


class TopKEncoder(FeatureEncoder):
    """The k largest pre-activations of each token, those above 0 (arXiv 2406.04093)."""

    def __init__(self, sae: Any, *, center: bool) -> None:
        super().__init__(sae, center=center)
        self.k = min(int(sae.cfg.k), self.d_sae)
        self._norms = sae.W_dec.norm(dim=-1) if sae.cfg.rescale_acts_by_decoder_norm else None

    def encode_top(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activations (>= 0) and feature ids, both [tokens, k], in no order, of encoder inputs [tokens, d_in]."""
        width = max(self.k, self.block_width(len(x)))
        values: Tensor | None = None
        ids: Tensor | None = None
        for start in range(0, self.d_sae, width):
            block_values, block_ids = top_of_row(self._pre(x, slice(start, start + width)), self.k)
            block_ids = block_ids + start
            if values is None or ids is None:
                values, ids = block_values, block_ids
                continue
            values, kept = top_of_row(torch.cat([values, block_values], dim=1), self.k)
            ids = torch.cat([ids, block_ids], dim=1).gather(1, kept)
        assert values is not None
        assert ids is not None
        return values.relu_(), ids

    def encode_features(self, x: Tensor, features: Tensor) -> Tensor:
        """See ``FeatureEncoder``."""
        values, ids = self.encode_top(x)
        column = torch.full((self.d_sae,), len(features), dtype=torch.int64, device=x.device)
        column[features] = torch.arange(len(features), device=x.device)
        out = torch.zeros(len(x), len(features) + 1, dtype=values.dtype, device=x.device)
        return out.scatter_(1, column[ids], values)[:, :-1]

    def _pre(self, x: Tensor, block: slice) -> Tensor:
        pre = torch.addmm(self._sae.b_enc[block], x, self._sae.W_enc[:, block])
        return pre if self._norms is None else pre.mul_(self._norms[block])


def top_of_row(rows: Tensor, k: int, group: int = 8) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row [n, width] and their columns, exactly, in no order.

    The k largest entries lie within the k groups of columns that have the largest maxima: an entry outside them is no larger
    than k others. So a top-k over group maxima and one over k groups replace one over the row, with a quarter of the work.
    """
    n, width = rows.shape
    groups = width // group
    if width % group or groups < 2 * k:
        return torch.topk(rows, min(k, width), dim=1, sorted=False)
    grouped = rows.view(n, groups, group)
    chosen = torch.topk(grouped.amax(dim=2), k, dim=1, sorted=False).indices  # [n, k]
    candidates = grouped.gather(1, chosen[:, :, None].expand(n, k, group)).view(n, k * group)
    values, within = torch.topk(candidates, k, dim=1, sorted=False)
    columns = chosen.gather(1, within // group) * group + within % group
    return values, columns


ENCODERS: dict[str, type[FeatureEncoder]] = {
    "standard": StandardEncoder,
    "jumprelu": JumpReluEncoder,
    "gated": GatedEncoder,
    "topk": TopKEncoder,
}


def make_encoder(sae: Any) -> FeatureEncoder:
    """The encoder of a loaded ``sae_lens.SAE``.

    Raises:
        SubjectMismatch: its architecture, input reshaping or normalisation is not one that can be read faithfully.
    """
    architecture = sae.cfg.architecture()
    if architecture not in ENCODERS:
        raise SubjectMismatch(
            f"SAE architecture {architecture!r} is not supported; supported are {', '.join(ENCODERS)} (BatchTopK and Matryoshka "
            "SAEs are stored as jumprelu: save them with SAELens's save_inference_model).",
            reason="SAE_ARCHITECTURE",
            details={"architecture": architecture},
        )
    if sae.cfg.reshape_activations != "none":
        raise SubjectMismatch(f"The SAE reads {sae.cfg.reshape_activations}, not the residual stream.", reason="SAE_RESHAPES")
    if sae.cfg.normalize_activations not in ("none", "layer_norm", "constant_norm_rescale"):
        raise SubjectMismatch(
            f"The SAE expects inputs under {sae.cfg.normalize_activations!r}, whose factor is not stored with it. Fold it first: "
            "sae.fold_activation_norm_scaling_factor(factor), then save.",
            reason="SAE_NORMALISATION",
            details={"normalize_activations": sae.cfg.normalize_activations},
        )
    return ENCODERS[architecture](sae, center=wants_centred_residual(sae))


def wants_centred_residual(sae: Any) -> bool:
    """Whether the SAE was trained on a TransformerLens model with centred writing weights, whose residual has mean 0."""
    kwargs = sae.cfg.metadata.model_from_pretrained_kwargs or {}
    return bool(kwargs.get("center_writing_weights", False))
