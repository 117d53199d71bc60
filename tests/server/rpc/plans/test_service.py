"""InterventionService through a real channel: a tiny real model with its head, a real data directory, operations waited for."""

import io
import threading
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
from assay.v1 import audit_service_pb2, pair_pb2
from assay.v1 import intervention_pb2 as pb
from assay.v1 import intervention_service_pb2 as service_pb
from assay_server.interventions import data_plan
from assay_server.jobs.plans import applied

from tests.server.jobs.plans.worlds import make_pairs, whole_subject
from tests.server.rpc.plans.served import Served, offsets, wire
from tests.support.tiny_subject import WIDTH
from tests.support.waiting import PATIENCE
from tests.support.wire import refused, rich

AWAY, AMPLIFY = pb.INTERVENTION_MODE_EXPLAIN_AWAY, pb.INTERVENTION_MODE_AMPLIFY


async def test_a_plan_is_made_read_listed_and_deleted(served: Served) -> None:
    made = await served.plan(
        {"concept": "feature/8", "mode": AWAY, "strength": 0.5}, plan_id="bold", display_name="bold away", request_id="r1"
    )
    assert made.name == "plans/bold"
    assert made.dataset_fingerprint == served.fingerprint
    assert made.subject.model_fingerprint == whole_subject().info.model_fingerprint
    (one,) = made.interventions
    assert (one.mode, one.strength, one.family) == (AWAY, 0.5, pb.INTERVENTION_FAMILY_REWARD_SHAPING)
    assert one.name == "plans/bold/interventions/1"
    assert one.z.responses == 80
    assert one.expected.HasField("shift_after")
    assert one.parameters.statistic == pb.SCORE_STATISTIC_LARGEST
    assert (await served.plans.GetPlan(service_pb.GetPlanRequest(name=made.name))).plan == made
    listed = await served.plans.ListPlans(service_pb.ListPlansRequest(dataset=served.dataset))
    assert [plan.name for plan in listed.plans] == [made.name]
    again = await served.plan(
        {"concept": "feature/8", "mode": AWAY, "strength": 0.5}, plan_id="bold", display_name="bold away", request_id="r1"
    )
    assert again == made
    await served.plans.DeletePlan(service_pb.DeletePlanRequest(name=made.name))
    status = await refused(served.plans.GetPlan(service_pb.GetPlanRequest(name=made.name)))
    assert status.code == grpc.StatusCode.NOT_FOUND


async def test_offsets_stream_in_order_with_shifts_that_are_the_same_argument(served: Served) -> None:
    spec = {"concept": "feature/8", "strength": 2.0}
    away = await served.plan({**spec, "mode": AWAY})
    more = await served.plan({**spec, "mode": AMPLIFY})
    pairs = [wire(pair) for pair in served.pairs[:7]]
    first = await offsets(served, {"plan": away.name, "beta": 0.1}, pairs[:3], pairs[3:])
    second = await offsets(served, {"plan": more.name}, pairs)
    assert [response.sequence for response in first] == [0, 1]
    results = [result for response in first for result in response.results]
    assert [result.id for result in results] == [pair.id for pair in pairs]
    z = away.interventions[0].z
    for result, opposite in zip(results, second[0].results, strict=True):
        one = result.offset
        assert one.stored
        assert one.offset == pytest.approx(one.chosen - one.rejected)
        assert one.chosen == pytest.approx(2.0 * (one.parts[0].chosen_raw - z.mean) / z.deviation)
        assert one.parts[0].z == z
        assert 0.1 * (-one.shift.ref_chosen_logps + one.shift.ref_rejected_logps) == pytest.approx(one.offset)
        assert opposite.offset.offset == pytest.approx(-one.offset)
        assert not opposite.offset.HasField("shift")


async def test_a_bad_pair_fails_alone_and_in_its_place(served: Served) -> None:
    made = await served.plan({"concept": "feature/8", "mode": AWAY})
    pairs = [wire(served.pairs[0]), wire(served.pairs[1], rejected=""), wire(make_pairs(1, seed=77)[0])]
    (response,) = await offsets(served, {"plan": made.name, "dataset_pairs_only": True}, pairs)
    good, empty, other = response.results
    assert good.HasField("offset")
    assert empty.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "NOT_IN_DATASET" in str(other.error)
    (free,) = await offsets(served, {"plan": made.name}, [pairs[2]])
    assert free.results[0].HasField("offset")
    assert not free.results[0].offset.stored


