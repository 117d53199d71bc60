"""The plots of docs/training.md, from result files; each carries a digest of what it was drawn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.training.data import PLANTED
from benchmarks.validity.plots import BLUE, FOLDER, GREEN, GREY, ORANGE, _pyplot

COLOURS = dict(zip(PLANTED, (BLUE, ORANGE, GREEN), strict=True))
MARKS = dict(zip(PLANTED, "osD", strict=True))


def shifts(raw: dict[str, Any]) -> Any:
    """Observed against predicted shifts of every retained concept."""
    plt = _pyplot()
    kinds = [kind for kind in ("plain", "planted") if raw.get(kind)]
    figure, axes = plt.subplots(1, len(kinds), figsize=(4.6 * len(kinds), 4.4), squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        for clear, colour, label, size in ((False, GREY, "within the noise", 8), (True, BLUE, "over the noise floor", 16)):
            points = [(x, y) for _, x, y, _, clears, _ in raw[kind]["shifts"] if clears is clear]
            if points:
                axis.scatter(*zip(*points, strict=True), s=size, color=colour, alpha=0.6, linewidths=0, label=label)
        ends = [min(axis.get_xlim()[0], axis.get_ylim()[0]), max(axis.get_xlim()[1], axis.get_ylim()[1])]
        axis.plot(ends, ends, color=GREY, lw=0.8, ls="--")
        axis.axhline(0, color=GREY, lw=0.5)
        axis.axvline(0, color=GREY, lw=0.5)
        title = {"plain": "HH as it is", "planted": "HH with three planted concepts"}[kind]
        axis.set(xlabel="predicted: mean u over the training pairs", ylabel="observed: mean u after over before", title=title)
        axis.legend(loc="lower right", fontsize=8)
    return figure


def recovery(raw: dict[str, Any]) -> Any:
    """Recovery of each concept under each family, by sampled rate and by log-ratio."""
    plt = _pyplot()
    every = {"never planted": raw["never_planted"], **raw["treatments"]}
    families = [(family, entry) for family, entry in every.items() if any(entry[name] for name in PLANTED)][::-1]
    figure, axes = plt.subplots(1, 2, figsize=(9, 0.55 * len(families) + 1.8), sharey=True)
    for place, (_, entry) in enumerate(families):
        for at, concept in enumerate(PLANTED):
            one = entry[concept]
            if one is None:
                continue
            height = place + 0.22 * (1 - at)
            style = {"color": COLOURS[concept], "marker": MARKS[concept], "ms": 5, "capsize": 2, "lw": 1.2}
            if one["recovery"]["value"] is not None:
                value, (low, high) = one["recovery"]["value"], one["recovery"]["interval"]
                axes[0].errorbar(value, height, xerr=[[max(0, value - low)], [max(0, high - value)]], **style)
            axes[1].plot(one["nats_recovery"], height, ls="", **{key: style[key] for key in ("color", "marker", "ms")})
    axes[0].set_ylim(-0.5, len(families) - 0.5)
    axes[0].set_yticks(range(len(families)), [family.replace("_", " ") for family, _ in families])
    for axis, title in zip(
        axes, ("of the rate in rollouts (95% over prompts)", "of the log-ratio of held-out texts"), strict=True
    ):
        axis.axvline(0, color=GREY, lw=0.5)
        axis.axvline(0.9, color=GREY, lw=0.8, ls="--")
        axis.set_xlabel(f"recovery {title}")
    for concept in PLANTED:
        axes[1].plot([], [], ls="", color=COLOURS[concept], marker=MARKS[concept], label=concept)
    axes[1].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(PLANTED), fontsize=8, frameon=False)
    return figure


def dose(raw: dict[str, Any]) -> Any:
    """The wanted concept against strength."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    strengths = [point["strength"] for point in raw["points"]]
    for axis, key, title in zip(axes, ("rate", "nats"), ("rate in rollouts", "log-ratio of held-out texts, nats"), strict=True):
        values = [point[key]["value"] if key == "rate" else point[key] for point in raw["points"]]
        bounds = [point[key]["interval"] if key == "rate" else point["nats_interval"] for point in raw["points"]]
        errors = [[max(0, v - b[0]) for v, b in zip(values, bounds, strict=True)]]
        errors.append([max(0, b[1] - v) for v, b in zip(values, bounds, strict=True)])
        axis.errorbar(strengths, values, yerr=errors, color=BLUE, marker="o", ms=5, capsize=3, lw=1.4)
        axis.set(xlabel="strength λ", ylabel=title)
    return figure


# Plot, what draws it, and the result file it is drawn from.
PLOTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "training-shifts": (shifts, "training-prediction"),
    "training-recovery": (recovery, "training-explaining"),
    "training-dose": (dose, "training-amplifying"),
}


def digest(raw: dict[str, Any]) -> str:
    """Of the figures and of this file, which draws them."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode() + Path(__file__).read_bytes()).hexdigest()


def draw(name: str, raw: dict[str, Any]) -> None:
    """Write docs/plots/NAME.svg."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure = PLOTS[name][0](raw)
    figure.tight_layout()
    path = FOLDER / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None, "Description": f"drawn from {digest(raw)}"})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    _pyplot().close(figure)
