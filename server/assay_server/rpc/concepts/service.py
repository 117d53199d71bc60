"""ConceptService: concepts, feature clusters, labels. Translation only: the jobs do the work and store its results."""

from assay.v1 import concept_service_pb2, concept_service_pb2_grpc
from google.longrunning import operations_pb2

from assay_server.rpc import names
from assay_server.rpc.concepts import messages as concept_messages
from assay_server.rpc.concepts.requests import read_clusters, read_create, read_labels
from assay_server.rpc.operations import OperationMessages
from assay_server.rpc.paging import Place, open_offset, page_after, read_page_size, seal_token
from assay_server.rpc.state import Context, ServerState


class ConceptServicer(concept_service_pb2_grpc.ConceptServiceServicer):
    """Translates between the contract and the concept jobs."""

    def __init__(self, state: ServerState, operations: OperationMessages) -> None:
        self._state = state
        self._operations = operations
        operations.register("concepts/", self._concept)
        operations.register("clusters", self._clusters)
        operations.register("labels/", self._labels)

    async def CreateConcept(
        self, request: concept_service_pb2.CreateConceptRequest, context: Context
    ) -> operations_pb2.Operation:
        """Makes a concept."""
        concepts = self._state.library.concepts
        info = await concepts.create(read_create(request, self._state.loaded.bounds))
        return await self._operations.message(info)

    async def GetConcept(
        self, request: concept_service_pb2.GetConceptRequest, context: Context
    ) -> concept_service_pb2.GetConceptResponse:
        """One concept."""
        name = names.stored_concept_name(request.name, "name")
        return concept_service_pb2.GetConceptResponse(concept=await self._concept(name))

    async def ListConcepts(
        self, request: concept_service_pb2.ListConceptsRequest, context: Context
    ) -> concept_service_pb2.ListConceptsResponse:
        """A page of the loaded subject's concepts, newest first."""
        page, token = page_after(
            self._state.library.concepts.all(),
            lambda stored: Place(stored.name, stored.created),
            size=request.page_size,
            token=request.page_token,
            question=("ListConcepts",),
        )
        labels = self._state.loaded.labels
        return concept_service_pb2.ListConceptsResponse(
            concepts=[concept_messages.concept(stored, labels) for stored in page], next_page_token=token
        )

    async def DeleteConcept(
        self, request: concept_service_pb2.DeleteConceptRequest, context: Context
    ) -> concept_service_pb2.DeleteConceptResponse:
        """Deletes a concept."""
        await self._state.library.concepts.delete(names.stored_concept_name(request.name, "name"))
        return concept_service_pb2.DeleteConceptResponse()

    async def ComputeClusters(
        self, request: concept_service_pb2.ComputeClustersRequest, context: Context
    ) -> operations_pb2.Operation:
        """Clusters the SAE's features."""
        return await self._operations.message(await self._state.library.clusters.compute(read_clusters(request)))

    async def ListClusters(
        self, request: concept_service_pb2.ListClustersRequest, context: Context
    ) -> concept_service_pb2.ListClustersResponse:
        """A page of the clusters in use, by id."""
        library = self._state.library
        clusters = library.clusters.in_use.clusters
        question = ("ListClusters",)
        start = open_offset(request.page_token, question)
        stop = start + read_page_size(request.page_size)
        page = clusters[start:stop]
        called = await library.labels.of_clusters(page)
        return concept_service_pb2.ListClustersResponse(
            clusters=[concept_messages.cluster(entry, label) for entry, label in zip(page, called, strict=True)],
            next_page_token=seal_token(str(stop), question) if stop < len(clusters) else "",
            total_size=len(clusters),
        )

    async def CreateLabels(self, request: concept_service_pb2.CreateLabelsRequest, context: Context) -> operations_pb2.Operation:
        """Labels features or clusters."""
        labels = self._state.library.labels
        return await self._operations.message(await labels.create(read_labels(request, self._state.loaded.bounds)))

    async def _concept(self, name: str) -> concept_service_pb2.Concept:
        return concept_messages.concept(self._state.library.concepts.get(name), self._state.loaded.labels)

    async def _clusters(self, name: str) -> concept_service_pb2.ClusterSummary:
        return concept_messages.cluster_summary(self._state.library.clusters.in_use)

    async def _labels(self, name: str) -> concept_service_pb2.LabelSummary:
        return concept_messages.label_summary(await self._state.library.labels.summary(name))
