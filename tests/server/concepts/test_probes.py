"""Probes recover planted directions, report only what they did not see, and refuse with numbers what they cannot fit."""

from dataclasses import replace

import numpy as np
import pytest
from assay_server.concepts.examples import Examples, pair_examples, root_mean_square, text_examples
from assay_server.concepts.measuring import ConceptReport, measure, random_unit_vectors
from assay_server.concepts.metrics import auroc
from assay_server.concepts.probes import FittedProbe, ProbeMethod, ProbeOptions, fit_probe
from assay_server.concepts.regularisation import GRID, StrengthSource, choose_strength
from assay_server.errors import InvalidItem
from scipy import sparse
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

D = 24
METHODS = [method for method in ProbeMethod if method is not ProbeMethod.FEATURES]


def planted(n: int = 120, gap: float = 1.5, seed: int = 0, d: int = D) -> tuple[Examples, np.ndarray]:
    """Pairs that differ along one direction, over an offset and prompts that dwarf it, as residuals do."""
    generator = np.random.default_rng(seed)
    truth = generator.standard_normal(d)
    truth /= np.linalg.norm(truth)
    offset = 30 * generator.standard_normal(d)
    prompts = np.arange(n) // 2
    topic = 0.5 * generator.standard_normal((n, d))[prompts]
    chosen = offset + topic + 0.5 * generator.standard_normal((n, d)) + gap * truth
    rejected = offset + topic + 0.5 * generator.standard_normal((n, d))
    return pair_examples(chosen, rejected, prompts=[str(p) for p in prompts]), truth


def report(examples: Examples, fitted: FittedProbe, seed: int = 0) -> ConceptReport:
    """The probe measured on the held-out rows themselves, beside random directions."""
    rivals = random_unit_vectors(64, len(fitted.probe.direction), seed)
    values = np.asarray(examples.rows @ np.vstack([fitted.probe.direction, rivals]).T)
    held, pairs = fitted.split.held_out, examples.pairs
    chosen = held[held < pairs]
    on = examples.positive[fitted.split.fit]
    return measure(
        values[held, 0],
        values[held, 1:],
        examples.positive[held],
        examples.groups[held],
        fitted=(int(on.sum()), int((~on).sum())),
        pairs=(values[chosen, 0], values[chosen + pairs, 0]) if pairs else None,
    )


def angle(fitted: FittedProbe, truth: np.ndarray) -> float:
    return float(fitted.probe.direction @ truth)


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_direction_is_recovered_and_beats_random_ones(method: ProbeMethod) -> None:
    examples, truth = planted(n=400, gap=2.0)
    fitted = fit_probe(examples, method)
    assert angle(fitted, truth) > 0.9
    assert np.linalg.norm(fitted.probe.direction) == pytest.approx(1)
    measured = report(examples, fitted)
    assert measured.auroc > 0.9
    assert measured.auroc > measured.random_auroc_max
    assert measured.auroc_low <= measured.auroc <= measured.auroc_high
    assert measured.pair_accuracy is not None
    assert measured.pair_accuracy > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_pure_noise_is_reported_as_noise_however_well_it_was_fitted(method: ProbeMethod) -> None:
    areas = []
    for seed in range(8):
        examples, _ = planted(n=60, gap=0.0, seed=seed, d=80)
        fitted = fit_probe(examples, method, ProbeOptions(seed=seed))
        values = np.asarray(examples.rows) @ fitted.probe.direction
        fit, held = fitted.split.fit, fitted.split.held_out
        assert auroc(values[fit], examples.positive[fit]) > 0.75  # 80 dimensions fit 80 rows: memorised
        areas.append(auroc(values[held], examples.positive[held]))
    assert abs(np.mean(areas) - 0.5) < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_the_report_is_what_scikit_learn_says_of_the_held_out_rows(method: ProbeMethod) -> None:
    examples, _ = planted(gap=0.4)
    fitted = fit_probe(examples, method)
    held = fitted.split.held_out
    scores, positive = np.asarray(examples.rows)[held] @ fitted.probe.direction, examples.positive[held]
    measured = report(examples, fitted)
    assert measured.auroc == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert measured.pr_auc == pytest.approx(average_precision_score(positive, scores), abs=1e-12)
    assert measured.base_rate == pytest.approx(positive.mean())
    p = examples.pairs
    margins = [np.asarray(examples.rows)[[i, p + i]] @ fitted.probe.direction for i in held if i < p]
    assert measured.pair_accuracy == pytest.approx(np.mean([a > b for a, b in margins]))
    assert not set(examples.groups[fitted.split.fit]) & set(examples.groups[held])
    assert len(np.unique(examples.groups)) == 60


