import numpy as np
import pytest
import statsmodels.api as sm
from assay_server.audit.disparity import Disparity
from assay_server.audit.intervals import bootstrap, bootstrap_means, mean_intervals, rank_stability
from assay_server.audit.matrices import Csr, sum_by_prompt
from assay_server.audit.moments import moments
from assay_server.audit.reason import Reason
from scipy import stats

from tests.server.audit.worlds import world


def test_with_one_pair_a_prompt_the_interval_is_that_of_a_mean() -> None:
    drawn = world(1)
    found, u = mean_intervals(moments(drawn.disparity, np.arange(120)), level=0.9), drawn.disparity.values().toarray()
    for m in range(u.shape[1]):
        low, high = stats.t.interval(0.9, 119, u[:, m].mean(), stats.sem(u[:, m]))
        assert (found.low[m], found.high[m]) == pytest.approx((low, high), abs=1e-9)


def test_with_shared_prompts_it_is_the_clustered_interval_of_statsmodels() -> None:
    drawn = world(2)
    found, u = mean_intervals(moments(drawn.disparity, drawn.prompts)), drawn.disparity.values().toarray()
    for m in range(u.shape[1]):
        fit = sm.OLS(u[:, m], np.ones(len(u))).fit(cov_type="cluster", cov_kwds={"groups": drawn.prompts}, use_t=True)
        assert found.se[m] == pytest.approx(fit.bse[0], abs=1e-9)
        assert (found.low[m], found.high[m]) == pytest.approx(tuple(fit.conf_int()[0]), abs=1e-9)


def test_the_clustered_interval_covers_a_known_mean_and_the_naive_one_does_not() -> None:
    draws, clustered, naive = np.random.default_rng(3), [], []
    for _ in range(400):
        lean = draws.uniform(0.2, 0.8, 40)
        values = np.where(draws.random((40, 5)) < lean[:, None], 1, -1).reshape(-1, 1)
        shard = Disparity(Csr(values), np.array([1]))
        for prompts, covered in ((np.repeat(np.arange(40), 5), clustered), (np.arange(200), naive)):
            found = mean_intervals(moments(shard, prompts))
            covered.append(found.low[0] <= 0 <= found.high[0])
    assert stats.binomtest(sum(clustered), 400, 0.95).pvalue > 0.01
    assert np.mean(naive) < np.mean(clustered)


def test_the_bootstrap_agrees_with_the_clustered_interval_and_with_itself() -> None:
    drawn = world(4, pairs=300, prompts=120)
    sums, shard = moments(drawn.disparity, drawn.prompts), drawn.disparity
    by_prompt = sum_by_prompt(shard.numerators, drawn.prompts)
    found, formula = bootstrap_means(by_prompt, shard.sizes, draws=2_000), mean_intervals(sums)
    assert np.allclose(found.mean, formula.mean)
    assert np.allclose(found.se, formula.se, rtol=0.12)
    assert np.allclose(found.low, formula.low, atol=0.25 * formula.se.max())
    assert np.array_equal(found.low, bootstrap_means(by_prompt, shard.sizes, draws=2_000).low)
    assert not np.array_equal(found.low, bootstrap_means(by_prompt, shard.sizes, draws=2_000, seed=1).low)


def test_any_statistic_is_bootstrapped_over_prompts_not_pairs() -> None:
    values = np.repeat(np.random.default_rng(5).normal(size=60), 10)
    shared = bootstrap(lambda rows: float(values[rows].mean()), np.repeat(np.arange(60), 10), draws=400)
    apart = bootstrap(lambda rows: float(values[rows].mean()), np.arange(600), draws=400)
    assert shared.value == pytest.approx(values.mean())
    assert shared.low < shared.value < shared.high
    assert (shared.high - shared.low) / (apart.high - apart.low) == pytest.approx(np.sqrt(10), rel=0.2)


def test_a_statistic_that_fails_in_some_draws_leaves_them_out() -> None:
    found = bootstrap(lambda rows: float("nan") if rows[0] == 0 else 1.0, np.arange(1, 5), draws=50)
    assert found.reason == Reason.CONSTANT
    assert (found.value, found.draws) == (0.0, 0)
    partly = bootstrap(lambda rows: float("inf") if len(set(rows.tolist())) < 3 else 1.0, np.arange(4), draws=200)
    assert 0 < partly.draws < 200
    assert (partly.low, partly.high) == (1.0, 1.0)


def test_ranks_are_stable_for_strong_concepts_and_not_for_noise() -> None:
    draws = np.random.default_rng(6)
    values = draws.integers(-3, 4, (400, 40))
    values[:, :4] = np.clip(values[:, :4] + [2, -2, 2, -2], -4, 4)
    found = rank_stability(moments(Disparity(Csr(values), np.full(40, 4)), np.arange(400)), slack=0)
    assert found.stable[:4].all()
    assert found.stable[4:].mean() < 0.6
    assert sorted(found.rank[:4].tolist()) == [1, 2, 3, 4]
    means = [values[half::2].mean(axis=0) for half in (0, 1)]
    assert found.spearman == pytest.approx(stats.spearmanr(*means)[0], abs=1e-12)
    assert np.array_equal(found.half_ranks[1], stats.rankdata(-np.abs(means[1]), method="min"))


def test_what_cannot_be_bounded_is_bounded_by_what_a_disparity_can_be() -> None:
    shard = Disparity(Csr(np.array([[2, 1, 0], [2, -1, 0], [2, 1, 0]])), np.array([2, 2, 0]))
    apart, together = (mean_intervals(moments(shard, prompts)) for prompts in ([0, 1, 2], [7, 7, 7]))
    assert apart.reason.tolist() == [Reason.CONSTANT, Reason.NONE, Reason.EMPTY_CONCEPT]
    assert together.reason.tolist() == [Reason.ONE_PROMPT, Reason.ONE_PROMPT, Reason.EMPTY_CONCEPT]
    assert (together.low.tolist(), together.high.tolist()) == ([-1] * 3, [1] * 3)
    nobody = moments(Disparity(Csr((0, 2), dtype=np.int64), np.array([1, 1])), np.zeros(0, int))
    assert mean_intervals(nobody).reason.tolist() == [Reason.NO_PAIRS] * 2
    assert rank_stability(nobody).reason == Reason.NO_PAIRS
    assert bootstrap(lambda rows: 1.0, np.zeros(0, int)).reason == Reason.NO_PAIRS
    assert bootstrap(lambda rows: 1.0, [4, 4]).reason == Reason.ONE_PROMPT
    one = bootstrap_means(sum_by_prompt(shard.numerators, np.array([1, 1, 1])), shard.sizes)
    assert one.reason.tolist() == [Reason.ONE_PROMPT, Reason.ONE_PROMPT, Reason.EMPTY_CONCEPT]
    many = bootstrap_means(sum_by_prompt(shard.numerators, np.array([1, 2, 3])), shard.sizes, draws=64)
    assert many.reason[0] == Reason.CONSTANT
    for found in (apart, together, one, many):
        assert all(np.isfinite(getattr(found, name)).all() for name in ("mean", "se", "low", "high"))


def test_levels_and_draws_out_of_range_are_refused() -> None:
    sums = moments(Disparity(Csr(np.array([[1]])), np.array([1])), [0])
    with pytest.raises(ValueError, match="level"):
        mean_intervals(sums, level=1.5)
    with pytest.raises(ValueError, match="draws"):
        bootstrap(lambda rows: 1.0, [1, 2], draws=0)
