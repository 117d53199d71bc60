"""Trains the demo SAE with SAELens's own trainer and saves it in SAELens's own inference format.

Invariants:

- The saved SAE works on raw activations with plain ``SAE.encode``: the trainer's scale factor and the decoder's norms are
  folded into the weights, so ``normalize_activations`` is "none" and ``rescale_acts_by_decoder_norm`` is false.
- What is saved is what is measured: weights are rounded to bfloat16 before anything is evaluated.
- TopK selects per token, so a token's features never depend on the batch that it was read in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file, save_file
from torch import Tensor

D_IN = 576


@dataclass(frozen=True)
class Recipe:
    """The demo SAE's hyper-parameters; `tokens` counts training tokens over all epochs."""

    d_sae: int = 4096
    k: int = 32
    tokens: int = 2_000_000
    batch_tokens: int = 2048
    lr: float = 8e-4
    seed: int = 0


def train(acts: Tensor, recipe: Recipe) -> TopKTrainingSAE:
    """A TopK SAE on raw activations [tokens, d_in] (bfloat16), its scale factor already folded in."""
    torch.manual_seed(recipe.seed)
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(d_in=D_IN, d_sae=recipe.d_sae, k=recipe.k, normalize_activations="expected_average_only_in")
    )
    steps = recipe.tokens // recipe.batch_tokens
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=steps * recipe.batch_tokens,
            train_batch_size_samples=recipe.batch_tokens,
            lr=recipe.lr,
            lr_end=recipe.lr / 100,
            lr_warm_up_steps=min(200, steps // 10),
            lr_decay_steps=steps // 3,
            autocast=True,
            dead_feature_window=250,
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae=sae,
        data_provider=shuffled(acts, recipe.batch_tokens, recipe.seed),
    )
    sample = acts[torch.randperm(len(acts))[:65536]].float()
    # Both are what the trainer would estimate or learn; the bias saves it the first thousand steps.
    trainer.activation_scaler.scaling_factor = math.sqrt(D_IN) / float(sample.norm(dim=-1).mean())
    sae.b_dec.data = sample.mean(0) * trainer.activation_scaler.scaling_factor
    trainer.fit()
    return sae


def shuffled(acts: Tensor, batch_tokens: int, seed: int) -> Iterator[Tensor]:
    """Endless float32 batches [batch_tokens, d_in], every epoch in a new order."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(acts), generator=generator)
        for start in range(0, len(order) - batch_tokens + 1, batch_tokens):
            yield acts[order[start : start + batch_tokens]].float()


def save(sae: TopKTrainingSAE, folder: Path, metadata: Mapping[str, object]) -> None:
    """Write `sae` as ``cfg.json`` and ``sae_weights.safetensors`` that ``SAE.load_from_disk`` reads.

    SAELens folds the decoder's norms into the encoder as it saves; the rows of the decoder then have unit norm, so the
    rescaling flag is cleared with them. The matrices are stored in bfloat16 and read back in float32.
    """
    with TemporaryDirectory() as scratch:
        weights_path, cfg_path = sae.save_inference_model(scratch)
        weights = load_file(weights_path)
        config: dict[str, Any] = json.loads(cfg_path.read_text())
    stored = {name: (w.bfloat16() if w.ndim == 2 else w.float()).contiguous() for name, w in weights.items()}
    config["rescale_acts_by_decoder_norm"] = False
    config["metadata"].update(metadata)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
