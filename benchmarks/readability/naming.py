"""Naming: is an edit that was written into some chosen responses among the first ten things that the audit tells?

    python -m benchmarks.readability.naming --pairs PAIRS.jsonl.gz [--subject none] [--repeats 5] [--limit 1512]

Sixteen edits are written into the chosen response of 5 and 10% of the pairs, over real labels: each competes with all that the
data teaches already. An edit is named where a card says that chosen responses have more of what `expected.py` lists, in its title
or among the four concepts that it lists along with it. Beside it: the same without any edit, because what the data teaches anyway
is named anyway; and the share of the pairs shown as evidence for that card's title that were edited.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from assay_server.audit.findings import AuditOptions, ViewKind
from assay_server.audit.shards import ConceptSet
from assay_server.subject.types import Pair

from benchmarks.common import arguments, read_pairs
from benchmarks.readability.data import Data, Subject, Written, concepts_of, read_data, run
from benchmarks.readability.edits import MARKS, NAMES
from benchmarks.readability.expected import EXPECTED
from benchmarks.readability.planting import RATES, drawn, pool, written
from benchmarks.readability.told import FIRST, TOLD_BY, Card, cards_of, named_at
from experiments.results import Metric, at_least, write_result

BARS = {0.05: 14, 0.10: 16}
EVIDENCE = 0.05  # the rate that evidence is judged at
MARKS_BAR, PHRASES_BAR = 0.8, 0.5
SOONER = 3


def audited(data: Data, concepts: ConceptSet, seed: int) -> list[Card]:
    """The cards of an audit with the method's defaults, length controlled; the family-wise correction orders nothing.

    Of all views, or of the global one where there is no SAE concept to form conditions from.
    """
    views = tuple(AuditOptions().views) if len(concepts.names) else (ViewKind.GLOBAL,)
    options = AuditOptions(views=views, max_t_flips=0, seed=seed)
    return cards_of(run(data, concepts, options), options)


def judged(cards: Sequence[Card], name: str, rows: np.ndarray | None = None) -> dict[str, Any]:
    """Where the edit is named, by what, and how much of the evidence is of edited pairs."""
    expected = EXPECTED[name]
    at = named_at(cards, expected)
    card = None if at is None else cards[at - 1]
    evidence = None
    if card is not None and rows is not None and len(card.supporting):
        evidence = float(np.isin(card.supporting, rows).mean())
    return {
        "place": at,
        "place_title": named_at(cards, expected, shown=1),
        "place_any": named_at(cards, expected, shown=sys.maxsize),
        "cards": len(cards),
        "title": "" if card is None else card.lead,
        "names": 0 if card is None else len(card.names),
        "stability": 0.0 if card is None else card.stability,
        "evidence": evidence,
    }


def experiment(
    data: Data, concepts: ConceptSet, name: str, edited: Written, *, repeats: int, seed: int, rates: Sequence[float] = RATES
) -> dict[str, Any]:
    """One edit at every rate, `repeats` times over other pairs."""
    trials: dict[str, Any] = {}
    for rate in rates:
        trials[str(rate)] = []
        for repeat in range(repeats):
            rows = drawn(edited.rows, len(data), rate, repeat, seed)
            trials[str(rate)].append(judged(audited(data.replaced(rows, edited), concepts, seed), name, rows))
    return trials


def median_place(trials: Sequence[dict[str, Any]], key: str = "place") -> float:
    """Of the draws; infinite where most do not name it."""
    return float(np.median([np.inf if trial[key] is None else trial[key] for trial in trials]))


def evidence(trials: Sequence[dict[str, Any]]) -> float:
    """Mean share of edited pairs among those shown; a draw that does not name the edit shows none of it."""
    return float(np.mean([trial["evidence"] or 0.0 for trial in trials]))


def metrics(raw: dict[str, Any]) -> list[Metric]:
    """The bars, and every median."""
    edits: dict[str, Any] = raw["edits"]
    found: list[Metric] = []
    for rate, bar in BARS.items():
        places = {name: median_place(entry[str(rate)]) for name, entry in edits.items()}
        late = ", ".join(name for name, place in places.items() if place > FIRST)
        goal = f"at least {bar} of {len(edits)} edits named among the first ten cards, median over the draws"
        title = f"written into {rate:.0%}: edits of {len(edits)} named in the first ten"
        high = sum(place <= FIRST for place in places.values())
        found.append(at_least(title, high, "edits", bar, goal, f"not: {late}" if late else ""))
        sooner = sum(place <= SOONER for place in places.values())
        titled = sum(median_place(entry[str(rate)], "place_title") <= FIRST for entry in edits.values())
        found.append(Metric(f"written into {rate:.0%}: edits of {len(edits)} named in the first {SOONER}", sooner, "edits"))
        found.append(Metric(f"written into {rate:.0%}: edits of {len(edits)} named by a title in the first ten", titled, "edits"))
    before = [name for name, entry in raw["unedited"].items() if entry["place"] is not None]
    found.append(Metric("written nowhere: named all the same", len(before), "edits", notes=", ".join(before)))
    for kind, bar in (("marks", MARKS_BAR), ("phrases", PHRASES_BAR)):
        some = {name: evidence(entry[str(EVIDENCE)]) for name, entry in edits.items() if (name in MARKS) == (kind == "marks")}
        low = ", ".join(f"{name} {share:.2f}" for name, share in some.items() if share < bar)
        title = f"written into {EVIDENCE:.0%}, {kind}: share of the shown pairs that were edited"
        goal = f"at least {bar} of the pairs shown for the card that names it were edited, mean of the {kind}"
        found.append(at_least(title, float(np.mean(list(some.values()))), "share", bar, goal, f"under it: {low}" if low else ""))
    return found


def edit_everything(pairs: Sequence[Pair], data: Data, subject: Subject, *, repeats: int, seed: int) -> dict[str, Any]:
    """Every edit, and no edit."""
    concepts, rows = concepts_of(data), pool(len(pairs), subject, seed)
    plain = audited(data, concepts, seed)
    raw: dict[str, Any] = {
        "subject": subject.value,
        "told_by": TOLD_BY,
        "pairs": len(pairs),
        "pool": len(rows),
        "repeats": repeats,
        "sae_concepts": len(concepts.names),
        "cards": len(plain),
        "unedited": {name: judged(plain, name) for name in NAMES},
        "edits": {},
    }
    for name in NAMES:
        edited = written(name, pairs, rows, subject, seed)
        entry = experiment(data, concepts, name, edited, repeats=repeats, seed=seed)
        raw["edits"][name] = entry
        print(name, {rate: [trial["place"] for trial in trials] for rate, trials in entry.items()}, file=sys.stderr, flush=True)
    return raw


def main() -> None:
    """Read, write, audit, write the result."""
    args = arguments(str(__doc__), pairs="", subject="demo", repeats=5, limit=1_000_000, seed=0)
    subject, pairs = Subject(args.subject), read_pairs(args.pairs, args.limit)
    data = read_data(pairs, subject, lambda text: print(text, file=sys.stderr, flush=True))
    began = time.perf_counter()
    raw = edit_everything(pairs, data, subject, repeats=args.repeats, seed=args.seed)
    raw["seconds"] = time.perf_counter() - began
    write_result(f"readability-naming{subject.suffix}", metrics(raw), seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
