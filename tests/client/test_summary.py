"""The description of a set of pairs equals its definition, counted by hand."""

import math

import pytest
from assay import CacheState, PairResult, PairScore, PooledFeatures, Timings, TokenCounts
from assay.results import FeatureRanking
from assay.summary import Summary
from hypothesis import given
from hypothesis import strategies as st


def result(chosen: dict[int, float], rejected: dict[int, float], *, full: bool = True) -> PairResult:
    def pooled(side: dict[int, float]) -> PooledFeatures:
        ids = tuple(sorted(side))
        return PooledFeatures(ids, (1.0,) * len(ids), tuple(side[one] for one in ids))

    ids = tuple(sorted(chosen.keys() | rejected.keys()))
    ranking = FeatureRanking(ids, tuple(chosen.get(i, 0.0) for i in ids), tuple(rejected.get(i, 0.0) for i in ids))
    sides = (pooled(chosen), pooled(rejected)) if full else (None, None)
    tokens, timings = TokenCounts(5, 3, 4, 20, 6, 1), Timings(0, 0, 0, 0, CacheState.MISS)
    return PairResult(0, "", PairScore(tokens, ranking, ranking, (), timings, *sides), None)


SIDE = st.dictionaries(st.integers(0, 8), st.floats(2**-10, 1.0, width=32), max_size=6)


@given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=12), st.booleans())
def test_disparity_is_the_mean_signed_difference_of_showing(
    pairs: list[tuple[dict[int, float], dict[int, float]]], full: bool
) -> None:
    summary = Summary()
    assert len(list(summary.watch(result(*sides, full=full) for sides in pairs))) == len(pairs)
    rows = {row.feature: row for row in summary.features(100)}
    for feature in range(9):
        b = [(c.get(feature, 0) > 0.01) - (r.get(feature, 0) > 0.01) for c, r in pairs]
        mean = sum(b) / len(b)
        if feature not in rows:
            assert not any(b)
            continue
        row = rows[feature]
        assert row.disparity == pytest.approx(mean)
        assert row.share == pytest.approx(sum(map(abs, b)) / len(b))
        spread = sum((one - mean) ** 2 for one in b) / len(b)
        assert row.margin == pytest.approx(1.959964 * math.sqrt(spread / len(b)), abs=1e-9)
    assert summary.exact == full


def test_the_largest_difference_comes_first_and_ties_by_id() -> None:
    summary = Summary()
    for sides in ([{3: 0.5, 9: 0.5}, {1: 0.5}], [{3: 0.5}, {4: 0.5}], [{}, {1: 0.5}]):
        summary.add(result(*sides))
    assert [(row.feature, round(row.disparity, 3)) for row in summary.features(3)] == [
        (1, -0.667),
        (3, 0.667),
        (4, -0.333),
    ]


def test_tokens_that_the_cache_saved_are_not_counted_as_read() -> None:
    summary = Summary()
    for state in (CacheState.MISS, CacheState.HIT, CacheState.SHARED, CacheState.BYPASS):
        summary.add_counts(state, 100, 10, 0)
    assert (summary.tokens_read, summary.tokens_shared, summary.tokens_cached) == (200, 20, 200)


def test_no_pairs_teach_nothing() -> None:
    assert Summary().features() == []
