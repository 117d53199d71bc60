"""Concepts: made as operations, kept, found, refused to another subject (METHOD.md §2).

Invariants:
- A concept that an operation answered with is on disk; a request that is asked twice makes one concept.
- Making one can begin again from the top at any moment: its examples are on disk before the operation is, every random choice has
  a seed, and what is written last makes it exist.
- Labels choose features where somebody searches them, and then the features are fixed: no test ever sees a label.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_server.concepts.neighbours import Decoder, nearest_features
from assay_server.concepts.probes import ProbeMethod
from assay_server.errors import DataLoss, FailedPrecondition, InvalidItem, NotFound
from assay_server.jobs.concepts.fitting import fit_direction, fit_features
from assay_server.jobs.concepts.types import (
    ConceptRequest,
    FitOptions,
    FromCluster,
    FromDataset,
    FromSearch,
    PairExamples,
    TextExamples,
    check_examples,
    examples_record,
    read_examples,
    read_vector,
    source_record,
)
from assay_server.jobs.operations.jobs import Operations, reused
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.operations.types import OperationInfo
from assay_server.labelling.labels import Labels
from assay_server.scorer import ScorerLike
from assay_server.store.clusters import StoredClusters
from assay_server.store.concepts import (
    CONCEPT_ID,
    ConceptFiles,
    ConceptKind,
    NearFeature,
    StoredConcept,
    no_concept,
    other_subject,
    require_subject,
    subject_fingerprint,
)
from assay_server.subject.types import Pair

KIND = "concept"
QUICK_KIND = "concept-set"
NEAREST = 10
_QUICK_SECONDS = 10.0

Sample = Callable[[str, int, int], Awaitable[tuple[Pair, ...]]]
"""From a dataset's name, a bound and a seed to its usable pairs (``DatasetReader.sample``). Raises NotFound."""

_log = logging.getLogger(__name__)


