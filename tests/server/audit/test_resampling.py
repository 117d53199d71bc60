"""Bucket sums against the pairs themselves: z, correlations and resamples."""

from itertools import pairwise

import numpy as np
import pytest
from assay_server.audit.matrices import Csr
from assay_server.audit.resampling import (
    Adjustment,
    BucketCollector,
    BucketSums,
    dealt,
    resample_weights,
    scores,
)

PAIRS, FINDINGS = 600, 5


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """u of correlated findings, and prompts of one to three pairs."""
    draws = np.random.default_rng(seed)
    shared = draws.integers(-1, 2, (PAIRS, 1))
    u = np.where(draws.random((PAIRS, FINDINGS)) < 0.4, shared, draws.integers(-1, 2, (PAIRS, FINDINGS)))
    return u.astype(np.float64), np.sort(draws.integers(0, 350, PAIRS)) * 7


def collected(u: np.ndarray, prompts: np.ndarray, cuts: list[int], seed: int = 3) -> BucketSums:
    rows = np.hstack([u, np.ones((len(u), 1))])
    edges = [0, *cuts, len(u)]
    parts = [np.arange(a, b) for a, b in pairwise(edges)]
    shared = [prompt for prompt in np.unique(prompts) if sum(prompt in prompts[part] for part in parts) > 1]
    collector = BucketCollector([np.arange(rows.shape[1])], rows.shape[1], prompts, np.array(shared, np.int64), seed)
    for part in parts:
        collector.add(Csr(rows[part]), prompts[part])
    return collector.finish()[0]


def centred(u: np.ndarray) -> Adjustment:
    return Adjustment(u.mean(axis=0)[:, None], u.sum(axis=0))


def by_prompt(u: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    return np.stack([u[prompts == prompt].sum(axis=0) for prompt in np.unique(prompts)])


def test_z_and_correlations_are_those_of_sums_over_prompts() -> None:
    u, prompts = world()
    sums = collected(u, prompts, [])
    (found,) = scores(sums, centred(u), np.ones((1, len(sums.totals)), np.int64))
    deviations = by_prompt(u - u.mean(axis=0), prompts)
    square = deviations.T @ deviations
    size = np.sqrt(square.diagonal())
    np.testing.assert_allclose(found.z, u.sum(axis=0) / size, rtol=1e-5)
    np.testing.assert_allclose(found.correlation, square / np.outer(size, size), atol=1e-6)


def test_a_resample_is_the_pairs_of_the_buckets_that_were_drawn() -> None:
    u, prompts = world(1)
    sums = collected(u, prompts, [])
    ids, bucket = dealt(prompts, 3)
    weights = resample_weights(len(sums.totals), 5, 4)
    assert (weights.sum(axis=1) == len(sums.totals)).all()
    for found, drawn in zip(scores(sums, centred(u), weights), weights, strict=True):
        often = drawn[bucket]
        deviations = by_prompt(u - u.mean(axis=0), prompts)
        total = (often[:, None] * deviations).sum(axis=0) + u.sum(axis=0)
        square = (often[:, None] * deviations).T @ deviations
        np.testing.assert_allclose(found.z, total / np.sqrt(square.diagonal()), rtol=1e-4)
    assert len(ids) == len(np.unique(prompts))


def test_resampled_z_vary_by_one_around_z() -> None:
    draws = np.random.default_rng(6)
    u = draws.normal(0.1, 1.0, (4_000, FINDINGS))
    sums = collected(u, np.arange(4_000), [])
    drawn = np.stack([found.z for found in scores(sums, centred(u), resample_weights(256, 0, 1_000))])
    z = u.mean(axis=0) / u.std(axis=0) * np.sqrt(4_000)
    np.testing.assert_allclose(drawn.mean(axis=0), z, atol=0.15)
    np.testing.assert_allclose(drawn.std(axis=0), 1.0, atol=0.12)


@pytest.mark.parametrize("cuts", [[100], [1, 2, 3], [64, 65, 300, 599]])
def test_bucket_sums_do_not_depend_on_the_blocks(cuts: list[int]) -> None:
    u, prompts = world(2)
    whole, cut = collected(u, prompts, []), collected(u, prompts, cuts)
    # Integers below 2^24: exact in single precision, in any order.
    np.testing.assert_array_equal(whole.totals, cut.totals)
    np.testing.assert_array_equal(whole.products, cut.products)


def test_prompts_are_dealt_evenly_whatever_their_order() -> None:
    _, prompts = world()
    ids, bucket = dealt(prompts, 1, 32)
    again, same = dealt(prompts[::-1], 1, 32)
    np.testing.assert_array_equal(bucket, same)
    np.testing.assert_array_equal(ids, again)
    assert np.ptp(np.bincount(bucket)) <= 1
    assert not np.array_equal(bucket, dealt(prompts, 2, 32)[1])
    assert dealt(np.zeros(0, np.int64), 0)[0].tolist() == []


def test_what_never_varies_has_z_zero_and_no_correlation() -> None:
    u, prompts = world(4)
    u[:, 0] = 0.0
    sums = collected(u, prompts, [])
    (found,) = scores(sums, centred(u), np.ones((1, len(sums.totals)), np.int64))
    assert found.z[0] == 0
    assert found.correlation[0].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
