"""docs/configuration.md and docs/architecture.svg are what their scripts make, and a stale one is noticed."""

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {"configuration.py": "configuration.md", "architecture.py": "architecture.svg"}


def run(root: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("script", GENERATED)
def test_the_committed_file_is_current(script: str) -> None:
    done = run(ROOT, script, "--check")
    assert done.returncode == 0, done.stderr


def test_a_missing_page_is_stale_and_the_script_writes_it(tmp_path: Path) -> None:
    for folder in ("scripts", "docs"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "scripts" / "configuration.py", tmp_path / "scripts")
    stale = run(tmp_path, "configuration.py", "--check")
    assert (stale.returncode, stale.stderr) == (
        1,
        "configuration.md is stale: run `make docs-reference` and commit the result.\n",
    )
    assert run(tmp_path, "configuration.py").returncode == 0
    assert (tmp_path / "docs" / "configuration.md").read_text() == (ROOT / "docs" / "configuration.md").read_text()


def test_a_new_room_makes_the_picture_stale(tmp_path: Path) -> None:
    for name in ("scripts/architecture.py", "docs/architecture.svg", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for file in (ROOT / "server" / "assay_server").rglob("*.py"):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    assert run(tmp_path, "architecture.py", "--check").returncode == 0
    room = tmp_path / "server" / "assay_server" / "jobs" / "attic"
    room.mkdir()
    (room / "__init__.py").touch()
    assert run(tmp_path, "architecture.py", "--check").returncode == 1
    assert run(tmp_path, "architecture.py").returncode == 0
    assert ">attic<" in (tmp_path / "docs" / "architecture.svg").read_text()


def test_the_picture_is_drawn_for_light_and_dark_and_loads_nothing() -> None:
    drawn = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(drawn)
    assert "prefers-color-scheme: dark" in drawn
    assert drawn.count("http") == 1, "the namespace alone"
