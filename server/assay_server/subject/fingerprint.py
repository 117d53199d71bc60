"""Fingerprints: SHA-256 over exactly what determines an answer, so that equal digests mean equal activations.

A fingerprint is taken of tensors as they were loaded (before any move to a device), with names, dtypes and shapes framed
unambiguously, and of the parts of a configuration that change the computation. Paths, dates and library versions stay out.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_CONFIG_NOISE = {
    "_name_or_path",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "use_cache",
    "gguf_file",
}


def fingerprint_tensors(tensors: Iterable[tuple[str, Tensor]], configuration: Mapping[str, Any]) -> str:
    """Digest of named tensors and a configuration, hexadecimal. Order of the tensors does not matter."""
    digest = hashlib.sha256(b"assay-tensors-1")
    digest.update(_canonical(configuration))
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"\0{name}\0{plain.dtype}\0{tuple(plain.shape)}\0".encode())
        digest.update(plain.view(torch.uint8).numpy().data if plain.ndim else plain.reshape(1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint_text(*parts: str) -> str:
    """Digest of texts, framed by their lengths, hexadecimal."""
    digest = hashlib.sha256(b"assay-text-1")
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def model_configuration(config: Any) -> dict[str, Any]:
    """The parts of a transformers configuration that change the computation."""
    return {
        key: value
        for key, value in config.to_dict().items()
        if key not in _CONFIG_NOISE and not key.startswith(("_attn", "id2label", "label2id"))
    }


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()
