"""Labels for features and clusters, made from a stored dataset: from evidence, or through the operator's endpoint.

Invariant: what is made here is shown over what came with the SAE, outlives the process, and enters no test.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from assay_server.audit.shards import BY_MAX
from assay_server.errors import AssayError, FailedPrecondition, InvalidItem
from assay_server.jobs.audits.types import LabelText
from assay_server.jobs.concepts.clusters import ClusterJobs
from assay_server.jobs.concepts.jobs import ConceptJobs, no_cluster
from assay_server.jobs.concepts.label_reading import choose_responses, fires_in, read_texts
from assay_server.jobs.concepts.label_runs import LabelItem, Labelled, feature_entry, read_state, run_labels
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.operations.types import OperationInfo
from assay_server.labelling.endpoint import Endpoint, EndpointOptions
from assay_server.labelling.labels import BadLabels, FeatureLabel, GroupLabel, Labels, label_line, read_lines
from assay_server.labelling.words import GroupWords
from assay_server.scorer import ScorerLike
from assay_server.store.clusters import Cluster, StoredClusters
from assay_server.store.concepts import ConceptFiles, other_subject

KIND = "labels"
_SEED = 0

_log = logging.getLogger(__name__)


class LabelMethod(StrEnum):
    """Ways to a label."""

    EVIDENCE = "evidence"
    ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """A request for labels; see ``assay.v1.CreateLabelsRequest``. No features and no clusters: all features that fire."""

    dataset: str
    features: tuple[int, ...] = ()
    clusters: tuple[int, ...] = ()
    method: LabelMethod = LabelMethod.EVIDENCE
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """What labelling gave, and what an endpoint cost; fields as in ``assay.v1.LabelSummary``."""

    labelled: int
    failed: int
    median_detection_score: float
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class LabelJobs:
    """Makes labels, and looks them up. Making is confined to one event loop; any thread may look up.

    Looking up takes no lock: labels, clusters and words are each replaced whole, never changed in place.

    Args:
        files: where they are stored.
        operations: where making them runs; not started yet.
        scorer: reads texts again, token by token.
        labels: what the server shows; new labels are added here.
        concepts: stored concepts, which are called by their display names.
        clusters: the clusters in use.
        datasets: finds, reads and scores datasets.
        subject: fingerprint of the loaded subject.
        endpoint: the operator's, if any.
        lane: of the operation.
    """

    def __init__(
        self,
        files: ConceptFiles,
        operations: Operations,
        scorer: ScorerLike,
        labels: Labels,
        concepts: ConceptJobs,
        clusters: ClusterJobs,
        datasets: DatasetReader,
        *,
        subject: str,
        endpoint: EndpointOptions | None = None,
        lane: str = "concepts",
    ) -> None:
        self._files = files
        self._operations = operations
        self._scorer = scorer
        self._labels = labels
        self._clusters = clusters
        self._subject = subject
        self._concepts = concepts
        self._datasets = datasets
        self._endpoint = endpoint
        self._made: dict[int, FeatureLabel] = {}
        self._words = labels.version, GroupWords(labels)
        operations.register(KIND, self._label, lane=lane)

    async def start(self) -> None:
        """Show the labels that were made before; before the operations start."""
        lines = await asyncio.to_thread(self._files.read_labels, self._subject)
        try:
            self._made = {entry.id: entry for entry in read_lines(lines.splitlines(), self._scorer.info.d_sae, "labels")}
        except BadLabels as error:
            _log.error("the labels that were made here are lost: %s", error.message)
        self._labels.update(self._made.values())

    async def sweep(self) -> None:
        """Delete the states of runs whose operations are gone; once the operations are read.

        The states are listed first: a run that begins meanwhile has its operation before its state.
        """
        runs = await asyncio.to_thread(self._files.runs)
        known = {arguments.get("run") for arguments in self._operations.arguments()}
        await asyncio.to_thread(self._files.delete_runs, [run for run in runs if run not in known])

    async def create(self, request: LabelRequest) -> OperationInfo:
        """Make labels.

        Raises:
            InvalidItem: a feature does not exist.
            NotFound: the dataset or a cluster is not there.
            FailedPrecondition: NO_LABEL_ENDPOINT: none is configured.
        """
        self._check_request(request)
        await self._datasets.find(request.dataset, "dataset")
        arguments = {
            "dataset": request.dataset,
            "features": sorted(set(request.features)),
            "clusters": sorted(set(request.clusters)),
            "method": request.method.value,
            "subject": self._subject,
            "run": secrets.token_hex(8),
        }
        return await self._operations.submit(
            KIND, target="labels", arguments=arguments, request_id=request.request_id, defaults=("subject", "run")
        )

    async def summary(self, name: str) -> LabelSummary:
        """What a run gave so far, by the response of its operation: "labels/{run}"."""
        state = await asyncio.to_thread(read_state, self._files, name.removeprefix("labels/"))
        return LabelSummary(
            labelled=len(state.scores),
            failed=len(state.failed),
            median_detection_score=state.median(),
            requests=state.requests,
            prompt_tokens=state.prompt_tokens,
            completion_tokens=state.completion_tokens,
        )

    async def of_clusters(self, clusters: Sequence[Cluster]) -> list[GroupLabel]:
        """What clusters are called, off the event loop: of a wide SAE, counting the labels' tokens takes a while."""
        return await asyncio.to_thread(lambda: [self.of_cluster(cluster) for cluster in clusters])

    def of_cluster(self, cluster: Cluster) -> GroupLabel:
        """A cluster's own label; where it has none, words that its members share."""
        if cluster.label:
            return GroupLabel(cluster.label, cluster.label_method, cluster.detection_score)
        return self.of_group(cluster.features)

    def of_group(self, features: Sequence[int]) -> GroupLabel:
        """Words for any group of features, strongest first: a data cluster, a topic of prompts."""
        (held, words), version = self._words, self._labels.version
        if held != version:
            words = GroupWords(self._labels)
            self._words = version, words  # the version of before counting: what changed meanwhile is counted by the next one
        return words.of(features)

    def look_up(self, name: str, features: Sequence[int]) -> LabelText:
        """The label of a concept or condition by its name and features, strongest first (a ``LabelLookup``).

        A stored concept's label is its display name.
        """
        if name.startswith("concepts/"):
            try:
                return LabelText(self._concepts.get(name).display_name, "display-name")
            except AssayError:
                return LabelText()  # deleted since, damaged, or another subject's
        kind, _, id = name.removesuffix(BY_MAX).partition("/")
        if kind == "feature" and id.isdigit() and int(id) < self._scorer.info.d_sae:
            entry = self._labels.get(int(id))
            return LabelText(entry.label, entry.label_method, entry.detection_score)
        clusters = self._clusters.in_use.clusters
        found = GroupLabel()
        # A cluster's number means another one once clusters were computed anew; its features tell.
        if kind == "cluster" and id.isdigit() and int(id) < len(clusters) and set(features) <= set(clusters[int(id)].features):
            found = self.of_cluster(clusters[int(id)])
        elif features:
            found = self.of_group(features)
        return LabelText(found.label, found.label_method, found.detection_score)

    def _check_request(self, request: LabelRequest) -> None:
        d_sae = self._scorer.info.d_sae
        for place, id in enumerate(request.features):
            if not 0 <= id < d_sae:
                raise InvalidItem(
                    f"Feature {id} does not exist; the loaded SAE has features 0 to {d_sae - 1}.",
                    reason="UNKNOWN_FEATURE",
                    field=f"features[{place}]",
                    details={"feature": id, "d_sae": d_sae},
                )
        count = len(self._clusters.in_use)
        for place, id in enumerate(request.clusters):
            if not 0 <= id < count:
                raise no_cluster(id, count, f"clusters[{place}]")
        if request.method is LabelMethod.ENDPOINT and self._endpoint is None:
            raise _no_endpoint()

    async def _label(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        """Handler; the response is "labels/{run}"."""
        if arguments["subject"] != self._subject:
            raise other_subject("labels", arguments["subject"], self._subject)
        if arguments["method"] == LabelMethod.ENDPOINT and self._endpoint is None:
            raise _no_endpoint()  # there was one when the operation was submitted
        found = await self._datasets.find(arguments["dataset"], "dataset")
        dataset, clusters = await self._datasets.scored(found, progress), self._clusters.in_use
        features = list[int](arguments["features"])
        if not features and not arguments["clusters"]:
            firing = await progress.in_thread(lambda: fires_in(dataset.feature_shards(), self._scorer.info.d_sae))
            features = [int(id) for id in firing]
        items = [LabelItem(f"feature/{id}", (id,)) for id in features]
        items += [
            LabelItem(f"cluster/{id}", clusters.clusters[id].features) for id in arguments["clusters"] if id < len(clusters)
        ]
        read = np.unique(np.array([id for item in items for id in item.members], dtype=np.int64))
        responses = await progress.in_thread(
            lambda: choose_responses(dataset.feature_shards, read, self._scorer.info.d_sae, seed=_SEED)
        )
        texts = await read_texts(
            responses, lambda rows: self._datasets.pairs_at(dataset.dataset, rows), read.tolist(), self._scorer, progress
        )
        endpoint = Endpoint(self._endpoint) if self._endpoint and arguments["method"] == LabelMethod.ENDPOINT else None
        try:
            state = await run_labels(arguments["run"], items, texts, self._files, self._keeper(clusters), progress, endpoint)
        finally:
            if endpoint is not None:
                await endpoint.aclose()
        _log.info(
            "labels: %d made, %d failed, %d requests of %d and %d tokens",
            len(state.scores),
            len(state.failed),
            state.requests,
            state.prompt_tokens,
            state.completion_tokens,
        )
        return f"labels/{arguments['run']}"

    def _keeper(self, clusters: StoredClusters) -> Callable[[Sequence[Labelled]], Any]:
        in_use = clusters

        async def keep(made: Sequence[Labelled]) -> None:
            nonlocal in_use
            entries = [feature_entry(one, self._labels) for one in made if one.item.is_feature]
            if entries:
                self._labels.update(entries)
                self._made.update({entry.id: entry for entry in entries})
                lines = "".join(label_line(self._made[id]) + "\n" for id in sorted(self._made))
                await asyncio.to_thread(self._files.write_labels, self._subject, lines)
            groups = {one.item.id: one.label for one in made if not one.item.is_feature}
            if groups:
                told = {id: (label.label, label.label_method, label.detection_score) for id, label in groups.items()}
                in_use = await self._clusters.rename(told, of=in_use)

        return keep


def _no_endpoint() -> FailedPrecondition:
    return FailedPrecondition(
        "No label endpoint is configured; start the server with --label-endpoint and --label-model, or ask for METHOD_EVIDENCE.",
        reason="NO_LABEL_ENDPOINT",
        field="method",
    )
