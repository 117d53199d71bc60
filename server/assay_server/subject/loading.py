"""Loads a causal language model, its tokenizer and an SAE from a folder, a GGUF file or a hub.

Invariants:
- No network is touched unless ``allow_download`` says so; no remote code ever runs; weights come as safetensors or GGUF only.
- Blocks past the hook and the unembedding are dropped before the model moves to the device, unless the whole model is kept.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay_server.errors import SubjectMismatch
from assay_server.subject.fingerprint import fingerprint_tensors, fingerprint_text, model_configuration
from assay_server.subject.hooks import Hook, find_blocks
from assay_server.subject.whole import WholeModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")


@dataclass(slots=True)
class LoadedModel:
    """A model cut at the hook, on its device.

    Attributes:
        decoder: the module to call: ids in, blocks run; its last block's output is the hook (see ``Hook``).
        blocks: the blocks that are left.
        tokenizer: the Hugging Face tokenizer.
        architecture: class name of the whole model.
        hook_module: the hook in Hugging Face's naming.
        whole: what the cut leaves out, where it is kept.
    """

    decoder: Any
    blocks: nn.ModuleList
    tokenizer: Any
    architecture: str
    hook_module: str
    blocks_total: int
    width: int
    context_tokens: int
    fingerprint: str
    tokenizer_fingerprint: str
    template_fingerprint: str
    whole: WholeModel | None = None


def find_device(name: str = "auto") -> torch.device:
    """The device to run on: the one named, or the first accelerator, or the CPU.

    Raises:
        SubjectMismatch: the name is no device's, or a CUDA device was named that is not there (NO_DEVICE).
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SubjectMismatch(f"{name!r} names no device: use auto, cpu, cuda or cuda:N.", reason="NO_DEVICE") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SubjectMismatch(
            f"Device {name!r} was requested, but torch sees {torch.cuda.device_count()} CUDA devices.", reason="NO_DEVICE"
        )
    return torch.device("cuda:0") if name == "cuda" else device


def find_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype to run in: the one named; by default bfloat16 on an accelerator and float32 on the CPU.

    Raises:
        SubjectMismatch: not one of float32, bfloat16, float16; or float16 on the CPU (BAD_DTYPE).
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES or (name == "float16" and device.type == "cpu"):
        raise SubjectMismatch(
            f"dtype {name!r} does not run on {device.type}: use float32 or bfloat16, or float16 on a GPU.",
            reason="BAD_DTYPE",
            details={"dtype": name, "device": device.type},
        )
    return DTYPES[name]


