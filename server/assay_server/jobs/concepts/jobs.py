"""Concepts: created, found, listed and deleted; a concept of another subject is refused (METHOD.md §2).

Invariants:
- A concept named in an operation's response is on disk; a request that is sent twice makes one concept.
- Creating a concept may start again at any moment: its examples are on disk before the operation is, every random choice has a
  seed, and the record that is written last completes it.
- Labels choose features when a request searches them, and then the features are fixed: no test ever sees a label.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

from assay_server.concepts.neighbours import Decoder
from assay_server.errors import DataLoss, FailedPrecondition, InvalidItem, NotFound
from assay_server.jobs.concepts.files import examples_record, options_record, source_record
from assay_server.jobs.concepts.run import ConceptMaker, Sample
from assay_server.jobs.concepts.types import (
    ConceptRequest,
    FromCluster,
    FromDataset,
    FromSearch,
    PairExamples,
    TextExamples,
    check_examples,
)
from assay_server.jobs.operations.jobs import Operations, reused
from assay_server.jobs.operations.types import OperationInfo
from assay_server.labelling.labels import Labels
from assay_server.scorer import ScorerLike
from assay_server.store.clusters import StoredClusters
from assay_server.store.concepts import (
    CONCEPT_ID,
    ConceptFiles,
    StoredConcept,
    no_concept,
    require_subject,
    subject_fingerprint,
)

KIND = "concept"
QUICK_KIND = "concept-set"
_QUICK_SECONDS = 10.0

_log = logging.getLogger(__name__)


class ConceptJobs:
    """The concepts of one data directory under one subject. Confined to one event loop.

    Args:
        files: where concepts are stored.
        operations: run the work; not started yet.
        scorer: the one path from text to residuals.
        labels: searched for the features of a concept, if the request asks for it.
        decoder: the SAE's decoder rows.
        clusters: the feature clusters in use now.
        sample: a stored dataset's pairs.
        max_features: features in one concept.
        max_pairs: pairs of a dataset that a concept is fitted on.
        lane: for fitting; ``quick_lane`` for concepts that need no forward pass.
    """

    def __init__(
        self,
        files: ConceptFiles,
        operations: Operations,
        scorer: ScorerLike,
        labels: Labels,
        decoder: Decoder,
        *,
        clusters: Callable[[], StoredClusters],
        sample: Sample,
        max_features: int = 4096,
        max_pairs: int = 10_000,
        lane: str = "concepts",
        quick_lane: str = "quick",
    ) -> None:
        self.subject = subject_fingerprint(scorer.info)
        self._files = files
        self._operations = operations
        self._labels = labels
        self._clusters = clusters
        self._sample = sample
        self._max_features = max_features
        self._concepts: dict[str, StoredConcept] = {}
        self._damaged: set[str] = set()
        self._creating = asyncio.Lock()
        self._maker = ConceptMaker(files, self._concepts, scorer, decoder, sample, max_pairs)
        operations.register(KIND, self._maker.fit, lane=lane)
        operations.register(QUICK_KIND, self._maker.collect, lane=quick_lane)

    async def start(self) -> None:
        """Read the stored concepts; before the operations start."""
        found, damaged = await asyncio.to_thread(self._files.read_all)
        self._concepts.update({concept.id: concept for concept in found})
        self._damaged = set(damaged)
        for id in damaged:
            _log.error("concept %s is damaged; delete it and make it again", id)

    async def create(self, request: ConceptRequest) -> OperationInfo:
        """Create a concept; one that needs no forward pass is done on return.

        Raises:
            InvalidItem: too few examples, a feature or text of the source is invalid, or the id is.
            FailedPrecondition: CONCEPT_EXISTS.
            NotFound: the cluster or dataset does not exist.
        """
        quick = not isinstance(request.source, TextExamples | PairExamples | FromDataset)
        kind = QUICK_KIND if quick else KIND
        async with self._creating:
            if self._operations.find(KIND if quick else QUICK_KIND, request.request_id):
                raise reused(request.request_id)
            if known := self._operations.find(kind, request.request_id):
                id = known.target.removeprefix("concepts/")
            else:
                id = self._free_id(request)
            arguments: dict[str, Any] = {
                "concept_id": id,
                "asked_id": request.concept_id,
                "display_name": request.display_name,
                "source": await self._asked(request),
                "options": options_record(request.options),
                "features": [] if known else await self._resolved(request),
                "subject": self.subject,
            }
            if isinstance(request.source, FromDataset):
                arguments["dataset"] = request.source.dataset  # deleting the dataset looks here
            info = await self._operations.submit(
                kind,
                target=f"concepts/{id}",
                arguments=arguments,
                request_id=request.request_id,
                defaults=("concept_id", "features", "subject"),
            )
        return await self._operations.wait(info.name, _QUICK_SECONDS) if quick else info

    def get(self, name: str, field: str = "name") -> StoredConcept:
        """One concept of the loaded subject.

        Raises:
            NotFound: it does not exist.
            SubjectMismatch: it belongs to another subject; the error names both fingerprints.
            DataLoss: it is damaged.
        """
        id = name.removeprefix("concepts/")
        if id in self._damaged:
            raise DataLoss(f"{name} is damaged. Delete it and make it again.", reason="FILE_DAMAGED", field=field)
        if id not in self._concepts or not name.startswith("concepts/"):
            raise no_concept(id, field)
        return require_subject(self._concepts[id], self.subject, field)

    def all(self) -> list[StoredConcept]:
        """All concepts of the loaded subject, newest first."""
        ours = [concept for concept in self._concepts.values() if concept.subject == self.subject]
        return sorted(ours, key=lambda concept: (concept.created, concept.id), reverse=True)

    async def delete(self, name: str) -> None:
        """Delete a concept of any subject, and the operations that made it. Raises NotFound."""
        id = name.removeprefix("concepts/")
        if (id not in self._concepts and id not in self._damaged) or not name.startswith("concepts/"):
            raise no_concept(id)
        async with self._creating:  # a concept under creation has examples that no operation names yet
            await self._operations.cancel_target(name)
            await asyncio.to_thread(self._files.delete, id)
            self._concepts.pop(id, None)
            self._damaged.discard(id)
            await self._operations.forget_target(name)
            await self._sweep()

    def _free_id(self, request: ConceptRequest) -> str:
        taken = {*self._concepts, *self._damaged} | {
            target.removeprefix("concepts/") for target in self._operations.open_targets() if target.startswith("concepts/")
        }
        if request.concept_id:
            if not CONCEPT_ID.fullmatch(request.concept_id):
                raise InvalidItem(
                    f"concept_id has {len(request.concept_id)} characters; give 1 to 64 letters, digits, '-' and '_', a letter "
                    "or digit first.",
                    reason="INVALID_CONCEPT_ID",
                    field="concept_id",
                )
            if request.concept_id in taken:
                raise FailedPrecondition(
                    f"concepts/{request.concept_id} exists already. Delete it, or give another concept_id.",
                    reason="CONCEPT_EXISTS",
                    field="concept_id",
                    details={"concept": f"concepts/{request.concept_id}"},
                )
            return request.concept_id
        stem = re.sub("[^a-z0-9]+", "-", request.display_name.casefold()).strip("-")[:56].strip("-") or "concept"
        number = 1
        while (id := stem if number == 1 else f"{stem}-{number}") in taken:
            number += 1
        return id

    async def _asked(self, request: ConceptRequest) -> dict[str, Any]:
        """The source as JSON; its examples are stored first."""
        source = request.source
        if not isinstance(source, TextExamples | PairExamples):
            return source_record(source)
        check_examples(source, request.options)
        digest = await asyncio.to_thread(lambda: self._files.write_examples(examples_record(source)))
        if isinstance(source, PairExamples):
            return {"kind": "pairs", "examples": digest, "pairs": len(source.pairs)}
        return {"kind": "texts", "examples": digest, "positive": len(source.positive), "negative": len(source.negative)}

    async def _resolved(self, request: ConceptRequest) -> list[int]:
        """The features of a cluster or a search as of now; [] for other sources, which are only checked."""
        source = request.source
        if isinstance(source, FromCluster):
            return list(self._cluster(source.cluster))
        if isinstance(source, FromSearch):
            return self._found(source.text)
        if isinstance(source, FromDataset):
            await self._sample(source.dataset, 1, 0)
        return []

    def _cluster(self, id: int) -> tuple[int, ...]:
        clusters = self._clusters()
        if not 0 <= id < len(clusters):
            raise no_cluster(id, len(clusters), "cluster")
        return clusters.clusters[id].features

    def _found(self, text: str) -> list[int]:
        found = [int(id) for id in self._labels.search(text)]
        if not found:
            raise InvalidItem(
                f"No label, top token or promoted token of {self._labels.count} labelled features contains "
                "this text. Search for another one.",
                reason="NO_FEATURE_FOUND",
                field="label_search",
                details={"labelled": self._labels.count},
            )
        if len(found) > self._max_features:
            raise InvalidItem(
                f"{len(found)} features hold this text; max_concept_features is {self._max_features}. Search for more of it.",
                reason="LIMIT_EXCEEDED",
                field="label_search",
                details={"features": len(found), "max_concept_features": self._max_features},
            )
        return found

    async def _sweep(self) -> None:
        used = [concept.source.get("examples") for concept in self._concepts.values()]
        used += [arguments["source"].get("examples") for arguments in self._operations.open_arguments() if "source" in arguments]
        await asyncio.to_thread(self._files.sweep_examples, [digest for digest in used if digest])


def no_cluster(id: int, count: int, field: str) -> NotFound:
    """The error for a cluster that is not there."""

    why = (
        f"there are clusters 0 to {count - 1}"
        if count
        else "no clusters were computed; `assay concepts compute-clusters` computes them"
    )
    return NotFound(f"There is no cluster {id}: {why}.", field=field, details={"cluster": id, "clusters": count})