class ConceptJobs:
    """The concepts of one data directory under one subject. Confined to one event loop.

    Args:
        files: where they are kept.
        operations: where making them runs; not started yet.
        scorer: the one path from text to residuals.
        labels: searched for the features of a concept, where that is asked.
        decoder: the SAE's decoder rows.
        clusters: the feature clusters in use, as they stand when asked.
        sample: a stored dataset's pairs.
        max_features: features in one concept.
        lane: of fitting; ``quick_lane`` of what needs no forward pass.
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
        self._scorer = scorer
        self._labels = labels
        self._decoder = decoder
        self._clusters = clusters
        self._sample = sample
        self._max_features = max_features
        self._max_pairs = max_pairs
        self._concepts: dict[str, StoredConcept] = {}
        self._damaged: set[str] = set()
        self._creating = asyncio.Lock()
        operations.register(KIND, self._fit, lane=lane)
        operations.register(QUICK_KIND, self._collect, lane=quick_lane)

    async def start(self) -> None:
        """Read what is there; before the operations start."""
        found, damaged = await asyncio.to_thread(self._files.read_all)
        self._concepts = {concept.id: concept for concept in found}
        self._damaged = set(damaged)
        for id in damaged:
            _log.error("concept %s is damaged; delete it and make it again", id)

    async def create(self, request: ConceptRequest) -> OperationInfo:
        """Make a concept; what needs no forward pass is done on return.

        Raises:
            InvalidItem: examples are too few, a feature or text of the source cannot be, the id is no id.
            FailedPrecondition: CONCEPT_EXISTS.
            NotFound: the cluster or dataset is not there.
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
                "options": _options_record(request.options),
                "features": [] if known else await self._resolved(request),
                "subject": self.subject,
            }
            if isinstance(request.source, FromDataset):
                arguments["dataset"] = request.source.dataset  # where those who would delete it look
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
            NotFound: there is none.
            SubjectMismatch: it belongs to another subject; both fingerprints are named.
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
        """Delete a concept, whichever subject's, and forget how it was made. Raises NotFound."""
        id = name.removeprefix("concepts/")
        if (id not in self._concepts and id not in self._damaged) or not name.startswith("concepts/"):
            raise no_concept(id)
        async with self._creating:  # whose examples no operation names yet
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
        """The source as JSON; examples are kept beside it first."""
        source = request.source
        if not isinstance(source, TextExamples | PairExamples):
            return source_record(source)
        check_examples(source, request.options)
        digest = await asyncio.to_thread(self._files.write_examples, examples_record(source))
        if isinstance(source, PairExamples):
            return {"kind": "pairs", "examples": digest, "pairs": len(source.pairs)}
        return {"kind": "texts", "examples": digest, "positive": len(source.positive), "negative": len(source.negative)}

    async def _resolved(self, request: ConceptRequest) -> list[int]:
        """The features that a cluster or a search stands for now; [] for other sources, which are checked."""
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
                f"No label, top token or promoted token of {self._labels.count} labelled features holds this text. ListFeatures "
                "with `filter` shows what a text finds.",
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

    async def _fit(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        """Handler: a direction or features from examples."""
        if (done := self._made(arguments)) is not None:
            return done
        source, options = arguments["source"], _options(arguments["options"])
        if source["kind"] == "dataset":
            examples = PairExamples(await self._sample(source["dataset"], self._max_pairs, options.seed))
            check_examples(examples, options)
        else:
            examples = read_examples(await asyncio.to_thread(self._files.read_examples, source["examples"]))
        if options.method is ProbeMethod.FEATURES:
            chosen = await fit_features(examples, options, self._scorer, progress)
            weights = np.ones(len(chosen.features), np.float32)
            kind = ConceptKind.FEATURE if len(weights) == 1 else ConceptKind.FEATURES
            made: dict[str, Any] = {"kind": kind, "features": chosen.features, "weights": weights, "report": chosen.report}
            return await self._keep(arguments, progress, method=options.method.value, **made)
        fitted = await fit_direction(examples, options, self._scorer, progress)
        return await self._keep(
            arguments,
            progress,
            kind=ConceptKind.DIRECTION,
            direction=fitted.direction,
            method=options.method.value,
            report=fitted.report,
        )

    async def _collect(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        """Handler: features, or a direction that was given."""
        if (done := self._made(arguments)) is not None:
            return done
        source = arguments["source"]
        if source["kind"] == "direction":
            return await self._keep(arguments, progress, kind=ConceptKind.DIRECTION, direction=read_vector(source["direction"]))
        features = np.array(arguments["features"] or source["features"], dtype=np.int64)
        weights = np.array(source.get("weights", [1.0] * len(features)), dtype=np.float32)
        alone = len(features) == 1 and weights[0] == 1
        kind = ConceptKind.FEATURE if alone else ConceptKind.FEATURES
        return await self._keep(arguments, progress, kind=kind, features=features, weights=weights)

    def _made(self, arguments: Mapping[str, Any]) -> str | None:
        """Its name, where a run before a crash wrote it already. Raises SubjectMismatch where it was asked of another subject."""
        id = arguments["concept_id"]
        if arguments["subject"] != self.subject:
            raise other_subject(f"concepts/{id}", arguments["subject"], self.subject)
        return f"concepts/{id}" if id in self._concepts else None

    async def _keep(self, arguments: Mapping[str, Any], progress: Progress, **made: Any) -> str:
        progress.enter("writing")
        concept = StoredConcept(
            id=arguments["concept_id"],
            display_name=arguments["display_name"],
            subject=self.subject,
            created=time.time(),
            nearest=await asyncio.to_thread(self._nearest, made),
            source={**arguments["source"], "options": arguments["options"]},
            **made,
        )
        progress.check()
        await asyncio.to_thread(self._files.write, concept)
        self._concepts[concept.id] = concept
        return concept.name

    def _nearest(self, made: Mapping[str, Any]) -> tuple[NearFeature, ...]:
        direction: NDArray[np.float64] = (
            np.asarray(made["direction"], dtype=np.float64)
            if "direction" in made
            else weighted_rows(self._decoder, made["features"], made["weights"])
        )
        if not np.any(direction):
            return ()  # dead rows, or weights that cancel: near to nothing
        near = nearest_features(direction, self._decoder, k=NEAREST)
        return tuple(NearFeature(int(id), float(cosine)) for id, cosine in zip(near.features, near.cosines, strict=True))

    async def _sweep(self) -> None:
        used = [concept.source.get("examples") for concept in self._concepts.values()]
        used += [arguments["source"].get("examples") for arguments in self._operations.open_arguments() if "source" in arguments]
        await asyncio.to_thread(self._files.sweep_examples, [digest for digest in used if digest])


def weighted_rows(decoder: Decoder, features: NDArray[np.int64], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """The weighted sum of decoder rows, float64 [d_in]."""
    total = np.zeros(decoder.shape[1])
    for id, weight in zip(features, weights, strict=True):
        total += float(weight) * np.asarray(decoder[int(id) : int(id) + 1], dtype=np.float64)[0]
    return total


def no_cluster(id: int, count: int, field: str) -> NotFound:
    """The error for a cluster that is not there."""

    why = f"there are clusters 0 to {count - 1}" if count else "no clusters were computed; ComputeClusters does"
    return NotFound(f"There is no cluster {id}: {why}.", field=field, details={"cluster": id, "clusters": count})


def _options_record(options: FitOptions) -> dict[str, Any]:
    """The knobs that the method reads; a request from before there was ``max_features`` is still the same request."""
    record = {**asdict(options), "method": options.method.value}
    if options.method is not ProbeMethod.FEATURES:
        del record["max_features"]
    return record


def _options(record: Mapping[str, Any]) -> FitOptions:
    knobs: dict[str, Any] = {**record, "method": ProbeMethod(record["method"])}
    return FitOptions(**knobs)
