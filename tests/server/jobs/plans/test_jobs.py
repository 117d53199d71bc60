"""Plans through real jobs: made, kept, bound to what they were made for; a tiny real model, a real data directory."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from assay_server.errors import FailedPrecondition, InvalidItem, NotFound
from assay_server.interventions.data_plan import columns_of, parquet_of
from assay_server.interventions.plan_checks import Applied, check_subject, check_target
from assay_server.interventions.plans import WarningCode, plan_record, read_plan
from assay_server.interventions.sweep import SweepOptions
from assay_server.interventions.tokens import token_scores
from assay_server.interventions.types import Family, MaskUnit, Mode, Parameters, Placement, RowOrder, Statistic
from assay_server.jobs.plans.types import PlanRequest, RankingRequest
from assay_server.scorer import ScoreOptions
from assay_server.subject.types import SpanName

from tests.server.jobs.plans.worlds import (
    FEATURES,
    World,
    dense,
    direction_target,
    feature_target,
    make_pairs,
    specification,
    whole_subject,
    world,
    z,
)
from tests.support.tiny_subject import build_subject


async def test_expected_effects_and_side_effects_are_their_formulas(tiny: World) -> None:
    sides = await dense(tiny)
    b = (sides[SpanName.CHOSEN][1] > 0.01).astype(float) - (sides[SpanName.REJECTED][1] > 0.01)
    name = await tiny.plan(specification(feature_target(*FEATURES), strength=1.5))
    (one,) = (await tiny.jobs.plan(name)).interventions
    u = b[:, FEATURES].mean(axis=1)
    assert one.expected.telling_pairs == np.count_nonzero(u)
    assert one.expected.shift_before == pytest.approx(u.mean(), abs=1e-12)
    scores = [sides[side][0][:, FEATURES].sum(axis=1) for side in (SpanName.CHOSEN, SpanName.REJECTED)]
    offsets = 1.5 * (z(scores[0], np.concatenate(scores)) - z(scores[1], np.concatenate(scores)))
    weights = 2 / (1 + np.exp(offsets))
    assert one.expected.shift_after == pytest.approx((weights * u).mean(), abs=1e-9)
    assert one.expected.mean_offset == pytest.approx(np.abs(offsets).mean(), abs=1e-9)
    assert one.side_effects, "no companion was found"
    for effect in one.side_effects:
        other = b[:, list(effect.concept.features)].mean(axis=1)
        assert effect.correlation == pytest.approx(np.corrcoef(u, other)[0, 1], abs=1e-9)
        assert effect.shift_before == pytest.approx(other.mean(), abs=1e-12)
        assert effect.shift_after == pytest.approx((weights * other).mean(), abs=1e-9)
        assert not set(effect.concept.features) & set(FEATURES)
    sizes = [abs(effect.correlation) for effect in one.side_effects]
    assert sizes == sorted(sizes, reverse=True)
    assert one.concept.label == "label of spec/some"


async def test_firing_scores_differ_by_the_disparity(tiny: World) -> None:
    name = await tiny.plan(specification(feature_target(*FEATURES), parameters=Parameters(statistic=Statistic.FIRING)))
    compiled = (await tiny.jobs.compiled(name)).compiled
    sides = await dense(tiny)
    b = (sides[SpanName.CHOSEN][1] > 0.01).astype(float) - (sides[SpanName.REJECTED][1] > 0.01)
    np.testing.assert_allclose(compiled.rows.chosen[0] - compiled.rows.rejected[0], b[:, FEATURES].mean(axis=1), atol=1e-12)


async def test_a_data_plan_drops_flips_weighs_flags_and_reads_as_parquet(tiny: World) -> None:
    target = feature_target(*FEATURES)
    asks = Parameters(share=0.1, prompt="Use bold.", placement=Placement.USER)
    name = await tiny.plan(
        specification(target, Family.EXAMPLE_FILTER, parameters=Parameters(share=0.1)),
        specification(target, Family.LABEL_FLIP, parameters=Parameters(share=0.05)),
        specification(target, Family.REWEIGHT, strength=2.0),
        specification(target, Family.INOCULATION_ROWS, parameters=asks),
        specification(target, Family.STEERING_VECTOR, parameters=Parameters(coefficient=2.0, share=0.1)),
        specification(target, Family.REWARD_SHAPING),
        specification(target, Family.TOKEN_FILTER, parameters=Parameters(unit=MaskUnit.TOKEN)),
    )
    compiled = (await tiny.jobs.compiled(name)).compiled
    difference = compiled.rows.chosen[0] - compiled.rows.rejected[0]
    first = np.argsort(-difference, kind="stable")
    applied = await tiny.jobs.applied(name, Applied())
    rows = [row async for part in applied.rows() for row in part]
    assert [row.id for row in rows] == [pair.id for pair in tiny.pairs]
    assert {row.row for row in rows if row.weight == 0.0} == set(first[:6].tolist())
    assert {row.row for row in rows if row.flip} == set(first[:3].tolist())
    assert {row.row for row in rows if row.texts == (0,)} == set(first[:6].tolist())
    steered = {row.row for row in rows if row.steered_by == (f"{name}/interventions/5",)}
    assert steered == set(first[:6].tolist())
    kept = first[6:]
    for row in kept[:10]:
        offset = 2.0 * difference[row] / compiled.plan.interventions[2].z.deviation
        assert rows[row].weight == pytest.approx(2 / (1 + np.exp(offset)))
        assert rows[row].differences == pytest.approx((difference[row],) * 5)
    np.testing.assert_allclose([row.offset_chosen for row in rows], columns_of(compiled).offset_chosen)
    table = pq.read_table(io.BytesIO(parquet_of(compiled.plan, rows)))
    assert table.num_rows == len(tiny.pairs)
    assert table.schema.metadata[b"dataset_fingerprint"].decode() == tiny.dataset.fingerprint
    assert table["weight"].to_pylist() == [row.weight for row in rows]
    masked = [row for row in rows if len(row.chosen_mask.tokens)]
    assert 0 < len(masked) < len(rows)
    later = [row async for part in applied.rows(57) for row in part]
    assert [row.row for row in later] == [57, 58, 59]


async def test_masked_tokens_are_those_whose_activation_reaches_the_threshold(tiny: World) -> None:
    target = feature_target(*FEATURES)
    name = await tiny.plan(specification(target, Family.TOKEN_FILTER, parameters=Parameters(unit=MaskUnit.TOKEN)))
    compiled = (await tiny.jobs.compiled(name)).compiled
    threshold = compiled.plan.interventions[0].parameters.threshold
    read = await token_scores(tiny.scorer, tiny.pairs, [target])
    assert threshold == pytest.approx(np.percentile([side.scores.max() for sides in read for side in sides], 90))
    rows = [row async for part in (await tiny.jobs.applied(name, Applied())).rows() for row in part]
    for row, pair in list(zip(rows, tiny.pairs, strict=True))[:12]:
        turns = (*pair.prompt, type(pair.prompt[0])("assistant", pair.chosen))
        encoded, _ = await tiny.scorer.encode_tokens(turns, FEATURES)
        inside = [at for at, token in enumerate(encoded.tokens) if token.message == 1]
        values = encoded.activations.sum(axis=0)[inside]
        clear = np.abs(values - threshold) > 1e-3
        expected = set(np.flatnonzero((values >= threshold) & clear).tolist())
        got = set(row.chosen_mask.tokens.tolist())
        assert expected <= got <= expected | set(np.flatnonzero(~clear).tolist())
        assert row.chosen_mask.of == len(inside)
        for token, start, end in zip(row.chosen_mask.tokens, row.chosen_mask.starts, row.chosen_mask.ends, strict=True):
            info = encoded.tokens[inside[token]]
            assert (start, end) == (info.start, info.end)


async def test_a_coefficient_that_is_not_given_is_measured_and_kept_with_its_curve(tiny: World) -> None:
    name = await tiny.plan(specification(direction_target(4), Family.STEERING_VECTOR, strength=1.5))
    (one,) = (await tiny.jobs.plan(name)).interventions
    curve = one.dose_response
    assert curve is not None
    assert len(curve.points) == 7
    assert curve.points[0].coefficient == 0.0
    assert one.parameters.coefficient == curve.recommended > 0
    assert one.coefficient == pytest.approx(1.5 * curve.recommended)
    assert len({point.perplexity for point in curve.points}) == 7, "steering changed nothing"
    options = SweepOptions((0.0, 1.0), generated_tokens=4, perplexity_limit=3.0)
    fingerprint = (await tiny.jobs.plan(name)).fingerprint
    ended = await tiny.done(await tiny.jobs.measure(name, 1, options))
    assert ended.error is None
    assert ended.response == f"{name}/interventions/1"
    again = await tiny.jobs.plan(name)
    assert [point.coefficient for point in again.interventions[0].dose_response.points] == [0.0, 1.0]
    assert again.interventions[0].dose_response.generated_tokens == 32
    assert again.fingerprint == fingerprint, "a curve changes nothing of what is applied"
    assert again.interventions[0].parameters.coefficient == curve.recommended


async def test_a_basis_with_its_mean_and_a_clamp_are_there_for_the_trainer(tiny: World) -> None:
    target = feature_target(*FEATURES)
    name = await tiny.plan(
        specification(target, Family.ABLATION),
        specification(target, Family.SAE_CLAMP, mode=Mode.AMPLIFY, strength=2.0),
        specification(target, Family.SAE_CLAMP),
    )
    tensors = (await tiny.jobs.compiled(name)).compiled.tensors
    basis = tensors.bases[1].astype(np.float64)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-6)
    rows = whole_subject().sae.W_dec[list(FEATURES)].detach().numpy()
    np.testing.assert_allclose(rows - rows @ basis @ basis.T, 0, atol=1e-5)
    np.testing.assert_allclose(tensors.decoders[2], rows)
    sides = await dense(tiny)
    maxima = np.concatenate([sides[SpanName.CHOSEN][0], sides[SpanName.REJECTED][0]])[:, FEATURES]
    np.testing.assert_allclose(tensors.clamps[2], 2.0 * maxima.sum(axis=0) / np.maximum((maxima > 0).sum(axis=0), 1), rtol=1e-5)
    np.testing.assert_array_equal(tensors.clamps[3], 0)
    outcomes = await tiny.scorer.score(tiny.pairs, ScoreOptions())
    spans = [one.pooled.spans[side] for one in outcomes for side in (SpanName.CHOSEN, SpanName.REJECTED)]
    mean = sum(span.tokens * span.mean_residual.astype(float) for span in spans) / sum(span.tokens for span in spans)
    np.testing.assert_allclose(tensors.means[1], mean, rtol=1e-3, atol=1e-3)


async def test_prompts_are_ranked_by_what_they_explain(tiny: World) -> None:
    request = RankingRequest(tiny.name, "feature/8", ("Say **bold**.", "zzzz"), "use bold text", rows=6, placement=Placement.USER)
    ended = await tiny.done(await tiny.jobs.rank(request))
    assert ended.error is None
    record = await tiny.jobs.ranking(ended.response)
    means = [one["mean"] for one in record["prompts"]]
    assert means == sorted(means, reverse=True)
    assert len(means) == 8
    assert 1 <= record["rows"] <= 6
    texts = {one["text"] for one in record["prompts"]}
    assert {"Say **bold**.", "Please use bold text in your response."} <= texts


async def test_a_plan_for_another_model_tokenizer_or_dataset_is_refused_with_both_fingerprints(
    tiny: World, tmp_path: Path
) -> None:
    name = await tiny.plan(specification(feature_target(*FEATURES)))
    plan = await tiny.jobs.plan(name)
    other = build_subject(seed=5, keep_whole=True)
    with pytest.raises(FailedPrecondition) as caught:
        check_subject(plan, other.info)
    assert caught.value.reason == "MODEL_MISMATCH"
    assert caught.value.details["made_for"] == plan.subject.model_fingerprint
    assert caught.value.details["met"] == other.info.model_fingerprint
    assert plan.subject.model_fingerprint in caught.value.message
    assert other.info.model_fingerprint in caught.value.message
    with pytest.raises(FailedPrecondition) as caught:
        check_subject(plan, replace(whole_subject().info, dtype="bfloat16"))
    assert (caught.value.details["made_for"], caught.value.details["met"]) == ("float32", "bfloat16")
    check_target(plan, Applied())
    check_target(plan, Applied(plan.subject.model_fingerprint, plan.subject.tokenizer_fingerprint, plan.dataset_fingerprint))
    for field in ("model", "tokenizer", "dataset"):
        with pytest.raises(FailedPrecondition) as caught:
            check_target(plan, Applied(**{f"{field}_fingerprint": "f" * 64}))
        assert caught.value.reason == f"{field.upper()}_MISMATCH"
        assert caught.value.details["met"] == "f" * 64


async def test_a_model_cut_at_the_hook_refuses_what_needs_its_head_before_any_work(tmp_path: Path) -> None:
    async with world(tmp_path, subject=build_subject()) as cut:
        for family, parameters in (
            (Family.STEERING, Parameters(coefficient=1.0)),
            (Family.INOCULATION, Parameters(prompt="x")),
            (Family.STEERING_VECTOR, Parameters()),
        ):
            request = PlanRequest(cut.name, (specification(direction_target(), family, parameters=parameters),))
            with pytest.raises(FailedPrecondition) as caught:
                await cut.jobs.create(request)
            assert caught.value.reason == "WHOLE_MODEL_REQUIRED"
        given = Parameters(coefficient=1.0)
        assert await cut.plan(specification(direction_target(), Family.STEERING_VECTOR, parameters=given))


async def test_a_plan_outlives_its_process_and_a_second_asking_is_the_same_plan(tmp_path: Path) -> None:
    async with world(tmp_path) as first:
        name = await first.plan(specification(feature_target(*FEATURES)), request_id="mine", display_name="bold away")
        plan = await first.jobs.plan(name)
    async with world(tmp_path) as second:
        assert await second.jobs.plan(name) == plan
        assert (await second.jobs.compiled(name)).compiled.rows.digests
        again = await second.jobs.create(
            PlanRequest(second.name, (specification(feature_target(*FEATURES)),), request_id="mine", display_name="bold away")
        )
        assert again.done
        assert again.response == name
        assert [one.name for one in await second.jobs.all()] == [name]
        with pytest.raises(InvalidItem) as caught:
            await second.jobs.create(PlanRequest(second.name, (specification(feature_target(1)),), plan_id=plan.id))
        assert caught.value.reason == "ALREADY_EXISTS"
        await second.jobs.delete(name)
        with pytest.raises(NotFound):
            await second.jobs.plan(name)
    assert read_plan(plan_record(plan)) == plan


async def test_equal_plans_have_equal_fingerprints_and_unequal_ones_not(tiny: World) -> None:
    one, same, other = [
        await tiny.jobs.plan(await tiny.plan(specification(feature_target(*FEATURES), strength=strength)))
        for strength in (1.0, 1.0, 1.5)
    ]
    assert one.name != same.name
    assert one.fingerprint == same.fingerprint != other.fingerprint


async def test_a_plan_warns_where_it_cannot_move_anything(tmp_path: Path) -> None:
    async with world(tmp_path, pairs=make_pairs(12)) as small:
        sides = await dense(small)
        silent = int(np.flatnonzero((sides[SpanName.CHOSEN][0] + sides[SpanName.REJECTED][0]).sum(axis=0) == 0)[0])
        name = await small.plan(
            specification(feature_target(silent), strength=50.0),
            specification(feature_target(8), Family.EXAMPLE_FILTER, mode=Mode.AMPLIFY, parameters=Parameters(share=0.5)),
        )
        nothing, little = (await small.jobs.plan(name)).interventions
    assert {WarningCode.NO_VARIATION, WarningCode.TOO_FEW_ROWS, WarningCode.OUTSIDE_PUBLISHED_RANGE} <= {
        one.code for one in nothing.warnings
    }
    assert nothing.expected.mean_offset == 0.0
    assert {WarningCode.CANNOT_AMPLIFY, WarningCode.OUTSIDE_PUBLISHED_RANGE} <= {one.code for one in little.warnings}
    assert little.parameters.order is RowOrder.OPPOSING
