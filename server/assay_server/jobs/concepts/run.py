"""Makes a concept: the handlers of the "concept" and "concept-set" operations.

A handler may start again at any moment: every random choice has a seed, and the concept's record is written last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_server.concepts.neighbours import Decoder, nearest_features
from assay_server.concepts.probes import ProbeMethod
from assay_server.jobs.concepts.files import read_examples, read_options, read_vector
from assay_server.jobs.concepts.fitting import fit_direction, fit_features
from assay_server.jobs.concepts.types import PairExamples, check_examples
from assay_server.jobs.operations.progress import Progress
from assay_server.scorer import ScorerLike
from assay_server.store.concepts import ConceptFiles, ConceptKind, NearFeature, StoredConcept, other_subject, subject_fingerprint
from assay_server.subject.types import Pair

NEAREST = 10

Sample = Callable[[str, int, int], Awaitable[tuple[Pair, ...]]]
"""From a dataset's name, a bound and a seed to its usable pairs (``DatasetReader.sample``). Raises NotFound."""


class ConceptMaker:
    """Makes concepts for the loaded subject. Confined to one event loop.

    Args:
        files: where concepts and examples are stored.
        concepts: concepts by id; finished ones are added.
        scorer: the one path from text to residuals.
        decoder: the SAE's decoder rows.
        sample: a stored dataset's pairs.
        max_pairs: pairs of a dataset that a concept is fitted on.
    """

    def __init__(
        self,
        files: ConceptFiles,
        concepts: dict[str, StoredConcept],
        scorer: ScorerLike,
        decoder: Decoder,
        sample: Sample,
        max_pairs: int,
    ) -> None:
        self._files = files
        self._concepts = concepts
        self._scorer = scorer
        self._subject = subject_fingerprint(scorer.info)
        self._decoder = decoder
        self._sample = sample
        self._max_pairs = max_pairs

    async def fit(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        """Handler: a direction or features from examples."""
        if (done := self._made(arguments)) is not None:
            return done
        source, options = arguments["source"], read_options(arguments["options"])
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

    async def collect(self, arguments: Mapping[str, Any], progress: Progress) -> str:
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
        """Its name if a run before a crash wrote it. Raises SubjectMismatch if it was requested for another subject."""
        id = arguments["concept_id"]
        if arguments["subject"] != self._subject:
            raise other_subject(f"concepts/{id}", arguments["subject"], self._subject)
        return f"concepts/{id}" if id in self._concepts else None

    async def _keep(self, arguments: Mapping[str, Any], progress: Progress, **made: Any) -> str:
        progress.enter("writing")
        concept = StoredConcept(
            id=arguments["concept_id"],
            display_name=arguments["display_name"],
            subject=self._subject,
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


def weighted_rows(decoder: Decoder, features: NDArray[np.int64], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """The weighted sum of decoder rows, float64 [d_in]."""
    total = np.zeros(decoder.shape[1])
    for id, weight in zip(features, weights, strict=True):
        total += float(weight) * np.asarray(decoder[int(id) : int(id) + 1], dtype=np.float64)[0]
    return total
