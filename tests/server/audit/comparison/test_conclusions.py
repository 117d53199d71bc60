from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.comparison.agreement import Agreement, Estimate
from assay_server.audit.comparison.conclusions import Setting, conclusions
from assay_server.audit.comparison.control import positive_control
from assay_server.audit.comparison.run import Comparison, Options, compare

from tests.server.audit.comparison.test_run import MOVED, lesson
from tests.server.audit.comparison.worlds import Pairs, drawn_pairs

GOOD = lesson(0.8)
PLAIN = Setting()


def said(compared: Comparison, setting: Setting = PLAIN) -> str:
    return "\n".join(conclusions(compared, setting))


def test_a_sound_comparison_says_what_it_found_and_nothing_against_it() -> None:
    lines = conclusions(GOOD, PLAIN)
    assert [line.split(":")[0].split(" [")[0] for line in lines] == [
        "The policy moved",
        "Over 120 retained concepts",
        f"Over the {GOOD.above_noise.concepts} concepts of these that clear the noise floor",
        lines[3].split(" [")[0],
    ]
    assert GOOD.retained.pearson_squared is not None
    assert f"squared Pearson {GOOD.retained.pearson_squared.value:.2f} [" in lines[1]
    # Of all retained concepts: those that clear the noise were picked for being large.
    assert GOOD.retained.slope is not None
    assert GOOD.above_noise.slope is not None
    assert GOOD.retained.slope.value < GOOD.above_noise.slope.value
    assert lines[3].startswith(f"For each unit of shift predicted {GOOD.retained.slope.value:.2f} [")
    assert "R² without a fit" in lines[3]


def test_without_margins_the_first_word_is_that_nothing_follows() -> None:
    first, *rest = conclusions(replace(GOOD, control=None), PLAIN)
    assert first.startswith("No margins were sent")
    assert not any("policy moved:" in line for line in rest)


@pytest.mark.parametrize(
    ("margins", "verdict"),
    [
        ([0.0] * 30, "The policy is not seen to have moved: agreement says nothing."),
        ([0.1, -0.1] * 20, "The policy is not seen to have moved: agreement says nothing."),
        ([-0.5, -0.4] * 20, "The policy moved away from the preferences: agreement says nothing."),
        ([9.0, -1.0] * 20, "not sure, so agreement says nothing: the margin is over"),
        (
            [0.1] * 39 + [-9.0],
            "not sure, so agreement says nothing: the accuracy is over",
        ),
        (
            [50.0] * 10 + [-0.1] * 30,
            "The margin is over what no training gives and the accuracy under it",
        ),
        (
            [0.1] * 30 + [-50.0] * 10,
            "The accuracy is over what no training gives and the margin under it",
        ),
        ([-0.1] * 39 + [9.0], "The policy moved away from the preferences: agreement says nothing."),
    ],
)
def test_a_failed_control_comes_first_with_its_numbers(margins: list[float], verdict: str) -> None:
    first = conclusions(replace(GOOD, control=positive_control(margins)), Setting(3, (1, 2, 3), ("STEERING",)))[0]
    assert verdict in first
    assert f"Over {len(margins)} pairs" in first
    assert "no training gives 0 and 0.5" in first


def test_a_policy_that_learned_nothing_is_called_noise() -> None:
    found = said(lesson(0.0))
    assert "of 120 retained concepts clear the noise floor, where chance alone lets up to about 6 through" in found
    assert "is not told from chance" in found


def test_shifts_against_the_prediction_are_named_although_their_squared_correlation_is_high() -> None:
    assert "Shifts went against" not in said(GOOD)
    turned = lesson(-0.8)
    assert turned.retained.pearson_squared is not None
    assert turned.retained.pearson_squared.value > 0.3
    assert "Shifts went against the prediction: for each unit predicted \N{MINUS SIGN}0." in said(turned)


