"""Concepts, clusters and labels of one data directory under one subject, put together.

concepts = build_concepts(files, datasets, operations, scorer, labels, decoder, ...)   # before operations.start()
await concepts.start()
columns = concepts.columns(firing=ids, clusters=True, names=("concepts/polite",))
concepts.look_up("data-cluster/7", features)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np

from assay_server.concepts.neighbours import Decoder
from assay_server.errors import AssayError, InvalidItem, NotFound
from assay_server.jobs.audits.types import LabelText
from assay_server.jobs.concepts.clusters import ClusterJobs
from assay_server.jobs.concepts.jobs import ConceptJobs
from assay_server.jobs.concepts.labels import LabelJobs
from assay_server.jobs.concepts.types import PairExamples
from assay_server.jobs.datasets.scoring import ScoringOptions, score_missing
from assay_server.jobs.datasets.shards import DatasetShards
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.progress import Progress
from assay_server.labelling.endpoint import EndpointOptions
from assay_server.labelling.labels import Labels
from assay_server.scorer import ScorerLike
from assay_server.store.clusters import StoredClusters
from assay_server.store.concepts import ConceptFiles, subject_fingerprint
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.features import DirectionSet, Features
from assay_server.store.files import Files
from assay_server.subject.checks import check_pair
from assay_server.subject.types import Pair

LANES = {"concepts": 1, "quick": 4}
"""Operations at once, by lane, that ``Operations`` needs for concepts: what reads texts, and what is done in a moment."""


@dataclass(frozen=True, slots=True)
class Concepts:
    """What one server knows of concepts.

    Attributes:
        stored: concepts.
        clusters: feature clusters in use.
        labels: labels, made and looked up.
    """

    stored: ConceptJobs
    clusters: ClusterJobs
    labels: LabelJobs

    async def start(self) -> None:
        """Read what is there; before the operations start."""
        await self.stored.start()
        await self.clusters.start()
        await self.labels.start()

    def look_up(self, name: str, features: Sequence[int]) -> LabelText:
        """The label of a concept or condition by name and features, strongest first; a stored concept is called what it is."""
        if name.startswith("concepts/"):
            try:
                return LabelText(self.stored.get(name).display_name, "display-name")
            except AssayError:
                return LabelText()  # deleted since, damaged, or another subject's
        return self.labels.look_up(name, features)


def build_concepts(
    files: Files,
    datasets: Datasets,
    operations: Operations,
    scorer: ScorerLike,
    labels: Labels,
    decoder: Decoder,
    *,
    shipped: StoredClusters | None = None,
    endpoint: EndpointOptions | None = None,
    scoring: ScoringOptions | None = None,
    max_features: int = 4096,
) -> Concepts:
    """Put the parts together; call it before ``operations.start()``, whose lanes hold ``LANES``.

    Args:
        files: the data directory's.
        datasets: those in it.
        operations: not started yet.
        scorer: the one path from text to features.
        labels: what the server shows.
        decoder: the SAE's decoder rows.
        shipped: clusters that came with the SAE.
        endpoint: for labels, if the operator configured one.
        scoring: how datasets are scored.
        max_features: of one concept.
    """
    source = _Source(files, datasets, scorer, scoring or ScoringOptions())
    kept = ConceptFiles(files)
    subject, d_sae = subject_fingerprint(scorer.info), scorer.info.d_sae
    clusters = ClusterJobs(
        kept, operations, subject=subject, d_sae=d_sae, shipped=shipped, score=source.score, check=source.check
    )
    stored = ConceptJobs(
        kept,
        operations,
        scorer,
        labels,
        decoder,
        clusters=lambda: clusters.in_use,
        read_pairs=source.read_pairs,
        max_features=max_features,
    )
    made = LabelJobs(
        kept,
        operations,
        scorer,
        labels,
        clusters,
        subject=subject,
        score=source.score,
        check=source.check,
        pairs_at=source.pairs_at,
        endpoint=endpoint,
    )
    return Concepts(stored, clusters, made)


class _Source:
    """What concepts need of stored datasets."""

    def __init__(self, files: Files, datasets: Datasets, scorer: ScorerLike, scoring: ScoringOptions) -> None:
        self._files = files
        self._datasets = datasets
        self._scorer = scorer
        self._scoring = scoring

    async def check(self, name: str) -> None:
        """Raises NotFound where there is no such dataset."""
        await self._find(name)

    async def score(self, name: str, progress: Progress) -> DatasetShards:
        """A dataset's features; what is missing of them is scored first."""
        dataset = await self._find(name)
        features = Features(self._files, dataset.id, self._scorer.info)
        none = DirectionSet(np.zeros((0, 0), np.float32))
        await score_missing(self._scorer, self._datasets, dataset, features, none, self._scoring, progress)
        return DatasetShards(self._datasets, dataset, features, self._scorer.info.d_sae, dataset.pairs, check=progress.check)

    async def read_pairs(self, name: str, most: int, seed: int) -> PairExamples:
        """A dataset's usable pairs, or ``most`` of its pairs at random: all are read, so many are held."""
        dataset = await self._find(name)
        rows = np.arange(dataset.pairs)
        if dataset.pairs > most:
            rows = np.sort(np.random.default_rng(seed).choice(dataset.pairs, most, replace=False))
        found = await asyncio.to_thread(self._datasets.pairs_at, dataset, [int(row) for row in rows])
        return PairExamples(tuple(found[row] for row in sorted(found) if self._usable(found[row])))

    async def pairs_at(self, name: str, rows: Sequence[int]) -> AsyncIterator[tuple[int, Pair]]:
        """The pairs of some rows, ascending."""
        dataset = await self._find(name)
        found = await asyncio.to_thread(self._datasets.pairs_at, dataset, rows)
        for row in sorted(found):
            yield row, found[row]

    async def _find(self, name: str) -> Dataset:
        id = name.removeprefix("datasets/")
        if not name.startswith("datasets/") or "/" in id or not id:
            raise NotFound("There is no such dataset; ListDatasets names those that are.", field="dataset")
        try:
            return await asyncio.to_thread(self._datasets.get, id)
        except NotFound as error:
            raise NotFound(error.message, field="dataset") from error

    def _usable(self, pair: Pair) -> bool:
        try:
            check_pair(pair, max_text_bytes=self._scoring.max_text_bytes)
        except InvalidItem:
            return False
        return True
