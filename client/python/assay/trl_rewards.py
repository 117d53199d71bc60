"""A plan as a reward of TRL's GRPOTrainer (and of any trainer that calls ``reward(prompts, completions, **columns)``).

    trainer = trl.GRPOTrainer(model, reward_funcs=[accuracy, PlanReward(client, plan)], ...)        penalty beside other rewards
    trainer = trl.GRPOTrainer(model, reward_funcs=PlanReward(client, plan, task_reward=accuracy), ...)        r' in one

r' = r - lambda z(s), amplifying plus (METHOD.md 4, online reward).
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

from assay.client import Client
from assay.intervention_results import ANYTHING, PlanTarget, RewardResult
from assay.names import Named, name_of
from assay.options import Truncation
from assay.pairs import Message, PromptedResponse

_LOG = logging.getLogger(__name__)

TaskReward = Callable[..., Sequence[float | None]]


class PlanReward:
    """A reward callable along a plan.

    A single response can fail: it is empty, or too long for the subject. A policy must not gain by such answers, so by default
    one is charged the largest penalty of its call (at least 0). What concerns the call as a whole (no server, a plan of another
    model) is raised.

    Args:
        client: a connection; calls are single ones and may come from several threads.
        plan: with at least one ONLINE_REWARD or REWARD_SHAPING intervention, or its name.
        task_reward: the task's own reward r, called as this is; None stands for 0 and gives the penalty alone. Where it gives
            None for a response, so does this.
        target: what the plan is applied to; another model or tokenizer than the plan's is refused.
        on_failure: "worst" as above; "none" gives None, which TRL leaves out of the sum; "raise" raises the response's error.
        truncation: what to do with responses longer than the subject's context.

    Attributes:
        failures: responses that failed, by reason.
    """

    def __init__(
        self,
        client: Client,
        plan: Named | str,
        *,
        task_reward: TaskReward | None = None,
        target: PlanTarget = ANYTHING,
        on_failure: Literal["worst", "none", "raise"] = "worst",
        truncation: Truncation = Truncation.REFUSE,
    ) -> None:
        self._client = client
        self._plan = name_of(plan)
        self._task_reward = task_reward
        self._target = target
        self._on_failure = on_failure
        self._truncation = truncation
        self._most = 0
        self.failures: Counter[str] = Counter()
        self.__name__ = f"assay_{self._plan.rpartition('/')[2]}"  # what TRL logs it by

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """Rewards of completions, strings or conversations, in their order."""
        own: Sequence[float | None] = [0.0] * len(completions)
        if self._task_reward is not None:
            own = list(self._task_reward(prompts=prompts, completions=completions, **columns))
            if len(own) != len(completions):
                raise ValueError(f"task_reward gave {len(own)} rewards for {len(completions)} completions")
        results = self._results([response_of(*both) for both in zip(prompts, completions, strict=True)])
        worst = max([0.0, *(result.reward.penalty for result in results if result.reward is not None)])
        return [
            None if reward is None else self._shaped(float(reward), result, worst)
            for reward, result in zip(own, results, strict=True)
        ]

    def _shaped(self, own: float, result: RewardResult, worst: float) -> float | None:
        if result.reward is not None:
            return own - result.reward.penalty
        reason = result.error.reason if result.error is not None else ""
        self.failures[reason] += 1
        if self._on_failure == "raise":
            result.unwrap()
        if self.failures[reason] == 1:
            said = f"charged {worst:g}" if self._on_failure == "worst" else "given no reward"
            _LOG.warning("a response has no score along %s and is %s: %s", self._plan, said, result.error)
        return own - worst if self._on_failure == "worst" else None

    def _results(self, responses: Sequence[PromptedResponse]) -> list[RewardResult]:
        if not self._most:
            self._most = self._client.model().limits.max_pairs_per_request or len(responses)
        results: list[RewardResult] = []
        for start in range(0, len(responses), self._most):
            chunk = responses[start : start + self._most]
            results += self._client.score_rewards(self._plan, chunk, target=self._target, truncation=self._truncation)
        return results


def response_of(prompt: Any, completion: Any) -> PromptedResponse:
    """TRL's prompt and completion, each a text or a list of {"role", "content"}, as what the server reads.

    Of a completion of several turns (tool use), the last is the response and the others belong to the prompt. A text beside a
    conversation is one turn of it.
    """
    if isinstance(prompt, str) and isinstance(completion, str):
        return PromptedResponse(prompt, completion)
    turns = [Message("user", prompt)] if isinstance(prompt, str) else [_turn(one) for one in prompt]
    if isinstance(completion, str):
        return PromptedResponse(turns, completion)
    said = [_turn(one) for one in completion]
    return PromptedResponse([*turns, *said[:-1]], said[-1].content if said else "")


def _turn(turn: Any) -> Message:
    return Message(str(turn["role"]), str(turn["content"] or ""))
