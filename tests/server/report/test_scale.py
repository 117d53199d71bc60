from assay_server.report.scale import linear, tick_label
from hypothesis import given
from hypothesis import strategies as st

FINITE = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_an_axis_holds_zero_and_every_value_between_few_ticks(values: list[float]) -> None:
    scale = linear(values)
    places = [scale.percent(value) for value in [0.0, *values]]
    assert all(2 <= place <= 98 for place in places)
    assert scale.low <= min(0.0, *values) + 1e-9 * abs(scale.high - scale.low)
    assert scale.high >= max(0.0, *values) - 1e-9 * abs(scale.high - scale.low)
    assert 2 <= len(scale.ticks) <= 8
    assert list(scale.ticks) == sorted(scale.ticks)


def test_an_axis_of_nothing_is_still_an_axis() -> None:
    assert linear([]).percent(0.0) == 50.0
    assert linear([0.0, 0.0]).percent(0.0) == 50.0


def test_what_is_outside_stands_at_the_edge() -> None:
    scale = linear([-1.0, 1.0])
    assert scale.percent(-5.0) == scale.percent(-1.0) == 2.0
    assert scale.percent(5.0) == 98.0


def test_ticks_are_written_to_the_digit_of_their_step() -> None:
    assert [tick_label(value, 0.2) for value in (-0.4, 0.0, 0.2, 0.6000000001)] == ["−0.4", "0", "+0.2", "+0.6"]
    assert tick_label(0.25, 0.25) == "+0.25"
    assert tick_label(-2.0, 1.0) == "−2"
    assert tick_label(2.5, 2.5) == "+2.5"
