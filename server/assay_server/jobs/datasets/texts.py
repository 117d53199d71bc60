"""Reads the texts of a dataset: shards that are not described yet go to worker processes, the rest is read from files.

Only the bytes of shards travel, there and back; a worker is a process of its own because reading texts is Python's work, which
threads of one process cannot share. A small dataset is described here, faster than a process starts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from assay_server.jobs.operations.progress import Progress
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.files import Files
from assay_server.store.text_worker import text_worker
from assay_server.store.texts import Texts, described

PHASE = "reading texts"
FEW_PAIRS = 2_048  # a process takes half a second to start
MOST_WORKERS = 8


class _Describer(Protocol):
    def described(self, pairs: bytes) -> bytes: ...


class _Here:
    described = staticmethod(described)


def read_texts(files: Files, datasets: Datasets, dataset: Dataset, progress: Progress, *, workers: int | None = None) -> Texts:
    """A dataset's texts, after describing the missing shards. Blocks: call it in a thread.

    Args:
        files: the data directory's.
        datasets: those in it.
        dataset: which.
        progress: counts pairs through "reading texts", and may stop the work.
        workers: processes; by default one per core that this process may use, at most 8.

    Raises:
        DataLoss: a shard of pairs is damaged.
        EngineFailure: TEXT_WORKER_DIED.
        Cancelled: the work was asked to stop.
    """
    texts = Texts(files, dataset.id)
    todo = texts.missing(dataset.shards)
    pairs = sum(dataset.shards[shard].pairs for shard in todo)
    if not todo:
        return texts
    progress.enter(PHASE, dataset.pairs, dataset.pairs - pairs)
    if workers is None:
        workers = 0 if pairs < FEW_PAIRS else min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    make: Callable[[], AbstractContextManager[_Describer]] = text_worker if workers else lambda: nullcontext(_Here())
    _Reading(datasets, dataset, texts, progress, todo).run(make, min(max(workers, 1), len(todo)))
    return texts


class _Reading:
    """Shards that wait, taken by threads that each hold one worker."""

    def __init__(self, datasets: Datasets, dataset: Dataset, texts: Texts, progress: Progress, todo: Sequence[int]) -> None:
        self._datasets = datasets
        self._dataset = dataset
        self._texts = texts
        self._progress = progress
        self._todo = list(reversed(todo))
        self._guard = threading.Lock()
        self._failures: list[BaseException] = []

    def run(self, make: Callable[[], AbstractContextManager[_Describer]], count: int) -> None:
        threads = [threading.Thread(target=self._work, args=(make,), name="assay-texts", daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _work(self, make: Callable[[], AbstractContextManager[_Describer]]) -> None:
        try:
            with make() as worker:
                while (shard := self._next()) is not None:
                    self._progress.check()
                    entry = self._dataset.shards[shard]
                    self._texts.write(shard, entry, worker.described(self._datasets.bytes(self._dataset, shard)))
                    self._progress.advance(entry.pairs)
        except BaseException as error:  # told to the caller, who waits
            with self._guard:
                self._failures.append(error)

    def _next(self) -> int | None:
        with self._guard:
            return self._todo.pop() if self._todo and not self._failures else None
