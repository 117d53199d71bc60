"""README's snippets as a reader runs them: copied from the page, with the port of the server that is running."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from assay import Client, Pair, chat
from assay.results import pair_result
from assay.v1 import scoring_pb2
from google.protobuf import json_format

from tests.e2e.conftest import ROOT
from tests.e2e.pairs import same
from tests.e2e.test_audit_cli import given, write
from tests.support.server_process import ServerProcess
from tests.support.waiting import PATIENCE

README = (ROOT / "README.md").read_text()
DEFAULT = "127.0.0.1:50151"


def snippet(language: str, containing: str, address: str) -> str:
    """The page's one code block of that language with that text in it, for the server that is running."""
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in code]
    assert DEFAULT in found, "the address is where it can be replaced"
    return found.replace(DEFAULT, address)


def test_the_python_snippet_prints_the_strongest_differences(server: ServerProcess, client: Client) -> None:
    code = snippet("python", "client.score(pairs)", server.address)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = client.score_pairs([Pair(chat("Name a warm colour."), "Orange.", "Blue, probably.")])
    printed = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    assert printed == [(d.feature, d.chosen, d.rejected) for d in list(result.unwrap().by_max)[:5]]
    assert len(printed) == 5


@pytest.mark.slow
def test_the_audit_snippet_uploads_audits_and_writes_the_report(server: ServerProcess, tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", given())
    code = snippet("python", "client.audit(", server.address)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^(scoring|testing|waiting|writing|evidence|grouping) \d+$", done.stdout, re.MULTILINE)
    assert (tmp_path / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_the_buf_line_gives_the_same_numbers(server: ServerProcess, client: Client) -> None:
    line = snippet("sh", "buf curl", server.address)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", line], capture_output=True, text=True, timeout=PATIENCE, check=False, env=os.environ | {"PATH": path}
    )
    assert done.returncode == 0, done.stderr
    (message,) = json_format.Parse(done.stdout, scoring_pb2.ScorePairsResponse()).results
    same([pair_result(0, message)], client.score_pairs([Pair("Name a warm colour: ", "Orange.", "Blue.")]))


@pytest.fixture
def project(typescript: Path, tmp_path: Path) -> Path:
    """A reader's folder, with the client installed in it."""
    scope = tmp_path / "node_modules" / "@assay"
    scope.mkdir(parents=True)
    (scope / "client").symlink_to(typescript)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path


def test_the_typescript_snippet_type_checks_and_runs(
    server: ServerProcess, client: Client, typescript: Path, project: Path
) -> None:
    code = snippet("ts", "new Client(", server.address)
    pairs = 'const pairs = [{ id: "one", prompt: [{ role: "user", content: "Hi" }], chosen: "yes", rejected: "no" }];\n'
    file = project / "snippet.ts"
    file.write_text(code.replace("const client", pairs + "const client", 1))
    flags = ["--strict", "--target", "ES2022", "--module", "NodeNext", "--moduleResolution", "NodeNext", "--types", "node"]
    flags += ["--typeRoots", str(typescript / "node_modules" / "@types"), "--skipLibCheck"]
    checked = subprocess.run(
        [str(typescript / "node_modules" / ".bin" / "tsc"), *flags, str(file)],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    ran = subprocess.run(["node", "snippet.js"], cwd=project, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 0, ran.stderr
    (result,) = client.score_pairs([Pair(chat("Hi"), "yes", "no")])
    numbers = [int(number) for number in re.findall(r"\d+", ran.stdout.partition("[")[2])]
    assert ran.stdout.startswith("one ")
    assert numbers == list(result.unwrap().by_max.features)
