"""Separation figures against scikit-learn, and their interval against simulation."""

import numpy as np
import pytest
from assay_server.concepts.metrics import auroc, auroc_interval, average_precision, best_f1
from assay_server.errors import InvalidItem
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

# Few levels, so that ties are the rule; and any float.
levels = st.one_of(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.floats(-1e6, 1e6))


@st.composite
def scored(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rows = draw(st.lists(st.tuples(levels, st.booleans()), min_size=2, max_size=40))
    positive = np.array([row[1] for row in rows])
    positive[:2] = [True, False]
    return np.array([row[0] for row in rows]), positive


@given(scored())
def test_auroc_and_average_precision_are_those_of_scikit_learn(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    scores, positive = case
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores), abs=1e-12)


@given(scored())
def test_auroc_turns_around_with_the_scores(case: tuple[NDArray[np.float64], NDArray[np.bool_]]) -> None:
    scores, positive = case
    assert auroc(-scores, positive) == pytest.approx(1 - auroc(scores, positive), abs=1e-12)
    assert auroc(scores, ~positive) == pytest.approx(1 - auroc(scores, positive), abs=1e-12)


@given(scored(), st.randoms(use_true_random=False))
def test_no_figure_depends_on_the_order_of_rows(case: tuple[NDArray[np.float64], NDArray[np.bool_]], random) -> None:
    scores, positive = case
    order = np.array(random.sample(range(len(scores)), len(scores)))
    assert auroc(scores[order], positive[order]) == auroc(scores, positive)
    assert average_precision(scores[order], positive[order]) == average_precision(scores, positive)
    assert best_f1(scores[order], positive[order]) == best_f1(scores, positive)


@given(scored())
def test_the_threshold_of_best_f1_is_a_score_and_no_other_cut_does_better(
    case: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    scores, positive = case
    cut = best_f1(scores, positive)
    called = scores >= cut.value
    precision, recall, _ = precision_recall_curve(positive, scores)
    every = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True) if p + r]
    assert cut.value in scores
    assert cut.f1 == pytest.approx(f1_score(positive, called), abs=1e-12)
    assert cut.f1 == pytest.approx(max(every), abs=1e-12)


def test_of_equally_good_cuts_the_highest_is_taken() -> None:
    # Both cuts have F1 = 2/3: {3} finds one of two, {3, 2, 1, 0} finds both among four.
    cut = best_f1(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, False, True]))
    assert (cut.value, cut.f1) == (3.0, pytest.approx(2 / 3))


def test_a_class_without_examples_is_refused_with_both_counts() -> None:
    for figure in (auroc, average_precision, best_f1):
        with pytest.raises(InvalidItem, match="0 positive and 3 negative") as caught:
            figure(np.arange(3.0), np.zeros(3, dtype=np.bool_))
        assert caught.value.reason == "TOO_FEW_EXAMPLES"


def test_a_score_that_is_not_finite_is_refused_and_counted() -> None:
    with pytest.raises(InvalidItem, match="2 of 4 scores are not finite") as caught:
        auroc(np.array([0.0, np.nan, np.inf, 1.0]), np.array([True, False, True, False]))
    assert caught.value.details == {"not_finite": "2", "total": "4"}


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    for shift, truth in ((0.0, 0.5), (1.19, 0.8), (2.33, 0.95)):
        positive = np.arange(40) < 20
        covered = 0
        for _ in range(600):
            scores = generator.standard_normal(40) + shift * positive
            low, high = auroc_interval(auroc(scores, positive), 20, 20)
            covered += low <= truth <= high
        # 0.95 less three binomial standard errors; Newcombe reports 0.94 to 0.97 for such sizes.
        assert covered / 600 > 0.923


@given(st.floats(0, 1), st.integers(1, 500), st.integers(1, 500))
def test_the_interval_holds_its_value_has_width_and_stays_in_range(value: float, m: int, n: int) -> None:
    low, high = auroc_interval(value, m, n)
    assert 0 <= low <= value <= high <= 1
    assert high - low > 1e-4
    mirrored = auroc_interval(1 - value, n, m)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_the_interval_solves_the_equation_it_is_defined_by() -> None:
    low, high = auroc_interval(0.9, 30, 50)
    for theta in (low, high):
        spread = (30 + 50) / 2 - 1
        variance = theta * (1 - theta) * (1 + spread * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (30 * 50)
        assert abs(0.9 - theta) / np.sqrt(variance) == pytest.approx(1.959964, abs=1e-5)
