"""Explaining away: what is left of each planted trait under each family, and what else it costs.

    python -m benchmarks.training.explaining --pairs PAIRS.jsonl.gz [--only FAMILY,CONCEPT] [--minutes N] [--part K/N]

Pairs hold three planted concepts, each in its own share of them. A policy is trained without a plan, and with a plan against one
concept by one family, all else equal: the same pairs in the same order, the same start. Two controls say what the figures can
show: the same training with another seed (order of the pairs and the adapter's start), and trainings on pairs in which the
concept was never planted, which is what a perfect plan would come to. Runs are kept (`lab.py`), so that any slice can be run at
any time, and parts side by side; what was not run is said so.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import assay
import numpy as np

from benchmarks.common import arguments, serving
from benchmarks.training import figures
from benchmarks.training.data import PLANTED
from benchmarks.training.lab import FOLDER, Lab, Run
from benchmarks.training.treatments import TREATMENTS, Server, ordered
from experiments.results import Metric, at_least, at_most, write_result


def serving_flags(who: str) -> tuple[str, ...]:
    """Of the demo server that makes the plans; who runs side by side needs a data directory each."""
    return ("--whole-model", "--data-dir", str(FOLDER / f"server-{who}"), "--dtype", "bfloat16")


def controls(lab: Lab) -> dict[str, Run]:
    """Trainings without a plan: as the others are; with another seed; and without each concept."""
    recipe = lab.recipe
    never = {f"without {name}": Run(planted=True, recipe=recipe, unplanted=name) for name in PLANTED}
    return {
        "trained": Run(planted=True, recipe=recipe),
        "other seed": Run(planted=True, recipe=replace(recipe, seed=recipe.seed + 1)),
        **never,
    }


def perform(lab: Lab, only: list[str], minutes: float, part: str) -> None:
    """Run what is missing, most informative first, until the time is over."""
    ends = time.monotonic() + 60 * minutes
    families = [one for one in only if one in {treatment.family.value for treatment in TREATMENTS}]
    concepts = [one for one in only if one in PLANTED]
    asked = [one for _, _, one in ordered(lab.recipe, families, concepts)]
    wanted = [*([] if only else controls(lab).values()), *asked] if "controls" not in only else [*controls(lab).values()]
    place, parts = (int(word) for word in part.split("/"))
    missing = [one for one in wanted[place::parts] if lab.done(one) is None]
    if not missing or time.monotonic() > ends:
        return
    with serving(*serving_flags(part.replace("/", "-of-"))) as where, assay.Client(f"{where['host']}:{where['port']}") as client:
        server = Server(client, lab)
        for one in missing:
            if time.monotonic() > ends:
                return
            record = lab.run(one, server.plan(one) if one.treatment else None)
            print(f"{one.name}: {record['rates']}", file=sys.stderr, flush=True)


def gathered(lab: Lab) -> dict[str, Any]:
    """Every figure of the runs that are there."""
    kept = {name: lab.done(one) for name, one in controls(lab).items()}
    if kept["trained"] is None:
        raise SystemExit("the training without a plan was not run")
    told = _Telling(lab, [kept["trained"], kept["other seed"]])
    raw: dict[str, Any] = {
        "untrained": {"rates": told.rates(told.untrained), **_held_out_base(lab.baseline)},
        "trained": {"rates": told.rates(told.shown([kept["trained"]])), **_held_out(kept["trained"])},
        "other_seed": None if kept["other seed"] is None else told.other_seed(kept["trained"], kept["other seed"]),
        "never_planted": {name: told.entry(name, [kept[f"without {name}"]]) for name in PLANTED},
        "sizes": vars(lab.sizes),
        "recipe": lab.recipe.as_dict(),
        "treatments": {},
    }
    for treatment in TREATMENTS:
        entry = raw["treatments"].setdefault(treatment.family.value, {"strength": treatment.strength, "kind": treatment.kind})
        for concept in PLANTED:
            entry[concept] = told.entry(concept, [lab.done(one) for one in treatment.runs(concept, lab.recipe)])
    return raw


class _Telling:
    """Figures of records beside the untrained model's and those without a plan.

    Args:
        lab: whose records.
        without: of the trainings without a plan, of each seed; None where one was not run.
    """

    def __init__(self, lab: Lab, without: list[Any]) -> None:
        self._without = without
        self._seed = lab.seed
        self._draws = figures.drawn(len(lab.material.prompts), lab.seed)
        sets = lab.baseline["rollouts"]
        self.untrained = {name: np.mean([figures.shown(texts, name) for texts in sets], axis=0) for name in PLANTED}

    def shown(self, records: list[Any]) -> dict[str, figures.Floats]:
        """Share of the records whose response to a prompt shows each concept, [prompts] each."""
        return {name: np.mean([figures.shown(one["rollouts"], name) for one in records], axis=0) for name in PLANTED}

    def rates(self, shown: dict[str, figures.Floats]) -> dict[str, Any]:
        """Means over prompts, with intervals."""
        return {name: figures.rate(values, self._draws) for name, values in shown.items()}

    def entry(self, concept: str, every: list[Any]) -> dict[str, Any] | None:
        """A treatment of a concept, each training beside the one without a plan of its own seed; None where no two are there.

        Args:
            concept: what it is against.
            every: records of the first seeds, None where one was not run.
        """
        both = [(with_plan, base) for with_plan, base in zip(every, self._without, strict=False) if with_plan and base]
        if not both:
            return None
        records, without = ([pair[side] for pair in both] for side in range(2))
        trained, planned = self.shown(without), self.shown(records)
        others = {name: (self.untrained[name], trained[name], planned[name]) for name in PLANTED if name != concept}
        raised, kept = _nats(without), _nats(records)
        return {
            "seeds": len(records),
            "rates": self.rates(planned),
            "recovery": figures.recovery(self.untrained[concept], trained[concept], planned[concept], self._draws),
            "off_target": figures.off_target(others, self._seed),
            "accuracy_lost": figures.accuracy_lost(_margins(without), _margins(records), self._seed),
            "nats_recovery": 1 - kept[concept] / raised[concept],
            "nats_off_target": sum(abs(kept[name] / raised[name] - 1) for name in others) / len(others),
            "plan": records[0]["plan"],
            **_held_out(records[0]),
            "accuracy": float(np.mean([figures.accuracy(one["margins"]) for one in records])),
            "perplexity": float(np.mean([one["perplexity"] for one in records])),
            "nats": kept,
        }

    def other_seed(self, one: Any, other: Any) -> dict[str, Any]:
        """What another seed changes: how far two trainings without any plan are apart."""
        first, second = self.shown([one]), self.shown([other])
        raised, again = _nats([one]), _nats([other])
        return {
            **_held_out(other),
            "rates": self.rates(second),
            "off_target": figures.off_target({name: (self.untrained[name], first[name], second[name]) for name in PLANTED}),
            "nats_off_target": sum(abs(again[name] / raised[name] - 1) for name in PLANTED) / len(PLANTED),
            "accuracy_lost": figures.accuracy_lost(_margins([one]), _margins([other]), self._seed),
        }


def _nats(records: list[Any]) -> dict[str, float]:
    return {name: float(np.mean([figures.nats(one, name) for one in records])) for name in PLANTED}


def _margins(records: list[Any]) -> list[list[float]]:
    return [one["margins"] for one in records]


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
    args = arguments(__doc__, pairs="", minutes=1e9, only="", seed=0, part="0/1")
    lab = Lab(args.pairs, seed=args.seed)
    perform(lab, [one for one in args.only.split(",") if one], args.minutes, args.part)
    raw = gathered(lab)
    write_result("training-explaining", metrics(raw), seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
