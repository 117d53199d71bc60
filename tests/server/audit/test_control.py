from functools import reduce

import numpy as np
import pytest
import statsmodels.api as sm
from assay_server.audit.control import (
    ControlSums,
    contributions,
    control_sums,
    controlled_effect,
    controlled_max_t,
    merge_control_sums,
)
from assay_server.audit.disparity import Disparity
from assay_server.audit.matrices import Csr
from assay_server.audit.moments import moments
from assay_server.audit.multiplicity import q_values
from assay_server.audit.nuisance import fit_nuisance
from assay_server.audit.reason import Reason
from assay_server.audit.shared_prompts import side_freedom
from assay_server.audit.signflip import sign_flip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.server.audit.worlds import World, flip_sums, part, preferring, world


def sums_of(drawn: World, x: np.ndarray | None = None) -> ControlSums:
    x = drawn.length if x is None else x
    return control_sums(drawn.disparity, drawn.prompts, x, fit_nuisance(x))


def test_score_variance_and_p_equal_a_plain_loop() -> None:
    drawn = world(1)
    x = np.stack([drawn.length, np.random.default_rng(0).normal(size=len(drawn.length))], axis=1)
    fit, u = fit_nuisance(x), drawn.disparity.values().toarray()
    found = controlled_effect(sums_of(drawn, x))
    r, prompts = 1 / (1 + np.exp(x @ fit.gamma)), len(np.unique(drawn.prompts))
    w = r * (1 - r)
    for m in range(u.shape[1]):
        slope = np.linalg.solve((x * w[:, None]).T @ x, (x * w[:, None]).T @ u[:, m])
        e = (u[:, m] - x @ slope) * r
        variance = sum(e[drawn.prompts == c].sum() ** 2 for c in np.unique(drawn.prompts))
        information = sum(w * (u[:, m] - x @ slope) ** 2)
        variance *= prompts / (prompts - 2)  # two nuisances were fitted
        assert found.z[m] == pytest.approx(e.sum() / np.sqrt(variance), abs=1e-9)
        assert found.p[m] == pytest.approx(2 * stats.norm.sf(abs(found.z[m])), abs=1e-12)
        assert found.effect[m] == pytest.approx(e.sum() / information, abs=1e-9)
        assert found.mean[m] == pytest.approx(2 * e.mean(), abs=1e-9)
        squares = sum((e - e.mean())[drawn.prompts == c].sum() ** 2 for c in np.unique(drawn.prompts))
        factor, freedom = side_freedom(np.unique(drawn.prompts, return_counts=True)[1])
        width = stats.t.ppf(0.975, freedom) * np.sqrt(factor * prompts / (prompts - 2) * squares)
        assert found.high[m] - found.low[m] == pytest.approx(2 * width / information, abs=1e-9)
        assert found.mean_high[m] - found.mean[m] == pytest.approx(2 * width / len(e), abs=1e-9)


def test_score_squared_over_information_equals_the_score_test_of_statsmodels() -> None:
    drawn = preferring(world(2, pairs=200, prompts=150), np.random.default_rng(5), 1.0)
    turned, u = np.random.default_rng(0).choice([1, -1], 200), drawn.disparity.values().toarray()
    model = sm.GLM((turned > 0).astype(float), (drawn.length * turned)[:, None], family=sm.families.Binomial())
    null = model.fit(tol=1e-14)
    found = controlled_effect(sums_of(drawn))
    for m in range(u.shape[1]):
        theirs = float(np.squeeze(model.score_test(null.params, exog_extra=(u[:, m] * turned)[:, None])[0]))
        assert found.mean[m] * 200 / 2 * found.effect[m] == pytest.approx(theirs, rel=1e-7)


