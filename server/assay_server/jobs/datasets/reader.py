"""Reads stored datasets: manifests by name, pairs, and features, of which the missing ones are scored first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import numpy as np

from assay_server.errors import FailedPrecondition, InvalidItem, NotFound
from assay_server.jobs.datasets.controls import read_controls
from assay_server.jobs.datasets.scoring import ScoringOptions, score_missing
from assay_server.jobs.datasets.shards import DatasetShards, ShardSpec
from assay_server.jobs.datasets.texts import read_texts
from assay_server.jobs.operations.progress import Progress
from assay_server.scorer import Scorer, ScorerLike
from assay_server.store.controls import ControlShard
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.features import DirectionSet, Features, ShardCost
from assay_server.store.files import Files
from assay_server.store.texts import Texts
from assay_server.subject.pair_checks import check_pair
from assay_server.subject.types import Pair


class DatasetReader:
    """Reads the datasets of one data directory. Confined to one event loop.

    Args:
        files: the data directory's.
        store: the datasets in it.
        scorer: the one path from pairs to features.
        scoring: how datasets are scored.
    """

    def __init__(self, files: Files, store: Datasets, scorer: ScorerLike, scoring: ScoringOptions) -> None:
        self._files = files
        self._store = store
        self._scorer = scorer
        self._scoring = scoring

    async def find(self, name: str, field: str = "name") -> Dataset:
        """A dataset's manifest. Raises NotFound with the request's field, DataLoss."""
        id = name.removeprefix("datasets/")
        if not name.startswith("datasets/") or not id or "/" in id:
            raise NotFound(f"There is no dataset {name!r}; `assay datasets` lists them.", field=field)
        try:
            return await asyncio.to_thread(self._store.get, id)
        except NotFound as error:
            raise NotFound(error.message, field=field) from error

    async def read(self, name: str, start: int = 0) -> AsyncIterator[tuple[int, list[Pair]]]:
        """A dataset's pairs from row ``start`` on, in chunks, each with the row of its first pair."""
        chunks = self._store.chunks(await self.find(name), start)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk

    async def pairs_at(self, dataset: Dataset, rows: Iterable[int]) -> dict[int, Pair]:
        """The pairs of some rows, by row, ascending; other shards are not read."""
        found = await asyncio.to_thread(self._store.pairs_at, dataset, rows)
        return {row: found[row] for row in sorted(found)}

    async def sample(self, name: str, most: int, seed: int) -> tuple[Pair, ...]:
        """A dataset's usable pairs; of a dataset with more than ``most`` pairs, those among so many drawn at random."""
        dataset = await self.find(name, "dataset")
        rows = np.arange(dataset.pairs)
        if dataset.pairs > most:
            rows = np.sort(np.random.default_rng(seed).choice(dataset.pairs, most, replace=False))
        found = await self.pairs_at(dataset, [int(row) for row in rows])
        return tuple(pair for pair in found.values() if self._usable(pair))

    async def score(
        self,
        dataset: Dataset,
        directions: DirectionSet,
        progress: Progress,
        told: Callable[[Sequence[int]], Awaitable[None]] | None = None,
    ) -> tuple[Features, ShardCost]:
        """A dataset's features, after scoring the missing ones; arguments and cost as in ``score_missing``."""
        features, options = Features(self._files, dataset.id, self._scorer.info), self._scoring
        return features, await score_missing(
            self._scorer, self._store, dataset, features, directions, options, progress, told=told
        )

    async def controls(
        self, dataset: Dataset, features: Features, most: int, seed: int, progress: Progress
    ) -> tuple[list[ControlShard], ShardCost]:
        """What about ``most`` pairs are held against, as ``read_controls``.

        Raises:
            FailedPrecondition: the scorer has no device of its own (NO_DEVICE).
        """
        if not isinstance(self._scorer, Scorer):
            raise FailedPrecondition("This server has no device of its own to read controls with.", reason="NO_DEVICE")
        return await read_controls(self._scorer, self._store, dataset, features, most, seed, progress)

    def texts(self, dataset: Dataset, progress: Progress) -> Texts:
        """A dataset's texts, after describing the missing ones; as ``read_texts``. Blocks: call it in a thread."""
        return read_texts(self._files, self._store, dataset, progress)

    async def scored(self, dataset: Dataset, progress: Progress, spec: ShardSpec | None = None) -> DatasetShards:
        """A dataset's shards, after scoring the missing features and scores along the spec's directions."""
        spec = spec or ShardSpec()
        features, _ = await self.score(dataset, spec.directions, progress)
        return DatasetShards(self._store, dataset, features, self._scorer.info.d_sae, dataset.pairs, spec, progress.check)

    def _usable(self, pair: Pair) -> bool:
        try:
            check_pair(pair, max_text_bytes=self._scoring.max_text_bytes)
        except InvalidItem:
            return False
        return True
