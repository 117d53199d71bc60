"""Operations of long ago are forgotten at the start, with what only they name; nothing that is worked on, and no comparison."""

import time
from pathlib import Path
from typing import Any

import pytest
from assay_server.config import ServerConfig
from assay_server.errors import Cancelled
from assay_server.jobs.library import StoreOptions
from assay_server.jobs.operations.files import OperationFiles, operation_record
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.state import OperationState
from assay_server.store.files import Files

from tests.server.jobs.operations.test_jobs import Work
from tests.server.jobs.worlds import lesson, open_library, tiny_scorer, upload

DAY = 86_400.0


def keep(files: Files, id: str, kind: str = "work", target: str = "", days: float = 50, **more: Any) -> None:
    """An operation that ended so many days ago."""
    state = OperationState(id, kind, target or f"things/{id}", {"name": id}, time.time() - 90 * DAY, 0)
    state.done, state.ended = True, time.time() - days * DAY
    for name, value in more.items():
        setattr(state, name, value)
    OperationFiles(files).write(id, operation_record(state))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(str(tmp_path))


async def test_operations_that_ended_long_ago_are_forgotten_and_no_others(files: Files) -> None:
    keep(files, "work-old")
    keep(files, "work-failed", error=Cancelled("Stopped."))
    keep(files, "work-young", days=40)
    keep(files, "work-open", target="things/held", done=False, ended=0.0)
    keep(files, "work-held", target="things/held")
    keep(files, "foreign-old", kind="foreign")
    keep(files, "lasting-old", kind="lasting")
    keep(files, "lasting-failed", kind="lasting", error=Cancelled("Stopped."))
    work = Work()
    where = Operations(files, {"lane": 1})
    where.register("work", work, lane="lane")
    where.register("lasting", work, lane="lane", lasting=True)
    await where.start()
    await where.expire(42 * DAY)
    left = {"work-young", "work-open", "work-held", "foreign-old", "lasting-old"}
    assert {info.name.removeprefix("operations/") for info in where.all()} == left
    assert {name.removesuffix(".json") for name in files.names("operations")} == left
    await where.aclose()


async def test_what_only_an_operation_names_goes_with_it_and_datasets_stay(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with tiny_scorer() as scorer:
        async with open_library(folder, scorer) as library:
            dataset = await upload(library, lesson(10))
        files = Files(str(folder))
        keep(files, "import-old", kind="import", response=dataset)
        keep(files, "comparison-old", kind="comparison", target="comparisons/old", response="comparisons/old")
        keep(files, "labels-young", kind="labels", target="labels", days=1, arguments={"run": "young"})
        keep(files, "promptranking-young", kind="prompt-ranking", target="rankings/young", days=1)
        for path in ("labels/runs/young", "labels/runs/old", "rankings/young", "rankings/old", "comparisons/old/comparison"):
            files.write_json(f"{path}.json", {"x": 1})
        async with open_library(folder, scorer) as library:
            names = {info.name for info in library.operations.all()}
            assert names == {f"operations/{id}" for id in ("comparison-old", "labels-young", "promptranking-young")}
            assert (await library.datasets.get(dataset)).pairs == 10
        assert [files.names(one) for one in ("labels/runs", "rankings")] == [["young.json"], ["young.json"]]
        assert files.exists("comparisons/old/comparison.json")


def test_the_servers_default_is_that_of_the_store() -> None:
    assert ServerConfig().operation_max_age_seconds == StoreOptions().operation_max_age_seconds == 42 * DAY
