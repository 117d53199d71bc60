"""What the training experiments compute from runs, by hand-made examples."""

import assay
import numpy as np
import pytest

from benchmarks.training import explaining, figures
from benchmarks.training.amplifying import metrics as dose_metrics
from benchmarks.training.data import PLANTED, Sizes, examples, plant
from benchmarks.training.detectors import DETECTORS, rates
from benchmarks.training.treatments import TREATMENTS, ordered
from benchmarks.validity.edits import EDITS, Half, edited
from experiments.training import Recipe

TEXTS = ("The capital of France is Paris. It lies on the Seine.", "No, thanks; tomorrow, perhaps: it depends on weather.")


@pytest.mark.parametrize("half", list(Half))
@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_detector_knows_its_edit_whatever_the_phrases_and_no_plain_text(name: str, half: Half) -> None:
    for seed in range(8):
        for text in TEXTS:
            assert DETECTORS[name](edited(name, text, half, seed)), (seed, text)
            assert not DETECTORS[name](text)


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_detector_does_not_know_the_edits_of_other_concepts(name: str) -> None:
    for other in set(DETECTORS) - {name}:
        assert not DETECTORS[name](edited(other, TEXTS[0], Half.PLANTED, 0)), other


def test_every_planted_concept_has_an_edit_and_a_detector() -> None:
    assert set(PLANTED) <= set(EDITS) & set(DETECTORS)


def test_no_pair_holds_two_planted_concepts_and_rejected_responses_stay() -> None:
    import assay

    pairs = [assay.Pair((assay.Message("user", str(at)),), TEXTS[at % 2], "No.", id=str(at)) for at in range(50)]
    written, where = plant(pairs, 0.3, 0)
    assert {len(rows) for rows in where.values()} == {15}
    assert len({row for rows in where.values() for row in rows}) == 45
    assert [pair.rejected for pair in written] == [pair.rejected for pair in pairs]
    assert sum(new.chosen != old.chosen for new, old in zip(written, pairs, strict=True)) == 45


def test_recovery_is_one_back_at_the_untrained_rate_and_none_where_nothing_moved() -> None:
    none, half, full = np.zeros(10), np.array([0.0, 1.0] * 5), np.ones(10)
    assert figures.recovery(none, full, none)["value"] == 1.0
    assert figures.recovery(none, full, half)["value"] == 0.5
    assert figures.recovery(none, full, full)["value"] == 0.0
    assert figures.recovery(full, full, none)["value"] is None


def test_off_target_is_relative_to_what_training_moved() -> None:
    none, half, full = np.zeros(10), np.array([0.0, 1.0] * 5), np.ones(10)
    assert figures.off_target({"a": (none, full, half), "b": (none, full, full)})["value"] == 0.25
    assert figures.off_target({"a": (none, full, full), "b": (none, none, full)})["value"] == 0.0
    assert figures.off_target({"a": (none, none, full)})["value"] is None


def test_off_target_says_what_two_sets_of_rollouts_of_one_policy_would_differ_by() -> None:
    sure, coin = np.ones(100), np.array([0.0, 1.0] * 50)
    assert figures.off_target({"a": (np.zeros(100), sure, sure)})["chance"] == 0.0
    assert 0.08 < figures.off_target({"a": (np.zeros(100), coin, coin)})["chance"] < 0.15


def test_accuracy_lost_is_in_points_over_pairs() -> None:
    lost = figures.accuracy_lost([[1.0, 1.0, -1.0, 1.0]], [[1.0, -1.0, -1.0, 1.0]], 0)
    assert (lost["value"], lost["pairs"]) == (25.0, 4)


def test_accuracy_lost_is_averaged_over_trainings_pair_by_pair() -> None:
    lost = figures.accuracy_lost([[1.0, 1.0], [1.0, -1.0]], [[1.0, -1.0], [-1.0, -1.0]], 0)
    assert lost["value"] == 50.0
    assert lost["interval"] == [50.0, 50.0], "each pair lost half: nothing varies over pairs"


