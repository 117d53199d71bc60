"""Label files: what is read, what is refused, and how features are found."""

import gzip
import json
from pathlib import Path

import pytest
from assay_server.errors import InvalidItem
from assay_server.labelling.labels import BadLabels, FeatureLabel, Labels, load_labels, write_labels
from hypothesis import given
from hypothesis import strategies as st


def write(path: Path, *entries: object) -> Path:
    text = "\n".join(json.dumps(entry) for entry in entries) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


FULL = {
    "id": 3,
    "label": "praise",
    "label_method": "top-tokens",
    "detection_score": 0.9,
    "top_tokens": [" great", " superb"],
    "promoted_tokens": ["!"],
    "firing_rate": 0.01,
    "contexts": ["a «great» idea"],
    "something_else": {"ignored": True},
}


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.jsonl.gz"])
def test_labels_are_read_from_plain_and_compressed_files(tmp_path: Path, name: str) -> None:
    labels = load_labels(write(tmp_path / name, FULL, {"id": 5, "label": None, "method": "x"}), 10)
    assert labels.get(3) == FeatureLabel(3, "praise", "top-tokens", 0.9, (" great", " superb"), ("!",), 0.01, ("a «great» idea",))
    assert labels.get(5) == FeatureLabel(5, label_method="x")
    assert labels.get(4) == FeatureLabel(4)
    assert labels.count == 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"label": "x"}, "id is None"),
        ({"id": 10}, "features 0 to 9"),
        ({"id": -1}, "features 0 to 9"),
        ({"id": True}, "id is True"),
        ({"id": "3"}, "id is '3'"),
        ({"id": 1, "label": 5}, "label is a int"),
        ({"id": 1, "top_tokens": "abc"}, "top_tokens is not a list"),
        ({"id": 1, "contexts": [1]}, "contexts is not a list"),
        ({"id": 1, "detection_score": 1.5}, "detection_score is 1.5"),
        ({"id": 1, "firing_rate": float("nan")}, "firing_rate is nan"),
        ([1], "not a JSON object"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(tmp_path: Path, entry: object, words: str) -> None:
    with pytest.raises(BadLabels, match="line 2") as caught:
        load_labels(write(tmp_path / "labels.jsonl", {"id": 0}, entry), 10)
    assert words in caught.value.message


def test_files_that_are_not_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{not json\n")
    (tmp_path / "b.jsonl.gz").write_bytes(b"not gzip")
    (tmp_path / "c.jsonl").write_bytes(b"\xff\xfe\n")
    for path in (*tmp_path.iterdir(), tmp_path / "missing.jsonl"):
        with pytest.raises(BadLabels):
            load_labels(path, 10)
    with pytest.raises(BadLabels, match="already"):
        load_labels(write(tmp_path / "d.jsonl", {"id": 1}, {"id": 1}), 10)


def test_a_lone_surrogate_becomes_a_character_that_can_be_sent(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "label": "x\\ud800y"}\n')
    assert load_labels(tmp_path / "a.jsonl", 10).get(1).label == "x\ufffdy"


def test_filter_looks_into_labels_and_tokens_in_either_case() -> None:
    labels = Labels(
        100,
        {
            1: FeatureLabel(1, label="Straße names"),
            2: FeatureLabel(2, top_tokens=(" Street",)),
            3: FeatureLabel(3, promoted_tokens=("STREET",)),
            4: FeatureLabel(4, label="x", contexts=("street",)),
        },
    )
    assert [entry.id for entry in labels.page(filter="street").features] == [2, 3]
    assert [entry.id for entry in labels.page(filter="STRASSE").features] == [1]
    assert labels.page(filter="nothing") == labels.page(filter="nowhere")
    assert labels.page(filter="nothing").total_size == 0


@given(st.integers(1, 300), st.integers(0, 1200), st.integers(0, 5))
def test_pages_cover_every_feature_once_in_order(d_sae: int, size: int, extra: int) -> None:
    labels = Labels(d_sae, {id: FeatureLabel(id, label="even") for id in range(0, d_sae, 2)})
    for needle, wanted in (("", list(range(d_sae))), ("even", list(range(0, d_sae, 2)))):
        seen: list[int] = []
        token = ""
        while True:
            page = labels.page(size=size + extra, token=token, filter=needle)
            assert page.total_size == len(wanted)
            seen += [entry.id for entry in page.features]
            if not (token := page.next_page_token):
                break
        assert seen == wanted


def test_a_token_holds_for_its_own_filter_only() -> None:
    labels = Labels(500, {id: FeatureLabel(id, label="a b") for id in range(500)})
    token = labels.page(filter="a").next_page_token
    assert labels.page(filter="a", token=token).features[0].id == 100
    for filter in ("", "b"):
        with pytest.raises(InvalidItem, match="page_token"):
            labels.page(filter=filter, token=token)
    with pytest.raises(InvalidItem, match="page_size"):
        labels.page(size=-1)


@given(st.text())
def test_no_text_passes_for_a_token(text: str) -> None:
    if text:
        with pytest.raises(InvalidItem):
            Labels(500).page(token=text)


def test_what_is_written_reads_back_the_same_and_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    entries = [
        FeatureLabel(3, "praise", "x", 0.9, (" great",), ("!",), 0.01, ("a «great» idea",)),
        FeatureLabel(4),
        FeatureLabel(5, "ümläut “”", detection_score=0.0),
    ]
    for name in ("labels.jsonl.gz", "labels.jsonl"):
        write_labels(tmp_path / name, entries)
        first = (tmp_path / name).read_bytes()
        assert [load_labels(tmp_path / name, 10).get(entry.id) for entry in entries] == entries
        write_labels(tmp_path / name, entries)
        assert (tmp_path / name).read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.jsonl", "labels.jsonl.gz"]


def test_bettered_labels_are_found_at_once_and_forgotten_ones_no_more() -> None:
    labels = Labels(10, {3: FeatureLabel(3, "praise"), 4: FeatureLabel(4, "blame")})
    assert list(labels.search("PRAISE")) == [3]
    before = labels.version
    labels.update([FeatureLabel(3, "thanks"), FeatureLabel(5, "praise")])
    assert labels.version > before
    assert list(labels.search("praise")) == [5]
    assert [entry.label for entry in labels.known()] == ["thanks", "blame", "praise"]
    assert labels.count == 3
    assert list(labels.search("")) == []


def test_a_label_of_a_feature_that_the_sae_has_not_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="feature 10 of 10"):
        Labels(10).update([FeatureLabel(10)])
