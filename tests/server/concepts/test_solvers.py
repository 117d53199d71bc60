"""The two convex fits against scikit-learn and against their own optimality conditions."""

import numpy as np
import pytest
from assay_server.concepts.solvers import coordinates, fit_bradley_terry, fit_logistic, log_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression


def data(n: int = 80, d: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((n, d)) + 3.0
    return rows, rows @ generator.standard_normal(d) + generator.standard_normal(n) * 2 > np.median(rows.sum(1)) * 0.1


@pytest.mark.parametrize("l2", [1e-3, 1e-1, 10.0])
def test_logistic_is_that_of_scikit_learn(l2: float) -> None:
    rows, positive = data()
    reference = LogisticRegression(C=1 / (l2 * len(rows)), tol=1e-10, solver="newton-cholesky").fit(rows, positive)
    weights, intercept = fit_logistic(rows, positive, l2)
    assert weights == pytest.approx(reference.coef_[0], abs=1e-6)
    assert intercept == pytest.approx(reference.intercept_[0], abs=1e-6)


@pytest.mark.parametrize("l2", [1e-3, 1e-1, 10.0])
def test_bradley_terry_is_logistic_on_both_orders_of_each_pair_without_intercept(l2: float) -> None:
    differences = data(seed=1)[0] - data(seed=2)[0] + 0.2
    both = np.concatenate([differences, -differences])
    reference = LogisticRegression(C=1 / (l2 * len(both)), fit_intercept=False, tol=1e-10, solver="newton-cholesky").fit(
        both, np.arange(len(both)) < len(differences)
    )
    assert fit_bradley_terry(differences, l2) == pytest.approx(reference.coef_[0], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, (12, 3), elements=st.floats(-4, 4)),
    arrays(np.bool_, 12),
    st.sampled_from([1e-4, 1e-2, 1.0]),
)
@pytest.mark.filterwarnings("error")
def test_whatever_the_data_the_fit_is_a_stationary_point(rows: np.ndarray, positive: np.ndarray, l2: float) -> None:
    positive[:2] = [True, False]
    weights, intercept = fit_logistic(rows, positive, l2)
    signs = np.where(positive, 1.0, -1.0)
    miss = expit(-signs * (rows @ weights + intercept)) * signs / len(rows)
    assert np.abs(l2 * weights - rows.T @ miss).max() < 1e-7
    assert abs(miss.sum()) < 1e-7


def test_perfectly_separated_examples_have_finite_weights() -> None:
    rows = np.array([[-1.0], [-2.0], [1.0], [2.0]])
    weights, intercept = fit_logistic(rows, rows[:, 0] > 0, 1e-4)
    assert 1 < weights[0] < 100
    assert intercept == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("shape", [(20, 300), (40, 8), (30, 30)])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("centre", [False, True])
def test_coordinates_keep_inner_products_and_lift_back(shape: tuple[int, int], kind: str, centre: bool) -> None:
    generator = np.random.default_rng(5)
    rows = generator.standard_normal(shape) * (generator.random(shape) < 0.4)
    rows[3] = rows[4]  # rank-deficient
    span = coordinates(rows if kind == "dense" else sparse.csr_array(rows), centre=centre)
    rows = rows - centre * rows.mean(axis=0)
    beta = generator.standard_normal(span.values.shape[1])
    assert span.values.shape[1] <= min(shape)
    assert rows @ span.lift(beta) == pytest.approx(span.values @ beta, abs=1e-9)
    assert np.linalg.norm(span.lift(beta)) == pytest.approx(np.linalg.norm(beta), abs=1e-9)
    assert span.values @ span.values.T == pytest.approx(rows @ rows.T, abs=1e-9)


def test_a_fit_in_coordinates_is_the_fit_in_columns() -> None:
    generator = np.random.default_rng(6)
    rows = generator.standard_normal((30, 100))
    positive = np.arange(30) % 2 == 0
    span = coordinates(rows)
    narrow, intercept = fit_logistic(span.values, positive, 1e-2)
    wide, same = fit_logistic(rows, positive, 1e-2)
    assert span.lift(narrow) == pytest.approx(wide, abs=1e-7)
    assert intercept == pytest.approx(same, abs=1e-7)


def test_log_loss_does_not_overflow() -> None:
    assert log_loss(np.array([-1e6, 1e6])) == pytest.approx(5e5)
