"""The demo SAE's clusters: what ships is sound and fits its labels, and the recipe reads responses and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from assay_server.labelling.labels import load_labels
from assay_server.labelling.words import GroupWords
from assay_server.store.clusters import load_clusters
from assay_server.subject.types import Pair

from demo import ASSETS
from demo.cluster_features import cluster, fired_on, firings, pairs_of
from tests.support.concepts import loud_pairs
from tests.support.tiny_scorer import WatchedTokenizer, scorers
from tests.support.tiny_subject import Watched

CLUSTERS = ASSETS / "sae" / "clusters.json.gz"


def test_what_ships_are_clusters_of_the_shipped_sae_and_they_can_be_called_something() -> None:
    found = load_clusters(CLUSTERS, 4096)
    assert len(found) >= 20
    assert all(len(entry.features) >= 4 for entry in found.clusters)
    assert [len(entry.features) for entry in found.clusters] == sorted((len(e.features) for e in found.clusters), reverse=True)
    assert found.samples > 3000
    words = GroupWords(load_labels(ASSETS / "labels.jsonl.gz", 4096))
    told = [words.of(entry.features).label for entry in found.clusters]
    assert all(told)
    assert len(set(told)) == len(told), "no two clusters are called the same"


def test_the_file_holds_numbers_and_no_text_of_a_response() -> None:
    found = load_clusters(CLUSTERS, 4096)
    assert all(
        (entry.label, entry.label_method) == ("", "") or entry.label_method == "read-contexts/1" for entry in found.clusters
    )
    assert found.made_from.startswith("responses of pairs.jsonl and of HH-RLHF pairs ")


async def test_each_response_is_a_sample_and_a_pair_that_cannot_be_read_is_left_out() -> None:
    pairs = [*loud_pairs(3), Pair("q", "x" * 5000, "y"), *loud_pairs(2)]
    async with scorers(Watched(), WatchedTokenizer()) as begin:
        rows = await fired_on(begin(), pairs)
    assert len(rows) == 10
    assert all(np.array_equal(rows[i], rows[6 + i]) for i in range(4)), "equal responses fire alike, chosen before rejected"


def test_what_was_read_is_kept_and_the_same_firings_give_the_same_clusters(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    topics = generator.integers(0, 3, 400)
    fired = [np.flatnonzero((np.arange(30) // 10 == topic) & (generator.random(30) < 0.8)) for topic in topics]
    path = tmp_path / "pairs.jsonl"
    path.write_text("{}")
    kept = tmp_path / "scratch"
    kept.mkdir()
    from demo.cluster_features import digest

    indptr = np.cumsum([0, *map(len, fired)])
    np.savez(kept / f"firings-{digest(path)}-float32.npz", features=np.concatenate(fired), indptr=indptr, d_sae=30)
    read = firings(path, lambda: pytest.fail("what was read is not read again"), kept, "float32")
    assert read.shape == (400, 30)
    found = cluster(read, "x", 1.0)
    assert cluster(read, "x", 1.0) == found
    assert found.samples == 400
    for entry in found.clusters:
        assert len({feature // 10 for feature in entry.features}) == 1


def test_the_sample_pairs_are_all_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(pairs_of(ASSETS / "pairs.jsonl"))) == 319
    assert "0 rows hold no pair" in capsys.readouterr().out
