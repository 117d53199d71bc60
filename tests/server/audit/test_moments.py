from functools import reduce

import numpy as np
import pytest
from assay_server.audit.disparity import Disparity
from assay_server.audit.matrices import Csr
from assay_server.audit.moments import Moments, merge_moments, moments
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.audit.worlds import part, world


def same(left: Moments, right: Moments) -> bool:
    arrays = ("sizes", "pairs", "totals", "squares", "prompt_cross", "prompt_squares", "telling_prompts")
    scalars = left.prompts == right.prompts and left.prompt_pairs_squared == right.prompt_pairs_squared
    width = max(left.magnitudes.shape[1], right.magnitudes.shape[1])
    histograms = [np.pad(m.toarray(), ((0, 0), (0, width - m.shape[1]))) for m in (left.magnitudes, right.magnitudes)]
    return (
        scalars
        and np.array_equal(*histograms)
        and all(np.array_equal(getattr(left, name), getattr(right, name)) for name in arrays)
    )


def test_every_sum_equals_a_plain_loop() -> None:
    drawn = world(1)
    u, sums = drawn.disparity.numerators.toarray(), moments(drawn.disparity, drawn.prompts)
    assert sums.prompts == len(np.unique(drawn.prompts))
    assert sums.prompt_pairs_squared == sum((drawn.prompts == c).sum() ** 2 for c in np.unique(drawn.prompts))
    for m in range(u.shape[1]):
        for half in (0, 1):
            assert sums.totals[half, m] == sum(u[i, m] for i in range(half, len(u), 2))
            assert sums.squares[half, m] == sum(u[i, m] ** 2 for i in range(half, len(u), 2))
        by_prompt = [[u[i, m] for i in np.flatnonzero(drawn.prompts == c)] for c in np.unique(drawn.prompts)]
        assert sums.prompt_squares[m] == sum(sum(values) ** 2 for values in by_prompt)
        assert sums.prompt_cross[m] == sum(len(values) * sum(values) for values in by_prompt)
        assert sums.telling_prompts[m] == sum(sum(values) != 0 for values in by_prompt)
        assert sums.mean[m] == pytest.approx(u[:, m].mean() / 5, abs=1e-15)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=st.integers(0, 50))
def test_shards_in_any_order_equal_one_shard_to_the_bit(data: st.DataObject, seed: int) -> None:
    drawn = world(seed, pairs=40, prompts=12)
    cuts = sorted(data.draw(st.lists(st.integers(0, 40), max_size=4)))
    pieces = [(a, b) for a, b in zip([0, *cuts], [*cuts, 40], strict=True)]
    order = data.draw(st.permutations(pieces))
    shards = [
        moments(part(drawn, rows).disparity, drawn.prompts[rows], halves=rows % 2, open_prompts=np.unique(drawn.prompts))
        for rows in (np.arange(a, b) for a, b in order)
    ]
    assert same(reduce(merge_moments, shards).closed(), moments(drawn.disparity, drawn.prompts))


def test_shards_that_split_no_prompt_need_no_open_rows() -> None:
    drawn = world(4)
    rows = np.argsort(drawn.prompts, kind="stable")
    drawn = part(drawn, rows)
    cut = int(np.flatnonzero(np.diff(drawn.prompts))[10]) + 1
    left, right = (
        moments(part(drawn, rows).disparity, drawn.prompts[rows], halves=rows % 2)
        for rows in (np.arange(cut), np.arange(cut, len(rows)))
    )
    assert same(merge_moments(left, right), moments(drawn.disparity, drawn.prompts))


def test_halves_given_by_hand_replace_the_parity_of_rows() -> None:
    drawn = world(5)
    halves = np.random.default_rng(0).integers(0, 2, len(drawn.prompts))
    sums = moments(drawn.disparity, drawn.prompts, halves=halves)
    assert np.array_equal(sums.totals[1], drawn.disparity.numerators.toarray()[halves == 1].sum(axis=0))


def test_sums_that_would_not_fit_are_refused_rather_than_wrapped() -> None:
    shard = Disparity(Csr(np.array([[1], [1]])), np.array([2**31]))
    with pytest.raises(OverflowError, match="63 bits"):
        moments(shard, [0, 0])


def test_moments_of_other_concepts_do_not_merge() -> None:
    first, second = (Disparity(Csr(np.array([[1]])), np.array([size])) for size in (1, 2))
    with pytest.raises(ValueError, match="different concepts"):
        merge_moments(moments(first, [0]), moments(second, [0]))
    with pytest.raises(ValueError, match="integers"):
        moments(first, [0.5])
    with pytest.raises(ValueError, match="halves"):
        moments(first, [0], halves=[2])


def test_no_pairs_at_all_are_sums_of_zero() -> None:
    sums = moments(Disparity(Csr((0, 3), dtype=np.int64), np.array([1, 2, 0])), np.zeros(0, np.int64))
    assert sums.mean.tolist() == [0, 0, 0]
    assert sums.prompts == 0
