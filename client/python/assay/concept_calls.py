"""Requests of ConceptService: what both clients share. As in `assay.audit_calls`, what creates something has a request id."""

from collections.abc import Iterable

from assay.audit_calls import PAGE_SIZE, fresh_id, resource
from assay.concepts import ConceptSource, ProbeMethod, method_to_wire, set_source
from assay.v1 import concept_service_pb2 as service


def create_request(
    display_name: str,
    source: ConceptSource,
    *,
    concept_id: str,
    method: ProbeMethod | None,
    held_out: float | None,
    random_directions: int | None,
    max_features: int | None,
    seed: int,
    request_id: str | None,
) -> service.CreateConceptRequest:
    """A concept to make; ValueError where a text is no Unicode."""
    request = service.CreateConceptRequest(
        concept_id=concept_id,
        display_name=display_name,
        held_out=held_out,
        random_directions=random_directions,
        max_features=max_features,
        seed=seed,
        request_id=request_id or fresh_id(),
    )
    request.method = method_to_wire(method)  # pyright: ignore[reportAttributeAccessIssue]
    set_source(request, source)
    return request


def concept_request(name: str) -> service.GetConceptRequest:
    """One concept."""
    return service.GetConceptRequest(name=resource(name, "concepts"))


def concepts_request(token: str) -> service.ListConceptsRequest:
    """A page of concepts."""
    return service.ListConceptsRequest(page_size=PAGE_SIZE, page_token=token)


def delete_request(name: str) -> service.DeleteConceptRequest:
    """A concept to delete."""
    return service.DeleteConceptRequest(name=resource(name, "concepts"))


def compute_clusters_request(
    dataset: str,
    *,
    edge_share: float | None,
    min_size: int | None,
    resolution: float | None,
    seed: int,
    request_id: str | None,
) -> service.ComputeClustersRequest:
    """Clusters to compute."""
    return service.ComputeClustersRequest(
        dataset=resource(dataset, "datasets"),
        edge_share=edge_share,
        min_size=min_size,
        resolution=resolution,
        seed=seed,
        request_id=request_id or fresh_id(),
    )


def clusters_request(token: str) -> service.ListClustersRequest:
    """A page of clusters."""
    return service.ListClustersRequest(page_size=PAGE_SIZE, page_token=token)


def labels_request(
    dataset: str, features: Iterable[int], clusters: Iterable[int], endpoint: bool, request_id: str | None
) -> service.CreateLabelsRequest:
    """Labels to make, from evidence or through the operator's endpoint."""
    methods = service.CreateLabelsRequest
    return service.CreateLabelsRequest(
        dataset=resource(dataset, "datasets"),
        features=list(features),
        clusters=list(clusters),
        method=methods.METHOD_ENDPOINT if endpoint else methods.METHOD_EVIDENCE,
        request_id=request_id or fresh_id(),
    )
