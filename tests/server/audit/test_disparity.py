import numpy as np
import pytest
from assay_server.audit.disparity import (
    TAU,
    activity,
    disparity,
    firing_difference,
    membership,
)
from assay_server.audit.matrices import Csr

from tests.server.audit.worlds import part, world


def test_disparity_and_activity_equal_a_plain_loop() -> None:
    drawn = world(1, pairs=15, features=20)
    concepts = [[0, 3, 5], [], [7], list(range(20))]
    member = membership(concepts, 20)
    found = disparity(firing_difference(drawn.freq_chosen, drawn.freq_rejected), member)
    s = activity(drawn.freq_chosen, drawn.freq_rejected, member).toarray()
    for i in range(15):
        for m, features in enumerate(concepts):
            signs = [int(drawn.freq_chosen[i, g] > TAU) - int(drawn.freq_rejected[i, g] > TAU) for g in features]
            assert found.numerators[i, m] == sum(signs)
            assert found.values()[i, m] == pytest.approx(sum(signs) / max(len(features), 1), abs=1e-15)
            assert s[i, m] == pytest.approx(sum(drawn.freq_chosen[i, g] + drawn.freq_rejected[i, g] for g in features), abs=1e-12)
    assert found.sizes.tolist() == [3, 0, 1, 20]


@pytest.mark.parametrize(("dtype", "tau"), [(np.float16, float(np.float16(TAU))), (np.float32, TAU), (np.float64, TAU)])
def test_a_frequency_of_exactly_tau_does_not_fire_in_any_precision(dtype: type, tau: float) -> None:
    chosen = np.array([[1 / 100, 2 / 100, 0]], dtype).astype(np.promote_types(dtype, np.float32))
    assert firing_difference(chosen, np.zeros_like(chosen), tau).toarray().tolist() == [[0, 1, 0]]


def test_swapping_a_pair_negates_its_disparity_and_leaves_its_activity() -> None:
    drawn = world(2)
    swapped = drawn.swapped(np.ones(len(drawn.prompts), np.bool_))
    assert np.array_equal(swapped.disparity.numerators.toarray(), -drawn.disparity.numerators.toarray())
    before, after = (activity(w.freq_chosen, w.freq_rejected, w.concepts).toarray() for w in (drawn, swapped))
    assert np.array_equal(before, after)


def test_the_rows_of_a_shard_are_the_rows_of_the_whole() -> None:
    drawn = world(3)
    rows = np.array([4, 9, 70])
    assert np.array_equal(part(drawn, rows).disparity.numerators.toarray(), drawn.disparity.numerators.toarray()[rows])


def test_without_concepts_each_feature_is_its_own() -> None:
    found = disparity(firing_difference(np.array([[0.5, 0.0]]), np.array([[0.0, 0.5]])))
    assert found.numerators.toarray().tolist() == [[1, -1]]
    assert found.sizes.tolist() == [1, 1]


def test_the_input_is_left_as_it_was() -> None:
    chosen = Csr(np.array([[0.005, 0.5]]))
    firing_difference(chosen, Csr(np.array([[0.5, 0.5]])))
    assert chosen.toarray().tolist() == [[0.005, 0.5]]


@pytest.mark.parametrize(
    ("chosen", "rejected", "message"),
    [
        ([[0.1]], [[0.1, 0.2]], "shape"),
        ([[np.nan]], [[0.1]], "NaN"),
        ([[1.5]], [[0.1]], r"\[0, 1\]"),
        ([[0.5]], [[-0.1]], r"\[0, 1\]"),
    ],
)
def test_frequencies_that_cannot_be_are_refused(chosen: list, rejected: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        firing_difference(np.array(chosen), np.array(rejected))


def test_a_membership_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        membership([[0, 9]], 5)
    with pytest.raises(ValueError, match="rows"):
        disparity(firing_difference(np.array([[0.5]]), np.array([[0.0]])), membership([[0]], 2))
    with pytest.raises(ValueError, match="0/1"):
        disparity(firing_difference(np.array([[0.5]]), np.array([[0.0]])), Csr(np.array([[2]])))
    with pytest.raises(ValueError, match="tau"):
        firing_difference(np.array([[0.5]]), np.array([[0.0]]), tau=1.0)
