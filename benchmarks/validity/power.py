"""Power: is a concept that was written into some chosen responses found, and where does it rank?

    python -m benchmarks.validity.power --pairs PAIRS.jsonl.gz [--repeats 5] [--limit 1512]

Six concepts are planted by editing the chosen response of 0.5, 1, 2, 5 and 10% of the pairs, over two backgrounds: the *real*
labels, where the planted concept competes with everything that the data teaches already, and labels *swapped* at random in all
other pairs, where it is the only thing to find, so that whatever else ranks high is false. What is right was decided without
the audit, on the responses of other pairs and with other phrases (`planting.py`): the five concepts that tell edited text best.

Rank is that of the first right concept in the global view, lesson the place of the first distinct lesson that a right finding
belongs to, recall the share of the five at q <= 0.05, precision the share of the top ten that the edit truly raises by a sign
test on the other pairs.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from assay_server.audit.findings import ViewKind
from assay_server.audit.matrices import Ints
from assay_server.audit.shards import ConceptSet
from assay_server.subject.types import Pair

from benchmarks.common import arguments, read_pairs
from benchmarks.validity.audits import audit, decisive
from benchmarks.validity.concepts import concept_set, response_clusters
from benchmarks.validity.data import Features, read
from benchmarks.validity.edits import EDITS
from benchmarks.validity.planting import Planting, prepare
from experiments.results import Metric, at_least, write_result

RATES = (0.005, 0.01, 0.02, 0.05, 0.10)
BACKGROUNDS = ("real", "swapped")
LEVEL, FIRST = 0.05, 10
POOL = 0.12  # share of the pairs that planting draws from
REFERENCE = 100  # pairs that tell what is right


def reference_rows(pairs: int, seed: int) -> Ints:
    """Pairs that tell what is right and are never planted, in every experiment."""
    return np.random.default_rng([seed, 3]).permutation(pairs)[: min(REFERENCE, pairs // 4)]


def plantings(
    pairs: Sequence[Pair], features: Features, concepts: ConceptSet, *, seed: int, names: Sequence[str] = tuple(EDITS)
) -> list[Planting]:
    """Every concept edited into the same pool of pairs."""
    others = reference_rows(len(pairs), seed)
    free = np.setdiff1d(np.arange(len(pairs)), others)
    rows = np.random.default_rng([seed, 4]).permutation(free)[: round(POOL * len(pairs))]
    say = functools.partial(print, file=sys.stderr, flush=True)
    return [prepare(name, pairs, features, concepts, rows, others, seed=seed, say=say) for name in names]


def trial(features: Features, concepts: ConceptSet, planting: Planting, rows: Ints, flips: Ints | None) -> dict[str, Any]:
    """One planted dataset, audited: rank, q, recall, precision.

    Args:
        rows: where the edited responses go.
        flips: pairs whose labels are exchanged first; none of `rows`.
    """
    base = features
    if flips is not None:
        where = np.zeros(len(features), np.bool_)
        where[flips] = True
        base = features.swapped(where)
    table = audit(planting.into(base, rows), concepts, ViewKind.GLOBAL)[ViewKind.GLOBAL]
    shown = decisive(table)
    place = np.empty(len(table.concept), np.int64)
    place[table.concept] = np.arange(len(table.concept))
    at = place[planting.right]
    first = int(at.min())
    lessons = np.zeros(len(place), np.int64) if table.lesson is None else table.lesson
    told = lessons[at][lessons[at] > 0]
    return {
        "rank": first + 1,
        "lesson": int(told.min()) if len(told) else len(place),  # past every place where none is told
        "lessons": int(lessons.max(initial=0)),
        "q": float(shown.q[first]),
        "q_raw": float(table.raw.q[first]),
        "rank_best": int(at[0]) + 1,
        "recall": float((shown.q[at] <= LEVEL).mean()),
        "precision": float((planting.changed[table.concept[:FIRST]] & (shown.estimate[:FIRST] > 0)).mean()),
        "findings": int(table.findings_controlled),
    }


def experiment(
    features: Features,
    concepts: ConceptSet,
    planted: Sequence[Planting],
    *,
    repeats: int,
    seed: int,
    rates: Sequence[float] = RATES,
    backgrounds: Sequence[str] = BACKGROUNDS,
) -> dict[str, Any]:
    """Every concept at every rate over every background, `repeats` times over other pairs; larger rates hold the smaller ones."""
    raw: dict[str, Any] = {}
    for planting in planted:
        shows = [
            {"concept": concepts.names[column], "auroc": float(area)}
            for column, area in zip(planting.right, planting.aurocs, strict=True)
        ]
        raw[planting.name] = {"right": shows, "raised": int(planting.changed.sum())}
        for background in backgrounds:
            raw[planting.name][background] = {
                str(rate): [_trial(features, concepts, planting, background, rate, r, seed) for r in range(repeats)]
                for rate in rates
            }
        print(f"{planting.name}: done", file=sys.stderr, flush=True)
    return raw


def _trial(
    features: Features, concepts: ConceptSet, planting: Planting, background: str, rate: float, repeat: int, seed: int
) -> dict[str, Any]:
    draws = np.random.default_rng([seed, 5, repeat])
    rows = draws.permutation(planting.rows)[: max(1, round(rate * len(features)))]
    if background == "real":
        return trial(features, concepts, planting, rows, None)
    flipped = np.flatnonzero(draws.random(len(features)) < 0.5)
    return trial(features, concepts, planting, rows, np.setdiff1d(flipped, rows))


def median(trials: Sequence[dict[str, Any]], key: str) -> float:
    """Of a figure over repeats."""
    return float(np.median([trial[key] for trial in trials]))


def metrics(raw: dict[str, Any], rates: Sequence[float] = RATES) -> list[Metric]:
    """The bar at 5%, and what there is to see at every rate."""
    found: list[Metric] = []
    names = [name for name in raw if isinstance(raw[name], dict) and "right" in raw[name]]
    for background in BACKGROUNDS:
        goal = "at 5% every one is in the top ten"
        ranks = {name: median(raw[name][background]["0.05"], "rank") for name in names}
        late = ", ".join(f"{name} {rank:.0f}" for name, rank in ranks.items() if rank > FIRST)
        title = f"{background} labels, planted at 5%: concepts in the top ten, of {len(names)}"
        inside = sum(rank <= FIRST for rank in ranks.values())
        found.append(
            at_least(title, inside, "concepts", len(names), goal, f"median rank over the top ten: {late}" if late else "")
        )
        told = {name: median(raw[name][background]["0.05"], "lesson") for name in names}
        missed = ", ".join(name for name, place in told.items() if place > FIRST)
        found.append(
            Metric(
                f"{background} labels, planted at 5%: concepts in the first ten distinct lessons, of {len(names)}",
                float(sum(place <= FIRST for place in told.values())),
                "concepts",
                notes=f"not told apart: {missed}" if missed else "",
            )
        )
        for rate in rates:
            for key, what, unit in (
                ("recall", "recall at q <= 0.05", "share"),
                ("precision", "precision of the top ten", "share"),
            ):
                value = np.mean([[t[key] for t in raw[name][background][str(rate)]] for name in names])
                if key == "recall" or background == "swapped":
                    found.append(Metric(f"{background} labels, planted at {rate:.1%}: {what}", float(value), unit))
    return found


def main() -> None:
    """Read, plant, audit, write the result."""
    args = arguments(__doc__, pairs="", repeats=5, limit=1_000_000, seed=0)
    pairs = read_pairs(args.pairs, args.limit)
    features = read(pairs, say=lambda text: print(text, file=sys.stderr, flush=True))
    concepts = concept_set(features, response_clusters(features))
    planted = plantings(pairs, features, concepts, seed=args.seed)
    began = time.perf_counter()
    raw = experiment(features, concepts, planted, repeats=args.repeats, seed=args.seed)
    found = metrics(raw)
    raw["pairs"], raw["concepts"], raw["seconds"] = len(features), len(concepts.names), time.perf_counter() - began
    write_result("validity-power", found, seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
