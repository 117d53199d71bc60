"""Every method of InterventionService through both clients, against a real server."""

import asyncio
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from assay import (
    AsyncClient,
    Client,
    Concept,
    Examples,
    Flow,
    Intervene,
    InterventionFamily,
    InterventionMode,
    InterventionParameters,
    InvalidRequest,
    NotFound,
    OffsetResult,
    Pair,
    PlanTarget,
    ProbeMethod,
    PromptedResponse,
    PromptPlacement,
    chat,
)

from tests.client.conftest import QUICK
from tests.client.support.proxy import CuttingProxy
from tests.client.training.conftest import Served
from tests.support.tiny_subject import WIDTH
from tests.support.waiting import PATIENCE

AWAY, AMPLIFY = InterventionMode.EXPLAIN_AWAY, InterventionMode.AMPLIFY
WORDS = ("sage", "mint", "rain", "salt", "moss", "kiln", "amber", "delta", "fern", "lime", "opal", "wren")
ALONG = Concept.direction("along", [float(at % 3) - 1.0 for at in range(WIDTH)])


def test_a_plan_is_made_found_listed_and_deleted(served: Served) -> None:
    ask = [Intervene("feature/8", AWAY, 0.5), Intervene(ALONG, AMPLIFY, family=InterventionFamily.ABLATION)]
    with pytest.raises(InvalidRequest):  # an ablation cannot amplify
        served.client.create_plan(served.dataset, ask).wait(timeout=PATIENCE)
    plan = served.client.create_plan(served.dataset, ask[:1], display_name="mine", request_id="made-once").wait(timeout=PATIENCE)
    assert (
        served.client.create_plan(served.dataset, ask[:1], display_name="mine", request_id="made-once").wait(timeout=PATIENCE)
        == plan
    )
    assert served.client.plan(plan.name) == plan
    assert plan in list(served.client.plans(served.dataset))
    assert list(served.client.plans("datasets/none")) == []
    (one,) = plan.interventions
    assert (one.mode, one.strength, one.family) == (AWAY, 0.5, InterventionFamily.REWARD_SHAPING)
    assert one.z.responses == 80
    assert one.expected.shift_after is not None
    assert one.side_effects
    assert plan.dataset_fingerprint == served.dataset.fingerprint
    assert plan.subject.hook == served.client.model().hook
    served.client.delete_plan(plan)
    with pytest.raises(NotFound):
        served.client.plan(plan.name)


def test_a_concept_said_by_examples_becomes_features_whose_offsets_take_no_forward_pass(served: Served) -> None:
    loud = [f"{word.upper()}!! {word.upper()}!!" for word in WORDS]
    source = Examples(loud, [*(f"{word}, {word}." for word in WORDS), *(f"**{word}** {word}" for word in WORDS)])
    concept = served.client.create_concept("loud", source, method=ProbeMethod.FEATURES, max_features=2).wait(timeout=PATIENCE)
    assert concept.method is ProbeMethod.FEATURES
    assert concept.report is not None
    features = [concept.kind] if isinstance(concept.kind, int) else [id for id, _ in concept.kind]  # type: ignore[union-attr]
    assert 1 <= len(features) <= 2
    plan = served.plan(InterventionFamily.REWARD_SHAPING, concept.name)
    assert list(plan.interventions[0].concept.features) == features
    assert all(one.unwrap().stored for one in served.client.offsets(plan, served.pairs))
    with pytest.raises(InvalidRequest, match="max_features"):
        served.client.create_concept("loud", source, max_features=2)


def test_offsets_of_both_clients_come_in_order_and_a_bad_pair_fails_alone(served: Served) -> None:
    plan = served.plan(InterventionFamily.REWARD_SHAPING)
    given = [*served.pairs, Pair(chat("new?"), "fresh **bold** yes", "no", id="new"), Pair("x", "", "b", id="empty")]
    given.insert(3, Pair("lone \ud800", "a", "b", id="surrogate"))
    results = list(served.client.offsets(plan, given, beta=0.2))

    async def go() -> list[OffsetResult]:
        async with AsyncClient(served.address, flow=Flow(pairs_per_message=5, pairs_in_flight=12)) as client:
            return [one async for one in client.offsets(plan, given, beta=0.2)]

    again = asyncio.run(go())
    assert again[41].unwrap().stored  # by now the server's cache has it
    assert again[:41] + again[42:] == results[:41] + results[42:]
    assert again[41].unwrap().parts == results[41].unwrap().parts
    assert [(one.index, one.id) for one in results] == [(at, pair.id) for at, pair in enumerate(given)]
    failed = {one.id: one.error.reason for one in results if one.error is not None}
    assert failed == {"surrogate": "INVALID_UTF8", "empty": "EMPTY_SPAN"}
    assert [one.unwrap().stored for one in results if one.ok] == [True] * 40 + [False]
    for one in results:
        if one.offset is not None:
            assert one.offset.offset == pytest.approx(one.offset.chosen - one.offset.rejected)
            assert one.offset.shift is not None
            assert one.offset.shift.ref_chosen_logps == pytest.approx(-one.offset.chosen / 0.2)
    only = list(served.client.offsets(plan, given[-2:-1], dataset_pairs_only=True))
    assert only[0].error is not None
    assert only[0].error.reason == "NOT_IN_DATASET"
    with pytest.raises(InvalidRequest, match="MISMATCH"):
        list(served.client.offsets(plan, given[:1], target=PlanTarget(tokenizer_fingerprint="e" * 64)))


