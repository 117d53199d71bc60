from functools import reduce

import numpy as np
import pytest
from assay_server.audit.contrast import GroupMoments, contrasts, group_moments, groups_from_labels, merge_group_moments
from assay_server.audit.disparity import activity
from assay_server.audit.grouping import group_pairs
from assay_server.audit.matrices import Csr
from assay_server.audit.multiplicity import q_values
from assay_server.audit.reason import Reason
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.server.audit.welch import welch
from tests.server.audit.worlds import part, relabelled, world

FIELDS = ("delta", "se", "z", "df", "p", "low", "high", "d", "delta_min")


def example(seed: int = 0, pairs: int = 90) -> tuple[np.ndarray, np.ndarray, GroupMoments]:
    drawn = world(seed, pairs=pairs)
    labels = np.random.default_rng(seed).integers(-1, 3, pairs)
    values = drawn.disparity
    sums = group_moments(values.numerators, groups_from_labels(labels, 3), values.sizes, compared=labels >= 0)
    return values.values().toarray(), labels, sums


def test_every_number_equals_scipy_and_a_plain_loop() -> None:
    u, labels, sums = example()
    found = contrasts(sums)
    for k in range(3):
        for m in range(u.shape[1]):
            inside, outside = u[labels == k, m], u[(labels >= 0) & (labels != k), m]
            theirs = welch(inside, outside)
            assert found.z[k, m] == pytest.approx(theirs.statistic, abs=1e-9)
            assert found.df[k, m] == pytest.approx(theirs.df, rel=1e-9)
            assert found.p[k, m] == pytest.approx(theirs.pvalue, abs=1e-9)
            assert (found.low[k, m], found.high[k, m]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
            spread = (len(inside) - 1) * inside.var(ddof=1) + (len(outside) - 1) * outside.var(ddof=1)
            pooled = np.sqrt(spread / (len(inside) + len(outside) - 2))
            assert found.d[k, m] == pytest.approx((inside.mean() - outside.mean()) / pooled, abs=1e-9)
            rows = np.arange(len(u))
            halves = [
                u[(labels == k) & (rows % 2 == h), m].mean() - u[(labels >= 0) & (labels != k) & (rows % 2 == h), m].mean()
                for h in (0, 1)
            ]
            assert found.delta_min[k, m] == pytest.approx(min(abs(halves[0]), abs(halves[1])), abs=1e-12)
            assert found.consistent[k, m] == (min(map(abs, halves)) > 1e-6 and halves[0] * halves[1] > 0)
    odd = np.arange(len(u)) % 2 == 1
    assert np.allclose(sums.totals[1] / sums.sizes, u[odd & (labels >= 0)].sum(axis=0), atol=1e-12)
    assert np.allclose(sums.group_totals[1, 2] / sums.sizes, u[odd & (labels == 2)].sum(axis=0), atol=1e-12)
    assert found.inside.tolist() == [int((labels == k).sum()) for k in range(3)]
    assert (found.inside + found.outside == (labels >= 0).sum()).all()


@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=st.integers(0, 30))
def test_shards_in_any_order_equal_one_shard_to_the_bit(data: st.DataObject, seed: int) -> None:
    drawn, labels = world(seed, pairs=40), np.random.default_rng(seed).integers(-1, 3, 40)
    cuts = sorted(data.draw(st.lists(st.integers(0, 40), max_size=4)))
    pieces = data.draw(st.permutations([np.arange(a, b) for a, b in zip([0, *cuts], [*cuts, 40], strict=True)]))

    def sums(rows: np.ndarray) -> GroupMoments:
        shard = part(drawn, rows).disparity
        return group_moments(shard.numerators, groups_from_labels(labels[rows], 3), shard.sizes, halves=rows % 2)

    merged, whole = reduce(merge_group_moments, map(sums, pieces)), sums(np.arange(40))
    for name in ("pairs", "totals", "squares", "group_pairs", "group_totals", "group_squares"):
        assert np.array_equal(getattr(merged, name), getattr(whole, name))
        assert getattr(merged, name).dtype == np.int64


def test_values_that_are_means_already_and_groups_that_overlap_are_compared_alike() -> None:
    draws = np.random.default_rng(1)
    values, groups = draws.normal(size=(70, 4)), (draws.random((70, 3)) < 0.4).astype(int)
    found = contrasts(group_moments(values, Csr(groups)))
    for k in range(3):
        for m in range(4):
            theirs = welch(values[groups[:, k] == 1, m], values[groups[:, k] == 0, m])
            assert found.z[k, m] == pytest.approx(theirs.statistic, abs=1e-9)
            assert found.p[k, m] == pytest.approx(theirs.pvalue, abs=1e-9)


