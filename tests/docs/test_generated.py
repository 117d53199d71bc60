"""The generated pages and pictures of docs are what their scripts make, and a stale one is noticed."""

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {"configuration.py": "configuration.md", "descriptors.py": "descriptors.md", "architecture.py": "architecture.svg"}


def run(root: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("script", GENERATED)
def test_the_committed_file_is_current(script: str) -> None:
    done = run(ROOT, script, "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("script", "page"), [pair for pair in GENERATED.items() if pair[1].endswith(".md")])
def test_a_missing_page_is_stale_and_the_script_writes_it(script: str, page: str, tmp_path: Path) -> None:
    for folder in ("scripts", "docs"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "scripts" / script, tmp_path / "scripts")
    stale = run(tmp_path, script, "--check")
    assert (stale.returncode, stale.stderr) == (1, f"{page} is stale: run `make docs-reference` and commit the result.\n")
    assert run(tmp_path, script).returncode == 0
    assert (tmp_path / "docs" / page).read_text() == (ROOT / "docs" / page).read_text()


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
