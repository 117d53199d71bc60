"""Conditional naming: written only where the metadata says one topic, is an edit named under that condition?

    python -m benchmarks.readability.conditional --pairs PAIRS.jsonl.gz [--subject none] [--limit 1512]

Two topics become values of a metadata key, and half of a topic's pairs get one of the six edits of the validity experiments, over
real labels. It is named where one of the first ten cards says so under the right value.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from assay_server.audit.findings import AuditOptions, Condition, ViewKind
from assay_server.audit.matrices import Csr
from assay_server.audit.shards import ConceptSet
from assay_server.subject.types import Pair

from benchmarks.common import arguments, read_pairs
from benchmarks.readability.data import Data, Subject, concepts_of, read_data, run
from benchmarks.readability.expected import EXPECTED
from benchmarks.readability.planting import Topic, inside, topics, written
from benchmarks.readability.told import FIRST, TOLD_BY, Card, cards_of, named_at
from benchmarks.validity.edits import EDITS
from experiments.results import Metric, at_least, write_result


def metadata(found: Sequence[Topic]) -> tuple[tuple[Condition, ...], Csr]:
    """Every topic and the rest as conditions, and which pairs are in each, 0/1 [pairs, conditions]."""
    columns = [topic.about for topic in found]
    held = np.stack([*columns, ~np.any(columns, axis=0)], axis=1).astype(np.int64)
    return tuple(Condition(condition_of(name)) for name in [*(topic.name for topic in found), "other"]), Csr(held)


def condition_of(topic: str) -> str:
    """The name of a topic's condition."""
    return f"metadata/topic={topic}"


def conditioned(data: Data, concepts: ConceptSet, found: Sequence[Topic], seed: int) -> list[Card]:
    """The cards of an audit with the topics as conditions named beforehand.

    Of all views, or of all but the prompt-conditioned one where there is no SAE concept to form conditions from.
    """
    given, groups = metadata(found)
    views = tuple(AuditOptions().views) if len(concepts.names) else (ViewKind.GLOBAL, ViewKind.FEATURE_CONDITIONED)
    options = AuditOptions(views=views, max_t_flips=0, seed=seed)
    return cards_of(run(data, concepts, options, given=given, groups=groups), options)


def judged(cards: Sequence[Card], name: str, topic: str) -> dict[str, Any]:
    """Where the edit is named under its topic, and where everywhere."""
    expected = EXPECTED[name]
    at = named_at(cards, expected, condition=condition_of(topic))
    return {
        "place": at,
        "place_everywhere": named_at(cards, expected),
        "place_title": named_at(cards, expected, condition=condition_of(topic), shown=1),
        "title": "" if at is None else cards[at - 1].lead,
        "stability": 0.0 if at is None else cards[at - 1].stability,
        "cards": len(cards),
    }


def experiment(pairs: Sequence[Pair], data: Data, subject: Subject, seed: int) -> dict[str, Any]:
    """Every edit under every topic."""
    concepts, found = concepts_of(data), topics(pairs)
    plain = conditioned(data, concepts, found, seed)
    raw: dict[str, Any] = {"subject": subject.value, "told_by": TOLD_BY, "pairs": len(pairs), "topics": {}}
    for topic in found:
        rows = inside(topic, seed)
        entry: dict[str, Any] = {"pairs": int(topic.about.sum()), "edited": len(rows), "edits": {}, "unedited": {}}
        for name in EDITS:
            edited = written(name, pairs, rows, subject, seed)
            entry["edits"][name] = judged(conditioned(data.replaced(rows, edited), concepts, found, seed), name, topic.name)
            entry["unedited"][name] = judged(plain, name, topic.name)
            print(topic.name, name, entry["edits"][name], file=sys.stderr, flush=True)
        raw["topics"][topic.name] = entry
    return raw


def metrics(raw: dict[str, Any]) -> list[Metric]:
    """How many are named, and how many would be anyway."""
    cases = {(topic, name): case for topic, entry in raw["topics"].items() for name, case in entry["edits"].items()}
    late = ", ".join(f"{name} where topic = {t}" for (t, name), case in cases.items() if not _high(case["place"]))
    anyway = [case["place"] is not None for entry in raw["topics"].values() for case in entry["unedited"].values()]
    goal = "every edit named under the right condition among the first ten cards"
    title = f"edits under a topic, of {len(cases)}, named there in the first ten"
    high = sum(_high(case["place"]) for case in cases.values())
    titled = sum(_high(case["place_title"]) for case in cases.values())
    return [
        at_least(title, high, "plantings", len(cases), goal, f"not: {late}" if late else ""),
        Metric(f"edits under a topic, of {len(cases)}, named there by a title in the first ten", titled, "plantings"),
        Metric("written nowhere: named all the same", sum(anyway), "plantings"),
    ]


def _high(place: int | None) -> bool:
    return place is not None and place <= FIRST


def main() -> None:
    """Read, write, audit, write the result."""
    args = arguments(str(__doc__), pairs="", subject="demo", limit=1_000_000, seed=0)
    subject, pairs = Subject(args.subject), read_pairs(args.pairs, args.limit)
    data = read_data(pairs, subject, lambda text: print(text, file=sys.stderr, flush=True))
    began = time.perf_counter()
    raw = experiment(pairs, data, subject, args.seed)
    raw["seconds"] = time.perf_counter() - began
    write_result(f"readability-conditional{subject.suffix}", metrics(raw), seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
