"""Random SAEs of every architecture that is read, made and saved by SAELens itself, as folders on disk.

BatchTopK and Matryoshka SAEs are made by SAELens's *training* classes, trained for a few steps so that their threshold is a
learned one, and saved by ``save_inference_model``, as a user's would be.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata, TrainStepInput
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from torch import Tensor

from tests.support.models import HOOK, WIDTH

FEATURES = 384
K = 12


def metadata(**extra: Any) -> SAEMetadata:
    """What SAELens stores beside an SAE; no model name, so that any family may load it."""
    return SAEMetadata(**{"hook_name": HOOK, "prepend_bos": False, **extra})


def randomise(sae: Any, seed: int, *, scale: float = 1.0) -> Any:
    """Fill an SAE's parameters so that about a tenth of its features fire on residuals whose entries are of size ``scale``."""
    generator = torch.Generator().manual_seed(seed)
    d_in, d_sae = sae.cfg.d_in, sae.cfg.d_sae

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    sae.W_enc.data = noise(d_in, d_sae) / d_in**0.5
    sae.W_dec.data = noise(d_sae, d_in) * (0.5 + torch.rand(d_sae, 1, generator=generator)) / d_in**0.5
    sae.b_dec.data = 0.3 * scale * noise(d_in)
    bias = scale * (0.3 * noise(d_sae) - 1.2)
    if hasattr(sae, "b_gate"):
        sae.b_gate.data, sae.b_mag.data = bias, scale * 0.5 * noise(d_sae)
        sae.r_mag.data = 0.3 * noise(d_sae)
    else:
        sae.b_enc.data = bias
    if hasattr(sae, "threshold"):
        sae.threshold.data = scale * (0.2 + torch.rand(d_sae, generator=generator))
    return sae.to(getattr(torch, sae.cfg.dtype))


def _standard(**extra: Any) -> Any:
    return StandardSAE(StandardSAEConfig(**extra))


def _gated(**extra: Any) -> Any:
    return GatedSAE(GatedSAEConfig(**extra))


def _jumprelu(**extra: Any) -> Any:
    return JumpReLUSAE(JumpReLUSAEConfig(**extra))


def _topk(**extra: Any) -> Any:
    return TopKSAE(TopKSAEConfig(k=K, **extra))


def _topk_rescaled(**extra: Any) -> Any:
    return TopKSAE(TopKSAEConfig(k=K, rescale_acts_by_decoder_norm=True, **extra))


def _batchtopk(**extra: Any) -> Any:
    extra.pop("apply_b_dec_to_input")  # theirs is fixed
    return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(k=K, topk_threshold_lr=0.5, **extra))


def _matryoshka(**extra: Any) -> Any:
    extra.pop("apply_b_dec_to_input")
    widths = [extra["d_sae"] // 4, extra["d_sae"] // 2, extra["d_sae"]]
    return MatryoshkaBatchTopKTrainingSAE(
        MatryoshkaBatchTopKTrainingSAEConfig(k=K, topk_threshold_lr=0.5, matryoshka_widths=widths, **extra)
    )


MAKERS: dict[str, Callable[..., Any]] = {
    "standard": _standard,
    "gated": _gated,
    "jumprelu": _jumprelu,
    "topk": _topk,
    "topk_rescaled": _topk_rescaled,
    "batchtopk": _batchtopk,
    "matryoshka": _matryoshka,
}
STORED_AS = {"batchtopk": "jumprelu", "matryoshka": "jumprelu", "topk_rescaled": "topk"}


def build_sae(
    name: str,
    *,
    d_in: int = WIDTH,
    d_sae: int = FEATURES,
    seed: int = 0,
    scale: float = 1.0,
    bias_from_input: bool = True,
    normalise: str = "none",
    about: SAEMetadata | None = None,
) -> Any:
    """A random SAE of an architecture. BatchTopK and Matryoshka come back as training SAEs: save them to read them."""
    sae = MAKERS[name](
        d_in=d_in,
        d_sae=d_sae,
        apply_b_dec_to_input=bias_from_input,
        normalize_activations=normalise,
        metadata=about or metadata(),
    )
    unit = normalise != "none"  # normalised inputs have entries of size 1
    randomise(sae, seed, scale=1.0 if unit else scale)
    if name in ("batchtopk", "matryoshka"):
        _learn_threshold(sae, 1.0 if unit else scale)
    return sae


def save_sae(sae: Any, folder: Path) -> Path:
    """Save in SAELens's own format: as an inference model where the SAE is a training one."""
    folder.mkdir(parents=True, exist_ok=True)
    (sae.save_inference_model if hasattr(sae, "save_inference_model") else sae.save_model)(folder)
    return folder


def stored_sae(name: str, folder: Path, **extra: Any) -> Any:
    """Build, save and load back by SAELens: the reference's SAE."""
    return SAE.load_from_disk(str(save_sae(build_sae(name, **extra), folder))).eval().requires_grad_(False)


def _learn_threshold(sae: Any, scale: float) -> None:
    generator = torch.Generator().manual_seed(99)
    for _ in range(6):
        batch = scale * torch.randn(64, sae.cfg.d_in, generator=generator)
        sae.training_forward_pass(TrainStepInput(batch, {}, None, 0, False))
