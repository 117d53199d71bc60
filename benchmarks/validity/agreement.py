"""Agreement: the audit's figures against a slow computation that shares no code with it (`reference.py`).

    python -m benchmarks.validity.agreement --pairs PAIRS.jsonl.gz [--limit 240] [--features 60]

The audit runs in shards of 64 pairs over features and clusters; the reference sees dense arrays, one concept after the other.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from assay_server.audit.findings import AuditOptions, TestTable, ViewKind
from assay_server.audit.matrices import Csr, Ints
from assay_server.audit.maxt import prompt_signs
from assay_server.audit.reason import Reason
from assay_server.audit.run import run_views
from assay_server.audit.shards import ConceptSet

from benchmarks.common import Metric, arguments, at_most, read_pairs, write_result
from benchmarks.validity import reference
from benchmarks.validity.concepts import best, response_clusters
from benchmarks.validity.data import Features, Shards, read

TOLERANCE = 1e-9
FLIPS = 64


def few_concepts(features: Features, count: int) -> ConceptSet:
    """The `count` features that differ between the responses most often, and every cluster."""
    differ = np.asarray((features.chosen.freq.astype(bool) != features.rejected.freq.astype(bool)).sum(axis=0)).ravel()
    clusters = response_clusters(features)
    groups = [[int(feature)] for feature in np.sort(best(differ.astype(float), count))]
    groups += [clusters.members(index).tolist() for index in range(len(clusters))]
    rows = np.concatenate([np.asarray(group) for group in groups])
    columns = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    members = Csr((np.ones(len(rows), np.int64), (rows, columns)), shape=(features.d_sae, len(groups)))
    return ConceptSet(tuple(f"concept/{index}" for index in range(len(groups))), members)


def global_differences(features: Features, concepts: ConceptSet, *, shard: int = 64) -> dict[str, float]:
    """The largest absolute difference of each statistic of the global view, over all concepts that it tested."""
    options = AuditOptions(views=(ViewKind.GLOBAL,), keep=10**9, evidence=0, max_t_flips=FLIPS)
    table = run_views(Shards(features, size=shard), concepts, options)[ViewKind.GLOBAL]
    columns = [concepts.members[:, [m]].nonzero()[0].tolist() for m in range(len(concepts.names))]
    dense = [side.freq.toarray() for side in (features.chosen, features.rejected)]
    u = reference.disparity(*dense, columns, options.tau)
    return {**_raw(table, u, features.prompts, [len(c) for c in columns], options), **_controlled(table, u, features, options)}


def _raw(table: TestTable, u: Any, prompts: Ints, sizes: list[int], options: AuditOptions) -> dict[str, float]:
    shown, keep = table.raw, np.flatnonzero(table.raw.reason == Reason.NONE)
    concept = table.concept[keep]
    bounds = np.array([reference.mean_interval(u[:, m], prompts, options.interval_level) for m in concept])
    p = np.array([reference.sign_flip_p(u[:, m], prompts, sizes[m]) for m in concept])
    sums = np.stack([reference.by_prompt(u[:, m], prompts) for m in concept], axis=1)
    signs = prompt_signs(np.unique(prompts), 0, options.seed)
    assert shown.p_max_t is not None
    return {
        "raw mean": gap(shown.estimate[keep], bounds[:, 0]),
        "raw interval, low": gap(shown.low[keep], bounds[:, 1]),
        "raw interval, high": gap(shown.high[keep], bounds[:, 2]),
        "raw sign-flip p": gap(shown.p[keep], p),
        "raw q (BH)": gap(shown.q[keep], reference.q_values(p, "fdr_bh")),
        "raw q (BY)": gap(shown.q_by[keep], reference.q_values(p, "fdr_by")),
        "raw max-T p": gap(shown.p_max_t[keep], reference.max_t(sums, signs)),
    }


def _controlled(table: TestTable, u: Any, features: Features, options: AuditOptions) -> dict[str, float]:
    shown = table.controlled
    assert shown is not None
    keep = np.flatnonzero(shown.reason == Reason.NONE)
    x = features.length[:, None]
    gamma = reference.nuisance(x)
    tests = np.array([reference.score_test(u[:, m], x, gamma, features.prompts) for m in table.concept[keep]])
    return {
        "controlled z": gap(shown.z[keep], tests[:, 0]),
        "controlled p": gap(shown.p[keep], tests[:, 1]),
        "controlled mean": gap(shown.estimate[keep], tests[:, 2]),
        "controlled q (BH)": gap(shown.q[keep], reference.q_values(tests[:, 1], "fdr_bh")),
        "controlled q (BY)": gap(shown.q_by[keep], reference.q_values(tests[:, 1], "fdr_by")),
    }


def gap(ours: Any, theirs: Any) -> float:
    """The largest absolute difference."""
    return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max(initial=0.0))


def main() -> None:
    """Read, compute twice, write the result."""
    args = arguments(__doc__, pairs="", limit=240, features=60, seed=0)
    features = read(read_pairs(args.pairs, args.limit))
    concepts = few_concepts(features, args.features)
    differences = {f"global, {name}": value for name, value in global_differences(features, concepts).items()}
    goal = "the statistics equal a slow, independent reference (scipy, statsmodels, a loop) to 1e-9"
    found = [
        at_most(f"{name}: largest difference / 1e-9", value / TOLERANCE, "x", 1.0, goal) for name, value in differences.items()
    ]
    count = [Metric("concepts compared", len(concepts.names), "concepts"), Metric("pairs", len(features), "pairs")]
    write_result("validity-agreement", found + count, seed=args.seed, raw=differences)


if __name__ == "__main__":
    sys.exit(main())
