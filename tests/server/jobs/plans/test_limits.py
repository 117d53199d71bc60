"""What plans may cost: scores of one plan, and rows of all that are in memory."""

from pathlib import Path

import pytest
from assay.v1 import intervention_service_pb2 as service_pb
from assay_server.errors import InvalidItem
from assay_server.jobs.plans.files import PlanFiles
from assay_server.jobs.plans.types import PlanOptions, PlanRequest
from assay_server.rpc.plans.requests import read_plan_request, read_ranking
from assay_server.rpc.specs import Bounds

from tests.server.jobs.plans.worlds import feature_target, specification, world


async def test_a_plan_of_more_scores_than_the_limit_is_refused_before_any_work(tmp_path: Path) -> None:
    async with world(tmp_path, options=PlanOptions(max_scores=120)) as made:
        two, three = ([specification(feature_target(id)) for id in range(count)] for count in (2, 3))
        assert await made.plan(*two)
        with pytest.raises(InvalidItem) as caught:
            await made.jobs.create(PlanRequest(made.name, tuple(three)))
        assert (caught.value.reason, caught.value.field) == ("LIMIT_EXCEEDED", "interventions")
        assert caught.value.details == {"interventions": "3", "pairs": "60", "max_plan_scores": "120"}
        assert len(made.operations.all()) == 1


@pytest.mark.parametrize(("held_rows", "kept"), [(180, 3), (179, 2), (60, 1), (1, 1)])
async def test_plans_in_memory_are_bounded_by_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_rows: int, kept: int
) -> None:
    async with world(tmp_path, options=PlanOptions(held_rows=held_rows)) as made:
        names = [await made.plan(specification(feature_target(id)), plan_id=f"plan{id}") for id in range(3)]
        for name in names:
            await made.jobs.compiled(name)
        read_again: list[str] = []
        read = PlanFiles.read

        def told(files: PlanFiles, id: str) -> object:
            read_again.append(id)
            return read(files, id)

        monkeypatch.setattr(PlanFiles, "read", told)
        for name in reversed(names[-kept:]):
            await made.jobs.compiled(name)
        assert not read_again
        for name in names[:-kept]:
            await made.jobs.compiled(name)
        assert len(read_again) == 3 - kept


def test_requests_are_held_to_the_limits_of_the_server() -> None:
    bounds = Bounds.__new__(Bounds)  # is not reached: counts are checked first
    two = service_pb.CreatePlanRequest(interventions=[{"concept": "feature/1"}, {"concept": "feature/2"}])
    with pytest.raises(InvalidItem) as caught:
        read_plan_request(two, bounds, 1)
    assert caught.value.details == {"interventions": "2", "max_plan_interventions": "1"}
    rows = service_pb.RankInoculationPromptsRequest(prompts=["Use bold."], rows=9)
    with pytest.raises(InvalidItem) as caught:
        read_ranking(rows, bounds, 8)
    assert "max_ranking_rows" in caught.value.details
