import numpy as np
import pytest
from assay_server.audit.comparison import agreement as comparison_agreement
from assay_server.audit.comparison.agreement import FIGURES, Agreement, agreements, figures
from assay_server.audit.comparison.shifts import Rollouts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.server.audit.comparison.worlds import Pairs, drawn_pairs, slow_draws, slow_figures

PREDICTED = np.array([0.5, 0.2, -0.3, 0.0, 0.1, -0.6, 0.25, 0.02])


def told(found: Agreement) -> dict[str, float | None]:
    return {name: None if (one := getattr(found, name)) is None else one.value for name in FIGURES}


SHIFTS = st.sampled_from([0.0, 0.25, -0.25, 0.5, -1.0, 0.1, 0.3, 1 / 3])


GAPS = st.sampled_from([0.0, 0.5, -0.25, 0.1, float("nan")])


@given(
    st.integers(0, 8).flatmap(
        lambda size: st.tuples(*(st.lists(one, min_size=size, max_size=size) for one in (SHIFTS, SHIFTS, SHIFTS, GAPS)))
    )
)
@settings(max_examples=250, deadline=None)
def test_figures_are_those_of_scipy_and_undefined_where_they_cannot_be(drawn: tuple[list[float], ...]) -> None:
    predicted, *observed, gap = (np.array(values) for values in drawn)
    for row, values in zip(figures(predicted, np.stack(observed), gap), observed, strict=True):
        wanted = slow_figures(predicted, values, gap) if len(values) else dict.fromkeys(FIGURES)
        for name, value in zip(FIGURES, row, strict=True):
            assert (None if np.isnan(value) else value) == pytest.approx(wanted[name], abs=1e-9), name


@pytest.mark.parametrize("seed", [0, 5])
def test_intervals_are_those_of_a_slow_bootstrap_over_prompts_about_the_figure(seed: int) -> None:
    pairs = drawn_pairs(seed, PREDICTED)
    columns = np.array([0, 1, 2, 4, 5, 6])
    gap = np.array([0.1, -0.2, np.nan, 0.4, 0.0, -0.3, 0.2, 0.05])
    subsets = [np.arange(8), columns]
    over_all, few = agreements(PREDICTED, pairs.rollouts(13), subsets, draws=150, seed=seed, level=0.9, gap=gap)
    draws = slow_draws(pairs, 150, seed)
    for found, subset in ((over_all, np.arange(8)), (few, columns)):
        whole = slow_figures(PREDICTED[subset], pairs.u.mean(axis=0)[subset], gap[subset])
        rows = [slow_figures(PREDICTED[subset], drawn[subset], gap[subset]) for drawn in draws]
        assert found.concepts == len(subset)
        for name in FIGURES:
            one = getattr(found, name)
            values = [value for row in rows if (value := row[name]) is not None]
            assert one.value == pytest.approx(whole[name], abs=1e-9)
            low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
            least = {"pearson_squared": 0.0, "same_sign": 0.0, "spearman": -1.0, "with_gap": 0.0}.get(name, -np.inf)
            most = np.inf if name in ("slope", "gap_slope") else 1.0
            expected = max(least, one.value + low - middle), min(most, one.value + high - middle)
            assert (one.low, one.high) == pytest.approx(expected, abs=1e-9)
            assert one.low <= one.value <= one.high


def test_the_same_seed_draws_the_same_prompts_however_many_concepts_fit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = drawn_pairs(2, PREDICTED).rollouts()

    def found(seed: int) -> Agreement:
        return agreements(PREDICTED, pairs, [np.arange(8)], draws=90, seed=seed, level=0.95)[0]

    wide, again, other = found(4), found(4), found(9)
    monkeypatch.setattr(comparison_agreement, "_VALUES", 17)
    narrow = found(4)
    assert wide == again
    assert wide != other
    assert wide.with_gap is None, "no gap was given"
    for name in FIGURES[:-2]:
        one, two = getattr(wide, name), getattr(narrow, name)
        assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high), abs=1e-12)


def test_a_prediction_that_comes_true_is_told_and_a_turned_one_too() -> None:
    draws = np.random.default_rng(0)
    lean = draws.uniform(-0.8, 0.8, 60)
    pairs = drawn_pairs(1, lean, pairs=600, prompts=300, sizes=[1] * 60).rollouts()
    true, turned = (agreements(sign * lean, pairs, [np.arange(60)], draws=100, seed=0, level=0.95)[0] for sign in (1, -1))
    assert true.pearson_squared is not None
    assert turned.spearman is not None
    assert true.pearson_squared.low > 0.9
    assert true.slope is not None
    assert true.slope.low > 0.5
    assert turned.spearman.high < -0.9
    assert turned.r_squared is not None
    assert turned.r_squared.value < 0
    assert turned.same_sign is not None
    assert turned.same_sign.high < 0.2


