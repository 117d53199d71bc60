"""Offsets in TRL's own losses: the shifted reference and the margin are METHOD.md 4's o, in place, sign, mode and scale."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from assay import InterventionFamily, InterventionMode, InvalidRequest, OffsetResult, Pair, PairOffset, chat
from assay.errors import ItemError
from assay.trl import pairs_of, reward_margins, shift_reference
from datasets import Dataset
from transformers import LlamaConfig, LlamaForSequenceClassification
from trl import DPOTrainer, RewardConfig, RewardTrainer

from tests.client.training.conftest import Served
from tests.client.training.policies import dataset_of, dpo_arguments, make_pairs, policy

AWAY, AMPLIFY = InterventionMode.EXPLAIN_AWAY, InterventionMode.AMPLIFY
SHAPING = InterventionFamily.REWARD_SHAPING
ROWS = ("prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_rejected_logps")
Built = DPOTrainer


def build(folder: Path, dataset: Dataset, **changes: Any) -> Built:
    model, tokenizer = policy()
    reference = None if changes.get("precompute_ref_log_probs", True) else policy()[0]
    return DPOTrainer(model, reference, args=dpo_arguments(folder, **changes), train_dataset=dataset, processing_class=tokenizer)


def arguments(trainer: Built) -> list[float]:
    """What stands inside the sigmoid in the trainer's own loss of each row, from a policy that has moved away."""
    model = trainer.model.eval()
    generator = torch.Generator().manual_seed(1)
    found: list[float] = []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
        for row in trainer.train_dataset:
            loss = trainer.compute_loss(model, trainer.data_collator([{name: row[name] for name in ROWS}]))
            found.append(-math.log(math.expm1(loss.item())))
    return found


def short_pairs(count: int) -> list[Pair]:
    return [Pair(chat(f"Is {at} odd?"), ("no", "yes")[at % 2], ("yes!", "no")[at % 2], id=f"s{at}") for at in range(count)]


@pytest.mark.parametrize("beta", [0.02, 0.1])
def test_a_shifted_reference_is_the_offset_inside_the_sigmoid_to_1e_6(tmp_path: Path, beta: float) -> None:
    dataset = dataset_of(short_pairs(4))
    plus, minus = torch.randn(2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64).tolist()
    trainer, plain = build(tmp_path, dataset, beta=beta), build(tmp_path, dataset, beta=beta)
    shift_reference(trainer, {"chosen": plus, "rejected": minus}, beta=beta)
    for at, (o_plus, o_minus) in enumerate(zip(plus, minus, strict=True)):
        for name, part in (("ref_chosen_logps", o_plus), ("ref_rejected_logps", o_minus)):
            exact = plain.train_dataset[name][at] - part / beta
            assert trainer.train_dataset[name][at] == pytest.approx(exact, abs=3e-5)  # a unit in float32's last place
    wanted = [a + p - m for a, p, m in zip(arguments(plain), plus, minus, strict=True)]
    assert arguments(trainer) == pytest.approx(wanted, abs=1e-6, rel=0)


def test_a_hand_computed_example(tmp_path: Path) -> None:
    """o+ = 0.3 and o- = -0.1 at beta 0.1: the reference is shifted by -3 and +1, and the sigmoid's argument grows by 0.4."""
    dataset = dataset_of(short_pairs(1))
    trainer, plain = build(tmp_path, dataset, beta=0.1), build(tmp_path, dataset, beta=0.1)
    shift_reference(trainer, [PairOffset(0.3, -0.1, 0.4)])
    moved = [trainer.train_dataset[name][0] - plain.train_dataset[name][0] for name in ROWS[3:]]
    assert moved == pytest.approx([-3.0, 1.0], abs=3e-5)
    assert arguments(trainer)[0] - arguments(plain)[0] == pytest.approx(0.4, abs=1e-6)


def test_a_plans_offsets_reach_the_loss_as_the_plan_says_and_amplifying_is_the_negative(tmp_path: Path, served: Served) -> None:
    dataset = dataset_of(served.pairs)
    gains: dict[InterventionMode, list[float]] = {}
    rows = sorted(range(40), key=lambda at: len(served.pairs[at].chosen) + len(served.pairs[at].rejected))[:4]
    for mode in (AWAY, AMPLIFY):
        plan = served.plan(SHAPING, mode=mode, strength=2.0)
        trainer = build(tmp_path, dataset, beta=0.1)
        results = list(served.client.offsets(plan, pairs_of(dataset), beta=0.1))
        shift_reference(trainer, results)
        gains[mode] = []
        z = plan.interventions[0].z
        for at in rows:
            offset = results[at].unwrap()
            part, shift = offset.parts[0], offset.shift
            by_hand = mode.sign * 2.0 * (part.chosen_raw - part.rejected_raw) / z.deviation  # lambda (z(s+) - z(s-))
            assert offset.offset == pytest.approx(by_hand, abs=1e-9)
            assert shift is not None
            assert 0.1 * (shift.ref_rejected_logps - shift.ref_chosen_logps) == pytest.approx(by_hand, abs=1e-9)
            gains[mode].append(by_hand)
        trainer.train_dataset = trainer.train_dataset.select(rows)
        plain = build(tmp_path, dataset.select(rows), beta=0.1)
        gained = [a - b for a, b in zip(arguments(trainer), arguments(plain), strict=True)]
        assert gained == pytest.approx(gains[mode], abs=1e-5)
    assert gains[AMPLIFY] == pytest.approx([-gain for gain in gains[AWAY]])
    assert any(gains[AWAY])


