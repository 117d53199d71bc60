"""Pooling: spans against plain loops, float16 storage, and what fired staying visible."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from assay_server.subject import sae as encoders
from assay_server.subject.pooling import F16_MAX, PooledRows, mean_rows, pool, quantise, split_spans
from assay_server.subject.sae import make_encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import reference
from tests.support.models import WIDTH
from tests.support.saes import FEATURES, MAKERS, stored_sae

sizes = st.lists(st.integers(1, 12), min_size=1, max_size=12)


@pytest.fixture(scope="module", params=MAKERS)
def sae(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return stored_sae(request.param, tmp_path_factory.mktemp("sae"))


@settings(max_examples=40, deadline=None)
@given(spans=sizes, seed=st.integers(0, 2**31), elements=st.sampled_from([1, 500, 2_000, 10**8]))
@torch.inference_mode()
def test_spans_of_any_sizes_pool_as_a_plain_loop_over_their_tokens(sae: Any, spans: list[int], seed: int, elements: int) -> None:
    h = 2 * torch.randn(sum(spans), WIDTH, generator=torch.Generator().manual_seed(seed))
    bounds = np.cumsum([0, *spans]).tolist()
    before, encoders.BLOCK_ELEMENTS = encoders.BLOCK_ELEMENTS, elements
    try:
        rows = pool(make_encoder(sae), h, bounds)
    finally:
        encoders.BLOCK_ELEMENTS = before
    order = rows.span * FEATURES + rows.feature
    assert np.all(np.diff(order) > 0), "entries come by span, then feature, each once"
    acts, margin = sae.encode(h), reference.margins(sae, h)
    for i, (a, b) in enumerate(pairwise(bounds)):
        maximum, count = reference.pool(acts[a:b])
        sure = ~(margin[a:b].abs() < 1e-5).any(0).numpy()
        mine = rows.span == i
        got_max, got_count = np.zeros(FEATURES, np.float32), np.zeros(FEATURES, np.int64)
        got_max[rows.feature[mine]], got_count[rows.feature[mine]] = rows.maximum[mine], rows.count[mine]
        np.testing.assert_array_equal(got_count[sure], count[sure])
        np.testing.assert_allclose(got_max[sure], maximum[sure], rtol=1e-5, atol=1e-5)
        assert sure.mean() > 0.98


@given(spans=sizes, seed=st.integers(0, 2**31), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_means_are_those_of_each_spans_rows(spans: list[int], seed: int, dtype: torch.dtype) -> None:
    rows = torch.randn(sum(spans), 3, generator=torch.Generator().manual_seed(seed)).to(dtype)
    bounds = np.cumsum([0, *spans]).tolist()
    parts = [rows[a:b].double().numpy() for a, b in pairwise(bounds)]
    np.testing.assert_allclose(mean_rows(rows, bounds), [part.mean(0) for part in parts], rtol=1e-5, atol=1e-6)


@settings(max_examples=300)
@given(st.lists(st.floats(-(2.0**120), 2.0**120, width=32), max_size=8))
def test_quantised_values_are_finite_and_as_close_as_float16_can_be(values: list[float]) -> None:
    array = np.array(values, np.float32)
    stored, exponent = quantise(array)
    back = np.ldexp(stored.astype(np.float64), exponent)
    assert stored.dtype == np.float16
    assert np.all(np.isfinite(stored))
    assert exponent >= 0
    assert (exponent == 0) == (np.abs(array).max(initial=0) < F16_MAX)
    assert exponent == 0 or np.abs(stored).max() >= F16_MAX / 4.01, "no bit of precision is given away"
    unit = np.maximum(np.abs(array) * 2.0**-11, 2.0**-25 * 2.0**exponent)
    assert np.all(np.abs(back - array) <= unit)


def test_what_fired_stays_visible_as_having_fired_however_weakly() -> None:
    rows = PooledRows(np.zeros(3, np.int64), np.array([1, 5, 9]), np.array([1e-12, 3.0, 2e5], np.float32), np.array([1, 2, 4]))
    span = split_spans(rows, np.zeros((1, 4), np.float32), [4])[0]
    assert span.exponent > 0
    assert np.all(span.max > 0)
    assert span.max[2] == pytest.approx(2e5, rel=2**-11)
    assert span.indices.tolist() == [1, 5, 9]
    assert span.counts.tolist() == [1, 2, 4]
    np.testing.assert_allclose(span.freq, [0.25, 0.5, 1.0])
    assert span.nbytes == 3 * (4 + 2 + 4) + 4 * 2


def test_entries_go_to_their_own_span_and_a_span_where_nothing_fires_is_empty() -> None:
    rows = PooledRows(np.array([0, 0, 2]), np.array([3, 4, 3]), np.array([1, 2, 3], np.float32), np.array([1, 1, 2]))
    first, silent, last = split_spans(rows, np.arange(6, dtype=np.float32).reshape(3, 2), [1, 7, 2])
    assert (first.indices.tolist(), silent.indices.tolist(), last.indices.tolist()) == ([3, 4], [], [3])
    assert (first.tokens, silent.tokens, last.tokens) == (1, 7, 2)
    assert silent.mean_residual.tolist() == [2.0, 3.0]
    assert (silent.max.shape, silent.exponent) == ((0,), 0)
