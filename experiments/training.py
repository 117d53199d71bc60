"""A small DPO training that two cores carry: TRL's trainer as `assay.trl` extends it, LoRA on every linear layer.

Two things are done for speed alone, and change no number that matters:
- The reference's log-probabilities are remembered by response (`Reference`): a second training on the same responses, with a plan
  or without, computes none.
- TRL scores response tokens only where it runs on a GPU, and every token on a CPU; here it does the former on both. The head
  with its softmax over the vocabulary is otherwise as dear as all blocks of a small model together.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import assay
import torch
from assay.hooks import intervened
from assay.trl import PlanDPOTrainer, apply_plan, edited_rows, preference_rows, shift_reference
from assay.trl_data import names_of
from assay.trl_offsets import CHOSEN, REJECTED


@dataclass(frozen=True)
class Recipe:
    """How a policy is trained: everything that decides its weights beside the pairs and the plan."""

    learning_rate: float = 1e-3
    epochs: float = 1.0
    batch: int = 4  # pairs
    beta: float = 0.1
    rank: int = 16
    alpha: int = 32
    warmup: float = 0.1  # share of the steps
    dtype: str = "bfloat16"
    max_length: int = 256  # tokens of prompt and response
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For digests and result files."""
        return asdict(self)


@dataclass(frozen=True)
class Change:
    """What a plan gives a training; the default changes nothing.

    Attributes:
        data: the data plan: rows dropped, flipped, weighed, masked, prompted, steered; offsets of stored scores.
        offsets: offsets of the training rows that take a forward pass, for all offset families together; in place of `data`'s.
        edits: interventions in the policy's forward pass.
    """

    data: assay.DataPlan | None = None
    offsets: Sequence[Any] | None = None
    edits: tuple[Any, ...] = ()
    sae: Any = None


@dataclass(frozen=True, eq=False)
class Trained:
    """A policy, its tokenizer, and what it cost."""

    model: Any
    tokenizer: Any
    recipe: Recipe
    log: list[dict[str, float]]  # loss, margin and accuracy of each step
    pairs: int  # that it was trained on
    seconds: float  # of training alone
    prepare_seconds: float  # loading, tokenizing, reference log-probabilities
    cpu_seconds: float  # of both
    tokens: int  # prompt and response tokens that training read, reference passes excluded


class Reference:
    """Log-probabilities of responses under the reference, by the tokens that they were read from; kept in a file if given."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, float] = json.loads(path.read_text()) if path is not None and path.exists() else {}

    def look_up(self, keys: Sequence[str]) -> list[float] | None:
        """Theirs, where all are known."""
        return [self._known[key] for key in keys] if all(key in self._known for key in keys) else None

    def keep(self, keys: Sequence[str], values: Sequence[float]) -> None:
        """Remember them."""
        self._known.update(zip(keys, values, strict=True))

    def save(self) -> None:
        """Write what is known, where there is a path."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._path.with_suffix(f".{os.getpid()}.partial")
            partial.write_text(json.dumps(self._known))
            partial.rename(self._path)


