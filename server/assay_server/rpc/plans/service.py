"""InterventionService: plans, offsets, vectors, data plans, rewards. Translation only: the plan jobs do the work, and keep it."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from assay.v1 import intervention_pb2, intervention_service_pb2_grpc, scoring_pb2
from assay.v1 import intervention_service_pb2 as service_pb
from google.longrunning import operations_pb2

from assay_server.errors import AssayError, InvalidItem
from assay_server.interventions.apply import PlanIndex, pair_offsets, response_rewards
from assay_server.interventions.data_plan import data_rows, parquet_of, texts_of
from assay_server.interventions.plan_checks import check_subject, check_target, offset_interventions, reward_interventions
from assay_server.interventions.plans import Plan
from assay_server.interventions.reading import Reading
from assay_server.jobs.plans.jobs import PlanJobs
from assay_server.rpc import names
from assay_server.rpc.audits.exporting import chunks_of
from assay_server.rpc.errors import to_status
from assay_server.rpc.operations import OperationMessages
from assay_server.rpc.paging import Place, page_after
from assay_server.rpc.pairs import check_count, read_pair, read_response
from assay_server.rpc.plans import messages
from assay_server.rpc.plans.requests import (
    read_applied,
    read_beta,
    read_plan_request,
    read_ranking,
    read_reading,
    read_rewards,
    read_sweep,
)
from assay_server.rpc.state import Loaded, ServerState, deadline_of
from assay_server.rpc.streams import PairStream
from assay_server.subject.types import Pair, PromptedResponse

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_PLAN = re.compile(r"plans/[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_INTERVENTION = re.compile(r"(plans/[A-Za-z0-9][A-Za-z0-9_-]{0,63})/interventions/([0-9]{1,4})")


class InterventionServicer(intervention_service_pb2_grpc.InterventionServiceServicer):
    """Translates between the contract and the plan jobs."""

    def __init__(self, state: ServerState, operations: OperationMessages) -> None:
        self._state = state
        self._operations = operations
        operations.register("plans/", self._made)
        operations.register("rankings/", self._ranking)

    async def CreatePlan(self, request: service_pb.CreatePlanRequest, context: Context) -> operations_pb2.Operation:
        """Begins to compile a plan."""
        jobs = self._state.plans
        asked = await read_plan_request(request, self._state.loaded.bounds, jobs.sources, jobs.options.max_interventions)
        return await self._operations.message(await jobs.create(asked))

    async def GetPlan(self, request: service_pb.GetPlanRequest, context: Context) -> service_pb.GetPlanResponse:
        """One plan."""
        return service_pb.GetPlanResponse(plan=messages.plan(await self._state.plans.plan(plan_name(request.name, "name"))))

    async def ListPlans(self, request: service_pb.ListPlansRequest, context: Context) -> service_pb.ListPlansResponse:
        """A page of plans, newest first."""
        dataset = names.dataset_name(request.dataset, "dataset") if request.dataset else ""
        plans = [plan for plan in await self._state.plans.all() if not dataset or plan.dataset == dataset]
        page, token = page_after(
            plans,
            lambda plan: Place(plan.name, plan.created),
            size=request.page_size,
            token=request.page_token,
            question=("ListPlans", dataset),
        )
        return service_pb.ListPlansResponse(plans=[messages.plan(plan) for plan in page], next_page_token=token)

    async def DeletePlan(self, request: service_pb.DeletePlanRequest, context: Context) -> service_pb.DeletePlanResponse:
        """Deletes a plan."""
        await self._state.plans.delete(plan_name(request.name, "name"))
        return service_pb.DeletePlanResponse()

    async def StreamOffsets(self, request_iterator: object, context: Context) -> None:
        """Offsets of any number of pairs; answers come in order, a bounded number of batches behind."""
        self._state.enter_stream()
        try:
            await OffsetStream(self._state, context).run()
        finally:
            self._state.leave_stream()

    async def GetIntervention(
        self, request: service_pb.GetInterventionRequest, context: Context
    ) -> service_pb.GetInterventionResponse:
        """One intervention, and what a trainer puts into its model."""
        name, id = intervention_name(request.name, "name")
        compiled = (await self._state.plans.compiled(name)).compiled
        check_target(compiled.plan, read_applied(request.target))
        one = compiled.plan.intervention(id)
        return service_pb.GetInterventionResponse(
            intervention=messages.intervention(compiled.plan, one),
            artifact=messages.artifact(compiled, one, self._state.loaded.scorer.info),
        )

    async def MeasureIntervention(
        self, request: service_pb.MeasureInterventionRequest, context: Context
    ) -> operations_pb2.Operation:
        """Begins to measure a dose-response curve."""
        name, id = intervention_name(request.name, "name")
        request_id = names.request_id(request.request_id, "request_id")
        return await self._operations.message(await self._state.plans.measure(name, id, read_sweep(request), request_id))

    async def StreamDataPlan(
        self, request: service_pb.StreamDataPlanRequest, context: Context
    ) -> AsyncIterator[service_pb.StreamDataPlanResponse]:
        """What the plan does to each usable pair of its dataset."""
        jobs = self._state.plans
        index = await self._applied(jobs, request.plan, request.target)
        if request.start_row < 0:
            raise InvalidItem(f"start_row is {request.start_row}; give 0 or more.", reason="OUT_OF_RANGE", field="start_row")
        plan = index.compiled.plan
        self._state.enter_stream()
        try:
            yield service_pb.StreamDataPlanResponse(head=messages.data_head(plan, texts_of(plan)))
            async for rows in self._rows(jobs, index, request.start_row):
                yield service_pb.StreamDataPlanResponse(rows=[messages.data_row(row) for row in rows])
        finally:
            self._state.leave_stream()

    async def ExportDataPlan(
        self, request: service_pb.ExportDataPlanRequest, context: Context
    ) -> AsyncIterator[service_pb.ExportDataPlanResponse]:
        """The same as Parquet."""
        jobs = self._state.plans
        index = await self._applied(jobs, request.plan, request.target)
        self._state.enter_stream()
        try:
            rows = [row async for part in self._rows(jobs, index, 0) for row in part]
            plan = index.compiled.plan
            data = await asyncio.to_thread(parquet_of, plan, plan.binding.tokenizer_fingerprint, rows)
            for chunk in chunks_of(data):
                yield service_pb.ExportDataPlanResponse(data=chunk)
        finally:
            self._state.leave_stream()

    async def RankInoculationPrompts(
        self, request: service_pb.RankInoculationPromptsRequest, context: Context
    ) -> operations_pb2.Operation:
        """Begins to rank prompts."""
        jobs = self._state.plans
        asked = read_ranking(request, self._state.loaded.bounds, jobs.options.max_ranking_rows)
        jobs.sources.find(asked.concept, "concept")
        return await self._operations.message(await jobs.rank(asked))

    async def ScoreRewards(self, request: service_pb.ScoreRewardsRequest, context: Context) -> service_pb.ScoreRewardsResponse:
        """Shaped rewards of fresh responses."""
        loaded = self._state.loaded
        check_count(len(request.responses), loaded.bounds.limits.max_pairs_per_request, "max_pairs_per_request", "responses")
        index = await self._applied(self._state.plans, request.plan, request.target)
        reward_interventions(index.compiled.plan)
        rewards = read_rewards(request)
        how = read_reading(request.truncation, scoring_pb2.LANE_INTERACTIVE, "", deadline_of(context))
        outcomes: list[Any] = [_read(read_response, item, loaded) for item in request.responses]
        good = [at for at, outcome in enumerate(outcomes) if isinstance(outcome, PromptedResponse)]
        responses = [outcomes[at] for at in good]
        scored = await response_rewards(self._state.plans.engine, index.compiled, responses, [rewards[at] for at in good], how)
        for at, outcome in zip(good, scored, strict=True):
            outcomes[at] = outcome
        results = [
            service_pb.RewardResult(id=item.id, error=to_status(outcome, within=f"responses[{at}]"))
            if isinstance(outcome, AssayError)
            else service_pb.RewardResult(id=item.id, reward=messages.reward(outcome))
            for at, (item, outcome) in enumerate(zip(request.responses, outcomes, strict=True))
        ]
        return service_pb.ScoreRewardsResponse(results=results)

    async def _applied(self, jobs: PlanJobs, name: str, target: service_pb.PlanTarget) -> PlanIndex:
        index = await jobs.compiled(plan_name(name, "plan"))
        check_target(index.compiled.plan, read_applied(target))
        return index

    def _rows(self, jobs: PlanJobs, index: PlanIndex, start: int) -> AsyncIterator[Any]:
        dataset = index.compiled.plan.dataset
        return data_rows(jobs.engine, index.compiled, lambda first: jobs.maker.pairs(dataset, first), start)

    async def _made(self, name: str) -> intervention_pb2.Plan | intervention_pb2.Intervention:
        plan_part, _, id = name.partition("/interventions/")
        plan = await self._state.plans.plan(plan_part)
        return messages.intervention(plan, plan.intervention(int(id))) if id else messages.plan(plan)

    async def _ranking(self, name: str) -> service_pb.PromptRanking:
        return messages.ranking(await self._state.plans.ranking(name))


class OffsetStream(PairStream):
    """Runs one StreamOffsets to its end, by StreamPairs' rules."""

    method = "StreamOffsets"

    async def open(self, head: Any, loaded: Loaded) -> Callable[[Any], Awaitable[Any]]:
        """See ``PairStream``."""
        if head.WhichOneof("payload") != "options":
            raise InvalidItem(
                "The first message carries no options; open a stream with OffsetOptions, which names the plan.",
                reason="STREAM_ORDER",
                field="options",
            )
        options: service_pb.OffsetOptions = head.options
        beta = read_beta(options)
        how = read_reading(options.truncation, options.lane, "options.", self.deadline)
        jobs = self.state.plans
        index = await jobs.compiled(plan_name(options.plan, "options.plan"))
        check_target(index.compiled.plan, read_applied(options.target))
        offset_interventions(index.compiled.plan)
        only = options.dataset_pairs_only

        async def answer(batch: scoring_pb2.PairBatch) -> service_pb.StreamOffsetsResponse:
            results = await _offsets(jobs, index, batch, loaded, how, beta, only)
            return service_pb.StreamOffsetsResponse(sequence=batch.sequence, results=results)

        return answer


