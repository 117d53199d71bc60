"""Operations whose file is slow to write: what is on disk last is what stands, and nobody is told of what is not there yet."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from assay_server.audit.findings import ViewKind
from assay_server.errors import Cancelled, NotReady
from assay_server.jobs.audits.types import AuditState
from assay_server.jobs.operations.jobs import Operations
from assay_server.store.files import Files

from tests.server.jobs.operations.test_jobs import Work, submit
from tests.server.jobs.worlds import audit, lesson, only, open_library, tiny_scorer, upload
from tests.support.waiting import PATIENCE

MOMENT = 0.2  # in which what must not happen would have happened


class SlowFiles(Files):
    """Files of which the writes that ``holds`` picks wait until ``go``."""

    def __init__(self, url: str, holds: Callable[[Mapping[str, Any]], bool]) -> None:
        super().__init__(url)
        self._holds = holds
        self.held = threading.Event()
        self.go = threading.Event()

    def write_json(self, path: str, value: Mapping[str, Any]) -> None:
        if self._holds(value):
            self.held.set()
            assert self.go.wait(PATIENCE)
        super().write_json(path, value)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.held.wait, 30)


def slow(tmp_path: Path, work: Work, holds: Callable[[Mapping[str, Any]], bool]) -> tuple[Operations, SlowFiles]:
    files = SlowFiles(str(tmp_path), holds)
    where = Operations(files, {"lane": 2})
    where.register("work", work, lane="lane", on_failure=work.on_failure)
    return where, files


def is_cancellation(record: Mapping[str, Any]) -> bool:
    return bool(record["cancelled"]) and not record["done"]


async def test_an_end_is_not_overwritten_by_the_cancellation_that_came_too_late(tmp_path: Path) -> None:
    work = Work()
    where, files = slow(tmp_path, work, is_cancellation)
    await where.start()
    name = await submit(where, "a")
    cancelling = asyncio.ensure_future(where.cancel(name))
    await files.reached()
    work.free.set()
    ending = asyncio.ensure_future(where.wait(name, 30))
    await asyncio.wait({ending}, timeout=MOMENT)
    files.go.set()
    await cancelling
    assert (await ending).response == "things/a"

    later = Work()
    again, _ = slow(tmp_path, later, lambda _: False)
    await again.start()
    end = await again.wait(name, 30)
    assert (end.done, end.response, end.error) == (True, "things/a", None)
    assert (work.failed, later.failed, later.began) == ([], [], [])


async def test_nobody_is_told_of_an_end_that_is_not_on_disk(tmp_path: Path) -> None:
    work = Work()
    work.free.set()
    where, files = slow(tmp_path, work, lambda record: bool(record["done"]))
    await where.start()
    name = await submit(where, "a")
    await files.reached()
    told = where.get(name)
    assert (told.done, told.response) == (False, "")
    forgetting = asyncio.ensure_future(_cancel_and_forget(where, "things/a"))
    await asyncio.sleep(0)
    files.go.set()
    await forgetting
    assert where.all() == []
    assert files.names("operations") == []


async def _cancel_and_forget(where: Operations, target: str) -> None:
    await where.cancel_target(target)
    await where.forget_target(target)


async def test_a_cancellation_whose_caller_went_away_still_cancels(tmp_path: Path) -> None:
    work = Work()
    where, files = slow(tmp_path, work, is_cancellation)
    await where.start()
    name = await submit(where, "a")
    cancelling = asyncio.ensure_future(where.cancel(name))
    await files.reached()
    cancelling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelling
    files.go.set()
    assert isinstance((await where.wait(name, 30)).error, Cancelled)


async def test_what_waits_to_be_submitted_while_the_server_stops_does_not_start(tmp_path: Path) -> None:
    work = Work()
    where, files = slow(tmp_path, work, lambda record: record["arguments"]["name"] == "a" and not record["resumed"])
    await where.start()
    kept = asyncio.ensure_future(submit(where, "a"))
    await files.reached()
    refused = asyncio.ensure_future(submit(where, "b"))
    await asyncio.sleep(0)
    stopping = asyncio.ensure_future(where.aclose())
    await asyncio.wait({stopping}, timeout=MOMENT)
    files.go.set()
    await stopping
    name = await kept
    with pytest.raises(NotReady):
        await refused
    await asyncio.sleep(MOMENT)
    assert (work.running, files.names("operations")) == (0, ["work-a.json"])

    later = Work()
    later.free.set()
    again, _ = slow(tmp_path, later, lambda _: False)
    await again.start()
    assert (await again.wait(name, 30)).response == "things/a"


async def test_an_audit_that_is_done_stays_done_where_its_operation_was_cancelled_and_the_server_died(tmp_path: Path) -> None:
    async with tiny_scorer() as scorer:
        async with open_library(tmp_path, scorer) as library:
            dataset = await upload(library, lesson(40))
            done = await audit(library, dataset, only(ViewKind.GLOBAL), request_id="one")
        files = Files(str(tmp_path))
        record = files.read_json("operations/audit-one.json")
        files.write_json("operations/audit-one.json", {**record, "done": False, "cancelled": True, "response": "", "ended": 0.0})
        async with open_library(tmp_path, scorer) as library:
            assert isinstance((await library.operations.wait("operations/audit-one", 30)).error, Cancelled)
            assert await library.audits.get(done.name) == done
            assert done.state is AuditState.DONE
            assert (await library.audits.result(done.name)).hypotheses
