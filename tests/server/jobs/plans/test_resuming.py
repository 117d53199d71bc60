"""What was asked of plans goes on under the same subject only: another one reads other features, another head other curves."""

from pathlib import Path

import pytest
from assay_server.errors import SubjectMismatch
from assay_server.interventions.sweep import SweepOptions
from assay_server.interventions.types import Family, Parameters
from assay_server.jobs.operations.types import OperationInfo
from assay_server.jobs.plans.types import PlanRequest, RankingRequest
from assay_server.subject.subject import Subject

from tests.server.jobs.plans.worlds import FEATURES, direction_target, feature_target, specification, world
from tests.support.tiny_subject import build_subject

SHORT = SweepOptions((0.0, 1.0), generated_tokens=2)


async def asked(folder: Path) -> tuple[OperationInfo, list[OperationInfo]]:
    """A plan that needs no head, and what needs one: asked of the whole tiny subject, which stops before any of it is done."""
    async with world(folder) as made:
        steered = specification(direction_target(), Family.STEERING_VECTOR, parameters=Parameters(coefficient=1.0))
        measured = await made.plan(steered, plan_id="steered")
        made.watched.hold()
        unmeasured = specification(direction_target(4), Family.STEERING_VECTOR)
        others = [
            await made.jobs.create(PlanRequest(made.name, (unmeasured,), plan_id="unmeasured")),  # all others wait for it
            await made.jobs.measure(measured, 1, SHORT),
            await made.jobs.rank(RankingRequest(made.name, "feature/8", ("Say **bold**.",), rows=2)),
        ]
        plain = await made.jobs.create(PlanRequest(made.name, (specification(feature_target(*FEATURES)),), plan_id="plain"))
        await made.operations.aclose()
        made.watched.release()
        return plain, others


@pytest.mark.parametrize("subject", [build_subject(5, keep_whole=True), build_subject()], ids=["another model", "no head"])
async def test_work_that_goes_on_under_another_subject_is_refused_and_changes_nothing(tmp_path: Path, subject: Subject) -> None:
    plain, others = await asked(tmp_path)
    same_features = not subject.info.whole_model_fingerprint
    async with world(tmp_path, subject=subject) as later:
        for info in others:
            error = (await later.done(info)).error
            assert isinstance(error, SubjectMismatch), info.target
            assert error.reason == "OTHER_SUBJECT"
        ended = await later.done(plain)
        assert (ended.error is None) == same_features, "only features count where no head is needed"
        (steered,) = (await later.jobs.plan("plans/steered")).interventions
        assert steered.dose_response is None
        assert {plan.name for plan in await later.jobs.all()} == {"plans/steered"} | ({"plans/plain"} if same_features else set())


async def test_work_that_goes_on_under_the_same_subject_is_done(tmp_path: Path) -> None:
    plain, others = await asked(tmp_path)
    async with world(tmp_path) as later:
        for info in (plain, *others):
            assert (await later.done(info)).error is None, info.target
