"""What a clamp needs of an SAE: activations of some features, and that it is the SAE that the plan was made with."""

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

from assay.errors import InvalidRequest
from assay.intervention_artifacts import SaeClamp


def feature_activations(sae: Any, h: Tensor, features: Tensor) -> Tensor:
    """a_f(h), [tokens, features], in h's element type; the SAE runs in its own.

    An SAE of a model with centred writing weights reads residuals with their own mean taken off, as in the server.

    Args:
        sae: a SAELens SAE, or anything callable that gives [tokens, d_sae] of [tokens, d_in].
        h: residuals, [tokens, d_in].
        features: ids, int64 [features].
    """
    encode = getattr(sae, "encode", sae)
    about = getattr(getattr(sae, "cfg", None), "metadata", None)
    if (getattr(about, "model_from_pretrained_kwargs", None) or {}).get("center_writing_weights"):
        h = h - h.mean(dim=-1, keepdim=True)
    dtype = next((one.dtype for one in sae.parameters()), h.dtype) if hasattr(sae, "parameters") else h.dtype
    return encode(h.to(dtype))[..., features.to(h.device)].to(h.dtype)


def check_sae(sae: Any, clamp: SaeClamp, dtype: str) -> None:
    """Refuses a SAELens SAE that is not the plan's; one without SAELens's configuration is taken as it is.

    Raises:
        InvalidRequest: SAE_MISMATCH, with both fingerprints.
    """
    if not hasattr(sae, "cfg") or not clamp.sae_fingerprint:
        return
    met = sae_fingerprint(sae, dtype)
    if met != clamp.sae_fingerprint:
        raise InvalidRequest(
            f"the plan was made with the SAE {clamp.sae_id} of fingerprint {clamp.sae_fingerprint}, and is applied with one of "
            f"fingerprint {met}; check=False applies it none the less",
            reason="SAE_MISMATCH",
            details={"plan_sae_fingerprint": clamp.sae_fingerprint, "sae_fingerprint": met},
            code="FAILED_PRECONDITION",
        )


def sae_fingerprint(sae: Any, dtype: str) -> str:
    """Digest of a SAELens SAE's configuration and weights, hexadecimal, as `ModelInfo.sae_fingerprint`.

    Args:
        sae: the SAE.
        dtype: element type that the server's subject runs in, which the server loads the SAE in.
    """
    config = {key: value for key, value in sae.cfg.to_dict().items() if key not in ("metadata", "device", "dtype")}
    kwargs = sae.cfg.metadata.model_from_pretrained_kwargs or {}
    return tensors_fingerprint(sae.state_dict(), {**config, "model_from_pretrained_kwargs": kwargs}, dtype)


def tensors_fingerprint(tensors: dict[str, Tensor], configuration: dict[str, Any], dtype: str = "") -> str:
    """SHA-256 over named tensors and a configuration, hexadecimal, as the server takes it; floats are cast to `dtype` first."""
    digest = hashlib.sha256(b"assay-tensors-1")
    digest.update(json.dumps(configuration, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu()
        if dtype and plain.is_floating_point():
            plain = plain.to(getattr(torch, dtype))
        plain = plain.contiguous()
        digest.update(f"\0{name}\0{plain.dtype}\0{tuple(plain.shape)}\0".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
