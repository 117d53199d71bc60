"""Statistics run in a thread: a cancellation or a stopping server ends them at their next question; the next start goes on."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from assay_server.errors import Cancelled
from assay_server.jobs.audits.types import AuditState
from assay_server.jobs.operations.progress import Progress
from assay_server.scorer import Scorer

from tests.server.jobs.worlds import QUICK, audit, everywhere, lesson, open_library, upload
from tests.support.waiting import PATIENCE

PAIRS = lesson(70)
SLOW = everywhere(QUICK, lambda statistics: replace(statistics, max_t_flips=4_096))
SHARES = (0.05, 0.5, 0.98)


class Questions:
    """The questions that the statistics' thread asks; at one of them it waits until it was asked to stop."""

    def __init__(self, hold: int) -> None:
        self.hold = hold
        self.asked = 0
        self.held = threading.Event()
        self.refused = 0

    def ask(self, progress: Progress, check: Callable[[Progress], None]) -> None:
        if threading.current_thread().name != "assay-job":
            check(progress)
            return
        self.asked += 1
        if self.asked == self.hold:
            self.held.set()
            assert _stopped(progress)
        try:
            check(progress)
        except Cancelled:
            self.refused += 1
            raise


def _stopped(progress: Progress) -> bool:
    until = time.monotonic() + PATIENCE
    while not progress.stopping and time.monotonic() < until:
        time.sleep(0.001)
    return progress.stopping


@contextmanager
def questions(monkeypatch: pytest.MonkeyPatch, hold: int = 0) -> Iterator[Questions]:
    seen, check = Questions(hold), Progress.check
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "check", lambda progress: seen.ask(progress, check))
        yield seen


@pytest.fixture
async def calm(tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """What an undisturbed audit says, and how often its statistics ask."""
    async with open_library(tmp_path / "calm", scorer) as library:
        dataset = await upload(library, PAIRS)
        with questions(monkeypatch) as seen:
            return (await audit(library, dataset, SLOW)).result_fingerprint, seen.asked


async def test_an_audit_ends_at_the_next_question_and_goes_on_to_the_same_bits(
    tmp_path: Path, scorer: Scorer, calm: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, asked = calm
    assert asked > 150
    for share in SHARES:
        hold, folder = max(1, int(share * asked)), tmp_path / f"stormy-{share}"
        async with open_library(folder, scorer) as library:
            dataset = await upload(library, PAIRS)
            with questions(monkeypatch, hold) as seen:
                operation = await library.audits.create(dataset, SLOW)
                assert await asyncio.to_thread(seen.held.wait, 60)
                await library.operations.cancel(operation.name)
                end = await library.operations.wait(operation.name, PATIENCE)
            assert isinstance(end.error, Cancelled)
            assert (seen.asked, seen.refused) == (hold, 1)
            assert (await library.audits.get(operation.target)).state is AuditState.CANCELLED

        with questions(monkeypatch, hold) as seen:
            async with open_library(folder, scorer) as library:
                operation = await library.audits.create(dataset, SLOW)
                assert await asyncio.to_thread(seen.held.wait, 60)
            assert (seen.asked, seen.refused) == (hold, 1)

        async with open_library(folder, scorer) as library:
            end = await library.operations.wait(operation.name, PATIENCE)
            assert (end.error, end.resumed) == (None, 1)
            assert (await library.audits.get(end.response)).result_fingerprint == expected
