"""Imports of real files: the pairs of every kind, bad rows, what is refused, and ``kill -9`` in the middle."""

import asyncio
import gzip
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from assay_server.errors import InvalidItem
from assay_server.importing import read_pair_file
from assay_server.jobs.datasets.jobs import DatasetJobs
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.run import NAMED_ROWS, Imports, ReadPairs
from assay_server.jobs.datasets.scoring import ScoringOptions
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.types import OperationInfo
from assay_server.store.datasets import Datasets
from assay_server.store.files import DataDir
from assay_server.store.uploads import Uploads
from assay_server.subject.types import Message, Pair

from tests.server.jobs.datasets import killed_import
from tests.server.jobs.datasets.killed_import import SHARD
from tests.support.fake_scorer import INFO, FakeScorer
from tests.support.waiting import PATIENCE

ROWS = 100


def row(number: int) -> dict[str, Any]:
    """A row as preference datasets have them: messages, plain columns, and an object of metadata."""
    prompt = [{"role": "user", "content": f"What is {number % 9}?"}]
    answers = [[{"role": "assistant", "content": f"{word} {number} é\n"}] for word in ("It is", "No:")]
    metadata = {"topic": ("sums", "tea")[number % 2], "turn": number % 3}
    return {"prompt": prompt, "chosen": answers[0], "rejected": answers[1], "score": 0.5 * number, "metadata": metadata}


def read_as(number: int) -> Pair:
    """What that row is."""
    prompt = (Message("user", f"What is {number % 9}?"),)
    metadata = {"score": str(0.5 * number), "topic": ("sums", "tea")[number % 2], "turn": str(number % 3)}
    return Pair(prompt, f"It is {number} é\n", f"No: {number} é\n", str(number + 1), metadata)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(one) + "\n" for one in rows)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=30)
    else:
        path.write_text(text)
    return path


class Shop:
    """The imports of one data directory, and what they made."""

    def __init__(self, data: DataDir, root: Path, read: ReadPairs | None, max_pairs: int) -> None:
        store = Datasets(data.files, SHARD)
        self.operations = Operations(data.files, {"imports": 1})
        self.imports = Imports(store, self.operations, roots=[str(root)], read_pairs=read, max_pairs=max_pairs)
        reader, uploads = DatasetReader(data.files, store, FakeScorer(), ScoringOptions()), Uploads(data.files, max_pairs)
        self.datasets = DatasetJobs(data.files, store, uploads, reader, self.imports, self.operations, INFO)

    async def run(self, uri: str, request_id: str = "") -> OperationInfo:
        return await self.operations.wait((await self.imports.begin(uri, "", request_id)).name, PATIENCE)

    async def pairs(self, end: OperationInfo) -> list[Pair]:
        assert end.error is None, end.error
        return [pair async for _, chunk in self.datasets.read(end.response) for pair in chunk]


@asynccontextmanager
async def opened(folder: Path, root: Path, read: ReadPairs | None = read_pair_file, max_pairs: int = 1000) -> AsyncIterator[Shop]:
    with DataDir(str(folder)) as data:
        shop = Shop(data, root, read, max_pairs)
        await shop.operations.start()
        try:
            yield shop
        finally:
            await shop.operations.aclose()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
async def shop(tmp_path: Path, root: Path) -> AsyncIterator[Shop]:
    async with opened(tmp_path / "data", root) as one:
        yield one


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "ä b%.jsonl"])
async def test_a_file_of_any_kind_becomes_the_pairs_that_it_holds(shop: Shop, root: Path, name: str) -> None:
    end = await shop.run(write(root / name, [row(number) for number in range(ROWS)]).as_uri())
    assert await shop.pairs(end) == [read_as(number) for number in range(ROWS)]
    assert (end.pairs_done, end.pairs_total) == (ROWS, ROWS)
    (dataset,) = await shop.datasets.all()
    assert (dataset.display_name, dataset.prompts, dataset.metadata_keys) == (name, 9, ("score", "topic", "turn"))


