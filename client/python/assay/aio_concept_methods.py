# ruff: noqa: ASYNC109 - a call's deadline travels to the server with it, which asyncio.timeout cannot do
"""What the asyncio client does with concepts, feature clusters and labels: `assay.concept_methods` with ``await``.

Arguments, results and errors are those of the blocking client's methods, where each is described.
"""

from collections.abc import AsyncIterator, Iterable

from assay import concept_calls
from assay.aio_connection import AsyncConnection
from assay.audit_calls import Named, name_of
from assay.concepts import ClusterSummary, ConceptSource, FeatureCluster, LabelSummary, ProbeMethod, StoredConcept
from assay.operations import AsyncOperation


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
        """Starts the making of a concept, and returns at once; one that needs no forward pass is done then."""
        request = concept_calls.create_request(
            display_name,
            source,
            concept_id=concept_id,
            method=method,
            held_out=held_out,
            random_directions=random_directions,
            max_features=max_features,
            seed=seed,
            request_id=request_id,
        )
        return self._handle(await self._ask(self._concepts.CreateConcept, request, timeout))

    async def concepts(self, *, timeout: float | None = None) -> AsyncIterator[StoredConcept]:
        """All concepts of the loaded subject, newest first, page by page."""
        pages = self._pages(self._concepts.ListConcepts, concept_calls.concepts_request, "concepts", timeout)
        async for message in pages:
            yield StoredConcept.from_proto(message)

    async def concept(self, name: str, *, timeout: float | None = None) -> StoredConcept:
        """One concept, by its name or id."""
        answer = await self._ask(self._concepts.GetConcept, concept_calls.concept_request(name), timeout)
        return StoredConcept.from_proto(answer.concept)

    async def delete_concept(self, concept: Named | str, *, timeout: float | None = None) -> None:
        """Deletes a concept; audits that tested it keep what they found."""
        await self._ask(self._concepts.DeleteConcept, concept_calls.delete_request(name_of(concept)), timeout)

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
        """Starts clustering the SAE's features by how they fire together on a dataset; replaces the clusters in use."""
        request = concept_calls.compute_clusters_request(
            name_of(dataset),
            edge_share=edge_share,
            min_size=min_size,
            resolution=resolution,
            seed=seed,
            request_id=request_id,
        )
        return self._handle(await self._ask(self._concepts.ComputeClusters, request, timeout))

    async def clusters(self, *, timeout: float | None = None) -> AsyncIterator[FeatureCluster]:
        """The feature clusters in use, by id, page by page."""
        pages = self._pages(self._concepts.ListClusters, concept_calls.clusters_request, "clusters", timeout)
        async for message in pages:
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
        """Starts labelling features or clusters; labels never enter a test."""
        request = concept_calls.labels_request(name_of(dataset), features, clusters, endpoint, request_id)
        return self._handle(await self._ask(self._concepts.CreateLabels, request, timeout))
