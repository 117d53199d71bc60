"""What the loop prints as it goes, and the story that it tells in the end: words made from figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import assay
import numpy as np

from demo.loop.report import Comparison, Finding
from demo.loop.steps import Rate, rate
from experiments.training import Trained


def findings(shown: Sequence[assay.Hypothesis], decided: assay.Decision | None) -> list[Finding]:
    """The table of what the data teaches."""
    return [
        Finding(
            one.concept.name,
            one.concept.label,
            one.effect.estimate,
            one.effect.q,
            decided.mode.value.replace("_", " ")
            if decided is not None and decided.mode is not None and decided.hypothesis == one.name
            else "",
        )
        for one in shown
    ]


def plan_terms(plan: assay.Plan) -> list[tuple[str, str]]:
    """What the plan does and expects."""
    terms: list[tuple[str, str]] = []
    for one in plan.interventions:
        expected, name = one.expected, f"{one.concept.name} {one.concept.label}".strip()
        terms += [
            ("About", name),
            ("Done", f"{one.family.value.replace('_', ' ')}, {one.mode.value.replace('_', ' ')}, strength {one.strength:g}"),
            ("Pairs that tell", f"{expected.telling_pairs} of {plan.pairs}"),
            ("Expected shift", _expected(expected.shift_before, expected.shift_after)),
        ]
        moved = [f"{side.concept.name} {side.concept.label} (r {side.correlation:+.2f})" for side in one.side_effects[:5]]
        if moved:
            terms.append(("Would move along", "; ".join(moved)))
    return terms


def _expected(before: float, after: float | None) -> str:
    return f"{before:+.3f} without the plan" + (f", {after:+.3f} with it" if after is not None else "")


def rates(
    concept: str, expressed: Mapping[str, Sequence[float]], traits: Mapping[str, Mapping[str, Sequence[float]]], seed: int
) -> list[tuple[str, dict[str, Rate]]]:
    """Rates of the decided concept, and of traits that plain text shows, in each arm."""
    every = {concept: expressed, **traits}
    return [(trait, {arm: rate(values, seed) for arm, values in arms.items()}) for trait, arms in every.items()]


def training_rows(arms: Mapping[str, tuple[Trained, Sequence[float], float]]) -> list[list[str]]:
    """A table of the trainings: margin, accuracy and perplexity on held-out pairs, and their last losses."""
    rows = [["policy", "held-out margin", "held-out accuracy", "perplexity", "loss, first and last steps"]]
    for name, (trained, margins, perplexity) in arms.items():
        losses = [step["loss"] for step in trained.log if "loss" in step]
        quarter = max(1, len(losses) // 4)
        first, last = (float(np.mean(part)) if part else float("nan") for part in (losses[:quarter], losses[-quarter:]))
        right = float(np.mean([margin > 0 for margin in margins]))
        rows.append([name, f"{np.mean(margins):+.3f}", f"{right:.0%}", f"{perplexity:.1f}", f"{first:.3f}, {last:.3f}"])
    return rows


def comparison(title: str, found: Any) -> Comparison:
    """What a `RolloutComparison` says, for the page."""
    figures: list[tuple[str, str]] = []
    for name, part in (
        ("over the noise floor", found.above_noise),
        ("all retained", found.retained),
        ("chance", found.noise_floor),
    ):
        if part is None:
            continue
        told = [f"{part.concepts} concepts"]
        for label, estimate in (("squared Pearson", part.pearson_squared), ("Spearman", part.spearman), ("slope", part.slope)):
            if estimate is not None:
                told.append(f"{label} {estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})")
        figures.append((f"Predicted against observed, {name}", "; ".join(told)))
    control = found.control
    if control is not None:
        said = "passed" if control.passed else "not passed"
        figures.append(("Positive control", f"{said}: margin {control.margin.value:+.3f}, accuracy {control.accuracy.value:.0%}"))
    return Comparison(title, list(found.conclusions), figures, found.plot_svg)
