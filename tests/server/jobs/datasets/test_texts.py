"""Reading a dataset's texts: missing shards only, the same bytes by any number of processes, and none left behind."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from assay_server.errors import Cancelled, DataLoss, EngineFailure
from assay_server.jobs.datasets.texts import FEW_PAIRS, read_texts
from assay_server.jobs.operations.progress import Progress
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.files import Files
from assay_server.store.texts import Texts, described

from tests.server.store.builders import make_texts
from tests.support.children import text_workers
from tests.support.waiting import wait_until

PAIRS = make_texts(100)


class Stored:
    """A dataset of seven shards in a folder, of which no text is described."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = Files(str(folder))
        self.datasets = Datasets(self.files, 16)
        self.dataset: Dataset = self.datasets.write(lambda: [PAIRS], "x")
        self.texts = Texts(self.files, self.dataset.id)

    def read(self, progress: Progress, workers: int | None = None) -> Texts:
        return read_texts(self.files, self.datasets, self.dataset, progress, workers=workers)

    def held(self) -> dict[str, bytes]:
        """What is on disk of the texts, by name."""
        return {path.name: path.read_bytes() for path in sorted((self.folder / self.texts.root).glob("*"))}

    def missing(self) -> list[int]:
        return self.texts.missing(self.dataset.shards)


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    yield
    assert text_workers(os.getpid()) == []


class Watching(Progress):
    """Progress that does something after each shard."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def advance(self, count: int) -> None:
        super().advance(count)
        self.counts.append(count)
        self.after()

    def after(self) -> None:
        """After a shard."""


@pytest.mark.parametrize("workers", [0, 1, 2, 20])
def test_any_number_of_processes_gives_the_same_bytes(stored: Stored, workers: int) -> None:
    progress = Watching()
    texts = stored.read(progress, workers)
    assert (progress.phase, progress.done, progress.total) == ("reading texts", 100, 100)
    assert sorted(progress.counts) == [4, *[16] * 6]
    assert stored.missing() == []
    for shard in range(7):
        assert stored.held()[f"{shard:05d}.parquet"] == described(stored.datasets.bytes(stored.dataset, shard))
    assert texts.root == stored.texts.root


def test_only_what_is_missing_is_read(stored: Stored) -> None:
    stored.read(Progress())
    before = stored.held()
    root = stored.folder / stored.texts.root
    (root / "00003.json").unlink()
    (root / "00005.parquet").write_bytes(b"damaged")
    progress = Watching()
    stored.read(progress)
    assert progress.counts == [16, 16]
    assert (progress.done, progress.total) == (100, 100)
    assert stored.held() == before


def test_what_is_described_already_is_no_phase_of_its_own(stored: Stored) -> None:
    stored.read(Progress())
    progress = Progress()
    progress.enter("testing")
    stored.read(progress)
    assert progress.phase == "testing"


def test_a_small_dataset_starts_no_process_and_a_large_one_does(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    datasets = Datasets(files, FEW_PAIRS // 2)
    for count, processes in ((FEW_PAIRS - 1, False), (FEW_PAIRS, True)):
        seen: list[int] = []

        class Looking(Watching):
            def after(self) -> None:
                seen.extend(text_workers(os.getpid()))  # noqa: B023

        dataset = datasets.write(lambda: [make_texts(count)], "x")  # noqa: B023
        read_texts(files, datasets, dataset, Looking())
        assert bool(seen) is processes


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_reading_that_is_told_to_stop_stops_between_shards_and_goes_on_there(stored: Stored, workers: int) -> None:
    class Stopping(Watching):
        def after(self) -> None:
            self.stop()

    with pytest.raises(Cancelled):
        stored.read(Stopping(), workers)
    left = stored.missing()
    assert 7 - max(workers, 1) <= len(left) < 7
    assert text_workers(os.getpid()) == []
    progress = Watching()
    stored.read(progress, workers)
    assert len(progress.counts) == len(left)
    assert stored.missing() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_is_killed_fails_the_reading_and_keeps_what_was_read(stored: Stored, workers: int) -> None:
    class Killing(Watching):
        def after(self) -> None:
            for process in text_workers(os.getpid()):
                os.kill(process, signal.SIGKILL)

    with pytest.raises(EngineFailure) as failed:
        stored.read(Killing(), workers)
    assert failed.value.reason == "TEXT_WORKER_DIED"
    assert 0 < len(stored.missing()) < 7
    stored.read(Progress(), workers)
    assert stored.missing() == []


def test_a_damaged_shard_of_pairs_fails_the_reading(stored: Stored) -> None:
    path = stored.folder / "datasets" / stored.dataset.id / "pairs-00002.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataLoss):
        stored.read(Progress(), 2)
    assert 2 in stored.missing()


def test_two_readings_at_once_end_with_the_same_files(stored: Stored) -> None:
    threads = [threading.Thread(target=stored.read, args=(Progress(), 1)) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: not any(thread.is_alive() for thread in threads), "both readings end")
    assert stored.missing() == []
