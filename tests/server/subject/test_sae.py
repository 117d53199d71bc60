"""The blockwise encoders against ``SAE.encode``, and the exact top k by groups."""

from typing import Any

import numpy as np
import pytest
import torch
from assay_server.subject import sae as encoders
from assay_server.subject.sae import BlockEncoder, TopKEncoder, make_encoder, top_of_row
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.models import WIDTH
from tests.support.saes import FEATURES, MAKERS, STORED_AS, K, stored_sae

NORMS = ("none", "layer_norm", "constant_norm_rescale")
TRAINED = ("batchtopk", "matryoshka")  # their stored form is jumprelu's, in every variant below
CASES = [(name, bias, norm) for name in MAKERS if name not in TRAINED for bias in (True, False) for norm in NORMS]
CASES += [(name, True, "none") for name in TRAINED]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def sae(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    name, bias, normalise = request.param
    loaded = stored_sae(name, tmp_path_factory.mktemp("sae"), bias_from_input=bias, normalise=normalise)
    assert loaded.cfg.architecture() == STORED_AS.get(name, name)
    return loaded


def residuals(tokens: int = 64) -> torch.Tensor:
    return 3 * torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(2)) + 0.5


def dense(encoder: Any, x: torch.Tensor) -> torch.Tensor:
    if isinstance(encoder, TopKEncoder):
        values, ids = encoder.encode_top(x)
        assert values.shape == ids.shape == (len(x), K)
        assert all(len(set(row)) == K for row in ids.tolist())
        return torch.zeros(len(x), encoder.d_sae).scatter_(1, ids, values)
    assert isinstance(encoder, BlockEncoder)
    starts, blocks = zip(*encoder.blocks(x), strict=True)
    assert list(starts) == np.cumsum([0] + [block.shape[1] for block in blocks[:-1]]).tolist()
    return torch.cat(blocks, dim=1)


@pytest.mark.parametrize("elements", [1, 640, 10_000, 10**9])
@torch.inference_mode()
def test_blocks_of_any_size_give_what_the_sae_itself_gives(sae: Any, monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    monkeypatch.setattr(encoders, "BLOCK_ELEMENTS", elements)
    encoder, h = make_encoder(sae), residuals()
    want = sae.encode(h)
    assert 0.01 < float((want > 0).float().mean()) < 0.6
    torch.testing.assert_close(dense(encoder, encoder.inputs(h)), want, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_named_features_come_in_the_order_asked_and_as_often(sae: Any) -> None:
    encoder, h = make_encoder(sae), residuals()
    want = sae.encode(h)
    best = want.sum(0).argsort(descending=True)[:5].tolist()
    asked = torch.tensor([best[2], FEATURES - 1, 0, *best])
    got = encoder.encode_features(encoder.inputs(h), asked)
    for column, feature in enumerate(asked.tolist()):
        if isinstance(encoder, TopKEncoder) and feature in asked.tolist()[column + 1 :]:
            continue
        torch.testing.assert_close(got[:, column], want[:, feature], rtol=1e-4, atol=1e-4)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.integers(1, 5),
    groups=st.integers(1, 40),
    ragged=st.integers(0, 7),
    k=st.integers(1, 30),
    seed=st.integers(0, 2**31),
    kinds=st.sampled_from(["normal", "ties", "negative", "infinite"]),
)
def test_the_top_k_by_groups_is_the_top_k(rows: int, groups: int, ragged: int, k: int, seed: int, kinds: str) -> None:
    generator = np.random.default_rng(seed)
    width = groups * 8 + ragged
    values = generator.normal(size=(rows, width))
    if kinds == "ties":
        values = np.round(values)
    if kinds == "negative":
        values = -np.abs(values) - 1
    if kinds == "infinite":
        values[generator.random(values.shape) < 0.3] = -np.inf
    matrix = torch.from_numpy(values.astype(np.float32))
    got, columns = top_of_row(matrix, k)
    want = torch.topk(matrix, min(k, width), dim=1).values
    assert torch.equal(got.sort(dim=1, descending=True).values, want)
    assert torch.equal(matrix.gather(1, columns), got)
    assert all(len(set(row)) == min(k, width) for row in columns.tolist())


@torch.inference_mode()
def test_a_topk_wider_than_the_sae_takes_every_feature(tmp_path: Any) -> None:
    from sae_lens import SAE
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    from tests.support.saes import metadata, randomise

    small = randomise(TopKSAE(TopKSAEConfig(d_in=WIDTH, d_sae=10, k=10, metadata=metadata())), 0)
    small.save_model(tmp_path)
    loaded = SAE.load_from_disk(str(tmp_path))
    encoder, h = make_encoder(loaded), residuals()
    values, ids = encoder.encode_top(encoder.inputs(h))  # type: ignore[attr-defined]
    torch.testing.assert_close(torch.zeros(len(h), 10).scatter_(1, ids, values), loaded.encode(h), rtol=1e-4, atol=1e-4)