async def test_steering_offsets_and_the_vector_with_its_curve(served: Served) -> None:
    vector = np.zeros(WIDTH, "<f4")
    vector[3] = 4.0
    tensor = {"dtype": pair_pb2.Tensor.DTYPE_FLOAT32, "shape": [WIDTH], "data": vector.tobytes()}
    spec = {"spec": {"name": "third", "direction": tensor}, "mode": AMPLIFY, "strength": 0.5}
    made = await served.plan(
        {**spec, "family": pb.INTERVENTION_FAMILY_STEERING, "parameters": {"coefficient": 2.0}},
        {**spec, "family": pb.INTERVENTION_FAMILY_STEERING_VECTOR},
        {**spec, "mode": AWAY, "family": pb.INTERVENTION_FAMILY_ABLATION},
    )
    (response,) = await offsets(served, {"plan": made.name}, [wire(pair) for pair in served.pairs[:3]])
    for result in response.results:
        part = result.offset.parts[0]
        assert result.offset.chosen == pytest.approx(-0.5 * part.chosen_raw)
        assert not part.HasField("z")
        assert not result.offset.stored
    steer = await served.plans.GetIntervention(service_pb.GetInterventionRequest(name=f"{made.name}/interventions/2"))
    curve, artifact = steer.intervention.dose_response, steer.artifact
    assert len(curve.points) == 7
    assert artifact.hook == "blocks.0.hook_resid_post"
    assert artifact.hook_module == "model.layers.0:output"
    assert artifact.dtype == "float32"
    assert artifact.span == pb.EDITED_SPAN_FINAL_TURN_ON
    assert artifact.steering.coefficient == pytest.approx(-0.5 * curve.recommended)
    np.testing.assert_array_equal(np.frombuffer(artifact.steering.vector.data, "<f4"), np.eye(WIDTH)[3])
    ablation = (
        await served.plans.GetIntervention(service_pb.GetInterventionRequest(name=f"{made.name}/interventions/3"))
    ).artifact
    assert list(ablation.ablation.basis.shape) == [WIDTH, 1]
    assert list(ablation.ablation.mean.shape) == [WIDTH]
    measured = await served.done(
        await served.plans.MeasureIntervention(
            service_pb.MeasureInterventionRequest(
                name=f"{made.name}/interventions/2", coefficients=[0.5, 1.0], generated_tokens=2
            )
        )
    )
    one = pb.Intervention()
    assert measured.response.Unpack(one)
    assert [point.coefficient for point in one.dose_response.points] == [0.0, 0.5, 1.0]


async def test_a_data_plan_streams_and_exports_the_same_rows(served: Served) -> None:
    made = await served.plan(
        {"concept": "feature/8", "mode": AWAY, "family": pb.INTERVENTION_FAMILY_EXAMPLE_FILTER, "parameters": {"share": 0.1}},
        {"concept": "feature/8", "mode": AWAY, "family": pb.INTERVENTION_FAMILY_TOKEN_FILTER},
        {
            "concept": "feature/8",
            "mode": AWAY,
            "family": pb.INTERVENTION_FAMILY_INOCULATION_ROWS,
            "parameters": {"prompt": "Use bold."},
        },
    )
    responses = [
        response
        async for response in served.plans.StreamDataPlan(service_pb.StreamDataPlanRequest(plan=made.name), timeout=PATIENCE)
    ]
    head = responses[0].head
    assert head.dataset_fingerprint == served.fingerprint
    assert head.tokenizer_fingerprint == whole_subject().info.tokenizer_fingerprint
    assert [(text.text, text.placement) for text in head.texts] == [("Use bold.", pb.PROMPT_PLACEMENT_SYSTEM)]
    rows = [row for response in responses for row in response.rows]
    assert [row.id for row in rows] == [pair.id for pair in served.pairs]
    dropped = [row for row in rows if row.weight == 0]
    assert 1 <= len(dropped) <= 4
    assert min(row.differences[0] for row in dropped) >= max(row.differences[0] for row in rows if row.weight)
    chunks = served.plans.ExportDataPlan(service_pb.ExportDataPlanRequest(plan=made.name), timeout=PATIENCE)
    table = pq.read_table(io.BytesIO(b"".join([chunk.data async for chunk in chunks])))
    assert table["row"].to_pylist() == [row.row for row in rows]
    assert table["chosen_mask_tokens"].to_pylist() == [list(row.chosen_mask.tokens) for row in rows]


