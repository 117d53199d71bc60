"""A plan as a reward callable: the formula in float64, TRL's forms of prompts, single failures, and a real GRPO step."""

from pathlib import Path
from typing import Any

import pytest
from assay import (
    Concept,
    Intervene,
    InterventionFamily,
    InterventionMode,
    InvalidRequest,
    Message,
    Plan,
    PlanTarget,
    PromptedResponse,
)
from assay.trl import PlanReward
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from tests.client.training.conftest import Served
from tests.client.training.policies import policy
from tests.support.tiny_subject import WIDTH

AWAY, AMPLIFY = InterventionMode.EXPLAIN_AWAY, InterventionMode.AMPLIFY
ONLINE = InterventionFamily.ONLINE_REWARD
PROMPTS = [[{"role": "user", "content": "question 1: amber?"}]] * 3
ANSWERS = ["basil **bold** yes", "cedar", "delta ember"]
COMPLETIONS = [[{"role": "assistant", "content": answer}] for answer in ANSWERS]


@pytest.fixture(scope="module")
def plan(served: Served) -> Plan:
    along = Concept.direction("along", [float(at % 3) for at in range(WIDTH)])
    against = Concept.direction("against", [float(at % 5) - 2.0 for at in range(WIDTH)])
    return served.plans(Intervene(along, AWAY, 2.0, ONLINE), Intervene(against, AMPLIFY, 0.5, ONLINE))


def test_a_reward_is_the_tasks_less_lambda_z_of_each_concept(served: Served, plan: Plan) -> None:
    """r' = r - 2 z_1(s) + 0.5 z_2(s), from the scores that ScoreRewards tells and the plan's own constants."""
    task = [0.25, 1.0, -3.0]
    reward = PlanReward(served.client, plan, task_reward=lambda prompts, completions, **columns: columns["own"])
    got = reward(PROMPTS, COMPLETIONS, own=task, trainer_state=None)
    items = [PromptedResponse([Message("user", "question 1: amber?")], answer) for answer in ANSWERS]
    scores = [result.unwrap().scores for result in served.client.score_rewards(plan, items)]
    z = [one.z for one in plan.interventions]
    wanted = [r - 2.0 * z[0].of(s[0]) + 0.5 * z[1].of(s[1]) for r, s in zip(task, scores, strict=True)]
    assert got == pytest.approx(wanted, abs=1e-9)
    assert len(set(scores)) == 3
    assert reward.__name__ == f"assay_{plan.name.removeprefix('plans/')}"


def test_without_a_task_reward_the_penalty_adds_to_other_reward_functions(served: Served, plan: Plan) -> None:
    alone = PlanReward(served.client, plan)(PROMPTS, COMPLETIONS)
    both = PlanReward(served.client, plan, task_reward=lambda prompts, completions: [1.0, 2.0, None])(PROMPTS, COMPLETIONS)
    assert both[:2] == pytest.approx([alone[0] + 1.0, alone[1] + 2.0])  # pyright: ignore[reportOptionalOperand]
    assert both[2] is None


def test_texts_and_conversations_are_read_as_they_are(served: Served, plan: Plan) -> None:
    reward = PlanReward(served.client, plan)
    conversation = reward(PROMPTS[:1], COMPLETIONS[:1])
    assert reward(["question 1: amber?"], COMPLETIONS[:1]) == conversation  # a text beside a conversation is a turn of it
    raw = reward(["question 1: amber?"], [ANSWERS[0]])
    assert raw != conversation
    system = [{"role": "system", "content": "Be brief."}, *PROMPTS[0]]
    tools = [{"role": "assistant", "content": "asking"}, {"role": "user", "content": "told"}, COMPLETIONS[0][0]]
    assert len(reward([system, PROMPTS[0]], [COMPLETIONS[0], tools])) == 2


@pytest.mark.parametrize("how", ["worst", "none", "raise"])
def test_a_response_that_fails_gains_nothing_by_it(served: Served, plan: Plan, how: Any) -> None:
    reward = PlanReward(served.client, plan, on_failure=how, task_reward=lambda prompts, completions: [1.0, 1.0, 1.0])
    completions = [COMPLETIONS[0], [{"role": "assistant", "content": ""}], COMPLETIONS[2]]
    if how == "raise":
        with pytest.raises(InvalidRequest, match="empty"):
            reward(PROMPTS, completions)
        return
    got = reward(PROMPTS, completions)
    assert reward.failures == {"EMPTY_SPAN": 1}
    assert got[1] == (min(1.0, *(one for one in (got[0], got[2]) if one is not None)) if how == "worst" else None)


def test_calls_are_cut_to_what_the_server_takes_and_other_models_are_refused(served: Served, plan: Plan) -> None:
    most = served.client.model().limits.max_pairs_per_request
    got = PlanReward(served.client, plan)(PROMPTS[:1] * (most + 3), COMPLETIONS[:1] * (most + 3))
    assert len(got) == most + 3
    other = PlanReward(served.client, plan, target=PlanTarget(model_fingerprint="f" * 64))
    with pytest.raises(InvalidRequest) as refused:
        other(PROMPTS, COMPLETIONS)
    assert refused.value.reason == "MODEL_MISMATCH"
    assert "f" * 64 in refused.value.message
    wrong = served.plan(InterventionFamily.ABLATION)
    with pytest.raises(InvalidRequest):
        PlanReward(served.client, wrong)(PROMPTS, COMPLETIONS)


def test_grpo_trains_on_it(served: Served, plan: Plan, tmp_path: Path) -> None:
    model, tokenizer = policy()
    tokenizer.padding_side = "left"
    reward = PlanReward(served.client, plan, task_reward=lambda prompts, completions, **_: [float(len(c)) for c in completions])
    arguments = GRPOConfig(
        str(tmp_path),
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=6,
        max_steps=1,
        report_to=[],
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        gradient_checkpointing=False,
    )
    dataset = Dataset.from_list([{"prompt": PROMPTS[0]}] * 2)
    trainer = GRPOTrainer(model, reward_funcs=reward, args=arguments, train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if f"rewards/{reward.__name__}/mean" in entry]
    assert logged
