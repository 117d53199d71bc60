"""Uploads as jobs: complete at the number that was announced, asked about cheaply, right after whatever went wrong."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from assay_server.errors import FailedPrecondition, NotFound
from assay_server.jobs.datasets.jobs import DatasetJobs
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.run import Imports
from assay_server.jobs.datasets.scoring import ScoringOptions
from assay_server.jobs.operations.jobs import Operations
from assay_server.store.datasets import Datasets
from assay_server.store.files import DataDir, Files
from assay_server.store.uploads import Position, Upload, Uploads
from assay_server.subject.types import Pair

from tests.server.store.builders import make_pairs
from tests.support.fake_scorer import INFO, FakeScorer
from tests.support.waiting import PATIENCE


class SlowUploads(Uploads):
    """Uploads that count how often a folder is read, and wait before they store where a test says so."""

    reads = 0
    gate: threading.Event | None = None

    def get(self, request_id: str) -> tuple[Upload, Position]:
        self.reads += 1
        return super().get(request_id)

    def append(self, request_id: str, position: Position, sequence: int, pairs: Sequence[Pair], sent_bytes: int) -> Position:
        if self.gate is not None:
            self.gate.wait(PATIENCE)
        return super().append(request_id, position, sequence, pairs, sent_bytes)


class CountingFiles(Files):
    """Files that remember what JSON was read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.read_paths: list[str] = []

    def read_json(self, path: str) -> dict[str, Any]:
        self.read_paths.append(path)
        return super().read_json(path)


def jobs_over(files: Files, shard_pairs: int, uploads: Uploads) -> DatasetJobs:
    """The datasets of a folder, of which nothing is scored or imported."""
    store, operations = Datasets(files, shard_pairs), Operations(files, {"imports": 1})
    reader = DatasetReader(files, store, FakeScorer(), ScoringOptions())
    return DatasetJobs(files, store, uploads, reader, Imports(store, operations, max_pairs=1000), operations, INFO)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[DatasetJobs, SlowUploads]]:
    with DataDir(str(folder)) as data:
        uploads = SlowUploads(data.files, 1000)
        yield jobs_over(data.files, 16, uploads), uploads


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[DatasetJobs, SlowUploads]]:
    async with opened(tmp_path) as made:
        yield made


async def fill(jobs: DatasetJobs, batches: int = 3, request_id: str = "up") -> list[Pair]:
    pairs = make_pairs(5 * batches)
    await jobs.begin(request_id, "name")
    for sequence in range(batches):
        await jobs.append(request_id, sequence, pairs[5 * sequence : 5 * sequence + 5], 100)
    return pairs


@pytest.mark.parametrize("announced", [0, 14, 16])
async def test_an_upload_is_complete_at_the_number_of_pairs_that_its_end_announces(
    both: tuple[DatasetJobs, SlowUploads], announced: int
) -> None:
    jobs, _ = both
    await fill(jobs)
    with pytest.raises(FailedPrecondition, match=r"15 pairs .* announces \d+") as refused:
        await jobs.finish("up", announced)
    assert refused.value.reason == "UPLOAD_INCOMPLETE"
    assert refused.value.details == {"stored": "15", "announced": str(announced), "next_sequence": "3"}
    assert (await jobs.position("up")).dataset is None
    made = await jobs.finish("up", 15)
    assert (made.pairs, await jobs.finish("up", 15)) == (15, made)
    with pytest.raises(FailedPrecondition, match="Use another request_id") as refused:
        await jobs.finish("up", announced)
    assert refused.value.details == {"stored": "15", "announced": str(announced)}


async def test_what_was_sent_is_counted_over_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as (jobs, _):
        await fill(jobs)
        assert (await jobs.position("up")).sent_bytes == 300
    async with opened(tmp_path) as (jobs, _):
        assert (await jobs.begin("up", "")).sent_bytes == 300
        assert (await jobs.append("up", 3, make_pairs(1), 7)).sent_bytes == 307


async def test_an_upload_under_way_is_asked_about_without_reading_what_it_holds(both: tuple[DatasetJobs, SlowUploads]) -> None:
    jobs, uploads = both
    await fill(jobs)
    before = uploads.reads
    for _ in range(5):
        position = await jobs.position("up")
    assert (position.next_sequence, position.pairs) == (3, 15)
    assert uploads.reads == before


async def test_a_batch_whose_caller_went_away_is_counted_where_it_was_stored(both: tuple[DatasetJobs, SlowUploads]) -> None:
    jobs, uploads = both
    await fill(jobs, 1)
    uploads.gate = threading.Event()
    appending = asyncio.create_task(jobs.append("up", 1, make_pairs(5, seed=1), 100))
    await asyncio.sleep(0)
    asking = asyncio.create_task(jobs.position("up"))
    await asyncio.sleep(0)
    appending.cancel()
    uploads.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await appending
    position = await asking
    assert (position.next_sequence, position.pairs, position.sent_bytes) == (2, 10, 200)


async def test_a_batch_that_was_damaged_meanwhile_is_asked_for_again(
    both: tuple[DatasetJobs, SlowUploads], tmp_path: Path
) -> None:
    jobs, _ = both
    pairs = await fill(jobs)
    (path,) = (tmp_path / "uploads/up").glob("00000001-*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FailedPrecondition) as refused:
        await jobs.finish("up", 15)
    assert refused.value.reason == "UPLOAD_DAMAGED"
    assert (await jobs.position("up")).next_sequence == 1
    for sequence in (1, 2):
        await jobs.append("up", sequence, pairs[5 * sequence : 5 * sequence + 5], 100)
    made = await jobs.finish("up", 15)
    assert [pair async for _, chunk in jobs.read(made.name) for pair in chunk] == pairs


async def test_a_damaged_dataset_hides_no_other_and_can_be_deleted(
    both: tuple[DatasetJobs, SlowUploads], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs, _ = both
    made = []
    for seed in range(2):
        request_id = f"up-{seed}"
        await jobs.begin(request_id, "name")
        await jobs.append(request_id, 0, make_pairs(20, seed), 100)
        made.append(await jobs.finish(request_id, 20))
    manifest = tmp_path / made[0].name / "dataset.json"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    assert [info.name for info in await jobs.all()] == [made[1].name]
    assert "a dataset is not listed" in caplog.text
    await jobs.delete(made[0].name)
    assert not manifest.parent.exists()
    with pytest.raises(NotFound):
        await jobs.delete(made[0].name)


async def test_datasets_are_listed_without_a_look_at_their_shards(tmp_path: Path) -> None:
    files = CountingFiles(str(tmp_path))
    jobs = jobs_over(files, 4, Uploads(files, 1000))
    await fill(jobs)
    made = await jobs.finish("up", 15)
    files.read_paths.clear()
    assert [(info.name, info.pairs, info.created) for info in await jobs.all()] == [(made.name, 15, made.created)]
    assert files.read_paths == [f"{made.name}/dataset.json"]
