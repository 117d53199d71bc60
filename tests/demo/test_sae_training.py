"""The SAE's training, its saved form, and its measures, on small synthetic activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from torch import Tensor

from demo.sae import train as training
from demo.sae.measure import fit
from demo.sae.train import Recipe, save, shuffled, train


def sparse_acts(tokens: int, width: int, directions: int, seed: int) -> Tensor:
    """Sums of three of `directions` fixed unit vectors a token, on a large common mean: what an SAE can learn."""
    generator = torch.Generator().manual_seed(7)
    book = torch.nn.functional.normalize(torch.randn(directions, width, generator=generator), dim=-1)
    mean = 20 * torch.randn(width, generator=generator)
    generator.manual_seed(seed)
    picked = torch.rand(tokens, directions, generator=generator).topk(3).indices
    strength = 5 + 5 * torch.rand(tokens, 3, 1, generator=generator)
    return ((book[picked] * strength).sum(1) + mean).bfloat16()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A small SAE as it was trained, and as anyone reads it from disk."""
    patch = pytest.MonkeyPatch()
    patch.setattr(training, "D_IN", 32)
    recipe = Recipe(d_sae=96, k=4, tokens=150_000, batch_tokens=256, lr=3e-3)
    trained = train(sparse_acts(4096, 32, 48, seed=1), recipe)
    patch.undo()
    folder = tmp_path_factory.mktemp("sae")
    save(trained, folder, {"model_name": "some/model", "hook_name": "blocks.1.hook_resid_post"})
    return trained, SAE.load_from_disk(folder)


def test_the_saved_sae_explains_raw_activations_that_it_never_saw(saved: tuple[Any, Any]) -> None:
    unseen = fit(saved[1], sparse_acts(2048, 32, 48, seed=2))
    assert unseen.explained > 0.8
    assert unseen.l0 <= 4
    assert unseen.tokens == 2048


def test_nothing_is_left_to_fold_or_rescale_and_the_weights_are_bfloat16(saved: tuple[Any, Any]) -> None:
    trained, loaded = saved
    assert loaded.cfg.architecture() == "topk"
    assert loaded.cfg.normalize_activations == "none"
    assert loaded.cfg.rescale_acts_by_decoder_norm is False
    assert loaded.cfg.metadata.model_name == "some/model"
    assert torch.equal(loaded.W_dec, loaded.W_dec.bfloat16().float())
    torch.testing.assert_close(loaded.W_dec.norm(dim=-1), torch.ones(96), rtol=0, atol=0.01)
    acts = sparse_acts(256, 32, 48, seed=3).float()
    with torch.no_grad():
        read, meant = loaded.decode(loaded.encode(acts)), trained(acts)
    near = torch.isclose(read, meant, rtol=0.05, atol=0.6).all(dim=-1)
    # Rounding the weights lets another feature take the k-th place on a token where two are nearly equal.
    assert near.float().mean() > 0.97
    assert (read - meant).pow(2).sum() < 0.01 * (meant - meant.mean(0)).pow(2).sum()


def test_explained_variance_is_that_of_the_definition() -> None:
    class Half:
        """Keeps half of what is over the mean 1; feature 1 of 2 never fires."""

        class cfg:
            d_sae = 2

        def encode(self, h: Tensor) -> Tensor:
            return torch.stack([h[:, 0] - 1, torch.zeros(len(h))], dim=-1)

        def decode(self, features: Tensor) -> Tensor:
            return features[:, :1] / 2 + 1

    measured = fit(Half(), torch.tensor([[0.0], [2.0]] * 5000))
    assert measured.explained == pytest.approx(0.75)
    assert measured.dead == 0.5
    assert measured.l0 == pytest.approx(0.5)
    assert measured.fired.tolist() == [5000, 0]


def test_every_epoch_shows_each_token_at_most_once_in_a_new_order() -> None:
    acts = torch.arange(10.0)[:, None].bfloat16()
    batches = shuffled(acts, 4, seed=0)
    epochs = [torch.cat([next(batches), next(batches)]).flatten().tolist() for _ in range(2)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_saved_folder_holds_the_config_and_the_weights_and_nothing_else(saved: tuple[Any, Any], tmp_path: Path) -> None:
    save(saved[0], tmp_path / "new", {})
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["cfg.json", "sae_weights.safetensors"]
