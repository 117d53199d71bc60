"""Comparisons under a plan: the prediction is weighed as the plan's own expected effect is, and by no plan of other data."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assay_server.errors import FailedPrecondition
from assay_server.interventions.types import Family, Mode, Parameters
from assay_server.jobs.comparisons.run import plan_weights
from assay_server.jobs.plans.resolve import target_of
from assay_server.jobs.plans.types import InterventionRequest, PlanRequest

from tests.server.jobs.comparisons.house import TRAINING, House, house, slow_u
from tests.server.jobs.worlds import lesson, upload


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


def specification(feature: int, family: Family, **more: Any) -> InterventionRequest:
    return InterventionRequest(target_of(f"feature/{feature}", feature), family, Mode.EXPLAIN_AWAY, 1.5, Parameters(**more))


@pytest.mark.parametrize("family", [Family.REWARD_SHAPING, Family.REWEIGHT, Family.EXAMPLE_FILTER, Family.LABEL_FLIP])
async def test_a_plan_weighs_the_prediction_as_its_expected_effect_does(at: House, family: Family) -> None:
    training = await slow_u(at.scorer, TRAINING)
    feature = int(np.abs(training.mean(axis=0)).argmax())
    assert at.library.plans is not None
    making = await at.library.plans.create(PlanRequest(at.names[0], (specification(feature, family),)))
    plan = (await at.ended(making)).response
    (intervention,) = (await at.library.plans.plan(plan)).interventions
    found = await at.compare(plan=plan)
    (row,) = [row for row in found.plotted if row.concept.name == f"feature/{feature}"]
    assert intervention.expected.shift_after is not None
    assert row.predicted == pytest.approx(intervention.expected.shift_after, abs=1e-12)
    assert row.predicted != pytest.approx(training[:, feature].mean(), abs=1e-3)
    assert found.head.plan == plan
    assert not any("cannot weigh" in line for line in found.head.conclusions)


async def test_interventions_of_one_plan_weigh_together_and_hooks_are_said_to_weigh_nothing(at: House) -> None:
    assert at.library.plans is not None
    features = [3, 8, 40]
    families = (Family.REWARD_SHAPING, Family.LABEL_FLIP, Family.SAE_CLAMP)
    asked = tuple(specification(feature, family) for feature, family in zip(features, families, strict=True))
    plan = (await at.ended(await at.library.plans.create(PlanRequest(at.names[0], asked)))).response
    compiled = (await at.library.plans.compiled(plan)).compiled
    weights = plan_weights(compiled, len(TRAINING))
    assert weights.unweighed == ("SAE_CLAMP",)
    assert weights.by_row[[row for row, pair in enumerate(TRAINING) if not pair.rejected]].tolist() == [1.0] * 3
    rows, shaping = compiled.rows, compiled.plan.interventions[0]
    offset = 1.5 * (shaping.z.of(rows.chosen[0]) - shaping.z.of(rows.rejected[0]))
    flip, step = rows.picked[1], 1e-6
    assert (flip & (np.abs(offset) > 0.1)).any()

    def loss(moved: float) -> np.ndarray:
        """Of each pair as trainers are given it: a flip swaps the responses, and their halves of the offset with them."""
        margin, added = np.where(flip, -moved, moved), np.where(flip, -offset, offset)
        return np.log1p(np.exp(-(margin + added)))

    pushed = (loss(step) - loss(-step)) / (2 * step)
    assert weights.by_row[rows.rows] == pytest.approx(pushed / -0.5, abs=1e-8)
    found = await at.compare(plan=plan)
    assert any("The plan's SAE_CLAMP cannot weigh pairs" in line for line in found.head.conclusions)


async def test_a_plan_of_another_dataset_is_refused_with_both_fingerprints(at: House) -> None:
    assert at.library.plans is not None
    other = await upload(at.library, lesson(30, seed=5), "other")
    plan = (
        await at.ended(await at.library.plans.create(PlanRequest(other, (specification(3, Family.REWARD_SHAPING),))))
    ).response
    with pytest.raises(FailedPrecondition) as refused:
        await at.library.comparisons.create(at.request(plan=plan))
    assert (refused.value.reason, refused.value.field) == ("DATASET_MISMATCH", "plan")
    for name in (other, at.names[0]):
        assert (await at.library.datasets.get(name)).fingerprint in refused.value.message
