"""Runs one comparison of rollouts: scores missing shards of its datasets, compares, writes. The handler of its operation.

It may start again at any moment: stored shards are not scored again, and the statistics are computed again, to the same bits,
from the same files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay_server.audit.comparison.conclusions import Setting, conclusions
from assay_server.audit.comparison.control import positive_control
from assay_server.audit.comparison.run import Comparison, compare
from assay_server.audit.comparison.shifts import (
    FiringCounts,
    Rollouts,
    Shift,
    ShiftSums,
    imitation_gap,
    independent_side,
    rollouts_of,
)
from assay_server.audit.disparity import Disparity
from assay_server.audit.matrices import Csr, Floats, Ints
from assay_server.audit.passes import Survey, blocks, disparities, survey
from assay_server.audit.shards import ConceptSet
from assay_server.errors import AssayError, EngineFailure, FailedPrecondition
from assay_server.interventions.data_plan import columns_of
from assay_server.interventions.plan_checks import Applied, check_subject, check_target
from assay_server.interventions.plans import CompiledPlan
from assay_server.interventions.types import WEIGHING
from assay_server.interventions.weights import offset_weights
from assay_server.jobs.audits.snapshots import Snapshot, from_record
from assay_server.jobs.audits.types import ConceptFamily
from assay_server.jobs.comparisons.files import Asked, ComparisonFiles
from assay_server.jobs.comparisons.types import ComparisonHead, ComparisonRequest
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.datasets.shards import DatasetShards, LengthColumn, ShardGone, ShardSpec
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.plans.files import PlanFiles
from assay_server.store.datasets import Dataset
from assay_server.subject.types import SubjectInfo

FEWEST_PROMPTS = 2  # of rollouts: one varies from nothing
_ATTEMPTS = 3
_WHAT = ("training data", "rollouts", "noise rollouts")


@dataclass(frozen=True, eq=False)
class PlanWeights:
    """What a plan leaves of each pair's first gradient.

    Attributes:
        by_row: w, [pairs of the dataset]; 1 for a pair that the plan does not know.
        unweighed: families that weigh nothing beforehand.
    """

    by_row: Floats
    unweighed: tuple[str, ...] = ()


def plan_weights(compiled: CompiledPlan, pairs: int) -> PlanWeights:
    """A plan's weights: w 2σ(−o), and −w 2σ(o) for flipped pairs, all interventions together.

    A flip swaps the responses and their halves of o with them: such a pair's loss is −w log σ(−(βD + o)).

    Args:
        compiled: the plan.
        pairs: of its dataset, usable or not.
    """
    columns = columns_of(compiled)
    turn = np.where(columns.flip, -1.0, 1.0)
    weights = columns.weight * turn * offset_weights(turn * (columns.offset_chosen - columns.offset_rejected))
    by_row = np.ones(pairs)
    by_row[compiled.rows.rows] = weights
    families = [one.family for one in compiled.plan.interventions]
    return PlanWeights(by_row, tuple(sorted({family.name for family in families if family not in WEIGHING})))


class ComparisonRunner:
    """Runs comparisons over the datasets of one data directory. Confined to one event loop.

    Args:
        comparisons: where they are stored.
        plans: where plans are stored.
        datasets: finds and scores datasets.
        info: the loaded subject.
    """

    def __init__(self, comparisons: ComparisonFiles, plans: PlanFiles, datasets: DatasetReader, info: SubjectInfo) -> None:
        self._comparisons = comparisons
        self._plans = plans
        self._datasets = datasets
        self._info = info

    async def run(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        """Handler of "comparison". Returns its name."""
        name = str(arguments["comparison"])
        if await asyncio.to_thread(self._comparisons.exists, name):
            return name  # written before a crash
        asked = await asyncio.to_thread(self._comparisons.request, name)
        asked.subject.require(self._info)
        request, snapshot = asked.request, from_record(asked.concepts)
        names = (request.dataset, request.rollouts, request.noise)
        datasets = [await self._datasets.find(one) for one in names]
        weights: PlanWeights | None = None
        if request.plan:
            compiled = await asyncio.to_thread(self.plan, request.plan, datasets[0], asked.plan_fingerprint)
            weights = plan_weights(compiled, datasets[0].pairs)
        spec = ShardSpec((LengthColumn(),), snapshot.vectors, snapshot.thresholds)
        for _ in range(_ATTEMPTS):
            shards = [await self._datasets.scored(dataset, progress, spec) for dataset in datasets]
            comparing = _Comparing(request, shards, snapshot, weights, progress)
            try:
                compared, setting = await progress.in_thread(comparing.run)
            except ShardGone:
                continue
            progress.enter("writing")
            head = _head(name, asked, compared, conclusions(compared, setting))
            await asyncio.to_thread(self._comparisons.finish, head, compared, comparing.features)
            return name
        raise EngineFailure(
            f"Feature shards were damaged {_ATTEMPTS} times while they were read: the data directory's disk is not sound.",
            reason="STORE_UNSOUND",
        )

    async def failed(self, arguments: Mapping[str, Any], error: AssayError) -> None:
        """Delete the comparison after its operation ended without a result."""
        await asyncio.to_thread(self._comparisons.delete, str(arguments["comparison"]))

    def plan(self, plan: str, dataset: Dataset, fingerprint: str = "") -> CompiledPlan:
        """A plan that was made for this dataset under the loaded subject. Blocks.

        Args:
            plan: "plans/…".
            dataset: what it must have been made for.
            fingerprint: what it must still be; "" for whatever it is.

        Raises:
            NotFound: there is no such plan.
            FailedPrecondition: DATASET_MISMATCH, MODEL_MISMATCH, TOKENIZER_MISMATCH or PLAN_CHANGED, with both fingerprints.
        """
        compiled = self._plans.read(plan.removeprefix("plans/"))
        check_target(compiled.plan, Applied(dataset_fingerprint=dataset.fingerprint))
        check_subject(compiled.plan, self._info)
        if fingerprint and compiled.plan.fingerprint != fingerprint:
            raise FailedPrecondition(
                f"{plan} was {fingerprint} when the comparison was requested and is {compiled.plan.fingerprint} now.",
                reason="PLAN_CHANGED",
                field="plan",
                details={"asked": fingerprint, "found": compiled.plan.fingerprint},
            )
        return compiled


class _Comparing:
    """The statistics of one comparison; blocks, in a thread of its own.

    Attributes:
        features: of each concept made of features, by name; once it ran.
    """

    def __init__(
        self,
        request: ComparisonRequest,
        shards: Sequence[DatasetShards],
        snapshot: Snapshot,
        weights: PlanWeights | None,
        progress: Progress,
    ) -> None:
        self._request = request
        self._shards = shards
        self._snapshot = snapshot
        self._weights = weights
        self._progress = progress
        self.features: dict[str, tuple[int, ...]] = {}

    def run(self) -> tuple[Comparison, Setting]:
        """The comparison, and what is known beside it. Raises ShardGone, FailedPrecondition."""
        known = [survey(shards, self._report) for shards in self._shards]
        self._check(known)
        concepts = self._concepts(known)
        sizes = _sizes(concepts)
        request = self._request
        data, after, before, *again = (FiringCounts(self._shards[0].d_sae, request.options.tau) for _ in range(5))
        training = self._training(known[0], concepts, sizes, data)
        rollouts = self._rollouts(self._shards[1], concepts, sizes, (after, before))
        noise = self._rollouts(self._shards[2], concepts, sizes, (again[0], again[1]))
        side = None if request.noise == request.rollouts else independent_side((again[0], again[1]), before)
        gap = None if side is None else imitation_gap(data, side, concepts.members, sizes)
        control = None
        if request.margins is not None:
            control = positive_control(request.margins, request.margins_of, level=request.options.interval_level)
        check = self._progress.check
        compared = compare(concepts.names, training, rollouts, noise, request.options, control, check, gap=gap)
        unusable = [shards.dataset.pairs - one.pairs for shards, one in zip(self._shards, known, strict=True)]
        setting = Setting(
            prompts_in_training=int(np.isin(np.unique(known[1].prompts), known[0].prompts).sum()),
            unusable=(unusable[0], unusable[1], unusable[2]),
            unweighed=() if self._weights is None else self._weights.unweighed,
            noise_is_rollouts=request.noise == request.rollouts,
            longer=(float(known[0].nuisance.mean()), float(known[1].nuisance.mean())),
        )
        return compared, setting

    def _check(self, known: Sequence[Survey]) -> None:
        for what, shards, one in zip(_WHAT, self._shards, known, strict=True):
            if not one.pairs:
                raise FailedPrecondition(
                    f"None of the {shards.dataset.pairs} pairs of the {what} can be scored, so there is nothing to compare. "
                    "Pairs need two responses that are not empty and fit the context.",
                    reason="NO_USABLE_PAIRS",
                    details={"dataset": f"datasets/{shards.dataset.id}", "pairs": shards.dataset.pairs},
                )
        prompts = len(np.unique(known[1].prompts))
        if prompts < FEWEST_PROMPTS:
            raise FailedPrecondition(
                f"The rollouts answer {prompts} prompt, and a bootstrap over prompts needs at least {FEWEST_PROMPTS}; tens are "
                "better.",
                reason="TOO_FEW_PROMPTS",
                details={"prompts": prompts, "fewest_prompts": FEWEST_PROMPTS},
            )

    def _concepts(self, known: Sequence[Survey]) -> ConceptSet:
        fires = np.any([one.response_spans > 0 for one in known], axis=0)
        firing: list[int] = np.flatnonzero(fires).tolist() if ConceptFamily.FEATURES in self._request.families else []
        self.features = {**{f"feature/{id}": (id,) for id in firing}, **dict(self._snapshot.sets)}
        return self._snapshot.columns(firing, self._shards[0].d_sae)

    def _training(self, known: Survey, concepts: ConceptSet, sizes: Ints, counts: FiringCounts) -> Shift:
        sums = ShiftSums(sizes, known.open_prompts)
        for block in blocks(self._shards[0], "predicting", self._report):
            weights = None if self._weights is None else self._weights.by_row[block.rows]
            kept = slice(None) if weights is None else np.flatnonzero(weights)  # dropped pairs are not trained on
            counts.add(Csr(block.freq_chosen[kept]), Csr(block.freq_rejected[kept]))
            sums.add(disparities(block, concepts, self._request.options.tau), block.prompts, weights)
        return sums.finish()

    def _rollouts(
        self, shards: DatasetShards, concepts: ConceptSet, sizes: Ints, counts: tuple[FiringCounts, FiringCounts]
    ) -> Rollouts:
        def parts() -> Iterator[tuple[Disparity, Ints]]:
            for block in blocks(shards, "observing", self._report):
                for side, frequencies in zip(counts, (block.freq_chosen, block.freq_rejected), strict=True):
                    side.add(frequencies)
                yield disparities(block, concepts, self._request.options.tau), block.prompts

        return rollouts_of(sizes, parts())

    def _report(self, phase: str, done: int, total: int) -> None:
        self._progress.at("testing", done, total)


def _sizes(concepts: ConceptSet) -> Ints:
    """Features of each concept, 1 for a direction, [concepts]."""
    made = concepts.members.shape[1]
    sizes = np.ones(len(concepts.names), np.int64)
    sizes[:made] = np.bincount(concepts.members.indices, minlength=made)
    return sizes


def _head(name: str, asked: Asked, compared: Comparison, said: tuple[str, ...]) -> ComparisonHead:
    request = asked.request
    return ComparisonHead(
        name=name,
        dataset=request.dataset,
        rollouts=request.rollouts,
        noise=request.noise,
        plan=request.plan,
        subject=asked.subject,
        created=time.time(),
        dataset_pairs=compared.predicted.pairs,
        rollout_pairs=compared.observed.pairs,
        prompts=compared.prompts,
        noise_pairs=compared.noise.pairs,
        retained=compared.retained,
        above_noise=compared.above_noise,
        noise_floor=compared.noise_floor,
        control=compared.control,
        conclusions=said,
        total_shifts=len(compared.names),
        options=request.options,
    )
