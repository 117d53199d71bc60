"""``python -m benchmarks.scale``: how an audit with all that it does by default grows with the data, on a synthetic wide SAE.

Every size runs in a process of its own, from a data directory: texts are read by worker processes, then the handler of the
"audit" operation runs (``scale_audit``). Writing the pairs and their features is not counted, reading them is. Peak memory is the
process's own, with the interpreter and its libraries; while texts are read, that of the workers is added to it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.results import Metric, at_most, write_result

FULL = 260_000
GOAL = "260,000 pairs x 65,536 features with texts, descriptors and words, all three views with corrections, on two cores"
MINUTES, GIGABYTES, EXPONENT = 20.0, 8.0, 1.1
TELLING = 0.01  # share of the largest run's processor time from which on a step's own growth is told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,40000,130000,260000", help="pairs of each run, ascending")
    parser.add_argument("--folder", default="", help="where data and finished sizes are kept, to go on from; by default none is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=3 * 3600, help="seconds that one size may take")
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--note", default="")
    asked = parser.parse_args()
    if asked.one:
        from benchmarks.scale_audit import measure, prepare

        step = prepare if asked.prepare else measure
        print(json.dumps(step(Path(asked.folder), asked.one, asked.seed)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or scratch
        runs, sizes = [], [int(size) for size in asked.sizes.split(",")]
        for size in sizes:
            run = _apart(size, folder, asked.seed, asked.limit)
            if run is None:
                break
            runs.append(run)
            write_result("scale", metrics(runs), seed=asked.seed, raw=runs, notes=notes(runs, sizes, asked.note))


def metrics(runs: list[dict[str, Any]]) -> list[Metric]:
    """Time and memory of the largest run, and the exponents over all of them."""
    largest = runs[-1]
    shown = [
        Metric("pairs of the largest run", largest["pairs"], "pairs"),
        Metric("nonzeros of the largest run", largest["nonzeros"], "nonzeros"),
        Metric("words of the largest run", largest["words"], "words"),
        Metric("processor time of the largest run", largest["processor_seconds"] / 60, "min"),
        Metric("of it reading the texts once, in worker processes", largest["scan_processor_seconds"] / 60, "min"),
        Metric("peak memory of a text worker", largest["worker_peak_gib"] * 2**30 / 1e9, "GB"),
    ]
    full = largest["pairs"] >= FULL
    for name, value, unit, bar, goal in (
        ("wall time", largest["seconds"] / 60, "min", MINUTES, f"{GOAL}, in <= {MINUTES:.0f} minutes"),
        ("peak memory", peak_gib(largest) * 2**30 / 1e9, "GB", GIGABYTES, f"{GOAL}, in <= {GIGABYTES:.0f} GB"),
    ):
        metric = at_most(f"{name} of the largest run", value, unit, bar, goal)
        shown.append(metric if full else Metric(metric.metric, value, unit, goal, False, "the full size was not run"))
    if len(runs) >= 2:
        for name, value in (("time", _processor), ("memory", peak_gib)):
            goal = f"{name} grows linearly in nonzeros (measured at four sizes, fitted exponent <= {EXPONENT})"
            fitted = exponent(runs, value)
            metric = at_most(f"exponent of {name} in nonzeros", fitted, "power", EXPONENT, goal, f"{len(runs)} sizes")
            # Small sizes are mostly fixed cost, which flatters the exponent.
            shown.append(metric if full and len(runs) >= 4 else replace(metric, holds=False))
        for name, value in (("time", _processor), ("memory", peak_gib)):
            between = f"{runs[-2]['pairs']:,} and {largest['pairs']:,} pairs"
            shown.append(Metric(f"exponent of {name} between {between}", exponent(runs[-2:], value), "power"))
    return shown


def peak_gib(run: dict[str, Any]) -> float:
    """The most memory that the process and its text workers held at once, each at its own peak."""
    return max(run["peak_gib"], run["scan_peak_gib"] + run["workers"] * run["worker_peak_gib"])


def exponent(runs: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> float:
    """Slope of log value on log nonzeros, least squares."""
    return float(np.polyfit(np.log([run["nonzeros"] for run in runs]), np.log([value(run) for run in runs]), 1)[0])


def steps(runs: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Each step's share of the largest run's processor time, and its exponent between the two largest runs; most first."""
    first, last = runs[-2:]
    took = {
        name: (first["phases"].get(name, {"processor": 0.0})["processor"], step["processor"])
        for name, step in last["phases"].items()
    }
    took["text scan"] = (first["scan_processor_seconds"], last["scan_processor_seconds"])
    growth = np.log(last["nonzeros"] / first["nonzeros"])
    told = [(name, b / last["processor_seconds"], float(np.log(b / a) / growth)) for name, (a, b) in took.items() if a and b]
    return sorted((step for step in told if step[1] >= TELLING), key=lambda step: -step[1])


def _processor(run: dict[str, Any]) -> float:
    return run["processor_seconds"]


def notes(runs: list[dict[str, Any]], sizes: list[int], more: str) -> str:
    """What a reader must know of how it was measured."""
    said = ["Synthetic pairs in a data directory: writing them and their features is not counted, reading them in every pass is."]
    said.append("Time's exponent is fitted on processor seconds, which other work on the machine disturbs less than the clock.")
    if len(runs) >= 2:
        each = ", ".join(f"{name} {share:.0%} ({power:.2f})" for name, share, power in steps(runs))
        said.append(f"Share of the largest run's processor time by step, and its exponent between the two largest runs: {each}.")
    missing = [size for size in sizes if size not in [run["pairs"] for run in runs]]
    if missing:
        said.append(f"Not run to the end: {', '.join(f'{size:,}' for size in missing)} pairs.")
    return " ".join([*said, more]).strip()


def kept_in(folder: str, pairs: int, seed: int) -> Path:
    """Where a size's data and its finished run are, apart for every seed."""
    return Path(folder) / (f"{pairs}-seed{seed}" if seed else str(pairs))


def _apart(pairs: int, folder: str, seed: int, limit: float) -> dict[str, Any] | None:
    """The measurement in a process of its own; None where it did not end in time. One that is kept is not made again."""
    here = kept_in(folder, pairs, seed)
    here.mkdir(parents=True, exist_ok=True)
    kept = here / "run.json"
    if not kept.exists():
        command = [sys.executable, "-m", "benchmarks.scale", "--one", str(pairs), "--folder", str(here), "--seed", str(seed)]
        # Written by another process, whose memory is not the audit's.
        subprocess.run([*command, "--prepare"], check=True, stdout=subprocess.DEVNULL)
        try:
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return None
        kept.write_text(done.stdout.splitlines()[-1])
    run: dict[str, Any] = json.loads(kept.read_text())
    print(json.dumps(run), file=sys.stderr, flush=True)
    return run


if __name__ == "__main__":
    main()
