"""Feature clusters for the loaded SAE: computed once from a reference corpus, kept, and used until others are (METHOD.md §2).

Each response of a stored dataset is one sample; which features fired on it comes from the dataset's feature shards, which are
scored first where they are missing.

Invariant: the clusters in use are whole: those that came with the SAE, or the last that a finished operation wrote.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import sparse

from assay_server.concepts.clusters import ClusterOptions, FeatureClusters, cluster_features
from assay_server.errors import DataLoss, FailedPrecondition, InvalidItem
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.shards import DatasetShards
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.operations.types import OperationInfo
from assay_server.store.clusters import BadClusters, Cluster, StoredClusters
from assay_server.store.concepts import ConceptFiles, other_subject, renamed
from assay_server.subject.types import SpanName

KIND = "clusters"
MAX_SAMPLES = 50_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClusterRequest:
    """A request for feature clusters; see ``assay.v1.ComputeClustersRequest``."""

    dataset: str
    edge_share: float = 0.01
    min_size: int = 4
    resolution: float = 1.0
    seed: int = 0
    request_id: str = ""


class ClusterJobs:
    """The feature clusters in use. Confined to one event loop.

    Args:
        files: where they are stored.
        operations: run the work; not started yet.
        datasets: finds and scores datasets.
        subject: fingerprint of the loaded subject.
        d_sae: its features.
        shipped: those that came with the SAE, if any.
        lane: of the operation.
    """

    def __init__(
        self,
        files: ConceptFiles,
        operations: Operations,
        datasets: DatasetReader,
        *,
        subject: str,
        d_sae: int,
        shipped: StoredClusters | None,
        lane: str = "concepts",
    ) -> None:
        self._files = files
        self._operations = operations
        self._subject = subject
        self._d_sae = d_sae
        self._datasets = datasets
        self._in_use = shipped or StoredClusters(d_sae, reason="No clusters were computed, and none came with the SAE.")
        operations.register(KIND, self._compute, lane=lane)

    @property
    def in_use(self) -> StoredClusters:
        """The clusters, by id; none where none were computed and none came with the SAE."""
        return self._in_use

    async def start(self) -> None:
        """Read the stored clusters; before the operations start."""
        try:
            found = await asyncio.to_thread(self._files.read_clusters, self._subject, self._d_sae)
        except (DataLoss, BadClusters) as error:
            _log.error("the clusters are lost, compute them again: %s", error.message)
            return
        if found is not None:
            self._in_use = found

    async def compute(self, request: ClusterRequest) -> OperationInfo:
        """Cluster the features by how they fire together on a dataset.

        Raises:
            InvalidItem: an option is out of its range.
            NotFound: the dataset is not there.
        """
        _check_request(request)
        await self._datasets.find(request.dataset, "dataset")
        arguments = {**asdict(request), "subject": self._subject}
        del arguments["request_id"]
        return await self._operations.submit(
            KIND, target="clusters", arguments=arguments, request_id=request.request_id, defaults=("subject",)
        )

    async def rename(self, labels: Mapping[int, tuple[str, str, float | None]], of: StoredClusters) -> StoredClusters:
        """Give clusters new labels: text, method and detection score by id. No effect where others are in use by now.

        Returns:
            The clusters that are called so now.
        """
        if self._in_use is not of:
            return of
        self._in_use = changed = renamed(of, labels)
        await asyncio.to_thread(self._files.write_clusters, self._subject, changed)
        return changed

    async def _compute(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        """Handler; the response is "clusters"."""
        if arguments["subject"] != self._subject:
            raise other_subject(arguments["dataset"], arguments["subject"], self._subject)
        dataset = await self._datasets.scored(await self._datasets.find(arguments["dataset"], "dataset"), progress)
        progress.enter("grouping")
        options = ClusterOptions(
            top_share=arguments["edge_share"],
            min_size=arguments["min_size"],
            resolution=arguments["resolution"],
            seed=arguments["seed"],
        )
        found = await progress.in_thread(
            lambda: cluster_features(
                fired_on(dataset, self._d_sae, seed=options.seed, check=progress.check), options, check=progress.check
            )
        )
        if not len(found):
            raise FailedPrecondition(
                f"Clustering {arguments['dataset']} found no cluster: {found.reason}",
                reason="NO_CLUSTERS",
                field="dataset",
                details={"samples": found.samples, "considered": found.considered, "edges": found.edges},
            )
        progress.enter("writing")
        clusters = to_stored(found, arguments["dataset"])
        await asyncio.to_thread(self._files.write_clusters, self._subject, clusters)
        self._in_use = clusters
        return "clusters"


def fired_on(
    dataset: DatasetShards,
    d_sae: int,
    *,
    seed: int,
    most: int = MAX_SAMPLES,
    check: Callable[[], None] = lambda: None,
) -> sparse.csr_array:
    """Which features fired on each response of a dataset: CSR int8 [responses, d_sae], chosen and rejected of each usable pair.

    Of more than ``most`` responses that many are drawn at random, by the seed. The dataset is read twice, never held.
    """
    usable = sum(int(shard.usable.sum()) for shard in dataset.feature_shards())
    kept = np.ones(2 * usable, dtype=np.bool_)
    if 2 * usable > most:
        kept[:] = False
        kept[np.random.default_rng(seed).choice(2 * usable, most, replace=False)] = True
    parts: list[sparse.csr_array] = [sparse.csr_array((0, d_sae), dtype=np.int8)]
    start = 0
    for shard in dataset.feature_shards():
        check()
        rows = np.flatnonzero(shard.usable)
        for side in (SpanName.CHOSEN, SpanName.REJECTED):
            span = shard.spans[side]
            ones = np.ones(len(span.features), dtype=np.int8)
            matrix = sparse.csr_array((ones, span.features, span.indptr), shape=(len(span.tokens), d_sae))
            parts.append(matrix[rows[kept[start : start + len(rows)]]])
            start += len(rows)
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def to_stored(found: FeatureClusters, made_from: str) -> StoredClusters:
    """A clustering as it is kept."""
    clusters = tuple(
        Cluster(id, tuple(int(feature) for feature in found.members(id)), float(found.cohesion[id])) for id in range(len(found))
    )
    return StoredClusters(
        d_sae=found.d_sae,
        clusters=clusters,
        samples=found.samples,
        considered=found.considered,
        pairs=found.pairs,
        edges=found.edges,
        weakest_edge=found.weakest_edge,
        modularity=found.modularity,
        reason=found.reason,
        options=asdict(found.options),
        made_from=made_from,
    )


def _check_request(request: ClusterRequest) -> None:
    bad = (
        ("edge_share", request.edge_share, 0 < request.edge_share <= 1, "a number above 0, at most 1"),
        ("min_size", request.min_size, request.min_size >= 1, "1 or more"),
        ("resolution", request.resolution, 0 < request.resolution < float("inf"), "a number above 0"),
        ("seed", request.seed, 0 <= request.seed < 1 << 63, "0 to 2^63 - 1"),
    )
    for name, value, holds, wanted in bad:
        if not holds:
            raise InvalidItem(f"{name} is {value}; give {wanted}.", reason="OUT_OF_RANGE", field=name, details={name: value})
