"""Uploads: what was acknowledged stays, gaps are refused, damage sets the position back."""

import time
from pathlib import Path

import pytest
from assay_server.errors import FailedPrecondition, InvalidItem, NotFound
from assay_server.store.files import Files
from assay_server.store.uploads import Position, Uploads
from assay_server.subject.types import Pair

from tests.server.store.builders import make_pairs


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(Files(str(tmp_path)), max_pairs=100)


def fill(uploads: Uploads, batches: int = 4) -> Position:
    _, position = uploads.begin("up", "name")
    pairs = make_pairs(5 * batches)
    for sequence in range(batches):
        position = uploads.append("up", position, sequence, pairs[5 * sequence : 5 * sequence + 5], 100 + sequence)
    return position


def test_the_position_is_what_is_on_disk(uploads: Uploads, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        uploads.get("up")
    assert fill(uploads) == Position(4, 20, 406)
    fresh = Uploads(Files(str(tmp_path)), max_pairs=100)
    upload, position = fresh.begin("up", "another name")
    assert (upload.display_name, position) == ("name", Position(4, 20, 406))
    assert [pair for batch in fresh.pairs("up", position) for pair in batch] == make_pairs(20)


def test_repeated_batches_are_skipped_and_gaps_refused(uploads: Uploads) -> None:
    position = fill(uploads)
    assert uploads.append("up", position, 1, make_pairs(3, seed=9), 50) == position
    with pytest.raises(FailedPrecondition) as refused:
        uploads.append("up", position, 5, make_pairs(1), 50)
    assert (refused.value.reason, refused.value.details["expected"]) == ("SEQUENCE_GAP", "4")
    assert [pair for batch in uploads.pairs("up", position) for pair in batch] == make_pairs(20)


@pytest.mark.parametrize("lost", range(4))
@pytest.mark.parametrize("how", ["truncated", "gone"])
def test_a_damaged_batch_is_asked_for_again_with_what_follows_it(uploads: Uploads, tmp_path: Path, lost: int, how: str) -> None:
    position = fill(uploads)
    (path,) = (tmp_path / "uploads/up").glob(f"{lost:08d}-*")
    path.unlink() if how == "gone" else path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FailedPrecondition) as refused:
        list(uploads.pairs("up", position))
    assert (refused.value.reason, refused.value.details["sequence"]) == ("UPLOAD_DAMAGED", str(lost))
    assert uploads.get("up")[1] == Position(lost, 5 * lost, sum(range(100, 100 + lost)))
    assert fill(uploads) == Position(4, 20, 406)
    assert [pair for batch in uploads.pairs("up", position) for pair in batch] == make_pairs(20)


def test_a_damaged_head_costs_nothing_but_the_name(uploads: Uploads, tmp_path: Path) -> None:
    fill(uploads)
    (tmp_path / "uploads/up/upload.json").write_bytes(b"{")
    upload, position = uploads.begin("up", "again")
    assert (upload.display_name, position) == ("again", Position(4, 20, 406))


def test_a_complete_upload_remembers_its_dataset_and_drops_its_batches(uploads: Uploads, tmp_path: Path) -> None:
    fill(uploads)
    upload, _ = uploads.get("up")
    uploads.complete("up", upload, "abc")
    assert uploads.get("up")[0].dataset == "abc"
    assert [path.name for path in (tmp_path / "uploads/up").iterdir()] == ["upload.json"]
    uploads.reopen("up", upload)
    assert uploads.get("up")[0].dataset == ""
    assert fill(uploads) == Position(4, 20, 406)


def test_what_was_abandoned_goes_and_what_is_young_stays(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(uploads)
    assert uploads.expire(3600) == []
    later = time.time() + 4000
    monkeypatch.setattr(time, "time", lambda: later)
    assert uploads.expire(3600) == ["up"]
    with pytest.raises(NotFound):
        uploads.get("up")


def test_a_batch_that_is_too_much_or_not_unicode_is_refused_with_its_place(uploads: Uploads) -> None:
    _, position = uploads.begin("up", "")
    with pytest.raises(InvalidItem) as refused:
        uploads.append("up", position, 0, make_pairs(101), 50)
    assert (refused.value.reason, refused.value.details["max_dataset_pairs"]) == ("DATASET_TOO_LARGE", "100")
    with pytest.raises(InvalidItem) as refused:
        uploads.append("up", position, 0, [*make_pairs(2), Pair("p", "a", "\ud800")], 50)
    assert refused.value.field == "batch.pairs[2]"
    assert uploads.get("up")[1] == Position(0, 0, 0)
