"""Feature shards: the bits that were pooled come back, and what is damaged or of other pairs is missing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.features import (
    DirectionSet,
    Features,
    ShardCost,
    delete_features,
    subject_digest,
)
from assay_server.store.files import Files, sha256
from assay_server.store.pairs import read_table, table_bytes
from assay_server.subject.types import Pooled, SpanName

from tests.server.store.builders import make_pairs, make_pooled, subject_info

PAIRS = make_pairs(23)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(str(tmp_path))


@pytest.fixture
def dataset(files: Files) -> Dataset:
    return Datasets(files, 10).write(lambda: [PAIRS], "x")


def outcomes(count: int, seed: int = 0) -> list[Pooled | str]:
    rng = np.random.default_rng(seed)
    made: list[Pooled | str] = [make_pooled(rng) for _ in range(count)]
    made[1] = "CONTEXT_OVERFLOW"
    return made


def test_pooled_features_come_back_bit_for_bit(files: Files, dataset: Dataset) -> None:
    features, entry = Features(files, dataset.id, subject_info()), dataset.shards[1]
    given = outcomes(10)
    features.write(1, entry, PAIRS[10:20], given, ShardCost(400, 90, 3, 1.5))
    shard = features.read(1, entry)
    assert shard is not None
    assert shard.rows.tolist() == list(range(10, 20))
    assert shard.usable.tolist() == [True, False, *[True] * 8]
    assert features.cost(1) == (ShardCost(400, 90, 3, 1.5), 1)
    for name, span in shard.spans.items():
        for index, outcome in enumerate(given):
            row = slice(span.indptr[index], span.indptr[index + 1])
            if isinstance(outcome, str):
                assert (span.tokens[index], row.stop - row.start) == (0, 0)
                continue
            want = outcome.spans[name]
            assert span.tokens[index] == want.tokens
            assert np.array_equal(span.features[row], want.indices)
            assert np.array_equal(span.count[row], want.counts)
            assert span.max[row].tobytes() == want.max.tobytes()


def test_shards_are_missing_until_written_and_again_when_damaged(files: Files, dataset: Dataset, tmp_path: Path) -> None:
    features = Features(files, dataset.id, subject_info())
    assert features.missing(dataset.shards) == [0, 1, 2]
    for index, entry in enumerate(dataset.shards):
        features.write(index, entry, PAIRS[entry.start : entry.start + entry.pairs], outcomes(entry.pairs), ShardCost())
    assert features.missing(dataset.shards) == []
    root = tmp_path / features.root
    whole = (root / "00001.parquet").read_bytes()
    (root / "00001.parquet").write_bytes(whole[: len(whole) // 2])
    (root / "00002.json").write_bytes(b"{}")
    assert features.missing(dataset.shards) == [1, 2]
    assert features.read(1, dataset.shards[1]) is None
    (root / "00001.parquet").write_bytes(whole)
    assert features.missing(dataset.shards) == [2]


def test_features_of_other_pairs_or_another_subject_do_not_count(files: Files, dataset: Dataset) -> None:
    features = Features(files, dataset.id, subject_info())
    features.write(0, dataset.shards[0], PAIRS[:10], outcomes(10), ShardCost())
    resharded = Datasets(files, 5)
    resharded.delete(dataset.id)
    other = resharded.write(lambda: [PAIRS], "x")
    assert other.id == dataset.id
    assert features.missing(other.shards) == list(range(5))
    assert features.missing(dataset.shards) == [1, 2]
    assert Features(files, dataset.id, subject_info(sae_fingerprint="y")).missing(dataset.shards) == [0, 1, 2]
    delete_features(files, dataset.id)
    assert features.missing(dataset.shards) == [0, 1, 2]


@pytest.mark.parametrize(
    ("field", "value", "same"),
    [("hook", "y", False), ("dtype", "y", False), ("context_tokens", 2, False), ("model_id", "y", True), ("device", "y", True)],
)
def test_the_subjects_digest_is_of_what_decides_features(field: str, value: object, same: bool) -> None:
    assert (subject_digest(subject_info()) == subject_digest(subject_info(**{field: value}))) is same


def test_direction_scores_are_kept_by_the_bits_of_the_set(files: Files, dataset: Dataset) -> None:
    features, entry = Features(files, dataset.id, subject_info()), dataset.shards[2]
    vectors = np.eye(2, 4, dtype=np.float32)
    directions, alone = DirectionSet(vectors), DirectionSet(vectors[:1])
    assert features.missing_directions(DirectionSet(vectors[:0]), dataset.shards) == []
    assert features.missing_directions(directions, dataset.shards) == [0, 1, 2]
    scores = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    features.write_directions(directions, 2, entry, scores[0], scores[1])
    assert features.missing_directions(directions, dataset.shards) == [0, 1]
    assert features.missing_directions(alone, dataset.shards) == [0, 1, 2]
    assert features.missing_directions(DirectionSet(np.nextafter(vectors, np.float32(2))), dataset.shards) == [0, 1, 2]
    read = features.read_directions(directions, 2, entry)
    assert read is not None
    assert np.stack(read).tobytes() == scores.tobytes()


def test_pandas_reads_features_without_us(files: Files, dataset: Dataset, tmp_path: Path) -> None:
    features = Features(files, dataset.id, subject_info())
    given = outcomes(10)
    features.write(0, dataset.shards[0], PAIRS[:10], given, ShardCost())
    frame = pd.read_parquet(tmp_path / features.root / "00000.parquet")
    first = given[0]
    assert isinstance(first, Pooled)
    assert list(frame["chosen_features"][0]) == first.spans[SpanName.CHOSEN].indices.tolist()
    assert list(frame["error"])[:2] == ["", "CONTEXT_OVERFLOW"]


def test_a_shard_with_columns_of_an_older_release_is_read(files: Files, dataset: Dataset, tmp_path: Path) -> None:
    """Shards used to hold counts of Markdown; the texts hold them now."""
    features, entry = Features(files, dataset.id, subject_info()), dataset.shards[0]
    features.write(0, entry, PAIRS[:10], outcomes(10), ShardCost())
    new = features.read(0, entry)
    path = tmp_path / features.root / "00000.parquet"
    table = read_table(path.read_bytes())
    for name in ("chosen_bold", "rejected_code_fences"):
        table = table.append_column(name, pa.array(range(10), pa.int32()))
    files.write(f"{features.root}/00000.parquet", table_bytes(table))
    record = f"{features.root}/00000.json"
    files.write_json(record, {**files.read_json(record), "sha256_file": sha256(table_bytes(table))})
    old = features.read(0, entry)
    assert old is not None
    assert new is not None
    assert old.rows.tolist() == new.rows.tolist()
    assert old.spans[SpanName.CHOSEN].max.tobytes() == new.spans[SpanName.CHOSEN].max.tobytes()