def load_model(
    source: str, hook: Hook, *, device: torch.device, dtype: torch.dtype, allow_download: bool, keep_whole: bool = False
) -> LoadedModel:
    """Load a causal LM and its tokenizer, and cut it at the hook.

    Args:
        source: a folder of safetensors, a ``.gguf`` file, or a hub id.
        keep_whole: keep what lies past the hook too, for log-probabilities.

    Raises:
        SubjectMismatch: nothing is there (MODEL_NOT_FOUND), or the hook is not in this model (HOOK_OUT_OF_RANGE).
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # a server's log is not a terminal
    where, extra = _source(source)
    offline: dict[str, Any] = {"local_files_only": not allow_download, "trust_remote_code": False}
    try:
        with _network(allow_download):  # ``local_files_only`` alone still asks the hub whether a missing file exists
            model = AutoModelForCausalLM.from_pretrained(
                where, dtype=dtype, attn_implementation="eager", **_safe(extra), **offline, **extra
            )
            tokenizer = AutoTokenizer.from_pretrained(where, **offline, **extra)
    except (OSError, ValueError) as error:
        raise SubjectMismatch(
            f"Model {source!r} could not be loaded: {error}" + _hint(source, allow_download),
            reason="MODEL_NOT_FOUND",
            details={"model": source},
        ) from error
    return cut_model(model.eval().requires_grad_(False), tokenizer, hook, device, keep_whole=keep_whole)


def cut_model(model: Any, tokenizer: Any, hook: Hook, device: torch.device, *, keep_whole: bool = False) -> LoadedModel:
    """Drop what lies past the hook (or set it aside), fingerprint what is left, and move it to the device.

    Raises:
        SubjectMismatch: the hook's block is past the model's last (HOOK_OUT_OF_RANGE).
    """
    decoder, attribute, blocks = find_blocks(model)
    total = len(blocks)
    if hook.block >= total:
        raise SubjectMismatch(
            f"Hook {hook.name} needs block {hook.block}, and {type(model).__name__} has {total} blocks (0 to {total - 1}).",
            reason="HOOK_OUT_OF_RANGE",
            details={"block": hook.block, "blocks": total},
        )
    whole = _set_aside(model, decoder, attribute, blocks) if keep_whole else None
    kept = nn.ModuleList(list(blocks)[: hook.blocks_run])
    setattr(decoder, attribute, kept)
    for norm in _FINAL_NORMS:
        if isinstance(getattr(decoder, norm, None), nn.Module):
            setattr(decoder, norm, nn.Identity())
    name = next((path for path, module in model.named_modules() if module is kept), attribute)
    config = getattr(model.config, "get_text_config", lambda: model.config)()
    fingerprint = fingerprint_tensors(
        decoder.state_dict().items(), {**model_configuration(config), "class": type(model).__name__, "hook": hook.name}
    )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    template = str(getattr(tokenizer, "chat_template", None) or "")
    if whole is not None:
        whole.to(device)
    return LoadedModel(
        decoder=decoder.to(device),
        blocks=kept,
        tokenizer=tokenizer,
        architecture=type(model).__name__,
        hook_module=f"{name}.{hook.block}:{'input' if hook.is_input else 'output'}",
        blocks_total=total,
        width=int(config.hidden_size),
        context_tokens=int(getattr(config, "max_position_embeddings", 0) or 2048),
        fingerprint=fingerprint,
        tokenizer_fingerprint=fingerprint_text(backend.to_str() if backend else repr(tokenizer)),
        template_fingerprint=fingerprint_text(template) if template else "",
        whole=whole,
    )


def _set_aside(model: Any, decoder: Any, attribute: str, blocks: nn.ModuleList) -> WholeModel:
    configuration = {**model_configuration(model.config), "class": type(model).__name__}
    norms = {name: norm for name in _FINAL_NORMS if isinstance(norm := getattr(decoder, name, None), nn.Module)}
    fingerprint = fingerprint_tensors(model.state_dict().items(), configuration)
    return WholeModel(model, decoder, attribute, blocks, norms, fingerprint)


def load_sae(source: str, sae_id: str = "", *, device: torch.device, dtype: torch.dtype, allow_download: bool) -> Any:
    """Load an SAE by SAELens: a folder, or a registry release and id.

    Raises:
        SubjectMismatch: nothing is there, or SAELens cannot read it (SAE_NOT_FOUND).
    """
    from sae_lens import SAE

    name = str(dtype).removeprefix("torch.")
    try:
        if Path(source).expanduser().is_dir():
            sae = SAE.load_from_disk(str(Path(source).expanduser()), device=str(device), dtype=name)
        elif not sae_id:
            raise ValueError("no such folder, and a registry release needs an id beside it (--sae-id)")
        else:
            with _network(allow_download):
                sae = SAE.from_pretrained(source, sae_id, device=str(device), dtype=name)
    except Exception as error:  # SAELens raises what its loaders raise: OSError, KeyError, ValueError, hub errors
        raise SubjectMismatch(
            f"SAE {source!r}{f' / {sae_id!r}' if sae_id else ''} could not be loaded: {type(error).__name__}: {error}"
            + _hint(source, allow_download),
            reason="SAE_NOT_FOUND",
            details={"sae": source, "sae_id": sae_id},
        ) from error
    return sae.eval().requires_grad_(False)


def fingerprint_sae(sae: Any) -> str:
    """Digest of the SAE's configuration (what is computed, not where it came from) and weights."""
    config = {k: v for k, v in sae.cfg.to_dict().items() if k not in ("metadata", "device", "dtype")}
    kwargs = sae.cfg.metadata.model_from_pretrained_kwargs or {}
    return fingerprint_tensors(sae.state_dict().items(), {**config, "model_from_pretrained_kwargs": kwargs})


def _source(source: str) -> tuple[str, dict[str, str]]:
    path = Path(source).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return str(path.parent), {"gguf_file": path.name}
    return (str(path) if path.exists() else source), {}


def _safe(extra: dict[str, str]) -> dict[str, Any]:
    return {} if "gguf_file" in extra else {"use_safetensors": True}


def _hint(source: str, allow_download: bool) -> str:
    if allow_download or Path(source).expanduser().exists():
        return ""
    return " (The server does not download by default: give a folder, or start it with --allow-download.)"


class _network:
    """Keeps huggingface_hub offline unless downloads are allowed, for loaders without a switch of their own, or a leaky one."""

    def __init__(self, allowed: bool) -> None:
        self._allowed = allowed

    def __enter__(self) -> None:
        from huggingface_hub import constants

        self._before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = not self._allowed or self._before
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    def __exit__(self, *_: object) -> None:
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = self._before
