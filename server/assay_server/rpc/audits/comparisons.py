"""Comparisons of rollouts, from and to protobuf: the checked request, the result and its picture.

What the request leaves out takes the comparison's default; an undefined figure of the result stays unset.
"""

import math
from collections.abc import Mapping
from typing import Any

from assay.v1 import audit_service_pb2, comparison_pb2

from assay_server.audit.comparison.agreement import FIGURES, Agreement, Estimate
from assay_server.audit.comparison.control import FEWEST, Control
from assay_server.audit.comparison.run import Options
from assay_server.errors import InvalidItem
from assay_server.jobs.audits.types import SAE_FAMILIES, ConceptFamily
from assay_server.jobs.comparisons.types import ComparisonRequest, ComparisonResult, ShiftRow
from assay_server.report.comparison_plot import Point, comparison_plot
from assay_server.rpc import names
from assay_server.rpc.audits.messages import concept
from assay_server.rpc.audits.requests import FAMILIES
from assay_server.rpc.fields import MAX_COUNT, SHARE, Range, check_many, unique, within
from assay_server.rpc.messages import instant, subject
from assay_server.rpc.specs import Bounds

MAX_MARGINS = 100_000
MAX_MARGIN = 1e9  # squares of it add up without overflow
_RANGES: Mapping[str, Range] = {
    "tau": Range(0.0, 1.0, open_high=True),
    "interval_level": SHARE,
    "min_telling": Range(1, MAX_COUNT),
    "draws": Range(100, 10_000),
    "keep": Range(1, 5_000),
}


def read_comparison(request: audit_service_pb2.CompareRolloutsRequest, bounds: Bounds) -> ComparisonRequest:
    """A comparison's request. Raises InvalidItem with the field's path."""
    numbers: dict[str, Any] = {
        name: within(name, getattr(request, name), span, "") for name, span in _RANGES.items() if request.HasField(name)
    }
    check_many(len(request.concepts), bounds.limits.max_concepts, "max_concepts", "concepts", "concepts")
    concepts = [names.stored_concept_name(name, f"concepts[{place}]") for place, name in enumerate(request.concepts)]
    asked: dict[str, Any] = {"families": families} if (families := _families(request)) else {}
    if request.HasField("margins"):
        asked |= {"margins": _margins(request.margins), "margins_of": names.short_text(request.margins.of, "margins.of")}
    return ComparisonRequest(
        dataset=names.dataset_name(request.dataset, "dataset"),
        rollouts=names.dataset_name(request.rollouts, "rollouts"),
        noise=names.dataset_name(request.noise, "noise"),
        plan=names.plan_name(request.plan, "plan") if request.plan else "",
        concepts=unique(concepts, "concepts"),
        options=Options(seed=request.seed, **numbers),
        **asked,
    )


def _families(request: audit_service_pb2.CompareRolloutsRequest) -> tuple[ConceptFamily, ...]:
    families = FAMILIES.read_each(request.families, "families")
    for place, family in enumerate(families):
        if family not in SAE_FAMILIES:
            raise InvalidItem(
                f"Rollouts are compared by SAE concepts, and {family.value} are read from the text: leave CONCEPT_FAMILY_"
                f"{family.name} out, or audit the rollouts' dataset.",
                reason="UNCOMPARABLE_FAMILY",
                field=f"families[{place}]",
            )
    return families


def comparison(result: ComparisonResult) -> comparison_pb2.RolloutComparison:
    """A comparison with its first shifts and the picture of the retained ones; without either for a brief result."""
    head, options = result.head, result.head.options
    return comparison_pb2.RolloutComparison(
        dataset=head.dataset,
        rollouts=head.rollouts,
        noise=head.noise,
        plan=head.plan,
        subject=subject(head.subject),
        create_time=instant(head.created),
        dataset_pairs=head.dataset_pairs,
        rollout_pairs=head.rollout_pairs,
        prompts=head.prompts,
        noise_pairs=head.noise_pairs,
        retained=_agreement(head.retained),
        above_noise=_agreement(head.above_noise),
        noise_floor=_agreement(head.noise_floor),
        control=None if head.control is None else _control(head.control),
        conclusions=head.conclusions,
        shifts=[_shift(row) for row in result.shifts],
        total_shifts=head.total_shifts,
        plot_svg=plot(result) if result.shifts else "",
        seed=options.seed,
        draws=options.draws,
        tau=options.tau,
        interval_level=options.interval_level,
        min_telling=options.min_telling,
    )


def plot(result: ComparisonResult) -> str:
    """The picture of a comparison, SVG."""
    points = [
        Point(
            name=row.concept.name,
            label=row.concept.label.text,
            predicted=row.predicted,
            predicted_error=row.predicted_error,
            observed=row.observed.value,
            low=row.observed.low,
            high=row.observed.high,
            clears_noise=row.clears_noise,
        )
        for row in result.plotted
    ]
    head = result.head
    slope = head.above_noise.slope or head.retained.slope
    return comparison_plot(
        points,
        level=head.options.interval_level,
        noise_error=result.noise_error,
        slope=slope,
        retained=head.retained,
        above=head.above_noise.concepts,
        passed=None if head.control is None else head.control.passed,
    )


def _margins(message: comparison_pb2.PolicyMargins) -> tuple[float, ...]:
    margins = tuple(message.margins)
    if not FEWEST <= len(margins) <= MAX_MARGINS:
        raise InvalidItem(
            f"{len(margins)} margins were sent; send {FEWEST} to {MAX_MARGINS}, one per pair, or leave margins out.",
            reason="OUT_OF_RANGE",
            field="margins.margins",
            details={"margins": len(margins), "min_margins": FEWEST, "max_margins": MAX_MARGINS},
        )
    for place, margin in enumerate(margins):
        if not (math.isfinite(margin) and abs(margin) <= MAX_MARGIN):
            raise InvalidItem(
                f"Margin {place} is {margin}; give finite numbers of at most {MAX_MARGIN:g} in size.",
                reason="OUT_OF_RANGE",
                field=f"margins.margins[{place}]",
                details={"margin": margin, "max_margin": MAX_MARGIN},
            )
    return margins


def _shift(row: ShiftRow) -> comparison_pb2.ConceptShift:
    return comparison_pb2.ConceptShift(
        concept=concept(row.concept),
        predicted=row.predicted,
        predicted_error=row.predicted_error,
        observed=_estimate(row.observed),
        noise=row.noise,
        noise_error=row.noise_error,
        retained=row.retained,
        clears_noise=row.clears_noise,
        gap=row.gap,
    )


def _agreement(found: Agreement) -> comparison_pb2.Agreement:
    message = comparison_pb2.Agreement(concepts=found.concepts)
    for name in FIGURES:
        if (one := getattr(found, name)) is not None:
            getattr(message, name).CopyFrom(_estimate(one))
    return message


def _control(found: Control) -> comparison_pb2.PositiveControl:
    return comparison_pb2.PositiveControl(
        pairs=found.pairs, of=found.of, margin=_estimate(found.margin), accuracy=_estimate(found.accuracy), passed=found.passed
    )


def _estimate(found: Estimate) -> comparison_pb2.Estimate:
    return comparison_pb2.Estimate(value=found.value, low=found.low, high=found.high)
