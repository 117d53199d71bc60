"""Families of tests: by name, corrected apart, and filtered by what they could reach."""

import numpy as np
import pytest
from assay_server.audit.families import Family, FamilyCount, attainable, counts, family_codes, family_of, page_levels
from assay_server.audit.multiplicity import Procedure, q_values
from scipy import stats


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("feature/17", Family.SAE),
        ("cluster/3", Family.SAE),
        ("response-cluster/3", Family.SAE),
        ("concepts/kind-words", Family.SAE),
        ("feature/17@max", Family.LOCAL),
        ("text/bold", Family.TEXT),
        ("text/more-bold", Family.TEXT),
        ("word/name@max", Family.WORDS),
        ("source/some-model", Family.SOURCE),
    ],
)
def test_a_name_tells_the_family(name: str, family: Family) -> None:
    assert family_of(name) is family
    assert family_codes([name], given=True)[0] != family_codes([name])[0]


def test_each_family_is_corrected_by_itself() -> None:
    draws = np.random.default_rng(0)
    p, codes = draws.random(40) ** 3, draws.integers(0, 3, 40)
    tested = draws.random(40) < 0.8
    for procedure in Procedure:
        q = q_values(p, procedure, tested=tested, families=codes)
        for code in range(3):
            here = tested & (codes == code)
            assert np.array_equal(q[here], stats.false_discovery_control(p[here], method=procedure.value))
        assert (q[~tested] == 1).all()
    with pytest.raises(ValueError, match="families has shape"):
        q_values(p, families=codes[:3])


def test_ten_thousand_words_do_not_cost_a_descriptor_its_power() -> None:
    p = np.concatenate([[1e-4], np.random.default_rng(1).random(10_000)])
    codes = family_codes(["text/bold", *["word/x"] * 10_000])
    assert q_values(p)[0] > 0.05
    assert q_values(p, families=codes)[0] <= 0.05


def test_counts_are_by_family_and_condition() -> None:
    codes = np.concatenate([family_codes(["feature/1", "text/a"]), family_codes(["text/a"], given=True)])
    yes, no = np.array([True, True, True]), np.array([False, True, False])
    assert counts(codes, yes, yes, no) == (
        FamilyCount(Family.SAE, False, 1, 1, 0),
        FamilyCount(Family.TEXT, False, 1, 1, 1),
        FamilyCount(Family.TEXT, True, 1, 1, 0),
    )


def test_tarones_bound_leaves_out_what_could_never_pass() -> None:
    # Fisher's example in small: of 20 tests 17 can reach only 0.04. K = 3: at 0.05 / 3 only three are left.
    least = np.concatenate([np.full(17, 0.04), [1e-5, 1e-6, 1e-3]])
    kept = attainable(least, np.ones(20, np.bool_), np.zeros(20, np.int64), 0.05)
    assert kept.tolist() == [False] * 17 + [True] * 3
    assert attainable(np.zeros(5), np.ones(5, np.bool_), np.zeros(5, np.int64), 0.05).all()
    few = attainable(np.array([0.06]), np.ones(1, np.bool_), np.zeros(1, np.int64), 0.05)
    assert not few.any()


def test_the_bound_is_the_smallest_k_by_brute_force_and_by_family() -> None:
    draws = np.random.default_rng(2)
    for _ in range(50):
        least, codes = 10.0 ** -draws.uniform(0, 5, 30), draws.integers(0, 2, 30)
        tested = draws.random(30) < 0.9
        kept = attainable(least, tested, codes, 0.05)
        for code in range(2):
            own = least[tested & (codes == code)]
            k = next(k for k in range(1, len(own) + 2) if (own <= 0.05 / k).sum() <= k)
            assert np.array_equal(kept[tested & (codes == code)], own <= 0.05 / k)
        assert not kept[~tested].any()


def test_leaving_out_the_unattainable_finds_more_and_nothing_false() -> None:
    draws = np.random.default_rng(3)
    found, false = [0, 0], [0, 0]
    for _ in range(200):
        # 30 tests of 60 telling prompts, one of them true; 2,000 of five.
        prompts = np.concatenate([np.full(30, 60), np.full(2_000, 5)])
        signs = draws.binomial(prompts, np.where(np.arange(2_030) == 0, 0.78, 0.5))
        p = stats.binomtest(0, 1).pvalue * np.minimum(1, 2 * stats.binom.cdf(np.minimum(signs, prompts - signs), prompts, 0.5))
        everything = np.ones(2_030, np.bool_)
        kept = attainable(2.0 ** (1 - prompts), everything, np.zeros(2_030, np.int64), 0.05)
        for which, tested in enumerate((everything, kept)):
            q = q_values(p, tested=tested)
            found[which] += q[0] <= 0.05
            false[which] += (q[1:] <= 0.05).any()
    assert found[1] > found[0] + 40
    assert false[1] <= stats.binom.ppf(0.995, 200, 0.1)


def test_a_page_of_families_is_held_to_its_level_as_a_whole() -> None:
    # Two of four are chosen: 0.012 is at most 0.05 * 2 / 4, and 0.04 is not at most 0.05 * 3 / 4.
    levels = page_levels({"a": 0.012, "b": 0.04, "c": 1.0, "d": 0.0}, 0.05)
    assert levels == {"a": 0.025, "b": 0.0, "c": 0.0, "d": 0.025}
    assert page_levels({"a": 0.04, "b": 0.05}, 0.05) == {"a": 0.05, "b": 0.05}, "where all find something nothing changes"
    assert page_levels({}, 0.05) == {}


def test_where_nothing_is_taught_a_page_of_ten_families_says_something_in_one_of_twenty() -> None:
    draws, sizes = np.random.default_rng(3), (4, 40, 400, 4, 40, 400, 4, 40, 400, 1)
    apart = together = 0
    for _ in range(2_000):
        least = {k: float(q_values(draws.random(size)).min()) for k, size in enumerate(sizes)}
        apart += any(q <= 0.05 for q in least.values())
        together += any(least[k] <= level for k, level in page_levels(least, 0.05).items() if level)
    bound = stats.binom.ppf(0.999, 2_000, 0.05)
    assert apart > 4 * bound, "each by itself they would say something in two of five"
    assert 50 < together <= bound
