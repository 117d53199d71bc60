"""What a trainer starts from: the served subject's own model and tokenizer, pairs, and TRL's arguments for a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay import Message, Pair
from assay.trl import preference_rows
from datasets import Dataset
from trl import DPOConfig

from tests.server.jobs.plans import worlds
from tests.support.tiny_subject import build_parts


def make_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Pairs of words, as the server's own tests have them."""
    return [
        Pair(
            tuple(Message(turn.role, turn.content) for turn in pair.prompt if not isinstance(turn, str)),
            pair.chosen,
            pair.rejected,
            id=pair.id,
            metadata=dict(pair.metadata),
        )
        for pair in worlds.make_pairs(count, seed)
    ]


def dataset_of(pairs: Sequence[Pair]) -> Dataset:
    """The pairs in TRL's preference format."""
    return Dataset.from_list(preference_rows(pairs))


def policy() -> tuple[Any, Any]:
    """The served subject's model, ready to train, and its tokenizer."""
    model, tokenizer, _ = build_parts()
    tokenizer.pad_token = tokenizer.eos_token
    return model.requires_grad_(True), tokenizer


def dpo_arguments(folder: Path, **changes: Any) -> DPOConfig:
    """Of a short run on the CPU, in float32, that says nothing."""
    values: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "precompute_ref_log_probs": True,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "report_to": [],
        "bf16": False,
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "max_length": None,
        **changes,
    }
    return DPOConfig(str(folder), **values)
