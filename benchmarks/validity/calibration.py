"""Calibration: what does an audit report where there is nothing to find?

    python -m benchmarks.validity.calibration --pairs PAIRS.jsonl.gz [--swaps 200] [--limit 1512]

Every null is true in two ways. *Swapped*: on real pairs a fair coin a prompt decides which response is called chosen. *Length*:
P(chosen) = σ(γ Δ log tokens), with γ as fitted to the real labels (global view) and with one three times as strong (all views).
A concept is then preferred for the length that it goes with and for nothing else, so a test without control for length must fail.

Uniformity is tested on one p-value a run, of a test drawn at random, so that the values are independent. Sign-flip totals are
whole numbers, and their p-values come in steps: the Kolmogorov-Smirnov test gets p − U·P(|T| = |t|), U uniform, which is exactly
uniform under the null. The score test's S moves in steps of about 1/t_m: there U is added within a step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from assay_server.audit.disparity import disparity, firing_difference
from assay_server.audit.findings import Effects, TestTable, ViewKind
from assay_server.audit.matrices import Bools, Ints
from assay_server.audit.moments import moments
from assay_server.audit.nuisance import fit_nuisance
from assay_server.audit.reason import Reason
from assay_server.audit.shards import ConceptSet
from assay_server.audit.signflip import exact_p
from scipy import special, stats

from benchmarks.common import arguments, read_pairs
from benchmarks.validity.audits import audit
from benchmarks.validity.concepts import concept_set, response_clusters
from benchmarks.validity.data import Features, read
from experiments.results import Metric, write_result

LEVEL = 0.05
SHARES = np.unique(np.concatenate([10.0 ** np.arange(-5, -0.99, 0.25), np.arange(0.1, 1.01, 0.05)])).round(9)
TELLING = 50  # prompts that a global test needs for its p-value to enter the uniformity check
STRONG = 3.0
Relabel = Callable[[np.random.Generator], Bools]


@dataclass
class Tally:
    """What one kind of effect of one view showed, run by run."""

    findings: list[int] = field(default_factory=list)
    smallest_q: list[float] = field(default_factory=list)
    tests: list[int] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)  # one p-value a run
    under: list[int] = field(default_factory=lambda: [0] * len(SHARES))  # p-values at most each of SHARES, all runs

    def add(self, shown: Effects, tested: Bools, drawn: float | None) -> None:
        """Count one run."""
        p = shown.p[tested]
        self.findings.append(int((shown.q[tested] <= LEVEL).sum()))
        self.smallest_q.append(float(shown.q[tested].min(initial=1.0)))
        self.tests.append(len(p))
        if drawn is not None:
            self.drawn.append(drawn)
        self.under = [
            int(n) + int(more) for n, more in zip(self.under, np.searchsorted(np.sort(p), SHARES, "right"), strict=True)
        ]

    def summary(self) -> dict[str, Any]:
        """Figures of all runs."""
        runs, false = len(self.findings), int(np.count_nonzero(self.findings))
        low, high = (float(b) for b in stats.binomtest(false, runs, LEVEL).proportion_ci(0.95, "exact"))
        ks = stats.kstest(self.drawn, "uniform") if self.drawn else None
        total = max(sum(self.tests), 1)
        return {
            "runs": runs,
            "false_runs": false,
            "false_share": false / runs,
            "interval": [low, high],
            "mean_findings": float(np.mean(self.findings)),
            "tests": float(np.mean(self.tests)),
            "under_0.05": self.under[int(np.searchsorted(SHARES, LEVEL - 1e-12))] / total,
            "at_most": [count / total for count in self.under],
            "ks": None if ks is None else {"d": float(ks.statistic), "p": float(ks.pvalue), "n": len(self.drawn)},
        }


class Uniformity:
    """Draws one p-value of a table, made continuous where the test's statistic moves in steps."""

    def __init__(self, features: Features, concepts: ConceptSet, seed: int) -> None:
        u = disparity(firing_difference(features.chosen.freq, features.rejected.freq), concepts.members)
        self._magnitudes = moments(u, features.prompts).closed().magnitudes  # no swap of whole prompts changes these
        self._draws = np.random.default_rng([seed, 99])

    def draw(self, table: TestTable, shown: Effects, tested: Bools) -> float | None:
        """A p-value of a test chosen at random (of a global one, where enough prompts tell); None where there is none."""
        telling = np.flatnonzero(tested & ((table.prompts >= TELLING) | (table.view is not ViewKind.GLOBAL)))
        if not len(telling):
            return None
        row = int(self._draws.choice(telling))
        if table.view is not ViewKind.GLOBAL or table.concepts[int(table.concept[row])].size != 1:
            return float(shown.p[row])
        return self._exact(table, row) if shown is table.raw else self._score(table, row)

    def _exact(self, table: TestTable, row: int) -> float:
        """p − U·P(|T| = |t|) of the sign-flip test: uniform under the null, to the last digit."""
        concept = int(table.concept[row])
        span = slice(*self._magnitudes.indptr[concept : concept + 2])
        values, counts = self._magnitudes.indices[span].astype(np.int64), self._magnitudes.data[span]
        total = abs(round(float(table.raw.estimate[row]) * int(table.inside[row])))
        p, beyond = (exact_p(values, counts, t) if t <= values @ counts else 0.0 for t in (total, total + 2))
        return p - float(self._draws.random()) * (p - beyond)

    def _score(self, table: TestTable, row: int) -> float:
        """The score test with U added to S within its step of ½·2."""
        shown = table.controlled
        assert shown is not None
        noise = (shown.high[row] - shown.low[row]) / 2 / special.ndtri((1 + 0.95) / 2) * table.inside[row] / 2
        z = shown.z[row] + (float(self._draws.random()) - 0.5) / noise
        return float(2 * special.ndtr(-abs(z)))


