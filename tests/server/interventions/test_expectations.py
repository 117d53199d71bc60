"""Expected effects: correlations and shifts from shards equal those from dense arrays in float64."""

import numpy as np
from assay_server.audit.disparity import disparity, firing_difference, membership
from assay_server.audit.matrices import Csr
from assay_server.interventions.expectations import CompanionSums, strongest

RNG = np.random.default_rng(3)
PAIRS, FEATURES = 60, 8


def shares() -> np.ndarray:
    return RNG.random((PAIRS, FEATURES)) * (RNG.random((PAIRS, FEATURES)) < 0.4)


CHOSEN, REJECTED = shares(), shares()
CONCEPTS = membership([[0], [1], [2], [3, 4, 5], [6], [7]], FEATURES)
TARGET = RNG.normal(size=PAIRS)
WEIGHTS = RNG.random(PAIRS) * 2


def dense_u() -> np.ndarray:
    b = (CHOSEN > 0.01).astype(float) - (REJECTED > 0.01)
    return np.stack([b[:, 0], b[:, 1], b[:, 2], b[:, 3:6].mean(axis=1), b[:, 6], b[:, 7]], axis=1)


def companions(cuts: list[int]):
    sums = CompanionSums([TARGET, TARGET], [WEIGHTS, np.full(PAIRS, np.nan)])
    for start, end in zip([0, *cuts], [*cuts, PAIRS], strict=True):
        sums.add(disparity(firing_difference(Csr(CHOSEN[start:end]), Csr(REJECTED[start:end])), CONCEPTS))
    return sums.finish()


def test_companions_from_shards_equal_the_dense_formulas() -> None:
    u = dense_u()
    for cuts in ([], [7], [20, 21, 45]):
        weighed, unweighed = companions(cuts)
        expected = np.array([np.corrcoef(TARGET, column)[0, 1] for column in u.T])
        np.testing.assert_allclose(weighed.correlation, expected, atol=1e-12)
        np.testing.assert_allclose(weighed.before, u.mean(axis=0), atol=1e-12)
        assert weighed.after is not None
        np.testing.assert_allclose(weighed.after, (WEIGHTS[:, None] * u).mean(axis=0), atol=1e-12)
        np.testing.assert_array_equal(weighed.telling, (u != 0).sum(axis=0))
        assert unweighed.after is None


def test_a_concept_or_target_that_never_varies_correlates_with_nothing() -> None:
    sums = CompanionSums([np.ones(2), np.array([1.0, -1.0])], [np.ones(2), np.ones(2)])
    sums.add(disparity(firing_difference(Csr([[0.5, 0.5], [0.5, 0.0]]), Csr([[0.0, 0.0], [0.0, 0.5]]))))
    flat, varying = sums.finish()
    assert flat.correlation.tolist() == [0.0, 0.0]
    assert varying.correlation.tolist() == [0.0, 1.0]


def test_no_shard_gives_empty_companions_and_no_nan() -> None:
    (nothing,) = CompanionSums(np.zeros((1, 0)), np.zeros((1, 0))).finish()
    assert len(nothing.correlation) == 0


def test_the_strongest_companions_leave_the_target_and_zeros_out() -> None:
    assert strongest(np.array([0.9, -0.95, 0.0, 0.3]), [1], 5).tolist() == [0, 3]
