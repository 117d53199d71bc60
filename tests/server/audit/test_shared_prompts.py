from functools import reduce

import numpy as np
import pytest
import statsmodels.api as sm
from assay_server.audit.contrast import Contrasts, contrasts, group_moments, groups_from_labels
from assay_server.audit.disparity import activity
from assay_server.audit.grouping import group_pairs
from assay_server.audit.matrices import Csr
from assay_server.audit.reason import Reason
from assay_server.audit.shared_prompts import merge_shared_prompt_sums, shared_errors, shared_prompt_sums
from scipy import stats

from tests.server.audit.worlds import part, relabelled, world

FIELDS = ("delta", "se", "z", "df", "p", "low", "high", "d", "delta_min")


def compared(values: np.ndarray, groups: Csr, prompts: np.ndarray, keep: np.ndarray | None = None) -> Contrasts:
    shared = shared_prompt_sums(values, groups, prompts, compared=keep)
    return contrasts(group_moments(values, groups, compared=keep), shared)


def test_with_one_pair_a_prompt_it_is_welch() -> None:
    draws = np.random.default_rng(0)
    values, groups = draws.normal(size=(80, 4)), Csr((draws.random((80, 3)) < 0.4).astype(int))
    plain, clustered = contrasts(group_moments(values, groups)), compared(values, groups, draws.permutation(80))
    for name in FIELDS:
        assert np.allclose(getattr(clustered, name), getattr(plain, name), atol=1e-9)


def by_prompt_effects(prompts: np.ndarray) -> tuple[float, float]:
    """Factor and degrees of freedom of the squared error of a mean, from the covariance of centred sums as a matrix."""
    sizes = np.unique(prompts, return_counts=True)[1].astype(float)
    share = sizes / sizes.sum()
    sums = np.diag(share) @ (np.eye(len(share)) - share[None, :])
    values = np.linalg.eigvalsh(sums @ sums.T)
    return float(share @ share / values.sum()), float(values.sum() ** 2 / (values @ values))


@pytest.mark.parametrize("sizes", [[1, 1], [3, 3, 3, 3], [9, 1], [1, 2, 3, 4, 5], [40, 1, 1, 1, 2, 6], [1] * 30 + [700]])
def test_few_prompts_of_unequal_sizes_count_as_fewer(sizes: list[int]) -> None:
    prompts = np.repeat(np.arange(len(sizes)), sizes)
    values = np.random.default_rng(0).normal(size=(2 * len(prompts), 1))
    member = Csr(np.repeat([[1], [0]], len(prompts), axis=0))
    many = np.concatenate([prompts, len(prompts) + np.arange(len(prompts))])  # one pair a prompt outside
    sums = shared_prompt_sums(values, member, many)
    n = np.array([len(prompts)])
    errors = shared_errors(sums, n, n, values[: len(prompts)].mean(axis=0)[None], values[len(prompts) :].mean(axis=0)[None])
    factor, freedom = by_prompt_effects(prompts)
    x = np.bincount(prompts, values[: len(prompts), 0] - values[: len(prompts)].mean()) / len(prompts)
    assert errors.inside[0, 0] == pytest.approx(factor * (x**2).sum(), rel=1e-9)
    assert errors.freedom_in[0] == pytest.approx(freedom, rel=1e-9)
    assert errors.freedom_out[0] == pytest.approx(len(prompts) - 1, rel=1e-9)
    assert 1 <= freedom <= len(sizes) - 1 + 1e-9
    if len(set(sizes)) == 1:
        assert (factor, freedom) == pytest.approx((len(sizes) / (len(sizes) - 1), len(sizes) - 1))


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("straddling", [False, True], ids=["prompts on one side", "prompts on both"])
def test_few_prompts_of_unequal_sizes_are_calibrated(alike: float, straddling: bool) -> None:
    """4,000 true nulls each; with G/(G − 1) and G − 1 for G prompts up to 10% of them had p ≤ 0.05."""
    draws = np.random.default_rng(7)
    sizes = np.concatenate([np.minimum(draws.zipf(1.7, 15), 25), draws.geometric(1 / 3, 60)])
    prompts = np.repeat(np.arange(75), sizes)
    inside = prompts < 15
    if straddling:
        inside = draws.random(len(prompts)) < np.where(inside, 0.8, 0.1)
    shared, own = draws.normal(size=(75, 4_000))[prompts], draws.normal(size=(len(prompts), 4_000))
    effect = np.sqrt(alike) * shared + np.sqrt(1 - alike) * own
    values = Csr(np.where(np.abs(effect) > 0.67, np.sign(effect), 0.0).astype(np.int64))
    found = compared(values, Csr(inside.astype(np.int64)[:, None]), prompts)
    assert (found.reason == Reason.NONE).all()
    assert (found.p <= 0.05).mean() <= 0.055
    assert (found.p <= 0.001).mean() <= 0.001


