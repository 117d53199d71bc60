"""Plans: created, stored, measured and applied (METHOD.md §4).

Invariants:
- A plan named in an operation's response is on disk, whole; creating one may start again at any moment.
- What a plan applies is fixed when it is created; only curves are measured later.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from assay_server.errors import FailedPrecondition, InvalidItem
from assay_server.interventions.apply import PlanIndex
from assay_server.interventions.compile import Specification
from assay_server.interventions.plan_checks import Applied, check_subject, check_target, require_whole_model
from assay_server.interventions.plans import Plan
from assay_server.interventions.reading import Engine
from assay_server.interventions.sweep import SweepOptions, check_options, measure, texts_of
from assay_server.interventions.types import STEERED, WHOLE_MODEL
from assay_server.jobs.datasets.reader import DatasetReader
from assay_server.jobs.operations.jobs import Operations
from assay_server.jobs.operations.progress import Progress
from assay_server.jobs.operations.types import OperationInfo
from assay_server.jobs.plans.applied import AppliedPlan
from assay_server.jobs.plans.files import PLAN_ID, PlanFiles
from assay_server.jobs.plans.ranking import PromptRanker
from assay_server.jobs.plans.resolve import ConceptSources, resolve
from assay_server.jobs.plans.run import PlanMaker, told
from assay_server.jobs.plans.types import PlanOptions, PlanRequest, RankingRequest
from assay_server.store.files import Files
from assay_server.store.records import record_of
from assay_server.subject.identity import require_recorded, subject_record

KIND, MEASURE, RANK = "plan", "plan-measure", "prompt-ranking"
LANES = {"plans": 1}


class PlanJobs:
    """The plans of one data directory under one subject. Confined to one event loop.

    Args:
        files: the data directory's.
        operations: run the work; not started yet, with the lanes of ``LANES``.
        engine: the scorer.
        datasets: finds and scores datasets.
        sources: finds concepts and decisions.
        options: limits on plans.
    """

    def __init__(
        self,
        files: Files,
        operations: Operations,
        engine: Engine,
        datasets: DatasetReader,
        sources: ConceptSources,
        *,
        options: PlanOptions | None = None,
        lane: str = "plans",
    ) -> None:
        self._engine = engine
        self._datasets = datasets
        self._sources = sources
        self.options = options or PlanOptions()
        self._plans = PlanFiles(files)
        self._operations = operations
        self._maker = PlanMaker(self._plans, engine, datasets, sources)
        self._kept: OrderedDict[str, PlanIndex] = OrderedDict()
        self._creating = asyncio.Lock()
        operations.register(KIND, self._maker.run, lane=lane)
        operations.register(MEASURE, self._measure, lane=lane)
        operations.register(RANK, PromptRanker(self._maker, self._plans).run, lane=lane)

    async def start(self) -> None:
        """Remove what a killed process left; before the operations start."""
        await asyncio.to_thread(self._plans.sweep)

    async def sweep(self) -> None:
        """Delete rankings whose operations are gone; once the operations are read.

        Rankings are listed first: one that comes meanwhile has its operation already.
        """
        rankings = await asyncio.to_thread(self._plans.rankings)
        targets = {operation.target for operation in self._operations.all()}
        await asyncio.to_thread(self._plans.delete_rankings, [id for id in rankings if f"rankings/{id}" not in targets])

    async def create(self, request: PlanRequest) -> OperationInfo:
        """Compile a plan.

        Raises:
            InvalidItem: INVALID_ID, ALREADY_EXISTS, LIMIT_EXCEEDED; NotFound: the dataset.
            FailedPrecondition: WHOLE_MODEL_REQUIRED.
            AssayError: as ``resolve``.
        """
        name, specifications = await resolve(request, self._sources)
        dataset = await self._datasets.find(name, "dataset")
        self._check_size(len(specifications), dataset.pairs)
        whole_model = any(_needs_whole_model(one) for one in specifications)
        if whole_model:
            require_whole_model(self._engine.info)
        async with self._creating:
            known = self._operations.find(KIND, request.request_id)
            id = await self._free_id(request) if known is None else known.target.removeprefix("plans/")
            arguments = {
                "id": id,
                "asked_id": request.plan_id,
                "dataset": name,
                "display_name": request.display_name,
                "specifications": [_recorded(one) for one in specifications],
                "subject": subject_record(self._engine.info, whole_model=whole_model),
            }
            return await self._operations.submit(
                KIND, target=f"plans/{id}", arguments=arguments, request_id=request.request_id, defaults=("id", "subject")
            )

    async def measure(self, name: str, id: int, options: SweepOptions, request_id: str = "") -> OperationInfo:
        """Measure an intervention's curve again, and keep it. Raises NotFound, InvalidItem, FailedPrecondition."""
        check_options(options)
        plan = await self.plan(name)
        intervention = plan.intervention(id)
        self._check_measurable(plan)
        if intervention.family not in STEERED:
            raise FailedPrecondition(
                f"{intervention.family.name} has no coefficient to measure; STEERING and STEERING_VECTOR have.",
                reason="NOTHING_TO_MEASURE",
                field="name",
            )
        subject = subject_record(self._engine.info, whole_model=True)
        arguments = {"plan": name, "id": id, "options": asdict(options), "subject": subject}
        target = f"{name}/interventions/{id}"
        return await self._operations.submit(
            MEASURE, target=target, arguments=arguments, request_id=request_id, defaults=("subject",)
        )

    async def rank(self, request: RankingRequest) -> OperationInfo:
        """Rank inoculation prompts. Raises InvalidItem, NotFound, FailedPrecondition."""
        self._sources.find(request.concept, "concept")
        require_whole_model(self._engine.info)
        await self._datasets.find(request.dataset, "dataset")
        arguments = {**asdict(request), "id": request.request_id or secrets.token_hex(8)}
        arguments.pop("request_id")
        arguments["subject"] = subject_record(self._engine.info, whole_model=True)
        target = f"rankings/{arguments['id']}"
        return await self._operations.submit(
            RANK, target=target, arguments=arguments, request_id=request.request_id, defaults=("id", "subject")
        )

    async def ranking(self, name: str) -> Mapping[str, Any]:
        """A ranking's record. Raises NotFound."""
        return await asyncio.to_thread(self._plans.ranking, name.removeprefix("rankings/"))

    async def plan(self, name: str) -> Plan:
        """One plan. Raises NotFound, DataLoss."""
        return await asyncio.to_thread(self._plans.plan, name.removeprefix("plans/"))

    async def all(self) -> list[Plan]:
        """All plans, newest first; one that is damaged is left out, and the log tells of it."""
        return sorted(await asyncio.to_thread(self._plans.all), key=lambda plan: (plan.created, plan.name), reverse=True)

    async def delete(self, name: str) -> None:
        """Stop what makes or measures a plan, then delete it. Raises NotFound."""
        async with self._creating:  # so that no request takes up what is being forgotten
            ours = [one.target for one in self._operations.all() if one.target == name or one.target.startswith(f"{name}/")]
            for target in ours:
                await self._operations.cancel_target(target)
            self._kept.pop(name, None)
            await asyncio.to_thread(self._plans.delete, name.removeprefix("plans/"))
            for target in ours:
                await self._operations.forget_target(target)

    async def compiled(self, name: str) -> PlanIndex:
        """A plan with its rows, for the loaded subject. Raises NotFound, DataLoss, FailedPrecondition (MODEL_MISMATCH, ...)."""
        plan = await self.plan(name)  # each time: it may be gone, another one of the same name, or have a new curve
        index = self._kept.get(name)
        if index is None or _applied(index.compiled.plan) != _applied(plan):
            index = await asyncio.to_thread(lambda: PlanIndex(self._plans.read(plan.id)))
        elif index.compiled.plan != plan:
            index = index.told(plan)
        self._kept[name] = index
        self._kept.move_to_end(name)
        while len(self._kept) > 1 and sum(one.rows for one in self._kept.values()) > self.options.held_rows:
            self._kept.popitem(last=False)
        families = {one.family for one in index.compiled.plan.interventions}
        check_subject(index.compiled.plan, self._engine.info, needs_whole_model=bool(families & WHOLE_MODEL))
        return index

    async def applied(self, name: str, target: Applied) -> AppliedPlan:
        """A plan for what its caller applies it to. Raises as ``compiled``; FailedPrecondition (DATASET_MISMATCH, ...)."""
        index = await self.compiled(name)
        check_target(index.compiled.plan, target)
        return AppliedPlan(self._engine, index, partial(self._datasets.read, index.compiled.plan.dataset))

    # Handlers

    async def _measure(self, arguments: Mapping[str, Any], progress: Progress) -> str:
        require_recorded(arguments["subject"], self._engine.info)
        plan, id = await self.plan(str(arguments["plan"])), int(arguments["id"])
        self._check_measurable(plan)
        raw = arguments["options"]
        options = SweepOptions(tuple(raw["coefficients"]), raw["generated_tokens"], raw["perplexity_limit"])
        compiled = await asyncio.to_thread(self._plans.read, plan.id)
        progress.enter("fitting", texts_of(options))
        curve = await measure(
            self._engine,
            compiled.targets[id - 1],
            compiled.tensors.directions[id].astype(np.float64),
            plan.intervention(id).parameters.span,
            options,
            told(progress),
        )
        # Finished even if cancelled: deleting the plan cancels this first, and no head may be written after that.
        await progress.in_thread(lambda: self._plans.rewrite(self._plans.plan(plan.id).with_curve(id, curve)))
        return f"{plan.name}/interventions/{id}"

    def _check_size(self, interventions: int, pairs: int) -> None:
        if interventions * pairs > self.options.max_scores:
            raise InvalidItem(
                f"{interventions} interventions on {pairs} pairs are {interventions * pairs} scores; max_plan_scores is "
                f"{self.options.max_scores}. Make several plans, or one for a smaller dataset.",
                reason="LIMIT_EXCEEDED",
                field="interventions",
                details={"interventions": interventions, "pairs": pairs, "max_plan_scores": self.options.max_scores},
            )

    def _check_measurable(self, plan: Plan) -> None:
        require_whole_model(self._engine.info)
        check_subject(plan, self._engine.info, needs_whole_model=bool(plan.whole_model_fingerprint))

    async def _free_id(self, request: PlanRequest) -> str:
        id = request.plan_id or _id_for(request.request_id)
        if not PLAN_ID.fullmatch(id):
            raise InvalidItem(
                "plan_id is 1 to 64 letters, digits, '-' and '_', a letter or digit first.", reason="INVALID_ID", field="plan_id"
            )
        if f"plans/{id}" in self._operations.open_targets() or await asyncio.to_thread(self._plans.exists, id):
            raise InvalidItem(
                f"plans/{id} exists already; give another plan_id, or delete that one.", reason="ALREADY_EXISTS", field="plan_id"
            )
        return id


def _id_for(request_id: str) -> str:
    """An id of at most 64 characters; another request, another id."""
    if len(request_id) > 62:
        return f"p-{hashlib.sha256(request_id.encode()).hexdigest()[:62]}"
    return f"p-{request_id or secrets.token_hex(8)}"


def _applied(plan: Plan) -> tuple[str, float]:
    """What its rows and tensors go by; curves do not count."""
    return plan.fingerprint, plan.created


def _recorded(one: Specification) -> dict[str, Any]:
    """A specification as an operation keeps it, without a note where there is none: requests of before stay the same requests."""
    record = record_of(one)
    return record if one.note else {key: value for key, value in record.items() if key != "note"}


def _needs_whole_model(one: Specification) -> bool:
    return one.family in WHOLE_MODEL or (one.family in STEERED and one.parameters.coefficient is None)