def test_a_second_term_that_is_a_multiple_of_the_first_adds_nothing_and_the_true_one_all_that_is_left() -> None:
    draws = np.random.default_rng(5)
    predicted, other = draws.normal(size=(2, 80))
    observed = (predicted + other)[None]
    same, both = figures(predicted, observed, 3 * predicted)[0], figures(predicted, observed, -other)[0]
    at, slope = FIGURES.index("with_gap"), FIGURES.index("gap_slope")
    assert same[at] == pytest.approx(same[0], abs=1e-9)
    assert np.isnan(same[slope]), "it is not told from the first"
    assert both[at] == pytest.approx(1.0, abs=1e-9)
    assert both[slope] == pytest.approx(-1.0, abs=1e-9)


def test_what_was_never_predicted_agrees_by_chance_alone() -> None:
    draws = np.random.default_rng(3)
    predicted = draws.normal(size=400)
    pairs = drawn_pairs(8, np.zeros(400), pairs=200, prompts=100).rollouts()
    (found,) = agreements(predicted, pairs, [np.arange(400)], draws=60, seed=1, level=0.95)
    assert found.pearson_squared is not None
    assert found.pearson_squared.value < 0.03
    assert found.same_sign is not None
    assert abs(found.same_sign.value - 0.5) < 0.1


def test_figures_are_unset_where_nothing_varies_and_where_most_draws_are_not_defined() -> None:
    still = Pairs(np.zeros((6, 4), np.int64), np.arange(6), np.ones(4, np.int64)).rollouts()
    (found,) = agreements(PREDICTED[:4], still, [np.arange(4)], draws=50, seed=0, level=0.95)
    assert {name for name, value in told(found).items() if value is not None} == {"slope"}
    assert found.slope is not None
    assert (found.slope.value, found.slope.low, found.slope.high) == (0.0, 0.0, 0.0)
    flat = agreements(np.zeros(4), drawn_pairs(1, PREDICTED[:4]).rollouts(), [np.arange(4)], draws=50, seed=0, level=0.95)[0]
    assert {name for name, value in told(flat).items() if value is not None} == {"r_squared"}
    nobody = agreements(PREDICTED, drawn_pairs(1, PREDICTED).rollouts(), [np.arange(0)], draws=50, seed=0, level=0.95)[0]
    assert nobody == Agreement(0)
    two = agreements(PREDICTED, drawn_pairs(1, PREDICTED).rollouts(), [np.arange(2)], draws=50, seed=0, level=0.95)[0]
    assert (two.concepts, two.pearson_squared, two.spearman) == (2, None, None)
    values = np.zeros((40, 3), np.int64)
    values[0] = [1, -1, 1]
    seldom = Pairs(values, np.arange(40), np.ones(3, np.int64)).rollouts()
    (once,) = agreements(PREDICTED[:3], seldom, [np.arange(3)], draws=200, seed=0, level=0.95)
    assert once.pearson_squared is not None, "that prompt is in 63% of the draws"
    assert once.same_sign is not None


def test_levels_and_draws_out_of_range_are_refused() -> None:
    pairs: Rollouts = drawn_pairs(0, PREDICTED).rollouts()
    for more in ({"level": 1.0}, {"draws": 0}):
        with pytest.raises(ValueError, match="level must lie"):
            agreements(PREDICTED, pairs, [np.arange(8)], **{"draws": 10, "seed": 0, "level": 0.9, **more})


def test_the_lower_bound_of_a_correlation_seldom_lies_above_what_endless_rollouts_would_give() -> None:
    """The figure itself lies low, by the rollouts' sampling error, and its interval is about it."""
    draws, above, under = np.random.default_rng(11), 0, 0
    for seed in range(60):
        lean = draws.uniform(-0.5, 0.5, 50)
        predicted = 0.7 * lean + draws.normal(size=50) * 0.15
        endless = float(np.corrcoef(predicted, lean)[0, 1]) ** 2
        pairs = drawn_pairs(100 + seed, lean, pairs=80, prompts=40, sizes=[2] * 50).rollouts()
        (found,) = agreements(predicted, pairs, [np.arange(50)], draws=100, seed=seed, level=0.95)
        assert found.pearson_squared is not None
        above += found.pearson_squared.low > endless
        under += found.pearson_squared.high < endless
    assert stats.binomtest(above, 60, 0.025, alternative="greater").pvalue > 0.01
    assert under > above