def test_held_out_rows_change_no_direction() -> None:
    examples, _ = planted()
    for method in METHODS:
        fitted = fit_probe(examples, method)
        rows = np.asarray(examples.rows).copy()
        rows[fitted.split.held_out] += 100 * np.random.default_rng(1).standard_normal((len(fitted.split.held_out), D))
        other = fit_probe(replace(examples, rows=rows), method)
        assert np.array_equal(other.probe.direction, fitted.probe.direction)


def test_the_difference_of_means_is_the_difference_of_the_fit_parts_means() -> None:
    examples, _ = planted()
    fitted = fit_probe(examples, ProbeMethod.DIFFERENCE_OF_MEANS)
    fit, rows = fitted.split.fit, np.asarray(examples.rows)
    difference = rows[fit][examples.positive[fit]].mean(0) - rows[fit][~examples.positive[fit]].mean(0)
    assert fitted.probe.direction == pytest.approx(difference / np.linalg.norm(difference), abs=1e-12)
    assert (fitted.probe.gain, fitted.probe.intercept, fitted.probe.strength) == (1.0, 0.0, None)


def test_logistic_gain_and_intercept_are_calibrated() -> None:
    examples, _ = planted(n=2000, gap=0.8)
    fitted = fit_probe(examples, ProbeMethod.LOGISTIC)
    held = fitted.split.held_out
    scores = np.asarray(examples.rows)[held] @ fitted.probe.direction
    chance = expit(fitted.probe.gain * scores + fitted.probe.intercept)
    for low, high in ((0.1, 0.4), (0.4, 0.6), (0.6, 0.9)):
        inside = (chance >= low) & (chance < high)
        assert examples.positive[held][inside].mean() == pytest.approx(chance[inside].mean(), abs=0.09)


def test_bradley_terry_does_not_see_what_both_sides_share() -> None:
    examples, _ = planted()
    p = examples.pairs
    shift = 5 * np.random.default_rng(2).standard_normal((p, D))
    moved = replace(examples, rows=np.asarray(examples.rows) + np.concatenate([shift, shift]))
    method = ProbeMethod.BRADLEY_TERRY
    here, there = fit_probe(examples, method), fit_probe(moved, method)
    assert there.probe.direction == pytest.approx(here.probe.direction, abs=1e-6)
    assert report(moved, there).pair_accuracy == report(examples, here).pair_accuracy


def test_swapping_the_sides_turns_the_direction_around() -> None:
    examples, _ = planted(gap=0.5)
    p = examples.pairs
    rows = np.asarray(examples.rows)
    swapped = replace(examples, rows=np.concatenate([rows[p:], rows[:p]]))
    for method in METHODS:
        here, there = fit_probe(examples, method), fit_probe(swapped, method)
        assert there.probe.direction == pytest.approx(-here.probe.direction, abs=1e-6)
        assert report(swapped, there).auroc == pytest.approx(report(examples, here).auroc, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [10, 500])
