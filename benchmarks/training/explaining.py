"""Explaining away: what is left of each planted trait under each family, and what else it costs.

    python -m benchmarks.training.explaining --pairs PAIRS.jsonl.gz [--only FAMILY,CONCEPT] [--minutes N]

Pairs hold three planted concepts, each in its own share of them. A policy is trained without a plan, and with a plan against one
concept by one family, all else equal: the same pairs in the same order, the same start. Runs are kept (`lab.py`), so that any
slice can be run at any time; what was not run is said so.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import assay

from benchmarks.common import Metric, arguments, at_least, at_most, serving, write_result
from benchmarks.training import figures
from benchmarks.training.data import PLANTED
from benchmarks.training.lab import FOLDER, Lab, Run
from benchmarks.training.treatments import TREATMENTS, Server, ordered

SERVER = ("--whole-model", "--data-dir", str(FOLDER / "server"), "--dtype", "bfloat16")


def perform(lab: Lab, only: list[str], minutes: float) -> None:
    """Run what is missing, most informative first, until the time is over."""
    ends = time.monotonic() + 60 * minutes
    lab.run(Run(planted=True, recipe=lab.recipe))
    families = [one for one in only if one in {treatment.family.value for treatment in TREATMENTS}]
    concepts = [one for one in only if one in PLANTED]
    missing = [one for _, _, one in ordered(lab.recipe, families, concepts) if lab.done(one) is None]
    if not missing or time.monotonic() > ends:
        return
    with serving(*SERVER) as where, assay.Client(f"{where['host']}:{where['port']}") as client:
        server = Server(client, lab)
        for one in missing:
            if time.monotonic() > ends:
                return
            record = lab.run(one, server.plan(one))
            print(f"{one.name}: {record['rates']}", file=sys.stderr, flush=True)


def gathered(lab: Lab) -> dict[str, Any]:
    """Every figure of the runs that are there."""
    base, trained = lab.baseline, lab.done(Run(planted=True, recipe=lab.recipe))
    if trained is None:
        raise SystemExit("the training without a plan was not run")
    draws = figures.drawn(len(lab.material.prompts), lab.seed)
    untrained = {name: figures.shown(base["rollouts"][0] + base["rollouts"][1], name) for name in PLANTED}
    untrained = {name: values.reshape(2, -1).mean(axis=0) for name, values in untrained.items()}
    without = {name: figures.shown(trained["rollouts"], name) for name in PLANTED}
    raw: dict[str, Any] = {
        "untrained": {"rates": {name: figures.rate(untrained[name], draws) for name in PLANTED}, **_held_out_base(base)},
        "trained": {"rates": {name: figures.rate(without[name], draws) for name in PLANTED}, **_held_out(trained)},
        "sizes": vars(lab.sizes),
        "recipe": lab.recipe.as_dict(),
        "treatments": {},
    }
    for concept, treatment, one in ordered(lab.recipe):
        record = lab.done(one)
        entry = raw["treatments"].setdefault(treatment.family.value, {"strength": treatment.strength, "kind": treatment.kind})
        entry[concept] = None if record is None else _entry(concept, record, trained, untrained, without, draws, lab.seed)
    return raw


def _entry(concept: str, record: Any, trained: Any, untrained: Any, without: Any, draws: Any, seed: int) -> dict[str, Any]:
    planned = {name: figures.shown(record["rollouts"], name) for name in PLANTED}
    others = {name: (untrained[name], without[name], planned[name]) for name in PLANTED if name != concept}
    raised = {name: figures.nats(trained, name) for name in PLANTED}
    kept = {name: figures.nats(record, name) for name in PLANTED}
    return {
        "rates": {name: figures.rate(planned[name], draws) for name in PLANTED},
        "recovery": figures.recovery(untrained[concept], without[concept], planned[concept], draws),
        "off_target": figures.off_target(others, seed),
        "accuracy_lost": figures.accuracy_lost(trained["margins"], record["margins"], seed),
        "nats": kept,
        "nats_recovery": 1 - kept[concept] / raised[concept],
        "nats_off_target": sum(abs(kept[name] / raised[name] - 1) for name in others) / len(others),
        "plan": record["plan"],
        **_held_out(record),
    }


def _held_out(record: Any) -> dict[str, Any]:
    return {
        "accuracy": figures.accuracy(record["margins"]),
        "margin": sum(record["margins"]) / len(record["margins"]),
        "perplexity": record["perplexity"],
        "nats": {name: figures.nats(record, name) for name in PLANTED},
        "last_margins": [step["margin"] for step in record["log"][-4:] if "margin" in step],
        "pairs": record["pairs"],
        "cost": figures.cost(record),
    }


def _held_out_base(base: Any) -> dict[str, Any]:
    import math

    held = base["held_out"]
    return {
        "accuracy": 0.5,
        "perplexity": math.exp(-sum(held["chosen"]) / sum(held["chosen_tokens"])),
        "nats": dict.fromkeys(PLANTED, 0.0),
    }


def metrics(raw: dict[str, Any]) -> list[Metric]:
    """Reward shaping against its bar, then every family's figures."""
    found: list[Metric] = []
    for concept in PLANTED:
        moved = raw["trained"]["rates"][concept]["value"] - raw["untrained"]["rates"][concept]["value"]
        found.append(Metric(f"{concept}: rate that training adds", moved, "share"))
    for family, entry in raw["treatments"].items():
        for concept in PLANTED:
            one = entry[concept]
            if one is None:
                continue
            title = f"{family}, {concept}"
            bars = family == "reward_shaping"
            found += _bars(title, one) if bars else _figures(title, one)
    return found


def _bars(title: str, one: dict[str, Any]) -> list[Metric]:
    found: list[Metric] = []
    if one["recovery"]["value"] is not None:
        low, high = one["recovery"]["interval"]
        note = f"95% over prompts {low:.2f} to {high:.2f}; of log-ratios {one['nats_recovery']:.2f}"
        found.append(at_least(f"{title}: recovery", one["recovery"]["value"], "share", 0.9, "recovers at least 90%", note))
    else:
        found.append(
            Metric(f"{title}: recovery of log-ratios", one["nats_recovery"], "share", notes="the rate itself did not move")
        )
    off = one["off_target"]
    if off["value"] is not None:
        note = f"chance alone would give {off['chance']:.2f}; of log-ratios {one['nats_off_target']:.2f}"
        found.append(at_most(f"{title}: change of the others", off["value"], "share", 0.1, "at most 10% off-target", note))
    lost = one["accuracy_lost"]
    low, high = lost["interval"]
    note = f"95% over {lost['pairs']} pairs {low:.1f} to {high:.1f}; one pair is {100 / lost['pairs']:.1f} points"
    found.append(at_most(f"{title}: held-out accuracy lost", lost["value"], "points", 1.0, "at most 1 point of accuracy", note))
    return found


def _figures(title: str, one: dict[str, Any]) -> list[Metric]:
    value = one["recovery"]["value"]
    shown = Metric(f"{title}: recovery", value, "share") if value is not None else None
    other = Metric(f"{title}: recovery of log-ratios", one["nats_recovery"], "share")
    return [shown or other]


def main() -> None:
    """Run a slice, gather, write the result."""
    args = arguments(__doc__, pairs="", minutes=1e9, only="", seed=0)
    lab = Lab(args.pairs, seed=args.seed)
    perform(lab, [one for one in args.only.split(",") if one], args.minutes)
    raw = gathered(lab)
    write_result("training-explaining", metrics(raw), seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
