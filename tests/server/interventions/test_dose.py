"""The useful range of a curve: higher than without steering beyond the errors, and fluent."""

import math

import pytest
from assay_server.interventions.dose import DosePoint, dose_response, perplexity


def curve(*points: tuple[float, float, float, float], limit: float = 1.5):
    return dose_response(
        [DosePoint(*point) for point in points],
        perplexity_limit=limit,
        residual_norm=10.0,
        perplexity_tokens=9,
        generated_tokens=8,
    )


def test_the_range_ends_where_the_model_stops_being_fluent() -> None:
    found = curve((0, 1.0, 0.1, 10.0), (1, 1.05, 0.1, 10.1), (2, 2.0, 0.1, 11.0), (4, 3.0, 0.1, 14.0), (8, 9.0, 0.1, 90.0))
    assert (found.low, found.high, found.recommended) == (2, 4, 4)


def test_points_may_come_in_any_order() -> None:
    found = curve((4, 3.0, 0.1, 14.0), (0, 1.0, 0.1, 10.0), (2, 2.0, 0.1, 11.0))
    assert [point.coefficient for point in found.points] == [0, 2, 4]
    assert (found.low, found.high) == (2, 4)


def test_no_coefficient_that_works_leaves_no_range_and_the_smallest_as_recommendation() -> None:
    found = curve((0, 1.0, 0.5, 10.0), (1, 1.2, 0.5, 10.0), (2, 5.0, 0.1, 99.0))
    assert (found.low, found.high, found.recommended) == (None, None, 1)


def test_a_lucky_point_beyond_a_gap_does_not_stretch_the_range() -> None:
    found = curve((0, 0, 0, 10), (1, 1, 0, 10), (2, 2, 0, 10), (3, 3, 0, 99), (4, 9, 0, 10))
    assert (found.low, found.high, found.recommended) == (1, 2, 2)


def test_a_curve_without_its_origin_is_refused() -> None:
    with pytest.raises(ValueError, match="coefficient 0"):
        curve((1, 1, 0, 10), (2, 2, 0, 10))
    with pytest.raises(ValueError, match="coefficient 0"):
        curve((0, 1, 0, 10))


def test_perplexity_is_the_inverse_geometric_mean_probability_and_never_infinite() -> None:
    assert perplexity(math.log(0.5) * 4, 4) == pytest.approx(2.0)
    assert perplexity(-1e9, 1) == pytest.approx(math.exp(80))
