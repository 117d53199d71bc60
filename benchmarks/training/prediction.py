"""Prediction: do the concepts that an audit says are taught move in training, and as much as it says?

    python -m benchmarks.training.prediction --pairs PAIRS.jsonl.gz [--only plain,planted] [--minutes N]

A policy is trained on HH pairs as they are (plain), and one on the same pairs with three planted concepts. Both and the untrained
model answer prompts that no training saw; `CompareRollouts` reads what they wrote. The noise floor is two independent sets of the
untrained model's, the positive control the implicit rewards of held-out pairs, planted like the training pairs.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Any

import assay

from benchmarks.common import arguments, serving
from benchmarks.training import figures
from benchmarks.training.data import Sizes
from benchmarks.training.explaining import serving_flags
from benchmarks.training.lab import Lab, Run
from benchmarks.training.treatments import Server
from experiments.results import Metric, at_least, write_result
from experiments.training import Recipe

KINDS = ("planted", "plain")
GOALS = {
    "pearson": "squared Pearson at least 0.9 over concepts above the noise floor",
    "spearman": "Spearman at least 0.8 over all retained concepts",
    "control": "positive control passed",
}


def labs(pairs: str, seed: int) -> dict[str, Lab]:
    """One for each kind. What HH as it is teaches is faint: a first training on 128 of its pairs, once over, moved nothing, and
    was made larger: all of its short pairs, somewhat longer ones too, twice over."""
    plain = Sizes(train=220, held_out=80, prompts=112, prompt_tokens=48, response_tokens=80)
    return {"planted": Lab(pairs, seed=seed), "plain": Lab(pairs, seed=seed, sizes=plain, recipe=Recipe(epochs=2))}


def perform(every: dict[str, Lab], kinds: list[str], minutes: float) -> None:
    """Run and compare what is missing, until the time is over."""
    ends = time.monotonic() + 60 * minutes
    for kind in kinds:
        if time.monotonic() < ends:
            every[kind].run(_run(every[kind], kind))
    missing = [kind for kind in kinds if _compared(every[kind], kind) is None and every[kind].done(_run(every[kind], kind))]
    if not missing:
        return
    with serving(*serving_flags("prediction")) as where, assay.Client(f"{where['host']}:{where['port']}") as client:
        for kind in missing:
            if time.monotonic() < ends:
                lab = every[kind]
                server = Server(client, lab)
                lab.keep_beside(
                    _run(lab, kind), "comparison", lambda lab=lab, server=server, kind=kind: compared(lab, server, kind)
                )


def compared(lab: Lab, server: Server, kind: str) -> dict[str, Any]:
    """The comparison of one training, as JSON."""
    record, base = lab.run(_run(lab, kind)), lab.baseline
    dataset = server.dataset(kind == "planted")
    upload = server.client.upload_pairs
    rollouts = upload(lab.rollouts(record["rollouts"], base["rollouts"][0]))
    noise = upload(lab.rollouts(base["rollouts"][1], base["rollouts"][0]))
    options = assay.ComparisonOptions(seed=lab.seed, keep=5000)
    found = server.client.compare_rollouts(
        dataset, rollouts, noise, margins=record["control"], margins_of="held-out pairs", options=options
    ).wait()
    return {
        **{name: asdict(getattr(found, name)) for name in ("retained", "above_noise", "noise_floor")},
        "control": asdict(found.control) if found.control is not None else None,
        "conclusions": list(found.conclusions),
        "pairs": found.dataset_pairs,
        "rollouts": found.rollout_pairs,
        "prompts": found.prompts,
        "total": found.total_shifts,
        "shifts": [_shift(one) for one in found.shifts if one.retained],
    }


def _run(lab: Lab, kind: str) -> Run:
    return Run(planted=kind == "planted", recipe=lab.recipe)


def _compared(lab: Lab, kind: str) -> dict[str, Any] | None:
    return lab.read_beside(_run(lab, kind), "comparison")


def _shift(one: assay.ConceptShift) -> list[Any]:
    """Name, predicted, observed, noise, whether it clears the noise floor, and the imitation gap."""
    figures = (one.predicted, one.observed.value, one.noise)
    gap = None if one.gap is None else round(one.gap, 5)
    return [one.concept.name, *(round(value, 5) for value in figures), one.clears_noise, gap]


def gathered(every: dict[str, Lab]) -> dict[str, Any]:
    """Every comparison that is there, with what its training cost."""
    raw: dict[str, Any] = {}
    for kind, lab in every.items():
        found, record = _compared(lab, kind), lab.done(_run(lab, kind))
        about = {"sizes": vars(lab.sizes), "recipe": lab.recipe.as_dict()}
        raw[kind] = (
            None if found is None or record is None else {**found, **about, "cost": figures.cost(record), "log": record["log"]}
        )
    return raw


def metrics(raw: dict[str, Any]) -> list[Metric]:
    """The bars, of each kind of data that was run."""
    found: list[Metric] = []
    for kind in KINDS:
        one = raw[kind]
        if one is None:
            continue
        above, every, control = one["above_noise"], one["retained"], one["control"]
        found.append(Metric(f"{kind}: retained concepts", every["concepts"], "concepts"))
        found.append(Metric(f"{kind}: of them over the noise floor", above["concepts"], "concepts"))
        for part, key, bar, goal in (
            (above, "pearson_squared", 0.9, GOALS["pearson"]),
            (every, "spearman", 0.8, GOALS["spearman"]),
        ):
            estimate = part[key]
            title = f"{kind}: {key.replace('_', ' ')}"
            if estimate is None:
                found.append(Metric(title, 0.0, "correlation", goal, False, f"not defined over {part['concepts']} concepts"))
            else:
                note = f"95% over prompts {estimate['low']:.2f} to {estimate['high']:.2f}"
                found.append(at_least(title, estimate["value"], "correlation", bar, goal, note))
        passed = control is not None and control["passed"]
        note = "" if control is None else f"margin {control['margin']['value']:+.3f}, accuracy {control['accuracy']['value']:.2f}"
        found.append(Metric(f"{kind}: positive control", float(passed), "passed", GOALS["control"], passed, note))
    return found


def main() -> None:
    """Run what is missing, gather, write the result."""
    args = arguments(__doc__, pairs="", minutes=1e9, only="", seed=0)
    every = labs(args.pairs, args.seed)
    perform(every, [kind for kind in KINDS if not args.only or kind in args.only.split(",")], args.minutes)
    raw = gathered(every)
    write_result("training-prediction", metrics(raw), seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
