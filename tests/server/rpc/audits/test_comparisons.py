"""CompareRollouts over a real channel: what is asked and refused, and how figures that are not defined travel."""

from typing import Any
from xml.etree import ElementTree

import grpc
import pytest
from assay.v1 import audit_pb2, comparison_pb2, operations_pb2
from assay.v1 import audit_service_pb2 as service
from assay_server.audit.comparison.run import Options
from assay_server.jobs.audits.types import ConceptFamily
from assay_server.jobs.comparisons.types import ComparisonRequest
from assay_server.subject.types import Pair
from google.longrunning import operations_pb2 as longrunning

from tests.support.fake_rows import chat
from tests.support.harness import Harness, Start
from tests.support.wire import refused


def stored(harness: Harness) -> dict[str, str]:
    """Three datasets, as fields of a request."""
    return {
        name: harness.library.store([Pair(chat(name), "a", "b"), Pair(chat("q"), "a", "b")]).name
        for name in ("dataset", "rollouts", "noise")
    }


async def compared(harness: Harness, **more: Any) -> comparison_pb2.RolloutComparison:
    operation = await harness.audits.CompareRollouts(service.CompareRolloutsRequest(**stored(harness), **more))
    ended = await harness.operations.WaitOperation(longrunning.WaitOperationRequest(name=operation.name))
    assert ended.done
    message = comparison_pb2.RolloutComparison()
    assert ended.response.Unpack(message)
    return message


async def test_a_comparison_says_everything_that_the_jobs_found(harness: Harness) -> None:
    found = await compared(harness, margins={"margins": [0.5, 0.25, 0.0], "of": "held out"}, plan="plans/p", seed=7, keep=12)
    names = stored(harness)
    assert (found.dataset, found.rollouts, found.noise, found.plan) == (*names.values(), "plans/p")
    assert (found.dataset_pairs, found.rollout_pairs, found.prompts, found.noise_pairs) == (1000, 200, 90, 190)
    assert found.retained.pearson_squared == comparison_pb2.Estimate(value=0.5, low=0.4, high=0.6)
    assert found.retained.r_squared.value == -0.25
    assert (found.seed, found.draws, found.tau, found.interval_level, found.min_telling) == (7, 1000, 0.01, 0.95, 25)
    assert list(found.conclusions) == ["first what speaks against it", "then the figures"]
    assert (len(found.shifts), found.total_shifts) == (12, 30)
    first = found.shifts[0]
    assert (first.concept.name, first.concept.label, first.predicted) == ("feature/30", "", 0.3)
    assert (first.observed.low, first.noise, first.noise_error) == (0.13, -0.03, 0.004)
    assert (first.retained, first.clears_noise) == (True, True)
    assert found.shifts[1].concept.label == "flattery"
    assert found.create_time.seconds > 1_700_000_000
    assert found.subject.model_fingerprint


async def test_what_is_not_defined_is_unset_and_never_a_number(harness: Harness) -> None:
    found = await compared(harness)
    assert not found.HasField("control")
    assert {field.name for field, _ in found.above_noise.ListFields()} == {"concepts", "slope"}
    assert not found.noise_floor.HasField("spearman")
    with_control = await compared(harness, margins={"margins": [0.1, -0.1]})
    assert with_control.HasField("control")
    assert not with_control.control.passed


async def test_its_picture_is_of_all_retained_concepts_whatever_is_kept(harness: Harness) -> None:
    svg = ElementTree.fromstring((await compared(harness, keep=1)).plot_svg)
    titled = [one for one in svg.iter("{http://www.w3.org/2000/svg}circle") if len(one)]
    assert len(titled) == 15


async def test_the_operation_tells_what_is_being_made(harness: Harness) -> None:
    harness.library.gate.clear()
    request = service.CompareRolloutsRequest(**stored(harness), request_id="mine")
    operation = await harness.audits.CompareRollouts(request)
    about = operations_pb2.OperationMetadata()
    assert operation.metadata.Unpack(about)
    assert about.target == "comparisons/mine"
    assert not operation.done
    assert (await harness.audits.CompareRollouts(request)).name == operation.name


