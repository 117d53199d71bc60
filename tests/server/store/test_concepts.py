"""Stored concepts outlive the process, are read without us, notice damage, and stay with their subject."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assay_server.concepts.measuring import ConceptReport
from assay_server.errors import DataLoss, InvalidItem, NotFound, SubjectMismatch
from assay_server.store.clusters import Cluster, StoredClusters
from assay_server.store.concepts import (
    ConceptFiles,
    ConceptKind,
    NearFeature,
    StoredConcept,
    renamed,
    require_subject,
    subject_fingerprint,
    unit,
)
from assay_server.store.files import Files
from safetensors import safe_open

from tests.support.fake_scorer import INFO

SUBJECT = subject_fingerprint(INFO)
REPORT = ConceptReport(7, 8, 3, 4, 0.9, 0.8, 0.95, 0.85, 0.43, 0.9, -1.5, 0.6, 0.7, pair_accuracy=1.0)
DIRECTION = StoredConcept(
    "polite",
    "Polite ↔ rude",
    ConceptKind.DIRECTION,
    SUBJECT,
    12.5,
    direction=unit(np.arange(8), "direction"),
    method="logistic",
    report=REPORT,
    nearest=(NearFeature(3, 0.5), NearFeature(9, -0.25)),
    source={"kind": "texts", "seed": 3},
)
SET = StoredConcept("lists", "Lists", ConceptKind.FEATURES, SUBJECT, 11.0, np.array([3, 17, 44]), np.ones(3, dtype=np.float32))


@pytest.fixture
def files(tmp_path: Path) -> ConceptFiles:
    return ConceptFiles(Files(str(tmp_path)))


def same(a: StoredConcept, b: StoredConcept) -> bool:
    plain = [replace(one, features=0, weights=0, direction=None) for one in (a, b)]
    return (
        [getattr(plain[0], name) for name in StoredConcept.__dataclass_fields__]
        == [getattr(plain[1], name) for name in StoredConcept.__dataclass_fields__]
        and np.array_equal(a.features, b.features)
        and np.array_equal(a.weights, b.weights)
        and (a.direction is None) == (b.direction is None)
        and (a.direction is None or np.array_equal(a.direction, b.direction))
    )


@pytest.mark.parametrize("concept", [DIRECTION, SET])
def test_what_is_written_reads_back_to_the_bit(files: ConceptFiles, concept: StoredConcept) -> None:
    files.write(concept)
    found = files.read(concept.id)
    assert same(found, concept)
    assert found.features.dtype == np.int64
    assert found.weights.dtype == np.float32


def test_a_concept_is_read_by_json_and_safetensors_alone(files: ConceptFiles, tmp_path: Path) -> None:
    files.write(DIRECTION)
    folder = tmp_path / "concepts/polite"
    with safe_open(str(folder / "concept.safetensors"), "numpy") as tensors:
        assert np.linalg.norm(tensors.get_tensor("direction")) == pytest.approx(1)
    record = json.loads((folder / "concept.json").read_text())
    assert record["report"]["auroc"] == 0.9
    assert record["subject"] == SUBJECT


def test_all_are_listed_oldest_first_and_damaged_ones_by_name(files: ConceptFiles, tmp_path: Path) -> None:
    for concept in (DIRECTION, SET, replace(SET, id="torn", created=5.0)):
        files.write(concept)
    (tmp_path / "concepts/unfinished").mkdir()
    (tmp_path / "concepts/unfinished/concept.safetensors").write_bytes(b"")
    torn = tmp_path / "concepts/torn/concept.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1] + b"\x01")
    found, lost = files.read_all()
    assert [concept.id for concept in found] == ["lists", "polite"]
    assert lost == ["torn"]
    with pytest.raises(DataLoss, match="concepts/torn"):
        files.read("torn")


def test_a_concept_without_its_tensors_is_damaged_and_one_without_a_record_is_none(files: ConceptFiles, tmp_path: Path) -> None:
    files.write(DIRECTION)
    (tmp_path / "concepts/polite/concept.safetensors").unlink()
    with pytest.raises(DataLoss):
        files.read("polite")
    files.delete("polite")
    for id in ("polite", "../lock", "", "a/b"):
        with pytest.raises(NotFound):
            files.read(id)
    assert files.read_all() == ([], [])


def test_another_subject_refuses_it_and_names_both_fingerprints() -> None:
    other = subject_fingerprint(replace(INFO, hook="blocks.2.hook_resid_post"))
    assert require_subject(DIRECTION, SUBJECT) is DIRECTION
    with pytest.raises(SubjectMismatch) as refused:
        require_subject(DIRECTION, other)
    assert SUBJECT[:16] in refused.value.message
    assert other[:16] in refused.value.message
    assert refused.value.details["concept_subject"] == SUBJECT
    assert refused.value.details["loaded_subject"] == other


@pytest.mark.parametrize("change", [{"model_fingerprint": "x"}, {"sae_fingerprint": "x"}, {"hook": "x"}])
def test_the_fingerprint_follows_model_sae_and_hook(change: dict[str, str]) -> None:
    assert subject_fingerprint(replace(INFO, **change)) != SUBJECT
    assert subject_fingerprint(replace(INFO, device="cuda:0", sae_id="renamed")) == SUBJECT


def test_only_plain_sets_are_tested_as_clusters_are() -> None:
    assert SET.is_set
    assert not DIRECTION.is_set
    assert not replace(SET, weights=np.array([1, 2, 1], dtype=np.float32)).is_set


def test_examples_are_kept_once_and_swept_when_nothing_uses_them(files: ConceptFiles) -> None:
    texts = {"positive": [{"prompt": "", "response": "thanks"}], "negative": []}
    digest = files.write_examples(texts)
    assert files.write_examples(texts) == digest
    other = files.write_examples({"pairs": []})
    assert files.read_examples(digest) == texts
    files.sweep_examples([other])
    with pytest.raises(DataLoss):
        files.read_examples(digest)
    assert files.read_examples(other) == {"pairs": []}


def test_clusters_and_labels_are_kept_by_subject(files: ConceptFiles) -> None:
    clusters = StoredClusters(96, (Cluster(0, (1, 2, 3, 4), 0.5), Cluster(1, (5, 6, 7, 8))), samples=9)
    assert files.read_clusters(SUBJECT, 96) is None
    files.write_clusters(SUBJECT, renamed(clusters, {1: ("lists", "members/1", None)}))
    found = files.read_clusters(SUBJECT, 96)
    assert found is not None
    assert [cluster.label for cluster in found.clusters] == ["", "lists"]
    assert renamed(found, {1: ("", "", None)}) == clusters
    assert files.read_clusters("f" * 64, 96) is None
    files.write_labels(SUBJECT, '{"id": 1}\n')
    assert files.read_labels(SUBJECT) == '{"id": 1}\n'
    assert files.read_labels("f" * 64) == ""


@pytest.mark.parametrize("vector", [np.zeros(4), np.array([np.inf, 0.0]), np.array([np.nan])])
def test_a_direction_without_a_length_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(InvalidItem, match="points somewhere"):
        unit(vector, "direction")
