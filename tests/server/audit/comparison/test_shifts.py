from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.comparison.shifts import FiringCounts, aligned, difference_error, imitation_gap, independent_side
from assay_server.audit.intervals import mean_intervals
from assay_server.audit.matrices import Csr
from assay_server.audit.moments import moments
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.server.audit.comparison.worlds import Pairs, drawn_pairs, slow_error, slow_factor

LEAN = np.array([0.0, 0.3, -0.4, 0.9, 0.05])


def test_the_side_of_the_noise_that_rollouts_reject_is_not_measured_from() -> None:
    def fired(*rows: list[float]) -> FiringCounts:
        counts = FiringCounts(2, 0.1)
        counts.add(Csr(np.array(rows)))
        return counts

    before, other = fired([0.5, 0.0], [0.5, 0.5]), fired([0.0, 0.5], [0.0, 0.5])
    assert independent_side((other, before), before) is other
    assert independent_side((before, other), before) is other
    assert independent_side((before, fired([0.9, 0.0], [0.2, 0.2])), before) is None
    silent = fired([0.0, 0.0])
    assert independent_side((silent, other), fired([0.0, 0.0])) is silent, "nothing that fires tells nothing"


@st.composite
def any_pairs(draw: st.DrawFn) -> Pairs:
    pairs, concepts = draw(st.integers(1, 25)), draw(st.integers(1, 6))
    sizes = np.array(draw(st.lists(st.integers(0, 4), min_size=concepts, max_size=concepts)))
    raw = draw(st.lists(st.lists(st.integers(-4, 4), min_size=concepts, max_size=concepts), min_size=pairs, max_size=pairs))
    prompts = np.array(draw(st.lists(st.integers(-3, 5), min_size=pairs, max_size=pairs)))
    return Pairs(np.clip(np.array(raw), -sizes, sizes), prompts, sizes)


@given(any_pairs(), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_a_shift_is_the_mean_of_u_and_its_error_clusters_by_prompt_whatever_the_blocks(pairs: Pairs, step: int) -> None:
    for shift in (pairs.shift_sums(step).finish(), pairs.rollouts(step).shift):
        assert (shift.pairs, shift.prompts) == (len(pairs.u), len(np.unique(pairs.prompts)))
        assert shift.mean == pytest.approx(pairs.u.mean(axis=0), abs=1e-12)
        assert shift.error == pytest.approx([slow_error(column, pairs.prompts) for column in pairs.u.T], abs=1e-9)
        assert shift.telling.tolist() == (pairs.values != 0).sum(axis=0).tolist()
        assert np.isfinite(np.stack([shift.mean, shift.error, *shift.interval(0.9)])).all()


@given(any_pairs(), st.integers(1, 9), st.lists(st.sampled_from([0.0, -1.0, 1.0, 0.37, 2.0]), min_size=25, max_size=25))
@settings(max_examples=40, deadline=None)
def test_a_weighed_shift_is_the_mean_of_w_times_u(pairs: Pairs, step: int, weights: list[float]) -> None:
    w = np.array(weights[: len(pairs.u)])
    shift = pairs.shift_sums(step, w).finish()
    assert shift.mean == pytest.approx((w[:, None] * pairs.u).mean(axis=0), abs=1e-12)
    assert shift.error == pytest.approx([slow_error(w * column, pairs.prompts) for column in pairs.u.T], abs=1e-9)
    assert shift.telling.tolist() == (pairs.values != 0).sum(axis=0).tolist(), "a dropped pair still tells the sides apart"


def test_the_imitation_gap_is_the_difference_of_the_shares_of_responses_that_features_fire_on() -> None:
    members = Csr(np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]]))
    sizes = np.array([1, 1, 3, 1])
    data, before = FiringCounts(3, 0.1), FiringCounts(3, 0.1)
    data.add(Csr(np.array([[0.5, 0.0, 0.05], [0.2, 0.3, 0.0]])), Csr(np.array([[0.0, 0.1, 0.0], [0.9, 0.0, 0.9]])))
    before.add(Csr(np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])))
    gap = imitation_gap(data, before, members, sizes)
    assert gap[:3] == pytest.approx([0.75, 0.25 - 1.0, (3 + 1 + 1) / (3 * 4) - 2 / (3 * 2)])
    assert np.isnan(gap[3]), "a direction fires on nothing"
    assert imitation_gap(FiringCounts(3, 0.1), before, members, sizes)[:3] == pytest.approx([0.0, -1.0, -1 / 3])


