import math

import numpy as np
import pytest
from assay_server.audit.auc import both_orders_auc, clustered_auc, clustered_median
from sklearn.metrics import roc_auc_score


def test_the_auc_is_that_of_a_classifier_shown_every_pair_in_both_orders() -> None:
    draws = np.random.default_rng(0)
    for x in (draws.normal(0.3, 1, 200), draws.integers(-2, 3, 200).astype(float), np.zeros(7)):
        both = roc_auc_score(np.repeat([1, 0], len(x)), np.concatenate([x, -x]))
        assert both_orders_auc(x) == pytest.approx(both, abs=1e-12)
        assert clustered_auc(x, np.arange(len(x))).value == pytest.approx(both, abs=1e-12)
    weights = draws.integers(0, 4, 50).astype(float)
    x = draws.normal(size=50)
    assert both_orders_auc(x, weights) == pytest.approx(both_orders_auc(np.repeat(x, weights.astype(int))), abs=1e-12)
    assert both_orders_auc(np.zeros(0)) == 0.5


@pytest.mark.parametrize("shape", ["alone", "equal", "unequal"])
def test_intervals_cover_the_truth_where_pairs_of_a_prompt_are_alike(shape: str) -> None:
    draws, runs, prompts = np.random.default_rng(3), 600, 40
    sizes = {"alone": np.ones(prompts), "equal": np.full(prompts, 4), "unequal": 1 + np.arange(prompts) // 8}[shape].astype(int)
    ids = np.repeat(np.arange(prompts), sizes)
    # x = 0.3 + shared + own: the sum of two independent pairs is normal with mean 0.6 and variance 2 (0.5 + 0.5).
    truth, covered = 0.5 * (1 + math.erf(0.6 / np.sqrt(2) / np.sqrt(2))), [0, 0]
    for _ in range(runs):
        x = 0.3 + np.sqrt(0.5) * (draws.normal(size=prompts)[ids] + draws.normal(size=len(ids)))
        auc, median = clustered_auc(x, ids), clustered_median(x, ids)
        covered[0] += auc.low <= truth <= auc.high
        covered[1] += median.low <= 0.3 <= median.high
    assert covered[0] / runs > 0.925
    assert covered[1] / runs > 0.93
    assert covered[1] / runs < 0.995


def test_pairs_taken_as_independent_would_not_cover() -> None:
    draws, ids = np.random.default_rng(4), np.repeat(np.arange(20), 10)
    covered = 0
    for _ in range(200):
        x = draws.normal(size=20)[ids] + 0.1 * draws.normal(size=200)
        naive = clustered_auc(x, np.arange(200))
        covered += naive.low <= 0.5 <= naive.high
    assert covered < 130


def test_without_an_exception_the_far_bound_is_exact_and_one_prompt_says_nothing() -> None:
    sure = clustered_auc(np.arange(1, 31), np.arange(30))
    assert (sure.value, sure.high) == (1.0, 1.0)
    assert sure.low == pytest.approx(0.025 ** (2 / 30))
    assert clustered_auc(-np.arange(1, 31), np.arange(30)).high == pytest.approx(1 - 0.025 ** (2 / 30))
    ties = clustered_auc(np.zeros(9), np.arange(9))
    assert (ties.value, ties.low, ties.high) == (0.5, 0.5, 0.5)
    alone = clustered_auc(np.array([1.0, 2.0]), np.zeros(2, int))
    assert (alone.low, alone.high) == (0.0, 1.0)
    seen = clustered_median(np.array([1.0, 5.0]), np.zeros(2, int))
    assert (seen.value, seen.low, seen.high) == (3.0, 1.0, 5.0)
    with pytest.raises(ValueError, match="median"):
        clustered_median(np.zeros(0), np.zeros(0, int))
    with pytest.raises(ValueError, match="level"):
        clustered_auc(np.zeros(3), np.arange(3), level=1.0)
