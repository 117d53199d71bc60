"""Offsets by hand, against the formula in float64, and the three promises: sign, mode, and equivalence under beta."""

import math

import numpy as np
import pytest
from assay_server.interventions.offsets import Offsets, log_ratio, no_offsets, reward_shaping, shaped_rewards
from assay_server.interventions.shifts import reference_shift
from assay_server.interventions.types import Mode
from assay_server.interventions.zscore import ZScore, fit_zscore
from hypothesis import given, settings
from hypothesis import strategies as st

CHOSEN, REJECTED = [3.0, 1.0], [1.0, 3.0]  # mean 2, population deviation 1: z is s - 2
finite = st.floats(-1e3, 1e3, allow_nan=False)
scores = st.lists(st.tuples(finite, finite), min_size=2, max_size=20)


def loss(beta: float, policy: np.ndarray, reference: np.ndarray, offset: float = 0.0) -> float:
    """-log sigmoid(beta ((policy+ - reference+) - (policy- - reference-)) + offset), in float64."""
    margin = beta * ((policy[0] - reference[0]) - (policy[1] - reference[1])) + offset
    return math.log1p(math.exp(-margin)) if margin > -30 else -margin


def test_reward_shaping_by_hand() -> None:
    z = fit_zscore(CHOSEN, REJECTED)
    assert (z.mean, z.deviation, z.responses) == (2.0, 1.0, 4)
    offsets = reward_shaping(CHOSEN, REJECTED, z, Mode.EXPLAIN_AWAY, 0.5)
    assert offsets.chosen.tolist() == [0.5, -0.5]
    assert offsets.rejected.tolist() == [-0.5, 0.5]
    assert offsets.total.tolist() == [1.0, -1.0]


def test_a_difference_of_log_ratios_by_hand() -> None:
    offsets = log_ratio([0.75, -0.25], [0.25, 0.5], Mode.EXPLAIN_AWAY, 2.0)
    assert offsets.chosen.tolist() == [1.5, -0.5]
    assert offsets.rejected.tolist() == [0.5, 1.0]
    assert offsets.total.tolist() == [1.0, -1.5]


def test_a_positive_offset_says_that_the_concept_explains_the_preference_already() -> None:
    z = fit_zscore(CHOSEN, REJECTED)
    away = reward_shaping(CHOSEN, REJECTED, z, Mode.EXPLAIN_AWAY, 1.0).total
    assert away[0] > 0 > away[1]  # the first pair's chosen response carries more of it
    policy, reference = np.array([-10.0, -12.0]), np.array([-11.0, -11.5])
    step = 1e-6
    push = [
        (loss(0.1, policy + np.array([step, 0]), reference, offset) - loss(0.1, policy, reference, offset)) / step
        for offset in (0.0, float(away[0]))
    ]
    assert push[0] < push[1] < 0  # it is still pushed towards the chosen response, and less


@settings(deadline=None, max_examples=50)
@given(scores, st.floats(0, 10))
def test_amplify_is_explain_away_with_every_offset_negated(pairs: list[tuple[float, float]], strength: float) -> None:
    chosen, rejected = np.array(pairs).T
    z = fit_zscore(chosen, rejected)
    for make in (
        lambda mode: reward_shaping(chosen, rejected, z, mode, strength),
        lambda mode: log_ratio(chosen, rejected, mode, strength),
    ):
        away, more = make(Mode.EXPLAIN_AWAY), make(Mode.AMPLIFY)
        np.testing.assert_array_equal(more.chosen, -away.chosen)
        np.testing.assert_array_equal(more.rejected, -away.rejected)
        np.testing.assert_array_equal(more.total, -away.total)


@pytest.mark.parametrize("strength", [-0.5, float("nan"), float("inf")])
def test_a_strength_is_never_negative_because_the_mode_carries_the_sign(strength: float) -> None:
    with pytest.raises(ValueError, match="strength"):
        reward_shaping(CHOSEN, REJECTED, fit_zscore(CHOSEN, REJECTED), Mode.AMPLIFY, strength)
    with pytest.raises(ValueError, match="strength"):
        log_ratio(CHOSEN, REJECTED, Mode.EXPLAIN_AWAY, strength)
    with pytest.raises(ValueError, match="strength"):
        shaped_rewards([1.0], [2.0], ZScore(0, 1, 2), Mode.EXPLAIN_AWAY, strength)


@settings(deadline=None, max_examples=50)
@given(scores, st.floats(0.01, 5), st.sampled_from(list(Mode)), st.floats(0, 5), st.integers(0, 2**31))
def test_shifting_the_reference_gives_the_same_argument_of_the_sigmoid(
    pairs: list[tuple[float, float]], beta: float, mode: Mode, strength: float, seed: int
) -> None:
    chosen, rejected = np.array(pairs).T
    offsets = reward_shaping(chosen, rejected, fit_zscore(chosen, rejected), mode, strength)
    shift = reference_shift(offsets, beta)
    policy, reference = np.random.default_rng(seed).normal(-50, 20, (2, 2, len(chosen)))
    inside = beta * ((policy[0] - reference[0]) - (policy[1] - reference[1])) + offsets.total
    shifted = reference + np.stack([shift.chosen, shift.rejected])
    outside = beta * ((policy[0] - shifted[0]) - (policy[1] - shifted[1]))
    np.testing.assert_allclose(outside, inside, rtol=1e-9, atol=1e-9)


def test_the_shift_takes_each_half_off_its_own_side() -> None:
    shift = reference_shift(Offsets(np.array([0.3]), np.array([-0.2])), 0.1)
    np.testing.assert_allclose(shift.chosen, [-3.0])
    np.testing.assert_allclose(shift.rejected, [2.0])


@pytest.mark.parametrize("beta", [0.0, -0.1, float("nan"), float("inf")])
def test_a_beta_that_is_not_positive_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="beta"):
        reference_shift(no_offsets(1), beta)


def test_offsets_of_two_interventions_add() -> None:
    both = Offsets(np.array([1.0]), np.array([2.0])) + Offsets(np.array([0.5]), np.array([-1.0]))
    assert (both.chosen[0], both.rejected[0], both.total[0]) == (1.5, 1.0, 0.5)
    assert (no_offsets(1) + both).total.tolist() == both.total.tolist()


def test_a_shaped_reward_loses_what_the_concept_explains_and_gains_it_with_amplify() -> None:
    z = ZScore(mean=2.0, deviation=0.5, responses=10)
    assert shaped_rewards([1.0, 1.0], [3.0, 2.0], z, Mode.EXPLAIN_AWAY, 0.25).tolist() == [0.5, 1.0]
    assert shaped_rewards([1.0, 1.0], [3.0, 2.0], z, Mode.AMPLIFY, 0.25).tolist() == [1.5, 1.0]


def test_a_shaped_reward_and_an_offset_are_the_same_intervention() -> None:
    z, strength = fit_zscore(CHOSEN, REJECTED), 0.7
    rewards = np.array([[0.4, 0.1], [0.0, 0.2]])
    shaped = [shaped_rewards(r, s, z, Mode.EXPLAIN_AWAY, strength) for r, s in zip(rewards, (CHOSEN, REJECTED), strict=True)]
    margin_change = (shaped[0] - shaped[1]) - (rewards[0] - rewards[1])
    np.testing.assert_allclose(margin_change, -reward_shaping(CHOSEN, REJECTED, z, Mode.EXPLAIN_AWAY, strength).total)