def test_steering_and_inoculation_offsets_are_lambda_times_what_the_change_does(served: Served) -> None:
    """o = lambda (A(y+) - A(y-)), negated to amplify; A comes in nats beside it."""
    plan = served.plans(
        Intervene(ALONG, AWAY, 0.5, InterventionFamily.STEERING, InterventionParameters(coefficient=3.0)),
        Intervene("feature/8", AMPLIFY, 2.0, InterventionFamily.INOCULATION, InterventionParameters(prompt="Be bold.")),
    )
    for result in served.client.offsets(plan, served.pairs[:4]):
        one = result.unwrap()
        steering, inoculation = one.parts
        assert steering.z is None
        wanted = 0.5 * (steering.chosen_raw - steering.rejected_raw) - 2.0 * (inoculation.chosen_raw - inoculation.rejected_raw)
        assert one.offset == pytest.approx(wanted)
        assert one.offset != 0
        assert not one.stored


def test_curves_prompts_data_plans_and_rewards(served: Served, tmp_path: Path) -> None:
    client = served.client
    plan = served.plans(
        Intervene(ALONG, AWAY, 1.0, InterventionFamily.STEERING_VECTOR, InterventionParameters(coefficient=2.0, share=0.2)),
        Intervene("feature/8", AWAY, 1.0, InterventionFamily.ONLINE_REWARD),
    )
    measured = client.measure_intervention(plan.interventions[0], [0.0, 1.0], generated_tokens=2).wait(timeout=PATIENCE)
    assert measured.dose_response is not None
    assert [point.coefficient for point in measured.dose_response.points] == [0.0, 1.0]
    artifact = client.intervention(plan.interventions[0]).artifact
    assert artifact is not None
    assert client.intervention(plan.interventions[1]).artifact is None
    ranking = client.rank_inoculation_prompts(
        served.dataset, "feature/8", ["Be bold."], description="use bold text", rows=4, placement=PromptPlacement.USER
    ).wait(timeout=PATIENCE)
    assert ranking.rows == 4
    assert len(ranking.prompts) == 7
    assert [one.mean for one in ranking.prompts] == sorted((one.mean for one in ranking.prompts), reverse=True)
    data = client.data_plan(plan)
    rows = list(data)
    assert [row.row for row in rows] == list(range(40))
    assert sum(bool(row.steered_by) for row in rows) == plan.interventions[0].expected.rows
    assert [row.row for row in client.data_plan(plan, start_row=37)] == [37, 38, 39]
    parquet = client.export_data_plan(plan, tmp_path / "plan.parquet")
    assert pq.read_table(parquet)["id"].to_pylist() == [row.id for row in rows]
    items = [PromptedResponse(chat("amber?"), "**bold** yes"), PromptedResponse(chat("amber?"), "")]
    good, bad = client.score_rewards(plan, items, [1.0, 2.0])
    z = plan.interventions[1].z
    assert good.unwrap().reward == pytest.approx(1.0 - z.of(good.unwrap().scores[0]))
    assert good.unwrap().penalty == pytest.approx(good.unwrap().z[0])
    assert (bad.id, bad.ok) == ("", False)
    with pytest.raises(ValueError, match="1 rewards"):
        client.score_rewards(plan, items, [1.0])

    async def go() -> None:
        async with AsyncClient(served.address) as other:
            assert (await other.plan(plan.name)).fingerprint == plan.fingerprint
            assert plan.name in [one.name async for one in other.plans(served.dataset)]
            assert (await other.intervention(plan.interventions[0])).artifact == artifact
            loaded = await (await other.data_plan(plan)).load()
            assert list(loaded) == rows
            assert await other.score_rewards(plan, items, [1.0, 2.0]) == [good, bad]
            await other.export_data_plan(plan, tmp_path / "again.parquet")
            ranked = await other.rank_inoculation_prompts(served.dataset, "feature/8", ["Be bold."], rows=4)
            assert (await ranked.wait(timeout=PATIENCE)).rows == 4
            made = await other.create_plan(served.dataset, [Intervene("feature/8", AWAY)])
            fresh = await made.wait(timeout=PATIENCE)
            again = await other.measure_intervention(plan.interventions[0], [1.0], generated_tokens=2)
            assert (await again.wait(timeout=PATIENCE)).dose_response is not None
            await other.delete_plan(fresh)

    asyncio.run(go())
    assert (tmp_path / "again.parquet").read_bytes() == parquet.read_bytes()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_connection_that_breaks_in_the_middle_costs_no_offset_and_doubles_none(served: Served, kind: str) -> None:
    plan = served.plan(InterventionFamily.REWARD_SHAPING)
    given = served.pairs * 10
    wanted = [one.offset for one in served.client.offsets(plan, given)]
    proxy = CuttingProxy(int(served.address.rpartition(":")[2]))
    proxy.cut_after = [12_000, 20_000, 9_000]
    flow = Flow(pairs_per_message=8, pairs_in_flight=64)

    async def go() -> list[OffsetResult]:
        async with AsyncClient(proxy.address, flow=flow, retry=QUICK) as client:
            return [one async for one in client.offsets(plan, given)]

    try:
        if kind == "sync":
            with Client(proxy.address, flow=flow, retry=QUICK) as client:
                results = list(client.offsets(plan, given))
        else:
            results = asyncio.run(go())
    finally:
        proxy.close()
    assert [one.index for one in results] == list(range(400))
    assert [one.offset for one in results] == wanted
    assert proxy.connections > 1
