"""Measured figures with their bars, and ``benchmarks/results/NAME.json``, the source of every figure in README and docs."""

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "trl", "peft", "sae-lens", "grpcio", "protobuf", "redis")
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


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
