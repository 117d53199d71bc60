from functools import reduce
from operator import add

import numpy as np
import pytest
from assay_server.audit.feature_clusters import (
    SVD_PASSES,
    ColumnSums,
    Subspace,
    cluster_features,
    column_sums,
    prompt_filter,
    response_filter,
)
from assay_server.audit.matrices import Csr


def columns(seed: int = 0, pairs: int = 300, features: int = 40, factors: int = 4) -> np.ndarray:
    """Sparse columns in blocks that rise and fall together."""
    draws = np.random.default_rng(seed)
    mood = np.repeat(draws.normal(size=(pairs, factors)), features // factors, axis=1)
    values = mood + 0.5 * draws.normal(size=(pairs, features))
    return np.where(np.abs(values) > 0.8, values, 0.0)


def fitted(values: np.ndarray, kept: np.ndarray, rank: int, passes: int, cuts: tuple[int, ...] = ()) -> np.ndarray:
    space = Subspace(column_sums(Csr(values)), kept, rank, seed=1)
    for number in range(passes):
        if number:
            space.turn()
        for part in np.split(values, cuts):
            space.add(Csr(part))
    return space.embedding()


def test_sums_over_blocks_give_the_moments_of_every_column_zeros_counted() -> None:
    values = columns()
    sums = reduce(add, (column_sums(Csr(part)) for part in np.split(values, (100, 100, 220))))
    assert sums.pairs == 300
    assert np.allclose(sums.mean, values.mean(axis=0), atol=1e-12)
    assert np.allclose(sums.sigma, values.std(axis=0), atol=1e-9)
    assert np.allclose(sums.absolute, np.abs(values).sum(axis=0), atol=1e-9)


def test_the_embedding_is_that_of_a_plain_singular_value_decomposition() -> None:
    values, kept = columns(), np.arange(40) != 7
    found = fitted(values, kept, rank=4, passes=14, cuts=(64, 200))
    z = (values - values.mean(axis=0)) / values.std(axis=0)
    _, size, right = np.linalg.svd(np.where(kept, z, 0.0), full_matrices=False)
    plain = right[:4].T * size[:4]
    assert np.allclose(found @ found.T, plain @ plain.T, atol=1e-4 * np.square(size[0]) / 40)
    assert np.abs(found[7]).max() < 1e-9


def test_three_passes_reach_the_strongest_directions() -> None:
    values = columns(1)
    few, many = (fitted(values, np.ones(40, np.bool_), 4, passes) for passes in (SVD_PASSES, 14))
    few, many = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (few, many))
    assert np.abs(few @ few.T - many @ many.T).max() < 0.1


def test_a_rank_above_the_number_of_columns_is_cut_to_it() -> None:
    kept = np.arange(40) < 3
    found = fitted(columns(2), kept, rank=128, passes=2)
    assert found.shape == (40, 3)
    assert np.allclose((found[:3] ** 2).sum(axis=1), 300, rtol=1e-6)


def test_features_that_move_together_are_one_cluster_nearest_the_centre_first() -> None:
    embedding = fitted(columns(3), np.ones(40, np.bool_), 4, 3)
    groups = cluster_features(embedding, 4, seed=0)
    assert sorted(sorted(group.tolist()) for group in groups) == [list(range(k, k + 10)) for k in (0, 10, 20, 30)]
    rows = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    for group in groups:
        near = rows[group] @ rows[group].mean(axis=0)
        assert near[0] > near[-1]
    assert all(np.array_equal(a, b) for a, b in zip(groups, cluster_features(embedding, 4, seed=0), strict=True))


def test_the_number_of_clusters_is_the_root_of_the_features_unless_said() -> None:
    spread = np.random.default_rng(0).normal(size=(100, 6))
    assert len(cluster_features(spread, 0, seed=0)) == pytest.approx(10, abs=1)
    sizes = [len(group) for group in cluster_features(spread, 0, seed=0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == 100


@pytest.mark.parametrize("features", [0, 1, 2])
def test_nearly_no_features_and_features_without_variance_are_answered(features: int) -> None:
    assert sum(len(group) for group in cluster_features(np.ones((features, 3)), 0, seed=0)) == features
    assert cluster_features(np.zeros((features, 3)), 0, seed=0) == ()


def test_filters_keep_what_fires_often_and_varies() -> None:
    sums = ColumnSums(100, np.array([0.0, 5, 5, 0]), np.array([9.0, 0.25, 9, 1e-7]), np.array([9.0, 5, 5, 1e-3]))
    firings = np.array([50, 50, 5, 50])
    assert response_filter(sums, firings, 10).tolist() == [True, False, False, False]
    assert prompt_filter(sums, firings, 10).tolist() == [True, False, False, True]
