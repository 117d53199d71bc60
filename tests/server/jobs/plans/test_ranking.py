"""Ranking prompts reads what it ranks them on, and not the dataset."""

from pathlib import Path

import pytest
from assay_server.jobs.plans.types import RankingRequest
from assay_server.store.datasets import Dataset, Datasets
from assay_server.subject.types import Pair

from tests.server.jobs.plans.worlds import feature_target, specification, world


async def test_only_the_shards_of_the_ranked_pairs_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as made:
        await made.plan(specification(feature_target(8)))  # whose features are scored then
        seen: list[int] = []
        read = Datasets.read

        def told(datasets: Datasets, dataset: Dataset, index: int) -> list[Pair]:
            seen.append(index)
            return read(datasets, dataset, index)

        monkeypatch.setattr(Datasets, "read", told)
        ended = await made.done(await made.jobs.rank(RankingRequest(made.name, "feature/8", ("Say **bold**.",), rows=1)))
        assert ended.error is None
        assert (await made.jobs.ranking(ended.response))["rows"] == 1
        assert len(made.dataset.shards) == 3
        assert len(seen) == 1