@pytest.mark.parametrize("key", ["id", "assay_row"])
def test_rows_that_trl_drops_do_not_shift_the_others_offsets(tmp_path: Path, key: str) -> None:
    pairs = make_pairs(6)
    dataset = dataset_of(pairs).add_column("assay_row", list(range(6)))
    dataset = dataset.remove_columns(["id"] if key == "assay_row" else ["assay_row"])
    longest = max(range(6), key=lambda at: len(pairs[at].prompt[0].content))
    limit = len("<s>") // 3 + len("user\n") + len(pairs[longest].prompt[0].content) + 2
    trainer = build(tmp_path, dataset, max_length=limit)
    before = dict(zip(trainer.train_dataset[key], trainer.train_dataset["ref_chosen_logps"], strict=True))
    assert 0 < len(before) < 6
    shift_reference(trainer, [OffsetResult(at, pairs[at].id, PairOffset(float(at), 0.0, float(at)), None) for at in range(6)])
    for name, after in zip(trainer.train_dataset[key], trainer.train_dataset["ref_chosen_logps"], strict=True):
        at = name if key == "assay_row" else [pair.id for pair in pairs].index(name)
        assert after - before[name] == pytest.approx(-at / 0.1, abs=1e-4)


def test_other_lengths_losses_and_datasets_are_refused_with_what_to_do(tmp_path: Path) -> None:
    dataset = dataset_of(short_pairs(4))
    four = {"chosen": [0.1] * 4, "rejected": [0.0] * 4}

    def reason(trainer: Built, offsets: Any = four, beta: float | None = None) -> str:
        with pytest.raises(InvalidRequest) as refused:
            shift_reference(trainer, offsets, beta=beta)
        return f"{refused.value.reason}: {refused.value.message}"

    trainer = build(tmp_path, dataset)
    said = reason(trainer, {"chosen": [0.1] * 3, "rejected": [0.0] * 3})
    assert said.startswith("LENGTH_MISMATCH")
    assert "4 rows" in said
    assert "3 offsets" in said
    assert "0.1" in reason(trainer, beta=0.2)
    assert reason(trainer, {"chosen": [math.nan] * 4, "rejected": [0.0] * 4}).startswith("NOT_FINITE")
    assert reason(trainer, None).startswith("NO_OFFSETS")
    missing = [OffsetResult(at, f"other-{at}", PairOffset(0.0, 0.0, 0.0), None) for at in range(4)]
    assert reason(trainer, missing).startswith("ID_MISMATCH")
    failed = OffsetResult(0, "a", None, ItemError("INVALID_ARGUMENT", "EMPTY_SPAN", "no token"))
    assert reason(trainer, [failed] * 4).startswith("EMPTY_SPAN")
    shift_reference(trainer, four)
    assert reason(trainer).startswith("ALREADY_SHIFTED")
    assert reason(build(tmp_path, dataset, precompute_ref_log_probs=False)).startswith("NO_REFERENCE_COLUMNS")
    for loss in (["ipo"], ["sigmoid_norm"], ["hinge"], ["sigmoid", "bco_pair"], ["sft"]):
        said = reason(build(tmp_path, dataset, loss_type=loss))
        assert said.startswith("LOSS_UNSUPPORTED")
        assert ("averages log-probabilities by length" in said) is (loss[0] in ("ipo", "sigmoid_norm"))
    assert "forward_kl" in reason(build(tmp_path, dataset, f_divergence_type="forward_kl"))


def test_margins_put_the_offset_inside_the_reward_trainers_sigmoid(tmp_path: Path) -> None:
    """TRL's loss is -log sigmoid(r+ - r- - margin), so the margin is -o."""
    pairs = short_pairs(4)
    offsets = [PairOffset(0.5 * at, -0.25, 0.5 * at + 0.25) for at in range(4)]
    before = dataset_of(pairs).add_column("margin", [0.1] * 4)
    dataset = reward_margins(before, offsets)
    assert dataset["margin"] == pytest.approx([0.1 - one.offset for one in offsets])
    _, tokenizer = policy()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), num_labels=1, pad_token_id=tokenizer.pad_token_id, **small)
    arguments = RewardConfig(str(tmp_path), bf16=False, use_cpu=True, report_to=[], max_length=None, disable_dropout=True)
    trainer = RewardTrainer(
        LlamaForSequenceClassification(config), args=arguments, train_dataset=dataset, processing_class=tokenizer
    )
    model = trainer.model.double().eval()
    for row, one in zip(trainer.train_dataset, offsets, strict=True):
        example = {name: row[name] for name in ("chosen_ids", "rejected_ids", "margin")}
        with torch.no_grad():
            batch = trainer.data_collator([example])
            loss = trainer.compute_loss(model, batch).item()
            scores = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.flatten().tolist()
        wanted = scores[0] - scores[1] - 0.1 + one.offset
        assert loss == pytest.approx(math.log1p(math.exp(-wanted)), abs=1e-6)


def test_margins_of_plain_rows_are_new_rows(served: Served) -> None:
    rows: Sequence[dict[str, Any]] = [{"chosen": "a", "rejected": "b"}]
    assert reward_margins(rows, ([1.0], [0.25])) == [{"chosen": "a", "rejected": "b", "margin": -0.75}]
    assert "margin" not in rows[0]