def test_rollouts_and_noise_that_never_differ_are_named() -> None:
    still = Pairs(np.zeros((20, 4), np.int64), np.arange(20), np.ones(4, np.int64)).rollouts()
    training = drawn_pairs(1, np.full(4, 0.2), sizes=[1] * 4).shift_sums().finish()
    found = said(compare(["a", "b", "c", "d"], training, still, still, Options(draws=10), MOVED))
    assert "there is no shift to predict" in found
    assert "noise rollouts do not differ" in found
    assert "Only 20 prompts were answered" in found
    assert "nan" not in found.lower()


def test_too_few_concepts_for_a_correlation_are_counted() -> None:
    training = drawn_pairs(1, np.full(4, 0.2), sizes=[1] * 4).shift_sums().finish()
    rollouts = drawn_pairs(2, np.full(4, 0.2), sizes=[1] * 4).rollouts()
    found = said(compare(["a", "b", "c", "d"], training, rollouts, rollouts, Options(draws=10, min_telling=1000), MOVED))
    assert "0 concepts of 4 tell chosen from rejected in at least 1000 pairs" in found
    assert "retained concepts:" not in found


def test_what_was_left_out_and_what_was_seen_before_is_counted() -> None:
    found = said(GOOD, Setting(12, (0, 3, 1), ("STEERING", "SAE_CLAMP")))
    assert "12 of 200 prompts of the rollouts are in the training data" in found
    assert "left out: 3 of the rollouts, 1 of the noise rollouts." in found
    assert "The plan's STEERING, SAE_CLAMP cannot weigh pairs beforehand" in found


@pytest.mark.parametrize(
    ("longer", "words"),
    [
        ((0.182, 0.0953), "after training are 10% longer than before, and chosen ones 20% longer than rejected ones"),
        ((-0.223, -0.105), "after training are 10% shorter than before, and chosen ones 20% shorter"),
        ((0.2, -0.2), ""),
        ((0.2, 0.04), ""),
        ((0.04, 0.2), ""),
    ],
)
def test_length_that_goes_the_same_way_in_both_is_a_reason_for_doubt(longer: tuple[float, float], words: str) -> None:
    found = said(GOOD, Setting(longer=longer))
    assert ("may be length alone" in found) == bool(words)
    assert words in found


def test_an_interval_under_its_own_figure_is_pointed_at() -> None:
    found = said(replace(GOOD, retained=Agreement(120, pearson_squared=Estimate(0.5, 0.2, 0.4))))
    assert "[0.20, 0.40], lies under the figure, 0.50" in found
    assert "lies under" not in said(replace(GOOD, retained=Agreement(120, pearson_squared=Estimate(0.5, 0.4, 0.48))))


def test_imitation_is_spoken_of_where_the_gap_explains_more_as_imitation_would_over_many_concepts() -> None:
    alone, both, taken = Estimate(0.6, 0.55, 0.65), Estimate(0.8, 0.75, 0.84), Estimate(0.5, 0.4, 0.6)
    agreement = Agreement(120, pearson_squared=alone, with_gap=both, gap_slope=taken)
    compared = replace(GOOD, retained=agreement, gap=np.zeros(len(GOOD.names)))
    found = said(compared)
    assert "least squares explain 0.80 [0.75, 0.84] of the variance" in found
    assert "(its coefficient 0.50 [0.40, 0.60]); the prediction alone explains 0.60 [0.55, 0.65]" in found
    directions = np.where(np.arange(len(GOOD.names)) == int(np.flatnonzero(GOOD.is_retained)[0]), np.nan, 0.0)
    for silent in (
        replace(compared, retained=replace(agreement, with_gap=Estimate(0.64, 0.6, 0.7))),
        replace(compared, retained=replace(agreement, gap_slope=Estimate(-0.5, -0.6, -0.4))),
        replace(compared, retained=replace(agreement, concepts=49)),
        replace(compared, gap=directions),
        replace(compared, gap=None),
    ):
        assert "imitation" not in said(silent)


def test_small_numbers_keep_two_digits_and_minus_signs_are_true() -> None:
    control = positive_control([-0.0123, -0.0125] * 20)
    assert "is −0.012 [−0.012, −0.012]" in said(replace(GOOD, control=control))
