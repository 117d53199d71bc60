"""``make demo``'s command: it ends well, says first what the sample pairs teach, writes the report, leaves no process."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import ROOT

ASSETS = ROOT / "demo" / "assets"
MODEL = Path(os.environ.get("ASSAY_CACHE", "~/.cache/assay")).expanduser() / "models" / "SmolLM2-135M-Instruct"
PAIRS = ASSETS / "pairs.jsonl"


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a minute and a half on two cores of its own
@pytest.mark.skipif(not (ASSETS / "sae" / "cfg.json").exists(), reason="demo/assets/sae is not there: the demo was NOT run")
@pytest.mark.skipif(not (MODEL / "config.json").exists(), reason="no demo model (make model): the demo was NOT run")
@pytest.mark.skipif(not PAIRS.exists(), reason="demo/assets/pairs.jsonl is not there: the demo was NOT run")
def test_the_demo_names_both_hidden_lessons_first_and_stops(tmp_path: Path) -> None:
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--out", str(tmp_path), "--top", "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "pairs.parquet").exists()
    assert re.search(r"serving on 127\.0\.0\.1:\d+", done.stdout)
    assert "the server has stopped" in done.stdout
    table = done.stdout[done.stdout.index("$ assay summarize") : done.stdout.index("$ assay audit")]
    assert len(re.findall(r"^\W*\d+\b.*\d", table, re.MULTILINE)) >= 5, "a row for each of the strongest features"
    assert "global view" in done.stdout[done.stdout.index("$ assay audit") :]
    length, formatting, praise = cards(done.stdout)[:3]
    assert length.startswith("Longer responses: the chosen one has 1.04 times the tokens")
    assert re.match("global-1  More formatting, almost everywhere: bold text, lists, bullet lists", formatting)
    assert re.match(r"feature-\d+  More praise of the user where topic = own-writing than elsewhere: ", praise)
    assert "Not everywhere: weaker where topic = own-writing" in formatting
    assert (tmp_path / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert not servers_since(began), "no server outlives the demo"


def cards(printed: str) -> list[str]:
    """The cards of "What it teaches", each in one line."""
    told = printed[printed.index("What it teaches") : printed.index("Not established")]
    return [" ".join(card.split()).replace(" ", "  ", card[0] != "L") for card in told.split("\n\n")[1:] if card.strip()]


def servers_since(began: float) -> list[int]:
    """Processes that serve the demo's SAE and were started since then."""
    mine: list[int] = []
    for process in psutil.process_iter(["pid", "cmdline", "create_time"]):
        words = process.info["cmdline"] or []
        if "serve" in words and str(ASSETS / "sae") in words and process.info["create_time"] >= began:
            mine.append(process.info["pid"])
    return mine
