"""Rankings against a plain dense reference."""

import time

import numpy as np
import pytest
from assay_server.scorer.ranking import Ranker, WeightedFeatures, stack_weighted
from assay_server.subject.types import PooledSpan
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.waiting import in_time

D_SAE = 64


def span(values: dict[int, tuple[float, int]], *, tokens: int = 50, exponent: int = 0) -> PooledSpan:
    ids = sorted(values)
    return PooledSpan(
        tokens=tokens,
        indices=np.array(ids, dtype=np.uint32),
        max_f16=np.array([values[id][0] for id in ids], dtype=np.float16),
        counts=np.array([values[id][1] for id in ids], dtype=np.uint32),
        exponent=exponent,
        mean_residual_f16=np.zeros(4, dtype=np.float16),
        residual_exponent=0,
    )


# Few distinct values, so that ties are the rule.
levels = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0, 60000.0]), st.floats(0, 65504, width=16))
spans = st.builds(
    span,
    st.dictionaries(st.integers(0, D_SAE - 1), st.tuples(levels, st.integers(1, 50)), max_size=D_SAE),
    tokens=st.integers(50, 60),
    exponent=st.integers(0, 3),
)


def dense(indices: NDArray[np.uint32], values: NDArray[np.float32]) -> NDArray[np.float32]:
    row = np.zeros(D_SAE, dtype=np.float32)
    row[indices] = values
    return row


def reference(strength: NDArray[np.float32], k: int) -> list[int]:
    order = sorted(range(D_SAE), key=lambda id: (-strength[id], id))
    return [id for id in order if strength[id] > 0][:k]


@settings(max_examples=400, deadline=None)
@given(spans, spans, st.integers(0, D_SAE + 3))
def test_a_pair_is_ranked_as_the_dense_reference_ranks_it(chosen: PooledSpan, rejected: PooledSpan, k: int) -> None:
    ranker = Ranker(D_SAE)
    for _ in range(2):  # the second time finds the scratch as the first left it
        for ranking, measure in zip(ranker.pair(chosen, rejected, k), ("max", "freq"), strict=True):
            left = dense(chosen.indices, getattr(chosen, measure))
            right = dense(rejected.indices, getattr(rejected, measure))
            wanted = reference(np.abs(left - right), k)
            assert ranking.features.tolist() == wanted
            assert ranking.chosen.tolist() == left[wanted].tolist()
            assert ranking.rejected.tolist() == right[wanted].tolist()


@settings(max_examples=200, deadline=None)
@given(spans, st.integers(0, D_SAE + 3))
def test_a_single_span_is_ranked_as_the_dense_reference_ranks_it(one: PooledSpan, k: int) -> None:
    for ranking, measure in zip(Ranker(D_SAE).single(one, k), ("max", "freq"), strict=True):
        values = dense(one.indices, getattr(one, measure))
        wanted = reference(values, k)
        assert ranking.features.tolist() == wanted
        assert ranking.chosen.tolist() == values[wanted].tolist()
        assert ranking.rejected.size == 0


weightings = st.dictionaries(st.integers(0, D_SAE - 1), st.floats(-100, 100, width=32), min_size=1)


@settings(max_examples=200, deadline=None)
@given(spans, st.lists(weightings, min_size=1, max_size=5))
def test_a_weighted_concept_is_the_weighted_sum_of_max(one: PooledSpan, weightings: list[dict[int, float]]) -> None:
    concepts = [
        WeightedFeatures(np.array(sorted(w), dtype=np.int64), np.array([w[id] for id in sorted(w)], dtype=np.float32))
        for w in weightings
    ]
    stack = stack_weighted(concepts)
    assert stack is not None
    values = dense(one.indices, one.max).astype(np.float64)
    ranker = Ranker(D_SAE)
    for _ in range(2):
        scores = ranker.weighted(one, stack).tolist()
        for score, weights in zip(scores, weightings, strict=True):
            assert score == pytest.approx(sum(weights[id] * values[id] for id in weights), rel=1e-9, abs=1e-4)


def test_no_concepts_make_no_stack() -> None:
    assert stack_weighted([]) is None


def test_equal_spans_rank_nothing() -> None:
    one = span({3: (1.0, 5), 9: (2.0, 7)})
    assert all(ranking.features.size == 0 for ranking in Ranker(D_SAE).pair(one, one, 5))


def test_a_feature_whose_activation_rounds_to_zero_still_counts_by_frequency() -> None:
    faint, other = span({3: (0.0, 5)}), span({4: (1.0, 5)})
    by_max, by_freq = Ranker(D_SAE).pair(faint, other, 5)
    assert by_max.features.tolist() == [4]
    assert by_freq.features.tolist() == [3, 4]


@pytest.mark.serial
def test_both_rankings_of_a_pair_take_well_under_a_millisecond() -> None:
    rng = np.random.default_rng(0)

    def wide() -> PooledSpan:
        ids = rng.choice(65536, 800, replace=False)
        return PooledSpan(
            120,
            np.sort(ids).astype(np.uint32),
            rng.gamma(2, 2, 800).astype(np.float16),
            rng.integers(1, 60, 800).astype(np.uint32),
            0,
            np.zeros(4, dtype=np.float16),
            0,
        )

    pairs = [(wide(), wide()) for _ in range(50)]
    ranker = Ranker(65536)
    took: list[float] = []
    for chosen, rejected in pairs * 4:
        began = time.perf_counter()
        ranker.pair(chosen, rejected, 16)
        took.append(time.perf_counter() - began)
    assert in_time(float(np.median(took)), 500e-6)  # about 50 us on an idle core


def test_an_error_leaves_nothing_of_its_spans_to_the_next_ranking() -> None:
    ranker = Ranker(D_SAE)
    good, foreign = span({3: (1.0, 5)}), span({5: (2.0, 6), D_SAE + 1: (4.0, 7)})
    stack = stack_weighted([WeightedFeatures(np.array([5]), np.ones(1, np.float32))])
    assert stack is not None
    for chosen, rejected in ((good, foreign), (foreign, good)):
        with pytest.raises(IndexError, match=f"{D_SAE + 1}.*{D_SAE}"):
            ranker.pair(chosen, rejected, 8)
    with pytest.raises(IndexError):
        ranker.weighted(foreign, stack)
    by_max, by_freq = ranker.pair(span({7: (1.0, 1)}), span({}), 8)
    assert by_max.features.tolist() == by_freq.features.tolist() == [7]
    assert ranker.weighted(span({7: (1.0, 1)}), stack).tolist() == [0.0]
