"""A decision about what is read off the text acts on its lesson's members in the SAE, and says so, or is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assay_server.audit.findings import ViewKind
from assay_server.audit.shards import BY_MAX
from assay_server.errors import FailedPrecondition
from assay_server.interventions.plans import WarningCode
from assay_server.jobs.audits.types import ConceptFamily, DecisionMode, HypothesisRow
from assay_server.jobs.library import Library
from assay_server.jobs.plans.stand_ins import FEATURES, acts_on_nothing, stand_in
from assay_server.jobs.plans.types import DecisionName, InterventionRequest, PlanRequest
from assay_server.scorer import Scorer
from assay_server.subject.types import Message, Pair

from tests.server.jobs.worlds import audit, only, open_library, upload


def pairs() -> list[Pair]:
    """Of ten chosen responses seven exclaim; single features of the tiny subject go along with it."""
    rng = np.random.default_rng(0)

    def words() -> str:
        return " ".join(rng.choice(["sage", "mint", "rain", "salt", "moss", "kiln"], 6))

    found: list[Pair] = []
    for number in range(60):
        chosen = words() + (" !!!! wow" if rng.random() < 0.7 else "")
        found.append(Pair((Message("user", f"Tell me of plant {number}."),), chosen, words(), f"p{number}"))
    return found


async def audited(library: Library, *families: ConceptFamily) -> tuple[HypothesisRow, ...]:
    """The hypotheses of an audit of pairs whose chosen responses hold exclamation marks."""
    asked = replace(only(ViewKind.GLOBAL), families=families, nuisances=())
    asked = replace(asked, statistics=replace(asked.statistics, keep=5000))
    return (await library.audits.result((await audit(library, await upload(library, pairs()), asked)).name)).hypotheses


def exclaiming(hypotheses: tuple[HypothesisRow, ...]) -> HypothesisRow:
    return next(row for row in hypotheses if row.concept.name == "text/exclamation")


async def test_the_plan_of_a_decision_about_a_text_acts_on_the_features_of_its_lesson(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        hypotheses = await audited(library, ConceptFamily.FEATURES, ConceptFamily.DESCRIPTORS)
        about = exclaiming(hypotheses)
        fellows = [row for row in hypotheses if row.lesson == about.lesson > 0 and row.concept.features]
        assert len(fellows) > 1
        decision = await library.audits.decide(about.name, DecisionMode.EXPLAIN_AWAY)
        assert library.plans is not None
        request = PlanRequest("", (InterventionRequest(DecisionName(decision.name)),), plan_id="p")
        done = await library.operations.wait((await library.plans.create(request)).name, 120)
        assert done.error is None
        (made,) = (await library.plans.plan("plans/p")).interventions
    strongest = sorted(fellows, key=lambda row: -abs(row.effect.z))[:FEATURES]
    assert all(row.effect.estimate > 0 for row in strongest)
    assert made.concept.name == "text/exclamation"
    assert list(made.concept.features) == sorted({row.concept.features[0] for row in strongest})
    assert made.z.deviation > 0
    assert made.expected.shift_before > 0 > made.expected.shift_after - made.expected.shift_before  # pyright: ignore[reportOptionalOperand]
    (note,) = [one.text for one in made.warnings if one.code is WarningCode.STAND_IN]
    told = [note.index(f"{row.concept.name} (z = {row.effect.z:+.1f})") for row in strongest]
    assert told == sorted(told)


async def test_a_text_without_a_feature_in_its_lesson_is_refused_with_what_to_do(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        about = exclaiming(await audited(library, ConceptFamily.DESCRIPTORS))
        decision = await library.audits.decide(about.name, DecisionMode.EXPLAIN_AWAY)
        assert library.plans is not None
        with pytest.raises(FailedPrecondition) as caught:
            await library.plans.create(PlanRequest("", (InterventionRequest(DecisionName(decision.name)),), plan_id="p"))
    assert (caught.value.reason, caught.value.field) == ("NO_STAND_IN", "interventions[0].decision")
    assert about.name in caught.value.message
    assert "text/exclamation, which is read off the data" in caught.value.message
    assert "assay concepts" in caught.value.message


async def test_what_stands_in_is_of_the_same_lesson_and_direction_and_a_feature_before_a_cluster(
    tmp_path: Path, scorer: Scorer
) -> None:
    async with open_library(tmp_path, scorer) as library:
        hypotheses = await audited(library, ConceptFamily.FEATURES, ConceptFamily.DESCRIPTORS)
    about = exclaiming(hypotheses)
    assert acts_on_nothing(about.concept)
    feature = next(row for row in hypotheses if row.lesson == about.lesson and row.concept.features)
    weak = replace(feature, raw=replace(feature.raw, z=0.1), controlled=None)
    cluster = replace(feature, concept=replace(feature.concept, name="cluster/0", features=(1, 2), size=2))
    against = replace(feature, raw=replace(feature.raw, estimate=-0.5), controlled=None)
    elsewhere = replace(feature, lesson=about.lesson + 1)
    assert stand_in(about, [about, cluster, against, elsewhere, weak], "").members == (weak,)
    assert stand_in(about, [about, cluster, against, elsewhere], "").members == (cluster,)
    many = [
        replace(feature, concept=replace(feature.concept, name=f"feature/{k}{way}", features=(k,)))
        for k in range(FEATURES + 2)
        for way in ("", BY_MAX)
    ]
    found = stand_in(about, [about, *many], "")
    assert found.features == tuple(range(FEATURES)), "a feature that was tested in two ways counts once"
    assert found.note.endswith(" 2 weaker ones are left out.")
    for nothing in ([about, against, elsewhere], []):
        with pytest.raises(FailedPrecondition):
            stand_in(about, nothing, "")
    alone = replace(about, lesson=0)
    with pytest.raises(FailedPrecondition, match="belongs to no lesson"):
        stand_in(alone, [alone, replace(feature, lesson=0)], "")