def test_small_groups_without_a_rare_concept_are_no_finding_where_it_is_preferred_everywhere_alike() -> None:
    draws = np.random.default_rng(0)
    tells = draws.random((1_500, 150)) < draws.uniform(0.01, 0.4, 150)
    values = np.where(tells, np.where(draws.random((1_500, 150)) < 0.9, 1, -1), 0)
    groups = np.zeros((1_500, 20), np.int64)
    for k in range(20):
        groups[draws.choice(1_500, draws.integers(25, 80), replace=False), k] = 1
    found = contrasts(group_moments(values.astype(np.int64), Csr(groups)))
    assert not (q_values(found.p.ravel()) <= 0.05).any()
    plain = [stats.ttest_ind(values[groups[:, k] == 1], values[groups[:, k] == 0], equal_var=False).pvalue for k in range(20)]
    assert (q_values(np.nan_to_num(np.array(plain), nan=1.0).ravel()) <= 0.05).sum() > 100


def test_a_common_baseline_is_no_contrast_and_a_local_shift_is() -> None:
    draws = np.random.default_rng(2)
    labels, values = np.repeat([0, 1], 200), draws.integers(-4, 9, (400, 12))
    values[labels == 1, 3] += 3
    found = contrasts(group_moments(values, groups_from_labels(labels, 2), np.full(12, 10)))
    q = q_values(found.p)
    assert found.delta[1, 3] > 0
    assert q[1, 3] < 1e-6
    assert found.consistent[1, 3]
    assert (np.delete(q, 3, axis=1) > 0.05).all()


def test_label_swaps_leave_the_data_clusters_and_make_contrasts_uniform() -> None:
    drawn, draws = world(3, pairs=240, prompts=10_000), np.random.default_rng(6)
    groups = group_pairs(activity(drawn.freq_chosen, drawn.freq_rejected, drawn.concepts), 4)
    member, runs = groups_from_labels(groups.labels, 4), []
    for _ in range(200):
        shard = relabelled(drawn, draws).disparity
        runs.append(contrasts(group_moments(shard.numerators, member, shard.sizes, compared=groups.labels >= 0)).p)
    p = np.array(runs)
    assert stats.kstest(p[:, 0, 0], "uniform").pvalue > 0.01
    assert 0.035 < (p <= 0.05).mean() < 0.065
    found = sum(bool((q_values(run) <= 0.05).any()) for run in runs)
    assert stats.binomtest(found, 200, 0.05, alternative="greater").pvalue > 0.01


def test_sides_that_cannot_be_compared_say_why() -> None:
    values = np.array([[3, 2, 0], [3, 1, 0], [3, 2, 0], [3, 0, 0]])
    groups = Csr(np.array([[0, 1, 1, 0, 1], [0, 0, 1, 0, 1], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0]]))
    found = contrasts(group_moments(values, groups, [4, 4, 0]))
    assert found.reason[:, 1].tolist() == [Reason.FEW_INSIDE, Reason.FEW_INSIDE, Reason.FEW_OUTSIDE, Reason.NONE, Reason.NONE]
    assert (found.reason[:, 2] == Reason.EMPTY_CONCEPT).all()
    assert found.reason[3, 0] == Reason.CONSTANT
    assert (found.p[found.reason != Reason.NONE] == 1).all()
    nothing = contrasts(group_moments(np.zeros((0, 2), int), Csr((0, 3), dtype=np.int64)))
    assert (nothing.reason == Reason.FEW_INSIDE).all()
    for result in (found, nothing):
        assert all(np.isfinite(getattr(result, name)).all() for name in FIELDS)


def test_a_constant_that_no_float_holds_exactly_has_no_variance() -> None:
    found = contrasts(group_moments(np.full((99, 1), 0.1), groups_from_labels(np.arange(99) % 3, 3)))
    assert (found.reason == Reason.CONSTANT).all()


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        groups_from_labels([3], 3)
    with pytest.raises(ValueError, match="NaN"):
        group_moments(np.array([[np.nan]]), groups_from_labels([0], 1))
    with pytest.raises(ValueError, match="0/1"):
        group_moments(np.ones((2, 1)), groups_from_labels([0], 1))
    with pytest.raises(ValueError, match="compared"):
        group_moments(np.ones((1, 1)), groups_from_labels([0], 1), compared=[True, False])
    sums = group_moments(np.ones((1, 1)), groups_from_labels([0], 1))
    with pytest.raises(ValueError, match="level"):
        contrasts(sums, level=0)
    with pytest.raises(ValueError, match="do not merge"):
        merge_group_moments(sums, group_moments(np.ones((1, 1)), groups_from_labels([0], 2)))
