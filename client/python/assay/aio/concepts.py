# ruff: noqa: ASYNC109 - a call's deadline travels to the server with it
"""What the asyncio client does with stored concepts, feature clusters and labels; `assay.concepts` has the sources."""

from collections.abc import AsyncIterator, Iterable

from assay.aio.connection import AsyncConnection
from assay.aio.operations import AsyncOperation
from assay.concepts import (
    ClusterSummary,
    ConceptSource,
    FeatureCluster,
    LabelSummary,
    ProbeMethod,
    StoredConcept,
    set_source,
)
from assay.names import PAGE_SIZE, Named, fresh_id, resource
from assay.v1 import concept_service_pb2 as service
from assay.wire import to_wire


class AsyncConceptMethods(AsyncConnection):
    """Stored concepts, feature clusters, labels."""

    async def create_concept(
        self,
        display_name: str,
        source: ConceptSource,
        *,
        concept_id: str = "",
        method: ProbeMethod | None = None,
        held_out: float | None = None,
        random_directions: int | None = None,
        max_features: int | None = None,
        seed: int = 0,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncOperation[StoredConcept]:
        """Starts creating a concept, and returns at once; one that needs no forward pass is done by then.

        Args:
            display_name: display name.
            source: what it is made of; the table is in `assay.concepts`.
            concept_id: letters, digits, "-" and "_", at most 64; by default made from the display name.
            method: what examples become; a direction by difference of means by default.
            held_out: share of the examples held out for the report (0.3).
            random_directions: random directions of the baseline (64).
            max_features: most features that `ProbeMethod.FEATURES` takes (3).
            seed: of every random choice.
            request_id: the same id gives the same operation.
            timeout: timeout of the start, in seconds.
        """
        request = service.CreateConceptRequest(
            concept_id=concept_id,
            display_name=display_name,
            method=to_wire(service.ProbeMethod, "PROBE_METHOD", method),
            held_out=held_out,
            random_directions=random_directions,
            max_features=max_features,
            seed=seed,
            request_id=request_id or fresh_id(),
        )
        set_source(request, source)
        return self._handle(await self._ask(self._concepts.CreateConcept, request, timeout))

    async def concepts(self, *, timeout: float | None = None) -> AsyncIterator[StoredConcept]:
        """All concepts of the loaded subject, newest first, page by page."""
        request = service.ListConceptsRequest(page_size=PAGE_SIZE)
        async for message in self._pages(self._concepts.ListConcepts, request, "concepts", timeout):
            yield StoredConcept.from_proto(message)

    async def concept(self, name: str, *, timeout: float | None = None) -> StoredConcept:
        """One concept, by its name or id."""
        request = service.GetConceptRequest(name=resource(name, "concepts"))
        answer = await self._ask(self._concepts.GetConcept, request, timeout)
        return StoredConcept.from_proto(answer.concept)

    async def delete_concept(self, concept: Named | str, *, timeout: float | None = None) -> None:
        """Deletes a concept; audits that tested it keep what they found."""
        request = service.DeleteConceptRequest(name=resource(concept, "concepts"))
        await self._ask(self._concepts.DeleteConcept, request, timeout)

    async def compute_clusters(
        self,
        dataset: Named | str,
        *,
        edge_share: float | None = None,
        min_size: int | None = None,
        resolution: float | None = None,
        seed: int = 0,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncOperation[ClusterSummary]:
        """Starts clustering the SAE's features by how they fire together on a dataset; replaces the clusters in use.

        Args:
            dataset: the reference corpus, each response one sample.
            edge_share: share of the feature pairs that become edges (0.01).
            min_size: fewest features of a cluster (4).
            resolution: of the Leiden partition (1).
            seed: of every random choice.
            request_id: the same id gives the same operation.
            timeout: timeout of the start, in seconds.
        """
        request = service.ComputeClustersRequest(
            dataset=resource(dataset, "datasets"),
            edge_share=edge_share,
            min_size=min_size,
            resolution=resolution,
            seed=seed,
            request_id=request_id or fresh_id(),
        )
        return self._handle(await self._ask(self._concepts.ComputeClusters, request, timeout))

    async def clusters(self, *, timeout: float | None = None) -> AsyncIterator[FeatureCluster]:
        """The feature clusters in use, by id, page by page."""
        request = service.ListClustersRequest(page_size=PAGE_SIZE)
        async for message in self._pages(self._concepts.ListClusters, request, "clusters", timeout):
            yield FeatureCluster.from_proto(message)

    async def create_labels(
        self,
        dataset: Named | str,
        *,
        features: Iterable[int] = (),
        clusters: Iterable[int] = (),
        endpoint: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncOperation[LabelSummary]:
        """Starts labelling features or clusters; labels never enter a test.

        Args:
            dataset: where the evidence comes from.
            features: feature ids; with `clusters` empty too, all that fire in the dataset.
            clusters: cluster ids.
            endpoint: ask the operator's language model, instead of naming the tokens of the evidence.
            request_id: the same id gives the same operation.
            timeout: timeout of the start, in seconds.
        """
        methods = service.CreateLabelsRequest
        request = service.CreateLabelsRequest(
            dataset=resource(dataset, "datasets"),
            features=features,
            clusters=clusters,
            method=methods.METHOD_ENDPOINT if endpoint else methods.METHOD_EVIDENCE,
            request_id=request_id or fresh_id(),
        )
        return self._handle(await self._ask(self._concepts.CreateLabels, request, timeout))
