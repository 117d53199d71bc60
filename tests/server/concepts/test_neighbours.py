"""Nearest features against a whole matrix of cosines."""

import numpy as np
import pytest
from assay_server.concepts.neighbours import nearest_features
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 12), st.integers(0, 99))
def test_any_block_size_gives_the_largest_absolute_cosines(d_sae: int, block: int, k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    decoder = generator.standard_normal((d_sae, 5)).astype(np.float32)
    direction = generator.standard_normal(5)
    cosines = decoder.astype(np.float64) @ direction
    cosines /= np.linalg.norm(decoder.astype(np.float64), axis=1) * np.linalg.norm(direction)
    wanted = np.argsort(-np.abs(cosines), kind="stable")[:k]
    found = nearest_features(direction, decoder, k=k, block=block)
    assert found.features.tolist() == wanted.tolist()
    assert found.cosines == pytest.approx(cosines[wanted], abs=1e-12)


def test_a_direction_along_a_decoder_row_finds_it_whichever_way_it_points() -> None:
    decoder = np.random.default_rng(0).standard_normal((40, 16))
    for sign in (1.0, -1.0):
        found = nearest_features(sign * 7 * decoder[23], decoder, k=1)
        assert found.features.tolist() == [23]
        assert found.cosines[0] == pytest.approx(sign, abs=1e-12)
        assert abs(found.cosines[0]) <= 1


def test_dead_rows_are_near_to_nothing() -> None:
    decoder = np.array([[0.0, 0.0], [np.nan, 1.0], [0.0, 2.0]])
    found = nearest_features(np.array([1.0, 1.0]), decoder, k=3)
    assert found.features.tolist() == [2]
    assert found.cosines[0] == pytest.approx(np.sqrt(0.5))


def test_equally_near_features_come_by_id_across_blocks() -> None:
    decoder = np.tile([[1.0, 0.0]], (6, 1))
    assert nearest_features(np.array([1.0, 0.0]), decoder, k=4, block=2).features.tolist() == [0, 1, 2, 3]


def test_never_more_than_a_block_is_read() -> None:
    class Watched:
        shape = (100, 3)
        largest = 0

        def __getitem__(self, rows: slice) -> np.ndarray:
            self.largest = max(self.largest, rows.stop - rows.start)
            return np.ones((min(rows.stop, 100) - rows.start, 3))

    watched = Watched()
    nearest_features(np.ones(3), watched, k=2, block=16)
    assert watched.largest == 16


@pytest.mark.parametrize("direction", [np.zeros(3), np.ones(4), np.array([np.nan, 1, 1])])
def test_a_direction_without_length_or_of_another_width_is_refused(direction: np.ndarray) -> None:
    with pytest.raises(ValueError, match="against 10 x 3"):
        nearest_features(direction, np.ones((10, 3)))
