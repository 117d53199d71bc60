"""Files of every kind give the same pairs; damage is named with its place."""

import contextlib
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from assay import InputError, Pair
from assay.data import RowError, open_pairs, read_pairs, sources
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROWS: list[dict[str, Any]] = [
    {"prompt": f"What is {i} + {i}?", "chosen": f"It is {2 * i}.", "rejected": f"Ünsure 🍵 {i}", "id": f"r{i}"}
    for i in range(700)
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes rows as the kind of file that the name says; a name without a dot is a datasets folder."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.name.endswith(".json.gz"):
        path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines))
    elif path.name == "array.json":
        path.write_text("\ufeff  " + json.dumps(rows, indent=1), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100)
    elif not path.suffix:
        datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
        datasets.Dataset.from_list(rows).save_to_disk(str(path), num_shards=3)
    else:
        path.write_bytes(lines)
    return path


KINDS = ["a.jsonl", "b.jsonl.gz", "lines.json", "array.json", "c.json.gz", "d.parquet", "folder", "e.ndjson"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_pairs_with_lines_and_total(tmp_path: Path, name: str) -> None:
    file = open_pairs(write(tmp_path / name, ROWS))
    rows = list(file.rows())
    assert [row.line for row in rows] == list(range(1, 701))
    assert [row.pair.id for row in rows if row.pair] == [row["id"] for row in ROWS]
    assert rows[699].pair is not None
    assert rows[699].pair.rejected == "Ünsure 🍵 699"
    assert file.total == 700
    assert sum(file.formats.values()) == 700
    assert [row.line for row in file.rows(skip=695)] == [696, 697, 698, 699, 700]


@pytest.mark.parametrize("name", KINDS)
def test_the_digest_is_of_the_content(tmp_path: Path, name: str) -> None:
    first = open_pairs(write(tmp_path / name, ROWS)).digest
    (tmp_path / "again").mkdir()
    changed = [*ROWS[:-1], ROWS[-1] | {"chosen": "Something else."}]
    assert open_pairs(write(tmp_path / "again" / name, changed)).digest != first


def test_bad_lines_are_told_in_their_place_and_end_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    good = json.dumps(ROWS[0]).encode()
    path.write_bytes(
        b"\n".join([b"\xef\xbb\xbf" + good, b"", b"{broken", b'{"a": "\xff"}', b"[" * 100_000, b"  ", b"9" * 5000, good])
    )
    rows = list(open_pairs(path).rows())
    told = [(row.line, row.error.reason if row.error else "") for row in rows]
    assert told == [
        (1, ""),
        (3, "INVALID_JSON"),
        (4, "INVALID_UTF8"),
        (5, "INVALID_JSON"),
        (7, "INVALID_JSON"),
        (8, ""),
    ]
    assert all(str(row.error).startswith(f"line {row.line}: ") for row in rows if row.error)
    assert open_pairs(path).total == 6


def test_a_line_of_any_length_costs_a_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / "long.jsonl"
    with path.open("wb") as stream:
        for _ in range(64):
            stream.write(b"x" * (1 << 20))
        stream.write(b"\n" + json.dumps(ROWS[0]).encode())
    tracemalloc.start()
    rows = list(open_pairs(path).rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(row.line, row.error.reason if row.error else "") for row in rows] == [(1, "LINE_TOO_LONG"), (2, "")]
    assert peak < 8 << 20


@pytest.mark.parametrize("name", ["big.jsonl.gz", "big.json.gz"])
def test_a_large_file_is_never_whole_in_memory(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, [row | {"filler": "w" * 2000} for row in ROWS * 20])
    tracemalloc.start()
    count = sum(1 for _ in open_pairs(path).rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 14_000
    assert peak < 16 << 20  # of about 30 MB


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("torn.jsonl.gz", gzip.compress(b'{"prompt": "q"}\n' * 5000)[:-30], "row"),
        ("torn.json", b'[{"prompt": "q", "chosen": "a", "rejected": "b"}, {"prom', "row 2"),
        ("comma.json", b'[{"chosen": "a", "rejected": "b"} {}]', "row 1"),
        ("after.json", b'[{"chosen": "a", "rejected": "b"}] []', "row 1"),
        ("open.json", b'[{"chosen": "a", "rejected": "b"}', "row 1"),
        ("no.parquet", b"PAR1 and then something else", "row 1"),
    ],
)
def test_damage_that_hides_the_next_row_ends_the_reading_and_names_the_row(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        list(open_pairs(tmp_path / name).rows())
    assert caught.value.reason == "DAMAGED"


def test_arrays_of_numbers_are_not_cut_at_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_BLOCK", 3)
    path = tmp_path / "numbers.json"
    path.write_text("[ 123456, 7 ,890,\n[1, 2], 5]")
    assert list(sources.array_elements(path)) == [(1, 123456), (2, 7), (3, 890), (4, [1, 2]), (5, 5)]
    path.write_text(" [ ] ")
    assert list(sources.array_elements(path)) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=st.binary(max_size=200) | st.text(alphabet='[]{},:"chosenrejt \n1', max_size=60).map(str.encode))
def test_any_bytes_are_rows_or_an_input_error(tmp_path: Path, content: bytes) -> None:
    for name in ("any.jsonl", "any.json", "any.jsonl.gz"):
        (tmp_path / name).write_bytes(content)
        with contextlib.suppress(InputError):
            file = open_pairs(tmp_path / name)
            assert len(list(file.rows())) == file.total


def test_splits_are_named_where_there_are_several(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
    both = {"train": datasets.Dataset.from_list(ROWS[:30]), "test": datasets.Dataset.from_list(ROWS[30:35])}
    datasets.DatasetDict(both).save_to_disk(str(tmp_path / "dict"))
    assert open_pairs(tmp_path / "dict", split="test").total == 5
    for split in (None, "validation"):
        with pytest.raises(InputError, match="train, test"):
            open_pairs(tmp_path / "dict", split=split)


def test_what_is_no_file_of_pairs_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name, reason in (("notes.txt", "UNKNOWN_KIND"), ("empty", "UNKNOWN_KIND"), ("gone.jsonl", "NO_SUCH_FILE")):
        with pytest.raises(InputError) as caught:
            open_pairs(tmp_path / name)
        assert caught.value.reason == reason


def test_read_pairs_raises_or_hands_over_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\nnonsense\n" + json.dumps(ROWS[1]) + "\n")
    bad: list[RowError] = []
    pairs = list(read_pairs(path, on_error=bad.append))
    assert [pair.id for pair in pairs] == ["r0", "r1"]
    assert [error.line for error in bad] == [2]
    with pytest.raises(RowError, match="line 2"):
        list(read_pairs(path))


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    for name in ("e.jsonl", "e.json", "e.jsonl.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
        assert list(open_pairs(tmp_path / name).rows()) == []


def test_a_pair_that_is_read_is_a_pair_like_any_other(tmp_path: Path) -> None:
    assert isinstance(next(read_pairs(write(tmp_path / "a.jsonl", ROWS[:1]))), Pair)