async def test_options_reach_the_jobs_with_the_defaults_of_the_method(harness: Harness) -> None:
    names = stored(harness)
    await compared(harness)
    assert harness.library.asked[-1] == ComparisonRequest(*names.values())
    await compared(
        harness,
        concepts=["concepts/polite"],
        families=[audit_pb2.CONCEPT_FAMILY_CLUSTERS],
        tau=0.0,
        interval_level=0.9,
        min_telling=3,
        draws=100,
        seed=(1 << 64) - 1,
        keep=5000,
        margins={"margins": [1.0, -1.0], "of": "held out"},
    )
    assert harness.library.asked[-1] == ComparisonRequest(
        *names.values(),
        concepts=("concepts/polite",),
        families=(ConceptFamily.CLUSTERS,),
        margins=(1.0, -1.0),
        margins_of="held out",
        options=Options(0.0, 0.9, 3, 100, (1 << 64) - 1, 5000),
    )


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"dataset": ""}, "INVALID_NAME", "dataset"),
        ({"rollouts": "datasets/../x"}, "INVALID_NAME", "rollouts"),
        ({"noise": "audits/a"}, "INVALID_NAME", "noise"),
        ({"plan": "datasets/a"}, "INVALID_NAME", "plan"),
        ({"concepts": ["feature/1"]}, "INVALID_NAME", "concepts[0]"),
        ({"concepts": ["concepts/a", "concepts/a"]}, "DUPLICATE_VALUE", "concepts[1]"),
        ({"families": [0]}, "UNSPECIFIED", "families[0]"),
        ({"families": [1, 3]}, "UNCOMPARABLE_FAMILY", "families[1]"),
        ({"families": [4]}, "UNCOMPARABLE_FAMILY", "families[0]"),
        ({"tau": 1.0}, "OUT_OF_RANGE", "tau"),
        ({"tau": float("nan")}, "OUT_OF_RANGE", "tau"),
        ({"interval_level": 1.0}, "OUT_OF_RANGE", "interval_level"),
        ({"min_telling": 0}, "OUT_OF_RANGE", "min_telling"),
        ({"draws": 99}, "OUT_OF_RANGE", "draws"),
        ({"draws": 10_001}, "OUT_OF_RANGE", "draws"),
        ({"keep": 5001}, "OUT_OF_RANGE", "keep"),
        ({"request_id": "no/id"}, "INVALID_REQUEST_ID", "request_id"),
        ({"margins": {}}, "OUT_OF_RANGE", "margins.margins"),
        ({"margins": {"margins": [1.0]}}, "OUT_OF_RANGE", "margins.margins"),
        ({"margins": {"margins": [0.0] * 100_001}}, "OUT_OF_RANGE", "margins.margins"),
        ({"margins": {"margins": [1.0, float("inf")]}}, "OUT_OF_RANGE", "margins.margins[1]"),
        ({"margins": {"margins": [-2e9, 0.0]}}, "OUT_OF_RANGE", "margins.margins[0]"),
        ({"margins": {"margins": [1.0, 2.0], "of": "x" * 257}}, "TEXT_TOO_LONG", "margins.of"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_field(harness: Harness, change: dict[str, Any], reason: str, field: str) -> None:
    request = service.CompareRolloutsRequest(**{**stored(harness), **change})
    error = await refused(harness.audits.CompareRollouts(request))
    assert (error.code, error.violations) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert reason in ("UNSPECIFIED", error.info.reason)
    assert not harness.library.asked


async def test_datasets_that_are_not_there_are_not_found(start: Start) -> None:
    harness = await start()
    names = stored(harness)
    error = await refused(harness.audits.CompareRollouts(service.CompareRolloutsRequest(**{**names, "noise": "datasets/none"})))
    assert error.code == grpc.StatusCode.NOT_FOUND


async def test_a_list_of_operations_leaves_shifts_and_pictures_out(harness: Harness) -> None:
    await compared(harness)
    (listed,) = (await harness.operations.ListOperations(longrunning.ListOperationsRequest())).operations
    found = comparison_pb2.RolloutComparison()
    assert listed.response.Unpack(found)
    assert (len(found.shifts), found.plot_svg, found.total_shifts) == (0, "", 30)
    assert found.retained.concepts == 30
