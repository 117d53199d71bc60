"""What an audit tests, as columns: names in order, members as they are, directions apart with their thresholds."""

from dataclasses import replace

import numpy as np
import pytest
from assay_server.concepts.measuring import ConceptReport
from assay_server.errors import FailedPrecondition
from assay_server.jobs.audits.concepts import concept_set
from assay_server.store.clusters import Cluster
from assay_server.store.concepts import ConceptKind, StoredConcept

REPORT = ConceptReport(7, 8, 3, 4, 0.9, 0.8, 0.95, 0.85, 0.43, 0.9, -1.5, 0.6, 0.7)
SET = StoredConcept("lists", "Lists", ConceptKind.FEATURES, "s", 0.0, np.array([2, 5]), np.ones(2, dtype=np.float32))
DIRECTION = StoredConcept(
    "loud", "Loud", ConceptKind.DIRECTION, "s", 0.0, direction=np.array([1, 0], dtype=np.float32), report=REPORT
)


def test_features_clusters_and_stored_concepts_are_columns_in_this_order_and_directions_stand_apart() -> None:
    columns = concept_set(8, firing=[0, 3], clusters=(Cluster(0, (1, 2)), Cluster(1, (4, 6, 7))), stored=[DIRECTION, SET])
    assert columns.concepts.names == ("feature/0", "feature/3", "cluster/0", "cluster/1", "concepts/lists", "concepts/loud")
    members = columns.concepts.members
    assert members.shape == (8, 5)
    assert members.dtype == np.int64
    found = [np.flatnonzero(column).tolist() for column in members.toarray().T]
    assert found == [[0], [3], [1, 2], [4, 6, 7], [2, 5]]
    (direction,) = columns.directions
    assert (direction.name, direction.threshold, direction.direction.tolist()) == ("concepts/loud", -1.5, [1, 0])


def test_nothing_to_test_is_no_column() -> None:
    columns = concept_set(8)
    assert columns.concepts.names == ()
    assert columns.concepts.members.shape == (8, 0)


def test_weights_and_directions_without_examples_are_refused_by_name() -> None:
    with pytest.raises(FailedPrecondition, match="concepts/lists weighs its 2 features") as weighted:
        concept_set(8, stored=[replace(SET, weights=np.array([1, 2], dtype=np.float32))])
    with pytest.raises(FailedPrecondition, match="concepts/loud is a direction") as bare:
        concept_set(8, stored=[replace(DIRECTION, report=None)])
    assert (weighted.value.reason, bare.value.reason) == ("NOT_A_SET", "NO_THRESHOLD")
