"""Feature clusters as a file: one JSON object, gzipped where its name says so, shipped beside an SAE or kept for a subject.

    {"format": "assay-clusters/1", "d_sae": 4096, "samples": 38211, "considered": 3962, "pairs": ..., "edges": ...,
     "weakest_edge": ..., "modularity": ..., "reason": "", "options": {...}, "made_from": "...",
     "clusters": [{"id": 0, "features": [3, 17, 44, 90], "cohesion": 0.31, "label": "...", "label_method": "...",
                   "detection_score": 0.87}, ...]}

Invariant: ids count from 0, features are in [0, d_sae), ascending within a cluster and in one cluster at most.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from assay_server.errors import AssayError

FORMAT = "assay-clusters/1"


class BadClusters(AssayError):
    """A file of clusters cannot be used; the message says why."""

    default_reason = "BAD_CLUSTERS"


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster: its features, ascending, how tightly they fire together, and what it is called, if it is."""

    id: int
    features: tuple[int, ...]
    cohesion: float = 0.0
    label: str = ""
    label_method: str = ""
    detection_score: float | None = None


@dataclass(frozen=True, slots=True)
class StoredClusters:
    """A clustering; what is not said here means what ``concepts.clusters.FeatureClusters`` says of it.

    Attributes:
        clusters: by id.
        options: every knob, as it was.
        made_from: the reference corpus, for people.
    """

    d_sae: int
    clusters: tuple[Cluster, ...] = ()
    samples: int = 0
    considered: int = 0
    pairs: int = 0
    edges: int = 0
    weakest_edge: float = 0.0
    modularity: float = 0.0
    reason: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    made_from: str = ""

    def __len__(self) -> int:
        return len(self.clusters)


def to_record(clusters: StoredClusters) -> dict[str, Any]:
    """The clustering as JSON."""
    return {"format": FORMAT, **asdict(clusters)}


def from_record(record: Mapping[str, Any], d_sae: int, where: str) -> StoredClusters:
    """The clustering of a record, checked against the SAE that it is for.

    Raises:
        BadClusters: it is no such record, or another SAE's.
    """
    if record.get("format") != FORMAT:
        raise BadClusters(f"{where} is not a file of clusters ({FORMAT}).")
    if record.get("d_sae") != d_sae:
        raise BadClusters(
            f"{where} clusters the {record.get('d_sae')} features of an SAE; the loaded one has {d_sae}: another SAE's.",
            details={"d_sae": d_sae, "clustered": record.get("d_sae")},
        )
    try:
        known: dict[str, Any] = {
            key: record[key] for key in StoredClusters.__dataclass_fields__ if key in record and key != "clusters"
        }
        clusters = tuple(_cluster(entry) for entry in cast("Sequence[Mapping[str, Any]]", record["clusters"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadClusters(f"{where} is damaged: {type(error).__name__}: {error}.") from error
    _check(clusters, d_sae, where)
    return StoredClusters(**known, clusters=clusters)


def save_clusters(path: Path, clusters: StoredClusters) -> None:
    """Write a file of clusters, gzipped where its name says so; the same clusters give the same bytes."""
    data = (json.dumps(to_record(clusters), ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n").encode()
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)


def load_clusters(path: Path, d_sae: int) -> StoredClusters:
    """Read a file of clusters. Raises BadClusters."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        record: Any = json.loads(data)
    except (OSError, EOFError, ValueError) as error:
        raise BadClusters(f"Cannot read the clusters in {path.name}: {error}.") from error
    if not isinstance(record, dict):
        raise BadClusters(f"{path.name} is not a JSON object.")
    return from_record(cast("dict[str, Any]", record), d_sae, path.name)


def _cluster(entry: Mapping[str, Any]) -> Cluster:
    score: Any = entry.get("detection_score")
    if score is not None and not (isinstance(score, int | float) and math.isfinite(score) and 0 <= score <= 1):
        raise ValueError(f"detection_score is {score!r}")
    return Cluster(
        id=int(entry["id"]),
        features=tuple(int(id) for id in entry["features"]),
        cohesion=float(entry.get("cohesion", 0.0)),
        label=str(entry.get("label", "")),
        label_method=str(entry.get("label_method", "")),
        detection_score=None if score is None else float(score),
    )


def _check(clusters: Sequence[Cluster], d_sae: int, where: str) -> None:
    taken: set[int] = set()
    for place, cluster in enumerate(clusters):
        ids = list(cluster.features)
        if cluster.id != place or not ids or ids != sorted(set(ids)) or ids[0] < 0 or ids[-1] >= d_sae or taken & set(ids):
            raise BadClusters(
                f"{where}: cluster {place} is out of order, empty, or holds features that repeat or that the SAE has not."
            )
        taken.update(ids)