async def test_what_grows_with_the_rows_of_a_data_plan_is_made_off_the_event_loop(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    on: dict[str, threading.Thread] = {}

    def watch(module: Any, name: str) -> None:
        work = getattr(module, name)

        def told(*given: Any) -> Any:
            on[name] = threading.current_thread()
            return work(*given)

        monkeypatch.setattr(module, name, told)

    watch(applied, "parquet_of")
    watch(data_plan, "columns_of")
    made = await served.plan({"concept": "feature/8", "mode": AWAY})
    chunks = served.plans.ExportDataPlan(service_pb.ExportDataPlanRequest(plan=made.name), timeout=PATIENCE)
    assert pq.read_table(io.BytesIO(b"".join([chunk.data async for chunk in chunks]))).num_rows == len(served.pairs)
    assert set(on) == {"parquet_of", "columns_of"}
    assert threading.current_thread() not in on.values()


async def test_rewards_come_back_shaped_and_a_bad_response_fails_alone(served: Served) -> None:
    made = await served.plan({"concept": "feature/8", "mode": AWAY, "family": pb.INTERVENTION_FAMILY_ONLINE_REWARD})
    items = [
        {"id": pair.id, "conversation": wire(pair).conversation, "response": response}
        for pair, response in ((served.pairs[0], served.pairs[0].chosen), (served.pairs[1], ""))
    ]
    request = service_pb.ScoreRewardsRequest(plan=made.name, responses=items, rewards=[1.0, 2.0])
    good, bad = (await served.plans.ScoreRewards(request)).results
    z = made.interventions[0].z
    assert good.reward.reward == pytest.approx(1.0 - (good.reward.scores[0] - z.mean) / z.deviation)
    assert good.reward.penalty == pytest.approx(1.0 - good.reward.reward)
    assert good.reward.z[0] == pytest.approx(good.reward.penalty)
    assert bad.HasField("error")
    short = await refused(
        served.plans.ScoreRewards(service_pb.ScoreRewardsRequest(plan=made.name, responses=items, rewards=[1.0]))
    )
    assert short.info.reason == "LENGTH_MISMATCH"


async def test_a_decision_becomes_a_plan_with_its_mode_strength_and_dataset(served: Served) -> None:
    options = {"nuisances": [], "max_t_flips": 64, "views": [1], "q_level": 0.99}
    asked = audit_service_pb2.CreateAuditRequest(dataset=served.dataset, options=options)
    await served.done(await served.audits.CreateAudit(asked))
    (audit,) = (await served.audits.ListAudits(audit_service_pb2.ListAuditsRequest())).audits
    found = await served.audits.ListHypotheses(audit_service_pb2.ListHypothesesRequest(parent=audit.name, page_size=1))
    decision = {"hypothesis": found.hypotheses[0].name, "mode": 2, "strength": 0.75}
    recorded = (await served.audits.RecordDecision(audit_service_pb2.RecordDecisionRequest(decision=decision))).decision
    made = await served.plan({"decision": recorded.name}, dataset="")
    (one,) = made.interventions
    assert made.dataset == served.dataset
    assert (one.mode, one.strength, one.decision) == (AMPLIFY, 0.75, recorded.name)
    assert one.concept.name == found.hypotheses[0].concept.name
    keep = {"hypothesis": found.hypotheses[0].name, "mode": 3}
    kept = (await served.audits.RecordDecision(audit_service_pb2.RecordDecisionRequest(decision=keep))).decision
    status = await refused(served.plans.CreatePlan(service_pb.CreatePlanRequest(interventions=[{"decision": kept.name}])))
    assert status.info.reason == "NOTHING_TO_DO"


async def test_what_a_plan_was_not_made_for_is_refused_with_both_fingerprints(served: Served) -> None:
    made = await served.plan({"concept": "feature/8", "mode": AWAY})
    for field in ("model", "tokenizer", "dataset"):
        target = {f"{field}_fingerprint": "e" * 64}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await offsets(served, {"plan": made.name, "target": target})
        status = rich(caught.value)
        assert status.code == grpc.StatusCode.FAILED_PRECONDITION
        assert status.info.reason == f"{field.upper()}_MISMATCH"
        assert status.info.metadata["met"] == "e" * 64
        assert len(status.info.metadata["made_for"]) == 64
        request = service_pb.GetInterventionRequest(name=f"{made.name}/interventions/1", target=target)
        assert (await refused(served.plans.GetIntervention(request))).info.reason == f"{field.upper()}_MISMATCH"


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        ({"concept": "feature/8"}, "MISSING_MODE", "interventions[0].mode"),
        ({"mode": AWAY}, "MISSING_TARGET", "interventions[0]"),
        ({"concept": "feature/8", "mode": AWAY, "strength": -1.0}, "OUT_OF_RANGE", "interventions[0].strength"),
        ({"concept": "feature/8", "mode": AWAY, "strength": float("nan")}, "OUT_OF_RANGE", "interventions[0].strength"),
        ({"concept": "feature/8", "mode": AWAY, "strength": 1e308}, "OUT_OF_RANGE", "interventions[0].strength"),
        ({"concept": "feature/9999", "mode": AWAY}, "UNKNOWN_FEATURE", "interventions[0].concept"),
        ({"concept": "feature/8", "mode": 9}, "UNKNOWN_ENUM_VALUE", "interventions[0].mode"),
        ({"concept": "feature/8", "mode": AMPLIFY, "family": 5}, "CANNOT_AMPLIFY", "interventions[0].mode"),
        ({"concept": "feature/8", "mode": AWAY, "family": 3}, "PROMPT_REQUIRED", "interventions[0].parameters.prompt"),
        (
            {"concept": "feature/8", "mode": AWAY, "parameters": {"share": 0.1}},
            "UNUSED_PARAMETER",
            "interventions[0].parameters.share",
        ),
        (
            {"concept": "feature/8", "mode": AWAY, "family": 7, "parameters": {"share": 1.5}},
            "OUT_OF_RANGE",
            "interventions[0].parameters.share",
        ),
        (
            {"concept": "feature/8", "mode": AWAY, "family": 2, "parameters": {"coefficient": 0.0}},
            "OUT_OF_RANGE",
            "interventions[0].parameters.coefficient",
        ),
        (
            {"concept": "feature/8", "mode": AWAY, "family": 4, "parameters": {"coefficient": 1e30}},
            "OUT_OF_RANGE",
            "interventions[0].parameters.coefficient",
        ),
    ],
)
async def test_what_no_plan_can_hold_is_refused_with_its_path(
    served: Served, spec: dict[str, Any], reason: str, field: str
) -> None:
    status = await refused(served.plans.CreatePlan(service_pb.CreatePlanRequest(dataset=served.dataset, interventions=[spec])))
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT
    assert status.info.reason == reason
    assert status.violations == [field]


