"""A direction is measured by the score that is used, on examples that it never saw, beside random rivals."""

import numpy as np
import pytest
from assay_server.concepts.measuring import measure, random_unit_vectors
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score


def test_the_figures_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    positive = generator.random(80) < 0.4
    scores, rivals = positive + generator.standard_normal(80), generator.standard_normal((80, 16))
    report = measure(scores, rivals, positive, np.arange(80), fitted=(20, 30), l2=0.1)
    assert report.auroc == pytest.approx(roc_auc_score(positive, scores))
    assert report.pr_auc == pytest.approx(average_precision_score(positive, scores))
    assert report.f1 == pytest.approx(f1_score(positive, scores > report.threshold))
    areas = [abs(roc_auc_score(positive, rivals[:, i]) - 0.5) + 0.5 for i in range(16)]
    assert report.random_auroc == pytest.approx(np.mean(areas))
    assert report.random_auroc_max == pytest.approx(np.max(areas))
    assert report.base_rate == pytest.approx(positive.mean())
    assert (report.fitted_positive, report.fitted_negative, report.l2) == (20, 30, 0.1)
    assert report.held_out_positive + report.held_out_negative == 80
    assert report.auroc_low < report.auroc < report.auroc_high
    assert report.pair_accuracy is None


def test_pairs_that_share_a_prompt_widen_the_interval() -> None:
    positive = np.tile([True, False], 40)
    scores = positive + np.random.default_rng(1).standard_normal(80)
    alone = measure(scores, scores[:, None], positive, np.arange(80), fitted=(1, 1))
    shared = measure(scores, scores[:, None], positive, np.arange(80) // 20, fitted=(1, 1))
    assert shared.auroc == alone.auroc
    assert shared.auroc_high - shared.auroc_low > 1.5 * (alone.auroc_high - alone.auroc_low)


def test_a_won_pair_counts_one_and_a_tie_half() -> None:
    positive = np.array([True, True, True, False, False, False])
    scores = np.array([2.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    report = measure(scores, scores[:, None], positive, np.arange(6), fitted=(1, 1), pairs=(scores[:3], scores[3:]))
    assert report.pair_accuracy == 0.5


@given(
    arrays.arrays(np.float64, 12, elements=st.one_of(st.integers(-3, 3), st.floats(-1e6, 1e6, width=32)).map(float)),
    st.integers(1, 11),
)
def test_the_threshold_lies_strictly_between_scores_and_reaches_its_f1(scores: np.ndarray, n: int) -> None:
    positive = np.arange(12) < n
    report = measure(scores, scores[:, None], positive, np.arange(12), fitted=(1, 1))
    assert not np.any(scores == report.threshold)
    assert f1_score(positive, scores > report.threshold) == pytest.approx(report.f1)
    assert np.isfinite(report.threshold)


def test_random_directions_are_unit_vectors_that_follow_from_the_seed() -> None:
    drawn = random_unit_vectors(8, 32, 5)
    assert drawn.shape == (8, 32)
    assert np.linalg.norm(drawn, axis=1) == pytest.approx(np.ones(8))
    assert np.array_equal(drawn, random_unit_vectors(8, 32, 5))
    assert not np.array_equal(drawn, random_unit_vectors(8, 32, 6))
