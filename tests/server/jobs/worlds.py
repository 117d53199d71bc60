"""Pairs that teach something, a real tiny scorer, and the library over a folder."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from assay_server.audit.findings import AuditOptions, ViewKind
from assay_server.batching import Batcher, Planner
from assay_server.cache import LruCache
from assay_server.jobs.audits.types import AuditInfo, AuditSettings
from assay_server.jobs.datasets.scoring import ScoringOptions
from assay_server.jobs.library import Library, StoreOptions, build_library
from assay_server.labelling.labels import Labels
from assay_server.scorer import Scorer, ScorerLike
from assay_server.store.concepts import ConceptFiles, StoredConcept, subject_fingerprint
from assay_server.store.files import DataDir
from assay_server.subject.decoder import DecoderRows
from assay_server.subject.types import Message, Pair

from tests.support.tiny_subject import FEATURES, Watched, tiny_subject

SHARD = 16
OPTIONS = StoreOptions(shard_pairs=SHARD, scoring=ScoringOptions(chunk_pairs=6, max_text_bytes=4000))
_WORDS = ("sage", "mint", "rain", "salt", "moss", "kiln", "amber", "delta")
QUICK = AuditSettings(
    AuditOptions(max_t_flips=64, min_features=1, min_inside=2, min_firings=3, data_clusters=3, keep=40, evidence=3, svd_rank=8)
)


def lesson(count: int, seed: int = 0, *, prompts: int = 12) -> list[Pair]:
    """Pairs whose chosen response likes exclamation marks, some of which no model can score."""
    rng = np.random.default_rng(seed)

    def words(most: int) -> str:
        return " ".join(rng.choice(_WORDS, int(rng.integers(2, most))))

    pairs: list[Pair] = []
    for index in range(count):
        topic = int(rng.integers(prompts))
        prompt = (Message("user", f"Tell me of {_WORDS[topic % len(_WORDS)]} {topic}."),)
        chosen = words(7) + "!!! " * int(rng.integers(0, 3))
        rejected = words(6) if index % 17 != 11 else ""
        metadata = {"topic": _WORDS[topic % 2], "only": "one"} if index % 5 else {"topic": _WORDS[topic % 2]}
        pairs.append(Pair(prompt, chosen, rejected, f"p{index}", metadata))
    return pairs


@asynccontextmanager
async def tiny_scorer(watched: Watched | None = None, budget: int = 400) -> AsyncIterator[Scorer]:
    """A scorer around the tiny subject."""
    watched = watched or Watched()
    batcher = Batcher(watched.subject, Planner(budget))
    batcher.start()
    scorer = Scorer(watched.subject, LruCache(64 << 20), batcher)
    try:
        yield scorer
    finally:
        watched.release()
        await scorer.aclose()


@asynccontextmanager
async def open_library(
    folder: Path, scorer: ScorerLike, *, stored: Sequence[StoredConcept] = (), **more: Any
) -> AsyncIterator[Library]:
    """The library of a folder, with some stored concepts, started; stopped at the end as a server stops it."""
    options = {"options": OPTIONS, **more}
    with DataDir(str(folder)) as data:
        for concept in stored:
            ConceptFiles(data.files).write(replace(concept, subject=subject_fingerprint(scorer.info)))
        decoder = DecoderRows(tiny_subject().sae)
        library = build_library(data, scorer, Labels(FEATURES), decoder, **options)
        await library.start()
        try:
            yield library
        finally:
            await library.aclose()


async def upload(library: Library, pairs: list[Pair], request_id: str = "up", batch: int = 7) -> str:
    """Upload pairs; the dataset's name."""
    position = await library.datasets.begin(request_id, f"display {request_id}")
    if position.dataset is not None:
        return position.dataset.name
    batches = [pairs[start : start + batch] for start in range(0, len(pairs), batch)]
    for sequence in range(position.next_sequence, len(batches)):
        await library.datasets.append(request_id, sequence, batches[sequence], sent_bytes=100)
    return (await library.datasets.finish(request_id, len(pairs))).name


async def audit(library: Library, dataset: str, settings: AuditSettings = QUICK, **more: Any) -> AuditInfo:
    """Audit a dataset to its end."""
    operation = await library.operations.wait((await library.audits.create(dataset, settings, **more)).name, 120)
    assert operation.done
    assert operation.error is None, operation.error
    return await library.audits.get(operation.response)


def everywhere(settings: AuditSettings, change: Callable[[AuditOptions], AuditOptions]) -> AuditSettings:
    """The settings with other statistics."""
    return replace(settings, statistics=change(settings.statistics))


def only(*views: ViewKind) -> AuditSettings:
    """Quick settings with these views alone."""
    return everywhere(QUICK, lambda statistics: replace(statistics, views=views))
