import numpy as np
import pytest
from assay_server.audit.disparity import activity
from assay_server.audit.grouping import assign, group_pairs
from assay_server.audit.matrices import Csr
from assay_server.audit.reason import Reason

from tests.server.audit.worlds import world


def topics(pairs: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three directions and any length, and which direction each has."""
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, 3, pairs)
    rows = np.eye(3)[truth].repeat(4, axis=1) + 0.1 * draws.random((pairs, 12))
    return rows * draws.uniform(0.5, 5, (pairs, 1)), truth


def test_planted_directions_are_found_whatever_the_length_of_rows() -> None:
    rows, truth = topics()
    found = group_pairs(rows, 3, seed=1)
    for k in range(3):
        assert len(set(truth[found.labels == k])) == 1
    assert found.objective > 0.98
    assert (np.diff(found.counts) <= 0).all()
    assert np.array_equal(found.counts, np.bincount(found.labels[found.labels >= 0]))
    assert np.allclose(np.linalg.norm(found.centroids, axis=1), 1)


def test_the_same_seed_gives_the_same_groups_from_sparse_and_dense_rows() -> None:
    drawn = world(1, pairs=200)
    s = activity(drawn.freq_chosen, drawn.freq_rejected, drawn.concepts)
    first, second = group_pairs(s, 5, seed=3), group_pairs(s.toarray(), 5, seed=3)
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.centroids, second.centroids)


def test_swapping_chosen_and_rejected_moves_no_pair() -> None:
    drawn = world(2, pairs=150)
    other = drawn.swapped(np.random.default_rng(0).random(150) < 0.5)
    labels = [group_pairs(activity(w.freq_chosen, w.freq_rejected, w.concepts), 4).labels for w in (drawn, other)]
    assert np.array_equal(*labels)


def test_full_passes_end_where_every_pair_has_its_nearest_centroid() -> None:
    rows, _ = topics(seed=4)
    found = group_pairs(rows, 5)
    active = found.labels >= 0
    nearest, cosine = assign(Csr(rows[active]), found.centroids)
    assert found.converged
    assert np.array_equal(nearest, found.labels[active])
    assert (cosine <= np.linalg.norm(rows[active], axis=1) + 1e-9).all()


def test_the_quietest_twentieth_and_rows_of_nothing_are_silent() -> None:
    rows, _ = topics(400)
    rows[:10] = 0
    found = group_pairs(rows, 3)
    norms = np.linalg.norm(rows, axis=1)
    assert np.array_equal(found.labels == -1, (norms < np.percentile(norms, 5)) | (norms == 0))
    assert found.silent_below == pytest.approx(np.percentile(norms, 5))
    nothing_quiet = group_pairs(rows, 3, silent_percentile=0)
    assert np.flatnonzero(nothing_quiet.labels == -1).tolist() == list(range(10))


def test_no_more_groups_than_distinct_pairs() -> None:
    found = group_pairs(np.array([[1.0, 0], [2, 0], [0, 1], [0, 3]]), 50, silent_percentile=0)
    assert found.counts.tolist() == [2, 2]
    assert group_pairs(np.ones((30, 4)), 8).counts.sum() == 30


def test_when_nothing_fires_there_are_no_groups_and_a_reason() -> None:
    for rows in (np.zeros((7, 3)), np.zeros((0, 3))):
        found = group_pairs(rows, 4)
        assert found.reason == Reason.NO_PAIRS
        assert found.labels.tolist() == [-1] * len(rows)
        assert np.isfinite(found.objective)


def test_arguments_out_of_range_are_refused() -> None:
    for options in ({"groups": 0}, {"silent_percentile": 100}):
        with pytest.raises(ValueError, match="groups must be positive"):
            group_pairs(np.ones((2, 2)), **options)
    with pytest.raises(ValueError, match="negative"):
        group_pairs(np.array([[-1.0]]))
    with pytest.raises(ValueError, match="NaN"):
        group_pairs(np.array([[np.nan]]))
