import numpy as np
import pytest
import statsmodels.api as sm
from assay_server.audit.nuisance import fit_nuisance
from assay_server.audit.reason import Reason


def test_the_fit_equals_a_logistic_regression_without_intercept() -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(300, 3)) * [1, 50, 0.01] + [0.3, 5, 0]
    # Turning a pair round negates x and the label alike, which gives statsmodels both labels to see.
    turned = draws.choice([1, -1], 300)
    theirs = sm.Logit((turned > 0).astype(float), x * turned[:, None]).fit(disp=False, tol=1e-12, maxiter=100)
    ours = fit_nuisance(x)
    assert ours.reason == Reason.NONE
    assert np.allclose(ours.gamma, theirs.params, rtol=1e-9)
    assert np.allclose(x.T @ ours.residuals(x), 0, atol=1e-7)


def test_every_fit_that_exists_is_found_in_a_few_steps() -> None:
    for seed in range(300):
        draws = np.random.default_rng(seed)
        x = draws.normal(draws.normal(), draws.uniform(0.1, 9), (draws.integers(30, 90), draws.integers(1, 4)))
        fit = fit_nuisance(x)
        assert fit.reason in (Reason.NONE, Reason.SEPARATED)
        if fit.reason == Reason.NONE:
            assert fit.steps <= 25
            assert np.allclose(x.T @ fit.residuals(x), 0, atol=1e-8 * np.abs(x).sum())


def test_turning_pairs_round_negates_the_fit() -> None:
    x = np.random.default_rng(1).normal(0.2, 1, (80, 2))
    assert np.allclose(fit_nuisance(-x).gamma, -fit_nuisance(x).gamma, atol=1e-10)


@pytest.mark.parametrize(
    "x",
    [
        [[1.0], [2.0], [0.5]],
        [[1.0], [0.0], [0.0]],
        [[-3.0], [-1e-3]],
        [[1.0, 5.0], [1.0, -5.0], [2.0, 1.0]],
        [[0.0, 1.0], [0.0, -2.0], [1.0, 0.0]],
    ],
)
def test_nuisance_that_decides_every_preference_is_reported(x: list[list[float]]) -> None:
    fit = fit_nuisance(x)
    assert fit.reason == Reason.SEPARATED
    assert np.isfinite(fit.gamma).all()


def test_one_conflict_among_strong_agreements_is_no_separation() -> None:
    x = np.concatenate([np.full(400, 3.0), [-1e-3]])
    fit = fit_nuisance(x)
    assert fit.reason == Reason.NONE
    assert np.isfinite(fit.gamma).all()
    assert abs(x @ fit.residuals(x[:, None])) < 1e-6


def test_nuisance_that_never_differs_fits_a_coin() -> None:
    fit = fit_nuisance(np.zeros((9, 2)))
    assert (fit.rank, fit.gamma.tolist(), fit.reason) == (0, [0, 0], Reason.NONE)
    assert fit.residuals(np.zeros((9, 2))).tolist() == [0.5] * 9
    assert fit_nuisance(np.zeros((4, 0))).rank == 0


def test_collinear_columns_share_the_slope() -> None:
    x = np.random.default_rng(2).normal(0.3, 1, 100)
    doubled = fit_nuisance(np.stack([x, 2 * x], axis=1))
    alone = fit_nuisance(x)
    assert doubled.rank == 1
    assert doubled.gamma @ [1, 2] == pytest.approx(alone.gamma[0], rel=1e-8)


def test_no_pairs_or_bad_numbers_get_a_reason_or_an_error() -> None:
    assert fit_nuisance(np.zeros((0, 1))).reason == Reason.NO_PAIRS
    with pytest.raises(ValueError, match="finite"):
        fit_nuisance([np.nan])
    with pytest.raises(ValueError, match="finite"):
        fit_nuisance(np.zeros((2, 2, 2)))
