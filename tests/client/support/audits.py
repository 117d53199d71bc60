"""AuditService, ConceptService and Operations with scripted manners, in memory: for what only the wire can show.

It tests nothing and finds nothing: audits are what the test put there. The jobs have their own tests, and the whole its own
end-to-end ones.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from assay.v1 import (
    audit_pb2,
    audit_service_pb2_grpc,
    concept_service_pb2,
    concept_service_pb2_grpc,
    pair_pb2,
)
from assay.v1 import (
    audit_service_pb2 as service,
)
from assay.v1 import (
    operations_pb2 as assay_operations_pb2,
)
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.rpc import status_pb2

Fail = Callable[[Any, status_pb2.Status], None]
Rich = Callable[..., status_pb2.Status]


@dataclass
class Shelf:
    """What the scripted services keep, and how they behave.

    Attributes:
        upload_ends: how the next uploads end, one each: (batches stored before, status).
        seconds_a_batch: how long storing one takes.
        drops_a_pair: make datasets that lack their last pair.
        states: what looking at any operation gives, one a look; the last one stays.
        created: what the next CreateAudit give, one each; then an operation that waits.
        refusals: how the next looks fail, one each.
        hypotheses: of every audit.
        cards: of every audit.
        fingerprint: of every audit's result.
        undecidable: how deciding on a hypothesis fails, by its name.
        requests: everything that was asked, by method.
    """

    upload_ends: deque[tuple[int, status_pb2.Status]] = field(default_factory=deque)
    seconds_a_batch: float = 0.0
    drops_a_pair: bool = False
    uploads: dict[str, list[list[pair_pb2.Pair]]] = field(default_factory=dict)
    complete: dict[str, audit_pb2.Dataset] = field(default_factory=dict)
    forget: bool = False
    received: list[list[int]] = field(default_factory=list)  # sequences, by connection
    states: deque[operations_pb2.Operation] = field(default_factory=deque)
    created: deque[operations_pb2.Operation] = field(default_factory=deque)
    refusals: deque[status_pb2.Status] = field(default_factory=deque)
    stopped: list[str] = field(default_factory=list)
    hypotheses: list[audit_pb2.Hypothesis] = field(default_factory=list)
    cards: list[audit_pb2.Card] = field(default_factory=list)
    fingerprint: str = ""
    undecidable: dict[str, status_pb2.Status] = field(default_factory=dict)
    decisions: list[audit_pb2.Decision] = field(default_factory=list)
    file: bytes = b""
    file_breaks: bool = False
    requests: list[tuple[str, Any]] = field(default_factory=list)

    def asked(self, method: str) -> list[Any]:
        return [request for name, request in self.requests if name == method]


def operation(
    name: str = "operations/one",
    *,
    phase: str = "scoring",
    done: int = 0,
    total: int = 0,
    made: Any = None,
    error: status_pb2.Status | None = None,
) -> operations_pb2.Operation:
    """An operation; over where it made something or failed."""
    message = operations_pb2.Operation(name=name, done=made is not None or error is not None)
    metadata = assay_operations_pb2.OperationMetadata(target="audits/one", phase=phase, pairs_done=done, pairs_total=total)
    message.metadata.Pack(metadata)
    if made is not None:
        message.response.Pack(made)
    if error is not None:
        message.error.CopyFrom(error)
    return message


class Audits(audit_service_pb2_grpc.AuditServiceServicer):
    def __init__(self, shelf: Shelf, fail: Fail, rich: Rich) -> None:
        self._shelf = shelf
        self._fail = fail
        self._rich = rich

    def UploadPairs(self, requests: Iterator[Any], context: grpc.ServicerContext) -> service.UploadPairsResponse:
        shelf = self._shelf
        options = next(requests).options
        shelf.requests.append(("UploadPairs", options))
        batches = shelf.uploads.setdefault(options.request_id, [])
        sequences: list[int] = []
        shelf.received.append(sequences)
        end = shelf.upload_ends.popleft() if shelf.upload_ends else None
        announced: int | None = None
        for stored, request in enumerate(requests):
            if end is not None and stored >= end[0]:
                self._fail(context, end[1])
            if request.WhichOneof("payload") == "end":
                announced = request.end.pairs
                continue
            sequence = request.batch.sequence
            sequences.append(sequence)
            if options.request_id in shelf.complete:
                continue
            if sequence > len(batches):
                self._fail(context, self._rich("FAILED_PRECONDITION", "a gap", reason="SEQUENCE_GAP"))
            time.sleep(shelf.seconds_a_batch)
            if sequence == len(batches):
                batches.append(list(request.batch.pairs))
        if end is not None:
            self._fail(context, end[1])
        known = shelf.complete.get(options.request_id)
        if known is not None and announced in (None, known.pairs):
            return service.UploadPairsResponse(dataset=known)
        pairs = [pair for batch in batches for pair in batch]
        if announced != len(pairs):
            self._fail(context, self._rich("FAILED_PRECONDITION", f"{announced} announced", reason="UPLOAD_INCOMPLETE"))
        if shelf.drops_a_pair:
            pairs.pop()
        digest = hashlib.sha256(b"".join(pair.SerializeToString(deterministic=True) for pair in pairs)).hexdigest()
        dataset = audit_pb2.Dataset(
            name=f"datasets/{digest[:24]}", display_name=options.display_name, fingerprint=digest, pairs=len(pairs)
        )
        dataset.create_time.FromSeconds(1_700_000_000)
        shelf.complete[options.request_id] = dataset
        return service.UploadPairsResponse(dataset=dataset)

    def GetUpload(self, request: Any, context: grpc.ServicerContext) -> service.GetUploadResponse:
        self._shelf.requests.append(("GetUpload", request))
        if self._shelf.forget:
            return service.GetUploadResponse()
        batches = self._shelf.uploads.get(request.request_id, [])
        dataset = self._shelf.complete.get(request.request_id)
        if dataset is not None:
            return service.GetUploadResponse(pairs=dataset.pairs, dataset=dataset)
        return service.GetUploadResponse(next_sequence=len(batches), pairs=sum(map(len, batches)))

    def ListDatasets(self, request: Any, context: grpc.ServicerContext) -> service.ListDatasetsResponse:
        self._shelf.requests.append(("ListDatasets", request))
        kept = list(self._shelf.complete.values())
        at = int(request.page_token or 0)
        return service.ListDatasetsResponse(datasets=kept[at : at + 1], next_page_token=str(at + 1) if at + 1 < len(kept) else "")

    def GetDataset(self, request: Any, context: grpc.ServicerContext) -> service.GetDatasetResponse:
        self._shelf.requests.append(("GetDataset", request))
        return service.GetDatasetResponse(dataset=audit_pb2.Dataset(name=request.name, metadata_keys=["topic"]))

    def DeleteDataset(self, request: Any, context: grpc.ServicerContext) -> service.DeleteDatasetResponse:
        self._shelf.requests.append(("DeleteDataset", request))
        return service.DeleteDatasetResponse()

    def CreateAudit(self, request: Any, context: grpc.ServicerContext) -> operations_pb2.Operation:
        self._shelf.requests.append(("CreateAudit", request))
        return self._shelf.created.popleft() if self._shelf.created else operation(phase="waiting")

    def TestHypothesis(self, request: Any, context: grpc.ServicerContext) -> operations_pb2.Operation:
        self._shelf.requests.append(("TestHypothesis", request))
        return operation(phase="waiting")

    def GetAudit(self, request: Any, context: grpc.ServicerContext) -> service.GetAuditResponse:
        self._shelf.requests.append(("GetAudit", request))
        audit = audit_pb2.Audit(name=request.name, state=audit_pb2.Audit.STATE_DONE, result_fingerprint=self._shelf.fingerprint)
        return service.GetAuditResponse(audit=audit)

    def ListAudits(self, request: Any, context: grpc.ServicerContext) -> service.ListAuditsResponse:
        self._shelf.requests.append(("ListAudits", request))
        return service.ListAuditsResponse(audits=[audit_pb2.Audit(name="audits/one", dataset=request.dataset)])

    def DeleteAudit(self, request: Any, context: grpc.ServicerContext) -> service.DeleteAuditResponse:
        self._shelf.requests.append(("DeleteAudit", request))
        return service.DeleteAuditResponse()

    def ListHypotheses(self, request: Any, context: grpc.ServicerContext) -> service.ListHypothesesResponse:
        self._shelf.requests.append(("ListHypotheses", request))
        at = int(request.page_token or 0)
        page = self._shelf.hypotheses[at : at + request.page_size]
        more = at + len(page) < len(self._shelf.hypotheses)
        return service.ListHypothesesResponse(hypotheses=page, next_page_token=str(at + len(page)) if more else "")

    def ListCards(self, request: Any, context: grpc.ServicerContext) -> service.ListCardsResponse:
        self._shelf.requests.append(("ListCards", request))
        return service.ListCardsResponse(cards=self._shelf.cards)

    def GetHypothesis(self, request: Any, context: grpc.ServicerContext) -> service.GetHypothesisResponse:
        self._shelf.requests.append(("GetHypothesis", request))
        return service.GetHypothesisResponse(hypothesis=self._shelf.hypotheses[0])

    def ExportAudit(self, request: Any, context: grpc.ServicerContext) -> Iterator[service.ExportAuditResponse]:
        self._shelf.requests.append(("ExportAudit", request))
        for at in range(0, len(self._shelf.file), 7):
            yield service.ExportAuditResponse(data=self._shelf.file[at : at + 7])
        if self._shelf.file_breaks:
            self._fail(context, self._rich("INTERNAL", "the disk is gone", reason="INCIDENT"))

    def RecordDecision(self, request: Any, context: grpc.ServicerContext) -> service.RecordDecisionResponse:
        self._shelf.requests.append(("RecordDecision", request))
        if request.decision.hypothesis in self._shelf.undecidable:
            self._fail(context, self._shelf.undecidable[request.decision.hypothesis])
        decision = audit_pb2.Decision()
        decision.CopyFrom(request.decision)
        decision.name = f"audits/one/decisions/{len(self._shelf.decisions)}"
        self._shelf.decisions.append(decision)
        return service.RecordDecisionResponse(decision=decision)

    def ListDecisions(self, request: Any, context: grpc.ServicerContext) -> service.ListDecisionsResponse:
        self._shelf.requests.append(("ListDecisions", request))
        return service.ListDecisionsResponse(decisions=self._shelf.decisions)


class Concepts(concept_service_pb2_grpc.ConceptServiceServicer):
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def CreateConcept(self, request: Any, context: grpc.ServicerContext) -> operations_pb2.Operation:
        self._shelf.requests.append(("CreateConcept", request))
        concept = concept_service_pb2.Concept(name=f"concepts/{request.concept_id or 'made'}", display_name=request.display_name)
        concept.report.auroc = 0.75
        concept.report.held_out_positive = 3
        concept.nearest.add(feature=7, cosine=0.5, label="warmth")
        concept.direction.CopyFrom(pair_pb2.Tensor(dtype=pair_pb2.Tensor.DTYPE_FLOAT32, shape=[1], data=b"\0\0\x80?"))
        return operation(phase="fitting", made=concept)

    def ListConcepts(self, request: Any, context: grpc.ServicerContext) -> concept_service_pb2.ListConceptsResponse:
        self._shelf.requests.append(("ListConcepts", request))
        concept = concept_service_pb2.Concept(name="concepts/one", feature=7)
        return concept_service_pb2.ListConceptsResponse(concepts=[concept])

    def GetConcept(self, request: Any, context: grpc.ServicerContext) -> concept_service_pb2.GetConceptResponse:
        self._shelf.requests.append(("GetConcept", request))
        concept = concept_service_pb2.Concept(name=request.name)
        concept.features.CopyFrom(pair_pb2.SparseVector(indices=[3, 9], values=[1.0, 0.5]))
        return concept_service_pb2.GetConceptResponse(concept=concept)

    def DeleteConcept(self, request: Any, context: grpc.ServicerContext) -> concept_service_pb2.DeleteConceptResponse:
        self._shelf.requests.append(("DeleteConcept", request))
        return concept_service_pb2.DeleteConceptResponse()

    def ComputeClusters(self, request: Any, context: grpc.ServicerContext) -> operations_pb2.Operation:
        self._shelf.requests.append(("ComputeClusters", request))
        return operation(made=concept_service_pb2.ClusterSummary(clusters=4, features=40))

    def ListClusters(self, request: Any, context: grpc.ServicerContext) -> concept_service_pb2.ListClustersResponse:
        self._shelf.requests.append(("ListClusters", request))
        cluster = concept_service_pb2.FeatureCluster(name="cluster/3", id=3, features=[1, 2, 5, 8], label="lists")
        return concept_service_pb2.ListClustersResponse(clusters=[cluster], total_size=1)

    def CreateLabels(self, request: Any, context: grpc.ServicerContext) -> operations_pb2.Operation:
        self._shelf.requests.append(("CreateLabels", request))
        return operation(made=concept_service_pb2.LabelSummary(labelled=2, failed=1, median_detection_score=0.75))


class Operations(operations_pb2_grpc.OperationsServicer):
    def __init__(self, shelf: Shelf, fail: Fail) -> None:
        self._shelf = shelf
        self._fail = fail

    def GetOperation(self, request: Any, context: grpc.ServicerContext) -> operations_pb2.Operation:
        self._shelf.requests.append(("GetOperation", request))
        if self._shelf.refusals:
            self._fail(context, self._shelf.refusals.popleft())
        states = self._shelf.states
        return states.popleft() if len(states) > 1 else states[0]

    def ListOperations(self, request: Any, context: grpc.ServicerContext) -> operations_pb2.ListOperationsResponse:
        self._shelf.requests.append(("ListOperations", request))
        return operations_pb2.ListOperationsResponse(operations=list(self._shelf.states))

    def CancelOperation(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self._shelf.stopped.append(request.name)
        return empty_pb2.Empty()


def add_audits(shelf: Shelf, server: grpc.Server, fail: Fail, rich: Rich) -> None:
    """Adds the three services."""
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(Audits(shelf, fail, rich), server)
    concept_service_pb2_grpc.add_ConceptServiceServicer_to_server(Concepts(shelf), server)
    operations_pb2_grpc.add_OperationsServicer_to_server(Operations(shelf, fail), server)
