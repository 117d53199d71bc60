"""Reads a draw of a dataset's pairs once more: their mean residuals, and their features under a frozen random dictionary.

As with features, a shard is read in batches of its own, cut by the lengths of its pairs alone, and stored whole or not at all:
what was read before a restart is not read again, and the bits are the same. The trained SAE's features of the same pairs are
stored already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from assay_server.audit.explained import LEAST_PROMPTS, sampled_pairs
from assay_server.audit.matrices import Ints
from assay_server.interventions.reading import Engine
from assay_server.jobs.datasets.shards import ShardGone
from assay_server.jobs.operations.progress import Progress
from assay_server.scorer import default_batch_tokens
from assay_server.store.controls import ControlFiles, ControlShard, Firings
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.features import Features, ShardCost
from assay_server.subject.random_dictionary import RandomDictionary, SpansRead, read_spans
from assay_server.subject.subject import Subject
from assay_server.subject.types import Pair, TokenTree


def drawn_rows(dataset: Dataset, features: Features, most: int, seed: int, progress: Progress) -> Ints:
    """The rows of about ``most`` usable pairs, whole prompts drawn by the seed, ascending. Blocks. Raises ShardGone.

    Of fewer than ``LEAST_PROMPTS`` prompts none could be held out: there are no rows then, and nothing is read.
    """
    rows, prompts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for shard, entry in enumerate(dataset.shards):
        progress.check()
        known = features.prompts(shard, entry)
        if known is None:
            raise ShardGone("A shard of features is gone.", details={"shard": shard})
        usable = np.flatnonzero(known[1])
        rows.append(entry.start + usable)
        prompts.append(known[0][usable])
    every, ids = np.concatenate(rows), np.concatenate(prompts)
    taken = sampled_pairs(ids, most, seed)
    return every[taken] if len(np.unique(ids[taken])) >= LEAST_PROMPTS else every[:0]


async def read_controls(
    engine: Engine,
    datasets: Datasets,
    dataset: Dataset,
    features: Features,
    most: int,
    seed: int,
    progress: Progress,
) -> tuple[list[ControlShard], ShardCost]:
    """Controls of about ``most`` usable pairs, after reading the missing ones; and what that cost. As ``drawn_rows``, maybe none.

    Args:
        engine: the scorer's device.
        datasets: where the pairs are.
        dataset: whose they are.
        features: of all its pairs; they say which are usable.
        most: pairs.
        seed: of the draw and of the dictionary.
        progress: counts pairs through "controls".

    Raises:
        ShardGone: a shard of features is damaged.
        AssayError: the engine failed; what was stored stays.
    """
    rows = await progress.in_thread(lambda: drawn_rows(dataset, features, most, seed, progress))
    files = ControlFiles(features, rows, seed)
    wanted = [(shard, entry) for shard, entry in enumerate(dataset.shards) if len(files.drawn(entry))]
    found = {shard: await asyncio.to_thread(files.read, shard, entry) for shard, entry in wanted}
    progress.enter("controls", len(rows), sum(len(one.rows) for one in found.values() if one is not None))
    dictionary: RandomDictionary | None = None
    cost, began = ShardCost(), time.monotonic()
    for shard, entry in wanted:
        if found[shard] is not None:
            continue
        dictionary = dictionary or await engine.off_device(lambda subject: RandomDictionary(subject, seed))
        drawn = files.drawn(entry)
        pairs = await asyncio.to_thread(datasets.read, dataset, shard)
        chosen = [pairs[row - entry.start] for row in drawn.tolist()]
        read, tokens, shared = await _Shard(engine, dictionary, progress).read(drawn, chosen)
        await asyncio.to_thread(files.write, shard, entry, read)
        found[shard] = read
        cost = ShardCost(cost.tokens_read + tokens, cost.tokens_shared + shared)
    shards = [one for one in found.values() if one is not None]
    return shards, ShardCost(cost.tokens_read, cost.tokens_shared, 0, time.monotonic() - began if cost.tokens_read else 0.0)


class _Shard:
    """Reads one shard's pairs, a batch at a time."""

    def __init__(self, engine: Engine, dictionary: RandomDictionary, progress: Progress) -> None:
        self._engine = engine
        self._dictionary = dictionary
        self._progress = progress
        self._budget = default_batch_tokens(engine.info.dtype, engine.info.device.partition(":")[0])

    async def read(self, rows: Ints, pairs: Sequence[Pair]) -> tuple[ControlShard, int, int]:
        """Their controls, tokens read, and tokens that sharing saved."""
        trees = await self._engine.off_device(lambda subject: [subject.tokenizer.pair(pair) for pair in pairs])
        order = np.argsort([tree.size for tree in trees], kind="stable")
        reads: list[SpansRead] = []
        for batch in _batches([trees[place] for place in order], self._budget):
            self._progress.check()
            reads.append(await self._engine.call(partial(self._read, batch), sum(tree.size for tree in batch)))
            self._progress.advance(len(batch))
        means = np.concatenate([read.means for read in reads])
        dense = (means[0::2] - means[1::2])[np.argsort(order)]
        sides = [_side(reads, order, side) for side in range(2)]
        found = ControlShard(rows, dense, sides[0], sides[1])
        return found, sum(tree.size for tree in trees), sum(tree.shared for tree in trees)

    def _read(self, batch: Sequence[TokenTree], subject: Subject) -> SpansRead:
        return read_spans(subject, [self._dictionary], batch)


def _batches(trees: Sequence[TokenTree], budget: int) -> list[list[TokenTree]]:
    """Runs of at most ``budget`` tokens; a longer tree goes alone."""
    batches: list[list[TokenTree]] = []
    room = 0
    for tree in trees:
        if not batches or tree.size > room:
            batches.append([])
            room = budget
        batches[-1].append(tree)
        room -= tree.size
    return batches


def _side(reads: Sequence[SpansRead], order: Ints, side: int) -> Firings:
    """One side's responses, sorted back; pair ``order[k]`` was read k-th."""
    tokens = np.concatenate([read.tokens[side::2] for read in reads])
    pair: list[Ints] = []
    feature: list[Ints] = []
    count: list[Ints] = []
    first = 0
    for read in reads:
        (pooled,) = read.pooled
        mine = pooled.span % 2 == side
        pair.append(order[first + pooled.span[mine] // 2])
        feature.append(pooled.feature[mine])
        count.append(pooled.count[mine])
        first += len(read.tokens) // 2
    pairs, features, counts = (np.concatenate(parts) for parts in (pair, feature, count))
    sort = np.lexsort((features, pairs))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(pairs, minlength=len(tokens)))]).astype(np.int64)
    return Firings(tokens[np.argsort(order)], indptr, features[sort], counts[sort])
