"""Files of clusters: the same bytes for the same clusters, and a refusal of what belongs to another SAE."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from assay_server.store.clusters import BadClusters, Cluster, StoredClusters, from_record, load_clusters, save_clusters, to_record

CLUSTERS = StoredClusters(
    d_sae=20,
    clusters=(Cluster(0, (1, 2, 3, 4), 0.5, "“a”", "evidence-tokens/1", 0.9), Cluster(1, (7, 9))),
    samples=100,
    edges=7,
    options={"seed": 0},
    made_from="a corpus",
)


@pytest.mark.parametrize("name", ["clusters.json", "clusters.json.gz"])
def test_what_is_saved_loads_the_same_and_twice_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_clusters(path, CLUSTERS)
    data = path.read_bytes()
    assert load_clusters(path, 20) == CLUSTERS
    save_clusters(path, CLUSTERS)
    assert path.read_bytes() == data


def test_another_saes_clusters_are_refused_with_both_numbers() -> None:
    with pytest.raises(BadClusters, match=r"20 features.*the loaded one has 30"):
        from_record(to_record(CLUSTERS), 30, "clusters.json")


@pytest.mark.parametrize(
    "entries",
    [
        [{"id": 1, "features": [1]}],
        [{"id": 0, "features": []}],
        [{"id": 0, "features": [2, 1]}],
        [{"id": 0, "features": [1, 1]}],
        [{"id": 0, "features": [20]}],
        [{"id": 0, "features": [-1]}],
        [{"id": 0, "features": [1]}, {"id": 1, "features": [1]}],
        [{"id": 0, "features": [1], "detection_score": 1.5}],
        [{"id": 0}],
        [7],
        None,
    ],
)
def test_clusters_that_are_none_are_refused(entries: Any) -> None:
    with pytest.raises(BadClusters):
        from_record({"format": "assay-clusters/1", "d_sae": 20, "clusters": entries}, 20, "clusters.json")


def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    for name, data in (
        ("torn.json.gz", gzip.compress(json.dumps(to_record(CLUSTERS)).encode())[:-5]),
        ("list.json", b"[]"),
        ("other.json", b'{"format": "x"}'),
        ("no.json", b"no"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadClusters, match=name.partition(".")[0]):
            load_clusters(tmp_path / name, 20)
