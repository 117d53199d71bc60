"""What ``assay compare`` reads and prints, without a server; the whole is in tests/e2e."""

import gzip
import json
from pathlib import Path

import pytest
from assay.cli.compare import figure_lines, margins_of, shift_lines
from assay.comparisons import ConceptShift, Estimate, RolloutComparison
from assay.errors import InputError
from assay.hypotheses import ConceptRef

from tests.client.test_client_comparisons import message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.txt", "0.5\n-1\n\n2e-3\n"),
        ("m.jsonl", '{"margin": 0.5}\n{"rewards/margins": -1, "loss": 3}\n0.002\n'),
        ("m.json", "[0.5, -1, 0.002]"),
        ("m.json", '{"margins": [0.5, {"margin": -1}, 0.002], "of": "held out"}'),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_margins_are_read_in_every_way_that_they_are_written(tmp_path: Path, name: str, text: str, zipped: bool) -> None:
    path = tmp_path / (f"{name}.gz" if zipped else name)
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    assert margins_of(path) == [0.5, -1.0, 0.002]


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("m.txt", "0.5\nmuch\n", "line 2"),
        ("m.txt", "0.5\nNaN\n", "line 2"),
        ("m.jsonl", '{"loss": 1}\n', "line 1"),
        ("m.jsonl", "true\n", "line 1"),
        ("m.json", "[1, null]", "entry 1"),
        ("m.json", "{}", "holds no list"),
        ("m.json", "[1,", "is no JSON"),
    ],
)
def test_what_is_no_margin_is_named_by_its_place(tmp_path: Path, name: str, text: str, place: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=place):
        margins_of(path)


def test_figures_that_are_not_defined_are_a_dash() -> None:
    head, retained, above, noise = figure_lines(RolloutComparison.from_proto(message()))
    assert head.split() == ["over", "concepts", "squared", "Pearson", "with", "gap", "R²", "Spearman", "slope"]
    assert "0.50 [0.25, 0.75]" in retained
    assert above.split() == ["above", "noise", "0", "-", "-", "-", "-", "-"]
    assert noise.startswith("noise itself")


def test_shifts_fit_the_screen_and_labels_cannot_drive_it() -> None:
    concept = ConceptRef("feature/3", "a label\x1b[31m with much to say" * 5, "", None, (3,), 1)
    shift = ConceptShift(concept, 0.1234, 0.01, Estimate(-0.05, -0.07, -0.03), 0.001, 0.002, True, True)
    lines = shift_lines([shift, shift], width=90)
    assert all(len(line) <= 90 for line in lines)
    assert lines[1].startswith("*  feature/3 a label [31m")
    assert lines[1].endswith("+0.123  -0.050 [-0.070, -0.030]  +0.001")
    assert json.dumps(lines).isprintable()
