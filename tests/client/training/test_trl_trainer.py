"""Data plans and edits in TRL's DPOTrainer: what a row's weight, flip, mask, text or flag does to the loss it is trained by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from assay import (
    DataPlan,
    DataPlanRow,
    EditedSpan,
    InoculationText,
    Intervene,
    InterventionFamily,
    InterventionMode,
    InterventionParameters,
    InvalidRequest,
    Pair,
    PromptPlacement,
    ResponseSide,
    TokenMask,
    chat,
)
from assay.hooks import intervened
from assay.trl import PlanDPOTrainer, apply_plan, edited_rows
from datasets import Dataset
from torch.nn.functional import logsigmoid
from trl import DPOTrainer

from tests.client.training.conftest import Served
from tests.client.training.policies import dataset_of, dpo_arguments, policy

AWAY, AMPLIFY = InterventionMode.EXPLAIN_AWAY, InterventionMode.AMPLIFY
FAMILY = InterventionFamily
PAIRS = [Pair(chat(f"Is {at} odd?"), f"yes it is {at}", f"no, {at} is not", id=f"s{at}") for at in range(4)]


def plan_of(*rows: DataPlanRow, texts: Sequence[InoculationText] = ()) -> DataPlan:
    return DataPlan("plans/x", "", "", tuple(texts), rows)


def build(kind: Any, folder: Path, dataset: Dataset, **changes: Any) -> Any:
    model, tokenizer = policy()
    return kind(model, args=dpo_arguments(folder, **changes), train_dataset=dataset, processing_class=tokenizer)


def applied(*rows: DataPlanRow, texts: Sequence[InoculationText] = (), pairs: Sequence[Pair] = PAIRS) -> Dataset:
    return apply_plan(dataset_of(pairs), plan_of(*rows, texts=texts), check=False)


def moved_loss(trainer: Any, rows: Sequence[int] | None = None) -> float:
    """The loss of one batch of the trainer's own loader columns, after its policy has moved away from the reference."""
    generator = torch.Generator().manual_seed(1)
    model = trainer.model.eval()
    kept = trainer._remove_unused_columns(trainer.train_dataset, "training")
    batch = trainer.data_collator([kept[at] for at in (rows or range(len(kept)))])
    originals = [parameter.detach().clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        loss = trainer.compute_loss(model, batch).item()
        for parameter, original in zip(model.parameters(), originals, strict=True):
            parameter.copy_(original)
    return loss


def test_weights_multiply_each_pairs_loss_and_zero_drops_it(tmp_path: Path) -> None:
    weights = (0.25, 0.0, 1.5, 1.0)
    dataset = applied(*(DataPlanRow(at, f"s{at}", weight=weight) for at, weight in enumerate(weights)))
    assert dataset["id"] == ["s0", "s2", "s3"]
    assert dataset["assay_weight"] == [0.25, 1.5, 1.0]
    trainer = build(PlanDPOTrainer, tmp_path, dataset)
    plain = build(DPOTrainer, tmp_path, dataset_of(PAIRS))
    single = [moved_loss(plain, [at]) for at in (0, 2, 3)]
    assert moved_loss(trainer) == pytest.approx((0.25 * single[0] + 1.5 * single[1] + single[2]) / 3, rel=1e-5)
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_flip_trains_the_other_way_and_takes_offsets_along(tmp_path: Path) -> None:
    dataset = applied(DataPlanRow(1, "s1", flip=True, offset_chosen=0.5, offset_rejected=-0.25))
    assert dataset["chosen"][1] == [{"role": "assistant", "content": PAIRS[1].rejected}]
    assert dataset["rejected"][1] == [{"role": "assistant", "content": PAIRS[1].chosen}]
    assert dataset["chosen"][0] == [{"role": "assistant", "content": PAIRS[0].chosen}]
    assert (dataset["assay_offset_chosen"][1], dataset["assay_offset_rejected"][1]) == (-0.25, 0.5)
    flipped = build(PlanDPOTrainer, tmp_path, applied(DataPlanRow(1, "s1", flip=True)))
    plain = build(DPOTrainer, tmp_path, dataset_of(PAIRS))
    there, back = torch.tensor(moved_loss(plain, [1])), torch.tensor(moved_loss(flipped, [1]))
    argument = -torch.log(torch.expm1(there.double()))
    assert back.item() == pytest.approx(-logsigmoid(-argument).item(), rel=1e-4)


def test_streamed_offsets_take_the_place_of_stored_ones_row_by_row(tmp_path: Path) -> None:
    plan = plan_of(DataPlanRow(1, "s1", weight=0.0), DataPlanRow(2, "s2", flip=True, offset_chosen=9.0))
    dataset = apply_plan(dataset_of(PAIRS), plan, offsets=([0.0, 0.1, 0.2, 0.3], [0.0, -1.0, -2.0, -3.0]), check=False)
    assert dataset["assay_offset_chosen"] == [0.0, -2.0, 0.3]
    assert dataset["assay_offset_rejected"] == [0.0, 0.2, -3.0]
    trainer = build(PlanDPOTrainer, tmp_path, dataset)
    plain = build(DPOTrainer, tmp_path, dataset)
    moved = [
        a - b for a, b in zip(trainer.train_dataset["ref_chosen_logps"], plain.train_dataset["ref_chosen_logps"], strict=True)
    ]
    assert moved == pytest.approx([0.0, 20.0, -3.0], abs=1e-4)


def test_masked_tokens_leave_the_policys_and_the_references_sums(tmp_path: Path) -> None:
    """Bytes are tokens here: masking "is " of "yes it is 2" leaves the other characters and the template's own."""
    chosen = PAIRS[2].chosen
    at = chosen.index("is ")
    mask = TokenMask(tuple(range(at, at + 3)), tuple(range(at, at + 3)), tuple(range(at + 1, at + 4)), len(chosen))
    dataset = applied(DataPlanRow(2, "s2", chosen_mask=mask, rejected_mask=TokenMask((), (), (), len(PAIRS[2].rejected))))
    trainer = build(PlanDPOTrainer, tmp_path, dataset)
    plain = build(DPOTrainer, tmp_path, dataset_of(PAIRS))
    kept = trainer._remove_unused_columns(trainer.train_dataset, "training")
    batch = trainer.data_collator([kept[2]])
    ids, completion = batch["input_ids"][0], batch["completion_mask"][0].bool()
    said = trainer.processing_class.decode(ids[completion])
    assert said == f"<s>assistant\n{chosen[:at]}{chosen[at + 3 :]}</s>\n"
    expected = _masked_reference(plain, 2, at)
    assert trainer.train_dataset["ref_chosen_logps"][2] == pytest.approx(expected, abs=1e-3)
    assert trainer.train_dataset["ref_chosen_logps"][1] == pytest.approx(plain.train_dataset["ref_chosen_logps"][1], abs=1e-4)
    assert moved_loss(trainer, [2]) != pytest.approx(moved_loss(plain, [2]), abs=1e-4)
    assert moved_loss(trainer, [1]) == pytest.approx(moved_loss(plain, [1]), abs=1e-5)


def _masked_reference(trainer: Any, row: int, at: int) -> float:
    """log p of the completion without three of its tokens, by the formula in float64."""
    example = trainer.train_dataset[row]
    ids = torch.tensor([example["prompt_ids"] + example["chosen_ids"]])
    with torch.no_grad():
        logps = policy()[0].double()(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    keep = torch.zeros(ids.shape[1], dtype=torch.bool)
    keep[len(example["prompt_ids"]) :] = True
    lead = len("<s>assistant\n") - 2  # <s> is one token
    start = len(example["prompt_ids"]) + lead + at
    keep[start : start + 3] = False
    return logps[keep[1:]].sum().item()


def test_a_mask_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    mask = TokenMask((0,), (0,), (3,), 4)
    with pytest.raises(InvalidRequest) as refused:
        build(PlanDPOTrainer, tmp_path, applied(DataPlanRow(2, "s2", chosen_mask=mask, rejected_mask=mask)))
    assert refused.value.reason == "MASK_MISMATCH"


@pytest.mark.parametrize("placement", list(PromptPlacement))
def test_an_inoculated_prompt_is_the_policys_alone(tmp_path: Path, placement: PromptPlacement) -> None:
    text = InoculationText("Be bold.", placement)
    dataset = applied(DataPlanRow(0, "s0", texts=(0,)), texts=[text])
    question = {"role": "user", "content": "Is 0 odd?"}
    asked = {
        PromptPlacement.SYSTEM: [{"role": "system", "content": "Be bold."}, question],
        PromptPlacement.USER: [{"role": "user", "content": "Be bold.\n\nIs 0 odd?"}],
    }
    assert dataset["prompt"][0] == asked[placement]
    assert dataset["assay_plain_prompt"][0] == [question]
    assert dataset["prompt"][1] == dataset["assay_plain_prompt"][1]
    trainer = build(PlanDPOTrainer, tmp_path, dataset)
    plain = build(DPOTrainer, tmp_path, dataset_of(PAIRS))
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        assert list(trainer.train_dataset[name]) == pytest.approx(list(plain.train_dataset[name]), abs=1e-4)
    said = trainer.processing_class.decode(trainer.train_dataset[0]["prompt_ids"])
    assert "Be bold." in said
    both = build(DPOTrainer, tmp_path, dataset.remove_columns("assay_plain_prompt"))
    assert abs(both.train_dataset["ref_chosen_logps"][0] - plain.train_dataset["ref_chosen_logps"][0]) > 1e-2
    model, tokenizer = policy()
    arguments = dpo_arguments(tmp_path, precompute_ref_log_probs=False)
    with pytest.raises(InvalidRequest, match="precompute_ref_log_probs=True"):
        PlanDPOTrainer(model, policy()[0], args=arguments, train_dataset=dataset, processing_class=tokenizer)


def test_weights_are_refused_beside_losses_that_they_are_not_for(tmp_path: Path) -> None:
    dataset = applied(DataPlanRow(0, "s0", weight=0.5))
    with pytest.raises(InvalidRequest, match="robust"):
        build(PlanDPOTrainer, tmp_path, dataset, loss_type=["robust"])
    build(PlanDPOTrainer, tmp_path, applied(DataPlanRow(0, "s0", weight=0.0)), loss_type=["robust"])


def test_data_families_of_a_real_plan_reach_the_trainer(tmp_path: Path, served: Served) -> None:
    """All of them together, from the server's rows, with offsets beside them."""
    share = InterventionParameters(share=0.1)
    plan = served.plans(
        Intervene("feature/8", AWAY, 1.0, FAMILY.REWEIGHT),
        Intervene("feature/3", AWAY, 1.0, FAMILY.EXAMPLE_FILTER, share),
        Intervene("feature/5", AWAY, 1.0, FAMILY.LABEL_FLIP, share),
        Intervene("feature/8", AWAY, 1.0, FAMILY.TOKEN_FILTER),
        Intervene("feature/8", AWAY, 1.0, FAMILY.INOCULATION_ROWS, InterventionParameters(share=0.1, prompt="Say bold things.")),
        Intervene("feature/17", AWAY, 1.0, FAMILY.REWARD_SHAPING),
    )
    data = served.client.data_plan(plan).load()
    rows = {row.row: row for row in data}
    _, tokenizer = policy()
    dataset = apply_plan(dataset_of(served.pairs), data, tokenizer=tokenizer)
    assert len(rows) == 40
    assert 0 < sum(row.weight == 0 for row in rows.values()) == 40 - len(dataset)
    assert sum(row.flip for row in rows.values()) > 0
    for example in dataset:
        row, pair = rows[example["assay_row"]], served.pairs[example["assay_row"]]
        assert example["id"] == pair.id == row.id
        assert example["chosen"][0]["content"] == (pair.rejected if row.flip else pair.chosen)
        assert example["assay_weight"] == row.weight
        kept = row.rejected_mask if row.flip else row.chosen_mask
        assert kept is not None
        assert tuple(example["assay_chosen_mask"]) == kept.tokens
        assert example["assay_offset_chosen"] == (row.offset_rejected if row.flip else row.offset_chosen)
        assert ("Say bold things." in str(example["prompt"])) is bool(row.texts)
    trainer = build(PlanDPOTrainer, tmp_path, dataset)
    trainer.train()
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())


def test_what_a_plan_was_not_made_for_is_refused_with_both_fingerprints(served: Served) -> None:
    plan = served.plan(FAMILY.EXAMPLE_FILTER)
    data = served.client.data_plan(plan).load()
    with pytest.raises(InvalidRequest) as refused:
        apply_plan(dataset_of(served.pairs[1:]), data)
    assert refused.value.reason == "DATASET_MISMATCH"
    assert served.dataset.fingerprint in refused.value.message
    assert refused.value.details["plan_dataset_fingerprint"] == served.dataset.fingerprint
    assert refused.value.details["dataset_fingerprint"] in refused.value.message
    _, tokenizer = policy()
    tokenizer.add_tokens(["bold"])
    with pytest.raises(InvalidRequest) as refused:
        apply_plan(dataset_of(served.pairs), data, tokenizer=tokenizer)
    assert refused.value.reason == "TOKENIZER_MISMATCH"
    assert served.client.model().tokenizer_fingerprint in refused.value.message
    cut = dataset_of(served.pairs).add_column("assay_row", list(range(40))).select([3, 7])
    assert len(apply_plan(cut, data)) <= 2
    with pytest.raises(InvalidRequest) as refused:
        apply_plan(cut.remove_columns("assay_row").add_column("assay_row", [3, 8]), data)
    assert refused.value.reason == "DATASET_MISMATCH"


def test_lists_of_texts_and_implicit_prompts_are_taken_as_well() -> None:
    rows = [{"chosen": "Q: hi A: yes", "rejected": "Q: hi A: no"}, {"chosen": "Q: you A: c", "rejected": "Q: you A: d"}]
    text = InoculationText("Be bold.", PromptPlacement.USER)
    plan = plan_of(DataPlanRow(0, "", texts=(0,)), DataPlanRow(1, "", flip=True), texts=[text])
    first, second = apply_plan(rows, plan, check=False)
    assert first["prompt"] == f"Be bold.\n\n{first['assay_plain_prompt']}"
    assert first["assay_plain_prompt"] + first["chosen"] == rows[0]["chosen"]
    assert second["prompt"] + second["chosen"] == rows[1]["rejected"]


@pytest.mark.parametrize("reference", ["separate", "precomputed", "peft"])
def test_steering_edits_the_policys_flagged_rows_and_never_the_reference(tmp_path: Path, served: Served, reference: str) -> None:
    parameters = InterventionParameters(coefficient=4.0, span=EditedSpan.RESPONSE, share=0.1, side=ResponseSide.CHOSEN)
    plan = served.plan(FAMILY.STEERING_VECTOR, parameters=parameters)
    one = served.client.intervention(plan.interventions[0])
    data = served.client.data_plan(plan).load()
    flagged = [row.row for row in data if row.steered_by]
    dataset = apply_plan(dataset_of(served.pairs), data)
    trainer = _trainer(tmp_path, dataset, reference)
    rows = edited_rows(trainer, one)
    assert 0 < len(rows) <= len(flagged)
    kept = trainer._remove_unused_columns(trainer.train_dataset, "training")
    quiet = next(at for at in range(40) if at not in flagged)
    batch = trainer.data_collator([kept[flagged[0]], kept[quiet]])
    plain, untouched = _logps(trainer, batch)
    with intervened(trainer.model, one, rows=rows) as edit:
        steered, still = _logps(trainer, batch)
    assert edit.tokens > 0
    changed = (steered != plain).tolist()
    assert changed[0]  # the flagged row's chosen response
    assert changed[1:] == [False, False, False]
    assert torch.equal(still, untouched)
    with intervened(trainer.model, one, rows=rows):
        trainer.train()
    again = edited_rows(build(DPOTrainer, tmp_path, dataset_of(served.pairs)), one, data)
    assert len(again) == len(rows)


def _trainer(folder: Path, dataset: Dataset, reference: str) -> Any:
    model, tokenizer = policy()
    changes: dict[str, Any] = {"precompute_ref_log_probs": reference == "precomputed"}
    more: dict[str, Any] = {}
    if reference == "separate":
        more["ref_model"] = policy()[0]
    if reference == "peft":
        from peft import LoraConfig

        more["peft_config"] = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    arguments = dpo_arguments(folder, **changes)
    return DPOTrainer(model, args=arguments, train_dataset=dataset, processing_class=tokenizer, **more)


def _logps(trainer: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Of the policy, and of the reference as the trainer's own loss reads it: [chosen, chosen, rejected, rejected]."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        policys = trainer.model(**inputs, use_cache=False, labels=labels, fused_lm_head=True).log_probs.sum(1)
    if trainer.precompute_ref_logps:
        return policys, torch.cat([batch["ref_chosen_logps"], batch["ref_rejected_logps"]])
    reference = trainer.ref_model if trainer.ref_model is not None else trainer.model
    return policys, torch.cat(trainer.compute_ref_log_probs(reference, batch))
