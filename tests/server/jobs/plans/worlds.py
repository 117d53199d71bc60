"""A whole world for plans: the tiny subject with its head, a real scorer, a real data directory, a stored dataset."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from assay_server.batching import Batcher, Planner
from assay_server.cache import LruCache
from assay_server.interventions.targets import Target
from assay_server.interventions.types import Family, Mode, Parameters
from assay_server.jobs.audits.types import LabelText
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.scoring import ScoringOptions
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.types import OperationInfo
from assay_server.jobs.plans.jobs import LANES, PlanJobs
from assay_server.jobs.plans.resolve import ConceptSources, Decided
from assay_server.jobs.plans.types import InterventionRequest, PlanOptions, PlanRequest
from assay_server.scorer import Scored, ScoreOptions, Scorer
from assay_server.store.clusters import Cluster
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.files import DataDir
from assay_server.subject.subject import Subject
from assay_server.subject.types import Directions, Message, Pair, SpanName

from tests.support.tiny_subject import WIDTH, Watched, build_subject

WORDS = ("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "iris", "jade", "**bold**", "- item")
FEATURES = (3, 8, 40)  # of most tests
CLUSTERS = (Cluster(0, (3, 8, 40)), Cluster(1, (5, 17, 60, 61)))


@cache
def whole_subject() -> Subject:
    """The tiny subject with its head; nobody changes it."""
    return build_subject(keep_whole=True)


def make_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Pairs of words; chosen responses say "**bold**" more often than rejected ones."""
    rng = np.random.default_rng(seed)
    pairs: list[Pair] = []
    for number in range(count):
        sides = [" ".join(rng.choice(WORDS[:10], 5)) for _ in range(2)]
        for side, rate in enumerate((0.6, 0.15)):
            if rng.random() < rate:
                sides[side] += " **bold** yes"
        prompt = (Message("user", f"question {number // 2}: {rng.choice(WORDS[:10])}?"),)
        pairs.append(Pair(prompt, sides[0], sides[1], f"pair-{number}", {"topic": "words"}))
    return pairs


def feature_target(*features: int) -> Target:
    name = f"feature/{features[0]}" if len(features) == 1 else "spec/some"
    return Target(name, "", np.array(features, np.int64), np.ones(len(features)))


def direction_target(seed: int = 0, threshold: float | None = None) -> Target:
    vector = np.random.default_rng(seed).normal(size=WIDTH)
    return Target("spec/direction", "", direction=vector / np.linalg.norm(vector), threshold=threshold)


def specification(target: Target, family: Family = Family.REWARD_SHAPING, **changes: object) -> InterventionRequest:
    values: dict[str, object] = {"mode": Mode.EXPLAIN_AWAY, "strength": 1.0, "parameters": Parameters(), **changes}
    return InterventionRequest(target=target, family=family, **values)  # pyright: ignore[reportArgumentType]


@dataclass
class World:
    """One running set of jobs over one data directory."""

    jobs: PlanJobs
    operations: Operations
    scorer: Scorer
    watched: Watched
    datasets: Datasets
    dataset: Dataset
    pairs: list[Pair]

    @property
    def name(self) -> str:
        return f"datasets/{self.dataset.id}"

    async def done(self, info: OperationInfo) -> OperationInfo:
        return await self.operations.wait(info.name, 120)

    async def plan(self, *specifications: InterventionRequest, **request: str) -> str:
        """Make a plan; its name."""
        ended = await self.done(await self.jobs.create(PlanRequest(self.name, specifications, **request)))
        assert ended.error is None, ended.error
        return ended.response


def sources() -> ConceptSources:
    def find(name: str, field: str) -> int | Cluster:
        kind, _, id = name.partition("/")
        return int(id) if kind == "feature" else CLUSTERS[int(id)]

    async def decision(name: str, field: str) -> Decided:
        return Decided(feature_target(5), Mode.AMPLIFY, 0.5, "datasets/none")

    return ConceptSources(find, lambda name, features: LabelText(f"label of {name}"), lambda: CLUSTERS, decision)


@asynccontextmanager
async def world(
    folder: Path, *, pairs: Sequence[Pair] | None = None, subject: Subject | None = None, options: PlanOptions | None = None
) -> AsyncIterator[World]:
    """Jobs over a data directory that may have been used before."""
    watched = Watched(subject or whole_subject())
    batcher = Batcher(watched.subject, Planner(512))
    batcher.start()
    scorer = Scorer(watched.subject, LruCache(64 << 20), batcher)
    kept = list(make_pairs(60) if pairs is None else pairs)
    with DataDir(str(folder)) as data:
        operations = Operations(data.files, LANES)
        datasets = Datasets(data.files, 25)
        dataset = datasets.write(lambda: [kept], "words")
        reader = DatasetReader(data.files, datasets, scorer, ScoringOptions())
        jobs = PlanJobs(data.files, operations, scorer, reader, sources(), options=options)
        await jobs.start()
        await operations.start()
        try:
            yield World(jobs, operations, scorer, watched, datasets, dataset, kept)
        finally:
            await operations.aclose()
            await scorer.aclose()


async def dense(made: World, direction: np.ndarray | None = None) -> dict[SpanName, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each side: dense max [pairs, d_sae], dense freq, and scores along a direction; from the scorer, pair by pair."""
    wanted = None if direction is None else Directions(direction[None].astype(np.float32), b"d" * 32)
    outcomes = await made.scorer.score(made.pairs, ScoreOptions(directions=wanted))
    found = {}
    for side in (SpanName.CHOSEN, SpanName.REJECTED):
        maxima, freqs = np.zeros((2, len(outcomes), made.scorer.info.d_sae))
        along = np.zeros(len(outcomes))
        for row, outcome in enumerate(outcomes):
            assert isinstance(outcome, Scored)
            span = outcome.pooled.spans[side]
            maxima[row, span.indices], freqs[row, span.indices] = span.max, span.freq
            if wanted is not None:
                along[row] = outcome.pooled.directions[side][0]
        found[side] = (maxima, freqs, along)
    return found


def z(values: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Values less the mean of both sides, over their deviation."""
    return (values - both.mean()) / both.std()
