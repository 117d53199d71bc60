"""What the measurements share: pairs, the demo subject, interleaved timing, and the form of a result file.

Times are compared as ratios within one run: every contender takes its turn in each round (A B C, A B C, ...), and a ratio is the
median over rounds of the ratio within the round, so that a machine whose speed drifts cannot favour one of them.
"""

import argparse
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "trl", "peft", "sae-lens", "grpcio", "protobuf", "redis")
RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
MODEL = Path(os.environ.get("ASSAY_CACHE", "~/.cache/assay")).expanduser() / "models" / "SmolLM2-135M-Instruct"
SAE = ROOT / "demo" / "assets" / "sae"


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured figure. ``goal`` is the wording of the bar, ``holds`` whether it is met; both None for a plain figure."""

    metric: str
    value: float
    unit: str
    goal: str | None = None
    holds: bool | None = None
    notes: str = ""


def at_least(metric: str, value: float, unit: str, bar: float, goal: str, notes: str = "") -> Metric:
    """A figure that should not be under ``bar``."""
    return Metric(metric, value, unit, goal, value >= bar, notes)


def at_most(metric: str, value: float, unit: str, bar: float, goal: str, notes: str = "") -> Metric:
    """A figure that should not be over ``bar``."""
    return Metric(metric, value, unit, goal, value <= bar, notes)


def write_result(
    name: str, metrics: list[Metric], *, seed: int, raw: Any, notes: str = "", machine: Mapping[str, Any] | None = None
) -> Path:
    """Write ``benchmarks/results/NAME.json`` and print its table."""
    result = {
        "name": name,
        "command": " ".join(["python", "-m", _module(), *_arguments()]),
        "machine": dict(machine or describe_machine()),
        "date": datetime.date.today().isoformat(),
        "versions": {p: _version(p) for p in _PACKAGES},
        "seed": seed,
        "metrics": [{key: value for key, value in asdict(m).items() if value not in (None, "")} for m in metrics],
        "notes": notes,
        "raw": raw,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    for m in metrics:
        verdict = "" if m.holds is None else ("  holds: " if m.holds else "  NOT MET: ") + str(m.goal)
        print(f"{m.metric:<58} {m.value:>10.3f} {m.unit}{verdict}", flush=True)
    return path


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory and accelerator, in words."""
    import torch

    cpu = platform.processor() or platform.machine()
    flags = ""
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text()
        cpu = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), cpu)
        flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {"cpu": cpu, "cpu_features": features, "cores": os.cpu_count(), "memory_gib": round(memory, 1)}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(0)
    return found


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


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).stem


def _arguments() -> list[str]:
    """The command line with paths reduced to their last part: a result file is about no one's disk."""
    return [Path(a).name if "/" in a else a for a in sys.argv[1:]]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def git_revision() -> str:
    """The commit that was measured."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
