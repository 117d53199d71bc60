"""What an audit tests: features that fire, clusters, and stored concepts, as columns (METHOD.md §2, §3).

columns = concept_set(d_sae, firing=ids, clusters=clusters.clusters, stored=concepts)
columns.concepts          # audit.shards.ConceptSet: names, and members [d_sae, concepts]
columns.directions        # tested by score > threshold, one column of PairShard.directions each, after those
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.matrices import Csr
from assay_server.audit.shards import ConceptSet
from assay_server.errors import FailedPrecondition
from assay_server.store.clusters import Cluster
from assay_server.store.concepts import ConceptKind, StoredConcept


@dataclass(frozen=True, slots=True, eq=False)
class DirectionalConcept:
    """A direction that an audit tests: a response shows it where max over tokens of <h, v> is above the threshold."""

    name: str
    direction: NDArray[np.float32]
    threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class ConceptColumns:
    """Concepts by kind.

    Attributes:
        concepts: all names (directions last) and the members of those made of features.
        directions: the directions, in the order of their names.
    """

    concepts: ConceptSet
    directions: tuple[DirectionalConcept, ...]


def concept_set(
    d_sae: int,
    *,
    firing: Sequence[int] | NDArray[np.int64] = (),
    clusters: Sequence[Cluster] = (),
    stored: Sequence[StoredConcept] = (),
) -> ConceptColumns:
    """The concepts that an audit tests, as columns.

    Args:
        d_sae: features of the SAE.
        firing: features that are concepts of their own, ascending: those that fire in the dataset.
        clusters: each is a concept.
        stored: stored concepts beside them, of the loaded subject.

    Raises:
        FailedPrecondition: a stored concept cannot be tested: weights that are not all 1 (NOT_A_SET), or a direction that was
            given without examples and so has no threshold (NO_THRESHOLD).
    """
    named: list[tuple[str, Sequence[int] | NDArray[np.int64]]] = [(f"feature/{id}", (int(id),)) for id in firing]
    named += [(f"cluster/{cluster.id}", cluster.features) for cluster in clusters]
    directions: list[DirectionalConcept] = []
    for concept in stored:
        if concept.kind is ConceptKind.DIRECTION:
            directions.append(_directional(concept))
        else:
            named.append((concept.name, _members(concept)))
    names = (*(name for name, _ in named), *(direction.name for direction in directions))
    return ConceptColumns(ConceptSet(names, _columns(d_sae, [features for _, features in named])), tuple(directions))


def _members(concept: StoredConcept) -> NDArray[np.int64]:
    if concept.is_set:
        return concept.features
    raise FailedPrecondition(
        f"{concept.name} weighs its {len(concept.features)} features, and an audit counts whether features fire, each as much as "
        "another. Make a set of them (all weights 1) and test that.",
        reason="NOT_A_SET",
        details={"concept": concept.name, "features": len(concept.features)},
    )


def _directional(concept: StoredConcept) -> DirectionalConcept:
    assert concept.direction is not None
    if concept.report is None:
        raise FailedPrecondition(
            f"{concept.name} is a direction that was given without examples, so nothing says from which score on a response "
            "shows it. Make it from examples, and test that.",
            reason="NO_THRESHOLD",
            details={"concept": concept.name},
        )
    return DirectionalConcept(concept.name, concept.direction, concept.report.threshold)


def _columns(d_sae: int, members: Sequence[Sequence[int] | NDArray[np.int64]]) -> Csr:
    rows = np.concatenate([np.empty(0, dtype=np.int64), *(np.asarray(ids, dtype=np.int64) for ids in members)])
    columns = np.repeat(np.arange(len(members), dtype=np.int64), [len(ids) for ids in members])
    return Csr((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(d_sae, len(members)))
