"""The data directory: whole files, a lock, and damage that is noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from assay_server.errors import DataLoss
from assay_server.store.files import DataDir, DataDirInUse, Files


@pytest.fixture(params=["local", "object store"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return Files(str(tmp_path / "data") if request.param == "local" else f"memory://{tmp_path.name}")


def test_what_was_written_is_read_listed_and_deleted(files: Files) -> None:
    files.write("a/b/one", b"1")
    files.write("a/b/one", b"2")
    files.write("a/two", b"")
    assert files.read("a/b/one") == b"2"
    assert files.names("a") == ["b", "two"]
    assert files.exists("a/two")
    assert not files.exists("a/b")
    files.delete("a/two")
    files.delete("a/two")
    assert files.names("a") == ["b"]
    files.delete_tree("a")
    files.delete_tree("a")
    assert files.names("a") == []
    with pytest.raises(FileNotFoundError):
        files.read("a/b/one")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", ""])
def test_paths_do_not_leave_the_directory(files: Files, path: str) -> None:
    with pytest.raises(ValueError, match="not a path within"):
        files.read(path)


def test_damaged_json_is_noticed_at_any_byte(files: Files) -> None:
    files.write_json("x.json", {"pairs": 12, "name": "né"})
    assert files.read_json("x.json") == {"pairs": 12, "name": "né"}
    whole = files.read("x.json")
    for cut in range(0, len(whole) - 1, 3):
        files.write("x.json", whole[:cut])
        with pytest.raises(DataLoss):
            files.read_json("x.json")
    files.write("x.json", whole.replace(b"12", b"13"))
    with pytest.raises(DataLoss) as damaged:
        files.read_json("x.json")
    assert damaged.value.reason == "FILE_DAMAGED"


def test_a_second_process_is_kept_out_until_the_first_one_is_gone(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom assay_server.store.files import DataDir, DataDirInUse\n"
        "try:\n    DataDir(sys.argv[1])\nexcept DataDirInUse as error:\n    print(error.details['pid'])\nelse:\n    print('in')\n"
    )

    def try_it() -> str:
        answer = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
        return answer.stdout.strip()

    with DataDir(str(tmp_path)):
        assert try_it() == str(os.getpid())
        with pytest.raises(DataDirInUse, match="in use by another server"):
            DataDir(str(tmp_path))
    assert try_it() == "in"


def test_what_a_killed_writer_left_is_swept_and_never_listed(tmp_path: Path) -> None:
    with DataDir(str(tmp_path)) as data:
        data.files.write("a/one", b"1")
        (tmp_path / "a" / ".tmp-0123").write_bytes(b"half")
        assert data.files.names("a") == ["one"]
    with DataDir(str(tmp_path)):
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["one"]


def test_a_temporary_directory_goes_with_its_server() -> None:
    data = DataDir("")
    data.files.write("one", b"1")
    root = Path(data.files.full("one")).parent
    assert data.is_temporary
    data.close()
    assert not root.exists()
