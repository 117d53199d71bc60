import numpy as np
from assay_server.audit.bins import BINS, EDGES, MIDDLES, bins_of
from assay_server.audit.matrices import Csr
from assay_server.audit.maxima import Maxima
from assay_server.audit.passes import survey
from hypothesis import given
from hypothesis import strategies as st

from tests.server.audit.small_datasets import dataset, split


@given(value=st.floats(2.0**-16, 2.0**16, exclude_max=True, width=32))
def test_a_bin_holds_what_lies_between_its_edges(value: float) -> None:
    place = int(bins_of(np.array([value]))[0])
    assert EDGES[place] <= value < EDGES[place + 1]
    assert EDGES[place + 1] <= 1.25 * EDGES[place]


def test_values_beyond_the_bins_lie_in_the_outermost() -> None:
    assert bins_of(np.array([1e-30, 1e30])).tolist() == [0, BINS - 1]
    assert (np.diff(EDGES) > 0).all()
    assert np.allclose(MIDDLES**2, EDGES[:-1].astype(float) * EDGES[1:])


def test_a_scale_is_the_median_of_the_non_zero_maxima_to_within_a_bin() -> None:
    draws = np.random.default_rng(0)
    sizes = np.array([0.01, 1.0, 300.0])
    values = sizes * draws.gamma(2.0, size=(2_000, 3)) * (draws.random((2_000, 3)) < 0.3)
    values = np.concatenate([values, np.zeros((2_000, 1))], axis=1).astype(np.float32)
    maxima, spans = Maxima(4, 0.01), Csr((values > 0) * 0.1)
    maxima.add(Csr(values[:700]), Csr(spans[:700]))
    maxima.add(Csr(values[700:]), Csr(spans[700:]))
    scale = maxima.scale()
    for feature in range(3):
        median = np.median(values[values[:, feature] > 0, feature])
        assert 1 / 1.13 < scale[feature] / median < 1.13
    assert scale[3] == 1.0


def test_a_survey_has_the_same_scales_in_any_order_of_shards() -> None:
    shard = dataset(2, 200)
    one, other = survey(split(shard, [])), survey(split(shard, [30, 90], [2, 0, 1]))
    assert np.array_equal(one.scale, other.scale)
    assert len(np.unique(one.scale)) > 1