@pytest.mark.parametrize("unequal", [False, True], ids=["one pair a prompt", "prompts of one to thirty pairs"])
def test_it_agrees_with_what_audits_say_of_the_same_pairs(unequal: bool) -> None:
    pairs = drawn_pairs(1, LEAN, prompts=90)
    if unequal:
        pairs = replace(pairs, prompts=np.repeat(np.arange(12), [30, 20, 10, 9, 8, 5, 3, 1, 1, 1, 1, 1])[np.arange(90)])
    shift, audited = pairs.rollouts().shift, mean_intervals(moments(*pairs.part(slice(None))), level=0.9)
    low, high = shift.interval(0.9)
    for mine, theirs in ((shift.mean, audited.mean), (shift.error, audited.se), (low, audited.low), (high, audited.high)):
        assert mine == pytest.approx(theirs, abs=1e-12)


def test_equal_fractions_are_equal_numbers_so_that_ties_are_ties() -> None:
    values = np.array([[1, 2, 3], [0, 0, 0], [0, 0, 0]])
    shift = Pairs(values, np.arange(3), np.array([1, 2, 3])).rollouts().shift
    assert len(set(shift.mean.tolist())) == 1


@given(any_pairs(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_error_of_a_difference_knows_that_prompts_are_shared(first: Pairs, random: object) -> None:
    generator = np.random.default_rng(random.getrandbits(32))  # pyright: ignore[reportAttributeAccessIssue]
    rows = generator.integers(0, len(first.values), 12)
    second = Pairs(-first.values[rows], first.prompts[rows] + generator.integers(0, 2), first.sizes)
    mine, other = aligned(first.rollouts(), second.rollouts())
    ids = np.union1d(first.prompts, second.prompts)
    for column in range(first.u.shape[1]):
        parts = []
        for prompt in ids:
            terms = [
                (one.u[one.prompts == prompt, column] - one.u[:, column].mean()).sum() / len(one.u) for one in (first, second)
            ]
            parts.append(terms[0] - terms[1])
        factor = max(slow_factor(np.unique(one.prompts, return_counts=True)[1].tolist()) for one in (first, second))
        wanted = np.sqrt(factor * np.square(parts).sum()) if len(ids) > 1 else 0.0
        assert difference_error(mine, other)[column] == pytest.approx(wanted, abs=1e-9)


def test_the_error_of_a_difference_to_nothing_is_that_of_the_shift_whatever_the_prompts_sizes() -> None:
    pairs = drawn_pairs(2, LEAN)
    pairs = replace(pairs, prompts=np.repeat(np.arange(6), [50, 20, 10, 5, 4, 1]))
    nothing = replace(pairs, values=np.zeros_like(pairs.values))
    found = difference_error(*aligned(pairs.rollouts(), nothing.rollouts()))
    assert found == pytest.approx(pairs.rollouts().shift.error, abs=1e-12)


def test_rollouts_that_equal_their_noise_differ_by_nothing() -> None:
    pairs = drawn_pairs(3, LEAN)
    assert difference_error(*aligned(pairs.rollouts(), pairs.rollouts(7))).tolist() == [0.0] * len(LEAN)


def test_aligning_changes_no_shift_and_counts_no_prompt_without_pairs() -> None:
    first, second = drawn_pairs(4, LEAN, sizes=[1] * 5), drawn_pairs(5, LEAN, prompts=9, sizes=[1] * 5, first=3)
    both = aligned(first.rollouts(), second.rollouts())
    assert len(both[0].sums.ids) == len(both[1].sums.ids) == 39
    for before, after in zip((first, second), both, strict=True):
        assert after.shift.mean.tolist() == before.rollouts().shift.mean.tolist()
        assert after.shift.error == pytest.approx(before.rollouts().shift.error, abs=1e-15)
        assert after.shift.prompts == before.rollouts().shift.prompts


def test_one_prompt_bounds_nothing() -> None:
    pairs = drawn_pairs(6, LEAN, pairs=5, prompts=1)
    low, high = pairs.rollouts().shift.interval(0.95)
    assert (low.tolist(), high.tolist()) == ([-1.0] * 5, [1.0] * 5)
    alone = Pairs(np.array([[1], [1], [1]]), np.arange(3), np.array([1])).rollouts().shift
    assert [float(bound[0]) for bound in alone.interval(0.95)] == [1.0, 1.0]


def test_the_interval_is_students() -> None:
    pairs = drawn_pairs(7, LEAN, pairs=40, prompts=40)
    low, high = pairs.rollouts().shift.interval(0.8)
    wanted = stats.t.interval(0.8, 39, pairs.u[:, 1].mean(), stats.sem(pairs.u[:, 1]))
    assert (low[1], high[1]) == pytest.approx(wanted, abs=1e-9)
