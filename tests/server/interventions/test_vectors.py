"""Vectors and bases: unit, orthonormal, reproducible; ablation by hand and against its definition."""

import numpy as np
import pytest
from assay_server.errors import InvalidItem
from assay_server.interventions.vectors import ablation_basis, feature_direction, steer, unit

from tests.support.ablation import ablate


def test_a_direction_is_unit_and_points_where_its_weights_do() -> None:
    direction = feature_direction([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [3.0, 2.0])
    np.testing.assert_allclose(direction, [0.6, 0.8, 0.0])


def test_nothing_to_steer_along_is_refused() -> None:
    for nothing in ([0.0, 0.0], [float("nan"), 1.0]):
        with pytest.raises(InvalidItem) as caught:
            unit(nothing)
        assert caught.value.reason == "NO_DIRECTION"
    with pytest.raises(InvalidItem):
        ablation_basis([[0.0, 0.0]])


def test_a_basis_is_orthonormal_spans_its_rows_and_drops_dependent_ones() -> None:
    rows = np.random.default_rng(1).normal(size=(3, 8)) * np.array([[100.0], [1.0], [0.01]])
    basis = ablation_basis(np.vstack([rows, rows[0] + rows[1], np.zeros(8)]))
    assert basis.shape == (8, 3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rows - (rows @ basis) @ basis.T, 0, atol=1e-9)


def test_a_rank_keeps_the_strongest_common_directions() -> None:
    rows = [[1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [1.0, 0.0, 0.0]]
    np.testing.assert_allclose(ablation_basis(rows, rank=1)[:, 0], [1.0, 0.0, 0.0], atol=1e-9)


def test_ablation_by_hand_moves_to_the_mean_along_the_basis_only() -> None:
    out = ablate([[5.0, 7.0]], [[1.0], [0.0]], [2.0, -3.0])
    assert out.tolist() == [[2.0, 7.0]]
    assert ablate([[5.0, 7.0]], [[1.0], [0.0]], [2.0, -3.0], strength=0.5).tolist() == [[3.5, 7.0]]


def test_ablation_equals_its_formula_and_twice_changes_nothing_more() -> None:
    rng = np.random.default_rng(2)
    h, mean, basis = rng.normal(size=(6, 5)), rng.normal(size=5), ablation_basis(rng.normal(size=(2, 5)))
    once = ablate(h, basis, mean)
    projector = basis @ basis.T
    np.testing.assert_allclose(once, np.stack([row - projector @ (row - mean) for row in h]), atol=1e-12)
    np.testing.assert_allclose(ablate(once, basis, mean), once, atol=1e-12)


def test_steering_adds_the_coefficient_times_the_direction() -> None:
    assert steer([[1.0, 2.0]], [0.6, 0.8], 5.0).tolist() == [[4.0, 6.0]]
