"""Stored concepts: what the server keeps, made from examples, features, labels or a direction, with the evidence for them.

    examples = Examples(positive=[...], negative=[...])                     texts that show it, and texts that do not
    concept = client.create_concept("flattery", examples).wait()
    concept.report.auroc, concept.report.random_auroc_max                   held out, and what chance would give
    client.test(dataset, concept.name).wait()                               one hypothesis about it

| source                            | makes                                                                |
|-----------------------------------|----------------------------------------------------------------------|
| `Examples(positive, negative)`    | a direction fitted on texts, with a report on held-out ones          |
| a sequence of `Pair`              | the same: the chosen response shows it, the rejected one does not    |
| `FromDataset("datasets/...")`     | the same, of stored pairs                                            |
| a mapping of feature to weight    | a weighted set of features; all weights 1 make a plain set           |
| `FromCluster(3)`                  | the features of a cluster                                            |
| `FromLabels("praise")`            | all features whose label or tokens hold the text                     |
| `Tensor`, a sequence of floats    | a direction of the residual stream, kept at unit length              |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any, cast

from assay.pairs import Pair, PromptedResponse
from assay.tensors import Tensor
from assay.times import utc
from assay.v1 import concept_service_pb2, pair_pb2
from assay.wire import from_wire


class ProbeMethod(Enum):
    """What examples become: a direction by difference of means, logistic regression, or Bradley-Terry on pairs; or a set of the
    SAE features that tell them apart best."""

    DIFFERENCE_OF_MEANS = "difference_of_means"
    LOGISTIC = "logistic"
    BRADLEY_TERRY = "bradley_terry"
    FEATURES = "features"


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts that show a concept and texts that do not, at least 10 of each; a plain string is a text without a prompt.

    Give counterexamples among the negatives: what tells bold from plain text may as well tell any decoration from plain text.
    """

    positive: Sequence[PromptedResponse | str]
    negative: Sequence[PromptedResponse | str]


@dataclass(frozen=True, slots=True)
class FromDataset:
    """A stored dataset, "datasets/{id}": chosen responses show the concept, rejected ones do not."""

    dataset: str


@dataclass(frozen=True, slots=True)
class FromCluster:
    """A feature cluster, by its id."""

    cluster: int


@dataclass(frozen=True, slots=True)
class FromLabels:
    """All features whose label, top tokens or promoted tokens hold this text, letters of either case."""

    containing: str


ConceptSource = (
    Examples | FromDataset | FromCluster | FromLabels | Tensor | Mapping[int, float] | Sequence[Pair] | Sequence[float]
)


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """How well a direction tells apart examples that it was not fitted on; the fields of ``assay.v1.ProbeReport``."""

    fitted_positive: int
    fitted_negative: int
    held_out_positive: int
    held_out_negative: int
    auroc: float
    auroc_low: float
    auroc_high: float
    pr_auc: float
    base_rate: float
    f1: float
    threshold: float
    random_auroc: float
    random_auroc_max: float
    pair_accuracy: float | None
    l2: float | None

    @classmethod
    def from_proto(cls, message: concept_service_pb2.ProbeReport) -> "ProbeReport":
        """From the wire."""
        optional = {name: getattr(message, name) if message.HasField(name) else None for name in ("pair_accuracy", "l2")}
        plain = {one.name: getattr(message, one.name) for one in fields(cls) if one.name not in optional}
        return cls(**plain, **cast(Any, optional))


@dataclass(frozen=True, slots=True)
class NearFeature:
    """A feature near a direction: its id, the cosine of its decoder row, and its label ("" where none is known)."""

    feature: int
    cosine: float
    label: str