def test_sparse_features_give_the_probe_of_dense_ones(method: ProbeMethod, d: int) -> None:
    generator = np.random.default_rng(4)
    chosen, rejected = (
        np.maximum(generator.standard_normal((90, d)) - 1 + shift * (np.arange(d) < d // 5), 0) for shift in (1.0, 0.0)
    )
    full, sparse_rows = pair_examples(chosen, rejected), pair_examples(sparse.csr_array(chosen), sparse.csr_array(rejected))
    dense, thin = fit_probe(full, method), fit_probe(sparse_rows, method)
    assert thin.probe.direction == pytest.approx(dense.probe.direction, abs=1e-6)
    area = report(full, dense).auroc
    assert report(sparse_rows, thin).auroc == pytest.approx(area, abs=1e-9)
    assert area > 0.6


def test_the_spread_about_the_mean_is_that_of_numpy_for_dense_and_sparse_rows() -> None:
    rows = np.maximum(np.random.default_rng(0).standard_normal((50, 30)), 0)
    expected = np.sqrt(((rows - rows.mean(0)) ** 2).sum(1).mean())
    assert root_mean_square(rows, about_mean=True) == pytest.approx(expected, rel=1e-12)
    assert root_mean_square(sparse.csr_array(rows), about_mean=True) == pytest.approx(expected, rel=1e-12)


def test_scaling_the_rows_changes_no_direction_and_no_figure_but_units() -> None:
    examples, _ = planted()
    big = replace(examples, rows=np.asarray(examples.rows) * 1024.0)
    for method in METHODS:
        here, there = fit_probe(examples, method), fit_probe(big, method)
        assert there.probe.direction == pytest.approx(here.probe.direction, abs=1e-9)
        small, large = report(examples, here), report(big, there)
        assert large.auroc == small.auroc
        assert large.threshold == pytest.approx(1024 * small.threshold, rel=1e-9)
        if method is not ProbeMethod.DIFFERENCE_OF_MEANS:
            assert there.probe.gain == pytest.approx(here.probe.gain / 1024, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bits(method: ProbeMethod) -> None:
    examples, _ = planted()
    first, again = (fit_probe(examples, method, ProbeOptions(seed=5)) for _ in range(2))
    assert first.probe.direction.tobytes() == again.probe.direction.tobytes()
    assert np.array_equal(first.split.held_out, again.split.held_out)


def test_cross_validation_penalises_noise_more_than_signal() -> None:
    loud, _ = planted(n=400, gap=3.0)
    silent, _ = planted(n=60, gap=0.0, d=80)
    strengths = [fit_probe(examples, ProbeMethod.LOGISTIC).probe.strength for examples in (loud, silent)]
    assert all(s is not None and s.source is StrengthSource.CROSS_VALIDATED and s.l2 in GRID for s in strengths)
    assert strengths[0].l2 < strengths[1].l2  # type: ignore[union-attr]


def test_a_given_strength_is_used_and_too_few_prompts_are_said() -> None:
    examples, _ = planted()
    strength = fit_probe(examples, ProbeMethod.LOGISTIC, ProbeOptions(l2=0.37)).probe.strength
    assert strength is not None
    assert (strength.l2, strength.source) == (0.37, StrengthSource.GIVEN)
    lone = choose_strength(np.eye(2), np.array([True, False]), np.zeros(2, dtype=np.int64), given=None, seed=0)
    assert lone.source is StrengthSource.TOO_FEW_PROMPTS


def test_random_directions_are_near_chance_on_noise_and_well_above_it_on_parallel_shifts() -> None:
    examples, _ = planted(n=300, gap=0.0)
    fitted = fit_probe(examples, ProbeMethod.DIFFERENCE_OF_MEANS)
    assert report(examples, fitted).random_auroc - 0.5 < 0.05
    rows = np.asarray(examples.rows) + 4.0 * examples.positive[:, None] * np.ones(D)
    assert report(replace(examples, rows=rows), fitted).random_auroc > 0.8


def test_a_direction_that_ties_every_row_is_worth_chance() -> None:
    examples, _ = planted()
    fitted = fit_probe(examples, ProbeMethod.DIFFERENCE_OF_MEANS)
    tied = report(examples, replace(fitted, probe=replace(fitted.probe, direction=np.zeros(D))))
    assert (tied.auroc, tied.pair_accuracy, tied.pr_auc) == (0.5, 0.5, tied.base_rate)


def test_texts_of_one_prompt_on_both_lists_stay_together() -> None:
    generator = np.random.default_rng(0)
    names = [f"p{i}" for i in range(20)]
    examples = text_examples(
        generator.standard_normal((20, 4)) + 2,
        generator.standard_normal((40, 4)),
        positive_prompts=names,
        negative_prompts=[*names, *names],
    )
    assert len(set(examples.groups.tolist())) == 20
    fitted = fit_probe(examples, ProbeMethod.LOGISTIC)
    assert not set(examples.groups[fitted.split.fit]) & set(examples.groups[fitted.split.held_out])
    assert report(examples, fitted).pair_accuracy is None


def test_prompts_on_one_list_only_never_meet_the_made_up_ones() -> None:
    examples = text_examples(np.ones((2, 1)), np.zeros((2, 1)), positive_prompts=["negative 0", "negative 1"])
    assert len(set(examples.groups.tolist())) == 4


@pytest.mark.parametrize(("positive", "negative"), [(0, 50), (50, 0), (2, 50), (8, 7), (0, 0)])
def test_too_few_examples_are_refused_by_number(positive: int, negative: int) -> None:
    generator = np.random.default_rng(0)
    examples = text_examples(generator.standard_normal((positive, 3)), generator.standard_normal((negative, 3)))
    with pytest.raises(InvalidItem, match=f"{positive} positive and {negative} negative") as caught:
        fit_probe(examples, ProbeMethod.LOGISTIC)
    assert caught.value.reason == "TOO_FEW_EXAMPLES"
    assert caught.value.details["needed"] == "3"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 1 / 3])
def test_sides_that_do_not_differ_have_no_direction(method: ProbeMethod, value: float) -> None:
    examples = pair_examples(np.full((30, 4), value), np.full((30, 4), value))
    with pytest.raises(InvalidItem, match="20 positive and 20 negative examples do not differ") as caught:
        fit_probe(examples, method)
    assert caught.value.reason == "NO_DIFFERENCE"


def test_features_are_no_direction() -> None:
    with pytest.raises(ValueError, match="select_features"):
        fit_probe(text_examples(np.ones((10, 2)), np.zeros((10, 2))), ProbeMethod.FEATURES)


def test_bradley_terry_without_pairs_is_refused() -> None:
    with pytest.raises(InvalidItem, match="20 examples in 0 pairs") as caught:
        fit_probe(text_examples(np.ones((10, 2)), np.zeros((10, 2))), ProbeMethod.BRADLEY_TERRY)
    assert caught.value.reason == "PAIRS_NEEDED"


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array])
def test_values_that_are_not_finite_are_refused_and_counted(convert) -> None:
    bad = np.ones((5, 4))
    bad[2, 1], bad[3, 3] = np.nan, np.inf
    with pytest.raises(InvalidItem, match="2 of 40 values") as caught:
        pair_examples(convert(bad), convert(np.ones((5, 4))))
    assert caught.value.reason == "NOT_FINITE"


def test_constant_columns_and_a_giant_offset_leave_no_nan() -> None:
    generator = np.random.default_rng(0)
    rows = np.full((60, 5), 1e6)
    rows[:, 0] += generator.standard_normal(60) + (np.arange(60) < 30)
    for method in METHODS:
        fitted = fit_probe(pair_examples(rows[:30], rows[30:]), method)
        assert np.isfinite(fitted.probe.direction).all()
        assert abs(fitted.probe.direction[0]) > 0.99


def test_a_penalty_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="positive number"):
        ProbeOptions(l2=0.0)
