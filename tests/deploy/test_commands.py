"""The commands that people and CI run: the Makefile, the phases of `make test`, and what is pinned for them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = sorted(set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, flags=re.MULTILINE)))


# As from a person's shell, even where these tests run under make themselves.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=False)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "make", *arguments)


def test_help_names_every_target() -> None:
    listed = re.findall(r"^  ([a-z-]+) ", make(ROOT, "help").stdout, flags=re.MULTILINE)
    assert sorted(listed) == TARGETS
    declared = MAKEFILE[MAKEFILE.index(".PHONY:") :].replace("\\\n", " ").split()[1:]
    assert sorted(declared) == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_can_be_planned(target: str) -> None:
    result = make(ROOT, "--dry-run", target)
    assert result.returncode == 0, result.stderr


def test_the_demo_takes_pairs_of_ones_own() -> None:
    assert "--pairs 'my pairs.jsonl'" in make(ROOT, "--dry-run", "demo", "PAIRS=my pairs.jsonl").stdout
    assert "--pairs" not in make(ROOT, "--dry-run", "demo").stdout


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "make" in line and not line.startswith("#")] == ["exec make test"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose targets do what their names say."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "phases.sh", tmp_path / "scripts")
    (tmp_path / "Makefile").write_text(
        "setup check:\n\t@echo $@ ran\n"
        "broken:\n\t@echo broken ran; exit 3\n"
        "pytest:\n\t@printf '%s\\n' 'test_x.py .' 'in 3 words' '5 passed, 1 skipped in 2.50s (0:00:02)' \\\n"
        "\t  '2 passed, 6 deselected in 1.00s' 'TOTAL  20  3  85%'\n"
        "ts-test:\n\t@printf '%s\\n' 'ok' 'ℹ tests 7' 'ℹ pass 7' 'ℹ fail 0'\n"
    )
    return tmp_path


def phases(project: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return run(project, project / "scripts" / "phases.sh", *names)


def test_phases_close_with_what_each_took_and_what_the_runners_counted(project: Path) -> None:
    result = phases(project, "setup", "check", "pytest", "ts-test")
    assert result.returncode == 0
    closing = result.stdout[result.stdout.rindex("\n\n") :]
    assert re.findall(r"^(\w+) +\d+ s +([a-z-]+)$", closing, flags=re.MULTILINE) == [
        ("ok", "setup"),
        ("ok", "check"),
        ("ok", "pytest"),
        ("ok", "ts-test"),
    ]
    counted = ["ℹ tests 7", "ℹ pass 7", "ℹ fail 0", "5 passed, 1 skipped in 2.50s (0:00:02)", "2 passed, 6 deselected in 1.00s"]
    assert closing.splitlines()[-6:] == [*counted, "TOTAL  20  3  85%"]


def test_a_failed_phase_fails_the_run_and_the_others_still_run(project: Path) -> None:
    result = phases(project, "setup", "broken", "check")
    assert result.returncode == 1
    assert re.search(r"^FAILED +\d+ s +broken$", result.stdout, flags=re.MULTILINE)
    assert "check ran" in result.stdout


def test_nothing_runs_without_its_setup(project: Path) -> None:
    (project / "Makefile").write_text("setup:\n\t@exit 1\ncheck:\n\t@echo check ran\n")
    result = phases(project, "setup", "check")
    assert result.returncode == 1
    assert "check ran" not in result.stdout


@pytest.fixture
def pretended(tmp_path: Path) -> Path:
    """A project whose pytest says what it was asked and ends as the environment says."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "pytest.sh", tmp_path / "scripts")
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    ends = 'case "$*" in *"-m serial"*) exit "${SERIAL:-0}" ;; *) exit "${PARALLEL:-0}" ;; esac'
    (tools / "python").write_text(f'#!/usr/bin/env bash\necho "asked $*"\n{ends}\n')
    (tools / "coverage").write_text('#!/usr/bin/env bash\necho "TOTAL 85%"\nexit "${COVERAGE:-0}"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("ends", "words", "code"),
    [
        ("", "", 0),
        ("PARALLEL=1", "", 1),
        ("SERIAL=1", "", 1),
        ("COVERAGE=2", "", 1),
        ("COVERAGE=2", "-x", 0),
        ("SERIAL=5", "-x", 0),
        ("PARALLEL=5", "-x", 0),
        ("PARALLEL=5 SERIAL=5", "-x", 5),
        ("PARALLEL=5 SERIAL=1", "-x", 1),
    ],
)
def test_tests_run_side_by_side_and_those_about_time_alone_and_each_part_can_fail(
    pretended: Path, ends: str, words: str, code: int
) -> None:
    result = run(pretended, "env", *ends.split(), pretended / "scripts" / "pytest.sh", *words.split())
    assert result.returncode == code
    side_by_side, alone = [line for line in result.stdout.splitlines() if line.startswith("asked")]
    assert "-m not serial --numprocesses 2" in side_by_side
    assert "-m serial" in alone
    assert "--numprocesses" not in alone
    assert ("TOTAL 85%" in result.stdout) == (not words)


def test_the_lock_of_the_typescript_client_names_no_registry() -> None:
    lock = json.loads((ROOT / "client" / "typescript" / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert not [name for name, package in packages.items() if "integrity" not in package]
    assert all("registry" not in line for line in json.dumps(packages, indent=1).splitlines())
