import numpy as np
import pytest
from assay_server.audit.matrices import Csr
from assay_server.audit.maxt import FlipSums, add_flip_sums, max_t, prompt_signs
from assay_server.audit.moments import moments
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.server.audit.worlds import flip_sums, part, relabelled, world


def adjusted(drawn, flips: int = 256, seed: int = 0) -> np.ndarray:
    sums = moments(drawn.disparity, drawn.prompts)
    flipped = flip_sums((drawn.disparity.numerators, drawn.prompts), flips=flips, seed=seed)
    return max_t(flipped, sums.total, np.sqrt(sums.prompt_squares))


def test_flipped_totals_and_step_down_p_equal_a_plain_loop() -> None:
    drawn = world(1)
    u, flips = drawn.disparity.numerators.toarray(), 128
    coins = np.concatenate([prompt_signs(drawn.prompts, word, 5) for word in (0, 1)], axis=1).astype(int)
    flipped = flip_sums((drawn.disparity.numerators, drawn.prompts), flips=flips, seed=5)
    assert np.array_equal(flipped.totals, u.T @ coins)
    scale = np.sqrt([sum(u[drawn.prompts == c, m].sum() ** 2 for c in np.unique(drawn.prompts)) for m in range(u.shape[1])])
    seen, null = np.abs(u.sum(axis=0)) / scale, np.abs(u.T @ coins) / scale[:, None]
    order, slow, least = np.argsort(-seen), np.empty(len(seen)), 0.0
    for place, m in enumerate(order):
        rivals = order[place:]
        least = max(least, (1 + sum(null[rivals, b].max() >= seen[m] - 1e-9 for b in range(flips))) / (1 + flips))
        slow[m] = least
    assert np.allclose(max_t(flipped, u.sum(axis=0), scale), slow, atol=1e-12)


@pytest.mark.parametrize("largest", [1, 3, 2**22])
def test_common_and_rare_columns_small_and_large_integers_are_all_added_exactly(largest: int) -> None:
    draws = np.random.default_rng(0)
    fires = draws.random((300, 30)) < np.where(np.arange(30) < 10, 0.6, 0.01)
    values = np.where(fires, draws.integers(-largest, largest + 1, (300, 30)), 0)
    prompts = draws.integers(0, 200, 300)
    coins = np.concatenate([prompt_signs(prompts, word, 1) for word in range(3)], axis=1).astype(np.int64)
    found = flip_sums((Csr(values), prompts), flips=192, seed=1)
    assert found.totals.dtype == np.int64
    assert np.array_equal(found.totals, values.T @ coins)
    add_flip_sums(found, Csr(values), prompts)
    assert np.array_equal(found.totals, 2 * values.T @ coins)
    halves = flip_sums((Csr(values / 2), prompts), flips=192, seed=1)
    assert np.allclose(halves.totals, (values / 2).T @ coins, rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 2**63))
def test_shards_in_any_order_toss_the_same_coins(order: list[int], seed: int) -> None:
    drawn = world(2, pairs=40, prompts=10)
    shards = [part(drawn, np.arange(first * 10, first * 10 + 10)) for first in order]
    total = flip_sums(*((shard.disparity.numerators, shard.prompts) for shard in shards), flips=64, seed=seed)
    whole = flip_sums((drawn.disparity.numerators, drawn.prompts), flips=64, seed=seed)
    assert np.array_equal(total.totals, whole.totals)


def test_coins_are_fair_and_independent_between_prompts_flips_and_seeds() -> None:
    coins = np.concatenate([prompt_signs(np.arange(512), word, 0) for word in range(8)], axis=1).astype(float)
    assert abs(coins.mean()) < 4 / np.sqrt(coins.size)
    for square in (coins @ coins.T, coins.T @ coins):
        off = square[~np.eye(512, dtype=bool)] / np.sqrt(512)
        assert abs(off.std() - 1) < 0.02
        assert np.abs(off).max() < 6
    other = np.concatenate([prompt_signs(np.arange(512), word, 1) for word in range(8)], axis=1)
    assert abs((coins * other).mean()) < 4 / np.sqrt(coins.size)


def test_pairs_of_one_prompt_flip_together() -> None:
    signs = prompt_signs(np.array([3, 9, 3]), 0, 0)
    assert np.array_equal(signs[0], signs[2])
    assert not np.array_equal(signs[0], signs[1])


def test_a_family_of_true_nulls_shows_a_finding_in_one_run_of_twenty() -> None:
    drawn, draws = world(3, pairs=150, prompts=60), np.random.default_rng(1)
    runs = [adjusted(relabelled(drawn, draws), seed=run).min() <= 0.05 for run in range(200)]
    assert stats.binomtest(sum(runs), 200, 0.05).pvalue > 0.01


def test_a_strong_concept_is_found_beside_the_nulls() -> None:
    drawn = relabelled(world(4, pairs=200, prompts=150), np.random.default_rng(0))
    drawn.freq_chosen[::2, 10:15] = 0.4
    p = adjusted(drawn, flips=512)
    assert p.argmin() == 2
    assert p[2] == 1 / 513


def test_a_column_without_scale_is_never_found() -> None:
    flipped = FlipSums(0, np.array([[0] * 64, [1, -1] * 32]))
    assert max_t(flipped, [0, 1], [0, 1]).tolist() == [1, 1]


def test_sums_that_do_not_belong_together_are_refused() -> None:
    values = world(5, pairs=10).disparity.numerators
    with pytest.raises(ValueError, match="multiple of 64"):
        flip_sums((values, np.arange(10)), flips=100)
    with pytest.raises(ValueError, match="finite"):
        max_t(FlipSums(0, np.ones((1, 64))), [1], [np.nan])
    with pytest.raises(ValueError, match="expected 1"):
        max_t(FlipSums(0, np.ones((1, 64))), [1, 2], [1, 1])
