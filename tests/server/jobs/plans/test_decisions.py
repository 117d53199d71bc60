"""Decisions become targets only while they are about what was audited: the same subject, the same concept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assay_server.audit.findings import ViewKind
from assay_server.concepts.measuring import ConceptReport
from assay_server.errors import FailedPrecondition, SubjectMismatch
from assay_server.jobs.audits.types import ConceptFamily, DecisionMode, LabelText
from assay_server.jobs.library import Library
from assay_server.jobs.plans.resolve import FindDecision, decisions_of, finder
from assay_server.scorer import Scorer
from assay_server.store.clusters import Cluster, StoredClusters
from assay_server.store.concepts import ConceptKind, StoredConcept
from assay_server.subject.types import SubjectInfo

from tests.server.jobs.worlds import QUICK, audit, lesson, only, open_library, upload
from tests.support.tiny_subject import FEATURES, WIDTH

PAIRS = [pair for pair in lesson(40) if pair.rejected]
ONCE, ANEW = Cluster(0, (1, 2, 3, 4, 5, 6)), Cluster(0, (50, 51, 52))
REPORT = ConceptReport(8, 8, 4, 4, 0.9, 0.8, 1.0, 0.9, 0.5, 0.8, 0.0, 0.5, 0.6)


def made(*features: int, weight: float = 1.0) -> StoredConcept:
    ids = np.array(features, np.int64)
    weights = np.ones(len(ids), np.float32)
    weights[0] = weight
    return StoredConcept("mine", "Mine", ConceptKind.FEATURES, "s", 0.0, features=ids, weights=weights)


def aimed(seed: int) -> StoredConcept:
    direction = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
    return StoredConcept("mine", "Mine", ConceptKind.DIRECTION, "s", 0.0, direction=direction, report=REPORT)


class Shelf:
    """The concepts of a server, which somebody may make anew."""

    def __init__(self, cluster: Cluster = ONCE, concept: StoredConcept | None = None) -> None:
        self.cluster = cluster
        self.concept = concept or made(7, 8, 9)

    def kept(self) -> dict[str, Any]:
        return {"stored": [self.concept], "shipped": StoredClusters(FEATURES, (self.cluster,))}

    def decided(self, library: Library, info: SubjectInfo) -> FindDecision:
        find = finder(lambda name, field: self.concept, lambda: (self.cluster,), FEATURES)
        return decisions_of(library.audits, find, lambda name, features: LabelText("a label"), info)


async def decision(library: Library, concept: str) -> str:
    """A decision about a concept of a new audit; its name."""
    families = () if concept.startswith("concepts/") else (ConceptFamily.FEATURES, ConceptFamily.CLUSTERS)
    asked = replace(only(ViewKind.GLOBAL), families=families, concepts=("concepts/mine",))
    kept = replace(asked, statistics=replace(QUICK.statistics, views=(ViewKind.GLOBAL,), keep=5000))
    done = await audit(library, await upload(library, PAIRS), kept)
    rows = (await library.audits.result(done.name)).hypotheses
    row = next(row for row in rows if row.concept.name.startswith(concept))
    return (await library.audits.decide(row.name, DecisionMode.AMPLIFY, strength=0.5)).name


@pytest.mark.parametrize(
    ("concept", "changed"),
    [
        ("cluster/0", Shelf(cluster=ANEW)),
        ("concepts/mine", Shelf(concept=made(7, 8))),
        ("concepts/mine", Shelf(concept=made(7, 8, 9, weight=3.0))),
        ("concepts/mine", Shelf(concept=aimed(1))),
    ],
    ids=["another cluster", "fewer features", "other weights", "a direction"],
)
async def test_a_concept_that_was_made_anew_is_not_what_was_decided_about(
    tmp_path: Path, scorer: Scorer, concept: str, changed: Shelf
) -> None:
    shelf = Shelf()
    async with open_library(tmp_path, scorer, **shelf.kept()) as library:
        name = await decision(library, concept)
        before = await shelf.decided(library, scorer.info)(name, "decision")
        assert before.target.features.tolist() == list(ONCE.features if concept == "cluster/0" else (7, 8, 9))
        with pytest.raises(FailedPrecondition) as caught:
            await changed.decided(library, scorer.info)(name, "decision")
    assert (caught.value.reason, caught.value.field) == ("CONCEPT_CHANGED", "decision")


async def test_a_direction_that_was_fitted_anew_is_not_what_was_decided_about(tmp_path: Path, scorer: Scorer) -> None:
    shelf = Shelf(concept=aimed(1))
    async with open_library(tmp_path, scorer, **shelf.kept()) as library:
        name = await decision(library, "concepts/mine")
        assert (await shelf.decided(library, scorer.info)(name, "decision")).target.is_direction
        with pytest.raises(FailedPrecondition) as caught:
            await Shelf(concept=aimed(2)).decided(library, scorer.info)(name, "decision")
    assert caught.value.reason == "CONCEPT_CHANGED"


async def test_a_decision_under_another_sae_is_not_applied_under_this_one(tmp_path: Path, scorer: Scorer) -> None:
    shelf = Shelf()
    async with open_library(tmp_path, scorer, **shelf.kept()) as library:
        name = await decision(library, "feature/")
        assert len((await shelf.decided(library, scorer.info)(name, "decision")).target.features) == 1
        with pytest.raises(SubjectMismatch) as caught:
            await shelf.decided(library, replace(scorer.info, sae_fingerprint="another"))(name, "decision")
    assert caught.value.reason == "OTHER_SUBJECT"
