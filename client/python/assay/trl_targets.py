"""What a plan is about to be applied to, by fingerprints that are computed here as the server computes them.

target = plan_target(plan, model=model, tokenizer=tokenizer, dataset=pairs_of(dataset))      raises where anything differs
client.offsets(plan, pairs, target=target)                                                    the server compares again
"""

from collections.abc import Iterable
from typing import Any

from assay.errors import InvalidRequest
from assay.intervention_data import DataPlan
from assay.intervention_fingerprints import check_target, dataset_fingerprint, text_fingerprint
from assay.intervention_results import PlanTarget
from assay.interventions import Plan
from assay.pairs import Pair

_CONFIG_NOISE = {
    "_name_or_path",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "use_cache",
    "gguf_file",
}
_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


def plan_target(
    plan: Plan | DataPlan, *, model: Any = None, tokenizer: Any = None, dataset: Iterable[Pair] | None = None
) -> PlanTarget:
    """The fingerprints of what is given, held to the plan's.

    Args:
        plan: what is about to be applied; `Plan` for a model.
        model: the policy before training, as it was loaded: a trainer changes its configuration.
        tokenizer: its tokenizer.
        dataset: the pairs, in the order in which they were uploaded.

    Raises:
        InvalidRequest: MODEL_MISMATCH, TOKENIZER_MISMATCH or DATASET_MISMATCH, with both fingerprints.
    """
    wanted = plan.subject.tokenizer_fingerprint if isinstance(plan, Plan) else plan.tokenizer_fingerprint
    if model is not None and not isinstance(plan, Plan):
        raise InvalidRequest("a data plan does not know its model: give the plan", reason="MODEL_UNKNOWN")
    target = PlanTarget(
        model_fingerprint=model_fingerprint(model, plan.subject.hook, plan.subject.dtype)
        if model is not None and isinstance(plan, Plan)
        else "",
        tokenizer_fingerprint=matching_tokenizer_fingerprint(tokenizer, wanted) if tokenizer is not None else "",
        dataset_fingerprint=dataset_fingerprint(dataset) if dataset is not None else "",
    )
    check_target(plan, target)
    return target


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 over a fast tokenizer's specification, hexadecimal, as `ModelInfo.tokenizer_fingerprint`.

    A tokenizer that has padded or truncated carries that in its specification; the server's has not. Padding and truncation are
    therefore left out here, and a plan whose tokenizer came with either is compared by `matching_tokenizer_fingerprint`.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return text_fingerprint(repr(tokenizer))
    copy = type(backend).from_str(backend.to_str())
    copy.no_padding()
    copy.no_truncation()
    return text_fingerprint(copy.to_str())


def matching_tokenizer_fingerprint(tokenizer: Any, wanted: str) -> str:
    """`wanted` where the tokenizer has that fingerprint as it is, else what `tokenizer_fingerprint` says."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and text_fingerprint(backend.to_str()) == wanted:
        return wanted
    return tokenizer_fingerprint(tokenizer)


def model_fingerprint(model: Any, hook: str, dtype: str) -> str:
    """SHA-256 over a causal LM's weights and configuration up to a hook, hexadecimal, as `ModelInfo.model_fingerprint`.

    Args:
        model: as ``from_pretrained`` gave it, before a trainer or PEFT changed it.
        hook: SAELens's name of the hook.
        dtype: element type that the subject runs in; weights are cast to it, so that a policy loaded in float32 is compared with
            a subject in bfloat16 of the same checkpoint.
    """
    from assay.hooks import find_blocks, place_of
    from assay.hooks_sae import tensors_fingerprint

    decoder, name, blocks = find_blocks(model)
    block, _ = place_of(hook, len(blocks))
    dropped = [f"{name}.{at}." for at in range(block + 1, len(blocks))] + [f"{norm}." for norm in _FINAL_NORMS]
    state = {key: value for key, value in decoder.state_dict().items() if not key.startswith(tuple(dropped))}
    config = getattr(model.config, "get_text_config", lambda: model.config)()
    kept = {
        key: value
        for key, value in config.to_dict().items()
        if key not in _CONFIG_NOISE and not key.startswith(("_attn", "id2label", "label2id"))
    }
    return tensors_fingerprint(state, {**kept, "class": type(model).__name__, "hook": hook}, dtype)