async def test_the_same_rows_in_any_kind_of_file_are_one_dataset(shop: Shop, root: Path) -> None:
    rows = [row(number) for number in range(ROWS)]
    ends = [await shop.run(write(root / name, rows).as_uri()) for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")]
    assert len({end.response for end in ends}) == 1
    assert len(await shop.datasets.all()) == 1


async def test_rows_without_a_pair_are_left_out_counted_and_named(
    shop: Shop, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [json.dumps(row(number)) for number in range(60)]
    lines[2], lines[40], lines[41] = "{torn", json.dumps({"prompt": "q", "chosen": "secret"}), ""
    (root / "a.jsonl").write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING):
        end = await shop.run((root / "a.jsonl").as_uri())
    assert await shop.pairs(end) == [read_as(number) for number in range(60) if number not in (2, 40, 41)]
    assert (end.pairs_done, end.pairs_total) == (57, 59), "a blank line is no row"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert "line 3 " in told[0]
    assert "[INVALID_JSON]" in told[0]
    assert "line 41 " in told[1]
    assert "[MISSING_COLUMN]" in told[1]
    assert "2 of 59 rows" in told[2]
    assert "secret" not in "".join(told)


async def test_the_log_names_the_first_bad_rows_only(shop: Shop, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "a.jsonl").write_text(json.dumps(row(0)) + "\n" + "17\n" * 500)
    with caplog.at_level(logging.WARNING):
        end = await shop.run((root / "a.jsonl").as_uri())
    assert (end.pairs_done, end.pairs_total, len(caplog.records)) == (1, 501, NAMED_ROWS + 1)


async def test_a_file_without_any_pair_is_refused_with_its_first_row(shop: Shop, root: Path) -> None:
    (root / "a.jsonl").write_text("17\n" * 300)
    (root / "empty.jsonl").write_text("")
    error = (await shop.run((root / "a.jsonl").as_uri())).error
    assert error is not None
    assert (error.reason, error.details) == ("EMPTY_DATASET", {"rows": "300", "line": "1", "row_reason": "NOT_AN_OBJECT"})
    error = (await shop.run((root / "empty.jsonl").as_uri())).error
    assert error is not None
    assert (error.reason, error.details) == ("EMPTY_DATASET", {"rows": "0"})
    assert await shop.datasets.all() == []


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet"])
async def test_a_damaged_file_is_an_error_and_no_dataset(shop: Shop, root: Path, name: str) -> None:
    path = write(root / name, [row(number) for number in range(ROWS)])
    path.write_bytes(path.read_bytes()[:-30])
    error = (await shop.run(path.as_uri())).error
    assert error is not None
    assert error.reason == "INVALID_FILE"
    assert "damaged" in error.message
    assert await shop.datasets.all() == []


async def test_a_file_of_more_pairs_than_a_dataset_may_hold_is_refused_with_the_limit(tmp_path: Path, root: Path) -> None:
    path = write(root / "a.jsonl", [row(number) for number in range(41)])
    async with opened(tmp_path / "data", root, max_pairs=40) as shop:
        error = (await shop.run(path.as_uri())).error
        assert error is not None
        assert (error.reason, error.details) == ("DATASET_TOO_LARGE", {"pairs": "41", "max_dataset_pairs": "40"})
        write(path, [row(number) for number in range(40)])
        assert len(await shop.pairs(await shop.run(path.as_uri(), "again"))) == 40


async def test_a_file_that_changes_while_it_is_read_makes_no_dataset(tmp_path: Path, root: Path) -> None:
    path = write(root / "a.jsonl", [row(number) for number in range(50)])

    def changing(file: Path) -> Iterator[Any]:
        yield from read_pair_file(file)
        write(file, [row(number) for number in range(1, 51)])

    async with opened(tmp_path / "data", root, changing) as shop:
        error = (await shop.run(path.as_uri())).error
        assert error is not None
        assert error.reason == "SOURCE_CHANGED"
        assert await shop.datasets.all() == []


async def test_what_lies_outside_of_the_roots_is_refused_however_it_is_spelt(shop: Shop, tmp_path: Path, root: Path) -> None:
    outside = write(tmp_path / "outside.jsonl", [row(1)])
    (tmp_path / "root-beside").mkdir()
    beside = write(tmp_path / "root-beside" / "a.jsonl", [row(1)])
    (root / "file.jsonl").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path / "root-beside")
    (root / "circle.jsonl").symlink_to(root / "circle.jsonl")
    (root / "folder.jsonl").mkdir()
    os.mkfifo(root / "pipe.jsonl")
    write(root / "notes.txt", [row(1)])
    good = write(root / "good.jsonl", [row(1)])
    inside = root.as_uri()
    for uri in (
        outside.as_uri(),
        beside.as_uri(),
        f"{inside}/../outside.jsonl",
        f"{inside}/%2e%2e/outside.jsonl",
        f"{inside}/..%2foutside.jsonl",
        f"{inside}/file.jsonl",
        f"{inside}/folder/a.jsonl",
        f"{inside}/circle.jsonl",
        f"{inside}/folder.jsonl",
        f"{inside}/pipe.jsonl",
        f"{inside}/notes.txt",
        f"{inside}/missing.jsonl",
        f"{inside}/%00.jsonl",
        f"{inside}/%ff.jsonl",
        f"{inside}/{'x' * 300}.jsonl",
        f"{inside}/good.jsonl?x=1",
        f"{inside}/good.jsonl#x",
        inside,
        "file:good.jsonl",
        "file://elsewhere" + str(good),
        "https://example.org/pairs.jsonl",
        str(good),
        "file:///[",
        "",
    ):
        with pytest.raises(InvalidItem) as refused:
            await shop.imports.begin(uri, "", "")
        assert (refused.value.reason, refused.value.field) == ("INVALID_URI", "uri"), uri
    (root / "link.jsonl").symlink_to(good)
    assert len(await shop.pairs(await shop.run(f"{inside}/link.jsonl"))) == 1, "a link within the root is no way out"
    assert len(await shop.pairs(await shop.run(f"file://localhost{good}"))) == 1


