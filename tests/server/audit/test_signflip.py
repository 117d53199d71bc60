import itertools

import numpy as np
import pytest
from assay_server.audit.disparity import Disparity
from assay_server.audit.matrices import Csr
from assay_server.audit.moments import Moments, moments
from assay_server.audit.reason import Reason
from assay_server.audit.signflip import Method, exact_p, monte_carlo_p, normal_p, sign_flip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.server.audit.worlds import relabelled, world


def flipped(columns: list[list[int]] | np.ndarray, size: int = 10, **options: int):
    """Sign-flip tests of disparities given as [pairs, concepts], one prompt a pair."""
    values = np.array(columns)
    return sign_flip(moments(Disparity(Csr(values), np.full(values.shape[1], size)), np.arange(len(values))), **options)


def histogram(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(np.abs(sums[sums != 0]), return_counts=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=11))
def test_the_exact_p_equals_the_enumeration_of_every_sign(sums: list[int]) -> None:
    hits = [abs(np.dot(signs, sums)) >= abs(sum(sums)) for signs in itertools.product((-1, 1), repeat=len(sums))]
    assert flipped([[value] for value in sums]).p[0] == pytest.approx(np.mean(hits), abs=1e-12)


def test_single_features_give_the_binomial_sign_test() -> None:
    draws = np.random.default_rng(0)
    values = draws.choice([-1, 0, 1], size=(4_000, 6), p=[0.1, 0.75, 0.15])
    found = flipped(values, size=1)
    for m in range(6):
        plus, minus = int((values[:, m] > 0).sum()), int((values[:, m] < 0).sum())
        assert found.p[m] == pytest.approx(stats.binomtest(plus, plus + minus).pvalue, rel=1e-9)
        assert found.method[m] == Method.EXACT
        assert found.prompts[m] == plus + minus


def test_z_and_mean_equal_a_plain_loop_over_prompts() -> None:
    drawn = world(1)
    u = drawn.disparity.values().toarray()
    found = sign_flip(moments(drawn.disparity, drawn.prompts))
    for m in range(u.shape[1]):
        by_prompt = [u[drawn.prompts == c, m].sum() for c in np.unique(drawn.prompts)]
        assert found.z[m] == pytest.approx(sum(by_prompt) / np.sqrt(np.sum(np.square(by_prompt))), abs=1e-9)
        assert found.mean[m] == pytest.approx(u[:, m].mean(), abs=1e-12)


def test_the_normal_approximation_is_close_to_the_exact_p_where_it_is_allowed() -> None:
    draws = np.random.default_rng(3)
    for shift in (0.0, 0.3, 0.8, 1.5):
        sums = np.round(draws.normal(shift, 4, 300)).astype(int)
        magnitudes, counts = histogram(sums)
        exact, normal = exact_p(magnitudes, counts, sums.sum()), normal_p(magnitudes, counts, sums.sum())
        assert normal == pytest.approx(exact, rel=0.05, abs=2e-3)


def test_monte_carlo_agrees_with_the_exact_p_and_is_never_zero() -> None:
    magnitudes, counts = np.array([1, 3, 8]), np.array([9, 6, 2])
    exact = exact_p(magnitudes, counts, 20)
    found = monte_carlo_p(magnitudes, counts, 20, 20_000, np.random.default_rng(0))
    assert abs(found - exact) < 4 * np.sqrt(exact * (1 - exact) / 20_000) + 1 / 20_000
    assert monte_carlo_p(np.array([1]), np.array([200]), 200, 99, np.random.default_rng(0)) == 0.01
    with pytest.raises(ValueError, match="positive"):
        monte_carlo_p(magnitudes, counts, 20, 0, np.random.default_rng(0))


def test_the_method_follows_cost_and_the_conditions_of_the_normal_form() -> None:
    draws = np.random.default_rng(1)
    even = np.round(draws.normal(0, 6, 800)).astype(int)
    dominated = np.concatenate([[400], np.round(draws.normal(0, 6, 799)).astype(int)])
    values = np.stack([even, dominated], axis=1)
    cheap = flipped(values, size=400, exact_work=1)
    assert cheap.method.tolist() == [Method.NORMAL, Method.MONTE_CARLO]
    assert np.array_equal(cheap.p, flipped(values, size=400, exact_work=1).p)
    exact = flipped(values, size=400, exact_work=10**9)
    assert exact.method.tolist() == [Method.EXACT, Method.EXACT]
    assert np.allclose(exact.p, cheap.p, atol=0.03)


def test_pairs_that_cannot_tell_say_why() -> None:
    shard = Disparity(Csr(np.array([[0, 3, 0], [0, 3, 0]])), np.array([4, 4, 0]))
    found = sign_flip(moments(shard, [5, 5]))
    assert found.reason.tolist() == [Reason.NO_DIFFERENCE, Reason.ONE_PROMPT, Reason.EMPTY_CONCEPT]
    assert found.p.tolist() == [1, 1, 1]
    assert np.isfinite(found.z).all()
    nothing = sign_flip(moments(Disparity(Csr((0, 1), dtype=np.int64), np.array([4])), np.zeros(0, np.int64)))
    assert nothing.reason.tolist() == [Reason.NO_PAIRS]
    assert all(Reason(code).text for code in found.reason)


def test_ten_pairs_give_an_answer() -> None:
    found = flipped([[1]] * 10, size=1)
    assert found.p[0] == pytest.approx(2 / 2**10)
    assert found.reason[0] == Reason.NONE


def randomised(sums: Moments, concept: int, coin: float) -> float:
    """The exact p of one concept, spread over its step of the lattice: uniform under the null where p itself is in steps."""
    row = Csr(sums.magnitudes[[concept]])
    total = abs(int(sums.total[concept]))
    reached = exact_p(row.indices.astype(np.int64), row.data, total)
    return reached - coin * (reached - exact_p(row.indices.astype(np.int64), row.data, total + 2))


def test_p_is_uniform_when_labels_are_swapped_by_prompt_and_not_when_prompts_are_ignored() -> None:
    drawn, draws, runs = world(7, pairs=250, prompts=60), np.random.default_rng(5), 300
    clustered, naive, smooth = [], [], []
    for _ in range(runs):
        swapped = relabelled(drawn, draws)
        sums = moments(swapped.disparity, swapped.prompts)
        clustered.append(sign_flip(sums).p)
        apart = moments(swapped.disparity, np.arange(250))
        naive.append(2 * stats.norm.sf(np.abs(apart.total) / np.sqrt(apart.prompt_squares)))
        smooth.append(randomised(sums, 0, draws.random()))
    assert stats.kstest(smooth, "uniform").pvalue > 0.01
    low, high = stats.binomtest(int((np.array(clustered)[:, 0] <= 0.05).sum()), runs).proportion_ci(0.99)
    assert low <= 0.05 <= high
    assert 0.03 < (np.array(clustered) <= 0.05).mean() < 0.065
    assert (np.array(naive) <= 0.05).mean() > 0.08


def test_a_planted_concept_is_found_first() -> None:
    drawn = relabelled(world(8, pairs=300, prompts=200), np.random.default_rng(0))
    planted = drawn.freq_chosen.copy()
    planted[::3, :5] = 0.4
    found = sign_flip(
        moments(type(drawn)(planted, drawn.freq_rejected, drawn.prompts, drawn.length, drawn.concepts).disparity, drawn.prompts)
    )
    assert found.p.argmin() == 0
    assert found.p[0] < 1e-6
