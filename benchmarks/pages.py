"""Pages of docs/ that are made of committed results: what they share, whatever they are about.

A page has a head, a table of bars met, and one part for each result file; its plots name the digest of the figures that they were
drawn from, so that a stale one is told apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.tables import section
from experiments.results import RESULTS

# From a result file's name to what makes its part of the page out of its raw figures.
Parts: TypeAlias = Mapping[str, Callable[[dict[str, Any]], list[str]]]
# From a plot's name to what draws it, and the result file that it is of.
Plots: TypeAlias = Mapping[str, tuple[Any, str]]
Found: TypeAlias = dict[str, dict[str, Any]]


def committed(parts: Parts) -> Found:
    """The committed results, by name, in the page's order."""
    return {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in parts if (RESULTS / f"{name}.json").exists()}


def rendered(head: str, parts: Parts, found: Found) -> str:
    """The whole page."""
    texts = ["\n".join([head, *bars_met(parts, found)])]
    for name, result in found.items():
        table = section(result).split("\n", 1)[1]
        texts.append("\n".join([*parts[name](result["raw"]), "", "### Figures", table]))
    return "\n".join(text.rstrip() + "\n" for text in texts)


def bars_met(parts: Parts, found: Found) -> list[str]:
    """A table of how many bars each experiment met; an experiment's name is its file's without the family before the dash."""
    lines = ["| experiment | bars met | not met |", "| --- | ---: | --- |"]
    for name in parts:
        bars = [metric for metric in found.get(name, {"metrics": []})["metrics"] if "holds" in metric]
        missed = "; ".join(metric["metric"] for metric in bars if not metric["holds"])
        met = f"{sum(m['holds'] for m in bars)} of {len(bars)}" if name in found else "not measured"
        lines.append(f"| {name.partition('-')[2]} | {met} | {missed} |")
    return lines


def stale(plots: Plots, found: Found, folder: Path, digest: Callable[[Any], str]) -> list[str]:
    """Plots that are missing or were drawn from other figures."""
    return [
        name
        for name, (_, source) in plots.items()
        if source in found
        and not ((folder / f"{name}.svg").exists() and digest(found[source]["raw"]) in (folder / f"{name}.svg").read_text())
    ]
