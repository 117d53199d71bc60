"""Text shards: amounts and words are those that the descriptors give, and what is damaged or of other pairs is missing."""

from pathlib import Path

import numpy as np
import pytest
from assay_server.descriptors import DESCRIPTORS, amounts
from assay_server.descriptors.words import words
from assay_server.errors import InvalidItem
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.files import Files
from assay_server.store.texts import Texts, TextShard, asked, delete_texts, described, word_hash
from assay_server.subject.types import Message, Pair

from tests.server.store.builders import make_texts

PAIRS = make_texts(43)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(str(tmp_path))


@pytest.fixture
def datasets(files: Files) -> Datasets:
    return Datasets(files, 16)


@pytest.fixture
def dataset(datasets: Datasets) -> Dataset:
    return datasets.write(lambda: [PAIRS], "x")


def stored(files: Files, datasets: Datasets, dataset: Dataset) -> Texts:
    texts = Texts(files, dataset.id)
    for shard, entry in enumerate(dataset.shards):
        texts.write(shard, entry, described(datasets.bytes(dataset, shard)))
    return texts


def whole(texts: Texts, dataset: Dataset) -> list[TextShard]:
    found = [texts.read(shard, entry) for shard, entry in enumerate(dataset.shards)]
    assert None not in found
    return [one for one in found if one is not None]


def said(shard: TextShard, name: str) -> list[list[str]]:
    """The words of each text."""
    held = shard.words[name]
    parts = np.split(held.tokens, held.ends[:-1])
    return [["" if token == 0 else shard.spelled[int(token)] for token in part] for part in parts]


def test_a_shard_holds_what_the_descriptors_say_of_its_texts(files: Files, datasets: Datasets, dataset: Dataset) -> None:
    shards = whole(stored(files, datasets, dataset), dataset)
    assert [len(shard.rows) for shard in shards] == [16, 16, 11]
    assert np.concatenate([shard.rows for shard in shards]).tolist() == list(range(43))
    both = [amounts(asked(pair.prompt), (pair.chosen, pair.rejected)) for pair in PAIRS]
    for side, name in enumerate(("chosen", "rejected")):
        expected = np.array([one[side] for one in both], np.float32)
        assert expected.shape == (43, len(DESCRIPTORS))
        assert (expected > 0).any(axis=0).sum() > 20, "the texts show too little to be a test"
        assert np.concatenate([getattr(shard, name) for shard in shards]).tobytes() == expected.tobytes()
    texts = {"prompt": [asked(pair.prompt) for pair in PAIRS]}
    texts |= {name: [getattr(pair, name) for pair in PAIRS] for name in ("chosen", "rejected")}
    for name, own in texts.items():
        assert [one for shard in shards for one in said(shard, name)] == [words(text) for text in own]
    assert any("\U0001f600" in shard.spelled.values() for shard in shards)


def test_what_the_user_said_is_what_a_prompt_is_about() -> None:
    turns = (Message("system", "a"), Message("user", "b"), Message("assistant", "c"), Message("user", "d"))
    assert (asked(turns), asked("raw"), asked((Message("system", "a"),))) == ("b\nd", "raw", "")


def test_a_word_has_one_number_in_every_shard_and_the_end_of_a_sentence_is_0(
    files: Files, datasets: Datasets, dataset: Dataset
) -> None:
    known: dict[int, str] = {}
    for shard in whole(stored(files, datasets, dataset), dataset):
        for number, word in shard.spelled.items():
            assert known.setdefault(number, word) == word
            assert number == word_hash(word)
    assert known[0] == ""
    assert len(set(known.values())) == len(known) > 30
    assert word_hash("mint") == 18320730977161448129, "the same on every machine"


def test_equal_pairs_give_equal_bytes(datasets: Datasets, dataset: Dataset) -> None:
    data = datasets.bytes(dataset, 1)
    assert described(data) == described(data)


def test_texts_without_a_word_are_stored_too(files: Files) -> None:
    datasets = Datasets(files, 16)
    dataset = datasets.write(lambda: [[Pair("", "", "..."), Pair((Message("system", "x"),), "!?", "")]], "x")
    (shard,) = whole(stored(files, datasets, dataset), dataset)
    assert [said(shard, name) for name in ("prompt", "chosen", "rejected")] == [[[], []]] * 3
    assert shard.chosen.shape == (2, len(DESCRIPTORS))


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_of_a_surrogate_pair_is_refused_before_it_is_stored(datasets: Datasets, text: str) -> None:
    with pytest.raises(InvalidItem) as refused:
        datasets.write(lambda: [[Pair("p", text, "x")]], "x")
    assert refused.value.reason == "INVALID_TEXT"


def test_shards_are_missing_until_written_and_again_when_damaged(
    files: Files, datasets: Datasets, dataset: Dataset, tmp_path: Path
) -> None:
    assert Texts(files, dataset.id).missing(dataset.shards) == [0, 1, 2]
    texts = stored(files, datasets, dataset)
    assert texts.missing(dataset.shards) == []
    root = tmp_path / texts.root
    data = (root / "00001.parquet").read_bytes()
    (root / "00001.parquet").write_bytes(data[:-20])
    (root / "00002.json").unlink()
    assert texts.missing(dataset.shards) == [1, 2]
    assert texts.read(1, dataset.shards[1]) is None
    (root / "00001.parquet").unlink()
    (root / "00000.json").write_text("{")
    assert texts.missing(dataset.shards) == [0, 1, 2]
    assert texts.read(0, dataset.shards[0]) is None


def test_texts_of_other_pairs_or_another_place_do_not_count(files: Files, datasets: Datasets, dataset: Dataset) -> None:
    texts = stored(files, datasets, dataset)
    record = f"{texts.root}/00001.json"
    kept = files.read_json(record)
    for change in ({"start": 0}, {"pairs_sha256": dataset.shards[0].sha256}):
        files.write_json(record, {**kept, **change})
        assert texts.missing(dataset.shards) == [1]
    files.write_json(record, kept)
    assert texts.missing(dataset.shards) == []
    again = Datasets(files, 8)
    again.delete(dataset.id)
    other = again.write(lambda: [PAIRS], "x")
    assert other.id == dataset.id
    assert texts.missing(other.shards) == [0, 1, 2, 3, 4, 5]


def test_deletion_takes_every_version_and_no_other_dataset(
    files: Files, datasets: Datasets, dataset: Dataset, tmp_path: Path
) -> None:
    other = datasets.write(lambda: [make_texts(5, seed=1)], "y")
    texts, kept = stored(files, datasets, dataset), stored(files, datasets, other)
    (tmp_path / "texts" / dataset.id / "older").mkdir()
    delete_texts(files, dataset.id)
    assert texts.missing(dataset.shards) == [0, 1, 2]
    assert not (tmp_path / "texts" / dataset.id).exists()
    assert kept.missing(other.shards) == []
    delete_texts(files, dataset.id)
