"""Plans over time: read while they are deleted and made anew, forgotten with their operations, listed beside damaged ones."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from assay_server.errors import DataLoss, FailedPrecondition, InvalidItem, NotFound
from assay_server.interventions.plans import CompiledPlan, Plan
from assay_server.interventions.sweep import SweepOptions
from assay_server.interventions.types import Family, Parameters
from assay_server.jobs.plans.files import PlanFiles
from assay_server.jobs.plans.types import PlanRequest

from tests.server.jobs.plans.worlds import FEATURES, World, direction_target, feature_target, make_pairs, specification, world
from tests.support.waiting import PATIENCE

SHORT = SweepOptions((0.0, 1.0), generated_tokens=2)


class SlowReads:
    """Readings of plans that have what they read, and wait before they tell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_read, self.free = threading.Event(), threading.Event()
        read = PlanFiles.read

        def slow(files: PlanFiles, id: str) -> CompiledPlan:
            found = read(files, id)
            self.has_read.set()
            assert self.free.wait(PATIENCE)
            return found

        monkeypatch.setattr(PlanFiles, "read", slow)


async def test_a_reading_under_way_does_not_bring_a_deleted_plan_back(tiny: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await tiny.plan(specification(feature_target(*FEATURES)), plan_id="one")
    slow = SlowReads(monkeypatch)
    reading = asyncio.ensure_future(tiny.jobs.compiled("plans/one"))
    assert await asyncio.to_thread(slow.has_read.wait, 30)
    await tiny.jobs.delete("plans/one")
    slow.free.set()
    await reading
    with pytest.raises(NotFound):
        await tiny.jobs.compiled("plans/one")
    await tiny.plan(specification(feature_target(*FEATURES), strength=3.0), plan_id="one")
    (one,) = (await tiny.jobs.compiled("plans/one")).compiled.plan.interventions
    assert one.strength == 3.0


async def test_a_plan_in_memory_shows_the_curve_that_was_measured_since(tiny: World) -> None:
    steered = specification(direction_target(), Family.STEERING_VECTOR, parameters=Parameters(coefficient=1.0))
    name = await tiny.plan(steered)
    before = await tiny.jobs.compiled(name)
    assert (await tiny.jobs.compiled(name)) is before, "it was read again"
    await tiny.done(await tiny.jobs.measure(name, 1, SHORT))
    after = await tiny.jobs.compiled(name)
    assert after.compiled.plan.interventions[0].dose_response is not None
    assert before.compiled.plan.interventions[0].dose_response is None
    assert after.compiled.rows is before.compiled.rows


async def test_a_deleted_plan_is_forgotten_with_its_operations_and_the_same_request_makes_it_again(tiny: World) -> None:
    steered = specification(direction_target(), Family.STEERING_VECTOR, parameters=Parameters(coefficient=1.0))
    name = await tiny.plan(steered, request_id="mine")
    await tiny.done(await tiny.jobs.measure(name, 1, SHORT, "curve"))
    await tiny.jobs.delete(name)
    assert not tiny.operations.all()
    with pytest.raises(NotFound):
        await tiny.jobs.delete(name)
    assert await tiny.plan(steered, request_id="mine") == name
    (one,) = (await tiny.jobs.plan(name)).interventions
    assert one.dose_response is None


async def test_deleting_a_plan_ends_its_measuring_and_leaves_no_head_behind(tiny: World, monkeypatch: pytest.MonkeyPatch) -> None:
    steered = specification(direction_target(), Family.STEERING_VECTOR, parameters=Parameters(coefficient=1.0))
    name = await tiny.plan(steered)
    writing, free = threading.Event(), threading.Event()
    rewrite = PlanFiles.rewrite

    def slow(files: PlanFiles, plan: Plan) -> None:
        writing.set()
        assert free.wait(PATIENCE)
        rewrite(files, plan)

    monkeypatch.setattr(PlanFiles, "rewrite", slow)
    measuring = await tiny.jobs.measure(name, 1, SHORT)
    assert await asyncio.to_thread(writing.wait, 30)
    deleting = asyncio.ensure_future(tiny.jobs.delete(name))
    await asyncio.sleep(0.05)
    assert not deleting.done(), "the head may still be written"
    free.set()
    await deleting
    assert await tiny.jobs.all() == []
    with pytest.raises(NotFound):
        tiny.operations.get(measuring.name)
    with pytest.raises(NotFound):
        await tiny.jobs.plan(name)


async def test_one_request_id_with_another_plan_id_is_refused(tiny: World) -> None:
    name = await tiny.plan(specification(feature_target(*FEATURES)), request_id="mine", plan_id="first")
    assert name == "plans/first"
    assert await tiny.plan(specification(feature_target(*FEATURES)), request_id="mine", plan_id="first") == name
    with pytest.raises(InvalidItem) as caught:
        await tiny.plan(specification(feature_target(*FEATURES)), request_id="mine", plan_id="second")
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_long_request_ids_that_begin_alike_give_plans_of_their_own(tiny: World) -> None:
    asked = ["r" * 63, "r" * 63 + "a", "r" * 63 + "b"]
    names = [await tiny.plan(specification(feature_target(*FEATURES)), request_id=id) for id in asked]
    assert len(set(names)) == 3
    assert [await tiny.plan(specification(feature_target(*FEATURES)), request_id=id) for id in asked] == names


async def test_a_damaged_plan_is_left_out_of_the_list_and_can_be_deleted(tiny: World, tmp_path: Path) -> None:
    for id in ("torn", "sound"):
        await tiny.plan(specification(feature_target(*FEATURES)), plan_id=id)
    (tmp_path / "plans/torn/plan.json").write_text('{"version": 1')
    assert [plan.name for plan in await tiny.jobs.all()] == ["plans/sound"]
    with pytest.raises(DataLoss):
        await tiny.jobs.plan("plans/torn")
    await tiny.jobs.delete("plans/torn")
    with pytest.raises(NotFound):
        await tiny.jobs.plan("plans/torn")


async def test_an_ablation_without_a_residual_to_average_is_refused(tmp_path: Path) -> None:
    """Of 600 pairs every third is averaged; those cannot be scored, and the others can."""
    pairs = [replace(pair, rejected="" if row % 3 == 0 else pair.rejected) for row, pair in enumerate(make_pairs(600))]
    async with world(tmp_path, pairs=pairs) as made:
        asked = PlanRequest(made.name, (specification(feature_target(*FEATURES), Family.ABLATION),))
        error = (await made.done(await made.jobs.create(asked))).error
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "NOTHING_SCORED"
    assert "EMPTY_SPAN" in error.message
