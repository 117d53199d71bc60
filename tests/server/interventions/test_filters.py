"""Filters and flips: which end of s+ - s- is taken, how many, and what that does to what is left."""

import numpy as np
import pytest
from assay_server.interventions.filters import default_order, pick_rows
from assay_server.interventions.types import Mode, RowOrder
from assay_server.interventions.weights import dropped_weights, flipped_weights, offset_weights
from hypothesis import given, settings
from hypothesis import strategies as st

DIFFERENCES = [0.5, -2.0, 3.0, 0.0, 1.0, -1.0, 2.0, 0.25, -0.5, 4.0]


def test_the_pairs_that_teach_most_are_taken_by_hand() -> None:
    assert pick_rows(DIFFERENCES, 0.3, RowOrder.TEACHING).tolist() == [2, 6, 9]
    assert pick_rows(DIFFERENCES, 0.2, RowOrder.OPPOSING).tolist() == [1, 5]


def test_explaining_away_leaves_less_of_the_concept_and_amplifying_more() -> None:
    values = np.array(DIFFERENCES)
    kept = {mode: np.delete(values, pick_rows(values, 0.2, default_order(mode))).mean() for mode in Mode}
    assert kept[Mode.EXPLAIN_AWAY] < values.mean() < kept[Mode.AMPLIFY]


def test_a_pair_that_does_not_teach_the_concept_is_never_taken() -> None:
    assert pick_rows(DIFFERENCES, 1.0, RowOrder.TEACHING).tolist() == [0, 2, 4, 6, 7, 9]
    assert pick_rows(DIFFERENCES, 1.0, RowOrder.OPPOSING).tolist() == [1, 5, 8]
    assert pick_rows([0.0, 0.0], 1.0, RowOrder.TEACHING).tolist() == []


def test_ties_at_the_border_go_to_the_earlier_pair() -> None:
    assert pick_rows([1.0, 1.0, 1.0, 1.0], 0.5, RowOrder.TEACHING).tolist() == [0, 1]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.floats(0.001, 1))
def test_at_most_the_share_is_taken_and_nothing_stronger_is_left(differences: list[float], share: float) -> None:
    rows = pick_rows(differences, share, RowOrder.TEACHING)
    assert len(rows) <= np.ceil(share * len(differences))
    assert np.all(np.diff(rows) > 0)
    left = np.delete(np.array(differences), rows)
    if len(rows) and len(left):
        assert np.array(differences)[rows].min() >= left.max() or len(rows) < np.ceil(share * len(differences) - 1e-9)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        pick_rows(DIFFERENCES, share, RowOrder.TEACHING)


def test_the_weight_of_an_offset_is_what_it_does_to_the_first_gradient() -> None:
    def gradient(offset: float) -> float:  # of -log sigmoid(d + offset) at d = 0, by central differences in float64
        step = 1e-6
        return (np.log1p(np.exp(-(step + offset))) - np.log1p(np.exp(-(-step + offset)))) / (2 * step)

    for offset in (-3.0, -0.5, 0.0, 0.7, 5.0):
        assert offset_weights([offset])[0] == pytest.approx(gradient(offset) / gradient(0.0), rel=1e-6)
    assert offset_weights([0.0])[0] == 1.0
    assert offset_weights([800.0, -800.0]).tolist() == [0.0, 2.0]


def test_dropped_and_flipped_pairs_weigh_nothing_and_minus_one() -> None:
    assert dropped_weights(4, [1, 3]).tolist() == [1.0, 0.0, 1.0, 0.0]
    assert flipped_weights(3, [0]).tolist() == [-1.0, 1.0, 1.0]
