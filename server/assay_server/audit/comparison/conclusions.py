"""What a comparison supports, in plain sentences with numbers: first the caveats, then the figures.

Each rule is a threshold on a number of the comparison, so that every sentence can be checked against it. No label enters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from assay_server.audit.comparison.agreement import FEW_CONCEPTS, Agreement, Estimate
from assay_server.audit.comparison.control import Control
from assay_server.audit.comparison.run import Comparison

FEW_PROMPTS = 30
LONGER = 0.05  # mean difference of log token counts from which length is spoken of
WIDE_GAP = 0.05  # from a squared correlation down to the upper end of its interval
GAP_ADDS = 0.05  # to R² from which imitation is spoken of
MANY_CONCEPTS = 50  # under which any second term would add as much by chance too often
FEW_ABOVE = 10  # concepts over the noise floor under which a correlation over them says little
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of a comparison beside its figures.

    Attributes:
        prompts_in_training: prompts of the rollouts that the training data holds too.
        unusable: pairs that cannot be scored, of training data, rollouts and noise.
        unweighed: families of the plan that give pairs no weights, so that the prediction does not know them.
        noise_is_rollouts: the noise rollouts are the same pairs as the rollouts.
        longer: mean difference of log token counts, chosen minus rejected, of training data and rollouts.
    """

    prompts_in_training: int = 0
    unusable: tuple[int, int, int] = (0, 0, 0)
    unweighed: tuple[str, ...] = ()
    noise_is_rollouts: bool = False
    longer: tuple[float, float] = (0.0, 0.0)


def conclusions(compared: Comparison, setting: Setting) -> tuple[str, ...]:
    """The sentences, caveats first."""
    against = (*_on_control(compared), *_on_rollouts(compared, setting), *_on_noise(compared), *_on_length(setting))
    return (*against, *_on_figures(compared))


def _on_control(compared: Comparison) -> Iterator[str]:
    control = compared.control
    if control is None:
        yield (
            "No margins were sent, so whether the policy moved at all is not known: neither agreement nor its absence says "
            "anything about the prediction yet."
        )
    elif not control.passed:
        yield (
            f"{_moved(control)} Over {_pairs(control.pairs)} the mean implicit-reward margin is "
            f"{_estimate(control.margin)} and preference accuracy {_share(control.accuracy)}; no training gives 0 and 0.5."
        )


def _moved(control: Control) -> str:
    """What a control that failed says, by which of its two figures are told from what no training gives."""
    figures = (("margin", control.margin, 0.0), ("accuracy", control.accuracy, 0.5))
    over = [name for name, one, still in figures if one.low > still]
    under = [name for name, one, still in figures if one.high < still]
    if over and under:
        return f"The {over[0]} is over what no training gives and the {under[0]} under it: agreement says nothing."
    if under:
        return "The policy moved away from the preferences: agreement says nothing."
    if over:
        other = "accuracy" if over == ["margin"] else "margin"
        return (
            f"Whether the policy moved is not sure, so agreement says nothing: the {over[0]} is over what no training gives, the "
            f"{other} is not told from it."
        )
    return "The policy is not seen to have moved: agreement says nothing."


def _on_rollouts(compared: Comparison, setting: Setting) -> Iterator[str]:
    if not np.any(compared.observed.telling):
        yield "No response after training differs from the one before on any concept: there is no shift to predict."
    if setting.noise_is_rollouts:
        yield (
            "The noise rollouts are the rollouts themselves, so no shift can clear them: roll out the model before training "
            "twice, with two seeds."
        )
    elif not np.any(compared.noise.telling):
        yield (
            "The noise rollouts do not differ on any concept, so they say nothing about chance; sample them with another seed, "
            "as the rollouts were sampled."
        )
    if compared.prompts < FEW_PROMPTS:
        yield f"Only {compared.prompts} prompts were answered: the bootstrap draws from few, and its intervals are rough."
    if setting.prompts_in_training:
        yield (
            f"{setting.prompts_in_training:,} of {compared.prompts:,} prompts of the rollouts are in the training data: on "
            "those, what was learned by heart looks like a shift."
        )
    parts = [f"{count:,} of the {what}" for count, what in zip(setting.unusable, _SETS, strict=True) if count]
    if parts:
        yield f"Pairs that cannot be scored were left out: {', '.join(parts)}."
    if setting.unweighed:
        yield (
            f"The plan's {', '.join(setting.unweighed)} cannot weigh pairs beforehand: the prediction does not know what they do."
        )


_SETS = ("training data", "rollouts", "noise rollouts")


