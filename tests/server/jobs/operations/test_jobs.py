"""Operations: durable, bounded, cancelled for good, taken up again."""

import asyncio
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from assay_server.errors import AssayError, Cancelled, ContextOverflow, FailedPrecondition, InvalidItem, NotFound, NotReady
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.progress import WINDOW_SECONDS, Progress
from assay_server.store.files import Files


class Work:
    """A handler that tests hold and watch."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self.running = 0
        self.most = 0
        self.free = asyncio.Event()

    async def __call__(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        name = str(arguments["name"])
        self.began.append(name)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            progress.enter("scoring", 10)
            if arguments.get("error"):
                raise ContextOverflow("Too long.", details={"tokens": 9})
            if arguments.get("bug"):
                raise KeyError("secret")
            await self.free.wait()
            self.ended.append(name)
            return f"things/{name}"
        finally:
            self.running -= 1

    async def on_failure(self, arguments: Mapping[str, Any], error: AssayError) -> None:
        self.failed.append((str(arguments["name"]), error.reason))


def operations(tmp_path: Path, work: Work, bound: int = 2) -> Operations:
    made = Operations(Files(str(tmp_path)), {"lane": bound})
    made.register("work", work, lane="lane", on_failure=work.on_failure)
    return made


async def submit(where: Operations, name: str, **arguments: Any) -> str:
    info = await where.submit("work", target=f"things/{name}", arguments={"name": name, **arguments}, request_id=name)
    return info.name


async def test_work_runs_to_its_response_and_is_forgotten_when_asked(tmp_path: Path) -> None:
    work = Work()
    where = operations(tmp_path, work)
    await where.start()
    name = await submit(where, "a")
    await asyncio.sleep(0)
    assert (await where.wait(name, 0.01)).done is False
    with pytest.raises(FailedPrecondition) as refused:
        await where.delete(name)
    assert refused.value.reason == "NOT_DONE"
    work.free.set()
    done = await where.wait(name, 5)
    assert (done.done, done.response, done.error, done.resumed) == (True, "things/a", None, 0)
    await where.delete(name)
    with pytest.raises(NotFound):
        where.get(name)
    again = operations(tmp_path, work)
    await again.start()
    assert again.all() == []


async def test_a_lane_runs_no_more_than_its_bound_and_keeps_the_order(tmp_path: Path) -> None:
    work = Work()
    where = operations(tmp_path, work, bound=2)
    await where.start()
    names = [await submit(where, name) for name in "abcd"]
    await asyncio.sleep(0.02)
    assert work.began == ["a", "b"]
    assert [info.phase for info in reversed(where.all())] == ["scoring", "scoring", "waiting", "waiting"]
    work.free.set()
    for name in names:
        await where.wait(name, 5)
    assert work.began == list("abcd")
    assert work.most == 2


async def test_the_same_request_is_the_same_operation_and_another_one_is_refused(tmp_path: Path) -> None:
    work = Work()
    work.free.set()
    where = operations(tmp_path, work)
    await where.start()
    first, second = await asyncio.gather(submit(where, "a"), submit(where, "a"))
    assert first == second
    await where.wait(first, 5)
    assert await submit(where, "a") == first
    with pytest.raises(InvalidItem) as refused:
        await submit(where, "a", more=1)
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert work.began == ["a"]
    with pytest.raises(InvalidItem):
        await where.submit("work", target="", arguments={}, request_id="no spaces")


async def test_ids_of_kinds_that_are_spelt_alike_do_not_meet(tmp_path: Path) -> None:
    work = Work()
    work.free.set()
    where = operations(tmp_path, work)
    where.register("work-set", work, lane="lane")
    with pytest.raises(ValueError, match="registered already"):
        where.register("works-et", work, lane="lane")
    await where.start()
    one = await where.submit("work", target="things/a", arguments={"name": "a"}, request_id="set-x")
    two = await where.submit("work-set", target="things/b", arguments={"name": "b"}, request_id="x")
    assert [(await where.wait(info.name, 5)).response for info in (one, two)] == ["things/a", "things/b"]
    assert where.find("work", "x") is None
    with pytest.raises(ValueError, match="there is no lane"):
        where.register("other", work, lane="nowhere")


async def test_what_was_under_way_is_taken_up_in_order_and_counted(tmp_path: Path) -> None:
    work = Work()
    where = operations(tmp_path, work, bound=1)
    await where.start()
    names = [await submit(where, name) for name in "abc"]
    await asyncio.sleep(0.02)
    await where.aclose()
    assert work.running == 0
    assert work.failed == []
    with pytest.raises(NotReady):
        await submit(where, "d")

    later = Work()
    later.free.set()
    where = operations(tmp_path, later, bound=1)
    await where.start()
    ends = [await where.wait(name, 5) for name in names]
    assert later.began == list("abc")
    assert [(end.resumed, end.response) for end in ends] == [(1, "things/a"), (1, "things/b"), (1, "things/c")]

    last = Work()
    where = operations(tmp_path, last)
    await where.start()
    assert last.began == []
    assert [info.name for info in where.all()] == names[::-1]
    assert where.get(names[0]) == ends[0]


@pytest.mark.parametrize("at", ["running", "waiting"])
async def test_a_cancelled_operation_ends_and_never_rises_again(tmp_path: Path, at: str) -> None:
    work = Work()
    where = operations(tmp_path, work, bound=1)
    await where.start()
    first = await submit(where, "first")
    second = await submit(where, "second")
    await asyncio.sleep(0.02)
    name = first if at == "running" else second
    await where.cancel(name)
    end = await where.wait(name, 5)
    assert end.done
    assert isinstance(end.error, Cancelled)
    assert work.failed == [(name.removeprefix("operations/work-"), "CANCELLED")]
    await where.cancel(name)
    await where.aclose()

    later = Work()
    later.free.set()
    where = operations(tmp_path, later)
    await where.start()
    assert (await where.wait(second if at == "running" else first, 5)).done
    again = where.get(name)
    assert isinstance(again.error, Cancelled)
    assert later.began == (["second"] if at == "running" else ["first"])


async def test_failures_keep_their_kind_reason_and_numbers_over_a_restart(tmp_path: Path) -> None:
    work = Work()
    where = operations(tmp_path, work)
    await where.start()
    expected = await submit(where, "a", error=True)
    unexpected = await submit(where, "b", bug=True)
    for name in (expected, unexpected):
        await where.wait(name, 5)
    where = operations(tmp_path, Work())
    await where.start()
    error = where.get(expected).error
    assert isinstance(error, ContextOverflow)
    assert (error.reason, error.details) == ("CONTEXT_OVERFLOW", {"tokens": "9"})
    other = where.get(unexpected).error
    assert other is not None
    assert (other.reason, "secret" in other.message) == ("INTERNAL", False)


async def test_cancelling_what_makes_a_resource_waits_until_it_has_stopped(tmp_path: Path) -> None:
    work = Work()
    where = operations(tmp_path, work)
    await where.start()
    await submit(where, "a")
    await submit(where, "b")
    await asyncio.sleep(0.02)
    assert where.open_targets() == {"things/a", "things/b"}
    await where.cancel_target("things/a")
    assert work.running == 1
    assert where.open_targets() == {"things/b"}
    await where.aclose()


async def test_a_damaged_record_does_not_keep_the_server_from_starting(tmp_path: Path) -> None:
    work = Work()
    where = operations(tmp_path, work)
    await where.start()
    await submit(where, "a")
    await submit(where, "b")
    await where.aclose()
    path = tmp_path / "operations" / "work-a.json"
    path.write_bytes(path.read_bytes()[:-20])
    work = Work()
    where = operations(tmp_path, work)
    await where.start()
    assert [info.target for info in where.all()] == ["things/b"]
    await where.aclose()


def test_speed_is_that_of_the_last_seconds() -> None:
    now = 0.0
    progress = Progress(clock=lambda: now)
    assert progress.speed() == (0.0, 0.0)
    progress.enter("scoring", 1000, done=100)
    for _ in range(10):
        now += 1
        progress.advance(50)
    assert progress.speed() == (50.0, 8.0)
    for _ in range(40):
        now += 1
        progress.advance(1)
    rate, left = progress.speed()
    assert rate == pytest.approx(1.0, rel=0.1)
    assert left == pytest.approx(360, rel=0.1)
    now += 10 * WINDOW_SECONDS
    assert progress.speed()[0] < 0.1
    progress.enter("testing", 7)
    assert (progress.phase, progress.done, progress.total, progress.speed()) == ("testing", 0, 7, (0.0, 0.0))


async def test_blocking_work_stops_at_a_safe_point_before_its_caller_goes_on() -> None:
    progress = Progress()
    steps: list[str] = []
    began = threading.Event()

    def work() -> None:
        steps.append(threading.current_thread().name)
        began.set()
        try:
            while True:
                time.sleep(0.005)
                progress.check()
        finally:
            steps.append("ended")

    task = asyncio.ensure_future(progress.in_thread(work))
    assert await asyncio.to_thread(began.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["assay-job", "ended"]


class Told:
    """A telemetry that remembers."""

    def __init__(self) -> None:
        self.levels: dict[tuple[str, str], list[int]] = {}
        self.ends: list[tuple[str, str, list[str]]] = []

    def queued(self, kind: str, change: int) -> None:
        self._change("queued", kind, change)

    def running(self, kind: str, change: int) -> None:
        self._change("running", kind, change)

    def _change(self, what: str, kind: str, change: int) -> None:
        levels = self.levels.setdefault((what, kind), [])
        levels.append((levels[-1] if levels else 0) + change)

    def ended(self, kind: str, outcome: str, phases: Mapping[str, float]) -> None:
        assert all(seconds >= 0 for seconds in phases.values())
        self.ends.append((kind, outcome, list(phases)))

    def audited(self, pairs: int, seconds: float) -> None:
        raise AssertionError("no audit ran")


async def test_telemetry_hears_what_waits_what_runs_and_how_it_ended(tmp_path: Path) -> None:
    work, told = Work(), Told()
    where = Operations(Files(str(tmp_path)), {"lane": 1}, told)
    where.register("work", work, lane="lane", on_failure=work.on_failure)
    assert told.levels == {("queued", "work"): [0], ("running", "work"): [0]}
    await where.start()
    names = [await submit(where, "a"), await submit(where, "b", error=True), await submit(where, "c"), await submit(where, "d")]
    await asyncio.sleep(0.02)
    assert (told.levels["queued", "work"][-1], told.levels["running", "work"][-1]) == (3, 1)
    await where.cancel(names[2])  # it never ran
    await where.wait(names[2], 5)
    work.free.set()
    for name in names:
        await where.wait(name, 5)
    assert (told.levels["queued", "work"][-1], told.levels["running", "work"][-1]) == (0, 0)
    assert max(told.levels["running", "work"]) == 1
    assert min(level for levels in told.levels.values() for level in levels) == 0
    ran = ["waiting", "scoring"]
    assert sorted(told.ends) == [
        ("work", "cancelled", ["waiting"]),
        ("work", "done", ran),
        ("work", "done", ran),
        ("work", "failed", ran),
    ]


def test_seconds_of_a_phase_add_up_over_its_returns() -> None:
    now = [0.0]
    progress = Progress(lambda: now[0])
    for phase, seconds in (("scoring", 2.0), ("testing", 3.0), ("scoring", 5.0)):
        now[0] += 1.0
        progress.enter(phase)
        now[0] += seconds
    assert progress.seconds() == {"waiting": 1.0, "scoring": 8.0, "testing": 4.0}