def run(
    features: Features,
    concepts: ConceptSet,
    relabel: Relabel,
    *,
    swaps: int,
    seed: int,
    views: tuple[ViewKind, ...] = (),
    **knobs: Any,
) -> dict[str, dict[str, Tally]]:
    """Audit `swaps` relabelled datasets: by view and effect ("raw", "controlled"), what was found.

    Args:
        relabel: from a generator, which pairs to exchange; whole prompts at a time where pairs share one.
        views: all where none is named.
        knobs: options of the audit beside the method's defaults.
    """
    tallies: dict[str, dict[str, Tally]] = {}
    draw = Uniformity(features, concepts, seed)
    for number in range(swaps):
        began = time.perf_counter()
        tables = audit(features.swapped(relabel(np.random.default_rng([seed, number]))), concepts, *views, **knobs)
        for view, table in tables.items():
            for name, shown in (("raw", table.raw), ("controlled", table.controlled)):
                if shown is not None:
                    tested = counted(table, shown)
                    tally = tallies.setdefault(view.value, {}).setdefault(name, Tally())
                    tally.add(shown, tested, draw.draw(table, shown, tested))
        if number % 20 == 0:
            print(f"run {number + 1}/{swaps}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    return tallies


def counted(table: TestTable, shown: Effects) -> Bools:
    """What multiplicity was corrected over."""
    return shown.reason == Reason.NONE


def coins(prompts: Ints) -> Relabel:
    """A fair coin a prompt."""
    return lambda draws: draws.random(int(prompts.max()) + 1)[prompts] < 0.5


def by_length(features: Features, strength: float) -> Relabel:
    """Exchange a pair with probability 1 − σ(strength · Δ log length)."""
    keep = special.expit(strength * features.length)
    return lambda draws: draws.random(len(keep)) >= keep


def bound(runs: int) -> float:
    """The largest share of false runs that lies inside the 95% binomial interval of 0.05 or below it."""
    return float(stats.binom.ppf(0.975, runs, LEVEL)) / runs


def experiment(
    features: Features, concepts: ConceptSet, *, swaps: int, seed: int, views: tuple[ViewKind, ...] = (), **knobs: Any
) -> tuple[list[Metric], dict[str, Any]]:
    """All three ways in which every null is true: bars, and the figures behind them."""
    gamma = float(fit_nuisance(features.length).gamma[0])
    ways = {
        "swapped": (coins(features.prompts), views),
        "length x3": (by_length(features, STRONG * gamma), views),
        "length": (by_length(features, gamma), (ViewKind.GLOBAL,)),
    }
    raw: dict[str, Any] = {"gamma": gamma, "shares": SHARES.tolist(), "pairs": len(features), "concepts": len(concepts.names)}
    for way, (relabel, chosen_views) in ways.items():
        tallies = run(features, concepts, relabel, swaps=swaps, seed=seed, views=chosen_views, **knobs)
        raw[way] = {view: {name: tally.summary() for name, tally in kinds.items()} for view, kinds in tallies.items()}
    return metrics(raw), raw


def metrics(raw: dict[str, Any]) -> list[Metric]:
    """The bars of the issue; raw effects under a length preference are shown beside them without one."""
    found: list[Metric] = []
    share_goal = "the share of runs with any finding at q <= 0.05 lies inside the 95% binomial interval of 0.05 or below it"
    length_goal = "preference generated from length alone: the length-controlled test stays calibrated"
    for way in ("swapped", "length", "length x3"):
        for view, kinds in raw[way].items():
            for name, summary in kinds.items():
                title = f"{way}, {view.replace('_', '-')}, {name}: runs with a finding"
                if way != "swapped" and name == "raw":
                    found.append(Metric(title, summary["false_share"], "share"))
                    continue
                goal = share_goal if way == "swapped" else length_goal
                holds = summary["false_share"] <= bound(summary["runs"])
                found.append(Metric(title, summary["false_share"], "share", goal, holds))
    return found + _uniform(raw)


def _uniform(raw: dict[str, Any]) -> list[Metric]:
    """Kolmogorov-Smirnov, one bar a view and effect; the level is Holm's over all of them."""
    named = [
        (f"{way}, {view.replace('_', '-')}, {name}: uniform p-values", summary["ks"]["p"], summary["under_0.05"])
        for way in ("swapped", "length", "length x3")
        for view, kinds in raw[way].items()
        for name, summary in kinds.items()
        if summary["ks"] and (way == "swapped" or name == "controlled")
    ]
    order = np.argsort([p for _, p, _ in named], kind="stable")
    rejected = np.logical_and.accumulate([named[i][1] <= LEVEL / (len(named) - rank) for rank, i in enumerate(order)])
    stands = {int(index): not bool(no) for index, no in zip(order, rejected, strict=True)}
    goal = f"p-values are uniform (Kolmogorov-Smirnov not rejected at 0.05, Holm over {len(named)})"
    return [
        Metric(title, p, "KS p", goal, stands[index], "" if stands[index] else _which_way(share))
        for index, (title, p, share) in enumerate(named)
    ]


def _which_way(share: float) -> str:
    """What departs from uniform, by the share of p-values of at most 0.05."""
    side = "cautious: less is called surprising than may be" if share < LEVEL else "rash: more is called surprising than may be"
    return f"{side}, {share:.3f} of p-values are at most 0.05"


def main() -> None:
    """Read, relabel, audit, write the result."""
    args = arguments(__doc__, pairs="", swaps=200, limit=1_000_000, seed=0)
    pairs = read_pairs(args.pairs, args.limit)
    features = read(pairs, say=lambda text: print(text, file=sys.stderr, flush=True))
    concepts = concept_set(features, response_clusters(features))
    began = time.perf_counter()
    found, raw = experiment(features, concepts, swaps=args.swaps, seed=args.seed)
    raw["seconds"] = time.perf_counter() - began
    write_result("validity-calibration", found, seed=args.seed, raw=raw)


if __name__ == "__main__":
    sys.exit(main())
