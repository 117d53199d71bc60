"""Agreement: the audit's figures against a slow computation that shares no code with it (`reference.py`).

    python -m benchmarks.validity.agreement --pairs PAIRS.jsonl.gz [--limit 240] [--conditioned 600] [--features 60]

The audit runs in shards of 64 pairs over features and clusters; the reference sees dense arrays, one concept after the other.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from assay_server.audit.findings import AuditOptions, TestTable, ViewKind
from assay_server.audit.matrices import Csr, Ints
from assay_server.audit.maxt import prompt_signs
from assay_server.audit.prompt_view import FEW, fitting_half
from assay_server.audit.reason import Reason
from assay_server.audit.run import run_views
from assay_server.audit.shards import ConceptSet
from assay_server.audit.signflip import EXACT_WORK

from benchmarks.common import arguments, read_pairs
from benchmarks.validity import reference
from benchmarks.validity.concepts import best, response_clusters
from benchmarks.validity.data import Features, Shards, read
from experiments.results import Metric, at_most, write_result

TOLERANCE = 1e-9
FLIPS = 64
APPROXIMATION = "raw sign-flip p, where counting costs too much"


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
    options = AuditOptions(views=(ViewKind.GLOBAL,), keep=10**9, evidence=0, max_t_flips=FLIPS, local=False)
    table = run_views(Shards(features, size=shard), concepts, options)[ViewKind.GLOBAL]
    columns = [concepts.members[:, [m]].nonzero()[0].tolist() for m in range(len(concepts.names))]
    dense = [side.freq.toarray() for side in (features.chosen, features.rejected)]
    u = reference.disparity(*dense, columns, options.tau)
    return {**_raw(table, u, features.prompts, [len(c) for c in columns], options), **_controlled(table, u, features, options)}


def _raw(table: TestTable, u: Any, prompts: Ints, sizes: list[int], options: AuditOptions) -> dict[str, float]:
    shown, keep = table.raw, np.flatnonzero(table.raw.reason == Reason.NONE)
    concept = table.concept[keep]
    bounds = np.array([reference.mean_interval(u[:, m], prompts, options.interval_level) for m in concept])
    counted = np.array([reference.sign_flip_p(u[:, m], prompts, sizes[m]) for m in concept])
    cheap = np.array([reference.sign_flip_additions(u[:, m], prompts, sizes[m]) <= EXACT_WORK for m in concept])
    p = shown.p[keep]
    sums = np.stack([reference.by_prompt(u[:, m], prompts) for m in concept], axis=1)
    signs = prompt_signs(np.unique(prompts), 0, options.seed)
    assert shown.p_max_t is not None
    return {
        "raw mean": gap(shown.estimate[keep], bounds[:, 0]),
        "raw interval, low": gap(shown.low[keep], bounds[:, 1]),
        "raw interval, high": gap(shown.high[keep], bounds[:, 2]),
        "raw sign-flip p, where counted": gap(p[cheap], counted[cheap]),
        APPROXIMATION: gap(p[~cheap], counted[~cheap]),
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


def conditioned_differences(
    features: Features, concepts: ConceptSet, view: ViewKind, *, shard: int = 64, rows: int = 40, **knobs: Any
) -> dict[str, float]:
    """The largest absolute difference of each statistic of a conditioned view, over `rows` of its tests spread evenly.

    Which pairs are inside comes from the table; what their values are, and everything after, is computed anew.
    """
    options = AuditOptions(views=(view,), keep=10**9, evidence=0, max_t_flips=0, local=False, **knobs)
    table = run_views(Shards(features, size=shard), concepts, options)[view]
    values, compared = _response_values(table, features, options) if view is ViewKind.PROMPT_CONDITIONED else _u(table, features)
    if view is ViewKind.FEATURE_CONDITIONED:
        compared[np.concatenate(table.members)] = True
    gamma = reference.nuisance(features.length[:, None])[0]
    left = np.array([2 / (1 + np.exp(gamma * x)) for x in features.length])
    picked = np.unique(np.linspace(0, len(table.concept) - 1, min(rows, len(table.concept))).astype(int))
    found: dict[str, list[float]] = {}
    for row in picked:
        inside = np.zeros(len(features), np.bool_)
        inside[table.members[int(table.condition[row])]] = True
        column = values[:, int(table.concept[row])]
        for name, shown, weight in (("raw", table.raw, 1.0), ("controlled", table.controlled, left)):
            assert shown is not None
            theirs = reference.contrast(column * weight, inside, compared & ~inside, features.prompts)
            for key in ("estimate", "z", "p"):
                found.setdefault(f"{name} {key}", []).append(abs(float(getattr(shown, key)[row]) - theirs[key]))
            if name == "raw":
                found.setdefault("raw Cohen d", []).append(abs(float(table.cohen_d[row]) - theirs["d"]))
    worst = {name: float(max(gaps)) for name, gaps in found.items()}
    for name, shown in (("raw", table.raw), ("controlled", table.controlled)):
        assert shown is not None
        worst[f"{name} q (BH)"] = gap(shown.q, reference.q_values(shown.p, "fdr_bh"))
        worst[f"{name} q (BY)"] = gap(shown.q_by, reference.q_values(shown.p, "fdr_by"))
    return worst


def _u(table: TestTable, features: Features) -> tuple[Any, Any]:
    """u of the concepts that the table names, [pairs, concepts], and no pair compared yet."""
    dense = [side.freq.toarray() for side in (features.chosen, features.rejected)]
    columns = [list(concept.features) for concept in table.concepts]
    return reference.disparity(*dense, columns, AuditOptions().tau), np.zeros(len(features), np.bool_)


def _response_values(table: TestTable, features: Features, options: AuditOptions) -> tuple[Any, Any]:
    """Means over each response cluster of D / sigma, sigma over the half that clusters were fitted on; and the other half.

    Of features that are tested singly: D / sigma over all pairs, and all of them.
    """
    singly = not options.response_clusters and len(features) < FEW
    fitting = np.ones(len(features), np.bool_) if singly else fitting_half(features.prompts, options.seed)
    delta = features.chosen.peak.toarray().astype(np.float64) - features.rejected.peak.toarray().astype(np.float64)
    groups = [list(concept.features) for concept in table.concepts]
    values = [np.mean([delta[:, g] / delta[fitting, g].std() for g in group], axis=0) for group in groups]
    return np.stack(values, axis=1), fitting if singly else ~fitting


def gap(ours: Any, theirs: Any) -> float:
    """The largest absolute difference."""
    return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max(initial=0.0))


def main() -> None:
    """Read, compute twice, write the result."""
    args = arguments(__doc__, pairs="", limit=240, conditioned=600, features=60, seed=0)
    whole = read(read_pairs(args.pairs, 1_000_000))  # the reading that the other experiments made already
    features, more = (whole.take(np.arange(min(n, len(whole)))) for n in (args.limit, args.conditioned))
    concepts, clustered = few_concepts(features, args.features), few_concepts(more, args.features)
    parts = {"global": global_differences(features, concepts)}
    for view in (ViewKind.FEATURE_CONDITIONED, ViewKind.PROMPT_CONDITIONED):
        parts[view.value.replace("_", "-")] = conditioned_differences(more, clustered, view)
    differences = {f"{view}, {name}": value for view, part in parts.items() for name, value in part.items()}
    goal = "the statistics equal a slow, independent reference (scipy, statsmodels, a loop) to 1e-9"
    found = [
        at_most(f"{name}: largest difference / 1e-9", value / TOLERANCE, "x", 1.0, goal)
        for name, value in differences.items()
        if not name.endswith(APPROXIMATION)
    ]
    off = differences[f"global, {APPROXIMATION}"]
    found.append(Metric(f"{APPROXIMATION}: largest difference", off, "p", notes="normal form or 9,999 Monte-Carlo flips"))
    count = [
        Metric("concepts compared", len(concepts.names), "concepts"),
        Metric("pairs, global view", len(features), "pairs"),
        Metric("pairs, conditioned views", len(more), "pairs"),
    ]
    write_result("validity-agreement", found + count, seed=args.seed, raw=differences)


if __name__ == "__main__":
    sys.exit(main())
