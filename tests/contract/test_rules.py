"""The contract's rules, held by the real buf: the rules bite where they should, and let pass what they should."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
BUF = shutil.which("buf", path=str(Path(sys.executable).parent)) or "buf"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the contract, its rules, its baseline and the protos that it imports."""
    subprocess.run([sys.executable, ROOT / "scripts" / "generate_stubs.py", "imports"], check=True, timeout=PATIENCE)
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copytree(ROOT / ".build" / "googleapis", tmp_path / ".build" / "googleapis")
    shutil.copyfile(ROOT / "buf.yaml", tmp_path / "buf.yaml")
    return tmp_path


def buf(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BUF, *arguments], cwd=tree, capture_output=True, text=True, timeout=PATIENCE, check=False)


def breaking(tree: Path) -> subprocess.CompletedProcess[str]:
    return buf(tree, "breaking", "proto", "--against", "proto/baseline.binpb", "--exclude-imports")


def edit(tree: Path, name: str, change: Callable[[str], str]) -> None:
    path = tree / "proto" / "assay" / "v1" / name
    before = path.read_text(encoding="utf-8")
    after = change(before)
    assert after != before, "the edit found nothing to change"
    path.write_text(after, encoding="utf-8")


def test_the_contract_keeps_its_rules_and_its_promises(tree: Path) -> None:
    for result in (buf(tree, "lint"), buf(tree, "format", "--diff", "--exit-code", "proto"), breaking(tree)):
        assert result.returncode == 0, result.stdout + result.stderr


def test_a_field_without_a_comment_is_refused(tree: Path) -> None:
    comment = "  // The response that lost. Empty is an error of this pair.\n"
    edit(tree, "pair.proto", lambda text: text.replace(comment, ""))
    result = buf(tree, "lint")
    assert result.returncode != 0
    assert '"rejected"' in result.stdout


def test_a_value_that_does_not_name_its_enum_is_refused(tree: Path) -> None:
    edit(tree, "scoring.proto", lambda text: text.replace("LANE_BULK", "BULK"))
    result = buf(tree, "lint")
    assert result.returncode != 0
    assert '"LANE_"' in result.stdout


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("model.proto", "int32 d_sae = 12;", "int64 d_sae = 12;"),
        ("model.proto", "int32 d_sae = 12;", "int32 d_sae = 99;"),
        ("pair.proto", "string chosen = 4;", "string preferred = 4;"),
        ("scoring.proto", "  rpc EncodeTokens(EncodeTokensRequest) returns (EncodeTokensResponse);\n", ""),
        ("scoring.proto", "LANE_BULK = 2;", "LANE_BULK = 3;"),
        ("scoring.proto", "(stream StreamPairsRequest)", "(StreamPairsRequest)"),
    ],
    ids=["type", "number", "name", "method", "enum value", "streaming"],
)
def test_a_change_that_would_break_a_client_is_refused(tree: Path, name: str, old: str, new: str) -> None:
    edit(tree, name, lambda text: text.replace(old, new))
    result = breaking(tree)
    assert result.returncode != 0
    assert name in result.stdout


def test_an_addition_is_accepted(tree: Path) -> None:
    edit(
        tree,
        "pair.proto",
        lambda text: text.replace(
            "  string role = 1;", "  string role = 1;\n  // Who speaks, where several do.\n  string name = 3;"
        ),
    )
    for result in (buf(tree, "lint"), breaking(tree)):
        assert result.returncode == 0, result.stdout + result.stderr
