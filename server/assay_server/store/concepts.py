"""Stored concepts and what they were made from.

    concepts/{id}/concept.safetensors    "direction" float32 [d_in], or "features" int64 [n] and "weights" float32 [n]
    concepts/{id}/concept.json           everything else, and the digest of the tensors; written last: without it there is none
    examples/{sha256}.json               the texts or pairs that a concept was made from
    clusters/{subject}.json              feature clusters in use for a subject
    labels/{subject}/features.jsonl      labels made here, over those that came with the SAE
    labels/runs/{id}.json                how far one making of labels is, and what it gave

Both files of a concept are read without us: JSON, and the safetensors format.

Invariants:
- A concept that is read has the tensors that were written with it; damage is reported as damage.
- It belongs to the subject whose fingerprint it carries, and ``require_subject`` refuses it for another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from assay_server.concepts.measuring import ConceptReport
from assay_server.errors import DataLoss, InvalidItem, NotFound, SubjectMismatch
from assay_server.store.clusters import StoredClusters, from_record, to_record
from assay_server.store.files import Files, damaged, sha256
from assay_server.subject.types import SubjectInfo

CONCEPT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
VERSION = 1


class ConceptKind(StrEnum):
    """What is scored."""

    FEATURE = "feature"
    FEATURES = "features"
    DIRECTION = "direction"


@dataclass(frozen=True, slots=True)
class NearFeature:
    """A feature near a direction, and the cosine of its decoder row."""

    feature: int
    cosine: float


@dataclass(frozen=True, slots=True, eq=False)
class StoredConcept:
    """A stored concept.

    Attributes:
        id: "concepts/{id}" is its name.
        display_name: for people.
        kind: what is scored.
        subject: fingerprint of the subject that it belongs to.
        created: UNIX seconds.
        features: ids, int64 [n], ascending; none for a direction.
        weights: one for each, float32 [n].
        direction: unit vector, float32 [d_in]; None for features.
        method: what examples became ("difference_of_means", "logistic", "bradley_terry", "features"); "" without examples.
        report: None where there were no examples.
        nearest: features whose decoder rows lie nearest.
        source: what it was made of and every knob, for people and for making it again.
    """

    id: str
    display_name: str
    kind: ConceptKind
    subject: str
    created: float
    features: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    weights: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    direction: NDArray[np.float32] | None = None
    method: str = ""
    report: ConceptReport | None = None
    nearest: tuple[NearFeature, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def name(self) -> str:
        """Resource name."""
        return f"concepts/{self.id}"

    @property
    def is_set(self) -> bool:
        """Whether it is a plain set of features: what audits test as they test a cluster."""
        return self.kind is not ConceptKind.DIRECTION and bool(np.all(self.weights == 1))


def subject_fingerprint(info: SubjectInfo) -> str:
    """Model, SAE and hook as one digest, hexadecimal: directions and features mean the same where it is equal."""
    parts = [info.model_fingerprint, info.sae_fingerprint, info.hook]
    return hashlib.sha256(json.dumps(["assay-subject-1", *parts]).encode()).hexdigest()


def require_subject(concept: StoredConcept, subject: str, field: str = "") -> StoredConcept:
    """The concept, if it belongs to the subject. Raises SubjectMismatch with both fingerprints."""
    if concept.subject == subject:
        return concept
    raise other_subject(concept.name, concept.subject, subject, field)


def other_subject(name: str, theirs: str, loaded: str, field: str = "") -> SubjectMismatch:
    """The refusal of what belongs to another subject; both fingerprints are named."""
    return SubjectMismatch(
        f"{name} belongs to the subject {theirs[:16]}… and the loaded one is {loaded[:16]}…: its features and directions mean "
        "nothing here. Make it again under this subject, or load the one that it was made with.",
        reason="OTHER_SUBJECT",
        field=field,
        details={"concept": name, "concept_subject": theirs, "loaded_subject": loaded},
    )


class ConceptFiles:
    """The concepts, clusters and labels of one data directory. Blocks: call it in a thread."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def write(self, concept: StoredConcept) -> None:
        """Store a concept, in place of one of the same id."""
        tensors: dict[str, NDArray[Any]] = {"features": concept.features, "weights": concept.weights}
        if concept.direction is not None:
            tensors = {"direction": np.ascontiguousarray(concept.direction, dtype=np.float32)}
        data = save(tensors)
        record = {
            "version": VERSION,
            "id": concept.id,
            "display_name": concept.display_name,
            "kind": concept.kind.value,
            "subject": concept.subject,
            "created": concept.created,
            "method": concept.method,
            "report": None if concept.report is None else asdict(concept.report),
            "nearest": [asdict(near) for near in concept.nearest],
            "source": dict(concept.source),
            "tensors_sha256": sha256(data),
        }
        self._files.write(_tensors(concept.id), data)
        self._files.write_json(_record(concept.id), record)

    def read(self, id: str) -> StoredConcept:
        """One concept. Raises NotFound, DataLoss."""
        if not CONCEPT_ID.fullmatch(id):
            raise no_concept(id)
        try:
            record = self._files.read_json(_record(id))
        except FileNotFoundError as error:
            raise no_concept(id) from error
        try:
            data = self._files.read(_tensors(id))
            tensors: dict[str, Any] = {**load(data)}
        except (FileNotFoundError, SafetensorError) as error:
            raise damaged(_tensors(id)) from error
        if record.pop("tensors_sha256") != sha256(data):
            raise damaged(_tensors(id))
        record.pop("version")
        report = record.pop("report")
        return StoredConcept(
            **{**record, "kind": ConceptKind(record["kind"]), "nearest": tuple(NearFeature(**n) for n in record["nearest"])},
            **tensors,
            report=None if report is None else ConceptReport(**report),
        )

    def read_all(self) -> tuple[list[StoredConcept], list[str]]:
        """Every concept that can be read, oldest first, and the ids of those that are damaged."""
        found: list[StoredConcept] = []
        lost: list[str] = []
        for id in self._files.names("concepts"):
            try:
                found.append(self.read(id))
            except NotFound:
                continue  # a writer that was killed before the record
            except DataLoss:
                lost.append(id)
        return sorted(found, key=lambda concept: (concept.created, concept.id)), lost

    def delete(self, id: str) -> None:
        """Delete a concept: the record first, so that half a deletion leaves none."""
        self._files.delete(_record(id))
        self._files.delete_tree(f"concepts/{id}")

    def write_examples(self, examples: Mapping[str, Any]) -> str:
        """Keep examples; returns their digest."""
        digest = sha256(json.dumps(examples, sort_keys=True).encode())
        if not self._files.exists(_examples(digest)):
            self._files.write_json(_examples(digest), examples)
        return digest

    def read_examples(self, digest: str) -> dict[str, Any]:
        """Examples that were kept. Raises DataLoss where they are damaged or gone."""
        try:
            return self._files.read_json(_examples(digest))
        except FileNotFoundError as error:
            raise damaged(_examples(digest)) from error

    def sweep_examples(self, used: Iterable[str]) -> None:
        """Delete the examples that nothing uses any more."""
        kept = {f"{digest}.json" for digest in used}
        for name in self._files.names("examples"):
            if name not in kept:
                self._files.delete(f"examples/{name}")

    def write_clusters(self, subject: str, clusters: StoredClusters) -> None:
        """Keep a subject's clusters, in place of those before."""
        self._files.write_json(_clusters(subject), to_record(clusters))

    def read_clusters(self, subject: str, d_sae: int) -> StoredClusters | None:
        """A subject's clusters, None where none were computed. Raises DataLoss, BadClusters."""
        try:
            record = self._files.read_json(_clusters(subject))
        except FileNotFoundError:
            return None
        return from_record(record, d_sae, _clusters(subject))

    def write_labels(self, subject: str, lines: str) -> None:
        """Keep the labels made for a subject: JSON lines as ``labels`` writes them."""
        self._files.write(_labels(subject), lines.encode())

    def read_labels(self, subject: str) -> str:
        """The labels made for a subject, "" where there are none."""
        try:
            return self._files.read(_labels(subject)).decode()
        except FileNotFoundError:
            return ""

    def runs(self) -> list[str]:
        """Ids of the runs whose states are kept."""
        return [name.removesuffix(".json") for name in self._files.names("labels/runs")]

    def delete_runs(self, ids: Sequence[str]) -> None:
        """Delete the states of runs."""
        for id in ids:
            self._files.delete(_run(id))

    def write_run(self, id: str, record: Mapping[str, Any]) -> None:
        """Keep how far a making of labels is."""
        self._files.write_json(_run(id), record)

    def read_run(self, id: str) -> dict[str, Any]:
        """How far a making of labels is. Raises NotFound, DataLoss."""
        try:
            return self._files.read_json(_run(id))
        except (FileNotFoundError, ValueError) as error:
            raise NotFound(f"Nothing is known of labels/{id[:64]}.", field="name") from error


