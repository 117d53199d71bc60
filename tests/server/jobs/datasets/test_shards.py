"""Shards as the statistics read them: usable pairs, shares of tokens, nuisances, directions and conditions, from files alone."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from assay_server.audit.passes import survey
from assay_server.errors import EngineFailure, InvalidItem
from assay_server.jobs.audits.conditions import RowGroup, metadata_groups, rows_with_metadata
from assay_server.jobs.datasets.scoring import ScoringOptions, chunk_pairs_for, score_missing
from assay_server.jobs.datasets.shards import DatasetShards, KnownColumns, LengthColumn, ShardGone, ShardSpec
from assay_server.jobs.operations.progress import Progress
from assay_server.scorer import Scored, ScoreOptions, Scorer
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.features import DirectionSet, Features
from assay_server.store.files import Files
from assay_server.subject.types import Pair, SpanName

from tests.server.jobs.worlds import lesson
from tests.support.tiny_subject import WIDTH, Watched

PAIRS = lesson(40)
USABLE = [index for index, pair in enumerate(PAIRS) if pair.rejected]
DIRECTIONS = DirectionSet(np.random.default_rng(3).normal(size=(2, WIDTH)).astype(np.float32))
NONE = DirectionSet(np.zeros((0, 0), np.float32))
OPTIONS = ScoringOptions(chunk_pairs=7, max_text_bytes=4000)


class Stored:
    """A dataset and its features in a folder."""

    def __init__(self, folder: Path, scorer: Scorer, pairs: list[Pair] = PAIRS) -> None:
        self.scorer = scorer
        self.files = Files(str(folder))
        self.datasets = Datasets(self.files, 16)
        self.dataset: Dataset = self.datasets.write(lambda: [pairs], "x")
        self.features = Features(self.files, self.dataset.id, scorer.info)
        self.progress = Progress()

    async def score(self, directions: DirectionSet = NONE) -> int:
        """Score what is missing; tokens of passes that stored no features."""
        apart = await score_missing(self.scorer, self.datasets, self.dataset, self.features, directions, OPTIONS, self.progress)
        return apart.tokens_read

    def shards(self, spec: ShardSpec | None = None) -> DatasetShards:
        d_sae = self.scorer.info.d_sae
        return DatasetShards(self.datasets, self.dataset, self.features, d_sae, len(USABLE), spec or ShardSpec())


async def test_shards_hold_what_the_scorer_says_of_the_usable_pairs(tmp_path: Path, scorer: Scorer) -> None:
    stored = Stored(tmp_path, scorer)
    await stored.score()
    assert (stored.progress.phase, stored.progress.done, stored.progress.total) == ("scoring", 40, 40)
    live = await scorer.score(PAIRS, ScoreOptions(include_prompt=True))
    rows: list[int] = []
    for shard in stored.shards():
        rows += shard.rows.tolist()
        for place, row in enumerate(shard.rows):
            scored = live[row]
            assert isinstance(scored, Scored)
            for name, matrix, maxima in (
                (SpanName.CHOSEN, shard.freq_chosen, shard.max_chosen),
                (SpanName.REJECTED, shard.freq_rejected, shard.max_rejected),
                (SpanName.PROMPT, shard.freq_prompt, None),
            ):
                span, entries = scored.pooled.spans[name], slice(matrix.indptr[place], matrix.indptr[place + 1])
                assert np.array_equal(matrix.indices[entries], span.indices)
                assert np.array_equal(matrix.data[entries], (span.counts / span.tokens).astype(np.float32))
                if maxima is not None:
                    assert np.allclose(maxima.data[entries], span.max, rtol=1e-3)
            assert shard.tokens[place].tolist() == [scored.pooled.spans[name].tokens for name in SpanName]
    assert rows == USABLE
    prompts = np.concatenate([shard.prompts for shard in stored.shards()])
    assert len(set(prompts.tolist())) == len({PAIRS[row].prompt for row in USABLE})


async def test_of_two_who_need_the_same_shards_at_once_one_scores_them(tmp_path: Path, watched: Watched, scorer: Scorer) -> None:
    stored = Stored(tmp_path, scorer)
    others = Features(stored.files, stored.dataset.id, scorer.info)
    found: list[list[int]] = []

    async def told(missing: Sequence[int]) -> None:
        found.append(list(missing))

    async def need(features: Features) -> None:
        await score_missing(scorer, stored.datasets, stored.dataset, features, NONE, OPTIONS, Progress(), told=told)

    await asyncio.gather(need(stored.features), need(others))
    assert found == [[0, 1, 2], []]
    reads = len(watched.reads)
    alone = Stored(tmp_path / "alone", scorer)
    await alone.score()
    assert len(watched.reads) == 2 * reads


async def test_nuisances_are_differences_of_log_length_and_what_is_known_of_usable_pairs(tmp_path: Path, scorer: Scorer) -> None:
    pairs = [Pair("p: ", "abcd ef", "abc"), Pair("p: ", "abc", ""), *[Pair(f"{i}", "ab", "cd") for i in range(6)]]
    stored = Stored(tmp_path, scorer, pairs)
    await stored.score()
    (shard,) = stored.shards(ShardSpec((LengthColumn(), KnownColumns(("a", "b"), np.arange(16.0).reshape(8, 2)))))
    assert shard.rows.tolist() == [0, 2, 3, 4, 5, 6, 7]
    assert shard.nuisance[0].tolist() == [np.log(7) - np.log(3), 0, 1]  # one byte is one token
    assert shard.nuisance[1:].tolist() == [[0, 2 * row, 2 * row + 1] for row in range(2, 8)]
    assert next(iter(stored.shards())).nuisance.shape == (7, 0)


async def test_directions_are_scored_once_and_compared_with_their_thresholds(
    tmp_path: Path, watched: Watched, scorer: Scorer
) -> None:
    stored = Stored(tmp_path, scorer)
    await stored.score()
    reads = len(watched.reads)
    assert await stored.score(DIRECTIONS) > 0
    assert len(watched.reads) == 2 * reads
    assert await stored.score(DIRECTIONS) == 0
    scores = stored.features.read_directions(DIRECTIONS, 0, stored.dataset.shards[0])
    assert scores is not None
    chosen, rejected = (side[[row for row in USABLE if row < 16]] for side in scores)
    thresholds = (float(np.median(chosen[:, 0])), float(chosen[0, 1]))
    shard = next(iter(stored.shards(ShardSpec(directions=DIRECTIONS, thresholds=thresholds))))
    shows = (chosen > np.array(thresholds)).astype(int) - (rejected > np.array(thresholds))
    assert np.array_equal(shard.directions.toarray(), shows)
    assert set(shows.ravel().tolist()) == {-1, 0, 1}

    together = Stored(tmp_path / "together", scorer)
    await together.score(DIRECTIONS)
    assert together.features.read(0, together.dataset.shards[0]) is not None
    again = together.features.read_directions(DIRECTIONS, 0, together.dataset.shards[0])
    assert again is not None
    assert np.stack(again).tobytes() == np.stack(scores).tobytes()


async def test_metadata_values_and_rows_are_conditions(tmp_path: Path, scorer: Scorer) -> None:
    stored = Stored(tmp_path, scorer)
    await stored.score()
    groups = metadata_groups(stored.datasets, stored.dataset, ("topic", "only"), 3)
    assert [condition.name for condition in groups.conditions][-1] == "metadata/only=one"
    found = np.concatenate([shard.groups.toarray() for shard in stored.shards(ShardSpec(groups=groups))])
    expected = [[int(PAIRS[row].metadata.get(key) == value) for key, value in groups.values] for row in USABLE]
    assert found.tolist() == expected
    rows = rows_with_metadata(stored.datasets, stored.dataset, "topic", "sage")
    inside = np.concatenate([shard.groups.toarray() for shard in stored.shards(ShardSpec(groups=RowGroup(rows)))])
    assert inside.ravel().tolist() == [int(PAIRS[row].metadata["topic"] == "sage") for row in USABLE]
    assert metadata_groups(stored.datasets, stored.dataset, ("topic",), 41).count == 0
    with pytest.raises(InvalidItem):
        metadata_groups(stored.datasets, stored.dataset, ("nope",), 1)


async def test_a_shard_that_goes_while_it_is_read_is_named(tmp_path: Path, scorer: Scorer) -> None:
    stored = Stored(tmp_path, scorer)
    await stored.score()
    passes = iter(stored.shards())
    next(passes)
    (tmp_path / stored.features.root / "00001.json").unlink()
    with pytest.raises(ShardGone) as gone:
        next(passes)
    assert gone.value.details == {"shard": "1"}
    await stored.score()
    assert survey(stored.shards()).pairs == len(USABLE)


async def test_a_device_that_fails_stores_nothing_and_blames_no_pair(tmp_path: Path, watched: Watched, scorer: Scorer) -> None:
    stored = Stored(tmp_path, scorer)

    def fault(requests: object) -> None:
        if len(watched.reads) > 4:
            raise RuntimeError("the device is gone")

    watched.fault = fault
    with pytest.raises(EngineFailure):
        await stored.score()
    watched.fault = lambda _: None
    before = stored.features.missing(stored.dataset.shards)
    assert before
    await stored.score()
    assert sum(stored.features.cost(shard)[1] for shard in range(3)) == len(PAIRS) - len(USABLE)


def test_sealed_chunks_grow_with_the_batch() -> None:
    assert [chunk_pairs_for(tokens) for tokens in (64, 1024, 2048, 16384)] == [64, 64, 128, 1024]
