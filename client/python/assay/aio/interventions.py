# ruff: noqa: ASYNC109 - a call's deadline travels to the server with it
"""What the asyncio client does with plans; `assay.interventions` has what goes into one.

plan = await (await client.create_plan(dataset, [Intervene("feature/17", InterventionMode.EXPLAIN_AWAY)])).wait()
offsets = [result.unwrap() async for result in client.offsets(plan, pairs, beta=0.1)]
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

from assay.aio.connection import AsyncConnection
from assay.aio.operations import AsyncOperation
from assay.aio.stream import AsyncPairStream
from assay.flow import offsets
from assay.intervention_artifacts import CompiledIntervention
from assay.intervention_data import AsyncDataPlan, head_of, rows_of
from assay.intervention_results import (
    ANYTHING,
    DataPlanRow,
    OffsetResult,
    PlanTarget,
    PromptRanking,
    RewardResult,
    reward_result,
)
from assay.interventions import Intervene, Intervention, Plan, PromptPlacement
from assay.names import PAGE_SIZE, Named, fresh_id, name_of, optional_resource, resource
from assay.options import Lane, Truncation
from assay.pairs import Pair, PromptedResponse
from assay.v1 import intervention_pb2
from assay.v1 import intervention_service_pb2 as service
from assay.wire import to_wire


class AsyncInterventionMethods(AsyncConnection):
    """Plans, and what they give a trainer."""

    async def create_plan(
        self,
        dataset: Named | str,
        interventions: Sequence[Intervene],
        *,
        plan_id: str = "",
        display_name: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncOperation[Plan]:
        """Starts creating a plan, and returns at once: ``await (await client.create_plan(...)).wait()`` waits for it.

        Args:
            dataset: what it is fitted on, or its name; "" for the dataset of the decisions' audits.
            interventions: what to do, 1 to 64.
            plan_id: letters, digits, "-" and "_", at most 64; by default made up.
            display_name: display name; by default the dataset's.
            request_id: the same id gives the same operation, also in another process.
            timeout: timeout of the start, in seconds.
        """
        request = service.CreatePlanRequest(
            plan_id=plan_id,
            display_name=display_name,
            dataset=optional_resource(dataset, "datasets"),
            interventions=[one.to_proto() for one in interventions],
            request_id=request_id or fresh_id(),
        )
        return self._handle(await self._ask(self._plans.CreatePlan, request, timeout))

    async def plan(self, name: str, *, timeout: float | None = None) -> Plan:
        """One plan, by its name or id."""
        answer = await self._ask(self._plans.GetPlan, service.GetPlanRequest(name=resource(name, "plans")), timeout)
        return Plan.from_proto(answer.plan)

    async def plans(self, dataset: Named | str = "", *, timeout: float | None = None) -> AsyncIterator[Plan]:
        """All plans, or those of a dataset, newest first, page by page."""
        request = service.ListPlansRequest(page_size=PAGE_SIZE, dataset=optional_resource(dataset, "datasets"))
        async for message in self._pages(self._plans.ListPlans, request, "plans", timeout):
            yield Plan.from_proto(message)

    async def delete_plan(self, plan: Named | str, *, timeout: float | None = None) -> None:
        """Deletes a plan."""
        await self._ask(self._plans.DeletePlan, service.DeletePlanRequest(name=resource(plan, "plans")), timeout)

    def offsets(
        self,
        plan: Named | str,
        pairs: Iterable[Pair] | AsyncIterable[Pair],
        *,
        beta: float | None = None,
        target: PlanTarget = ANYTHING,
        dataset_pairs_only: bool = False,
        truncation: Truncation = Truncation.REFUSE,
        lane: Lane = Lane.DEFAULT,
    ) -> AsyncGenerator[OffsetResult, None]:
        """Offsets of any number of pairs over one stream, by all offset families of a plan together.

        The stream works as that of `score`: the iterable is consumed lazily, a bounded number of pairs is in flight, and a lost
        connection is opened again and goes on after the last answer.

        Args:
            plan: the plan, or its name.
            pairs: any pairs; those of the plan's dataset need no forward pass for reward shaping.
            beta: the trainer's, over 0; sends the equivalent shift of the reference beside each offset.
            target: what they are applied to; another model, tokenizer or dataset than the plan's is refused.
            dataset_pairs_only: whether a pair that is not in the plan's dataset fails, rather than being scored now.
            truncation: what to do with a sequence longer than the context.
            lane: which queue the work waits in.

        Yields:
            one result per pair, in order; a bad pair has its `error`.
        """
        options = service.OffsetOptions(
            plan=resource(plan, "plans"),
            beta=beta,
            target=target.to_proto(),
            dataset_pairs_only=dataset_pairs_only,
            truncation=truncation.value,
            lane=lane.value,
        )
        return AsyncPairStream(
            self._plans.StreamOffsets,
            self.model,
            offsets(options),
            metadata=self._metadata,
            flow=self._flow,
            retry=self._retry,
            address=self.address,
        ).results(pairs)

    async def intervention(
        self, intervention: Named | str, *, target: PlanTarget = ANYTHING, timeout: float | None = None
    ) -> CompiledIntervention:
        """One intervention with what a trainer puts into its model: "plans/{plan}/interventions/{id}"."""
        request = service.GetInterventionRequest(name=resource(intervention, "plans"), target=target.to_proto())
        return CompiledIntervention.from_proto(await self._ask(self._plans.GetIntervention, request, timeout))

    async def measure_intervention(
        self,
        intervention: Named | str,
        coefficients: Sequence[float] = (),
        *,
        generated_tokens: int = 0,
        perplexity_limit: float | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncOperation[Intervention]:
        """Starts measuring how concept and fluency answer to a coefficient; the plan keeps the curve.

        Args:
            intervention: a STEERING or STEERING_VECTOR one, or its name.
            coefficients: 1 to 32, each at least 0; by default shares of the mean residual norm.
            generated_tokens: per prompt (32, at most 256).
            perplexity_limit: perplexity that is still fluent, in multiples of that without steering (1.5).
            request_id: the same id gives the same operation.
            timeout: timeout of the start, in seconds.
        """
        request = service.MeasureInterventionRequest(
            name=resource(intervention, "plans"),
            coefficients=coefficients,
            generated_tokens=generated_tokens,
            perplexity_limit=perplexity_limit,
            request_id=request_id or fresh_id(),
        )
        return self._handle(await self._ask(self._plans.MeasureIntervention, request, timeout))

    async def data_plan(
        self, plan: Named | str, *, target: PlanTarget = ANYTHING, start_row: int = 0, timeout: float | None = None
    ) -> AsyncDataPlan:
        """What a plan does to each usable pair of its dataset; rows arrive as they are iterated, `load` takes all."""
        name = resource(plan, "plans")
        request = service.StreamDataPlanRequest(plan=name, target=target.to_proto(), start_row=start_row)
        messages = self._stream(self._plans.StreamDataPlan, request, timeout)
        first = await anext(messages, None)
        return AsyncDataPlan(**head_of(first), rows=_rows(first, messages))

    async def export_data_plan(
        self, plan: Named | str, path: str | Path, *, target: PlanTarget = ANYTHING, timeout: float | None = None
    ) -> Path:
        """Writes the data plan to a Parquet file, whole or not at all."""
        request = service.ExportDataPlanRequest(plan=resource(plan, "plans"), target=target.to_proto())
        return await self._download(self._plans.ExportDataPlan, request, Path(path), timeout)

    async def rank_inoculation_prompts(
        self,
        dataset: Named | str,
        concept: Named | str,
        prompts: Sequence[str] = (),
        *,
        description: str = "",
        rows: int = 0,
        placement: PromptPlacement | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncOperation[PromptRanking]:
        """Starts ranking inoculation prompts by how much of the preference each explains.

        Args:
            dataset: the pairs, or their dataset's name.
            concept: what the prompts should explain.
            prompts: candidates, at most 64.
            description: instead of or beside them: what responses with the concept do ("use bold text").
            rows: pairs to try them on (64, at most 1024).
            placement: where the prompt is put.
            request_id: the same id gives the same operation.
            timeout: timeout of the start, in seconds.
        """
        request = service.RankInoculationPromptsRequest(
            dataset=resource(dataset, "datasets"),
            concept=name_of(concept),
            prompts=prompts,
            description=description,
            rows=rows,
            placement=to_wire(intervention_pb2.PromptPlacement, "PROMPT_PLACEMENT", placement),
            request_id=request_id or fresh_id(),
        )
        return self._handle(await self._ask(self._plans.RankInoculationPrompts, request, timeout))

    async def score_rewards(
        self,
        plan: Named | str,
        responses: Sequence[PromptedResponse],
        rewards: Sequence[float] = (),
        *,
        target: PlanTarget = ANYTHING,
        truncation: Truncation = Truncation.REFUSE,
        timeout: float | None = None,
    ) -> list[RewardResult]:
        """Shaped rewards of fresh responses in one call; at most `Limits.max_pairs_per_request`.

        Args:
            plan: with at least one ONLINE_REWARD or REWARD_SHAPING intervention.
            responses: fresh responses.
            rewards: the task's own, one per response; none stand for 0.
            target: what it is applied to.
            truncation: what to do with a sequence longer than the context.
            timeout: timeout in seconds.
        """
        if rewards and len(rewards) != len(responses):
            raise ValueError(f"{len(rewards)} rewards for {len(responses)} responses: give one per response, or none")
        request = service.ScoreRewardsRequest(
            plan=resource(plan, "plans"),
            responses=[one.to_proto() for one in responses],
            rewards=rewards,
            target=target.to_proto(),
            truncation=truncation.value,
        )
        answer = await self._call(self._plans.ScoreRewards, request, timeout, self._timeouts.score)
        return [reward_result(index, result) for index, result in enumerate(answer.results)]


async def _rows(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[DataPlanRow]:
    for row in rows_of(first):
        yield row
    async for message in rest:
        for row in rows_of(message):
            yield row