def test_with_shared_prompts_the_error_equals_a_plain_loop() -> None:
    drawn, draws = world(1, pairs=100, prompts=30), np.random.default_rng(1)
    keep, member = draws.random(100) < 0.9, (draws.random((100, 3)) < 0.4).astype(int)
    shard = drawn.disparity
    sums = group_moments(shard.numerators, Csr(member), shard.sizes, compared=keep)
    found = contrasts(sums, shared_prompt_sums(shard.numerators, Csr(member), drawn.prompts, compared=keep))
    u = shard.values().toarray()
    for k in range(3):
        inside, outside = keep & (member[:, k] == 1), keep & (member[:, k] == 0)
        small = [by_prompt_effects(drawn.prompts[side]) for side in (inside, outside)]
        for m in range(u.shape[1]):
            gaps = []
            for c in np.unique(drawn.prompts):
                sides = [
                    np.sqrt(factor) * (u[side & (drawn.prompts == c), m] - u[side, m].mean()).sum() / side.sum()
                    for (factor, _), side in zip(small, (inside, outside), strict=True)
                ]
                gaps.append(sides)
            x, y = np.array(gaps).T
            least = u[keep, m].var(ddof=1)
            a, b = max(np.sum(x**2), least / inside.sum()), max(np.sum(y**2), least / outside.sum())
            assert found.se[k, m] == pytest.approx(np.sqrt(a + b - 2 * np.sum(x * y)), abs=1e-9)
            freedom = (a + b) ** 2 / (a**2 / small[0][1] + b**2 / small[1][1])
            assert found.df[k, m] == pytest.approx(freedom, rel=1e-9)


def test_it_is_the_clustered_error_of_a_regression_up_to_the_small_sample_factor() -> None:
    drawn, inside = world(2, pairs=400, prompts=200), np.random.default_rng(2).integers(0, 2, 400)
    u = drawn.disparity.values().toarray()
    found = compared(u, groups_from_labels(inside, 2), drawn.prompts)
    for m in range(u.shape[1]):
        fit = sm.OLS(u[:, m], sm.add_constant(inside)).fit(cov_type="cluster", cov_kwds={"groups": drawn.prompts})
        assert found.delta[1, m] == pytest.approx(fit.params[1], abs=1e-9)
        assert found.se[1, m] == pytest.approx(fit.bse[1], rel=0.01)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_that_split_no_prompt_merge_to_the_bit(order: tuple[int, ...]) -> None:
    drawn, labels = world(3), np.random.default_rng(3).integers(-1, 3, 120)
    which = np.unique(drawn.prompts, return_inverse=True)[1] % 3

    def sums(rows: np.ndarray):
        shard = part(drawn, rows)
        return shared_prompt_sums(shard.disparity.numerators, groups_from_labels(labels[rows], 3), shard.prompts)

    merged = reduce(merge_shared_prompt_sums, [sums(np.flatnonzero(which == shard)) for shard in order])
    whole = sums(np.arange(120))
    for name, value in vars(whole).items():
        assert np.array_equal(getattr(merged, name), value), name


def test_label_swaps_by_prompt_are_calibrated_where_welch_is_not() -> None:
    drawn, draws = world(4, pairs=300, prompts=60), np.random.default_rng(4)
    # Prompts decide the topic here, as they do in life: whole prompts fall into one group.
    topic = np.unique(drawn.prompts, return_inverse=True)[1] % 2
    groups, plain, clustered = groups_from_labels(topic, 2), [], []
    for _ in range(250):
        shard = relabelled(drawn, draws)
        sums = group_moments(shard.disparity.numerators, groups, shard.disparity.sizes)
        plain.append(contrasts(sums).p)
        clustered.append(contrasts(sums, shared_prompt_sums(shard.disparity.numerators, groups, shard.prompts)).p)
    assert stats.kstest(np.array(clustered)[:, 0, 0], "uniform").pvalue > 0.01
    assert 0.03 < (np.array(clustered) <= 0.05).mean() < 0.07
    assert (np.array(plain) <= 0.05).mean() > 0.08


def test_a_group_within_one_prompt_says_so() -> None:
    drawn = world(5, pairs=60, prompts=5)
    groups = group_pairs(activity(drawn.freq_chosen, drawn.freq_rejected), 2)
    prompts = np.where(groups.labels == 0, 1, drawn.prompts + 100)
    found = compared(drawn.disparity.numerators, groups_from_labels(groups.labels, 2), prompts)
    assert (found.reason[0] == Reason.ONE_PROMPT).all()
    everything = compared(drawn.disparity.numerators, groups_from_labels(groups.labels, 2), np.zeros(60, int))
    assert (everything.reason == Reason.ONE_PROMPT).all()
    nothing = compared(np.zeros((0, 2)), Csr((0, 2), dtype=np.int64), np.zeros(0, int))
    assert (nothing.reason == Reason.FEW_INSIDE).all()
    for result in (found, everything, nothing):
        assert all(np.isfinite(getattr(result, name)).all() for name in FIELDS)


def test_sums_that_do_not_belong_together_are_refused() -> None:
    values, groups = np.ones((4, 2)), groups_from_labels([0, 0, 1, 1], 2)
    shared = shared_prompt_sums(values, groups, np.arange(4))
    with pytest.raises(ValueError, match="do not merge"):
        merge_shared_prompt_sums(shared, shared_prompt_sums(values[:, :1], groups, np.arange(4)))
    with pytest.raises(ValueError, match="shared prompts are of shape"):
        contrasts(group_moments(values[:, :1], groups), shared)
    with pytest.raises(ValueError, match="4 rows"):
        shared_prompt_sums(values, groups_from_labels([0], 2), np.arange(4))
