from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from assay_server.audit.disparity import Disparity
from assay_server.audit.intervals import mean_intervals
from assay_server.audit.matrices import Csr
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


def test_with_prompts_of_one_size_it_is_the_clustered_interval_of_statsmodels() -> None:
    drawn = replace(world(2), prompts=np.repeat(np.arange(40), 3))
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


def test_with_few_prompts_of_unequal_sizes_the_interval_covers_and_one_of_as_many_equal_prompts_would_not() -> None:
    draws, sizes = np.random.default_rng(6), np.array([24, 12, 8, 6, 4, 4, 3, 2, 2, 1, 1, 1])
    ids, covered, plain = np.repeat(np.arange(12), sizes), 0, 0
    for _ in range(600):
        values = np.where(draws.random((12, 1))[ids] < 0.5, 1, -1)
        found = mean_intervals(moments(Disparity(Csr(values), np.array([1])), ids))
        sums = np.bincount(ids, values[:, 0] - values.mean())
        width = stats.t.ppf(0.975, 11) * np.sqrt(12 / 11 * (sums**2).sum()) / len(ids)
        covered += found.low[0] <= 0 <= found.high[0]
        plain += abs(values.mean()) <= width
    assert covered / 600 > 0.93
    assert plain / 600 < 0.9


def test_what_cannot_be_bounded_is_bounded_by_what_a_disparity_can_be() -> None:
    shard = Disparity(Csr(np.array([[2, 1, 0], [2, -1, 0], [2, 1, 0]])), np.array([2, 2, 0]))
    apart, together = (mean_intervals(moments(shard, prompts)) for prompts in ([0, 1, 2], [7, 7, 7]))
    assert apart.reason.tolist() == [Reason.CONSTANT, Reason.NONE, Reason.EMPTY_CONCEPT]
    assert together.reason.tolist() == [Reason.ONE_PROMPT, Reason.ONE_PROMPT, Reason.EMPTY_CONCEPT]
    assert (together.low.tolist(), together.high.tolist()) == ([-1] * 3, [1] * 3)
    nobody = moments(Disparity(Csr((0, 2), dtype=np.int64), np.array([1, 1])), np.zeros(0, int))
    assert mean_intervals(nobody).reason.tolist() == [Reason.NO_PAIRS] * 2
    for found in (apart, together):
        assert all(np.isfinite(getattr(found, name)).all() for name in ("mean", "se", "low", "high"))


def test_a_level_out_of_range_is_refused() -> None:
    sums = moments(Disparity(Csr(np.array([[1]])), np.array([1])), [0])
    with pytest.raises(ValueError, match="level"):
        mean_intervals(sums, level=1.5)