class RememberingTrainer(PlanDPOTrainer):
    """`assay.trl.PlanDPOTrainer` that asks a `Reference` before the model."""

    def __init__(self, *args: Any, reference: Reference, **kwargs: Any) -> None:
        self._reference = reference
        super().__init__(*args, **kwargs)

    def compute_ref_log_probs(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """As TRL's."""
        masks = zip(inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"], strict=True)
        keys = [_key(ids[read == 1], scored[read == 1]) for ids, read, scored in masks]
        known = self._reference.look_up(keys)
        if known is None:
            sides = super().compute_ref_log_probs(model, inputs)
            self._reference.keep(keys, torch.cat(list(sides)).tolist())
            return sides
        return torch.tensor(known, dtype=torch.float32).chunk(2)


def load(model: Path | str, dtype: str = "bfloat16") -> tuple[Any, Any]:
    """A model and its tokenizer, without network."""
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(model)
    with _quiet():
        loaded = AutoModelForCausalLM.from_pretrained(str(model), dtype=getattr(torch, dtype), local_files_only=True)
    return loaded, tokenizer


def load_tokenizer(model: Path | str) -> Any:
    """A model's tokenizer, one that can pad, without network."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model), local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def train(
    model: Path | str,
    pairs: Sequence[assay.Pair],
    recipe: Recipe,
    change: Change | None = None,
    reference: Reference | None = None,
) -> Trained:
    """Train a LoRA policy on the pairs by sigmoid DPO, with what a plan changes.

    Deterministic for one machine, number of threads and set of library versions: the order of the pairs and the adapter's start
    follow from the recipe's seed.
    """
    change, reference = change or Change(), reference or Reference()
    began, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="assay-training-") as scratch, _only_responses_scored(), _quiet():
        loaded, tokenizer = load(model, recipe.dtype)
        trainer = _trainer(loaded, tokenizer, _rows(pairs, change, tokenizer), recipe, reference, scratch)
        reference.save()
        if change.offsets is not None:
            shift_reference(trainer, change.offsets)
        started = time.perf_counter()
        with ExitStack() as stack:
            for edit in change.edits:
                rows = edited_rows(trainer, edit, change.data)
                stack.enter_context(intervened(trainer.model, edit, rows=rows, tokenizer=tokenizer, sae=change.sae))
            trainer.train()
    history = trainer.state.log_history
    return Trained(
        trainer.model.eval(),
        tokenizer,
        recipe,
        [_entry(one) for one in history if "loss" in one],
        len(trainer.train_dataset),
        time.perf_counter() - started,
        started - began,
        time.process_time() - cpu,
        _tokens(trainer) * max(1, round(recipe.epochs)),
    )


def _rows(pairs: Sequence[assay.Pair], change: Change, tokenizer: Any) -> Any:
    from datasets import Dataset

    dataset = Dataset.from_list(preference_rows(pairs))
    if change.data is None:
        return dataset
    dataset = apply_plan(dataset, change.data, tokenizer=tokenizer)
    stored = [name for name in (CHOSEN, REJECTED) if name in names_of(dataset)]
    return dataset.remove_columns(stored) if change.offsets is not None else dataset


def _trainer(loaded: Any, tokenizer: Any, rows: Any, recipe: Recipe, reference: Reference, scratch: str) -> Any:
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import DPOConfig

    arguments = DPOConfig(
        output_dir=scratch,
        per_device_train_batch_size=recipe.batch,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=recipe.warmup,
        beta=recipe.beta,
        max_length=recipe.max_length,
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=8,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
    )
    adapter = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    torch.manual_seed(recipe.seed)
    trainer = RememberingTrainer(
        model=loaded,
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapter,
        reference=reference,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


@contextmanager
def _only_responses_scored() -> Generator[None]:
    """TRL 1.16 asks this name whether it runs on a GPU's kernels, and scores response tokens alone if so."""
    from trl.trainer import utils

    before = getattr(utils, "_use_triton", None)
    if before is None:
        yield
        return
    utils._use_triton = lambda device: True
    try:
        yield
    finally:
        utils._use_triton = before


@contextmanager
def _quiet() -> Generator[None]:
    """No progress bars and no warnings of what other packages will rename between the loop's own lines."""
    import datasets
    from transformers.utils import logging

    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        datasets.enable_progress_bars()
        if before is None:
            del os.environ["TQDM_DISABLE"]


def _tokens(trainer: Any) -> int:
    rows = trainer.train_dataset
    return sum(
        2 * len(prompt) + len(chosen) + len(rejected)
        for prompt, chosen, rejected in zip(rows["prompt_ids"], rows["chosen_ids"], rows["rejected_ids"], strict=True)
    )


def _key(ids: torch.Tensor, scored: torch.Tensor) -> str:
    return hashlib.sha256(json.dumps([ids.tolist(), scored.tolist()]).encode()).hexdigest()[:24]


def _entry(one: dict[str, Any]) -> dict[str, float]:
    names = {"loss": "loss", "rewards/margins": "margin", "rewards/accuracies": "accuracy"}
    return {short: round(float(one[name]), 5) for name, short in names.items() if name in one}
