"""The plots of docs/validity.md, from result files: ``python -m benchmarks.validity.page`` writes both.

Each file carries a digest of what it was drawn from, so that a test can tell a stale plot without drawing it again, which other
releases of matplotlib would do in other bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT

FOLDER = ROOT / "docs" / "plots"
WAYS = {
    "swapped": "labels swapped at random",
    "length": "length decides, as in the real labels",
    "length x3": "length decides, x3",
}
VIEWS = {"global": "global", "feature_conditioned": "feature-conditioned", "prompt_conditioned": "prompt-conditioned"}
# Colours that stay apart without colour vision (Okabe and Ito 2008).
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777"


def uniformity(raw: dict[str, Any]) -> Any:
    """Share of p-values at most x, against x: on the diagonal a test is calibrated, above it reports too much."""
    plt = _pyplot()
    ways = ("swapped", "length x3")
    figure, axes = plt.subplots(2, 3, figsize=(9, 6), sharex=True, sharey=True)
    for row, way in zip(axes, ways, strict=True):
        for axis, view in zip(row, VIEWS, strict=True):
            axis.plot([1e-5, 1], [1e-5, 1], color=GREY, lw=0.8, ls="--")
            for name, colour in (("raw", ORANGE), ("controlled", BLUE)):
                summary = raw[way].get(view, {}).get(name)
                if summary:
                    shown = [(x, y) for x, y in zip(raw["shares"], summary["at_most"], strict=True) if y > 0]
                    axis.plot(*zip(*shown, strict=True), color=colour, lw=1.6, label=name)
            axis.set(xscale="log", yscale="log", xlim=(1e-5, 1), ylim=(1e-5, 1))
            axis.set_title(f"{VIEWS[view]}\n{WAYS[way].replace(chr(10), ' ')}", fontsize=9)
    for axis in axes[1]:
        axis.set_xlabel("p")
    for axis in axes[:, 0]:
        axis.set_ylabel("share of p-values at most p")
    axes[0, 0].legend(loc="upper left")
    return figure


def false_runs(raw: dict[str, Any]) -> Any:
    """Share of runs with any finding where there is nothing to find."""
    plt = _pyplot()
    rows = [(f"{title.replace(chr(10), ' ')}: {VIEWS[view]}", raw[way][view]) for way, title in WAYS.items() for view in raw[way]]
    figure, axis = plt.subplots(figsize=(9, 0.45 * len(rows) + 1.2))
    for place, (_, kinds) in enumerate(reversed(rows)):
        for name, colour, shift in (("raw", ORANGE, 0.15), ("controlled", BLUE, -0.15)):
            if name in kinds:
                (low, high), share = kinds[name]["interval"], kinds[name]["false_share"]
                error = [[share - low], [high - share]]
                axis.errorbar(share, place + shift, xerr=error, fmt="o", color=colour, capsize=3, ms=5)
    axis.axvline(0.05, color=GREY, ls="--", lw=0.8)
    axis.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)])
    axis.set_xlabel("share of runs with a finding where there is none (dashed: 0.05)")
    axis.set_xlim(-0.02, 1.02)
    for name, colour in (("raw", ORANGE), ("controlled for length", BLUE)):
        axis.plot([], [], "o", color=colour, label=name)
    figure.legend(loc="upper right", ncols=2)
    return figure


def power(raw: dict[str, Any]) -> Any:
    """Median rank of the first right concept against how many pairs hold it."""
    import numpy as np

    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True)
    names = [name for name in raw if isinstance(raw[name], dict) and "right" in raw[name]]
    styles = zip(names, (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY), "osD^vP", strict=False)
    for name, colour, mark in styles:
        for axis, background in zip(axes, ("real", "swapped"), strict=True):
            rates = [float(rate) for rate in raw[name][background]]
            ranks = [np.median([t["rank"] for t in trials]) for trials in raw[name][background].values()]
            axis.plot([100 * rate for rate in rates], ranks, color=colour, marker=mark, ms=5, lw=1.4, label=name)
    for axis, title in zip(axes, ("over real labels", "over labels swapped at random"), strict=True):
        axis.axhline(10, color=GREY, ls="--", lw=0.8)
        axis.set(xscale="log", yscale="log", xlabel="pairs that hold the concept, %", title=title)
        axis.set_xticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
        axis.minorticks_off()
    ticks = [1, 3, 10, 30, 100, 300, 1000, 3000]
    axes[0].set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes[0].set_ylim(0.8, 4200)
    axes[0].set_ylabel("rank of the first right concept")
    axes[0].invert_yaxis()
    axes[1].legend(loc="lower right", fontsize=8)
    return figure


def explained(raw: dict[str, Any]) -> Any:
    """Held-out AUC of each description, with bootstrap intervals over prompts."""
    plt = _pyplot()
    entries = [(name, entry) for name, entry in raw.items() if isinstance(entry, dict) and "auc" in entry][::-1]
    figure, axis = plt.subplots(figsize=(9, 0.36 * len(entries) + 1))
    ceiling = raw["dense residual"]["auc"]
    for place, (name, entry) in enumerate(entries):
        low, high = entry["auc_interval"]
        colour = ORANGE if "32 features" in name or name.startswith("embedding") else BLUE
        error = [[max(entry["auc"] - low, 0)], [max(high - entry["auc"], 0)]]
        axis.errorbar(entry["auc"], place, xerr=error, fmt="o", color=colour, capsize=3, ms=5)
    axis.axvline(ceiling, color=GREY, ls="--", lw=0.8)
    axis.axvline(0.5, color=GREY, lw=0.8)
    axis.set_yticks(range(len(entries)), [name for name, _ in entries], fontsize=9)
    axis.set_xlabel("held-out AUC of the preference (dashed: the dense residual; solid: chance)")
    return figure


# Plot, what draws it, and the result file it is drawn from.
PLOTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "uniformity": (uniformity, "validity-calibration"),
    "false-runs": (false_runs, "validity-calibration"),
    "power": (power, "validity-power"),
    "explained": (explained, "validity-explained"),
}


def digest(raw: dict[str, Any]) -> str:
    """Of the figures and of this file, which draws them."""
    parts = json.dumps(raw, sort_keys=True).encode() + Path(__file__).read_bytes()
    return hashlib.sha256(parts).hexdigest()


def draw(name: str, raw: dict[str, Any]) -> None:
    """Write docs/plots/NAME.svg."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure = PLOTS[name][0](raw)
    figure.tight_layout()
    path = FOLDER / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None, "Description": f"drawn from {digest(raw)}"})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    _pyplot().close(figure)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "assay", "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False})
    plt.rcParams.update({"axes.spines.right": False, "savefig.facecolor": "white", "legend.frameon": False})
    return plt
