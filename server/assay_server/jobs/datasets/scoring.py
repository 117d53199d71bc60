"""Scores the shards of a dataset that are not stored yet, through the one ``Scorer``.

What is guaranteed: on one machine, with one configuration (``shard_pairs``, ``batch_tokens``, ``threads``), a shard's bits depend
on its pairs and the subject alone. Shards are cut into chunks of a fixed size, every chunk is one *sealed* call (batches of its
own, the cache not read), and a shard is stored whole or not at all. So it does not matter when a server died, what else it
served, or what its cache held. ``reuse_cache`` trades that for speed: pairs that were scored live then come from the cache.

Of several operations that need the shards of one dataset at once, one scores at a time; the others then find them stored.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from assay_server.errors import AssayError, InvalidItem
from assay_server.jobs.operations.progress import Progress
from assay_server.scorer import CacheState, Lane, Scored, ScoreOptions, ScorerLike
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.features import DirectionSet, Features, ShardCost
from assay_server.subject.pair_checks import check_pair
from assay_server.subject.types import Directions, Pair, Pooled, SpanName

# Errors of the engine that are a pair's own fault: it will meet them every time.
_OWN_FAULTS = frozenset({"NON_FINITE", "OUT_OF_MEMORY"})


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """How datasets are scored.

    Attributes:
        chunk_pairs: pairs of one sealed call.
        reuse_cache: take what the cache has instead of reading in sealed batches.
        max_text_bytes: UTF-8 bytes of one pair's texts.
    """

    chunk_pairs: int = 64
    reuse_cache: bool = False
    max_text_bytes: int = 1 << 20


def chunk_pairs_for(batch_tokens: int) -> int:
    """Pairs of a sealed call: enough that its last, partly filled batch costs a few percent of it at most."""
    return max(64, batch_tokens // 16)


async def score_missing(
    scorer: ScorerLike,
    datasets: Datasets,
    dataset: Dataset,
    features: Features,
    directions: DirectionSet,
    options: ScoringOptions,
    progress: Progress,
    *,
    told: Callable[[Sequence[int]], Awaitable[None]] | None = None,
) -> ShardCost:
    """Score what is missing of a dataset's features, and of its scores along the directions, shard by shard.

    Args:
        scorer: the one path from pairs to features.
        datasets: where the pairs are.
        dataset: whose they are.
        features: where they go.
        directions: that scores are wanted along.
        options: how they are scored.
        progress: counts pairs through "scoring".
        told: awaited with the shards whose features are missing, which this call is about to score.

    Returns:
        What passes cost that stored no features, only scores along directions: the others' costs are stored with them.

    Raises:
        DataLoss: a shard of pairs is damaged.
        AssayError: the engine failed; what was stored stays.
    """
    async with _lock_of(features.root):
        lacks_features = set(await asyncio.to_thread(features.missing, dataset.shards))
        lacks_directions = set(await asyncio.to_thread(features.missing_directions, directions, dataset.shards))
        if told is not None:
            await told(sorted(lacks_features))
        todo = sorted(lacks_features | lacks_directions)
        progress.enter("scoring", dataset.pairs, dataset.pairs - sum(dataset.shards[shard].pairs for shard in todo))
        apart: list[ShardCost] = []
        for shard in todo:
            entry = dataset.shards[shard]
            pairs = await asyncio.to_thread(datasets.read, dataset, shard)
            wanted = directions if shard in lacks_directions else None
            began = time.monotonic()
            outcomes = await _Shard(scorer, options, wanted, shard in lacks_features, progress).score(pairs)
            cost = _cost(outcomes, time.monotonic() - began)
            if wanted is not None:
                chosen, rejected = _along(outcomes, len(wanted.vectors))
                await asyncio.to_thread(features.write_directions, wanted, shard, entry, chosen, rejected)
            if shard in lacks_features:
                pooled = [outcome.pooled if isinstance(outcome, Scored) else outcome for outcome in outcomes]
                await asyncio.to_thread(features.write, shard, entry, pairs, pooled, cost)
            else:
                apart.append(cost)
    return total_cost(apart)


_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, asyncio.Lock]] = WeakKeyDictionary()
"""By event loop and folder of features; a lock lives while it is held or awaited."""


def _lock_of(root: str) -> asyncio.Lock:
    locks = _locks.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    return locks.setdefault(root, asyncio.Lock())


def total_cost(costs: Iterable[ShardCost]) -> ShardCost:
    """Costs added up."""
    total = ShardCost()
    for cost in costs:
        total = ShardCost(
            total.tokens_read + cost.tokens_read,
            total.tokens_shared + cost.tokens_shared,
            total.cache_hits + cost.cache_hits,
            total.seconds + cost.seconds,
        )
    return total


class _Shard:
    """Scores one shard's pairs, two chunks at a time, so that the device does not wait for the next."""

    def __init__(
        self,
        scorer: ScorerLike,
        options: ScoringOptions,
        directions: DirectionSet | None,
        include_prompt: bool,
        progress: Progress,
    ) -> None:
        along = None if directions is None else Directions(directions.vectors, bytes.fromhex(directions.digest))
        self._scorer = scorer
        self._options = options
        self._progress = progress
        self._how = ScoreOptions(
            include_prompt=include_prompt,
            directions=along,
            lane=Lane.BULK,
            patient=True,
            sealed=not options.reuse_cache,
        )

    async def score(self, pairs: Sequence[Pair]) -> list[Scored | str]:
        size = self._options.chunk_pairs
        under_way: deque[asyncio.Task[list[Scored | str]]] = deque()
        outcomes: list[Scored | str] = []
        try:
            for start in range(0, len(pairs), size):
                under_way.append(asyncio.ensure_future(self._chunk(pairs[start : start + size])))
                if len(under_way) > 1:
                    outcomes += await under_way.popleft()
            while under_way:
                outcomes += await under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        return outcomes

    async def _chunk(self, pairs: Sequence[Pair]) -> list[Scored | str]:
        outcomes: list[Scored | str] = [self._fault(pair) for pair in pairs]
        sound = [index for index, fault in enumerate(outcomes) if not fault]
        if sound:
            scored = await self._scorer.score([pairs[index] for index in sound], self._how)
            for index, outcome in zip(sound, scored, strict=True):
                outcomes[index] = outcome if isinstance(outcome, Scored) else _reason(outcome)
        self._progress.advance(len(pairs))
        return outcomes

    def _fault(self, pair: Pair) -> str:
        """Why a pair cannot be scored, as far as is known without a model."""
        try:
            check_pair(pair, max_text_bytes=self._options.max_text_bytes)
        except InvalidItem as error:
            return error.reason
        return ""


def _reason(error: AssayError) -> str:
    if isinstance(error, InvalidItem) or error.reason in _OWN_FAULTS:
        return error.reason
    raise error


def _along(outcomes: Sequence[Scored | str], directions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    sides: list[NDArray[np.float32]] = []
    for name in (SpanName.CHOSEN, SpanName.REJECTED):
        scores = np.zeros((len(outcomes), directions), np.float32)
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, Scored):
                scores[index] = outcome.pooled.directions[name]
        sides.append(scores)
    return sides[0], sides[1]


def _cost(outcomes: Sequence[Scored | str], seconds: float) -> ShardCost:
    scored = [outcome for outcome in outcomes if isinstance(outcome, Scored)]
    computed: list[Pooled] = [one.pooled for one in scored if one.timings.cache_state not in (CacheState.HIT, CacheState.SHARED)]
    hits = sum(one.timings.cache_state is CacheState.HIT for one in scored)
    return ShardCost(sum(one.read for one in computed), sum(one.shared for one in computed), hits, seconds)