def test_without_nuisance_z_is_that_of_the_sign_flip() -> None:
    drawn = world(3)
    plain = controlled_effect(sums_of(drawn, np.zeros(len(drawn.length))))
    flip = sign_flip(moments(drawn.disparity, drawn.prompts))
    assert np.allclose(plain.z, flip.z, atol=1e-9)
    assert np.allclose(plain.mean, flip.mean, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_shards_in_any_order_equal_one_shard(data: st.DataObject) -> None:
    drawn = world(4, pairs=40, prompts=12)
    fit = fit_nuisance(drawn.length)
    cuts = sorted(data.draw(st.lists(st.integers(0, 40), max_size=4)))
    pieces = data.draw(st.permutations([np.arange(a, b) for a, b in zip([0, *cuts], [*cuts, 40], strict=True)]))
    shards = [part(drawn, rows) for rows in pieces]
    shared = np.unique(drawn.prompts)
    merged = reduce(
        merge_control_sums, [control_sums(s.disparity, s.prompts, s.length, fit, open_prompts=shared) for s in shards]
    )
    found, whole = controlled_effect(merged), controlled_effect(sums_of(drawn))
    for name in ("mean", "effect", "low", "high", "z", "p"):
        assert np.allclose(getattr(found, name), getattr(whole, name), atol=1e-9)
    assert np.array_equal(found.prompts, whole.prompts)


def test_when_length_alone_decides_the_raw_test_is_fooled_and_the_controlled_one_is_not() -> None:
    base, draws = world(6, pairs=300, prompts=200), np.random.default_rng(2)
    raw, controlled = [], []
    for _ in range(200):
        drawn = preferring(base, draws, 1.5)
        raw.append(sign_flip(moments(drawn.disparity, drawn.prompts)).p)
        controlled.append(controlled_effect(sums_of(drawn)).p)
    assert np.mean([(q_values(p) <= 0.05).any() for p in raw]) > 0.9
    found = sum(bool((q_values(p) <= 0.05).any()) for p in controlled)
    assert stats.binomtest(found, 200, 0.05, alternative="greater").pvalue > 0.01
    assert stats.kstest(np.array(controlled)[:, 0], "uniform").pvalue > 0.01
    assert abs((np.array(controlled) <= 0.05).mean() - 0.05) < 0.015


def test_a_concept_that_decides_beside_length_is_still_found() -> None:
    drawn = preferring(world(7, pairs=400, prompts=300), np.random.default_rng(3), 1.0)
    drawn.freq_chosen[::3, :5] = 0.4
    found = controlled_effect(sums_of(drawn))
    assert found.p.argmin() == 0
    assert found.p[0] < 1e-6
    assert found.low[0] > 0


def test_controlled_max_t_merges_holds_the_family_and_finds_what_is_there() -> None:
    base, draws = world(8, pairs=150, prompts=100), np.random.default_rng(4)

    def adjusted(drawn: World, seed: int) -> np.ndarray:
        fit = fit_nuisance(drawn.length)
        shards = [part(drawn, np.arange(0, 70)), part(drawn, np.arange(70, 150))]
        rows = [(contributions(s.disparity, s.length, fit), s.prompts) for s in shards]
        return controlled_max_t(flip_sums(*rows, flips=128, seed=seed), sums_of(drawn))

    runs = [bool(adjusted(preferring(base, draws, 1.5), run).min() <= 0.05) for run in range(120)]
    assert stats.binomtest(sum(runs), 120, 0.05, alternative="greater").pvalue > 0.01
    drawn = preferring(base, draws, 1.0)
    drawn.freq_chosen[::2, :5] = 0.4
    p = adjusted(drawn, 0)
    assert p[0] == p.min() == 1 / 129


def test_what_cannot_be_tested_says_why() -> None:
    draws = np.random.default_rng(0)
    ramp = draws.integers(-3, 4, 60)
    columns = np.stack([ramp, np.zeros(60, int), draws.integers(-3, 4, 60), draws.integers(-3, 4, 60)], axis=1)
    shard = Disparity(Csr(columns), np.array([4, 4, 4, 0]))
    x = ramp / 4.0
    found = controlled_effect(control_sums(shard, np.arange(60), x, fit_nuisance(x)))
    assert found.reason.tolist() == [Reason.EXPLAINED, Reason.NO_DIFFERENCE, Reason.NONE, Reason.EMPTY_CONCEPT]
    assert found.p[[0, 1, 3]].tolist() == [1, 1, 1]
    separated = controlled_effect(control_sums(shard, np.arange(60), np.ones(60), fit_nuisance(np.ones(60))))
    assert separated.reason.tolist() == [Reason.SEPARATED] * 3 + [Reason.EMPTY_CONCEPT]
    together = controlled_effect(
        control_sums(shard, np.zeros(60, int), draws.normal(size=60), fit_nuisance(draws.normal(size=60)))
    )
    assert together.reason.tolist() == [Reason.ONE_PROMPT, Reason.NO_DIFFERENCE, Reason.ONE_PROMPT, Reason.EMPTY_CONCEPT]
    assert together.p.tolist() == [1, 1, 1, 1]
    for result in (found, separated, together):
        assert all(np.isfinite(getattr(result, name)).all() for name in ("mean", "effect", "low", "high", "z", "p"))


def test_no_pairs_give_a_reason() -> None:
    shard = Disparity(Csr((0, 2), dtype=np.int64), np.array([1, 1]))
    found = controlled_effect(control_sums(shard, np.zeros(0, int), np.zeros((0, 1)), fit_nuisance(np.zeros((0, 1)))))
    assert found.reason.tolist() == [Reason.NO_PAIRS] * 2


def test_sums_that_do_not_belong_together_are_refused() -> None:
    drawn = world(9)
    with pytest.raises(ValueError, match="different fits"):
        merge_control_sums(sums_of(drawn), sums_of(drawn, drawn.length * 2 + 0.1))
    with pytest.raises(ValueError, match="nuisance has shape"):
        control_sums(drawn.disparity, drawn.prompts, np.zeros((3, 1)), fit_nuisance(drawn.length))
    with pytest.raises(ValueError, match="level"):
        controlled_effect(sums_of(drawn), level=1.0)
