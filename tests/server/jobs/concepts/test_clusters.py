"""Clusters come from the dataset's feature shards, are kept for the subject, and replace those in use only when whole."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assay_server.concepts.clusters import ClusterOptions, cluster_features
from assay_server.errors import InvalidItem, NotFound
from assay_server.jobs.concepts.clusters import ClusterRequest, fired_on
from assay_server.jobs.library import Library
from assay_server.jobs.operations.jobs import Operations
from assay_server.scorer import Scored, ScoreOptions, Scorer
from assay_server.store.features import FeatureShard, SpanColumns
from assay_server.subject.types import Message, Pair, SpanName
from scipy import sparse

from tests.support.concepts import CLUSTERS, concepts_over, loud_pairs
from tests.support.tiny_subject import FEATURES, Watched
from tests.support.waiting import PATIENCE, until

PAIRS = [*loud_pairs(30, prompts=10), Pair((Message("user", "q"),), "", "unusable")]
LOOSE = {"edge_share": 0.2, "min_size": 3}


async def computed(library: Library, operations: Operations, request: ClusterRequest) -> None:
    info = await operations.wait((await library.clusters.compute(request)).name, PATIENCE)
    assert info.error is None, info.error
    assert info.response == "clusters"


async def test_clusters_are_those_of_what_fires_on_each_response(tmp_path: Path, scorer: Scorer) -> None:
    async with concepts_over(tmp_path, scorer, PAIRS) as (library, operations, dataset):
        await computed(library, operations, ClusterRequest(dataset, **LOOSE, seed=3))
        found = library.clusters.in_use
    outcomes = await scorer.score(PAIRS[:-1], ScoreOptions())
    fired = np.zeros((60, FEATURES))
    for row, outcome in enumerate(outcomes):
        assert isinstance(outcome, Scored)
        for side, name in enumerate((SpanName.CHOSEN, SpanName.REJECTED)):
            fired[30 * side + row, outcome.pooled.spans[name].indices] = 1
    expected = cluster_features(sparse.csr_array(fired), ClusterOptions(top_share=0.2, min_size=3, seed=3))
    assert len(found) == len(expected) > 0
    for cluster in found.clusters:
        assert cluster.features == tuple(expected.members(cluster.id))
        assert cluster.cohesion == pytest.approx(expected.cohesion[cluster.id])
    assert (found.samples, found.edges, found.made_from) == (60, expected.edges, dataset)


async def test_what_was_computed_outlives_the_process_and_hides_what_was_shipped(tmp_path: Path, scorer: Scorer) -> None:
    async with concepts_over(tmp_path, scorer, PAIRS, shipped=CLUSTERS) as (library, operations, dataset):
        assert library.clusters.in_use == CLUSTERS
        await computed(library, operations, ClusterRequest(dataset, **LOOSE))
        found = library.clusters.in_use
    async with concepts_over(tmp_path, scorer, shipped=CLUSTERS) as (library, _, _):
        assert library.clusters.in_use == replace(found, options=dict(found.options))


async def test_without_a_cluster_there_is_an_error_with_its_reason_and_the_old_ones_stay(tmp_path: Path, scorer: Scorer) -> None:
    async with concepts_over(tmp_path, scorer, PAIRS[:2], shipped=CLUSTERS) as (library, operations, dataset):
        info = await operations.wait((await library.clusters.compute(ClusterRequest(dataset))).name, PATIENCE)
        assert info.error is not None
        assert info.error.reason == "NO_CLUSTERS"
        assert "use a larger corpus" in info.error.message
        assert library.clusters.in_use == CLUSTERS


async def test_a_damaged_file_of_clusters_gives_way_to_what_was_shipped(tmp_path: Path, scorer: Scorer) -> None:
    async with concepts_over(tmp_path, scorer, PAIRS) as (library, operations, dataset):
        await computed(library, operations, ClusterRequest(dataset, **LOOSE))
    (path,) = (tmp_path / "clusters").iterdir()
    path.write_text(path.read_text().replace("3", "4"))
    async with concepts_over(tmp_path, scorer, shipped=CLUSTERS) as (library, _, _):
        assert library.clusters.in_use == CLUSTERS


@pytest.mark.parametrize(
    ("field", "value"),
    [("edge_share", 0.0), ("edge_share", 1.5), ("min_size", 0), ("resolution", 0.0), ("resolution", float("nan")), ("seed", -1)],
)
async def test_an_option_out_of_range_is_refused_by_name(tmp_path: Path, scorer: Scorer, field: str, value: float) -> None:
    async with concepts_over(tmp_path, scorer, PAIRS[:2]) as (library, _, dataset):
        with pytest.raises(InvalidItem) as refused:
            await library.clusters.compute(replace(ClusterRequest(dataset), **{field: value}))
        assert (refused.value.reason, refused.value.field) == ("OUT_OF_RANGE", field)
        with pytest.raises(NotFound):
            await library.clusters.compute(ClusterRequest("datasets/none"))


async def test_a_clustering_that_was_broken_off_gives_the_same_clusters_at_the_next_start(
    tmp_path: Path, scorer: Scorer, watched: Watched
) -> None:
    async with concepts_over(tmp_path / "whole", scorer, PAIRS) as (library, operations, dataset):
        await computed(library, operations, ClusterRequest(dataset, **LOOSE))
        undisturbed = library.clusters.in_use
    watched.reads.clear()
    watched.hold()
    async with concepts_over(tmp_path / "torn", scorer, PAIRS) as (library, operations, dataset):
        info = await library.clusters.compute(ClusterRequest(dataset, **LOOSE, request_id="r"))
        await until(lambda: bool(watched.reads))
        closing = asyncio.create_task(operations.aclose())
        await asyncio.sleep(0.02)
        watched.release()
        await closing
    async with concepts_over(tmp_path / "torn", scorer, PAIRS) as (library, operations, _):
        ended = await operations.wait(info.name, PATIENCE)
        assert (ended.resumed, ended.error) == (1, None)
        assert library.clusters.in_use.clusters == undisturbed.clusters


class Shards:
    """Feature shards of 5 pairs each; response n of a side fires on features n and n + 1."""

    def __init__(self, count: int) -> None:
        self.count = count

    def feature_shards(self) -> "list[FeatureShard]":
        shards = []
        for first in range(0, self.count, 5):
            rows = np.arange(first, min(first + 5, self.count))
            spans = {
                side: SpanColumns(
                    np.ones(len(rows), np.int64),
                    2 * np.arange(len(rows) + 1),
                    np.stack([rows + shift, rows + shift + 1], axis=1).reshape(-1),
                    np.ones(2 * len(rows), np.float32),
                    np.ones(2 * len(rows), np.int64),
                )
                for shift, side in enumerate((SpanName.CHOSEN, SpanName.REJECTED))
            }
            shards.append(FeatureShard(rows, rows, rows % 3 != 0, spans))
        return shards


def test_unusable_pairs_are_no_samples() -> None:
    fired = fired_on(Shards(12), 20, seed=0)
    assert fired.shape == (16, 20)
    assert fired.toarray().sum(axis=1).tolist() == [2] * 16
    assert not fired.toarray()[:, 0].any(), "only pair 0, which is unusable, fires on feature 0"


def test_of_too_many_responses_some_are_drawn_by_the_seed() -> None:
    drawn = [fired_on(Shards(60), 64, seed=seed, most=20).toarray() for seed in (1, 1, 2)]
    assert drawn[0].shape == (20, 64)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