async def _offsets(
    jobs: PlanJobs,
    index: PlanIndex,
    batch: scoring_pb2.PairBatch,
    loaded: Loaded,
    how: Reading,
    beta: float | None,
    only: bool,
) -> list[service_pb.OffsetResult]:
    plan: Plan = index.compiled.plan
    check_subject(plan, loaded.scorer.info)
    outcomes: list[Any] = [_read(read_pair, item, loaded) for item in batch.pairs]
    good = [at for at, outcome in enumerate(outcomes) if isinstance(outcome, Pair)]
    scored = await pair_offsets(jobs.engine, index, [outcomes[at] for at in good], how, dataset_pairs_only=only)
    for at, outcome in zip(good, scored, strict=True):
        outcomes[at] = outcome
    return [
        messages.offset_error(item.id, to_status(outcome, within=f"batch.pairs[{at}]"))
        if isinstance(outcome, AssayError)
        else service_pb.OffsetResult(id=item.id, offset=messages.pair_offset(plan, outcome, beta))
        for at, (item, outcome) in enumerate(zip(batch.pairs, outcomes, strict=True))
    ]


def plan_name(name: str, path: str) -> str:
    """The name, of the shape "plans/{id}". Raises InvalidItem (INVALID_NAME)."""
    if not _PLAN.fullmatch(name):
        raise InvalidItem(f'{path} is no plan\'s name; give "plans/{{id}}".', reason="INVALID_NAME", field=path)
    return name


def intervention_name(name: str, path: str) -> tuple[str, int]:
    """The plan's name and the intervention's id. Raises InvalidItem (INVALID_NAME)."""
    found = _INTERVENTION.fullmatch(name)
    if found is None:
        raise InvalidItem(
            f'{path} is no intervention\'s name; give "plans/{{plan}}/interventions/{{id}}".', reason="INVALID_NAME", field=path
        )
    return found.group(1), int(found.group(2))


def _read(read: Callable[[Any, Any], Any], item: Any, loaded: Loaded) -> Any:
    try:
        return read(item, loaded.bounds)
    except InvalidItem as error:
        return error
