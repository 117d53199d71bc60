"""AuditService: datasets, audits, hypotheses, decisions. Translation only: the jobs do the work and store its results.

Invariant: a request is checked whole before the jobs get any of it; names that reach them are well-formed.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from assay.v1 import audit_pb2, audit_service_pb2, audit_service_pb2_grpc, comparison_pb2
from google.longrunning import operations_pb2

from assay_server.errors import DataLoss, NotFound
from assay_server.jobs.audits.types import HypothesisDetail
from assay_server.report.model import Sides
from assay_server.rpc import names
from assay_server.rpc.audits import messages as audit_messages
from assay_server.rpc.audits.comparisons import comparison, read_comparison
from assay_server.rpc.audits.exporting import export
from assay_server.rpc.audits.highlights import Wanted, check_same_subject, read_again
from assay_server.rpc.audits.hypotheses import check_question, hypotheses_page
from assay_server.rpc.audits.reports import audit_cards
from assay_server.rpc.audits.requests import FORMATS, read_decision, read_decisions_parent, read_settings, read_stated, read_uri
from assay_server.rpc.audits.uploads import PairUpload
from assay_server.rpc.operations import OperationMessages
from assay_server.rpc.paging import Place, page_after
from assay_server.rpc.state import Context, ServerState, deadline_of


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Translates between the contract and the audit jobs."""

    def __init__(self, state: ServerState, operations: OperationMessages) -> None:
        self._state = state
        self._operations = operations
        operations.register("datasets/", self._dataset)
        operations.register("audits/", self._audited)
        operations.register("comparisons/", self._compared, listed=self._compared_briefly)

    # Datasets

    async def UploadPairs(self, request_iterator: object, context: Context) -> audit_service_pb2.UploadPairsResponse:
        """Stores a stream of pairs."""
        datasets = self._state.library.datasets
        self._state.enter_stream()
        try:
            info = await PairUpload(self._state, datasets, context).run()
        finally:
            self._state.leave_stream()
        return audit_service_pb2.UploadPairsResponse(dataset=audit_messages.dataset(info))

    async def GetUpload(
        self, request: audit_service_pb2.GetUploadRequest, context: Context
    ) -> audit_service_pb2.GetUploadResponse:
        """How much of an upload is stored."""
        request_id = names.request_id(request.request_id, "request_id", required=True)
        position = await self._state.library.datasets.position(request_id)
        return audit_service_pb2.GetUploadResponse(
            next_sequence=position.next_sequence,
            pairs=position.pairs,
            dataset=None if position.dataset is None else audit_messages.dataset(position.dataset),
        )

    async def ImportPairs(self, request: audit_service_pb2.ImportPairsRequest, context: Context) -> operations_pb2.Operation:
        """Stores pairs from a file."""
        uri = read_uri(request.uri)
        display_name = names.short_text(request.display_name, "display_name")
        request_id = names.request_id(request.request_id, "request_id")
        return await self._operations.message(await self._state.library.datasets.imports.begin(uri, display_name, request_id))

    async def GetDataset(
        self, request: audit_service_pb2.GetDatasetRequest, context: Context
    ) -> audit_service_pb2.GetDatasetResponse:
        """One dataset."""
        return audit_service_pb2.GetDatasetResponse(dataset=await self._dataset(names.dataset_name(request.name, "name")))

    async def ListDatasets(
        self, request: audit_service_pb2.ListDatasetsRequest, context: Context
    ) -> audit_service_pb2.ListDatasetsResponse:
        """A page of datasets."""
        page, token = page_after(
            await self._state.library.datasets.all(),
            lambda info: Place(info.name, info.created),
            size=request.page_size,
            token=request.page_token,
            question=("ListDatasets",),
        )
        datasets: list[audit_pb2.Dataset] = []
        for info in page:
            with suppress(NotFound, DataLoss):  # deleted or damaged meanwhile
                datasets.append(await self._dataset(info.name))
        return audit_service_pb2.ListDatasetsResponse(datasets=datasets, next_page_token=token)

    async def DeleteDataset(
        self, request: audit_service_pb2.DeleteDatasetRequest, context: Context
    ) -> audit_service_pb2.DeleteDatasetResponse:
        """Deletes a dataset."""
        await self._state.library.datasets.delete(names.dataset_name(request.name, "name"))
        return audit_service_pb2.DeleteDatasetResponse()

    # Audits

    async def CreateAudit(self, request: audit_service_pb2.CreateAuditRequest, context: Context) -> operations_pb2.Operation:
        """Begins an audit."""
        dataset = names.dataset_name(request.dataset, "dataset")
        display_name = names.short_text(request.display_name, "display_name")
        settings = read_settings(request.options, self._state.loaded.bounds)
        request_id = names.request_id(request.request_id, "request_id")
        info = await self._state.library.audits.create(dataset, settings, display_name=display_name, request_id=request_id)
        return await self._operations.message(info)

    async def GetAudit(self, request: audit_service_pb2.GetAuditRequest, context: Context) -> audit_service_pb2.GetAuditResponse:
        """One audit."""
        name = names.audit_name(request.name, "name")
        return audit_service_pb2.GetAuditResponse(audit=audit_messages.audit(await self._state.library.audits.get(name)))

    async def ListAudits(
        self, request: audit_service_pb2.ListAuditsRequest, context: Context
    ) -> audit_service_pb2.ListAuditsResponse:
        """A page of audits."""
        dataset = names.dataset_name(request.dataset, "dataset") if request.dataset else ""
        audits = [info for info in await self._state.library.audits.all() if not dataset or info.dataset == dataset]
        page, token = page_after(
            audits,
            lambda info: Place(info.name, info.created),
            size=request.page_size,
            token=request.page_token,
            question=("ListAudits", dataset),
        )
        return audit_service_pb2.ListAuditsResponse(audits=[audit_messages.audit(info) for info in page], next_page_token=token)

    async def DeleteAudit(
        self, request: audit_service_pb2.DeleteAuditRequest, context: Context
    ) -> audit_service_pb2.DeleteAuditResponse:
        """Deletes an audit."""
        await self._state.library.audits.delete(names.audit_name(request.name, "name"))
        return audit_service_pb2.DeleteAuditResponse()

    async def TestHypothesis(
        self, request: audit_service_pb2.TestHypothesisRequest, context: Context
    ) -> operations_pb2.Operation:
        """Begins the test of one stated hypothesis."""
        bounds = self._state.loaded.bounds
        dataset = names.dataset_name(request.dataset, "dataset")
        concept, condition = read_stated(request, bounds)
        settings = read_settings(request.options, bounds, stated=True)
        request_id = names.request_id(request.request_id, "request_id")
        info = await self._state.library.audits.test(dataset, concept, condition, settings, request_id=request_id)
        return await self._operations.message(info)

    # Results

    async def ListHypotheses(
        self, request: audit_service_pb2.ListHypothesesRequest, context: Context
    ) -> audit_service_pb2.ListHypothesesResponse:
        """A page of hypotheses."""
        check_question(request)
        result = await self._state.library.audits.result(request.parent)
        return await asyncio.to_thread(hypotheses_page, result, request)

    async def ListCards(
        self, request: audit_service_pb2.ListCardsRequest, context: Context
    ) -> audit_service_pb2.ListCardsResponse:
        """What an audit found, as cards."""
        name = names.audit_name(request.name, "name")
        cards = await audit_cards(self._state.library, self._state.loaded, name, deadline=deadline_of(context))
        return audit_service_pb2.ListCardsResponse(cards=[audit_messages.card(one) for one in cards])

    async def GetHypothesis(
        self, request: audit_service_pb2.GetHypothesisRequest, context: Context
    ) -> audit_service_pb2.GetHypothesisResponse:
        """One hypothesis with its evidence."""
        detail = await self._state.library.audits.hypothesis(names.hypothesis_name(request.name, "name"))
        highlights: Mapping[int, Sides] = {}
        if request.highlights:
            highlights = await self._highlights(detail, deadline_of(context))
        message = audit_messages.hypothesis_detail(detail, highlights)
        return audit_service_pb2.GetHypothesisResponse(hypothesis=message)

    async def ExportAudit(self, request: audit_service_pb2.ExportAuditRequest, context: Context) -> None:
        """Streams an audit as a file."""
        name, form = names.audit_name(request.name, "name"), FORMATS.read(request.format, "format")
        library = self._state.library
        self._state.enter_stream()
        try:
            async for chunk in export(library, self._state.loaded, name, form, deadline=deadline_of(context)):
                await context.write(audit_service_pb2.ExportAuditResponse(data=chunk))
        finally:
            self._state.leave_stream()

    # Decisions

    async def RecordDecision(
        self, request: audit_service_pb2.RecordDecisionRequest, context: Context
    ) -> audit_service_pb2.RecordDecisionResponse:
        """Records what training should do about a hypothesis's concept."""
        wanted = read_decision(request.decision)
        info = await self._state.library.audits.decide(
            wanted.hypothesis,
            wanted.mode,
            strength=wanted.strength,
            note=wanted.note,
            author=wanted.author,
            request_id=names.request_id(request.request_id, "request_id"),
        )
        return audit_service_pb2.RecordDecisionResponse(decision=audit_messages.decision(info))

    async def ListDecisions(
        self, request: audit_service_pb2.ListDecisionsRequest, context: Context
    ) -> audit_service_pb2.ListDecisionsResponse:
        """A page of decisions."""
        parent = read_decisions_parent(request.parent)
        page, token = page_after(
            await self._state.library.audits.decisions(parent),
            lambda info: Place(info.name, info.created),
            size=request.page_size,
            token=request.page_token,
            question=("ListDecisions", parent),
            newest_first=False,
        )
        decisions = [audit_messages.decision(info) for info in page]
        return audit_service_pb2.ListDecisionsResponse(decisions=decisions, next_page_token=token)

    # Comparisons

    async def CompareRollouts(
        self, request: audit_service_pb2.CompareRolloutsRequest, context: Context
    ) -> operations_pb2.Operation:
        """Begins a comparison of rollouts."""
        asked = read_comparison(request, self._state.loaded.bounds)
        request_id = names.request_id(request.request_id, "request_id")
        return await self._operations.message(await self._state.library.comparisons.create(asked, request_id=request_id))

    # Results of operations

    async def _dataset(self, name: str) -> audit_pb2.Dataset:
        return audit_messages.dataset(await self._state.library.datasets.get(name))

    async def _audited(self, name: str) -> audit_pb2.Audit | audit_pb2.Hypothesis:
        if "/hypotheses/" in name:
            return audit_messages.hypothesis_detail(await self._state.library.audits.hypothesis(name), {})
        return audit_messages.audit(await self._state.library.audits.get(name))

    async def _compared(self, name: str) -> comparison_pb2.RolloutComparison:
        found = await self._state.library.comparisons.get(name)
        return await asyncio.to_thread(comparison, found)

    async def _compared_briefly(self, name: str) -> comparison_pb2.RolloutComparison:
        return comparison(await self._state.library.comparisons.get(name, brief=True))

    async def _highlights(self, detail: HypothesisDetail, deadline: float | None) -> dict[int, Sides]:
        loaded = self._state.loaded
        audit = await self._state.library.audits.get("/".join(detail.hypothesis.name.split("/")[:2]))
        check_same_subject(audit.subject, loaded.scorer.info)
        concept = detail.hypothesis.concept
        features = concept.features[: loaded.bounds.limits.max_features_per_request]
        along = {} if detail.direction is None else {concept.name: detail.direction}
        wanted = {item.row: Wanted(item.pair, features, along) for item in (*detail.supporting, *detail.contradicting)}
        read = await read_again(loaded.scorer, wanted, deadline=deadline)
        return {row: pair.highlights(features, concept.name) for row, pair in read.items()}
