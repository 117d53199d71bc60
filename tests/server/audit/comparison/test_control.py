import numpy as np
import pytest
from assay_server.audit.comparison.control import positive_control
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

MARGINS = st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=40)


@given(MARGINS, st.floats(0.5, 0.99))
@settings(deadline=None)
def test_intervals_are_students_and_wilsons(margins: list[float], level: float) -> None:
    found, values = positive_control(margins, "held-out pairs", level=level), np.array(margins)
    assert (found.pairs, found.of) == (len(margins), "held-out pairs")
    width = stats.t.ppf((1 + level) / 2, len(margins) - 1) * stats.sem(values)
    scale = max(1.0, float(np.abs(values).max()))
    assert (found.margin.value, found.margin.low, found.margin.high) == pytest.approx(
        (values.mean(), values.mean() - width, values.mean() + width), abs=1e-9 * scale
    )
    right = ((values > 0) + 0.5 * (values == 0)).sum()
    low, high = proportion_confint(right, len(margins), alpha=1 - level, method="wilson")
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((low, high), abs=1e-9)
    assert found.passed == (found.margin.low > 0 and found.accuracy.low > 0.5)


@pytest.mark.parametrize(
    ("margins", "passed"),
    [
        ([0.0] * 50, False),
        ([0.3, 0.5, 0.4, 0.6] * 10, True),
        ([-0.3, -0.5, -0.4, -0.6] * 10, False),
        ([100.0, *[-0.1] * 39], False),  # one pair makes the mean
        ([-100.0, *[0.1] * 39], False),  # one pair unmakes it
        ([0.2, 0.3], False),  # two pairs are no control
    ],
)
def test_it_passes_only_where_both_figures_lie_above_no_training(margins: list[float], passed: bool) -> None:
    assert positive_control(margins).passed is passed


@pytest.mark.parametrize("margins", [[], [1.0], [1.0, float("nan")], [1.0, float("inf")], [[1.0, 2.0]]])
def test_margins_that_are_none_are_refused(margins: list[float]) -> None:
    with pytest.raises(ValueError, match="finite margins"):
        positive_control(margins)


def test_a_level_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="level"):
        positive_control([1.0, 2.0], level=0.0)
