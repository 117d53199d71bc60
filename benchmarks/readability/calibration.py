"""Calibration of the families that are read from texts: what is reported where there is nothing to find?

    python -m benchmarks.readability.calibration --pairs PAIRS.jsonl.gz [--subject none] [--swaps 200] [--limit 1512]

On real pairs a fair coin a prompt decides which response is called chosen, so that every null is true. A run of a family is false
if any of its tests has q ≤ 0.05: descriptors, words and SAE features everywhere, in clusters of pairs and of prompts, and under
the values of a metadata key. Each family is corrected by itself, so each may be false in 5% of runs; the page of all of them is
held to the same by `audit.families.page_levels`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from assay_server.audit.findings import AuditOptions, TestTable, ViewKind
from assay_server.audit.shards import ConceptSet
from scipy import stats

from benchmarks.common import arguments, read_pairs
from benchmarks.readability.conditional import metadata
from benchmarks.readability.data import Data, Subject, concepts_of, read_data, run
from benchmarks.readability.planting import Topic, topics
from benchmarks.readability.told import TOLD_BY, cards_of
from experiments.results import Metric, at_most, write_result

LEVEL = 0.05
EFFECTS = ("raw", "controlled")
_WHERE = {
    ViewKind.GLOBAL: "everywhere",
    ViewKind.FEATURE_CONDITIONED: "in data clusters",
    ViewKind.PROMPT_CONDITIONED: "in prompt clusters",
}


def one_run(data: Data, concepts: ConceptSet, found: Sequence[Topic], seed: int, run_number: int) -> dict[str, Any]:
    """Findings of each family and cards of lessons, of one relabelled dataset."""
    coins = np.random.default_rng([seed, 31, run_number]).random(int(data.features.prompts.max()) + 1) < 0.5
    swapped = data.swapped(coins[data.features.prompts])
    given, groups = metadata(found)
    views = (ViewKind.GLOBAL, ViewKind.FEATURE_CONDITIONED, ViewKind.PROMPT_CONDITIONED)
    options = AuditOptions(views=views, max_t_flips=0, evidence=0, seed=seed)
    tables = run(swapped, concepts, options, given=given, groups=groups)
    families = {key: value for table in tables.values() for key, value in _by_family(table).items()}
    return {"families": families, "cards": len(cards_of(tables, options))}


def _by_family(table: TestTable) -> dict[str, dict[str, int]]:
    counted: dict[str, dict[str, int]] = {}
    for one in table.families:
        where = "under metadata" if one.given else _WHERE[table.view]
        findings = {"raw": one.findings_raw, "controlled": one.findings_controlled}
        counted[f"{one.family.title}, {where}"] = {"tests": one.tests, **findings}
    return counted


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares of runs, with exact binomial 95% intervals."""
    names = list(dict.fromkeys(name for one in runs for name in one["families"]))
    families: dict[str, Any] = {}
    for name in names:
        # A family without a test in a run found nothing in it.
        entries = [one["families"].get(name, {"tests": 0, "raw": 0, "controlled": 0}) for one in runs]
        families[name] = {"tests": float(np.mean([entry["tests"] for entry in entries]))}
        for effect in EFFECTS:
            counts = [entry[effect] for entry in entries]
            families[name][effect] = {**_share(counts), "findings": float(np.mean(counts))}
    cards = [one["cards"] for one in runs]
    return {"runs": len(runs), "families": families, "any_card": _share(cards), "cards": float(np.mean(cards))}


def _share(counts: Sequence[int]) -> dict[str, Any]:
    false = int(np.count_nonzero(counts))
    low, high = (float(bound) for bound in stats.binomtest(false, len(counts), LEVEL).proportion_ci(0.95, "exact"))
    return {"false_runs": false, "false_share": false / len(counts), "interval": [low, high]}


def bound(runs: int) -> float:
    """The largest share of runs that agrees with 5%: the 97.5th percentile of the binomial."""
    return float(stats.binom.ppf(0.975, runs, LEVEL)) / runs


def metrics(raw: dict[str, Any]) -> list[Metric]:
    """A bar a family and effect; the page's share is reported."""
    runs, families = raw["runs"], raw["families"]
    goal = f"at most {bound(runs):.3f} of {runs} runs: what agrees with 5%"
    found: list[Metric] = []
    for name, entry in families.items():
        for effect in EFFECTS:
            shown = entry[effect]
            interval = "95% interval {:.3f} to {:.3f}".format(*shown["interval"])
            title = f"{name}, {effect}: runs with a finding"
            found.append(at_most(title, shown["false_share"], "share", bound(runs), goal, interval))
    page = raw["any_card"]
    interval = "95% interval {:.3f} to {:.3f}; several families share the page".format(*page["interval"])
    found.append(at_most("whole page: runs with any card", page["false_share"], "share", bound(runs), goal, interval))
    return found


def main() -> None:
    """Read, relabel, audit, write the result."""
    args = arguments(str(__doc__), pairs="", subject="demo", swaps=200, limit=1_000_000, seed=0)
    subject, pairs = Subject(args.subject), read_pairs(args.pairs, args.limit)
    data = read_data(pairs, subject, lambda text: print(text, file=sys.stderr, flush=True))
    began = time.perf_counter()
    concepts, found = concepts_of(data), topics(pairs)
    runs: list[dict[str, Any]] = []
    for number in range(args.swaps):
        runs.append(one_run(data, concepts, found, args.seed, number))
        if not (number + 1) % 10:
            page = summary(runs)["any_card"]["false_share"]
            print(f"{number + 1} of {args.swaps}: any card {page:.3f}", file=sys.stderr, flush=True)
    raw = {
        "subject": subject.value,
        "told_by": TOLD_BY,
        "pairs": len(pairs),
        "sae_concepts": len(concepts.names),
        **summary(runs),
    }
    raw["seconds"] = time.perf_counter() - began
    write_result(f"readability-calibration{subject.suffix}", metrics(raw), seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
