"""Comparisons of rollouts out: what the jobs answer, and its picture, to protobuf. A figure that is not defined stays unset."""

from assay.v1 import comparison_pb2

from assay_server.audit.comparison.agreement import FIGURES, Agreement, Estimate
from assay_server.audit.comparison.control import Control
from assay_server.jobs.comparisons.types import ComparisonResult, ShiftRow
from assay_server.report.comparison_plot import Point, comparison_plot
from assay_server.rpc.audits.messages import concept, instant, subject


def comparison(result: ComparisonResult) -> comparison_pb2.RolloutComparison:
    """A comparison with its first shifts and its picture, which is of the retained ones; of a brief result neither."""
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
