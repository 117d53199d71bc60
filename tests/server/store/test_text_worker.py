"""The process that describes texts: the same bytes as here, an error with a reason when it dies, and none left behind."""

import io
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from assay_server.errors import EngineFailure
from assay_server.store.pairs import to_parquet
from assay_server.store.text_worker import TextWorker, receive, send, serve, text_worker
from assay_server.store.texts import described

from tests.server.store.builders import make_texts
from tests.support.children import running, text_workers
from tests.support.processes import started
from tests.support.waiting import wait_until

SHARDS = [to_parquet(make_texts(count, seed=count)) for count in (1, 30, 7)]
PARENT = """
import sys
from assay_server.store.text_worker import TextWorker, receive
worker = TextWorker()
print(len(worker.described(receive(sys.stdin.buffer))), flush=True)
worker.described(receive(sys.stdin.buffer))
"""


class Narrow(io.BytesIO):
    """A pipe that takes and gives a few bytes at a time, as a raw one may."""

    def write(self, data: Any) -> int:
        return super().write(bytes(data[:3]))

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 5))


@pytest.mark.parametrize("frames", [[], [b""], [b"x" * 1000, b"", b"yz"]])
def test_frames_come_whole_through_a_pipe_that_takes_parts(frames: list[bytes]) -> None:
    pipe = Narrow()
    for frame in frames:
        send(pipe, frame)
    pipe.seek(0)
    assert [receive(pipe) for _ in frames] == frames
    assert receive(pipe) is None


@pytest.mark.parametrize("kept", [0, 3, 8, 11])
def test_a_frame_that_breaks_off_is_none(kept: int) -> None:
    pipe = io.BytesIO()
    send(pipe, b"four")
    assert receive(io.BytesIO(pipe.getvalue()[:kept])) is None


def test_requests_are_answered_in_order_until_they_end() -> None:
    requests, answers = io.BytesIO(), io.BytesIO()
    for shard in SHARDS:
        send(requests, shard)
    requests.seek(0)
    serve(requests, answers)
    answers.seek(0)
    assert [receive(answers) for _ in SHARDS] == [described(shard) for shard in SHARDS]
    assert receive(answers) is None


def test_a_process_of_its_own_gives_the_bytes_that_are_given_here() -> None:
    with text_worker() as worker:
        (process,) = text_workers(os.getpid())
        assert [worker.described(shard) for shard in SHARDS] == [described(shard) for shard in SHARDS]
    assert not running(process)


def test_a_worker_that_is_killed_at_work_is_an_error_and_not_a_wait() -> None:
    worker = TextWorker()
    (process,) = text_workers(os.getpid())
    os.kill(process, signal.SIGSTOP)
    failures: list[EngineFailure] = []

    def ask() -> None:
        try:
            worker.described(SHARDS[1])
        except EngineFailure as failure:
            failures.append(failure)

    asking = threading.Thread(target=ask)
    asking.start()
    os.kill(process, signal.SIGKILL)
    asking.join()
    (failure,) = failures
    assert failure.reason == "TEXT_WORKER_DIED"
    assert "status -9" in failure.message
    with pytest.raises(EngineFailure):
        worker.described(SHARDS[0])
    worker.close()
    worker.close()


def test_what_cannot_be_read_as_pairs_ends_the_worker_with_an_error() -> None:
    with text_worker() as worker, pytest.raises(EngineFailure) as failed:
        worker.described(b"no Parquet")
    assert failed.value.reason == "TEXT_WORKER_DIED"


def test_a_worker_ends_when_its_parent_is_killed() -> None:
    with started([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        send(parent.stdin.buffer, SHARDS[2])  # type: ignore[attr-defined]
        assert int(parent.stdout.readline()) == len(described(SHARDS[2]))
        (process,) = text_workers(parent.pid)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_until(lambda: not running(process), "the worker ends")
