"""Requests of ConceptService: from protobuf to the concept jobs' types, with every check that needs no model.

Invariants as in ``rpc.pairs``: what passes is well-formed, refusals name the path and both numbers, no example is quoted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from assay.v1 import concept_service_pb2, pair_pb2

from assay_server.concepts.probes import ProbeMethod
from assay_server.errors import InvalidItem
from assay_server.jobs.concepts.clusters import ClusterRequest
from assay_server.jobs.concepts.labels import LabelMethod, LabelRequest
from assay_server.jobs.concepts.types import (
    ConceptRequest,
    ConceptSource,
    FitOptions,
    FromCluster,
    FromDataset,
    FromDirection,
    FromFeatures,
    FromSearch,
    PairExamples,
    TextExamples,
)
from assay_server.rpc import names
from assay_server.rpc.enums import EnumMap
from assay_server.rpc.fields import SHARE, out_of_bounds, within
from assay_server.rpc.pairs import read_pair, read_response
from assay_server.rpc.specs import MAX_NAME_BYTES, Bounds, read_vector, read_weights, unknown_feature

ItemT = TypeVar("ItemT", pair_pb2.Pair, pair_pb2.PromptedResponse)
ReadT = TypeVar("ReadT")

MAX_RANDOM_DIRECTIONS = 1024
MAX_SEARCH_BYTES = 256
MAX_SELECTED_FEATURES = 64

METHODS = EnumMap(concept_service_pb2.ProbeMethod, ProbeMethod, ProbeMethod.DIFFERENCE_OF_MEANS)
_LABEL_METHODS = EnumMap(concept_service_pb2.CreateLabelsRequest.Method, LabelMethod, LabelMethod.EVIDENCE)


def read_create(request: concept_service_pb2.CreateConceptRequest, bounds: Bounds) -> ConceptRequest:
    """Checks and translates a request for a concept."""
    display_name = names.short_text(request.display_name, "display_name", most=MAX_NAME_BYTES)
    if not display_name.strip():
        raise InvalidItem(
            "display_name is missing; give the concept a name for people.", reason="INVALID_NAME", field="display_name"
        )
    return ConceptRequest(
        display_name=display_name,
        source=_read_source(request, bounds),
        concept_id=request.concept_id,
        options=_read_options(request),
        request_id=names.request_id(request.request_id, "request_id"),
    )


def read_clusters(request: concept_service_pb2.ComputeClustersRequest) -> ClusterRequest:
    """Checks and translates a request for clusters; what is left out takes the method's default."""
    given = {name: getattr(request, name) for name in ("edge_share", "min_size", "resolution") if request.HasField(name)}
    return ClusterRequest(
        dataset=names.dataset_name(request.dataset, "dataset"),
        seed=request.seed,
        request_id=names.request_id(request.request_id, "request_id"),
        **given,
    )


def read_labels(request: concept_service_pb2.CreateLabelsRequest, bounds: Bounds) -> LabelRequest:
    """Checks and translates a request for labels."""
    for place, id in enumerate(request.features):
        if id >= bounds.d_sae:
            raise unknown_feature(id, bounds, f"features[{place}]")
    return LabelRequest(
        dataset=names.dataset_name(request.dataset, "dataset"),
        features=tuple(request.features),
        clusters=tuple(request.clusters),
        method=_LABEL_METHODS.read(request.method, "method"),
        request_id=names.request_id(request.request_id, "request_id"),
    )


def _read_source(request: concept_service_pb2.CreateConceptRequest, bounds: Bounds) -> ConceptSource:
    kind = request.WhichOneof("source") or ""
    if kind not in _SOURCES:
        raise InvalidItem(
            "The concept is made of nothing; set texts, pairs, dataset, features, cluster, label_search or direction.",
            reason="MISSING_SOURCE",
            field="source",
        )
    return _SOURCES[kind](request, bounds)


def _texts(request: concept_service_pb2.CreateConceptRequest, bounds: Bounds) -> ConceptSource:
    return TextExamples(
        positive=_read_each(request.texts.positive, read_response, bounds, "texts.positive"),
        negative=_read_each(request.texts.negative, read_response, bounds, "texts.negative"),
    )


def _pairs(request: concept_service_pb2.CreateConceptRequest, bounds: Bounds) -> ConceptSource:
    return PairExamples(_read_each(request.pairs.pairs, read_pair, bounds, "pairs.pairs"))


def _dataset(request: concept_service_pb2.CreateConceptRequest, bounds: Bounds) -> ConceptSource:
    return FromDataset(names.dataset_name(request.dataset, "dataset"))


def _features(request: concept_service_pb2.CreateConceptRequest, bounds: Bounds) -> ConceptSource:
    read = read_weights(request.features, bounds, "features")
    return FromFeatures(read.indices, read.weights)


def _cluster(request: concept_service_pb2.CreateConceptRequest, bounds: Bounds) -> ConceptSource:
    return FromCluster(request.cluster)


def _label_search(request: concept_service_pb2.CreateConceptRequest, bounds: Bounds) -> ConceptSource:
    text = names.short_text(request.label_search, "label_search", most=MAX_SEARCH_BYTES)
    if not text.strip():
        raise InvalidItem("label_search is empty; give some of a label or token.", reason="EMPTY_SEARCH", field="label_search")
    return FromSearch(text)


def _direction(request: concept_service_pb2.CreateConceptRequest, bounds: Bounds) -> ConceptSource:
    return FromDirection(read_vector(request.direction, bounds.d_in, "direction"))


_SOURCES: Mapping[str, Callable[[concept_service_pb2.CreateConceptRequest, Bounds], ConceptSource]] = {
    "texts": _texts,
    "pairs": _pairs,
    "dataset": _dataset,
    "features": _features,
    "cluster": _cluster,
    "label_search": _label_search,
    "direction": _direction,
}


def _read_each(items: Sequence[ItemT], read: Callable[[ItemT, Bounds], ReadT], bounds: Bounds, path: str) -> tuple[ReadT, ...]:
    """All items, read; the first bad one refuses the request, by its path."""
    found: list[ReadT] = []
    for place, item in enumerate(items):
        try:
            found.append(read(item, bounds))
        except InvalidItem as error:
            here = f"{path}[{place}]"
            error.field = f"{here}.{error.field}" if error.field else here
            raise
    return tuple(found)


def _read_options(request: concept_service_pb2.CreateConceptRequest) -> FitOptions:
    given = {name: getattr(request, name) for name in ("held_out", "random_directions", "max_features") if request.HasField(name)}
    options = FitOptions(method=METHODS.read(request.method, "method"), seed=request.seed, **given)
    within("held_out", options.held_out, SHARE, "")
    count, features = options.random_directions, options.max_features
    if not 1 <= count <= MAX_RANDOM_DIRECTIONS:
        raise out_of_bounds("random_directions", count, MAX_RANDOM_DIRECTIONS, "max_random_directions", "random_directions")
    if "max_features" in given and options.method is not ProbeMethod.FEATURES:
        raise InvalidItem(
            "max_features is read by PROBE_METHOD_FEATURES alone; leave it out, or ask for that method.",
            reason="NOT_READ",
            field="max_features",
            details={"max_features": features},
        )
    if not 1 <= features <= MAX_SELECTED_FEATURES:
        raise out_of_bounds("max_features", features, MAX_SELECTED_FEATURES, "max_selected_features", "max_features")
    return options
