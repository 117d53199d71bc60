"""Small random causal language models of many families, with real configurations and real tokenizers, as folders on disk.

Weights are drawn large enough that attention matters: a token that saw a wrong neighbour changes its residual by a tenth of its
norm or more, far outside any tolerance. Sliding windows are shorter than the test texts. Everything is deterministic.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from tests.support.chat_tokenizers import build_tokenizer

WIDTH = 64
BLOCKS = 4
WINDOW = 24
LAYER = 1  # the hook's block: neither the first nor the last
HOOK = f"blocks.{LAYER}.hook_resid_post"
CONTEXT = 2048


@dataclass(frozen=True, slots=True)
class Family:
    """A model family: its configuration class, what differs from the common shape, and a tokenizer kind."""

    name: str
    config: str
    extra: dict[str, Any]
    tokenizer: str


_SHAPE = {
    "hidden_size": WIDTH,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": CONTEXT,
}
_GROUPED = {"num_key_value_heads": 2}
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * (BLOCKS // 2), "sliding_window": WINDOW}
_FAR = {"sliding_window": 160, "use_sliding_window": True}
_EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
_GPT2 = {"n_embd": WIDTH, "n_layer": BLOCKS, "n_head": 4, "n_positions": CONTEXT}

FAMILIES = {
    family.name: family
    for family in (
        Family("llama", "LlamaConfig", {**_SHAPE, **_GROUPED}, "llama3"),
        Family(
            "gemma2",
            "Gemma2Config",
            {**_SHAPE, **_GROUPED, **_ALTERNATING, "head_dim": 16, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 3.0},
            "gemma",
        ),
        Family(
            "gemma3",
            "Gemma3TextConfig",
            {**_SHAPE, **_GROUPED, **_ALTERNATING, "head_dim": 16, "query_pre_attn_scalar": 24},
            "gemma",
        ),
        Family("qwen2", "Qwen2Config", {**_SHAPE, **_GROUPED}, "chatml"),
        Family("qwen3", "Qwen3Config", {**_SHAPE, **_GROUPED, "head_dim": 16}, "chatml"),
        Family("mistral", "MistralConfig", {**_SHAPE, **_GROUPED, "sliding_window": WINDOW}, "wordpiece"),
        Family("gpt_neox", "GPTNeoXConfig", {**_SHAPE, "rotary_pct": 0.25}, "turns"),
        Family("gpt2", "GPT2Config", _GPT2, "raw"),
        # Position by attention bias, outside the attention interface: what must fall back to reading paths alone.
        Family("bloom", "BloomConfig", {"hidden_size": WIDTH, "n_layer": BLOCKS, "n_head": 4}, "chatml"),
        Family("mpt", "MptConfig", {"d_model": WIDTH, "n_layers": BLOCKS, "n_heads": 4, "max_seq_len": CONTEXT}, "chatml"),
        Family("falcon", "FalconConfig", {**_SHAPE, "alibi": True}, "chatml"),
        # Windows that the load-time probe is too short to meet, and the test texts are not.
        Family("masked_window", "Qwen2MoeConfig", {**_SHAPE, **_GROUPED, **_EXPERTS, **_FAR, "max_window_layers": 0}, "chatml"),
        Family(
            "exaone4",
            "Exaone4Config",
            {**_SHAPE, **_GROUPED, **_FAR, "layer_types": ["full_attention", "sliding_attention"] * (BLOCKS // 2)},
            "chatml",
        ),
    )
}
SHARING = ("llama", "gemma2", "gemma3", "qwen2", "qwen3", "mistral", "gpt_neox", "gpt2")


def build_model(name: str, vocabulary: int, seed: int = 0) -> Any:
    """A random model of a family, float32, in evaluation mode."""
    family = FAMILIES[name]
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    config = getattr(transformers, family.config)(vocab_size=vocabulary, **ids, **family.extra)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:  # biases and norms: off their defaults, so that forgetting one shows
            parameter.data += 0.1 * noise
        else:
            parameter.data = noise * (1.0 if parameter.shape[0] == vocabulary else 0.2)
    return model.requires_grad_(False)


def save_family(name: str, folder: Path, seed: int = 0) -> Path:
    """Write a family's model (safetensors) and tokenizer as a folder that ``from_pretrained`` reads."""
    tokenizer = build_tokenizer(FAMILIES[name].tokenizer)
    model = build_model(name, len(tokenizer) + 8, seed)  # some tokenizer classes add a token of their own when reloaded
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