async def test_a_link_that_is_put_in_a_files_place_meanwhile_is_not_followed(tmp_path: Path, root: Path) -> None:
    path = write(root / "a.jsonl", [row(1)])
    async with opened(tmp_path / "data", root) as shop:
        async with shop.operations._lanes["imports"]:
            begun = await shop.imports.begin(path.as_uri(), "", "")
            path.unlink()
            path.symlink_to(write(tmp_path / "outside.jsonl", [row(2)]))
        error = (await shop.operations.wait(begun.name, 30)).error
        assert error is not None
        assert error.reason == "INVALID_URI"


async def test_the_same_file_asked_for_twice_is_one_operation(shop: Shop, root: Path) -> None:
    uri = write(root / "a.jsonl", [row(1)]).as_uri()
    first = await shop.run(uri)
    assert (await shop.run(uri)).name == first.name
    again = await shop.run(uri, "mine")
    assert (again.name, again.response) == ("operations/import-mine", first.response)


async def test_a_file_that_changed_is_imported_anew_and_under_another_name_too(shop: Shop, root: Path) -> None:
    path = write(root / "a.jsonl", [row(0)])
    first = await shop.run(path.as_uri())
    write(path, [row(0), row(1)])
    second = await shop.run(path.as_uri())
    assert second.name != first.name
    assert await shop.pairs(second) == [read_as(0), read_as(1)]
    named = await shop.operations.wait((await shop.imports.begin(path.as_uri(), "mine", "")).name, PATIENCE)
    assert (named.error, named.response) == (None, second.response)


@pytest.mark.parametrize("request_id", ["", "mine"])
async def test_a_dataset_that_was_deleted_can_be_imported_again(shop: Shop, root: Path, request_id: str) -> None:
    uri = write(root / "a.jsonl", [row(0)]).as_uri()
    first = await shop.run(uri, request_id)
    await shop.datasets.delete(first.response)
    again = await asyncio.gather(*(shop.run(uri, request_id) for _ in range(2)))
    assert [one.name for one in again] == [first.name] * 2
    assert await shop.pairs(again[0]) == [read_as(0)]


async def test_an_import_that_failed_is_tried_again_unless_its_id_was_given(tmp_path: Path, root: Path) -> None:
    uri = write(root / "a.jsonl", [row(0)]).as_uri()
    broken = True

    def reader(file: Path) -> Iterator[Any]:
        if broken:
            raise InvalidItem("The disk is away.", reason="INVALID_FILE")
        yield from read_pair_file(file)

    async with opened(tmp_path / "data", root, reader) as shop:
        assert (await shop.run(uri)).error is not None
        assert (await shop.run(uri, "mine")).error is not None
        broken = False
        assert await shop.pairs(await shop.run(uri)) == [read_as(0)]
        assert (await shop.run(uri, "mine")).error is not None, "the same id is the same import"


async def test_nothing_is_imported_without_roots_or_a_reader(tmp_path: Path, root: Path) -> None:
    uri = write(root / "a.jsonl", [row(1)]).as_uri()
    for number, (roots, read) in enumerate(((tmp_path / "none", read_pair_file), (root, None))):
        async with opened(tmp_path / f"data-{number}", roots, read) as shop:
            with pytest.raises(InvalidItem, match="import_roots"):
                await shop.imports.begin(uri, "", "")


@pytest.mark.parametrize(("reading", "place", "shards"), [(1, 290, 0), (2, 290, 16)])
async def test_a_killed_import_is_taken_up_again_and_makes_the_same_dataset(
    tmp_path: Path, root: Path, reading: int, place: int, shards: int
) -> None:
    path = write(root / "a.jsonl", [row(number) for number in range(300)])
    folder = tmp_path / "data"
    command = ["-m", killed_import.__name__, str(folder), str(path), str(reading), str(place)]
    killed = await asyncio.create_subprocess_exec(sys.executable, *command)
    assert await asyncio.wait_for(killed.wait(), PATIENCE) == -signal.SIGKILL
    assert len(list(folder.rglob("pairs-*.parquet"))) == shards
    assert not list(folder.rglob("dataset.json"))
    async with opened(folder, root) as shop:
        end = await shop.operations.wait("operations/import-killed", PATIENCE)
        assert await shop.pairs(end) == [read_as(number) for number in range(300)]
        assert (end.resumed, end.pairs_done, end.pairs_total) == (1, 300, 300)
        assert end.response == (await shop.run(path.as_uri())).response
