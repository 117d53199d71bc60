# ruff: noqa: ASYNC109 - deadlines travel to the server; files are small beside what fills them
"""What the asyncio client does with plans: `assay.intervention_methods` with ``await``.

Arguments, results and errors are those of the blocking client's methods, where each is described.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

from assay import intervention_calls as calls
from assay.aio_connection import AsyncConnection
from assay.aio_stream import AsyncPairStream
from assay.audit_calls import Named, name_of
from assay.files import replacing
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
from assay.operations import AsyncOperation
from assay.options import Lane, Truncation
from assay.pairs import Pair, PromptedResponse


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
        """Starts the making of a plan, and returns at once."""
        request = calls.create_plan_request(
            name_of(dataset), interventions, plan_id=plan_id, display_name=display_name, request_id=request_id
        )
        return self._handle(await self._ask(self._plans.CreatePlan, request, timeout))

    async def plan(self, name: str, *, timeout: float | None = None) -> Plan:
        """One plan, by its name or id."""
        return Plan.from_proto((await self._ask(self._plans.GetPlan, calls.plan_request(name), timeout)).plan)

    async def plans(self, dataset: Named | str = "", *, timeout: float | None = None) -> AsyncIterator[Plan]:
        """All plans, or those of a dataset, newest first, page by page."""
        wanted = name_of(dataset)
        pages = self._pages(self._plans.ListPlans, lambda token: calls.plans_request(wanted, token), "plans", timeout)
        async for message in pages:
            yield Plan.from_proto(message)

    async def delete_plan(self, plan: Named | str, *, timeout: float | None = None) -> None:
        """Deletes a plan."""
        await self._ask(self._plans.DeletePlan, calls.delete_plan_request(name_of(plan)), timeout)

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
        """Offsets of any number of pairs over one stream, one result for each, in order; close it as `score`."""
        return AsyncPairStream(
            lambda: self._plans.StreamOffsets(metadata=self._metadata),
            self.model,
            calls.offsets_dialect(name_of(plan), beta, target, dataset_pairs_only, truncation, lane),
            flow=self._flow,
            retry=self._retry,
            address=self.address,
        ).results(pairs)

    async def intervention(
        self, intervention: Named | str, *, target: PlanTarget = ANYTHING, timeout: float | None = None
    ) -> CompiledIntervention:
        """One intervention with what a trainer puts into its model."""
        request = calls.intervention_request(name_of(intervention), target)
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
        """Starts measuring how concept and fluency answer to a coefficient; the plan keeps the curve."""
        name = name_of(intervention)
        request = calls.measure_request(name, coefficients, generated_tokens, perplexity_limit, request_id)
        return self._handle(await self._ask(self._plans.MeasureIntervention, request, timeout))

    async def data_plan(
        self, plan: Named | str, *, target: PlanTarget = ANYTHING, start_row: int = 0, timeout: float | None = None
    ) -> AsyncDataPlan:
        """What a plan does to each usable pair of its dataset; ``await (await client.data_plan(plan)).load()`` takes all rows."""
        request = calls.data_plan_request(name_of(plan), target, start_row)
        messages = self._stream(self._plans.StreamDataPlan, request, timeout)
        first = await anext(messages, None)
        return AsyncDataPlan(**head_of(first), rows=_rows(first, messages))

    async def export_data_plan(
        self, plan: Named | str, path: str | Path, *, target: PlanTarget = ANYTHING, timeout: float | None = None
    ) -> Path:
        """Writes the same to a Parquet file, whole or not at all."""
        path = Path(path)
        request = calls.export_data_plan_request(name_of(plan), target)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            async for chunk in self._stream(self._plans.ExportDataPlan, request, timeout):
                stream.write(chunk.data)
        return path

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
        """Starts ranking inoculation prompts by how much of the preference each explains."""
        request = calls.ranking_request(name_of(dataset), name_of(concept), prompts, description, rows, placement, request_id)
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
        """Shaped rewards of fresh responses in one call; at most `Limits.max_pairs_per_request`."""
        request = calls.rewards_request(name_of(plan), responses, rewards, target, truncation)
        answer = await self._call(self._plans.ScoreRewards, request, timeout, self._timeouts.score)
        return [reward_result(index, result) for index, result in enumerate(answer.results)]


async def _rows(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[DataPlanRow]:
    for row in rows_of(first):
        yield row
    async for message in rest:
        for row in rows_of(message):
            yield row
