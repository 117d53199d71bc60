"""Neuronpedia's exports in the shapes that they come in, and what is refused of them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from assay_server.labelling.labels import BadLabels, FeatureLabel, load_labels
from assay_server.labelling.neuronpedia import main, read_export

SOURCE = "20-gemmascope-res-16k"


def explanation(index: int | str, description: str, **more: Any) -> dict[str, Any]:
    """A line as the bucket holds it."""
    return {
        "id": f"cm{index}",
        "modelId": "gemma-2-2b",
        "layer": SOURCE,
        "index": str(index),
        "authorId": "np",
        "description": description,
        "typeName": "oai_token-act-pair",
        "explanationModelName": "gpt-4o-mini",
        "embedding": "[0.0, 1.0]",
        "createdAt": "2024-08-01T00:00:00.000Z",
        **more,
    }


def save(path: Path, *lines: object, text: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = ("\n".join(json.dumps(line) for line in lines) + "\n" if text is None else text).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def scored(value: Any, kind: str = "eleuther_recall") -> dict[str, Any]:
    return {"scores": [{"explanationScoreTypeName": kind, "value": value}]}


def test_a_folder_of_gzipped_batches_is_read(tmp_path: Path) -> None:
    save(tmp_path / "explanations/batch-0.jsonl.gz", explanation(3, " time-related phrases"), explanation(1, "negations"))
    save(tmp_path / "explanations/batch-10.jsonl.gz", explanation(5, "dogs", embedding=[0.0, 1.0]))
    save(
        tmp_path / "features/batch-0.jsonl.gz",
        {"layer": SOURCE, "index": "3", "pos_str": [" then", " now"], "frac_nonzero": 0.01},
    )
    method = "neuronpedia:oai_token-act-pair:gpt-4o-mini"
    assert read_export(tmp_path, d_sae=10) == [
        FeatureLabel(1, "negations", method),
        FeatureLabel(3, "time-related phrases", method, promoted_tokens=(" then", " now"), firing_rate=0.01),
        FeatureLabel(5, "dogs", method),
    ]


@pytest.mark.parametrize("name", ["batch-0.jsonl", "batch-0.jsonl.gz", "labels.json"])
def test_single_files_are_read_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, explanation(3, "x"), explanation("4", "y"))
    assert [label.id for label in read_export(path, d_sae=10)] == [3, 4]


@pytest.mark.parametrize("indent", [None, 2])
def test_one_list_and_one_object_are_read_however_they_are_laid_out(tmp_path: Path, indent: int | None) -> None:
    listed = save(tmp_path / "list.json", text=json.dumps([explanation(3, "x"), explanation(4, "y")], indent=indent))
    assert [label.label for label in read_export(listed, d_sae=10)] == ["x", "y"]
    feature = {"layer": SOURCE, "index": "7", "explanations": [explanation(7, "z")], "pos_str": ["a"], "frac_nonzero": 0.5}
    single = save(tmp_path / "feature.json", text=json.dumps(feature, indent=indent))
    (label,) = read_export(single, d_sae=10)
    assert (label.id, label.label, label.promoted_tokens, label.firing_rate) == (7, "z", ("a",), 0.5)


def test_of_several_explanations_the_best_detected_wins_then_the_newest(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.jsonl",
        explanation(1, "unscored, newest", createdAt="2025-01-01"),
        explanation(1, "weaker", **scored(0.6)),
        explanation(1, "stronger", **scored(0.9)),
        explanation(2, "older", createdAt="2024-01-01"),
        explanation(2, "newer", createdAt="2025-01-01"),
        explanation(3, ""),
        explanation(3, "only one with words"),
    )
    found = {label.id: (label.label, label.detection_score) for label in read_export(path, d_sae=10)}
    assert found == {1: ("stronger", 0.9), 2: ("newer", None), 3: ("only one with words", None)}


@pytest.mark.parametrize(
    "more",
    [scored(0.9, "recall_alt"), scored(1.5), scored("0.9"), scored(True), scored(None), {"scores": None}, {"scores": [7]}],
)
def test_only_a_detection_score_counts_as_one(tmp_path: Path, more: dict[str, Any]) -> None:
    (label,) = read_export(save(tmp_path / "a.jsonl", explanation(1, "x", **more)), d_sae=10)
    assert label.detection_score is None


def test_several_sources_are_refused_until_one_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", explanation(1, "here"), explanation(1, "there", layer="5-res-jb"))
    with pytest.raises(BadLabels, match=rf"{SOURCE}, 5-res-jb.*--source"):
        read_export(path, d_sae=10)
    assert [label.label for label in read_export(path, d_sae=10, source="5-res-jb")] == ["there"]
    with pytest.raises(BadLabels, match="no explanation of source nowhere"):
        read_export(path, d_sae=10, source="nowhere")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"index": 10, "description": "x"}', "features 0 to 9"),
        ('{"index": "-1", "description": "x"}', "features 0 to 9"),
        ('{"index": null, "description": "x"}', "features 0 to 9"),
        ('{"index": true, "description": "x"}', "features 0 to 9"),
        ('{"index": 1, "description": "x"}\n{"index"}', "line 2 is not JSON"),
        ("[1]", "entry 1 is not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ("", "no explanation"),
        ('{"index": 1, "description": 7}', "no explanation"),
    ],
)
def test_what_is_no_export_of_this_sae_is_refused_by_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadLabels, match=words):
        read_export(save(tmp_path / "a.jsonl", text=text), d_sae=10)


def test_a_torn_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    torn = tmp_path / "batch-0.jsonl.gz"
    torn.write_bytes(gzip.compress(json.dumps(explanation(1, "x" * 500)).encode())[:-9])
    with pytest.raises(BadLabels, match="Cannot read batch-0"):
        read_export(torn, d_sae=10)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadLabels, match="neither a file nor a folder"):
        read_export(tmp_path / "empty", d_sae=10)


def test_labels_are_one_printable_line(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", explanation(1, "two\nlines\u0000 \ud800 and " + "x" * 500))
    (label,) = read_export(path, d_sae=10)
    assert label.label.startswith("two lines and xx")
    assert label.label.isprintable()
    assert len(label.label) == 120


def test_the_command_writes_a_file_that_the_server_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "in/batch-0.jsonl.gz", explanation(3, "x", **scored(0.75)), explanation(4, "y"))
    out = tmp_path / "labels.jsonl.gz"
    assert main([str(tmp_path / "in"), "--d-sae", "10", "--out", str(out)]) == 0
    assert "2 labels of 10 features, 1 with a detection score" in capsys.readouterr().out
    loaded = load_labels(out, 10)
    assert loaded.get(3).detection_score == 0.75
    assert loaded.get(4).label == "y"
    assert main([str(tmp_path / "in"), "--d-sae", "3", "--out", str(out)]) == 1
    assert "another SAE's" in capsys.readouterr().err