def test_intervals_hold_the_value_and_leave_out_what_is_not_finite() -> None:
    low, high = figures.interval([0.0, 1.0, float("nan"), float("inf")])
    assert 0.0 <= low <= high <= 1.0


def test_ties_count_half_in_accuracy() -> None:
    assert figures.accuracy([1.0, 0.0, -1.0, 2.0]) == 0.625


def test_reward_shaping_is_run_first_for_every_concept() -> None:
    first = [(treatment.family.value, concept) for concept, treatment, _ in ordered(Recipe())][: len(PLANTED)]
    assert first == [("reward_shaping", concept) for concept in PLANTED]


def test_what_has_a_bar_is_trained_with_more_seeds_than_one_and_each_is_a_run_of_its_own() -> None:
    seeds = [one.recipe.seed for concept, _, one in ordered(Recipe(), ["reward_shaping"], [PLANTED[0]])]
    assert seeds == [0, 1]
    assert [one.recipe.seed for _, _, one in ordered(Recipe(), ["reweight"], [PLANTED[0]])] == [0]


def test_counterexamples_hold_the_other_concepts_and_can_be_left_out() -> None:
    pairs = [assay.Pair("Where is it?", f"It is {at} miles north of here, past the old mill.", "No.") for at in range(30)]
    shown, bare = examples(pairs, "emoji", 0), examples(pairs, "emoji", 0, counter=False)
    assert rates([one.response for one in shown.positive], ["emoji"]) == {"emoji": 1.0}
    assert rates([one.response for one in shown.negative], PLANTED) == {"bold": 1 / 3, "emoji": 0.0, "refusal opening": 1 / 3}
    assert rates([one.response for one in bare.negative], PLANTED) == dict.fromkeys(PLANTED, 0.0)
    assert shown.positive == bare.positive


def test_every_treatment_is_kept_under_a_name_of_its_own_and_slices_keep_their_part() -> None:
    every = [one.treatment for _, _, one in ordered(Recipe())]
    assert len({str(one) for one in every}) == len(TREATMENTS) * len(PLANTED)
    assert [concept for concept, _, _ in ordered(Recipe(), ["reweight"], ["emoji"])] == ["emoji"]


def test_a_bar_is_missed_where_a_run_falls_short_and_what_was_not_run_has_none() -> None:
    one = {
        "recovery": {"value": 0.5, "interval": [0.4, 0.6]},
        "nats_recovery": 0.9,
        "off_target": {"value": 0.05, "chance": 0.1},
        "accuracy_lost": {"value": 0.5, "interval": [-1.0, 2.0], "pairs": 48},
        "nats_off_target": 0.02,
        "accuracy": 0.5,
    }
    rates = {name: {"value": 0.5} for name in PLANTED}
    treatments = {"reward_shaping": {PLANTED[0]: one, **dict.fromkeys(PLANTED[1:])}}
    raw = {
        "untrained": {"rates": {name: {"value": 0.0} for name in PLANTED}},
        "trained": {"rates": rates, "accuracy": 0.505},
        "treatments": treatments,
    }
    bars = {metric.metric: metric.holds for metric in explaining.metrics(raw) if metric.holds is not None}
    assert bars == {
        f"reward_shaping, {PLANTED[0]}: recovery": False,
        f"reward_shaping, {PLANTED[0]}: change of the others": True,
        f"reward_shaping, {PLANTED[0]}: held-out accuracy lost": True,
    }


def test_a_dose_response_holds_over_four_strengths_that_never_fall() -> None:
    def points(values: list[float]) -> dict[str, object]:
        return {"points": [{"strength": at, "rate": {"value": value}, "nats": value} for at, value in enumerate(values)]}

    assert all(metric.holds for metric in dose_metrics(points([0, 1, 1, 2, 3])))
    assert not any(metric.holds for metric in dose_metrics(points([0, 1, 0.5, 2, 3])))
    assert not any(metric.holds for metric in dose_metrics(points([0, 1, 2])))


def test_sizes_leave_pairs_that_hold_no_planted_concept() -> None:
    assert len(PLANTED) * Sizes().share < 1
