"""What a plain trl.DPOTrainer cannot express of a data plan: weights, token masks, and a prompt for the policy alone.

    args = DPOConfig(precompute_ref_log_probs=True, ...)
    trainer = PlanDPOTrainer(model, args=args, train_dataset=apply_plan(dataset, client.data_plan(plan)), ...)

It reads the columns that `apply_plan` writes; a dataset without them trains as under DPOTrainer.

| column                                 | what it changes                                                                |
|----------------------------------------|--------------------------------------------------------------------------------|
| assay_weight                           | L = mean of -w log sigmoid(beta D + o), for loss_type sigmoid                  |
| assay_chosen_mask, assay_rejected_mask | these tokens leave the sums of log-probabilities, the policy's and reference's |
| assay_plain_prompt                     | the reference is read with this prompt, the policy with the inoculated one     |
| assay_offset_chosen, _rejected         | the reference is shifted (`shift_reference`)                                   |

Written for and tested with TRL 1.16, whose methods it extends are private in part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from assay.errors import InvalidRequest
from assay.hooks_positions import Sequences
from assay.intervention_artifacts import CompiledIntervention
from assay.intervention_data import DataPlan
from assay.interventions import InterventionFamily, ResponseSide
from assay.trl_data import MASKS, PLAIN_PROMPT, STEERED_BY, TOKENS, WEIGHT
from assay.trl_offsets import CHOSEN, REFERENCE, REJECTED, ROW, shift_reference, with_columns

DROPS = ("assay_chosen_drop", "assay_rejected_drop")  # places among a side's token ids, template tokens included
_IDS = ("chosen_ids", "rejected_ids")
_Base: Any = DPOTrainer
_BaseCollator: Any = DataCollatorForPreference


class PlanCollator(_BaseCollator):
    """TRL's collator, which besides takes masked tokens out of the completion mask and carries weights along."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """As TRL's."""
        batch: dict[str, Any] = super().torch_call(examples)
        if DROPS[0] in examples[0]:
            for side, (ids, drops) in enumerate(zip(_IDS, DROPS, strict=True)):
                for at, example in enumerate(examples):
                    self._drop(batch["completion_mask"][side * len(examples) + at], example, ids, drops)
        if WEIGHT in examples[0]:
            batch[WEIGHT] = torch.tensor([example[WEIGHT] for example in examples], dtype=torch.float32)
        return batch

    def _drop(self, mask: Tensor, example: Mapping[str, Any], ids: str, drops: str) -> None:
        before, size = len(example["prompt_ids"]), len(example["prompt_ids"]) + len(example[ids])
        cut = 0
        if self.max_length is not None and size > self.max_length and self.truncation_mode == "keep_end":
            cut = size - self.max_length
        for place in example[drops]:
            if 0 <= before + place - cut < mask.shape[0]:
                mask[before + place - cut] = 0


class PlanDPOTrainer(_Base):
    """trl.DPOTrainer for datasets that `apply_plan` made; arguments are DPOTrainer's.

    Raises:
        InvalidRequest: PRECOMPUTE_REQUIRED: weights, offsets or a prompt for the policy alone need
            ``precompute_ref_log_probs=True``; LOSS_UNSUPPORTED: they need loss_type sigmoid as it is; MASK_MISMATCH: the
            tokenizer cuts a masked response in another way than the plan's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._take_collator()
        names = set(self.train_dataset.column_names)
        shifts = CHOSEN in names and any(offset != 0 for side in (CHOSEN, REJECTED) for offset in self.train_dataset[side])
        self._weighted = WEIGHT in names and any(weight != 1 for weight in self.train_dataset[WEIGHT])
        if (shifts or self._weighted or PLAIN_PROMPT in names) and not self.precompute_ref_logps:
            raise InvalidRequest(
                "this plan weighs pairs, shifts the reference or prompts the policy alone: build the trainer with "
                "DPOConfig(precompute_ref_log_probs=True)",
                reason="PRECOMPUTE_REQUIRED",
            )
        if self._weighted:
            self._check_weighable()
        if shifts:
            shift_reference(self)

    def _check_weighable(self) -> None:
        plain = self.loss_types == ["sigmoid"] and self.f_divergence_type == "reverse_kl" and self.ld_alpha is None
        if not plain or self.use_weighting or self.aux_loss_enabled:
            raise InvalidRequest(
                f"weights are for loss_type sigmoid alone, and this trainer has {', '.join(self.loss_types)} with "
                f"f_divergence_type={self.f_divergence_type}, ld_alpha={self.ld_alpha}, use_weighting={self.use_weighting}, an "
                f"auxiliary loss {'on' if self.aux_loss_enabled else 'off'}",
                reason="LOSS_UNSUPPORTED",
            )

    def _take_collator(self) -> None:
        if type(self.data_collator) is DataCollatorForPreference:
            collator: Any = self.data_collator
            self.data_collator = PlanCollator(**{field.name: getattr(collator, field.name) for field in fields(collator)})

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, WEIGHT, *DROPS]))

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        dataset = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if not set(MASKS) <= set(dataset.column_names):
            return dataset
        return dataset.map(lambda example: _drops(example, processing_class))

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        self._take_collator()
        if PLAIN_PROMPT not in dataset.column_names:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        plain = dataset.remove_columns(["prompt", "prompt_ids", *_IDS]).rename_column(PLAIN_PROMPT, "prompt")
        plain = self._prepare_dataset(plain, self.processing_class, self.args, name)
        if len(plain) != len(dataset):
            raise InvalidRequest(
                f"{len(dataset)} rows fit max_length with the inoculation prompt and {len(plain)} without",
                reason="LENGTH_MISMATCH",
            )
        read = super()._precompute_ref_logps(plain, name, batch_size)
        return with_columns(dataset, {column: read[column] for column in REFERENCE})

    def compute_ref_log_probs(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """As TRL's."""
        return super().compute_ref_log_probs(model, {key: value for key, value in inputs.items() if key != WEIGHT})

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any], return_outputs: bool) -> Any:
        plain = {key: value for key, value in inputs.items() if key != WEIGHT}
        if not self._weighted or WEIGHT not in inputs or return_outputs:
            return super()._compute_loss(model, plain, return_outputs)
        labels = plain["input_ids"].masked_fill(plain["completion_mask"] == 0, -100)
        read = {key: plain[key] for key in ("input_ids", "attention_mask")}
        outputs = model(**read, use_cache=False, labels=labels, fused_lm_head=True)
        tokens = plain["completion_mask"].shape[1] - 1  # prompt-learning PEFT puts virtual tokens in front
        logps = outputs.log_probs[:, -tokens:].sum(dim=1).chunk(2)
        ratios = [policy - plain[name] for policy, name in zip(logps, REFERENCE, strict=True)]
        losses = -logsigmoid(self.beta * (ratios[0] - ratios[1]))
        self._note(logps, ratios)
        return (inputs[WEIGHT] * losses).mean()

    def _note(self, logps: Sequence[Tensor], ratios: Sequence[Tensor]) -> None:
        """TRL's metrics of rewards and log-probabilities."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        chosen, rejected = (self.accelerator.gather(self.beta * ratio.detach()) for ratio in ratios)
        metrics["rewards/chosen"].append(chosen.mean().item())
        metrics["rewards/rejected"].append(rejected.mean().item())
        metrics["rewards/accuracies"].append((chosen > rejected).float().mean().item())
        metrics["rewards/margins"].append((chosen - rejected).mean().item())
        for name, side in zip(("logps/chosen", "logps/rejected"), logps, strict=True):
            metrics[name].append(self.accelerator.gather(side.detach()).mean().item())


def edited_rows(trainer: Any, intervention: CompiledIntervention, data_plan: DataPlan | None = None) -> Sequences:
    """The training rows that a hook family edits, as `assay.hooks` knows them: by the token ids that the trainer feeds.

    Of a STEERING_VECTOR the rows that the plan flags, of others all; of each pair the sides that the artifact names.

    Args:
        trainer: a built trl.DPOTrainer.
        intervention: what `Client.intervention` gives.
        data_plan: the plan's, loaded; not needed where the dataset went through `apply_plan`.

    Raises:
        InvalidRequest: ROWS_REQUIRED: nothing says which rows are flagged; LENGTH_MISMATCH: the data plan cannot be laid beside
            the trainer's rows.
    """
    dataset, collator = trainer.train_dataset, trainer.data_collator
    flagged = _flagged(dataset, intervention, data_plan)
    side = intervention.artifact.side if intervention.artifact is not None else ResponseSide.BOTH
    wanted = [
        ids
        for ids, one in zip(_IDS, (ResponseSide.CHOSEN, ResponseSide.REJECTED), strict=True)
        if side in (one, ResponseSide.BOTH)
    ]
    most, keep_start = getattr(collator, "max_length", None), getattr(collator, "truncation_mode", "keep_start") == "keep_start"
    cut = slice(None) if most is None else slice(None, most) if keep_start else slice(-most, None)
    columns = {name: dataset[name] for name in ("prompt_ids", *wanted)}
    return Sequences((columns["prompt_ids"][at] + columns[name][at])[cut] for at in flagged for name in wanted)


def _flagged(dataset: Any, intervention: CompiledIntervention, data_plan: DataPlan | None) -> list[int]:
    rows, name = range(len(dataset)), intervention.name
    if intervention.intervention.family is not InterventionFamily.STEERING_VECTOR:
        return list(rows)
    if STEERED_BY in dataset.column_names:
        return [at for at, names in zip(rows, dataset[STEERED_BY], strict=True) if name in names]
    if data_plan is None:
        raise InvalidRequest(
            f"{name} steers on flagged rows, and nothing says which: give data_plan=client.data_plan(plan)",
            reason="ROWS_REQUIRED",
        )
    picked = {row.row for row in data_plan if name in row.steered_by}
    places = dataset[ROW] if ROW in dataset.column_names else rows
    if ROW not in dataset.column_names and picked and max(picked) >= len(dataset):
        raise InvalidRequest(
            f"the plan flags row {max(picked)}, and the trainer has {len(dataset)} rows: give the dataset a column {ROW}, or "
            "send it through apply_plan",
            reason="LENGTH_MISMATCH",
            details={"row": str(max(picked)), "rows": str(len(dataset))},
        )
    return [at for at, place in zip(rows, places, strict=True) if place in picked]


def _drops(example: Mapping[str, Any], tokenizer: Any) -> dict[str, list[int]]:
    """Masked places among the token ids that TRL cut, template tokens counted."""
    found: dict[str, list[int]] = {}
    for name, ids, mask, count, drops in zip(("chosen", "rejected"), _IDS, MASKS, TOKENS, DROPS, strict=True):
        places = example[mask]
        lead = _lead(example[name], example[ids], example[count], tokenizer) if places else 0
        found[drops] = [place + lead for place in places]
    return found


def _lead(response: Any, ids: Sequence[int], count: int, tokenizer: Any) -> int:
    """Template tokens before a response among the ids that TRL cut; MASK_MISMATCH where its tokens are not there."""
    text = (response if isinstance(response, str) else response[-1]["content"]).strip()
    for lead in range(len(ids) - count + 1):
        said = tokenizer.decode(ids[lead : lead + count], clean_up_tokenization_spaces=False).strip()
        if said.endswith(text):  # its first token may have taken a prompt's last character along
            return lead
    raise InvalidRequest(
        f"the plan masks tokens of a response of {count} tokens, and the trainer's tokenizer cuts its text into {len(ids)} in "
        "another way: use the tokenizer and chat template that the server serves",
        reason="MASK_MISMATCH",
        details={"plan_tokens": str(count), "tokens": str(len(ids))},
    )