def _on_noise(compared: Comparison) -> Iterator[str]:
    retained, above = compared.retained.concepts, compared.above_noise.concepts
    if retained < FEW_CONCEPTS:
        yield (
            f"{_concepts(retained)} of {len(compared.names):,} tell chosen from rejected in at least "
            f"{compared.options.min_telling} pairs of the training data: too few for a correlation."
        )
        return
    chance = (1 - compared.options.interval_level) * retained
    if above < max(FEW_ABOVE, 2 * chance):
        yield (
            f"Only {above:,} of {retained:,} retained concepts clear the noise floor, where chance alone lets up to about "
            f"{chance:,.0f} through: most shifts are not told from noise."
        )
    found, floor = compared.retained.pearson_squared, compared.noise_floor.pearson_squared
    if found is not None and floor is not None and floor.high >= found.low:
        yield (
            "The prediction correlates with two rollouts of one model nearly as well: squared Pearson "
            f"{_share(floor)} with the noise, {_share(found)} with the observed shifts. Their intervals overlap, so the "
            "agreement is not told from chance."
        )
    slope = compared.retained.slope
    if slope is not None and slope.high < 0:
        yield (
            f"Shifts went against the prediction: for each unit predicted {_estimate(slope)} is observed. A squared Pearson does "
            "not show that."
        )
    for name, one in (("retained concepts", compared.retained), ("concepts over the noise floor", compared.above_noise)):
        if one.pearson_squared is not None and one.pearson_squared.value - one.pearson_squared.high > WIDE_GAP:
            yield (
                f"Over {name} the interval of squared Pearson, {_span(one.pearson_squared)}, lies under the figure, "
                f"{_part(one.pearson_squared.value)}: its draws carry the rollouts' sampling error twice, and here that error is "
                "large. More prompts would bring the two together."
            )


def _on_length(setting: Setting) -> Iterator[str]:
    training, rollouts = setting.longer
    if min(abs(training), abs(rollouts)) >= LONGER and (training > 0) == (rollouts > 0):
        word = "longer" if rollouts > 0 else "shorter"
        yield (
            f"Responses after training are {_percent(rollouts)} {word} than before, and chosen ones {_percent(training)} {word} "
            "than rejected ones (geometric means of tokens): concepts that go with length shift together, so part of the "
            "agreement may be length alone."
        )


def _on_figures(compared: Comparison) -> Iterator[str]:
    control = compared.control
    if control is not None and control.passed:
        yield (
            f"The policy moved: over {_pairs(control.pairs)} the mean implicit-reward margin is {_estimate(control.margin)} and "
            f"preference accuracy {_share(control.accuracy)}."
        )
    if compared.retained.concepts >= FEW_CONCEPTS:
        yield f"Over {_concepts(compared.retained.concepts, 'retained')}: {_figures(compared.retained)}."
    above = compared.above_noise
    if above.concepts >= FEW_CONCEPTS:
        yield f"Over the {_concepts(above.concepts)} of these that clear the noise floor: {_figures(above)}."
    if _imitates(compared):
        alone, both, taken = (getattr(compared.retained, name) for name in ("pearson_squared", "with_gap", "gap_slope"))
        yield (
            "Shifts go with imitation too: a policy takes up what chosen and rejected responses have in common, which no "
            "preference between them predicts. With a second term, how much more often a concept fires in the training data "
            f"than before training, least squares explain {_share(both)} of the variance over the retained concepts (its "
            f"coefficient {_estimate(taken)}); the prediction alone explains {_share(alone)}."
        )
    slope, plain = compared.retained.slope, compared.retained.r_squared
    if slope is not None:
        # Not over those that clear the noise: picked for being large, they would make it up to more than twice as steep.
        tail = "" if plain is None else f" (R² without a fit {_share(plain)})"
        yield f"For each unit of shift predicted {_estimate(slope)} is observed over the retained concepts{tail}."


def _imitates(compared: Comparison) -> bool:
    """Whether the gap explains more than the prediction alone, the way that imitation would, over concepts that all have one."""
    alone, both, taken = (getattr(compared.retained, name) for name in ("pearson_squared", "with_gap", "gap_slope"))
    if compared.gap is None or alone is None or both is None or taken is None:
        return False
    every = bool(np.isfinite(compared.gap[compared.is_retained]).all())
    enough = compared.retained.concepts >= MANY_CONCEPTS
    return every and enough and taken.low > 0 and both.value - alone.value >= GAP_ADDS


def _figures(found: Agreement) -> str:
    parts = [
        f"{name} {_share(value)}"
        for name, value in (
            ("squared Pearson", found.pearson_squared),
            ("Spearman", found.spearman),
            ("R² of a line through 0", found.fitted_r_squared),
            ("share with the predicted sign", found.same_sign),
        )
        if value is not None
    ]
    return ", ".join(parts) or "no figure is defined, because shifts do not vary"


def _estimate(found: Estimate) -> str:
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]"


def _share(found: Estimate) -> str:
    return f"{_part(found.value)} {_span(found)}"


def _span(found: Estimate) -> str:
    return f"[{_part(found.low)}, {_part(found.high)}]"


def _number(value: float) -> str:
    """Two decimals, or two significant digits of what is smaller."""
    size = abs(value)
    return _signed(value, "0" if size == 0 else f"{size:.2f}" if size >= 0.095 else f"{size:.2g}")


def _part(value: float) -> str:
    """What is judged on a scale of 0 to 1: two decimals."""
    return _signed(value, f"{abs(value):.2f}")


def _percent(difference: float) -> str:
    """What a difference of logs is as a share: 0.18 is 20% longer, −0.22 is 20% shorter."""
    return f"{100 * abs(math.expm1(difference)):.0f}%"


def _signed(value: float, text: str) -> str:
    return f"{_MINUS}{text}" if value < 0 and text.strip("0.") else text


def _pairs(count: int) -> str:
    return f"{count:,} pair{'' if count == 1 else 's'}"


def _concepts(count: int, kind: str = "") -> str:
    return f"{count:,} {f'{kind} ' if kind else ''}concept{'' if count == 1 else 's'}"
