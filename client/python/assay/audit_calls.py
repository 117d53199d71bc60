"""Requests of AuditService and of Operations, and how their answers are read: what both clients share.

Invariant: whatever creates something carries a request id, made up where the caller gives none, so that a call that gRPC sends
again does not do its work twice.
"""

import uuid
from pathlib import Path
from typing import Protocol

from google.longrunning import operations_pb2

from assay.audits import AuditOptions
from assay.data.files import PairFile
from assay.hypotheses import DecisionMode, mode_to_wire
from assay.v1 import audit_pb2
from assay.v1 import audit_service_pb2 as service

PAGE_SIZE = 500

Formats = service.ExportAuditRequest.Format
FORMATS = {"html": service.ExportAuditRequest.FORMAT_HTML, "parquet": service.ExportAuditRequest.FORMAT_PARQUET}


class Named(Protocol):
    """A result that is a resource: a dataset, an audit, a hypothesis, a concept."""

    @property
    def name(self) -> str:
        """Its resource name."""
        ...


def name_of(thing: Named | str) -> str:
    """The name of a resource that is given as itself or by its name."""
    return thing if isinstance(thing, str) else thing.name


def fresh_id() -> str:
    """A request id that nobody else has."""
    return uuid.uuid4().hex


def resource(name: str, collection: str) -> str:
    """A resource's full name: "abc" of the collection "audits" is "audits/abc"."""
    return name if name.startswith(f"{collection}/") else f"{collection}/{name}"


def file_name(source: object) -> str:
    """The name of a file of pairs; "" for what comes from no file."""
    path = source.path if isinstance(source, PairFile) else source
    return Path(path).name if isinstance(path, str | Path) else ""


def hypothesis_name(audit: str, hypothesis: str) -> str:
    """A hypothesis's full name, from its own or from its audit's and its id."""
    return hypothesis if hypothesis.startswith("audits/") else f"{resource(audit, 'audits')}/hypotheses/{hypothesis}"


def dataset_request(name: str) -> service.GetDatasetRequest:
    """One dataset."""
    return service.GetDatasetRequest(name=resource(name, "datasets"))


def datasets_request(token: str) -> service.ListDatasetsRequest:
    """A page of datasets."""
    return service.ListDatasetsRequest(page_size=PAGE_SIZE, page_token=token)


def delete_dataset_request(name: str) -> service.DeleteDatasetRequest:
    """A dataset to delete."""
    return service.DeleteDatasetRequest(name=resource(name, "datasets"))


def import_request(uri: str, display_name: str, request_id: str | None) -> service.ImportPairsRequest:
    """A file that the server reads itself."""
    return service.ImportPairsRequest(uri=uri, display_name=display_name, request_id=request_id or "")


def audit_request(dataset: str, options: AuditOptions, display_name: str, request_id: str | None) -> service.CreateAuditRequest:
    """An audit to make."""
    return service.CreateAuditRequest(
        dataset=resource(dataset, "datasets"),
        display_name=display_name,
        options=options.to_proto(),
        request_id=request_id or fresh_id(),
    )


def get_audit_request(name: str) -> service.GetAuditRequest:
    """One audit."""
    return service.GetAuditRequest(name=resource(name, "audits"))


def audits_request(dataset: str, token: str) -> service.ListAuditsRequest:
    """A page of audits."""
    wanted = resource(dataset, "datasets") if dataset else ""
    return service.ListAuditsRequest(page_size=PAGE_SIZE, page_token=token, dataset=wanted)


def delete_audit_request(name: str) -> service.DeleteAuditRequest:
    """An audit to delete."""
    return service.DeleteAuditRequest(name=resource(name, "audits"))


def statement_request(
    dataset: str,
    concept: str,
    where: tuple[str, str] | str | None,
    where_prompt: str,
    options: AuditOptions,
    request_id: str | None,
) -> service.TestHypothesisRequest:
    """A stated hypothesis; ValueError where two conditions are given."""
    if where is not None and where_prompt:
        raise ValueError("a hypothesis has one condition: give where or where_prompt, not both")
    request = service.TestHypothesisRequest(
        dataset=resource(dataset, "datasets"),
        concept=concept,
        options=options.to_proto(),
        request_id=request_id or fresh_id(),
    )
    if where_prompt:
        request.prompt_concept = where_prompt
    elif isinstance(where, str):
        request.audit_condition = where
    elif where is not None:
        request.metadata.key, request.metadata.value = where
    return request


def hypotheses_request(audit: str, filter_: str, order_by: str, page_size: int, token: str) -> service.ListHypothesesRequest:
    """A page of hypotheses."""
    parent = resource(audit, "audits")
    return service.ListHypothesesRequest(parent=parent, page_size=page_size, page_token=token, filter=filter_, order_by=order_by)


def hypothesis_request(name: str, highlights: bool) -> service.GetHypothesisRequest:
    """One hypothesis with its evidence."""
    return service.GetHypothesisRequest(name=name, highlights=highlights)


def export_request(audit: str, format_: str) -> service.ExportAuditRequest:
    """An audit as a file; ValueError where the form is unknown."""
    if format_ not in FORMATS:
        raise ValueError(f"format is {format_!r}; an audit is exported as {' or '.join(FORMATS)}")
    return service.ExportAuditRequest(name=resource(audit, "audits"), format=FORMATS[format_])


def decision_request(
    hypothesis: str, mode: DecisionMode, strength: float | None, note: str, author: str, request_id: str | None
) -> service.RecordDecisionRequest:
    """A decision to record."""
    decision = audit_pb2.Decision(hypothesis=hypothesis, strength=strength, note=note, author=author)
    decision.mode = mode_to_wire(mode)  # pyright: ignore[reportAttributeAccessIssue]
    return service.RecordDecisionRequest(decision=decision, request_id=request_id or fresh_id())


def decisions_request(audit: str, token: str) -> service.ListDecisionsRequest:
    """A page of decisions; of all audits where none is named."""
    return service.ListDecisionsRequest(parent=resource(audit or "-", "audits"), page_size=PAGE_SIZE, page_token=token)


def operation_request(name: str) -> operations_pb2.GetOperationRequest:
    """An operation to look at."""
    return operations_pb2.GetOperationRequest(name=resource(name, "operations"))


def cancel_request(name: str) -> operations_pb2.CancelOperationRequest:
    """An operation to stop."""
    return operations_pb2.CancelOperationRequest(name=resource(name, "operations"))


def operations_request(token: str) -> operations_pb2.ListOperationsRequest:
    """A page of operations."""
    return operations_pb2.ListOperationsRequest(name="operations", page_size=PAGE_SIZE, page_token=token)
