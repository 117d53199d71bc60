"""What is asked of a plan becomes what it is made from: decisions, names and defaults."""

import pytest
from assay_server.errors import InvalidItem
from assay_server.interventions.types import Family, Mode
from assay_server.jobs.plans.resolve import resolve
from assay_server.jobs.plans.types import DecisionName, InterventionRequest, NamedConcept, PlanRequest

from tests.server.jobs.plans.worlds import feature_target, sources

DECIDED = InterventionRequest(DecisionName("audits/a/decisions/d"))


async def test_a_decision_gives_what_is_not_asked_for_otherwise() -> None:
    changed = InterventionRequest(DecisionName("audits/a/decisions/d"), mode=Mode.EXPLAIN_AWAY, strength=2.0)
    dataset, (plain, other) = await resolve(PlanRequest("", (DECIDED, changed)), sources())
    assert dataset == "datasets/none"
    assert (plain.mode, plain.strength, plain.decision) == (Mode.AMPLIFY, 0.5, "audits/a/decisions/d")
    assert (other.mode, other.strength) == (Mode.EXPLAIN_AWAY, 2.0)
    assert plain.target.features.tolist() == [5]


async def test_a_concept_is_found_by_its_name_and_keeps_the_label_that_was_given() -> None:
    asked = (
        InterventionRequest(NamedConcept("feature/8"), mode=Mode.AMPLIFY),
        InterventionRequest(NamedConcept("cluster/1", "mine", "spec.stored"), Family.STEERING, Mode.AMPLIFY),
    )
    dataset, (feature, cluster) = await resolve(PlanRequest("datasets/given", asked), sources())
    assert dataset == "datasets/given"
    assert (feature.target.features.tolist(), feature.strength, feature.decision) == ([8], 1.0, "")
    assert (cluster.target.label, cluster.family) == ("mine", Family.STEERING)


@pytest.mark.parametrize(
    ("asked", "reason", "field"),
    [
        ((DECIDED, InterventionRequest(feature_target(3))), "MISSING_MODE", "interventions[1].mode"),
        ((InterventionRequest(feature_target(3), mode=Mode.AMPLIFY),), "MISSING_DATASET", "dataset"),
        ((InterventionRequest(feature_target(3), Family.ABLATION, Mode.AMPLIFY),), "CANNOT_AMPLIFY", "interventions[0].mode"),
    ],
)
async def test_what_cannot_be_settled_is_refused_with_its_path(
    asked: tuple[InterventionRequest, ...], reason: str, field: str
) -> None:
    with pytest.raises(InvalidItem) as caught:
        await resolve(PlanRequest("", asked), sources())
    assert (caught.value.reason, caught.value.field) == (reason, field)
