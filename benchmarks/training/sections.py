"""The text of docs/training.md. Every sentence that states a finding is made from the figures that it states."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.training.data import PLANTED
from benchmarks.validity.sections import prose

RECOVERED = 0.9  # the bar
UNTAUGHT = 0.1  # |mean u| under which pairs hardly teach a concept
KINDS = {"plain": "HH as it is", "planted": "HH with three planted concepts"}


def prediction(raw: dict[str, Any]) -> list[str]:
    """Do predicted shifts come true?"""
    lines = [
        "## Prediction: do the concepts move that the data teaches?",
        "",
        *prose("""
            *Predicted*: mean disparity u over the training pairs. *Observed*: mean u of what the trained policy writes to unseen
            prompts over what the untrained one writes, read by the same server. A shift is over the noise floor where it exceeds
            what two independent sets of rollouts of the untrained model differ by. The positive control is the implicit reward of
            held-out pairs (planted like the training pairs): without it a correlation of shifts that are noise means nothing.
        """),
        "",
    ]
    for kind, title in KINDS.items():
        one = raw.get(kind)
        lines += [f"### {title}", ""]
        if one is None:
            lines += ["Not run.", ""]
            continue
        lines += [*_agreement(one), ""]
        lines += [*prose(f"The server's conclusions: {' '.join(one['conclusions'])}"), ""]
    if any(raw.get(kind) for kind in KINDS):
        lines += ["![Observed against predicted shifts](plots/training-shifts.svg)", ""]
    return lines


def _agreement(one: dict[str, Any]) -> list[str]:
    lines = [
        "| over | concepts | squared Pearson | R² with the gap | gap's coefficient | Spearman | slope | same sign |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for key, title in (("above_noise", "concepts over the noise floor"), ("retained", "all retained"), ("noise_floor", "chance")):
        part = one[key]
        cells = [_estimate(part[name]) for name in ("pearson_squared", "with_gap", "gap_slope", "spearman", "slope", "same_sign")]
        lines.append(f"| {title} | {part['concepts']:,} | {' | '.join(cells)} |")
    lines += ["", *prose(_why(one))]
    control = one["control"]
    passed = "passed" if control and control["passed"] else "**not passed**"
    epochs, sizes = one["recipe"]["epochs"], one["sizes"]
    lines += [
        "",
        *prose(f"""
        {sizes["train"]} pairs, prompts of at most {sizes["prompt_tokens"]} and responses of at most {sizes["response_tokens"]}
        tokens, {epochs:g} {"epoch" if epochs == 1 else "epochs"}.
    """),
    ]
    said = f"Positive control: {passed}; {one['rollouts']} rollouts, {one['pairs']} training pairs, {_cost(one['cost'])}."
    return [*lines, "", *prose(said)]


def _why(one: dict[str, Any]) -> str:
    """What sampling noise allows, and where the rest is."""
    clear = [shift for shift in one["shifts"] if shift[4]]
    if len(clear) < 4:
        return "Too few concepts clear the noise floor to say where the rest is."
    predicted, observed, noise = (np.array([shift[at] for shift in clear], np.float64) for at in (1, 2, 3))
    ceiling = 1 - noise.var() / observed.var()
    rest = (observed - predicted * (predicted @ observed) / (predicted @ predicted)) ** 2
    untaught = np.abs(predicted) < UNTAUGHT
    down = float((observed[untaught] < 0).mean()) if untaught.any() else 0.0
    return f"""
        Sampling noise alone would allow a squared Pearson of {ceiling:.2f} (1 − variance of the noise set's shifts over
        that of the observed ones). Of what the line through 0 leaves unexplained, {rest[untaught].sum() / rest.sum():.0%}
        is in the {untaught.sum():,} concepts that the pairs hardly teach (|predicted| under {UNTAUGHT:g}); {down:.0%} of
        these fell. A policy also takes up what both responses of a pair have in common, which no difference between the two
        can predict. *With the gap* has a second term for that: how much more often a concept fires in the pairs' responses,
        chosen and rejected alike, than in what the untrained model writes.
    """


def _estimate(estimate: dict[str, float] | None) -> str:
    return "not defined" if estimate is None else f"{estimate['value']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"


def explaining(raw: dict[str, Any]) -> list[str]:
    """What is left of a planted concept?"""
    sizes = raw["sizes"]
    untrained, trained = raw["untrained"], raw["trained"]
    lines = [
        "## Explaining away: is the concept not learned, and nothing else lost?",
        "",
        *prose(f"""
            {sizes["train"]} pairs, {sizes["share"]:.0%} of them for each planted concept, no pair with two. One training without
            a plan, and one for each concept and family, on the same pairs in the same order from the same start; what has a bar
            is trained with two seeds, each compared with the training without a plan of its own, and averaged. *Rate*: share of
            {sizes["prompts"]} rollouts that show the concept by a plain text detector. *Recovery*: (trained − plan) /
            (trained − untrained), 100% is back to untrained. *Off-target*: mean relative change of the other two concepts' rates,
            and in brackets what two sets of rollouts of one policy would differ by; *rates* are those of all three in the order
            above, the target's in bold. *Log-ratios* are the same two figures of a measure without sampling: how much more the
            policy likes held-out texts with the concept than the same texts without it, in nats against the reference.
            *Accuracy* is of {sizes["held_out"]} held-out pairs that nothing is planted in.
        """),
        "",
        "| | " + " | ".join(PLANTED) + " | log-ratios, nats | held-out accuracy | perplexity |",
        "| --- |" + " ---: |" * (len(PLANTED) + 3),
        _rates("untrained", untrained),
        _rates("trained without a plan", trained),
        *([] if raw["other_seed"] is None else [_rates("another seed, without a plan", raw["other_seed"])]),
        "",
        *_noise(raw),
        "| family (λ, concept) | against | rates | recovery | log-ratios' | off-target | log-ratios' | accuracy | perplexity |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    missing: list[str] = []
    for concept, entry in raw["never_planted"].items():
        if entry is None:
            missing.append(f"never planted, {concept}")
        else:
            lines.append(f"| never planted | {concept} | {_treated(concept, entry)} |")
    for family, entry in raw["treatments"].items():
        name = f"{family.replace('_', ' ')} ({entry['strength']:g}, {entry['kind']})"
        for concept in PLANTED:
            if entry[concept] is None:
                missing.append(f"{family.replace('_', ' ')} of {concept}")
                continue
            lines.append(f"| {name} | {concept} | {_treated(concept, entry[concept])} |")
    lines += ["", "![Recovery](plots/training-recovery.svg)", ""]
    if missing:
        lines += [*prose(f"Not run: {'; '.join(missing)}."), ""]
    return lines


def _noise(raw: dict[str, Any]) -> list[str]:
    """What the controls say of the figures below them."""
    other = raw["other_seed"]
    said: list[str] = []
    if other is not None:
        rates = other["off_target"]["value"]
        said.append(f"""
            Another seed (order of the same pairs, and the adapter's start) changes rates by
            {"—" if rates is None else f"{rates:.0%}"}, log-ratios by {other["nats_off_target"]:.0%} and accuracy by
            {abs(other["accuracy_lost"]["value"]):.1f} points, with no plan at all: an off-target figure of one training of that
            size says nothing of a plan.
        """)
    never = {name: entry for name, entry in raw["never_planted"].items() if entry is not None}
    changed = [entry["off_target"]["value"] for entry in never.values() if entry["off_target"]["value"] is not None]
    if changed:
        nats = [entry["nats_off_target"] for entry in never.values()]
        low = ", ".join(name for name, entry in never.items() if (entry["recovery"]["value"] or 0) < RECOVERED)
        own = f"Its own recovery is under {RECOVERED:.0%} for {low}: the pairs teach that without any planting." if low else ""
        said.append(f"""
            *Never planted* is what a perfect plan would come to: the same pairs, with the concept in none of them. It changes the
            others' rates by {min(changed):.0%} to {max(changed):.0%} and their log-ratios by {min(nats):.0%} to {max(nats):.0%}.
            {own}
        """)
    return [*prose(" ".join(said)), ""] if said else []


def _rates(name: str, entry: dict[str, Any]) -> str:
    rates = [f"{one['value']:.0%} ({one['interval'][0]:.0%} to {one['interval'][1]:.0%})" for one in entry["rates"].values()]
    nats = " / ".join(f"{entry['nats'][name]:.1f}" for name in PLANTED)
    return f"| {name} | {' | '.join(rates)} | {nats} | {entry['accuracy']:.2f} | {entry['perplexity']:.1f} |"


def _treated(concept: str, one: dict[str, Any]) -> str:
    value, bounds = one["recovery"]["value"], one["recovery"]["interval"]
    recovered = "did not move" if value is None else f"{value:.0%} ({bounds[0]:.0%} to {bounds[1]:.0%})"
    changed, chance = one["off_target"]["value"], one["off_target"]["chance"]
    off = "—" if changed is None else f"{changed:.0%} ({chance:.0%})"
    rate = " / ".join(f"**{r['value']:.0%}**" if name == concept else f"{r['value']:.0%}" for name, r in one["rates"].items())
    return (
        f"{rate} | {recovered} | {one['nats_recovery']:.0%} | {off} | {one['nats_off_target']:.0%} | "
        f"{one['accuracy']:.2f} | {one['perplexity']:.1f}"
    )


def amplifying(raw: dict[str, Any]) -> list[str]:
    """More of a wanted concept."""
    missing = [f"{one:g}" for one in raw["asked"] if one not in [point["strength"] for point in raw["points"]]]
    lines = [
        "## Amplifying: is more asked for, and more had?",
        "",
        *prose(f"""
            The wanted concept is *{raw["concept"]}*; reward shaping in mode AMPLIFY at strengths λ, all else equal. λ = 0 is the
            training without a plan.
        """),
        "",
        "| λ | rate in rollouts | log-ratio of held-out texts, nats | perplexity |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for point in raw["points"]:
        low, high = point["rate"]["interval"]
        a, b = point["nats_interval"]
        lines.append(
            f"| {point['strength']:g} | {point['rate']['value']:.0%} ({low:.0%} to {high:.0%}) | {point['nats']:.1f} "
            f"({a:.1f} to {b:.1f}) | {point['perplexity']:.1f} |"
        )
    lines += ["", "![Dose and response](plots/training-dose.svg)", ""]
    if missing:
        lines += [f"Not run: λ = {', '.join(missing)}.", ""]
    return lines


def speed(raw: dict[str, Any]) -> list[str]:
    """What offsets cost."""
    return [
        "## Speed: what do offsets cost?",
        "",
        *prose("""
            STEERING offsets read every response twice, plain and steered. They are compared with one plain pass of the same
            batches through the whole model, which is half of what they need, by the same engine (which shares prompts) and by
            transformers on padded batches; contenders take turns. Reward-shaping offsets are asked of a server that has audited
            the pairs, and its own count of tokens read is taken before and after.
        """),
    ]


def _cost(cost: dict[str, float]) -> str:
    return f"{cost['tokens']:,.0f} tokens trained on in {cost['cpu_seconds']:,.0f} CPU seconds"
