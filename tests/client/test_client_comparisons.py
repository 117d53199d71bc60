"""Comparisons as Python sees them: requests with what was asked, results of plain values, figures that may be None."""

import math
from dataclasses import fields
from pathlib import Path

import pytest
from assay.audits import ConceptFamily
from assay.comparisons import (
    DEFAULT_COMPARISON,
    Agreement,
    ComparisonOptions,
    ConceptShift,
    Estimate,
    RolloutComparison,
    comparison_request,
)
from assay.operations import OperationStatus
from assay.v1 import audit_pb2, comparison_pb2
from assay.v1 import audit_service_pb2 as service
from google.longrunning import operations_pb2
from google.protobuf.timestamp_pb2 import Timestamp

SOME = Estimate(0.5, 0.25, 0.75)
PLAIN = {"plan": "", "margins": None, "margins_of": "", "options": DEFAULT_COMPARISON, "request_id": "r"}


def message() -> comparison_pb2.RolloutComparison:
    some = comparison_pb2.Estimate(value=0.5, low=0.25, high=0.75)
    return comparison_pb2.RolloutComparison(
        dataset="datasets/a",
        rollouts="datasets/b",
        noise="datasets/c",
        subject=audit_pb2.SubjectRef(hook="blocks.1"),
        create_time=Timestamp(seconds=1_700_000_000),
        dataset_pairs=100,
        prompts=10,
        retained=comparison_pb2.Agreement(concepts=7, pearson_squared=some, slope=comparison_pb2.Estimate(), with_gap=some),
        control=comparison_pb2.PositiveControl(pairs=9, of="held out", margin=some, accuracy=some, passed=True),
        conclusions=["first", "second"],
        shifts=[
            comparison_pb2.ConceptShift(
                concept=audit_pb2.ConceptRef(name="feature/3", label="lists", features=[3], size=1),
                predicted=0.1,
                observed=some,
                noise=-0.01,
                noise_error=0.02,
                clears_noise=True,
                gap=0.0,
            )
        ],
        total_shifts=40,
        plot_svg="<svg/>",
        seed=7,
        draws=1000,
        tau=0.01,
        interval_level=0.95,
        min_telling=25,
    )


def test_a_request_says_what_was_asked_and_leaves_the_rest_to_the_server() -> None:
    plain = comparison_request("a", "datasets/b", "c", **PLAIN)
    assert plain == service.CompareRolloutsRequest(
        dataset="datasets/a", rollouts="datasets/b", noise="datasets/c", request_id="r"
    )
    full = comparison_request(
        "a",
        "b",
        "c",
        plan="p",
        margins=iter([0.5, -1.0]),
        margins_of="held out",
        options=ComparisonOptions(("concepts/x",), (ConceptFamily.CLUSTERS,), 0.0, 0.9, 3, 200, 5, 20),
        request_id="r",
    )
    assert full == service.CompareRolloutsRequest(
        dataset="datasets/a",
        rollouts="datasets/b",
        noise="datasets/c",
        plan="plans/p",
        margins={"margins": [0.5, -1.0], "of": "held out"},
        concepts=["concepts/x"],
        families=[audit_pb2.CONCEPT_FAMILY_CLUSTERS],
        tau=0.0,
        interval_level=0.9,
        min_telling=3,
        draws=200,
        seed=5,
        keep=20,
        request_id="r",
    )
    assert full.HasField("tau"), "0 was asked for, and is not the default"


def test_without_a_request_id_one_is_made_up_so_that_a_repeated_call_does_no_work_twice() -> None:
    made = [comparison_request("a", "b", "c", **{**PLAIN, "request_id": None}).request_id for _ in range(2)]
    assert made[0] != made[1]
    assert all(made)


@pytest.mark.parametrize("options", [ComparisonOptions(seed=-1), ComparisonOptions(draws=1 << 40)])
def test_numbers_that_do_not_fit_are_refused_before_anything_is_sent(options: ComparisonOptions) -> None:
    with pytest.raises(ValueError, match=r"range|Value"):
        comparison_request("a", "b", "c", **{**PLAIN, "options": options})


def test_a_result_holds_plain_values_and_none_where_nothing_is_defined() -> None:
    found = RolloutComparison.from_proto(message())
    assert {field.name for field in fields(RolloutComparison)} == {field.name for field in message().DESCRIPTOR.fields}
    assert found.retained == Agreement(7, SOME, None, None, Estimate(0.0, 0.0, 0.0), None, None, SOME, None)
    assert found.above_noise == Agreement(0, None, None, None, None, None, None, None, None)
    assert found.control is not None
    assert (found.control.of, found.control.passed, found.control.margin.low) == ("held out", True, 0.25)
    assert found.create_time is not None
    assert found.create_time.year == 2023
    assert found.subject.hook == "blocks.1"
    (shift,) = found.shifts
    assert (shift.concept.label, shift.observed.high, shift.clears_noise, shift.retained) == ("lists", 0.75, True, False)
    assert (found.conclusions, found.total_shifts, found.seed) == (("first", "second"), 40, 7)
    assert not math.isnan(shift.predicted_error)
    assert shift.gap == 0.0, "a gap of 0 was measured"
    assert ConceptShift.from_proto(comparison_pb2.ConceptShift()).gap is None
    bare = message()
    bare.ClearField("control")
    assert RolloutComparison.from_proto(bare).control is None


def test_an_operation_gives_a_comparison() -> None:
    operation = operations_pb2.Operation(name="operations/comparison-r", done=True)
    operation.response.Pack(message())
    assert OperationStatus.from_proto(operation).result == RolloutComparison.from_proto(message())


def test_the_picture_is_written_whole(tmp_path: Path) -> None:
    path = RolloutComparison.from_proto(message()).save_plot(tmp_path / "plot.svg")
    assert path.read_text() == "<svg/>"
    assert list(tmp_path.iterdir()) == [path]
