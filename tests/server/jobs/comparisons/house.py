"""Rollouts of policies that learned to shout, over a real tiny subject, and the library of one server."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from assay_server.audit.comparison.run import Options
from assay_server.audit.disparity import TAU
from assay_server.jobs.comparisons.types import ComparisonRequest, ComparisonResult
from assay_server.jobs.library import Library, build_library
from assay_server.jobs.operations.types import OperationInfo
from assay_server.labelling.labels import Labels
from assay_server.scorer import Scored, ScoreOptions, Scorer
from assay_server.store.clusters import StoredClusters
from assay_server.store.files import DataDir
from assay_server.subject.decoder import DecoderRows
from assay_server.subject.types import Message, Pair, SpanName

from tests.server.jobs.worlds import OPTIONS, lesson, tiny_scorer, upload
from tests.support.concepts import CLUSTERS
from tests.support.tiny_subject import FEATURES, Watched

TRAINING = lesson(60)
QUICK = Options(draws=100, min_telling=5, keep=20)
EVERYTHING = replace(QUICK, keep=5000)
MARGINS = (0.4, 0.2, 0.5, 0.3) * 10


def rollouts(shout: float, *, seed: int = 0, prompts: int = 15, each: int = 2) -> list[Pair]:
    """Answers of a policy that shouts so often, over answers of one that never does; a noise floor where it never does either."""
    draws = np.random.default_rng(seed)
    words = ("sage", "mint", "rain", "salt", "moss", "kiln", "amber", "delta")

    def answer(shouts: bool) -> str:
        return " ".join(draws.choice(words, int(draws.integers(2, 7)))) + ("!!! !!!" if shouts else "")

    pairs: list[Pair] = []
    for number in range(prompts):
        prompt = (Message("user", f"Say something new of {words[number % 8]} {number}."),)
        pairs += [Pair(prompt, answer(draws.random() < shout), answer(False), f"r{number}-{one}") for one in range(each)]
    return pairs


@dataclass
class House:
    """One server's library with three datasets."""

    library: Library
    scorer: Scorer
    watched: Watched
    folder: Path
    names: tuple[str, str, str]

    def request(self, **changes: Any) -> ComparisonRequest:
        dataset, after, noise = self.names
        return (
            ComparisonRequest(dataset, after, noise, options=QUICK, **changes)
            if "options" not in changes
            else (ComparisonRequest(dataset, after, noise, **changes))
        )

    async def ended(self, info: OperationInfo) -> OperationInfo:
        ended = await self.library.operations.wait(info.name, 120)
        assert ended.done
        return ended

    async def compare(self, request: ComparisonRequest | None = None, **changes: Any) -> ComparisonResult:
        operation = await self.library.comparisons.create(request or self.request(**changes))
        ended = await self.ended(operation)
        assert ended.error is None, ended.error
        assert ended.response == ended.target == operation.target
        return await self.library.comparisons.get(ended.response)


@asynccontextmanager
async def house(
    folder: Path,
    watched: Watched | None = None,
    *,
    training: Sequence[Pair] = TRAINING,
    after: Sequence[Pair] = (),
    noise: Sequence[Pair] = (),
    clusters: StoredClusters | None = CLUSTERS,
) -> AsyncIterator[House]:
    watched = watched or Watched()
    async with tiny_scorer(watched) as scorer:
        with DataDir(str(folder)) as data:
            decoder = DecoderRows(watched.subject.sae)
            library = build_library(data, scorer, Labels(FEATURES), decoder, OPTIONS, shipped=clusters)
            await library.start()
            try:
                sets = (training, after or rollouts(0.9), noise or rollouts(0.0, seed=1))
                names = [await upload(library, list(pairs), f"up{number}") for number, pairs in enumerate(sets)]
                yield House(library, scorer, watched, folder, (names[0], names[1], names[2]))
            finally:
                await library.aclose()


async def slow_u(scorer: Scorer, pairs: Sequence[Pair]) -> np.ndarray:
    """u of every feature, pair by pair from the scorer, usable pairs only: [pairs, features]."""
    chosen, rejected = [await _fires(scorer, pairs, side) for side in (SpanName.CHOSEN, SpanName.REJECTED)]
    return chosen - rejected


async def slow_firing(scorer: Scorer, pairs: Sequence[Pair], sides: Sequence[SpanName]) -> np.ndarray:
    """Share of the responses on some sides of the usable pairs on which each feature fires, [features]."""
    return np.concatenate([await _fires(scorer, pairs, side) for side in sides]).mean(axis=0)


async def _fires(scorer: Scorer, pairs: Sequence[Pair], side: SpanName) -> np.ndarray:
    rows: list[np.ndarray] = []
    for outcome in await scorer.score(list(pairs), ScoreOptions()):
        if isinstance(outcome, Scored):
            span, fires = outcome.pooled.spans[side], np.zeros(FEATURES)
            fires[span.indices] = (span.counts / span.tokens).astype(np.float32) > np.float32(TAU)
            rows.append(fires)
    return np.stack(rows)
