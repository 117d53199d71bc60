"""Makes a plan: scores what is missing, compiles, measures coefficients that were not given, and gathers tensors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.matrices import Floats
from assay_server.errors import AssayError, EngineFailure, FailedPrecondition
from assay_server.interventions.compile import Compiled, Concepts, Specification, compile_plan
from assay_server.interventions.plans import (
    CompiledPlan,
    Intervention,
    Plan,
    PlanTensors,
    PlanWarning,
    WarningCode,
)
from assay_server.interventions.prompts import settled
from assay_server.interventions.reading import Engine
from assay_server.interventions.sweep import SweepOptions, measure, texts_of
from assay_server.interventions.targets import Target
from assay_server.interventions.token_masks import default_threshold
from assay_server.interventions.tokens import token_scores
from assay_server.interventions.types import PROMPTED, STEERED, WHOLE_MODEL, Family, Mode
from assay_server.interventions.vectors import ablation_basis, feature_direction
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.shards import ShardGone, ShardSpec
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.plans.files import PlanFiles
from assay_server.jobs.plans.resolve import ConceptSources, PlanShards, direction_set
from assay_server.scorer import Lane, Scored, ScoreOptions
from assay_server.store.clusters import Cluster
from assay_server.store.datasets import Dataset
from assay_server.store.records import read_record
from assay_server.subject.identity import SubjectRef, require_recorded
from assay_server.subject.types import Pair, SpanName

MEAN_PAIRS = 256  # pairs whose residuals an ablation's mean is taken over
MASK_PAIRS = 128  # pairs whose token scores a filter's threshold is taken from
_ATTEMPTS = 3
Vectors = dict[int, NDArray[np.float32]]


class PlanMaker:
    """Does the work of the "plan" operation.

    Args:
        plans: where plans are stored.
        engine: the scorer.
        datasets: finds and scores datasets.
        sources: finds concepts and decisions.
    """

    def __init__(self, plans: PlanFiles, engine: Engine, datasets: DatasetReader, sources: ConceptSources) -> None:
        self.engine = engine
        self.datasets = datasets
        self.sources = sources
        self._plans = plans

    async def run(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        """Handler; returns the plan's name. Raises SubjectMismatch if it was requested for another subject."""
        require_recorded(arguments["subject"], self.engine.info)
        id = str(arguments["id"])
        if await asyncio.to_thread(self._plans.exists, id):
            return f"plans/{id}"  # written before a crash
        dataset = await self.datasets.find(str(arguments["dataset"]), "dataset")
        specifications = await self._placed([read_record(Specification, one) for one in arguments["specifications"]])
        compiled = await self._compile(dataset, specifications, progress)
        targets = tuple(one.target for one in specifications)
        interventions = await self._masked(dataset, compiled.interventions, targets)
        interventions, directions = await self._steered(interventions, targets, progress)
        tensors = await self._tensors(dataset, interventions, targets, compiled, directions)
        needs_whole = any(one.family in WHOLE_MODEL for one in interventions)
        plan = Plan(
            name=f"plans/{id}",
            display_name=str(arguments["display_name"]) or dataset.display_name,
            created=time.time(),
            dataset=f"datasets/{dataset.id}",
            dataset_fingerprint=dataset.fingerprint,
            subject=SubjectRef.of(self.engine.info),
            hook_module=self.engine.info.hook_module,
            whole_model_fingerprint=self.engine.info.whole_model_fingerprint if needs_whole else "",
            interventions=interventions,
            pairs=len(compiled.rows.rows),
            unusable_pairs=dataset.pairs - len(compiled.rows.rows),
        )
        progress.enter("writing")
        # Finished even if the work is cancelled: no file may be written after the cancellation is reported.
        await progress.in_thread(lambda: self._plans.write(CompiledPlan(plan, targets, compiled.rows, tensors)))
        return plan.name

    async def scored(self, dataset: Dataset, targets: Sequence[Target], progress: Progress) -> PlanShards:
        """A dataset as compiling reads it, after scoring the missing features."""
        return PlanShards(await self.datasets.scored(dataset, progress, ShardSpec(directions=direction_set(targets))))

    async def direction(self, target: Target) -> Floats:
        """The unit direction of a concept: its own, or that of its weighted decoder rows, float64 [d_in]."""
        if target.direction is not None:
            return target.direction
        return feature_direction(await self._decoder(target), target.weights)

    async def _compile(self, dataset: Dataset, specifications: Sequence[Specification], progress: Progress) -> Compiled:
        clusters: Sequence[Cluster] = self.sources.clusters()
        concepts = Concepts(
            [(f"cluster/{cluster.id}", cluster.features) for cluster in clusters],
            lambda name, features: self.sources.label(name, features).text,
        )

        def advance(phase: str, pairs: int) -> None:
            if progress.phase != phase:
                progress.enter(phase, dataset.pairs)
            progress.advance(pairs)
            progress.check()

        for _ in range(_ATTEMPTS):
            shards = await self.scored(dataset, [one.target for one in specifications], progress)
            try:
                return await progress.in_thread(
                    lambda shards=shards: compile_plan(specifications, shards, concepts, self.engine.info.d_sae, advance)
                )
            except ShardGone:
                continue
        raise EngineFailure(
            f"Feature shards were damaged {_ATTEMPTS} times while they were read: the data directory's disk is not sound.",
            reason="STORE_UNSOUND",
        )

    async def _placed(self, specifications: Sequence[Specification]) -> list[Specification]:
        """Resolves AUTO placements by the loaded subject's chat template."""

        async def settle(one: Specification) -> Specification:
            if one.family not in PROMPTED:
                return one
            placement = await self.engine.off_device(
                lambda subject: settled(one.parameters.placement, subject.tokenizer.template)
            )
            return replace(one, parameters=replace(one.parameters, placement=placement))

        return [await settle(one) for one in specifications]

    async def _masked(
        self, dataset: Dataset, interventions: Sequence[Intervention], targets: Sequence[Target]
    ) -> tuple[Intervention, ...]:
        """Fills in missing thresholds of token filters, measured on some pairs."""
        done: list[Intervention] = []
        for one, target in zip(interventions, targets, strict=True):
            if one.family is Family.TOKEN_FILTER and one.parameters.threshold is None:
                read = await token_scores(self.engine, await self._some_pairs(dataset, MASK_PAIRS), [target])
                largest = [float(side.scores.max()) for sides in read if not isinstance(sides, AssayError) for side in sides]
                threshold = default_threshold(largest, activations=not target.is_direction)
                one = replace(one, parameters=replace(one.parameters, threshold=threshold))  # noqa: PLW2901
            done.append(one)
        return tuple(done)

    async def _some_pairs(self, dataset: Dataset, most: int) -> list[Pair]:
        """Pairs evenly spread over a dataset."""
        return list((await self.datasets.pairs_at(dataset, range(0, dataset.pairs, -(-dataset.pairs // most)))).values())

    async def _steered(
        self, interventions: Sequence[Intervention], targets: Sequence[Target], progress: Progress
    ) -> tuple[tuple[Intervention, ...], Vectors]:
        """Directions of the steering families; fills in missing coefficients, measured."""
        done: list[Intervention] = []
        directions: Vectors = {}
        for one, target in zip(interventions, targets, strict=True):
            if one.family in STEERED:
                direction = await self.direction(target)
                directions[one.id] = direction.astype(np.float32)
                if one.parameters.coefficient is None:
                    progress.enter("fitting", texts_of(SweepOptions()))
                    curve = await measure(self.engine, target, direction, one.parameters.span, advance=told(progress))
                    warnings = one.warnings
                    if curve.low is None:
                        text = "No measured coefficient raises the concept and keeps the model fluent; the smallest one is used."
                        warnings = (*warnings, PlanWarning(WarningCode.NO_USEFUL_RANGE, text))
                    parameters = replace(one.parameters, coefficient=curve.recommended)
                    one = replace(one, dose_response=curve, parameters=parameters, warnings=warnings)  # noqa: PLW2901
            done.append(one)
        return tuple(done), directions

    async def _tensors(
        self,
        dataset: Dataset,
        interventions: Sequence[Intervention],
        targets: Sequence[Target],
        compiled: Compiled,
        directions: Vectors,
    ) -> PlanTensors:
        bases, means, decoders, clamps = Vectors(), Vectors(), Vectors(), Vectors()
        for one, target in zip(interventions, targets, strict=True):
            if one.family is Family.ABLATION:
                rows = target.direction[None] if target.direction is not None else await self._decoder(target)
                bases[one.id] = ablation_basis(rows, one.parameters.rank).astype(np.float32)
                means[one.id] = await self._mean_residual(dataset)
            if one.family is Family.SAE_CLAMP:
                decoders[one.id] = (await self._decoder(target)).astype(np.float32)
                amplified = one.strength * compiled.clamps[one.id]
                clamps[one.id] = (
                    amplified.astype(np.float32) if one.mode is Mode.AMPLIFY else np.zeros_like(amplified, np.float32)
                )
        return PlanTensors(directions, bases, means, decoders, clamps)

    async def _decoder(self, target: Target) -> NDArray[np.float64]:
        """Decoder rows of a target's features, float64 [features, d_in]."""
        ids = target.features.tolist()
        return await self.engine.off_device(lambda subject: subject.sae.W_dec[ids].detach().float().cpu().double().numpy())

    async def _mean_residual(self, dataset: Dataset) -> NDArray[np.float32]:
        """Mean residual over response tokens of some pairs, evenly spread over the dataset, float32 [d_in].

        Raises:
            FailedPrecondition: NOTHING_SCORED: none of them can be scored.
        """
        pairs = await self._some_pairs(dataset, MEAN_PAIRS)
        # Sealed: a plan that is made again after a crash has the same bits, whatever the cache held.
        outcomes = await self.engine.score(pairs, ScoreOptions(lane=Lane.BULK, patient=True, sealed=True))
        total, tokens = np.zeros(self.engine.info.d_in), 0
        for outcome in outcomes:
            if isinstance(outcome, Scored):
                for side in (SpanName.CHOSEN, SpanName.REJECTED):
                    span = outcome.pooled.spans[side]
                    total += span.tokens * span.mean_residual.astype(np.float64)
                    tokens += span.tokens
        if not tokens:
            raise FailedPrecondition(
                f"None of the {len(pairs)} pairs that an ablation's mean is taken over can be scored ({_reasons(outcomes)}). "
                "Mend them, or use another dataset.",
                reason="NOTHING_SCORED",
                details={"pairs": len(pairs), "dataset": f"datasets/{dataset.id}"},
            )
        return (total / tokens).astype(np.float32)


def _reasons(outcomes: Sequence[object]) -> str:
    return ", ".join(sorted({one.reason for one in outcomes if isinstance(one, AssayError)}))


def told(progress: Progress) -> Callable[[int], None]:
    """A function that counts texts into an operation's progress, and raises Cancelled if the work should stop."""

    def advance(texts: int) -> None:
        progress.advance(texts)
        progress.check()

    return advance
