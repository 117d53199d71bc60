from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.comparison.agreement import FIGURES, Agreement
from assay_server.audit.comparison.control import Control, positive_control
from assay_server.audit.comparison.run import Comparison, Options, by_strength, clears_noise, compare
from assay_server.audit.comparison.shifts import aligned, difference_error
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.audit.comparison.worlds import Pairs, drawn_pairs

CONCEPTS = 120
QUICK = Options(draws=100)
SHIFT, ERROR = (st.integers(low, 1000).map(lambda part: part / 1000) for low in (-1000, 0))
MOVED = positive_control([0.4, 0.2, 0.5, 0.3] * 20)


def lesson(strength: float, seed: int = 0, control: Control | None = MOVED, options: Options = QUICK) -> Comparison:
    """Training data that teaches every fourth concept, and rollouts of a policy that learned it so strongly."""
    draws = np.random.default_rng(seed)
    sizes = draws.integers(1, 4, CONCEPTS)
    lean = np.where(np.arange(CONCEPTS) % 4 == 0, draws.uniform(0.2, 0.9, CONCEPTS) * draws.choice([-1, 1], CONCEPTS), 0.0)
    training = drawn_pairs(seed + 1, lean, pairs=400, prompts=300, sizes=sizes.tolist())
    rollouts = drawn_pairs(seed + 2, strength * lean, pairs=250, prompts=200, sizes=sizes.tolist(), first=5)
    noise = drawn_pairs(seed + 3, np.zeros(CONCEPTS), pairs=220, prompts=200, sizes=sizes.tolist(), first=5)
    names = [f"feature/{number}" for number in range(CONCEPTS)]
    return compare(names, training.shift_sums().finish(), rollouts.rollouts(), noise.rollouts(), options, control)


def test_a_policy_that_learned_its_lesson_agrees_over_the_noise_floor_and_noise_does_not() -> None:
    found = lesson(0.8)
    assert (found.retained.concepts, found.noise_floor.concepts, found.prompts) == (CONCEPTS, CONCEPTS, 200)
    taught = np.arange(CONCEPTS) % 4 == 0
    assert found.clears_noise[taught].mean() > 0.7
    assert found.clears_noise[~taught].mean() < 0.08
    assert found.above_noise.concepts == int(found.clears_noise.sum())
    assert found.retained.pearson_squared is not None
    assert found.noise_floor.pearson_squared is not None
    assert found.above_noise.pearson_squared is not None
    assert found.retained.pearson_squared.low > found.noise_floor.pearson_squared.high
    assert found.above_noise.pearson_squared.value > 0.9
    assert found.above_noise.slope is not None
    assert 0.6 < found.above_noise.slope.value < 1.0
    assert set(found.order[:5].tolist()) <= set(np.flatnonzero(taught).tolist())
    assert ((found.low <= found.observed.mean) & (found.observed.mean <= found.high)).all()


def test_the_noise_floor_lets_no_more_through_than_its_level_says_where_nothing_moved() -> None:
    shares = [float(lesson(0.0, seed, options=replace(QUICK, draws=1)).clears_noise.mean()) for seed in range(0, 40, 4)]
    assert np.mean(shares) < 0.06


def test_a_concept_is_retained_by_the_pairs_that_tell_its_sides_apart() -> None:
    found = lesson(0.5, options=Options(draws=1, min_telling=300))
    assert found.is_retained.tolist() == (found.predicted.telling >= 300).tolist()
    assert 0 < found.retained.concepts < CONCEPTS


@given(
    st.lists(st.tuples(SHIFT, SHIFT, ERROR), min_size=1, max_size=20),
    st.floats(0.5, 0.99),
)
@settings(deadline=None)
def test_what_clears_the_noise_is_over_both_bars(rows: list[tuple[float, float, float]], level: float) -> None:
    observed, noise, error = np.array(rows).T
    from scipy import stats

    z = stats.norm.ppf((1 + level) / 2)
    wanted = [abs(o) > z * e and abs(o) > abs(n) for o, n, e in rows]
    assert clears_noise(observed, noise, error, level).tolist() == pytest.approx(wanted)
    order = by_strength(observed, error)
    ratios = [abs(observed[at]) / error[at] if error[at] else (np.inf if observed[at] else 0.0) for at in order]
    assert ratios == sorted(ratios, reverse=True)


