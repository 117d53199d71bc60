"""Concepts, clusters and labels to protobuf. Translation only."""

from assay.v1 import concept_service_pb2, pair_pb2

from assay_server.concepts.measuring import ConceptReport
from assay_server.concepts.probes import ProbeMethod
from assay_server.jobs.concepts.labels import LabelSummary
from assay_server.labelling.labels import GroupLabel, Labels
from assay_server.rpc.concepts.requests import METHODS
from assay_server.rpc.messages import instant, tensor
from assay_server.store.clusters import Cluster, StoredClusters
from assay_server.store.concepts import ConceptKind, StoredConcept

_METHODS = {method.value: METHODS.number(method) for method in ProbeMethod}


def concept(stored: StoredConcept, labels: Labels) -> concept_service_pb2.Concept:
    """A stored concept, its nearest features labelled as they are now."""
    message = concept_service_pb2.Concept(
        name=stored.name,
        display_name=stored.display_name,
        method=_METHODS.get(stored.method, concept_service_pb2.PROBE_METHOD_UNSPECIFIED),
        report=None if stored.report is None else _report(stored.report),
        nearest=[
            concept_service_pb2.NearFeature(feature=near.feature, cosine=near.cosine, label=labels.get(near.feature).label)
            for near in stored.nearest
        ],
        subject_fingerprint=stored.subject,
        create_time=instant(stored.created),
    )
    if stored.direction is not None:
        message.direction.CopyFrom(tensor(stored.direction))
    elif stored.kind is ConceptKind.FEATURE:
        message.feature = int(stored.features[0])
    else:
        message.features.CopyFrom(pair_pb2.SparseVector(indices=stored.features.tolist(), values=stored.weights.tolist()))
    return message


def cluster(entry: Cluster, label: GroupLabel) -> concept_service_pb2.FeatureCluster:
    """A feature cluster."""
    return concept_service_pb2.FeatureCluster(
        name=f"cluster/{entry.id}",
        id=entry.id,
        features=entry.features,
        label=label.label,
        label_method=label.label_method,
        cohesion=entry.cohesion,
        detection_score=label.detection_score,
    )


def cluster_summary(clusters: StoredClusters) -> concept_service_pb2.ClusterSummary:
    """The size and the inputs of a clustering."""
    return concept_service_pb2.ClusterSummary(
        clusters=len(clusters),
        features=sum(len(entry.features) for entry in clusters.clusters),
        candidates=clusters.considered,
        edges=clusters.edges,
        samples=clusters.samples,
    )


def label_summary(summary: LabelSummary) -> concept_service_pb2.LabelSummary:
    """The counts and the quality of a labelling run."""
    return concept_service_pb2.LabelSummary(
        labelled=summary.labelled,
        failed=summary.failed,
        median_detection_score=summary.median_detection_score,
        endpoint_requests=summary.requests,
        prompt_tokens=summary.prompt_tokens,
        completion_tokens=summary.completion_tokens,
    )


def _report(report: ConceptReport) -> concept_service_pb2.ProbeReport:
    return concept_service_pb2.ProbeReport(**{name: getattr(report, name) for name in ConceptReport.__dataclass_fields__})
