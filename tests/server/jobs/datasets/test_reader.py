"""Datasets are found by name, and only what is asked for is read of them."""

from pathlib import Path

import pytest
from assay_server.errors import NotFound
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.scoring import ScoringOptions
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.files import Files
from assay_server.subject.types import Pair

from tests.support.fake_scorer import FakeScorer

PAIRS = [Pair(f"p{number}", "good", "" if number % 5 == 3 else "bad") for number in range(20)]


class CountingDatasets(Datasets):
    """Datasets that remember which shards were read."""

    def __init__(self, files: Files) -> None:
        super().__init__(files, 4)
        self.shards: list[int] = []

    def read(self, dataset: Dataset, shard: int) -> list[Pair]:
        self.shards.append(shard)
        return super().read(dataset, shard)


@pytest.fixture
def store(tmp_path: Path) -> CountingDatasets:
    return CountingDatasets(Files(str(tmp_path)))


@pytest.fixture
def reader(tmp_path: Path, store: CountingDatasets) -> DatasetReader:
    return DatasetReader(Files(str(tmp_path)), store, FakeScorer(), ScoringOptions())


@pytest.fixture
def name(store: CountingDatasets) -> str:
    return f"datasets/{store.write(lambda: [PAIRS], 'some').id}"


async def test_only_the_shards_that_hold_a_row_are_read(store: CountingDatasets, reader: DatasetReader, name: str) -> None:
    dataset = await reader.find(name)
    store.shards.clear()
    assert await reader.pairs_at(dataset, [13, 1, 2, 99]) == {1: PAIRS[1], 2: PAIRS[2], 13: PAIRS[13]}
    assert store.shards == [0, 3]


async def test_pairs_are_read_from_any_row_on(reader: DatasetReader, name: str) -> None:
    chunks = [chunk async for chunk in reader.read(name, 6)]
    assert [pair for _, pairs in chunks for pair in pairs] == PAIRS[6:]
    assert chunks[0][0] == 6


async def test_a_sample_is_of_usable_pairs_and_the_same_for_the_same_seed(reader: DatasetReader, name: str) -> None:
    assert await reader.sample(name, 20, 0) == tuple(pair for pair in PAIRS if pair.rejected)
    some = await reader.sample(name, 10, 1)
    assert some == await reader.sample(name, 10, 1)
    assert len(some) <= 10
    assert all(pair in PAIRS and pair.rejected for pair in some)


@pytest.mark.parametrize("wrong", ["datasets/none", "datasets/", "datasets/a/b", "audits/a", ""])
async def test_a_name_of_no_dataset_is_refused_in_its_field(reader: DatasetReader, wrong: str) -> None:
    with pytest.raises(NotFound) as refused:
        await reader.find(wrong, "rollouts")
    assert refused.value.field == "rollouts"
