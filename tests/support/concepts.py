"""Concept jobs around a real tiny subject, and texts that differ in something that it can see."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from assay_server.errors import NotFound
from assay_server.jobs.concepts.jobs import ConceptJobs
from assay_server.jobs.concepts.types import ConceptRequest, FitOptions, TextExamples
from assay_server.jobs.library import Library, StoreOptions, build_library
from assay_server.jobs.operations.jobs import Operations
from assay_server.labelling.endpoint import EndpointOptions
from assay_server.labelling.labels import FeatureLabel, Labels
from assay_server.scorer import ScorerLike
from assay_server.store.clusters import Cluster, StoredClusters
from assay_server.store.concepts import ConceptFiles
from assay_server.store.datasets import Datasets
from assay_server.store.files import DataDir, Files
from assay_server.subject.decoder import DecoderRows
from assay_server.subject.types import Message, Pair, PromptedResponse

from tests.support.tiny_subject import FEATURES, tiny_subject

WORDS = ["one", "two", "three", "four", "five", "six", "seven"]
CLUSTERS = StoredClusters(FEATURES, (Cluster(0, (1, 5, 9, 40)), Cluster(1, (2, 3, 4, 95))))
LABELS = {3: FeatureLabel(3, "praise"), 7: FeatureLabel(7, "", top_tokens=(" Praise",)), 9: FeatureLabel(9, "blame")}


def sentence(number: int, *, loud: bool) -> str:
    """Some words; loud ones shout."""
    words = [WORDS[(number * step + step) % len(WORDS)] for step in range(1, 7)]
    return " ".join(word.upper() + "!!" if loud else word for word in words)


def loud_texts(count: int = 24, *, negatives: int | None = None) -> TextExamples:
    """Shouted texts, and as many that are not, under prompts of their own."""

    def one(number: int, loud: bool) -> PromptedResponse:
        return PromptedResponse((Message("user", f"say {number} {loud}"),), sentence(number, loud=loud))

    quiet = count if negatives is None else negatives
    return TextExamples(tuple(one(i, True) for i in range(count)), tuple(one(i, False) for i in range(quiet)))


def loud_pairs(count: int = 24, *, prompts: int | None = None) -> tuple[Pair, ...]:
    """Pairs whose chosen response shouts."""
    several = count if prompts is None else prompts
    return tuple(
        Pair((Message("user", f"say {i % several}"),), sentence(i, loud=True), sentence(i, loud=False)) for i in range(count)
    )


def request(source: Any, **more: Any) -> ConceptRequest:
    options = {key: more.pop(key) for key in ("method", "held_out", "random_directions", "seed", "max_features") if key in more}
    return ConceptRequest(more.pop("display_name", "Loud"), source, options=FitOptions(**options), **more)


@asynccontextmanager
async def concept_jobs(
    folder: Path,
    scorer: ScorerLike,
    *,
    datasets: dict[str, Sequence[Pair]] | None = None,
    labels: Labels | None = None,
    clusters: Callable[[], StoredClusters] = lambda: CLUSTERS,
) -> AsyncIterator[tuple[ConceptJobs, Operations]]:
    """Jobs over a folder, started; they are stopped afterwards."""
    files = Files(str(folder))

    async def sample(name: str, most: int, seed: int) -> tuple[Pair, ...]:
        if name not in (datasets or {}):
            raise NotFound(f"There is no dataset {name}.", field="dataset")
        return tuple((datasets or {})[name])

    operations = Operations(files, {"concepts": 1, "quick": 4})
    jobs = ConceptJobs(
        ConceptFiles(files),
        operations,
        scorer,
        Labels(FEATURES, LABELS) if labels is None else labels,
        DecoderRows(tiny_subject().sae),
        clusters=clusters,
        sample=sample,
    )
    await jobs.start()
    await operations.start()
    try:
        yield jobs, operations
    finally:
        await operations.aclose()
        await asyncio.sleep(0)


@asynccontextmanager
async def concepts_over(
    folder: Path,
    scorer: ScorerLike,
    pairs: Sequence[Pair] = (),
    *,
    labels: Labels | None = None,
    shipped: StoredClusters | None = None,
    endpoint: EndpointOptions | None = None,
    shard_pairs: int = 16,
) -> AsyncIterator[tuple[Library, Operations, str]]:
    """The library over a folder, started, and the name of a stored dataset of the pairs."""
    with DataDir(str(folder)) as data:
        dataset = Datasets(data.files, shard_pairs).write(lambda: [list(pairs)], "some pairs").id if pairs else "none"
        library = build_library(
            data,
            scorer,
            Labels(FEATURES) if labels is None else labels,
            DecoderRows(tiny_subject().sae),
            StoreOptions(shard_pairs=shard_pairs),
            shipped=shipped,
            endpoint=endpoint,
        )
        await library.start()
        try:
            yield library, library.operations, f"datasets/{dataset}"
        finally:
            await library.aclose()
            await asyncio.sleep(0)


def cosine(a: Any, b: Any) -> float:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
