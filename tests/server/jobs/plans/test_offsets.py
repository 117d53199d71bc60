"""Offsets and rewards of plans through real jobs: every family against its formula in float64, a tiny real model, real files."""

import numpy as np
import pytest
from assay_server.errors import AssayError, InvalidItem
from assay_server.interventions.apply import pair_offsets, response_rewards
from assay_server.interventions.reading import Prompting, Reading, Steering, log_probabilities, log_ratios
from assay_server.interventions.types import EditedSpan, Family, Mode, Parameters, Placement
from assay_server.subject.types import Pair, PromptedResponse, SpanName

from tests.server.jobs.plans.worlds import (
    FEATURES,
    World,
    dense,
    direction_target,
    feature_target,
    make_pairs,
    specification,
    z,
)


@pytest.mark.parametrize("mode", list(Mode))
async def test_reward_shaping_offsets_are_the_formula_and_need_no_forward_pass(tiny: World, mode: Mode) -> None:
    target = direction_target(1)
    name = await tiny.plan(
        specification(feature_target(*FEATURES), mode=mode, strength=0.8), specification(target, mode=mode, strength=2.0)
    )
    sides = await dense(tiny, target.direction)
    raw = [[sides[side][0][:, FEATURES].sum(axis=1), sides[side][2]] for side in (SpanName.CHOSEN, SpanName.REJECTED)]
    sign = 1 if mode is Mode.EXPLAIN_AWAY else -1
    expected = [
        sum(sign * strength * z(raw[side][at], np.concatenate([raw[0][at], raw[1][at]])) for at, strength in ((0, 0.8), (1, 2.0)))
        for side in (0, 1)
    ]
    index = await tiny.jobs.compiled(name)
    before = len(tiny.watched.reads)
    got = await pair_offsets(tiny.scorer, index, tiny.pairs, Reading())
    assert len(tiny.watched.reads) == before, "a forward pass was made"
    np.testing.assert_allclose([one.chosen for one in got], expected[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose([one.rejected for one in got], expected[1], rtol=1e-9, atol=1e-9)
    assert all(one.stored for one in got)
    part = got[0].parts[0]
    assert (part.chosen_raw, part.rejected_raw) == pytest.approx((raw[0][0][0], raw[1][0][0]), rel=1e-9)


async def test_fresh_pairs_get_the_same_offset_by_scoring_as_stored_ones_by_look_up(tiny: World) -> None:
    name = await tiny.plan(specification(feature_target(*FEATURES)), specification(direction_target(1)))
    index = await tiny.jobs.compiled(name)
    stored = await pair_offsets(tiny.scorer, index, tiny.pairs[:5], Reading())
    index._places = {}
    fresh = await pair_offsets(tiny.scorer, index, tiny.pairs[:5], Reading())
    for one, other in zip(stored, fresh, strict=True):
        assert one.chosen == pytest.approx(other.chosen, rel=1e-4, abs=1e-4)
        assert one.rejected == pytest.approx(other.rejected, rel=1e-4, abs=1e-4)


async def test_pairs_outside_the_dataset_are_refused_where_that_is_asked(tiny: World) -> None:
    name = await tiny.plan(specification(feature_target(*FEATURES)))
    index = await tiny.jobs.compiled(name)
    other = make_pairs(1, seed=99)[0]
    got = await pair_offsets(tiny.scorer, index, [tiny.pairs[0], other], Reading(), dataset_pairs_only=True)
    assert not isinstance(got[0], AssayError)
    assert isinstance(got[1], InvalidItem)
    assert got[1].reason == "NOT_IN_DATASET"


@pytest.mark.parametrize("mode", list(Mode))
async def test_steering_and_inoculation_offsets_are_differences_of_log_ratios(tiny: World, mode: Mode) -> None:
    target = direction_target(2)
    steering = Parameters(coefficient=3.0, span=EditedSpan.RESPONSE)
    prompt = Parameters(prompt="Please use bold text.", placement=Placement.USER)
    name = await tiny.plan(
        specification(target, Family.STEERING, mode=mode, strength=0.5, parameters=steering),
        specification(target, Family.INOCULATION, mode=mode, strength=2.0, parameters=prompt),
        specification(feature_target(*FEATURES), mode=mode),
    )
    index = await tiny.jobs.compiled(name)
    pairs = tiny.pairs[:6]
    got = await pair_offsets(tiny.scorer, index, pairs, Reading())
    sign = 1 if mode is Mode.EXPLAIN_AWAY else -1
    for pair, one in zip(pairs, got, strict=True):
        assert not isinstance(one, AssayError)
        ratios = []
        for response in (pair.chosen, pair.rejected):
            plain, steered = await logprob_alone(tiny, PromptedResponse(pair.prompt, response), 3.0 * target.direction)
            asked = (type(pair.prompt[0])("user", f"Please use bold text.\n\n{pair.prompt[0].content}"),)
            prompted, _ = await logprob_alone(tiny, PromptedResponse(asked, response), None)
            ratios.append((steered - plain, prompted - plain))
        steer, inoculate, shape = one.parts
        assert (steer.chosen_raw, steer.rejected_raw) == pytest.approx((ratios[0][0], ratios[1][0]), abs=2e-3)
        assert (inoculate.chosen_raw, inoculate.rejected_raw) == pytest.approx((ratios[0][1], ratios[1][1]), abs=2e-3)
        assert steer.chosen == pytest.approx(sign * 0.5 * steer.chosen_raw)
        assert inoculate.rejected == pytest.approx(sign * 2.0 * inoculate.rejected_raw)
        assert one.chosen == pytest.approx(steer.chosen + inoculate.chosen + shape.chosen)
        assert not one.stored


async def logprob_alone(tiny: World, item: PromptedResponse, delta: np.ndarray | None) -> tuple[float, float]:
    """Plain and steered log-probability of one response, read by itself."""
    changes = [] if delta is None else [Steering(delta.astype(np.float32), EditedSpan.RESPONSE)]
    (read,) = await log_probabilities(tiny.scorer, [item], changes)
    assert not isinstance(read, AssayError)
    return float(read.sums[0, 0]), float(read.sums[-1, 0])


async def test_changes_that_touch_other_tokens_are_each_what_they_are_alone(tiny: World) -> None:
    delta = (2.0 * direction_target(3).direction).astype(np.float32)
    changes = [Steering(delta, EditedSpan.ALL), Prompting("Be bold.", Placement.SYSTEM), Steering(delta, EditedSpan.RESPONSE)]
    together = await log_ratios(tiny.scorer, tiny.pairs[:4], changes)
    for at, change in enumerate(changes):
        alone = await log_ratios(tiny.scorer, tiny.pairs[:4], [change])
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(one[at], other[0], atol=1e-3)


async def test_a_bad_pair_fails_alone_when_log_ratios_are_read(tiny: World) -> None:
    bad = Pair(tiny.pairs[0].prompt, "", "something")
    got = await log_ratios(tiny.scorer, [tiny.pairs[0], bad], [Prompting("Be bold.", Placement.USER)])
    assert got[0].shape == (1, 2)
    assert isinstance(got[1], AssayError)
    assert got[1].reason == "EMPTY_SPAN"


async def test_an_online_reward_is_less_what_the_concept_explains(tiny: World) -> None:
    target = feature_target(*FEATURES)
    name = await tiny.plan(
        specification(target, Family.ONLINE_REWARD, strength=0.5), specification(direction_target(1), mode=Mode.AMPLIFY)
    )
    compiled = (await tiny.jobs.compiled(name)).compiled
    items = [PromptedResponse(pair.prompt, pair.chosen) for pair in tiny.pairs[:4]]
    bad = PromptedResponse(tiny.pairs[0].prompt, "")
    got = await response_rewards(tiny.scorer, compiled, [*items, bad], [1.0, 0.0, -1.0, 2.0, 0.0], Reading())
    first, second = compiled.plan.interventions
    for row, (one, reward) in enumerate(zip(got[:4], (1.0, 0.0, -1.0, 2.0), strict=True)):
        assert not isinstance(one, AssayError)
        scores = compiled.rows.chosen[0][row], compiled.rows.chosen[1][row]
        away = 0.5 * (scores[0] - first.z.mean) / first.z.deviation
        more = (scores[1] - second.z.mean) / second.z.deviation
        assert one.reward == pytest.approx(reward - away + more, abs=2e-3)
        assert one.penalty == pytest.approx(away - more, abs=2e-3)
    assert isinstance(got[4], AssayError)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
async def test_what_overflows_is_an_error_and_no_offset_and_no_reward(tiny: World) -> None:
    huge = [specification(feature_target(*FEATURES), strength=1e308, mode=mode) for mode in (Mode.AMPLIFY, Mode.AMPLIFY)]
    index = await tiny.jobs.compiled(await tiny.plan(*huge))
    offsets = await pair_offsets(tiny.scorer, index, tiny.pairs, Reading())
    items = [PromptedResponse(pair.prompt, pair.chosen) for pair in tiny.pairs]
    rewards = await response_rewards(tiny.scorer, index.compiled, items, [0.0] * len(items), Reading())
    for outcomes in (offsets, rewards):
        refused = [one for one in outcomes if isinstance(one, AssayError)]
        assert len(refused) > len(tiny.pairs) // 2
        assert {one.reason for one in refused} == {"NOT_FINITE"}
