"""``make demo``'s command on a few of its pairs: it ends well, says what they teach, writes the report, leaves no process."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import ROOT
from tests.support.waiting import PATIENCE

ASSETS = ROOT / "demo" / "assets"
MODEL = Path(os.environ.get("ASSAY_CACHE", "~/.cache/assay")).expanduser() / "models" / "SmolLM2-135M-Instruct"
PAIRS = ASSETS / "pairs.jsonl"


@pytest.mark.slow
@pytest.mark.skipif(not (ASSETS / "sae" / "cfg.json").exists(), reason="demo/assets/sae is not there: the demo was NOT run")
@pytest.mark.skipif(not (MODEL / "config.json").exists(), reason="no demo model (make model): the demo was NOT run")
@pytest.mark.skipif(not PAIRS.exists(), reason="demo/assets/pairs.jsonl is not there: the demo was NOT run")
def test_the_demo_serves_scores_summarises_audits_and_stops(tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(PAIRS.read_text().splitlines(keepends=True)[:12]))
    began = time.time()
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--pairs", str(few), "--out", str(out), "--top", "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "few.parquet").exists()
    assert re.search(r"serving on 127\.0\.0\.1:\d+", done.stdout)
    assert "the server has stopped" in done.stdout
    table = done.stdout[done.stdout.index("$ assay summarize") : done.stdout.index("$ assay audit")]
    assert len(re.findall(r"^\W*\d+\b.*\d", table, re.MULTILINE)) >= 5, "a row for each of the strongest features"
    audit = done.stdout[done.stdout.index("$ assay audit") :]
    assert "global view" in audit
    assert (out / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert not servers_since(began), "no server outlives the demo"


def servers_since(began: float) -> list[int]:
    """Processes that serve the demo's SAE and were started since then."""
    mine: list[int] = []
    for process in psutil.process_iter(["pid", "cmdline", "create_time"]):
        words = process.info["cmdline"] or []
        if "serve" in words and str(ASSETS / "sae") in words and process.info["create_time"] >= began:
            mine.append(process.info["pid"])
    return mine
