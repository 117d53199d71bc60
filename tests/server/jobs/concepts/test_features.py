"""Concepts of features that tell examples apart, as jobs around a real tiny subject."""

from pathlib import Path

import numpy as np
import pytest
from assay_server.concepts.probes import ProbeMethod
from assay_server.errors import InvalidItem
from assay_server.jobs.concepts.types import PairExamples
from assay_server.scorer import Scored, ScoreOptions, Scorer
from assay_server.store.concepts import ConceptKind
from assay_server.subject.types import SpanName
from sklearn.metrics import roc_auc_score

from tests.server.jobs.concepts.test_jobs import _possible_splits, made
from tests.support.concepts import concept_jobs, loud_pairs, loud_texts, request


async def test_examples_make_a_set_of_features_that_is_scored_by_their_largest_activations(
    tmp_path: Path, scorer: Scorer
) -> None:
    source = loud_texts(20)
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        concept = await made(jobs, operations, request(source, method=ProbeMethod.FEATURES, max_features=4, seed=5))
        one = await made(jobs, operations, request(source, method=ProbeMethod.FEATURES, max_features=1, display_name="one"))
    assert (concept.kind, concept.method) == (ConceptKind.FEATURES, "features")
    assert 2 <= len(concept.features) <= 4
    assert (np.diff(concept.features) > 0).all()
    assert concept.weights.tolist() == [1.0] * len(concept.features)
    assert concept.direction is None
    assert len(concept.nearest) == 10
    assert (one.kind, len(one.features)) == (ConceptKind.FEATURE, 1)
    report = concept.report
    assert report is not None
    assert report.auroc > report.random_auroc
    items, labels = [*source.positive, *source.negative], np.arange(40) < 20
    outcomes = await scorer.score(items, ScoreOptions())
    scores = np.zeros(40)
    for place, outcome in enumerate(outcomes):
        assert isinstance(outcome, Scored)
        span = outcome.pooled.spans[SpanName.CHOSEN]
        scores[place] = span.max[np.isin(span.indices, concept.features)].sum()
    (held,) = _possible_splits(items, labels)
    assert roc_auc_score(labels[held], scores[held]) == pytest.approx(report.auroc)


async def test_pairs_make_features_with_their_pair_accuracy(tmp_path: Path, scorer: Scorer) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        concept = await made(jobs, operations, request(PairExamples(loud_pairs(24)), method=ProbeMethod.FEATURES))
    assert concept.report is not None
    assert concept.report.pair_accuracy is not None
    assert concept.report.held_out_positive == concept.report.held_out_negative


async def test_a_request_holds_the_knobs_that_its_method_reads(tmp_path: Path, scorer: Scorer) -> None:
    """One from before there was `max_features` is still the same request."""
    source = loud_texts(12)
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        direction = await made(jobs, operations, request(source, request_id="r"))
        features = await made(jobs, operations, request(source, display_name="set", method=ProbeMethod.FEATURES))
        with pytest.raises(InvalidItem, match="used before, for other arguments"):
            await jobs.create(request(source, request_id="r", method=ProbeMethod.FEATURES))
    assert "max_features" not in direction.source["options"]
    assert features.source["options"]["max_features"] == 3
