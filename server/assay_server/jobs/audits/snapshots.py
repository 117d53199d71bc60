"""The concepts of an audit as they stood when it was asked for: what is deleted or computed anew later changes nothing in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay_server.audit.disparity import membership
from assay_server.audit.shards import ConceptSet
from assay_server.jobs.audits.concepts import ConceptColumns
from assay_server.store.features import DirectionSet


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Concepts by kind.

    Attributes:
        sets: name and features of each concept made of features, in the order of its column.
        directions: name of each direction.
        vectors: the directions.
        thresholds: the score above which a response shows each.
    """

    sets: tuple[tuple[str, tuple[int, ...]], ...]
    directions: tuple[str, ...]
    vectors: DirectionSet
    thresholds: tuple[float, ...]

    def columns(self, firing: Sequence[int], d_sae: int) -> ConceptSet:
        """The columns that are tested: single features first, then sets, then directions."""
        sets = [*((f"feature/{id}", (int(id),)) for id in firing), *self.sets]
        names = (*(name for name, _ in sets), *self.directions)
        return ConceptSet(names, membership([features for _, features in sets], d_sae))


def snapshot_of(columns: ConceptColumns) -> Snapshot:
    """What stands in these columns."""
    members = columns.concepts.members.T.tocsr()
    ends = members.indptr.tolist()
    named = columns.concepts.names[: len(ends) - 1]
    sets = tuple(
        (name, tuple(sorted(members.indices[first:last].tolist())))
        for name, first, last in zip(named, ends, ends[1:], strict=False)
    )
    vectors = [direction.direction for direction in columns.directions]
    return Snapshot(
        sets,
        tuple(direction.name for direction in columns.directions),
        DirectionSet(np.stack(vectors).astype(np.float32) if vectors else np.zeros((0, 0), np.float32)),
        tuple(float(direction.threshold) for direction in columns.directions),
    )


def to_record(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON."""
    vectors = [base64.b64encode(np.ascontiguousarray(row, "<f4").tobytes()).decode() for row in snapshot.vectors.vectors]
    return {
        "sets": [[name, list(features)] for name, features in snapshot.sets],
        "directions": [
            {"name": name, "float32": vector, "threshold": threshold}
            for name, vector, threshold in zip(snapshot.directions, vectors, snapshot.thresholds, strict=True)
        ],
    }


def from_record(record: Mapping[str, Any]) -> Snapshot:
    """The snapshot of ``to_record``."""
    directions = record["directions"]
    vectors = [np.frombuffer(base64.b64decode(one["float32"]), "<f4").astype(np.float32) for one in directions]
    return Snapshot(
        tuple((name, tuple(features)) for name, features in record["sets"]),
        tuple(one["name"] for one in directions),
        DirectionSet(np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)),
        tuple(one["threshold"] for one in directions),
    )
