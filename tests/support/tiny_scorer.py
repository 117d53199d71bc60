"""A real scorer around the tiny subject: real tokenizer, real cache, real batcher; tests watch it and get in its way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from assay_server.batching import Batcher, Planner
from assay_server.cache import FeatureCache, LruCache
from assay_server.errors import AssayError
from assay_server.scorer import Item, Scored, ScoreOptions, Scorer
from assay_server.subject.types import Pair, Pooled

from tests.support.tiny_subject import Watched, nothing_left, tiny_subject
from tests.support.waiting import PATIENCE, until

Begin = Callable[..., Scorer]


class WatchedTokenizer:
    """The subject's tokenizer: counts what it is asked, and can be held."""

    def __init__(self) -> None:
        self.calls = 0
        self.free = threading.Event()
        self.free.set()

    def __getattr__(self, name: str) -> Any:
        method = getattr(tiny_subject().tokenizer, name)
        if name not in ("pair", "response", "text"):
            return method

        def counted(*args: Any) -> Any:
            self.calls += 1
            assert self.free.wait(PATIENCE), "the test never let the tokenizer go on"
            return method(*args)

        return counted


class WatchedCache(LruCache):
    """A real memory cache that counts, and can be slow or forget everything."""

    def __init__(self, *, delay: float = 0.0, forgets: bool = False) -> None:
        super().__init__(64 << 20)
        self.asked: list[bytes] = []
        self.put: list[bytes] = []
        self._delay, self._forgets = delay, forgets

    async def get_many(self, keys: Sequence[bytes]) -> list[Pooled | None]:
        self.asked += keys
        if self._delay:
            await asyncio.sleep(self._delay)
        found = await super().get_many(keys)
        return [None] * len(keys) if self._forgets else found

    def put_many(self, entries: Sequence[tuple[bytes, Pooled]]) -> None:
        self.put += [key for key, _ in entries]
        super().put_many(entries)


@asynccontextmanager
async def scorers(watched: Watched, tokenizer: WatchedTokenizer) -> AsyncIterator[Begin]:
    """Starts scorers. Afterwards: nothing queued, reserved, waiting, claimed or running, and no exception was left unseen."""
    watched.tokenizer = tokenizer
    started: list[Scorer] = []

    def begin(*, cache: FeatureCache | None = None, bound: int = 1_000_000, budget: int = 400, remembered: int = 1000) -> Scorer:
        batcher = Batcher(watched.subject, Planner(budget))
        batcher.start()
        cache = LruCache(64 << 20) if cache is None else cache
        scorer = Scorer(watched.subject, cache, batcher, max_tokens_in_flight=bound, remembered_texts=remembered)
        started.append(scorer)
        return scorer

    async with nothing_left():
        yield begin
        watched.release()
        tokenizer.free.set()
        for scorer in started:
            await until(lambda scorer=scorer: at_rest(scorer))
            await scorer.aclose()
            assert not any(thread.is_alive() for thread in scorer._batcher._threads)
    assert watched.threads <= {"assay-device"}


def at_rest(scorer: Scorer) -> bool:
    """Whether a scorer holds nothing of any call."""
    admission = scorer._admission
    queued = any(scorer._batcher._lanes.values()) and not scorer._batcher._closed
    return not (scorer.tokens_in_flight or admission._reserved or admission._waiting or len(scorer._flight) or queued)


def pair_of(tokens: int, seed: int = 0) -> Pair:
    """A pair of raw text of exactly that many tokens, at least 12, that no other seed has."""
    start = f"{seed:04d}:"
    chosen = tokens - len(start) - (tokens - len(start)) // 2
    return Pair(start, "a" * chosen, "b" * (tokens - len(start) - chosen))


def scored(outcome: Scored | AssayError) -> Scored:
    """An outcome that is no error."""
    assert isinstance(outcome, Scored), outcome
    return outcome


async def score_one(scorer: Scorer, item: Item, options: ScoreOptions | None = None, **more: Any) -> Scored:
    (outcome,) = await asyncio.wait_for(scorer.score([item], options or ScoreOptions(), **more), PATIENCE)
    return scored(outcome)
