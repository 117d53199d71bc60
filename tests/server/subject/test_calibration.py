"""The calibration's meter: explained variance and L0 by definition, in any order and any portions."""

import numpy as np
import pytest
import torch
from assay_server.subject.calibration import CALIBRATION, VarianceMeter, measure
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.models import WIDTH
from tests.support.saes import MAKERS, stored_sae


@settings(max_examples=50, deadline=None)
@given(
    portions=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    seed=st.integers(0, 2**31),
    offset=st.sampled_from([0.0, 3.0, 900.0]),
)
def test_any_portions_add_up_to_the_whole_texts_variance(portions: list[int], seed: int, offset: float) -> None:
    generator = np.random.default_rng(seed)
    n = sum(portions)
    h, r = generator.normal(size=(2, n, 5))
    h, r = h + offset, h + offset + 0.5 * r
    acts = np.maximum(generator.normal(size=(n, 7)), 0)
    meter = VarianceMeter(5)
    start = 0
    for size in portions:
        rows = slice(start, start + size)
        meter.add(*(torch.from_numpy(a[rows]) for a in (h, acts, r)))
        start += size
    assert meter.tokens == n
    assert meter.mean_l0 == pytest.approx((acts > 0).sum() / n)
    want = 1 - ((h - r) ** 2).sum() / ((h - h.mean(0)) ** 2).sum()
    assert meter.explained_variance == pytest.approx(want, rel=1e-6, abs=1e-6)


def test_a_residual_that_does_not_vary_or_is_not_there_explains_nothing() -> None:
    still = VarianceMeter(3)
    assert still.explained_variance == float("-inf")
    still.add(torch.ones(4, 3), torch.ones(4, 2), torch.ones(4, 3))
    assert still.explained_variance == float("-inf")
    assert still.mean_l0 == 2.0


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_a_measure_is_of_the_saes_own_encoding_and_decoding(tmp_path: object, name: str, center: bool) -> None:
    sae = stored_sae(name, tmp_path)  # type: ignore[arg-type]
    h = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(4)) + 0.5
    meter = VarianceMeter(WIDTH)
    measure(sae, h, meter, center=center, chunk=7)
    x = h - h.mean(-1, keepdim=True) if center else h
    acts = sae.encode(x)
    want = 1 - (x - sae.decode(acts)).double().square().sum() / (x - x.mean(0)).double().square().sum()
    assert meter.explained_variance == pytest.approx(float(want), rel=1e-5)
    assert meter.mean_l0 == pytest.approx(float((acts > 0).sum()) / 50)


def test_the_built_in_text_is_long_enough_to_mean_something_and_short_enough_to_be_quick() -> None:
    words = [len(answer.split()) for _, answer in CALIBRATION]
    assert 300 < sum(words) < 2_000
    assert min(words) > 30
    assert len({question for question, _ in CALIBRATION}) == len(CALIBRATION)