def unit(vector: NDArray[np.floating], field: str) -> NDArray[np.float32]:
    """A direction at unit length, float32. Raises InvalidItem for one without length."""
    wide = vector.astype(np.float64)
    length = float(np.linalg.norm(wide))
    if not 0 < length < np.inf:
        raise InvalidItem(
            f"The direction has length {length}: give one that points somewhere.",
            reason="NO_DIRECTION",
            field=field,
            details={"length": length},
        )
    return (wide / length).astype(np.float32)


def renamed(clusters: StoredClusters, labels: Mapping[int, tuple[str, str, float | None]]) -> StoredClusters:
    """The clusters with new labels: text, method and detection score by cluster id."""
    entries = tuple(
        replace(entry, label=labels[entry.id][0], label_method=labels[entry.id][1], detection_score=labels[entry.id][2])
        if entry.id in labels
        else entry
        for entry in clusters.clusters
    )
    return replace(clusters, clusters=entries)


def no_concept(id: str, field: str = "name") -> NotFound:
    """The error for a concept that is not there."""
    shown = id if CONCEPT_ID.fullmatch(id) else "…"
    return NotFound(f"There is no concept 'concepts/{shown}'; `assay concepts` lists them.", field=field)


def _record(id: str) -> str:
    return f"concepts/{id}/concept.json"


def _tensors(id: str) -> str:
    return f"concepts/{id}/concept.safetensors"


def _examples(digest: str) -> str:
    return f"examples/{digest}.json"


def _clusters(subject: str) -> str:
    return f"clusters/{subject[:24]}.json"


def _labels(subject: str) -> str:
    return f"labels/{subject[:24]}/features.jsonl"


def _run(id: str) -> str:
    return f"labels/runs/{id}.json"