def test_identical_responses_shift_nothing_and_leave_every_figure_finite_or_unset() -> None:
    still = Pairs(np.zeros((20, CONCEPTS), np.int64), np.arange(20) % 9, np.ones(CONCEPTS, np.int64))
    training = drawn_pairs(1, np.full(CONCEPTS, 0.2), sizes=[1] * CONCEPTS).shift_sums().finish()
    names = [str(number) for number in range(CONCEPTS)]
    found = compare(names, training, still.rollouts(), still.rollouts(), QUICK)
    assert not found.clears_noise.any()
    assert found.above_noise == Agreement(0)
    for agreement in (found.retained, found.noise_floor):
        assert agreement.pearson_squared is None
        assert agreement.slope is not None
        assert agreement.slope.value == 0
    for values in (found.observed.mean, found.observed.error, found.difference_error, found.low, found.high):
        assert np.isfinite(values).all()
    assert found.control is None


def test_figures_and_errors_are_those_of_the_pairs_themselves() -> None:
    rollouts = drawn_pairs(5, np.array([0.5, -0.5, 0.1]), sizes=[1, 2, 3])
    noise = drawn_pairs(6, np.zeros(3), sizes=[1, 2, 3])
    training = drawn_pairs(7, np.array([0.4, -0.3, 0.0]), sizes=[1, 2, 3])
    found = compare(["a", "b", "c"], training.shift_sums().finish(), rollouts.rollouts(), noise.rollouts(), QUICK)
    assert found.predicted.mean == pytest.approx(training.u.mean(axis=0), abs=1e-12)
    assert found.observed.mean == pytest.approx(rollouts.u.mean(axis=0), abs=1e-12)
    assert found.noise.mean == pytest.approx(noise.u.mean(axis=0), abs=1e-12)
    assert found.difference_error.tolist() == difference_error(*aligned(rollouts.rollouts(), noise.rollouts())).tolist()
    figures = [getattr(found.retained, name) for name in FIGURES if name not in ("with_gap", "gap_slope")]
    assert all(one.low <= one.high for one in figures)


def test_the_gap_is_a_second_term_for_the_observed_shifts_and_not_for_the_noise() -> None:
    lean = np.linspace(-0.6, 0.6, 60)
    gap = np.where(np.arange(60) % 2 == 0, 0.5, -0.5)
    training = drawn_pairs(1, lean, sizes=[1] * 60, pairs=300, prompts=150).shift_sums().finish()
    rollouts = drawn_pairs(2, lean + gap, sizes=[1] * 60, pairs=300, prompts=150).rollouts()
    noise = drawn_pairs(3, np.zeros(60), sizes=[1] * 60).rollouts()
    names = [str(number) for number in range(60)]
    found = compare(names, training, rollouts, noise, QUICK, gap=gap)
    assert found.retained.pearson_squared is not None
    assert found.retained.with_gap is not None
    assert found.retained.gap_slope is not None
    assert found.retained.with_gap.value > 0.9
    assert found.retained.pearson_squared.value < 0.7
    assert found.retained.gap_slope.low > 0.3
    assert (found.noise_floor.with_gap, found.noise_floor.gap_slope) == (None, None)
    assert found.gap is gap


def test_different_concepts_are_refused() -> None:
    pairs = drawn_pairs(1, np.zeros(4))
    with pytest.raises(ValueError, match="4, 4, 4, 3"):
        compare(["a"] * 4, pairs.shift_sums().finish(), pairs.rollouts(), drawn_pairs(1, np.zeros(3)).rollouts(), QUICK)
