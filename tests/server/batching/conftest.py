"""A real batcher around a watched real subject, and the promises that hold at the end of every test."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from assay_server.batching import Batcher, NullEngineObserver, Planner

from tests.support.tiny_subject import Watched, nothing_left
from tests.support.waiting import until

Start = Callable[..., Batcher]


class Recorder(NullEngineObserver):
    """Remembers what an engine told."""

    def __init__(self) -> None:
        self.queued_tokens: dict[str, int] = {}
        self.batches: list[tuple[int, int, float, int]] = []
        self.waits: list[tuple[str, float]] = []

    def batch(self, tokens_read: int, tokens_saved: int, useful_fraction: float, seconds: float, pairs: int) -> None:
        assert seconds > 0
        self.batches.append((tokens_read, tokens_saved, useful_fraction, pairs))

    def queued(self, lane: str, tokens: int) -> None:
        assert tokens >= 0, "a lane cannot hold less than nothing"
        self.queued_tokens[lane] = tokens

    def queue_wait(self, lane: str, seconds: float) -> None:
        self.waits.append((lane, seconds))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def start(watched: Watched, recorder: Recorder) -> AsyncIterator[Start]:
    """Starts the batcher. Afterwards: nothing is in flight or queued, only the device thread read, and both threads end."""
    batchers: list[Batcher] = []

    def begin(*, budget: int = 300, padded: bool = False, bulk_max_age: float = 60.0, window: int = 512) -> Batcher:
        planner = Planner(budget, window, padded=padded)
        batcher = Batcher(watched.subject, planner, recorder, bulk_max_age=bulk_max_age)
        batcher.start()
        batchers.append(batcher)
        return batcher

    async with nothing_left():
        yield begin
        watched.release()
        for batcher in batchers:
            await until(lambda batcher=batcher: batcher.tokens_in_flight == 0)
            if not batcher._closed:
                await until(lambda: not any(recorder.queued_tokens.values()))
            await asyncio.to_thread(batcher.close)
            assert not any(thread.is_alive() for thread in batcher._threads)
    assert watched.threads <= {"assay-device"}
