"""``python -m benchmarks.scale``: how an audit's statistics grow with the data, on synthetic features of a wide SAE.

Every size runs in a process of its own, all views with all corrections, reading its shards from disk pass after pass.
Generating them is not counted, reading them is. Peak memory is the process's own, with the interpreter and its libraries.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.results import Metric, at_most, write_result

FULL = 260_000
GOAL = "260,000 pairs x 65,536 features, all three views with corrections, on two cores"
MINUTES, GIGABYTES, EXPONENT = 20.0, 8.0, 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="32500,65000,130000,260000", help="pairs of each run, ascending")
    parser.add_argument("--folder", default="", help="where the synthetic shards are kept; a fresh temporary one by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=3 * 3600, help="seconds that one size may take")
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--note", default="")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(Path(asked.folder), asked.one, asked.seed)))
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


def measure(folder: Path, pairs: int, seed: int) -> dict[str, Any]:
    """One audit, measured: seconds in all and of the processor in every phase, and peak memory."""
    from assay_server.audit.findings import AuditOptions
    from assay_server.audit.run import run_views
    from assay_server.audit.watch import Watch

    from benchmarks.synthetic import concepts, write

    shards, tested = write(folder, pairs, seed), concepts(seed)
    phases: dict[str, float] = {}
    clock = [time.process_time()]

    def progress(phase: str, done: int, total: int) -> None:
        now = time.process_time()
        phases[phase] = phases.get(phase, 0.0) + now - clock[0]
        clock[0] = now

    started, processor = time.perf_counter(), time.process_time()
    tables = run_views(shards, tested, AuditOptions(seed=seed), watch=Watch(progress))
    return {
        "pairs": pairs,
        "nonzeros": shards.nonzeros,
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - processor,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "load": os.getloadavg()[0],
        "phases": {name: round(seconds, 2) for name, seconds in phases.items()},
        "tests": {view.value: table.tests for view, table in tables.items()},
        "findings": {view.value: table.findings_controlled for view, table in tables.items()},
        "conditions": {view.value: len(table.conditions) for view, table in tables.items()},
        "reasons": {view.value: table.reason for view, table in tables.items() if table.reason},
    }


def metrics(runs: list[dict[str, Any]]) -> list[Metric]:
    """Time and memory of the largest run, and the exponents over all of them."""
    largest = runs[-1]
    shown = [
        Metric("pairs of the largest run", largest["pairs"], "pairs"),
        Metric("nonzeros of the largest run", largest["nonzeros"], "nonzeros"),
        Metric("processor time of the largest run", largest["processor_seconds"] / 60, "min"),
    ]
    full = largest["pairs"] >= FULL
    for name, value, unit, bar, goal in (
        ("wall time", largest["seconds"] / 60, "min", MINUTES, f"{GOAL}, in <= {MINUTES:.0f} minutes"),
        ("peak memory", largest["peak_gib"] * 2**30 / 1e9, "GB", GIGABYTES, f"{GOAL}, in <= {GIGABYTES:.0f} GB"),
    ):
        metric = at_most(f"{name} of the largest run", value, unit, bar, goal)
        shown.append(metric if full else Metric(metric.metric, value, unit, goal, False, "the full size was not run"))
    if len(runs) >= 2:
        for name, key in (("time", "processor_seconds"), ("memory", "peak_gib")):
            goal = f"{name} grows linearly in nonzeros (measured at four sizes, fitted exponent <= {EXPONENT})"
            fitted = exponent(runs, key)
            metric = at_most(f"exponent of {name} in nonzeros", fitted, "power", EXPONENT, goal, f"{len(runs)} sizes")
            # Small sizes are mostly fixed cost, which flatters the exponent.
            shown.append(metric if full and len(runs) >= 4 else replace(metric, holds=False))
    return shown


def exponent(runs: list[dict[str, Any]], key: str) -> float:
    """Slope of log value on log nonzeros, least squares."""
    return float(np.polyfit(np.log([run["nonzeros"] for run in runs]), np.log([run[key] for run in runs]), 1)[0])


def notes(runs: list[dict[str, Any]], sizes: list[int], more: str) -> str:
    """What a reader must know of how it was measured."""
    said = ["Synthetic shards on disk: generating them is not counted, reading them in every pass is."]
    said.append("Time's exponent is fitted on processor seconds, which other work on the machine disturbs less than the clock.")
    missing = [size for size in sizes if size not in [run["pairs"] for run in runs]]
    if missing:
        said.append(f"Not run to the end: {', '.join(f'{size:,}' for size in missing)} pairs.")
    return " ".join([*said, more]).strip()


def _apart(pairs: int, folder: str, seed: int, limit: float) -> dict[str, Any] | None:
    """The measurement in a process of its own; None where it did not end in time."""
    command = [sys.executable, "-m", "benchmarks.scale", "--one", str(pairs), "--folder", folder, "--seed", str(seed)]
    # Shards are written before, by another process, whose memory is not the audit's.
    writer = f"from pathlib import Path; from benchmarks.synthetic import write; write(Path({folder!r}), {pairs}, {seed})"
    subprocess.run([sys.executable, "-c", writer], check=True)
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(run), file=sys.stderr, flush=True)
    return run


if __name__ == "__main__":
    main()
