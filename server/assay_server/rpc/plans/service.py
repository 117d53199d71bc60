"""InterventionService: plans, offsets, vectors, data plans, rewards. Translation only: the plan jobs do the work."""

from collections.abc import AsyncIterator

from assay.v1 import intervention_pb2, intervention_service_pb2_grpc, scoring_pb2
from assay.v1 import intervention_service_pb2 as service_pb
from google.longrunning import operations_pb2

from assay_server.errors import InvalidItem
from assay_server.jobs.plans.applied import AppliedPlan
from assay_server.rpc import names
from assay_server.rpc.audits.exporting import chunks_of
from assay_server.rpc.fields import check_count
from assay_server.rpc.items import AnyCall, Call, answer_items
from assay_server.rpc.operations import OperationMessages
from assay_server.rpc.paging import Place, page_after
from assay_server.rpc.pairs import read_pair, read_response
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
from assay_server.rpc.state import Context, Loaded, ServerState, deadline_of
from assay_server.rpc.streams import PairStream


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
        asked = read_plan_request(request, self._state.loaded.bounds, jobs.options.max_interventions)
        return await self._operations.message(await jobs.create(asked))

    async def GetPlan(self, request: service_pb.GetPlanRequest, context: Context) -> service_pb.GetPlanResponse:
        """One plan."""
        return service_pb.GetPlanResponse(plan=messages.plan(await self._state.plans.plan(names.plan_name(request.name, "name"))))

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
        await self._state.plans.delete(names.plan_name(request.name, "name"))
        return service_pb.DeletePlanResponse()

    async def StreamOffsets(self, request_iterator: object, context: Context) -> None:
        """Offsets of any number of pairs; answers come in order, a bounded number of batches behind."""
        options = "OffsetOptions, which names the plan"
        await PairStream(self._state, context, self._open_offsets, service_pb.StreamOffsetsResponse, options).run()

    async def GetIntervention(
        self, request: service_pb.GetInterventionRequest, context: Context
    ) -> service_pb.GetInterventionResponse:
        """One intervention, and what a trainer puts into its model."""
        name, id = names.intervention_name(request.name, "name")
        applied = await self._state.plans.applied(name, read_applied(request.target))
        one = applied.plan.intervention(id)
        return service_pb.GetInterventionResponse(
            intervention=messages.intervention(applied.plan, one),
            artifact=messages.artifact(applied.compiled, one, self._state.loaded.scorer.info),
        )

    async def MeasureIntervention(
        self, request: service_pb.MeasureInterventionRequest, context: Context
    ) -> operations_pb2.Operation:
        """Begins to measure a dose-response curve."""
        name, id = names.intervention_name(request.name, "name")
        request_id = names.request_id(request.request_id, "request_id")
        return await self._operations.message(await self._state.plans.measure(name, id, read_sweep(request), request_id))

    async def StreamDataPlan(
        self, request: service_pb.StreamDataPlanRequest, context: Context
    ) -> AsyncIterator[service_pb.StreamDataPlanResponse]:
        """What the plan does to each usable pair of its dataset."""
        applied = await self._applied(request)
        if request.start_row < 0:
            raise InvalidItem(f"start_row is {request.start_row}; give 0 or more.", reason="OUT_OF_RANGE", field="start_row")
        self._state.enter_stream()
        try:
            yield service_pb.StreamDataPlanResponse(head=messages.data_head(applied.plan))
            async for rows in applied.rows(request.start_row):
                yield service_pb.StreamDataPlanResponse(rows=[messages.data_row(row) for row in rows])
        finally:
            self._state.leave_stream()

    async def ExportDataPlan(
        self, request: service_pb.ExportDataPlanRequest, context: Context
    ) -> AsyncIterator[service_pb.ExportDataPlanResponse]:
        """The data plan as Parquet."""
        applied = await self._applied(request)
        self._state.enter_stream()
        try:
            for chunk in chunks_of(await applied.parquet()):
                yield service_pb.ExportDataPlanResponse(data=chunk)
        finally:
            self._state.leave_stream()

    async def RankInoculationPrompts(
        self, request: service_pb.RankInoculationPromptsRequest, context: Context
    ) -> operations_pb2.Operation:
        """Begins to rank prompts."""
        jobs = self._state.plans
        asked = read_ranking(request, self._state.loaded.bounds, jobs.options.max_ranking_rows)
        return await self._operations.message(await jobs.rank(asked))

    async def ScoreRewards(self, request: service_pb.ScoreRewardsRequest, context: Context) -> service_pb.ScoreRewardsResponse:
        """Shaped rewards of fresh responses."""
        loaded = self._state.loaded
        check_count(len(request.responses), loaded.bounds.limits.max_pairs_per_request, "max_pairs_per_request", "responses")
        how = read_reading(request.truncation, scoring_pb2.LANE_INTERACTIVE, "", deadline_of(context))
        answer = (await self._applied(request)).rewards(how)
        rewards = read_rewards(request)
        call = Call(
            "ScoreRewards",
            "responses",
            loaded.bounds,
            self._state.metrics,
            read=read_response,
            answer=lambda responses, places: answer(responses, [rewards[place] for place in places]),
            result=lambda id, reward: service_pb.RewardResult(id=id, reward=messages.reward(reward)),
            failed=service_pb.RewardResult,
        )
        return service_pb.ScoreRewardsResponse(results=await answer_items(request.responses, call))

    async def _open_offsets(self, options: service_pb.OffsetOptions, loaded: Loaded, deadline: float | None) -> AnyCall:
        beta = read_beta(options)
        how = read_reading(options.truncation, options.lane, "options.", deadline)
        applied = await self._state.plans.applied(names.plan_name(options.plan, "options.plan"), read_applied(options.target))
        offsets = applied.offsets(how, dataset_pairs_only=options.dataset_pairs_only)
        return Call(
            "StreamOffsets",
            "batch.pairs",
            loaded.bounds,
            self._state.metrics,
            read=read_pair,
            answer=lambda pairs, _: offsets(pairs),
            result=lambda id, offset: service_pb.OffsetResult(id=id, offset=messages.pair_offset(applied.plan, offset, beta)),
            failed=service_pb.OffsetResult,
        )

    async def _applied(
        self, request: service_pb.StreamDataPlanRequest | service_pb.ExportDataPlanRequest | service_pb.ScoreRewardsRequest
    ) -> AppliedPlan:
        return await self._state.plans.applied(names.plan_name(request.plan, "plan"), read_applied(request.target))

    async def _made(self, name: str) -> intervention_pb2.Plan | intervention_pb2.Intervention:
        plan_part, _, id = name.partition("/interventions/")
        plan = await self._state.plans.plan(plan_part)
        return messages.intervention(plan, plan.intervention(int(id))) if id else messages.plan(plan)

    async def _ranking(self, name: str) -> service_pb.PromptRanking:
        return messages.ranking(await self._state.plans.ranking(name))
