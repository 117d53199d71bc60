"""The text of docs/validity.md: what each experiment asks, how, and what its figures say. Sentences are made from figures."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.validity.agreement import APPROXIMATION
from benchmarks.validity.plots import VIEWS


def calibration(raw: dict[str, Any]) -> list[str]:
    """Nothing to find."""
    runs = raw["swapped"]["global"]["raw"]["runs"]
    high = stats.binom.ppf(0.975, runs, 0.05) / runs
    lines = [
        "## Calibration: what is reported where there is nothing to find",
        "",
        *prose(f"""
            {raw["pairs"]:,} pairs, {raw["concepts"]:,} concepts, {runs} relabelled datasets each. *Swapped*: a fair coin a prompt
            decides which response is called chosen. *Length*: a response is chosen with probability σ(γ Δ log tokens), with
            γ = {raw["gamma"]:.2f} as fitted to the real labels (global view), and three times that (all views). A run is false if
            any test has q ≤ 0.05. With {runs} runs, a share of up to {high:.3f} agrees with 0.05.
        """),
        "",
        "![Share of runs with a finding](plots/false-runs.svg)",
        "",
        "| preference | view | effect | tests a run | runs with a finding (95% interval) | findings a run | p ≤ 0.05 | KS p |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way in ("swapped", "length", "length x3"):
        for view, kinds in raw[way].items():
            for name, s in kinds.items():
                ks = "" if s["ks"] is None else f"{s['ks']['p']:.2g}"
                lines.append(
                    f"| {way} | {VIEWS[view]} | {name} | {s['tests']:,.0f} | {s['false_share']:.3f} ({s['interval'][0]:.3f} to "
                    f"{s['interval'][1]:.3f}) | {s['mean_findings']:,.2f} | {s['under_0.05']:.4f} | {ks} |"
                )
    lines += ["", *_calibration_says(raw, high), "", "![Share of p-values under each level](plots/uniformity.svg)", ""]
    return lines + prose("""
        Kolmogorov-Smirnov is given one p-value a run, of a test drawn at random (in the global view among those that at least 50
        prompts tell about), so that its values are independent. Sign flips move a whole-numbered
        total, so their p-values come in steps and lie under
        the diagonal between them (plot, raw, global); the test sees p − U·P(|T| = |t|), which is exactly uniform under the null.
        Tests that few prompts tell about are cautious, never rash, which is why the lines of the
        global view lie under the diagonal.
    """)


def _calibration_says(raw: dict[str, Any], high: float) -> list[str]:
    swapped = [(VIEWS[v], n, s) for v, kinds in raw["swapped"].items() for n, s in kinds.items()]
    over = [f"{view}, {name}" for view, name, s in swapped if s["false_share"] > high]
    strong = raw["length x3"]["global"]
    largest = max(s["false_share"] for _, _, s in swapped)
    said = (
        f"With labels swapped, no view reports more than it may (largest share {largest:.3f})."
        if not over
        else f"With labels swapped, too many runs report something in: {'; '.join(over)}."
    )
    return prose(f"""
        {said} Where length alone decides (x3), the raw global test reports {strong["raw"]["mean_findings"]:,.0f} findings a run,
        in {strong["raw"]["false_share"]:.0%} of runs; the length-controlled one reports any in
        {strong["controlled"]["false_share"]:.1%} of runs.
    """)


def power(raw: dict[str, Any]) -> list[str]:
    """Planted everywhere."""
    names = [name for name in raw if isinstance(raw[name], dict) and "right" in raw[name]]
    rates = list(raw[names[0]]["real"])
    repeats = len(raw[names[0]]["real"][rates[0]])
    lines = [
        "## Power: is a planted concept found?",
        "",
        *prose(f"""
            Each concept is written into the chosen response of some pairs, and only those responses are read again. *Right* was
            decided without the audit, on 100 other pairs and with other phrases: the five of all tested concepts (features and
            clusters) whose firing tells edited from original text best, by AUROC. *Rank* is the place of the first
            right one in the global view, median over {repeats} draws of pairs. *Real* labels compete with all that HH
            teaches; over *swapped*
            labels the planted concept is all there is to find, and precision is the share of the top ten that a sign test on the
            other pairs says the edit raises.
        """),
        "",
        "![Rank of the right concept](plots/power.svg)",
        "",
    ]
    for background in ("real", "swapped"):
        lines += [f"Over {background} labels, median rank (median q; recall of the five at q ≤ 0.05):", ""]
        lines += ["| concept | " + " | ".join(f"{float(rate):.1%}" for rate in rates) + " |", "| --- |" + " ---: |" * len(rates)]
        for name in names:
            cells = [_cell(raw[name][background][rate]) for rate in rates]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    lines += prose("""
        Everything that real labels teach raises many concepts at once, and all of them rank above a rare one. The audit therefore
        tells distinct lessons apart (docs/statistics.md). Over real labels, median place of the first lesson that a right finding
        belongs to, of the median number of lessons (— where none of the right ones is a finding of a single lesson):
    """)
    lines += ["", "| concept | " + " | ".join(f"{float(rate):.1%}" for rate in rates) + " |", "| --- |" + " ---: |" * len(rates)]
    for name in names:
        lines.append(f"| {name} | {' | '.join(_place(raw[name]['real'][rate]) for rate in rates)} |")
    lines += ["", "Precision of the top ten over swapped labels:", ""]
    lines += ["| concept | " + " | ".join(f"{float(rate):.1%}" for rate in rates) + " |", "| --- |" + " ---: |" * len(rates)]
    for name in names:
        cells = [f"{np.mean([t['precision'] for t in raw[name]['swapped'][rate]]):.2f}" for rate in rates]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "What tells each concept (AUROC of the best feature or cluster on the other pairs, other phrases):", ""]
    lines += ["| concept | best | AUROC | concepts that the edit raises |", "| --- | --- | ---: | ---: |"]
    for name in names:
        best = raw[name]["right"][0]
        lines.append(f"| {name} | {best['concept']} | {best['auroc']:.3f} | {raw[name]['raised']} |")
    return [*lines, "", *_power_says(raw, names)]


def _power_says(raw: dict[str, Any], names: list[str]) -> list[str]:
    lines = []
    for background in ("real", "swapped"):
        ranks = {name: np.median([t["rank"] for t in raw[name][background]["0.05"]]) for name in names}
        late = [f"{name} (rank {rank:,.0f})" for name, rank in ranks.items() if rank > 10]
        said = f"all {len(names)} rank in the top ten" if not late else f"outside the top ten: {', '.join(late)}"
        lines.append(f"Planted in 5% of pairs over {background} labels: {said}.")
    return lines


def _place(trials: list[dict[str, Any]]) -> str:
    if "lesson" not in trials[0]:  # measured before lessons were told apart
        return ""
    place, lessons = (float(np.median([trial[key] for trial in trials])) for key in ("lesson", "lessons"))
    return "—" if place > lessons else f"{place:.0f} of {lessons:.0f}"


def _cell(trials: list[dict[str, Any]]) -> str:
    rank, q = (float(np.median([trial[key] for trial in trials])) for key in ("rank", "q"))
    return f"{rank:,.0f} ({q:.1g}; {np.mean([t['recall'] for t in trials]):.0%})"


def conditional(raw: dict[str, Any]) -> list[str]:
    """Planted on a topic."""
    topics = {name: entry for name, entry in raw.items() if isinstance(entry, dict)}
    lines = [
        "## Conditional power: are both sides named?",
        "",
        *prose("""
            Planted only where the prompt holds a word of one topic. A hypothesis names both sides when its prompt cluster
            holds one of the five prompt features that tell the topic best, its response cluster one of the five features
            that tell the edit
            best, and it says *more, inside*. *Luck* is the share of all tests of the view that hold both kinds of features.
        """),
        "",
        "| topic | pairs | AUROC of its best prompt feature | planted | labels | rank | q | a finding | luck |",
        "| --- | ---: | ---: | --- | --- | ---: | ---: | --- | ---: |",
    ]
    for topic, entry in topics.items():
        for name in (key for key, value in entry.items() if isinstance(value, dict)):
            for background in ("real", "swapped"):
                case = entry[name][background]
                rank = "—" if case["rank"] is None else f"{case['rank']:,} of {case['tests']:,}"
                found = "yes" if case["finding"] else "**no**"
                figures = f"{case['q']:.2g} | {found} | {case['luck']:.3f}"
                about = f"{topic} | {entry['pairs']} | {entry['aurocs'][0]:.2f}"
                lines.append(f"| {about} | {name} | {background} | {rank} | {figures} |")
    return lines


def explained(raw: dict[str, Any]) -> list[str]:
    """Share of the signal."""
    lines = [
        "## How much of the preference is explained",
        "",
        *prose(f"""
            Held-out AUC of the real labels, {raw["folds"]} folds by prompt, {raw["repeats"]} times over, {raw["pairs"]:,} pairs;
            every contender is an L2 logistic model without intercept on the same folds. Penalties, and which of its
            representations a contender uses (raw, standardised, square root), are chosen inside the training folds; so are
            the audit's findings,
            and the small SAEs are trained there. Share explained = (AUC − ½) / (AUC of the dense residual − ½).
        """),
        "",
        "![Held-out AUC](plots/explained.svg)",
        "",
        "| description | numbers a pair | AUC (95% over prompts) | share explained (95% over prompts) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, entry in raw.items():
        if isinstance(entry, dict) and "auc" in entry:
            lines.append(
                f"| {name} | {entry['columns']:,.0f} | {entry['auc']:.3f} ({entry['auc_interval'][0]:.3f} to "
                f"{entry['auc_interval'][1]:.3f}) | {entry['share']:.2f} ({entry['share_interval'][0]:.2f} to "
                f"{entry['share_interval'][1]:.2f}) |"
            )
    return [
        *lines,
        "",
        *prose("""
        *Audit's concepts*: those that the global view finds (q ≤ 0.05, raw) on the training folds. *Length-controlled findings*:
        those it still finds with length controlled, which is what a report calls a finding. *WIMHF recipe*: a signed SAE of 32
        features, 4 active, on differences of all-MiniLM-L6-v2 embeddings of the responses, restated from arXiv 2510.26202.
        *hypothesaes*: that package's own `train_sae` with M = 32, K = 4 on the same differences, activations made
        antisymmetric; no language model is asked.
    """),
    ]


def agreement(raw: dict[str, Any]) -> list[str]:
    """The same figures twice."""
    near = next(value for name, value in raw.items() if name.endswith(APPROXIMATION))
    worst = max(value for name, value in raw.items() if not name.endswith(APPROXIMATION))
    return [
        "## Agreement with an independent computation",
        "",
        *prose(f"""
            The audit, in shards of 64 pairs, beside plain loops, scipy and statsmodels over dense arrays
            (`benchmarks/validity/reference.py`, which shares no code with the audit). The largest difference of any statistic is
            {worst:.1e}; the bar is 1e-9. Sign-flip p-values are counted exactly where that costs at most a million additions; for
            large clusters the normal form or Monte-Carlo flips stand in, which are off by up to {near:.1e} here.
        """),
    ]


def prose(text: str) -> list[str]:
    """A paragraph, in lines of the page's width."""
    return textwrap.wrap(" ".join(text.split()), 128, break_long_words=False, break_on_hyphens=False)
