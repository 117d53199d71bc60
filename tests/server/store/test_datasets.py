"""Datasets: a fingerprint that anybody can compute, shards of one size, damage that is noticed and mended."""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from assay_server.errors import DataLoss, FailedPrecondition, InvalidItem, NotFound
from assay_server.store.datasets import Datasets
from assay_server.store.files import Files
from assay_server.store.pairs import canonical, from_parquet, prompt_id, to_parquet
from assay_server.subject.types import Message, Pair
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.store.builders import make_pairs

_text = st.text(max_size=12)
_turns = st.lists(st.builds(Message, st.sampled_from(["user", "assistant", "system"]), _text), min_size=1, max_size=3).map(tuple)
_pairs = st.builds(Pair, _turns | _text, _text, _text, _text, st.dictionaries(_text, _text, max_size=3))


@settings(deadline=None)
@given(st.lists(_pairs, max_size=5))
def test_pairs_come_back_from_parquet_as_they_went_in(pairs: list[Pair]) -> None:
    assert from_parquet(to_parquet(pairs)) == pairs


@settings(deadline=None)
@given(_pairs, _pairs)
def test_the_canonical_line_tells_pairs_apart_and_nothing_else(one: Pair, other: Pair) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)
    assert (prompt_id(one.prompt) == prompt_id(other.prompt)) == (one.prompt == other.prompt)
    assert canonical(replace(one, metadata=dict(reversed(one.metadata.items())))) == canonical(one)


def test_half_a_surrogate_pair_is_refused_by_name() -> None:
    with pytest.raises(InvalidItem) as refused:
        canonical(Pair("p", "\ud83d", "b"))
    assert refused.value.reason == "INVALID_TEXT"
    assert canonical(Pair("p", "\U0001f600", "b"))


@pytest.fixture
def datasets(tmp_path: Path) -> Datasets:
    return Datasets(Files(str(tmp_path)), shard_pairs=10)


def chunked(pairs: list[Pair], size: int) -> Iterator[list[Pair]]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


@pytest.mark.parametrize("size", [1, 7, 10, 64])
def test_a_dataset_does_not_depend_on_how_its_pairs_arrived(datasets: Datasets, size: int) -> None:
    pairs = make_pairs(33)
    dataset = datasets.write(lambda: chunked(pairs, size), "name")
    lines = b"".join(
        json.dumps(
            {
                "id": pair.id,
                "prompt": pair.prompt
                if isinstance(pair.prompt, str)
                else [{"role": turn.role, "content": turn.content} for turn in pair.prompt],
                "chosen": pair.chosen,
                "rejected": pair.rejected,
                "metadata": pair.metadata,
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode()
        + b"\n"
        for pair in pairs
    )
    assert dataset.fingerprint == hashlib.sha256(lines).hexdigest()
    assert dataset.id == dataset.fingerprint[:24]
    assert [entry.pairs for entry in dataset.shards] == [10, 10, 10, 3]
    assert [entry.sha256[:8] for entry in dataset.shards] == [
        hashlib.sha256(to_parquet(pairs[i : i + 10])).hexdigest()[:8] for i in range(0, 33, 10)
    ]
    assert (dataset.pairs, dataset.prompts, dataset.metadata_keys) == (33, 7, ("source", "topic"))
    assert [pair for _, chunk in datasets.chunks(dataset) for pair in chunk] == pairs
    assert [(start, len(chunk)) for start, chunk in datasets.chunks(dataset, 12)] == [(12, 8), (20, 10), (30, 3)]
    assert datasets.pairs_at(dataset, [31, 0, 9, 99]) == {0: pairs[0], 9: pairs[9], 31: pairs[31]}


def test_the_same_pairs_are_one_dataset_with_the_first_name(datasets: Datasets) -> None:
    pairs = make_pairs(12)
    first = datasets.write(lambda: [pairs], "first")
    assert datasets.write(lambda: chunked(pairs, 5), "second") == first
    other = datasets.write(lambda: [pairs[::-1]], "reversed")
    assert other.id != first.id
    assert sorted(datasets.ids()) == sorted([first.id, other.id])
    assert datasets.get(first.id) == first


def test_pandas_reads_a_shard_without_us(datasets: Datasets, tmp_path: Path) -> None:
    pairs = make_pairs(5)
    dataset = datasets.write(lambda: [pairs], "x")
    frame = pd.read_parquet(io.BytesIO((tmp_path / f"datasets/{dataset.id}/pairs-00000.parquet").read_bytes()))
    assert list(frame["chosen"]) == [pair.chosen for pair in pairs]
    assert frame["prompt_id"].nunique() == len({pair.prompt for pair in pairs})


@pytest.mark.parametrize("how", ["truncated", "changed", "gone"])
def test_a_damaged_shard_is_never_read_and_is_mended_by_sending_the_pairs_again(
    datasets: Datasets, tmp_path: Path, how: str
) -> None:
    pairs = make_pairs(25)
    dataset = datasets.write(lambda: [pairs], "x")
    path = tmp_path / f"datasets/{dataset.id}/pairs-00001.parquet"
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if how == "truncated" else data[:200] + bytes([data[200] ^ 1]) + data[201:])
    with pytest.raises(DataLoss) as lost:
        list(datasets.chunks(dataset))
    assert lost.value.details["file"].endswith("pairs-00001.parquet")
    datasets.write(lambda: [pairs], "x")
    assert path.read_bytes() == data


def test_a_dataset_exists_only_once_it_is_whole(datasets: Datasets, tmp_path: Path) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    pairs = make_pairs(30)
    with pytest.raises(KeyboardInterrupt):
        datasets.write(lambda: [pairs], "x", check=check)
    assert [len(list(folder.iterdir())) for folder in (tmp_path / "datasets").iterdir()] == [2]
    assert datasets.ids() == []
    datasets.sweep()
    assert list((tmp_path / "datasets").iterdir()) == []
    dataset = datasets.write(lambda: [pairs], "x")
    datasets.sweep()
    assert datasets.get(dataset.id) == dataset
    datasets.delete(dataset.id)
    with pytest.raises(NotFound):
        datasets.get(dataset.id)


def test_pairs_that_change_while_they_are_read_are_no_dataset(datasets: Datasets) -> None:
    readings = iter([make_pairs(12), make_pairs(12, seed=1)])
    with pytest.raises(FailedPrecondition) as refused:
        datasets.write(lambda: [next(readings)], "x")
    assert refused.value.reason == "SOURCE_CHANGED"
    assert datasets.ids() == []


def test_no_pair_is_no_dataset(datasets: Datasets) -> None:
    with pytest.raises(InvalidItem) as refused:
        datasets.write(lambda: [[]], "x")
    assert refused.value.reason == "EMPTY_DATASET"
    with pytest.raises(NotFound):
        datasets.get("../../etc")
