"""Amplifying: does a policy take up a wanted concept the more, the larger its strength?

    python -m benchmarks.training.amplifying --pairs PAIRS.jsonl.gz [--minutes N]

The wanted concept is in some of the chosen responses; reward shaping in mode AMPLIFY asks for more of it, at several strengths λ
on the same pairs in the same order from the same start. λ = 0 is the training without a plan.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

import assay
from assay import InterventionFamily, InterventionMode

from benchmarks.common import arguments, serving
from benchmarks.training import figures
from benchmarks.training.explaining import serving_flags
from benchmarks.training.lab import Lab, Run
from benchmarks.training.treatments import Server, Treatment
from experiments.results import Metric, write_result

CONCEPT = "refusal opening"
STRENGTHS = (0.5, 1.0, 2.0, 4.0)


def runs(lab: Lab) -> dict[float, Run]:
    """The training at each strength."""
    found = {0.0: Run(planted=True, recipe=lab.recipe)}
    for strength in STRENGTHS:
        treatment = Treatment(InterventionFamily.REWARD_SHAPING, strength, mode=InterventionMode.AMPLIFY)
        found[strength] = treatment.run(CONCEPT, lab.recipe)
    return found


def perform(lab: Lab, minutes: float) -> None:
    """Run what is missing until the time is over: the ends of the range first."""
    ends = time.monotonic() + 60 * minutes
    every = runs(lab)
    order = [0.0, STRENGTHS[-1], *STRENGTHS[:-1]]
    missing = [every[strength] for strength in order if lab.done(every[strength]) is None]
    if not missing:
        return
    with serving(*serving_flags("amplifying")) as where, assay.Client(f"{where['host']}:{where['port']}") as client:
        server = Server(client, lab)
        for one in missing:
            if time.monotonic() > ends:
                return
            record = lab.run(one, server.plan(one) if one.treatment else None)
            print(f"{one.treatment}: {record['rates']}", file=sys.stderr, flush=True)


def gathered(lab: Lab) -> dict[str, Any]:
    """The dose-response, of the strengths that were run."""
    draws = figures.drawn(len(lab.material.prompts), lab.seed)
    points: list[dict[str, Any]] = []
    for strength, one in runs(lab).items():
        record = lab.done(one)
        if record is None:
            continue
        points.append(
            {
                "strength": strength,
                "rate": figures.rate(figures.shown(record["rollouts"], CONCEPT), draws),
                "nats": figures.nats(record, CONCEPT),
                "nats_interval": [
                    bound / record["recipe"]["beta"] for bound in figures.mean_interval(record["probes"][CONCEPT], lab.seed)
                ],
                "perplexity": record["perplexity"],
                "accuracy": figures.accuracy(record["margins"]),
                "cost": figures.cost(record),
            }
        )
    return {"concept": CONCEPT, "asked": list(STRENGTHS), "points": points, "recipe": lab.recipe.as_dict()}


def metrics(raw: dict[str, Any]) -> list[Metric]:
    """Whether the curve is monotone, by both measures."""
    points = raw["points"]
    goal = f"monotone over at least four strengths ({len(points) - 1} were run)"
    enough = len(points) - 1 >= 4
    found: list[Metric] = []
    for key, title in (("rate", "trait rate"), ("nats", "log-ratio")):
        values = [point[key]["value"] if key == "rate" else point[key] for point in points]
        steps = [after - before for before, after in itertools.pairwise(values)]
        rising = sum(step >= 0 for step in steps)
        found.append(
            Metric(f"{title}: steps that do not fall, of {len(steps)}", rising, "steps", goal, enough and rising == len(steps))
        )
    return found


def main() -> None:
    """Run what is missing, gather, write the result."""
    args = arguments(__doc__, pairs="", minutes=1e9, seed=0)
    lab = Lab(args.pairs, seed=args.seed)
    perform(lab, args.minutes)
    raw = gathered(lab)
    write_result("training-amplifying", metrics(raw), seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
