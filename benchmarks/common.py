"""What the measurements share: pairs, the demo subject, and interleaved timing.

Times are compared as ratios within one run: every contender takes its turn in each round (A B C, A B C, ...), and a ratio is the
median over rounds of the ratio within the round, so that a machine whose speed drifts cannot favour one of them.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MODEL = Path(os.environ.get("ASSAY_CACHE", "~/.cache/assay")).expanduser() / "models" / "SmolLM2-135M-Instruct"
SAE = ROOT / "demo" / "assets" / "sae"


def interleave(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every contender once a round; each returns its own seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            seconds[name].append(run())
            print(f"round {number + 1}/{rounds}  {name:<24} {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str) -> float:
    """How many times faster ``fast`` was than ``slow``: the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def timed(work: Callable[[], Any]) -> float:
    """Seconds that ``work`` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def client_pairs(path: str | Path, limit: int) -> list[Any]:
    """The first ``limit`` pairs of a file whose responses both hold text, as ``assay.Pair``."""
    from assay.data import open_pairs

    rows = (row.pair for row in open_pairs(path).rows() if row.pair is not None)
    return list(itertools.islice((pair for pair in rows if pair.chosen.strip() and pair.rejected.strip()), limit))


def read_pairs(path: str | Path, limit: int) -> list[Any]:
    """The same pairs as the engine takes them, ``assay_server.subject.types.Pair``."""
    from assay_server.subject.types import Message, Pair

    def prompt(turns: Any) -> Any:
        return turns if isinstance(turns, str) else tuple(Message(turn.role, turn.content) for turn in turns)

    return [Pair(prompt(pair.prompt), pair.chosen, pair.rejected) for pair in client_pairs(path, limit)]


@contextmanager
def serving(*flags: str, sae: Path = SAE) -> Generator[dict[str, Any]]:
    """A server of the demo model in a process of its own: its host, port, metrics_port and pid."""
    with tempfile.TemporaryDirectory() as scratch:
        ready = Path(scratch) / "ready.json"
        command = [sys.executable, "-m", "assay", "serve", "--model", str(MODEL), "--sae", str(sae), "--port", "0"]
        command += ["--metrics-port", "-1", "--ready-file", str(ready), "--log-level", "warning", *flags]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not ready.exists():
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with code {process.returncode} before it was ready")
                time.sleep(0.05)
            yield json.loads(ready.read_text())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def arguments(description: str, **defaults: Any) -> argparse.Namespace:
    """Parse ``--name value`` for every default."""
    parser = argparse.ArgumentParser(description=description)
    for name, default in defaults.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    return parser.parse_args()


def git_revision() -> str:
    """The commit that was measured."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