@dataclass(frozen=True, slots=True)
class StoredConcept:
    """A concept that the server keeps.

    Attributes:
        name: "concepts/{id}".
        display_name: display name.
        kind: a feature's id, weights by feature, or a unit direction of shape [d_in].
        method: what its examples became; None where there were none.
        report: how well it tells held-out examples apart; None where there were no examples.
        nearest: the SAE features nearest to its direction.
        subject_fingerprint: the subject that it belongs to; another refuses it.
        create_time: when it was made.
    """

    name: str
    display_name: str
    kind: int | tuple[tuple[int, float], ...] | Tensor | None
    method: ProbeMethod | None
    report: ProbeReport | None
    nearest: tuple[NearFeature, ...]
    subject_fingerprint: str
    create_time: datetime | None

    @classmethod
    def from_proto(cls, message: concept_service_pb2.Concept) -> "StoredConcept":
        """From the wire."""
        return cls(
            name=message.name,
            display_name=message.display_name,
            kind=_kind(message),
            method=from_wire(ProbeMethod, concept_service_pb2.ProbeMethod, "PROBE_METHOD", message.method),
            report=ProbeReport.from_proto(message.report) if message.HasField("report") else None,
            nearest=tuple(NearFeature(one.feature, one.cosine, one.label) for one in message.nearest),
            subject_fingerprint=message.subject_fingerprint,
            create_time=utc(message, "create_time"),
        )


@dataclass(frozen=True, slots=True)
class FeatureCluster:
    """Features that fire together: its name "cluster/{id}", id, features ascending, label and how the label was made."""

    name: str
    id: int
    features: tuple[int, ...]
    label: str
    label_method: str

    @classmethod
    def from_proto(cls, message: concept_service_pb2.FeatureCluster) -> "FeatureCluster":
        """From the wire."""
        return cls(message.name, message.id, tuple(message.features), message.label, message.label_method)


@dataclass(frozen=True, slots=True)
class ClusterSummary:
    """What a clustering gave; the fields of ``assay.v1.ClusterSummary``."""

    clusters: int
    features: int
    candidates: int
    edges: int
    samples: int

    @classmethod
    def from_proto(cls, message: concept_service_pb2.ClusterSummary) -> "ClusterSummary":
        """From the wire."""
        return cls(message.clusters, message.features, message.candidates, message.edges, message.samples)


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """What labelling gave: labels made, failures, and the median detection score on contexts not labelled from."""

    labelled: int
    failed: int
    median_detection_score: float

    @classmethod
    def from_proto(cls, message: concept_service_pb2.LabelSummary) -> "LabelSummary":
        """From the wire."""
        return cls(message.labelled, message.failed, message.median_detection_score)


def set_source(request: concept_service_pb2.CreateConceptRequest, source: ConceptSource) -> None:
    """Puts the source of a concept into its request; ValueError where a text is no Unicode."""
    match source:
        case Examples():
            request.texts.positive.extend(_example(one) for one in source.positive)
            request.texts.negative.extend(_example(one) for one in source.negative)
            request.texts.SetInParent()
        case FromDataset():
            request.dataset = source.dataset
        case FromCluster():
            request.cluster = source.cluster
        case FromLabels():
            request.label_search = source.containing
        case Tensor():
            request.direction.CopyFrom(source.to_proto())
        case Mapping():
            weights = sorted(source.items())
            vector = pair_pb2.SparseVector(indices=[one for one, _ in weights], values=[weight for _, weight in weights])
            request.features.CopyFrom(vector)
        case _:
            _set_sequence(request, source)


def _set_sequence(request: concept_service_pb2.CreateConceptRequest, source: Sequence[Pair] | Sequence[float]) -> None:
    pairs = [one for one in source if isinstance(one, Pair)]
    if pairs and len(pairs) == len(source):
        request.pairs.pairs.extend(pair.to_proto() for pair in pairs)
    else:
        request.direction.CopyFrom(Tensor.from_values(cast(Sequence[float], source)).to_proto())


def _example(example: PromptedResponse | str) -> pair_pb2.PromptedResponse:
    return (PromptedResponse("", example) if isinstance(example, str) else example).to_proto()


def _kind(message: concept_service_pb2.Concept) -> int | tuple[tuple[int, float], ...] | Tensor | None:
    match message.WhichOneof("kind"):
        case "feature":
            return message.feature
        case "features":
            return tuple(zip(message.features.indices, message.features.values, strict=True))
        case "direction":
            return Tensor.from_proto(message.direction)
        case _:
            return None
