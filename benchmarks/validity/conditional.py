"""Conditional power: planted only where the prompt is about one topic, does the prompt-conditioned view name both sides?

    python -m benchmarks.validity.conditional --pairs PAIRS.jsonl.gz [--limit 1512]

A topic is a list of words; a pair is about it where its prompt holds one. Every topic's pairs get a concept edited into their
chosen response, over real labels and over labels swapped at random elsewhere. The right condition is a prompt cluster that holds
one of the five prompt features that tell the topic's prompts best (AUROC of the largest activation; labels play no part), the
right concept a response cluster that holds one of the five features that tell edited text best (`planting.py`). A hypothesis
names both sides when both are right and it says "more, inside". As much by luck: the share of all tests that would be right.
"""

from __future__ import annotations

import functools
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from assay_server.audit.findings import TestTable, ViewKind
from assay_server.audit.matrices import Bools, Ints
from assay_server.audit.shards import ConceptSet
from assay_server.subject.types import Pair

from benchmarks.common import arguments, read_pairs
from benchmarks.validity.audits import audit, decisive
from benchmarks.validity.concepts import best, column_aurocs, concept_set
from benchmarks.validity.data import Features, prompt_text, read
from benchmarks.validity.planting import TOP, Planting, prepare
from benchmarks.validity.power import reference_rows
from experiments.results import Metric, at_least, write_result

# Those that hold between LEAST and MOST of the pairs are used: the view asks a feature to fire in a tenth of the pairs.
TOPICS = {
    "crime": r"steal|stole|theft|thief|rob|robbery|crime|criminal|illegal|police|cops?|jail|prison|arrested",
    "drugs and drink": r"drugs?|weed|alcohol|beer|wine|drunk|drink|drinking|smok\w+|pills?|marijuana|cocaine",
    "family": r"mom|mother|dad|father|wife|husband|brother|sister|kids?|child|children|son|daughter|baby|parents?",
    "money": r"money|bank|credit|pay|paid|buy|sell|dollars?|cash|cheap|price",
}
LEAST, MOST = 0.10, 0.25
EDITED = ("bold", "flattery")
FIRST = 10


@dataclass(frozen=True, eq=False)
class Topic:
    """Where the prompt is about it, and the prompt features that tell."""

    name: str
    about: Bools  # [pairs]
    right: Ints  # prompt features, best first
    aurocs: list[float]


def topics(pairs: Sequence[Pair], features: Features) -> list[Topic]:
    """Those of the right size, with their telling features."""
    found: list[Topic] = []
    peaks = features.prompt.peak.toarray()
    for name, words in TOPICS.items():
        pattern = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
        about = np.array([bool(pattern.search(prompt_text(pair))) for pair in pairs])
        if LEAST <= about.mean() <= MOST:
            areas = column_aurocs(peaks[about], peaks[~about])
            right = best(areas, TOP)
            found.append(Topic(name, about, right, areas[right].tolist()))
    return found


def plant(pairs: Sequence[Pair], features: Features, concepts: ConceptSet, topic: Topic, name: str, seed: int) -> Planting:
    """The concept in every pair of the topic but those that tell what is right."""
    others = reference_rows(len(pairs), seed)
    say = functools.partial(print, file=sys.stderr, flush=True)
    rows = np.setdiff1d(np.flatnonzero(topic.about), others)
    return prepare(name, pairs, features, concepts, rows, others, seed=seed, say=say)


def judge(table: TestTable, topic: Topic, right: Ints) -> dict[str, Any]:
    """Where the first hypothesis that names both sides ranks."""
    conditions = np.array([bool(set(topic.right.tolist()) & set(c.features)) for c in table.conditions], np.bool_)
    responses = np.array([bool(set(right.tolist()) & set(c.features)) for c in table.concepts], np.bool_)
    shown = decisive(table)
    where, what = conditions[table.condition], responses[table.concept]
    both = where & what & (shown.estimate > 0)
    at = np.flatnonzero(both)
    first = int(at[0]) if len(at) else -1
    return {
        "rank": first + 1 if first >= 0 else None,
        "q": float(shown.q[first]) if first >= 0 else 1.0,
        "finding": bool(table.finding[at].any()) if len(at) else False,
        "tests": table.tests,
        "findings": int(table.finding.sum()),
        "luck": float((where & what).mean()) if len(where) else 0.0,
        "top_conditions": float(where[:FIRST].mean()) if len(where) else 0.0,
        "top_concepts": float(what[:FIRST].mean()) if len(where) else 0.0,
        "reason": table.reason,
    }


def experiment(pairs: Sequence[Pair], features: Features, concepts: ConceptSet, *, seed: int) -> dict[str, Any]:
    """Every topic with every edit over both backgrounds."""
    raw: dict[str, Any] = {}
    feature_columns = np.flatnonzero(np.asarray(concepts.members.sum(axis=0)).ravel() == 1)
    view = ViewKind.PROMPT_CONDITIONED
    for topic in topics(pairs, features):
        entry: dict[str, Any] = {"pairs": int(topic.about.sum()), "features": topic.right.tolist(), "aurocs": topic.aurocs}
        flips = (np.random.default_rng([seed, 13]).random(len(features)) < 0.5) & ~topic.about
        for name in EDITED:
            planting = plant(pairs, features, concepts, topic, name, seed)
            right = planting.right[np.isin(planting.right, feature_columns)]
            entry[name] = {"features": right.tolist()}
            for background, base in (("real", features), ("swapped", features.swapped(flips))):
                table = audit(planting.into(base, planting.rows), concepts, view, seed=seed)[view]
                entry[name][background] = judge(table, topic, right)
        raw[topic.name] = entry
        print(f"{topic.name}: done", file=sys.stderr, flush=True)
    return raw


def metrics(raw: dict[str, Any]) -> list[Metric]:
    """In how many of the plantings a finding names both sides, and how high."""
    found: list[Metric] = []
    goal = "the prompt-conditioned view names both sides"
    for background in ("real", "swapped"):
        cases = {(t, name): raw[t][name][background] for t in raw for name in EDITED}
        named = [case for case in cases.values() if case["finding"]]
        missed = ", ".join(f"{name} on {topic}" for (topic, name), case in cases.items() if not case["finding"])
        title = f"{background} labels: plantings of {len(cases)} that a finding names on both sides"
        found.append(at_least(title, len(named), "plantings", len(cases), goal, f"not named: {missed}" if missed else ""))
        high = sum(case["rank"] is not None and case["rank"] <= FIRST for case in cases.values())
        found.append(Metric(f"{background} labels: plantings of {len(cases)} named in the top ten", high, "plantings"))
        luck = float(np.mean([case["luck"] for case in cases.values()]))
        found.append(Metric(f"{background} labels: share of all tests that would be right by luck", luck, "share"))
    return found


def main() -> None:
    """Read, plant by topic, audit, write the result."""
    args = arguments(__doc__, pairs="", limit=1_000_000, seed=0)
    pairs = read_pairs(args.pairs, args.limit)
    features = read(pairs, say=lambda text: print(text, file=sys.stderr, flush=True))
    began = time.perf_counter()
    raw = experiment(pairs, features, concept_set(features), seed=args.seed)
    found = metrics(raw)
    write_result("validity-conditional", found, seed=args.seed, raw={**raw, "seconds": time.perf_counter() - began})


if __name__ == "__main__":
    sys.exit(main())