async def test_the_parameters_of_a_plan_can_be_sent_back_and_make_the_same_plan(served: Served) -> None:
    bold, prompt, size = {"concept": "feature/8", "mode": AWAY}, {"prompt": "Use bold."}, {"coefficient": 1.0}
    given = {2: size, 3: prompt, 4: size, 11: prompt}
    made = await served.plan(*({**bold, "family": family, "parameters": given.get(family, {})} for family in range(1, 13)))
    again = await served.plan(*({**bold, "family": one.family, "parameters": one.parameters} for one in made.interventions))
    assert [one.parameters for one in again.interventions] == [one.parameters for one in made.interventions]
    assert again.fingerprint == made.fingerprint


async def test_a_stream_of_offsets_keeps_the_rules_of_streams_of_pairs(served: Served) -> None:
    made = await served.plan({"concept": "feature/8", "mode": AWAY, "family": pb.INTERVENTION_FAMILY_EXAMPLE_FILTER})
    for options, reason in (
        ({"plan": made.name}, "NO_SUCH_FAMILY"),
        ({"plan": "plans/none"}, "NOT_FOUND"),
        ({"plan": "nonsense"}, "INVALID_NAME"),
        ({"plan": made.name, "beta": -1.0}, "OUT_OF_RANGE"),
        ({"plan": made.name, "beta": 5e-324}, "OUT_OF_RANGE"),
        ({"plan": made.name, "beta": 1e300}, "OUT_OF_RANGE"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await offsets(served, options)
        assert rich(caught.value).info.reason == reason
    first = [service_pb.StreamOffsetsRequest(batch={"sequence": 0, "pairs": [wire(served.pairs[0])]})]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [response async for response in served.plans.StreamOffsets(iter(first))]
    assert rich(caught.value).info.reason == "STREAM_ORDER"


async def test_prompts_are_ranked_as_an_operation(served: Served) -> None:
    request = service_pb.RankInoculationPromptsRequest(
        dataset=served.dataset, concept="feature/8", prompts=["Use **bold**."], description="use bold", rows=3
    )
    ended = await served.done(await served.plans.RankInoculationPrompts(request))
    ranking = service_pb.PromptRanking()
    assert ended.response.Unpack(ranking)
    assert len(ranking.prompts) == 7
    assert [one.mean for one in ranking.prompts] == sorted((one.mean for one in ranking.prompts), reverse=True)
