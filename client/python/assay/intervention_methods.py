"""What the blocking client does with plans; `assay.interventions` has what is asked of one.

plan = client.create_plan(dataset, [Intervene("feature/17", InterventionMode.EXPLAIN_AWAY)]).wait()
offsets = [result.unwrap() for result in client.offsets(plan, pairs, beta=0.1)]
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from assay import intervention_calls as calls
from assay.audit_calls import Named, name_of
from assay.connection import Connection
from assay.files import replacing
from assay.intervention_artifacts import CompiledIntervention
from assay.intervention_data import DataPlan, head_of, rows_of
from assay.intervention_results import ANYTHING, OffsetResult, PlanTarget, PromptRanking, RewardResult, reward_result
from assay.interventions import Intervene, Intervention, Plan, PromptPlacement
from assay.operations import Operation
from assay.options import Lane, Truncation
from assay.pairs import Pair, PromptedResponse
from assay.stream import PairStream


class InterventionMethods(Connection):
    """Plans, and what they give a trainer."""

    def create_plan(
        self,
        dataset: Named | str,
        interventions: Sequence[Intervene],
        *,
        plan_id: str = "",
        display_name: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Operation[Plan]:
        """Starts the making of a plan, and returns at once: ``client.create_plan(...).wait()`` waits for it.

        Args:
            dataset: what it is fitted on, or its name; "" for the dataset of the decisions' audits.
            interventions: what to do, 1 to 64.
            plan_id: letters, digits, "-" and "_", at most 64; by default made up.
            display_name: for people; by default the dataset's.
            request_id: the same id gives the same operation, also in another process.
            timeout: seconds that starting may take.
        """
        request = calls.create_plan_request(
            name_of(dataset), interventions, plan_id=plan_id, display_name=display_name, request_id=request_id
        )
        return self._handle(self._ask(self._plans.CreatePlan, request, timeout))

    def plan(self, name: str, *, timeout: float | None = None) -> Plan:
        """One plan, by its name or id."""
        return Plan.from_proto(self._ask(self._plans.GetPlan, calls.plan_request(name), timeout).plan)

    def plans(self, dataset: Named | str = "", *, timeout: float | None = None) -> Iterator[Plan]:
        """All plans, or those of a dataset, newest first, page by page."""
        wanted = name_of(dataset)
        pages = self._pages(self._plans.ListPlans, lambda token: calls.plans_request(wanted, token), "plans", timeout)
        return map(Plan.from_proto, pages)

    def delete_plan(self, plan: Named | str, *, timeout: float | None = None) -> None:
        """Deletes a plan."""
        self._ask(self._plans.DeletePlan, calls.delete_plan_request(name_of(plan)), timeout)

    def offsets(
        self,
        plan: Named | str,
        pairs: Iterable[Pair],
        *,
        beta: float | None = None,
        target: PlanTarget = ANYTHING,
        dataset_pairs_only: bool = False,
        truncation: Truncation = Truncation.REFUSE,
        lane: Lane = Lane.DEFAULT,
    ) -> Generator[OffsetResult, None, None]:
        """Offsets of any number of pairs over one stream, by all offset families of a plan together.

        The stream is `score`'s: the iterable is consumed lazily, a bounded number of pairs is in flight, and a lost connection
        is opened again and goes on after the last answer.

        Args:
            plan: the plan, or its name.
            pairs: any pairs; those of the plan's dataset need no forward pass for reward shaping.
            beta: the trainer's, over 0; sends the equivalent shift of the reference beside each offset.
            target: what they are applied to; another model, tokenizer or dataset than the plan's is refused.
            dataset_pairs_only: whether a pair that is not in the plan's dataset fails, rather than being scored now.
            truncation: what to do with a sequence longer than the context.
            lane: which queue the work waits in.

        Yields:
            one result for each pair, in order; a bad pair has its `error`.
        """
        return PairStream(
            lambda requests: self._plans.StreamOffsets(requests, metadata=self._metadata),
            self.model,
            calls.offsets_dialect(name_of(plan), beta, target, dataset_pairs_only, truncation, lane),
            flow=self._flow,
            retry=self._retry,
            address=self.address,
        ).results(pairs)

    def intervention(
        self, intervention: Named | str, *, target: PlanTarget = ANYTHING, timeout: float | None = None
    ) -> CompiledIntervention:
        """One intervention with what a trainer puts into its model: "plans/{plan}/interventions/{id}"."""
        request = calls.intervention_request(name_of(intervention), target)
        return CompiledIntervention.from_proto(self._ask(self._plans.GetIntervention, request, timeout))

    def measure_intervention(
        self,
        intervention: Named | str,
        coefficients: Sequence[float] = (),
        *,
        generated_tokens: int = 0,
        perplexity_limit: float | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Operation[Intervention]:
        """Starts measuring how concept and fluency answer to a coefficient; the plan keeps the curve.

        Args:
            intervention: a STEERING or STEERING_VECTOR one, or its name.
            coefficients: 1 to 32, each at least 0; by default shares of the mean residual norm.
            generated_tokens: for each prompt (32, at most 256).
            perplexity_limit: perplexity that is still fluent, in multiples of that without steering (1.5).
            request_id: the same id gives the same operation.
            timeout: seconds that starting may take.
        """
        name = name_of(intervention)
        request = calls.measure_request(name, coefficients, generated_tokens, perplexity_limit, request_id)
        return self._handle(self._ask(self._plans.MeasureIntervention, request, timeout))

    def data_plan(
        self, plan: Named | str, *, target: PlanTarget = ANYTHING, start_row: int = 0, timeout: float | None = None
    ) -> DataPlan:
        """What a plan does to each usable pair of its dataset; rows arrive as they are iterated, ``.load()`` takes all."""
        request = calls.data_plan_request(name_of(plan), target, start_row)
        messages = self._stream(self._plans.StreamDataPlan, request, timeout)
        first = next(messages, None)
        head = head_of(first)
        return DataPlan(**head, rows=(row for message in _from(first, messages) for row in rows_of(message)))

    def export_data_plan(
        self, plan: Named | str, path: str | Path, *, target: PlanTarget = ANYTHING, timeout: float | None = None
    ) -> Path:
        """Writes the same to a Parquet file, whole or not at all."""
        path = Path(path)
        request = calls.export_data_plan_request(name_of(plan), target)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            for chunk in self._stream(self._plans.ExportDataPlan, request, timeout):
                stream.write(chunk.data)
        return path

    def rank_inoculation_prompts(
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
    ) -> Operation[PromptRanking]:
        """Starts ranking inoculation prompts by how much of the preference each explains.

        Args:
            dataset: the pairs, or their dataset's name.
            concept: what the prompts should explain.
            prompts: candidates, at most 64.
            description: instead of or beside them: what responses with the concept do ("use bold text").
            rows: pairs to try them on (64, at most 1024).
            placement: where the prompt is put.
            request_id: the same id gives the same operation.
            timeout: seconds that starting may take.
        """
        request = calls.ranking_request(name_of(dataset), name_of(concept), prompts, description, rows, placement, request_id)
        return self._handle(self._ask(self._plans.RankInoculationPrompts, request, timeout))

    def score_rewards(
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
            responses: what was written.
            rewards: the task's own, one for each; none stand for 0.
            target: what it is applied to.
            truncation: what to do with a sequence longer than the context.
            timeout: seconds it may take.
        """
        request = calls.rewards_request(name_of(plan), responses, rewards, target, truncation)
        answer = self._call(self._plans.ScoreRewards, request, timeout, self._timeouts.score)
        return [reward_result(index, result) for index, result in enumerate(answer.results)]


def _from(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest
