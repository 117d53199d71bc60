"""What the blocking client does with stored concepts, feature clusters and labels; `assay.concepts` has the sources."""

from collections.abc import Iterable, Iterator

from assay import concept_calls
from assay.audit_calls import Named, name_of
from assay.concepts import ClusterSummary, ConceptSource, FeatureCluster, LabelSummary, ProbeMethod, StoredConcept
from assay.connection import Connection
from assay.operations import Operation


class ConceptMethods(Connection):
    """Stored concepts, feature clusters, labels."""

    def create_concept(
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
    ) -> Operation[StoredConcept]:
        """Starts the making of a concept, and returns at once; one that needs no forward pass is done then.

        Args:
            display_name: for people.
            source: what it is made of; the table is in `assay.concepts`.
            concept_id: letters, digits, "-" and "_", at most 64; by default made from the display name.
            method: what examples become; a direction by difference of means by default.
            held_out: share of the examples that is held out for the report (0.3).
            random_directions: of the baseline (64).
            max_features: that `ProbeMethod.FEATURES` takes at most (3).
            seed: of every random choice.
            request_id: the same id gives the same operation.
            timeout: seconds that starting may take.
        """
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
        return self._handle(self._ask(self._concepts.CreateConcept, request, timeout))

    def concepts(self, *, timeout: float | None = None) -> Iterator[StoredConcept]:
        """All concepts of the loaded subject, newest first, page by page."""
        pages = self._pages(self._concepts.ListConcepts, concept_calls.concepts_request, "concepts", timeout)
        return map(StoredConcept.from_proto, pages)

    def concept(self, name: str, *, timeout: float | None = None) -> StoredConcept:
        """One concept, by its name or id."""
        answer = self._ask(self._concepts.GetConcept, concept_calls.concept_request(name), timeout)
        return StoredConcept.from_proto(answer.concept)

    def delete_concept(self, concept: Named | str, *, timeout: float | None = None) -> None:
        """Deletes a concept; audits that tested it keep what they found."""
        self._ask(self._concepts.DeleteConcept, concept_calls.delete_request(name_of(concept)), timeout)

    def compute_clusters(
        self,
        dataset: Named | str,
        *,
        edge_share: float | None = None,
        min_size: int | None = None,
        resolution: float | None = None,
        seed: int = 0,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Operation[ClusterSummary]:
        """Starts clustering the SAE's features by how they fire together on a dataset; replaces the clusters in use.

        Args:
            dataset: the reference corpus, each response one sample.
            edge_share: share of the feature pairs that become edges (0.01).
            min_size: features that a cluster needs (4).
            resolution: of the Leiden partition (1).
            seed: of every random choice.
            request_id: the same id gives the same operation.
            timeout: seconds that starting may take.
        """
        request = concept_calls.compute_clusters_request(
            name_of(dataset),
            edge_share=edge_share,
            min_size=min_size,
            resolution=resolution,
            seed=seed,
            request_id=request_id,
        )
        return self._handle(self._ask(self._concepts.ComputeClusters, request, timeout))

    def clusters(self, *, timeout: float | None = None) -> Iterator[FeatureCluster]:
        """The feature clusters in use, by id, page by page."""
        pages = self._pages(self._concepts.ListClusters, concept_calls.clusters_request, "clusters", timeout)
        return map(FeatureCluster.from_proto, pages)

    def create_labels(
        self,
        dataset: Named | str,
        *,
        features: Iterable[int] = (),
        clusters: Iterable[int] = (),
        endpoint: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Operation[LabelSummary]:
        """Starts labelling features or clusters; labels never enter a test.

        Args:
            dataset: where the evidence comes from.
            features: which; with `clusters` empty too, all that fire in the dataset.
            clusters: which, by id.
            endpoint: ask the operator's language model, instead of naming the tokens of the evidence.
            request_id: the same id gives the same operation.
            timeout: seconds that starting may take.
        """
        request = concept_calls.labels_request(name_of(dataset), features, clusters, endpoint, request_id)
        return self._handle(self._ask(self._concepts.CreateLabels, request, timeout))
