"""z-scores: fitted over both sides, exact, and zero where there is nothing to tell apart."""

import numpy as np
import pytest
from assay_server.interventions.zscore import fit_zscore
from scipy import stats


def test_z_agrees_with_scipy_over_both_sides_together() -> None:
    rng = np.random.default_rng(0)
    chosen, rejected = rng.gamma(2, 3, (2, 500))
    z = fit_zscore(chosen, rejected)
    expected = stats.zscore(np.concatenate([chosen, rejected]))
    np.testing.assert_allclose(np.concatenate([z.of(chosen), z.of(rejected)]), expected, rtol=1e-12, atol=1e-12)
    assert z.responses == 1000


def test_scores_that_do_not_vary_have_z_zero_and_no_division() -> None:
    for value in (0.0, 7.25, 0.1 + 0.2):
        z = fit_zscore([value, value], [value, value])
        assert z.deviation == 0.0
        assert z.of([value, value + 1]).tolist() == [0.0, 0.0]


def test_a_small_spread_on_a_large_mean_is_kept() -> None:
    z = fit_zscore([25_000.0, 25_002.0], [25_000.0, 25_002.0])
    assert z.deviation == pytest.approx(1.0, rel=1e-12)


def test_no_pair_gives_no_spread() -> None:
    assert fit_zscore([], []).of([1.0]).tolist() == [0.0]


@pytest.mark.parametrize(("chosen", "rejected"), [([1.0], [1.0, 2.0]), ([float("nan")], [1.0]), ([[1.0]], [[1.0]])])
def test_scores_that_cannot_be_are_refused(chosen: list[float], rejected: list[float]) -> None:
    with pytest.raises(ValueError):
        fit_zscore(chosen, rejected)
