"""Edits of the residual stream while a policy trains: steering, ablation and SAE clamps on any Hugging Face causal LM.

    one = client.intervention(plan.of_family(InterventionFamily.STEERING_VECTOR)[0])
    with assay.hooks.intervened(trainer.model, one, tokenizer=tokenizer, rows=assay.trl.edited_rows(trainer, one, data)):
        trainer.train()

| context manager | does, at the artifact's hook                                  | needs  |
|-----------------|---------------------------------------------------------------|--------|
| `steering`      | h + coefficient v                                             |        |
| `ablation`      | h - strength Q Q^T (h - mean)                                 |        |
| `clamp`         | h + sum over features of (value - a_f(h)) W_dec[f]            | an SAE |
| `intervened`    | which of them the intervention asks for                       |        |

Which tokens are touched is told in `assay.hooks_positions`. The formulas are METHOD.md 4's, as `assay_server.interventions`
has them; they run in float32, or in float64 where the model does.

Invariants:
- Only the policy is edited. A reference model is another module and is not hooked. Where the policy itself gives the reference
  (PEFT: adapters off, or an adapter "ref" in their place), a pass without the policy's own adapters is left alone. A trainer that
  precomputes its reference must be built before the context is entered.
- Gradients flow through an edit, with gradient checkpointing too: a block that is computed again gets the tokens of its own pass.
- On leaving, by an exception too, the model is what it was.
- What is evaluated or generated inside the context is edited as well.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import InvalidRequest
from assay.hooks_positions import Given, Sequences, Where
from assay.hooks_sae import check_sae, feature_activations
from assay.intervention_artifacts import (
    AblationBasis,
    CompiledIntervention,
    InterventionArtifact,
    SaeClamp,
    SteeringVector,
)
from assay.interventions import EditedSpan, InterventionFamily, ResponseSide
from assay.tensors import Tensor as Plain

__all__ = ["Edit", "Sequences", "ablation", "clamp", "intervened", "steering"]

Change = Callable[[Tensor], Tensor]  # [tokens, d_in] to [tokens, d_in]

_HOOK = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)|(?:model|transformer|gpt_neox)\.(?:layers|h)\.(\d+)")
_BLOCK_LISTS = ("layers", "h", "blocks", "block")
_PASSES = 64  # of which the touched tokens are remembered, for blocks that are computed again


@contextmanager
def steering(
    model: Any,
    artifact: InterventionArtifact | CompiledIntervention,
    *,
    coefficient: float | None = None,
    span: EditedSpan | None = None,
    rows: Sequences | None = None,
    tokenizer: Any = None,
) -> Generator["Edit", None, None]:
    """h + coefficient v at the artifact's hook, while the context is open.

    Args:
        model: a Hugging Face causal LM, wrapped by PEFT or not.
        artifact: a steering vector of a plan.
        coefficient: in place of the artifact's, its sign included.
        span: in place of the artifact's.
        rows: which rows; needed where the artifact is about one side of a pair. None edits every row.
        tokenizer: the policy's; FINAL_TURN_ON finds the last user turn by its chat template.

    Raises:
        InvalidRequest: the artifact is of another kind, or its hook or width is not the model's.
    """
    found, kind = _artifact(artifact, SteeringVector)
    vector = _tensor(kind.vector)
    scale = kind.coefficient if coefficient is None else coefficient

    def change(h: Tensor) -> Tensor:
        return h + scale * vector.to(h)

    with _editing(model, found, change, vector.shape[0], span, rows, tokenizer) as edit:
        yield edit


@contextmanager
def ablation(
    model: Any,
    artifact: InterventionArtifact | CompiledIntervention,
    *,
    strength: float | None = None,
    span: EditedSpan | None = None,
    rows: Sequences | None = None,
    tokenizer: Any = None,
) -> Generator["Edit", None, None]:
    """h - strength Q Q^T (h - mean); arguments as of `steering`, `strength` in [0, 1] in place of the artifact's."""
    found, kind = _artifact(artifact, AblationBasis)
    basis, mean = _tensor(kind.basis), _tensor(kind.mean)
    part = kind.strength if strength is None else strength

    def change(h: Tensor) -> Tensor:
        q = basis.to(h)
        return h - part * ((h - mean.to(h)) @ q) @ q.T

    with _editing(model, found, change, basis.shape[0], span, rows, tokenizer) as edit:
        yield edit


@contextmanager
def clamp(
    model: Any,
    artifact: InterventionArtifact | CompiledIntervention,
    *,
    sae: Any,
    span: EditedSpan | None = None,
    rows: Sequences | None = None,
    tokenizer: Any = None,
    check: bool = True,
) -> Generator["Edit", None, None]:
    """h + sum over features of (value - a_f(h)) W_dec[f]; arguments as of `steering`.

    Args:
        sae: a SAELens SAE, or anything callable that gives activations [tokens, d_sae] of h [tokens, d_in].
        check: whether a SAELens SAE must be the artifact's own by fingerprint (SAE_MISMATCH).
    """
    found, kind = _artifact(artifact, SaeClamp)
    if check:
        check_sae(sae, kind, found.dtype)
    decoder, features = _tensor(kind.decoder), torch.tensor(kind.features, dtype=torch.int64)
    values = torch.tensor(kind.values, dtype=torch.float64)

    def change(h: Tensor) -> Tensor:
        acts = feature_activations(sae, h, features)
        return h + (values.to(h) - acts) @ decoder.to(h)

    with _editing(model, found, change, decoder.shape[1], span, rows, tokenizer) as edit:
        yield edit


@contextmanager
def intervened(
    model: Any,
    intervention: CompiledIntervention,
    *,
    sae: Any = None,
    span: EditedSpan | None = None,
    rows: Sequences | None = None,
    tokenizer: Any = None,
) -> Generator["Edit", None, None]:
    """What a plan's STEERING_VECTOR, ABLATION or SAE_CLAMP asks for; arguments as of the context manager of its kind.

    Raises:
        InvalidRequest: its family changes nothing in the model (NO_SUCH_EDIT), a plan that flags rows is applied without them
            (ROWS_REQUIRED), or a clamp lacks its SAE (SAE_REQUIRED).
    """
    family, artifact = intervention.intervention.family, intervention.artifact
    editing = (InterventionFamily.STEERING_VECTOR, InterventionFamily.ABLATION, InterventionFamily.SAE_CLAMP)
    if artifact is None or family not in editing:
        raise InvalidRequest(
            f"{intervention.name} is of family {family.value}, which changes nothing in the model: docs/interventions.md says "
            "what a trainer applies instead",
            reason="NO_SUCH_EDIT",
            details={"family": family.value},
        )
    if family is InterventionFamily.STEERING_VECTOR and rows is None:
        raise InvalidRequest(
            f"{intervention.name} steers on {intervention.intervention.expected.rows} flagged pairs: give "
            "rows=assay.trl.edited_rows(trainer, intervention, data_plan); `steering` edits every row",
            reason="ROWS_REQUIRED",
            details={"rows": str(intervention.intervention.expected.rows)},
        )
    match artifact.kind:
        case SteeringVector():
            opened = steering(model, artifact, span=span, rows=rows, tokenizer=tokenizer)
        case AblationBasis():
            opened = ablation(model, artifact, span=span, rows=rows, tokenizer=tokenizer)
        case SaeClamp():
            if sae is None:
                raise InvalidRequest(
                    f"a clamp reads features by the SAE {artifact.kind.sae_id}: give sae=", reason="SAE_REQUIRED"
                )
            opened = clamp(model, artifact, sae=sae, span=span, rows=rows, tokenizer=tokenizer)
    with opened as edit:
        yield edit


class Edit:
    """An edit that is in place.

    Attributes:
        response: bool [rows, tokens], true on responses, for passes without labels; yours to set before each.
        tokens: token residuals that were edited so far; 0 after training means that nothing was.
    """

    def __init__(self, model: Any, where: Where, change: Change) -> None:
        self.response: Tensor | None = None
        self.tokens = 0
        self._where = where
        self._change = change
        self._labels: Tensor | None = None
        self._given: Given | None = None
        self._masks: OrderedDict[tuple[int, tuple[int, ...]], Tensor | None] = OrderedDict()
        self._tuners = [module for module in model.modules() if _is_tuner(module)]
        self._adapters = [_adapters(module) for module in self._tuners]

    def outer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the whole model: takes note of labels, which do not reach the decoder."""
        self._labels = kwargs.get("labels")

    def outer_done(self, *_: object) -> None:
        """After it, also by an exception: a later pass without labels must not meet these."""
        self._labels = None

    def inner(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the decoder: takes note of what this pass is given."""
        ids = kwargs.get("input_ids")
        ids = args[0] if ids is None and args and isinstance(args[0], Tensor) else ids
        cache = kwargs.get("past_key_values")
        cache = kwargs.get("cache") if cache is None else cache  # its name from transformers 5.24 on
        cached = int(cache.get_seq_length()) if cache is not None and hasattr(cache, "get_seq_length") else None
        if not kwargs.get("use_cache", cached is not None):
            cached = cached or None
        self._given = Given(ids, kwargs.get("attention_mask"), self._labels, self.response, cached)

    def apply(self, source: Tensor, residual: Tensor) -> Tensor:
        """The residual [rows, tokens, d_in], this pass's tokens edited; `source` is the block's input, which names the pass."""
        mask = self._mask(source, residual)
        if mask is None or not bool(mask.any()):
            return residual
        picked = residual[mask]
        wide = picked if picked.dtype is torch.float64 else picked.float()
        self.tokens += picked.shape[0]
        return residual.index_put((mask,), self._change(wide).to(residual.dtype))

    def _mask(self, source: Tensor, residual: Tensor) -> Tensor | None:
        key = (source.data_ptr(), tuple(source.shape))
        given, self._given = self._given, None
        if given is None:  # a checkpointed block is computed again: its input still lies where it lay
            if key not in self._masks:
                raise InvalidRequest(
                    "a block ran outside of the model's own forward pass, and cannot be edited", reason="NO_PASS"
                )
            return self._masks[key]
        mask = self._where.mask(given, residual) if self._policy_is_on() else None
        self._masks.pop(key, None)
        self._masks[key] = mask
        if len(self._masks) > _PASSES:
            self._masks.popitem(last=False)
        return mask

    def _policy_is_on(self) -> bool:
        return all(_adapters(module) == was for module, was in zip(self._tuners, self._adapters, strict=True))


@contextmanager
def _editing(
    model: Any,
    artifact: InterventionArtifact,
    change: Change,
    width: int,
    span: EditedSpan | None,
    rows: Sequences | None,
    tokenizer: Any,
) -> Generator[Edit, None, None]:
    if artifact.side is not ResponseSide.BOTH and rows is None:
        raise InvalidRequest(
            f"this intervention is about {artifact.side.value} responses only: give rows=assay.trl.edited_rows(...), by which "
            "they are known",
            reason="ROWS_REQUIRED",
        )
    decoder, _, blocks = find_blocks(model)
    block, is_input = place_of(artifact.hook, len(blocks))
    config = getattr(model.config, "get_text_config", lambda: model.config)()
    if int(config.hidden_size) != width:
        raise InvalidRequest(
            f"the intervention's vectors have width {width}, and the model's residual stream has {config.hidden_size}: it was "
            "made for another model",
            reason="MODEL_MISMATCH",
            details={"width": str(width), "hidden_size": str(config.hidden_size)},
        )
    edit = Edit(model, Where(span or artifact.span, rows, tokenizer), change)
    handles = [
        model.register_forward_pre_hook(edit.outer, with_kwargs=True),
        model.register_forward_hook(edit.outer_done, always_call=True),
        decoder.register_forward_pre_hook(edit.inner, with_kwargs=True),
        _hook_input(blocks[block], edit) if is_input else _hook_output(blocks[block], edit),
    ]
    try:
        yield edit
    finally:
        for handle in handles:
            handle.remove()


def _hook_output(block: nn.Module, edit: Edit) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        source = args[0] if args else kwargs["hidden_states"]
        if isinstance(output, tuple):
            return (edit.apply(source, output[0]), *output[1:])
        return edit.apply(source, output)

    return block.register_forward_hook(hook, with_kwargs=True)


def _hook_input(block: nn.Module, edit: Edit) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (edit.apply(args[0], args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": edit.apply(kwargs["hidden_states"], kwargs["hidden_states"])}

    return block.register_forward_pre_hook(hook, with_kwargs=True)


def _artifact(given: InterventionArtifact | CompiledIntervention, kind: type[Any]) -> tuple[InterventionArtifact, Any]:
    artifact = given.artifact if isinstance(given, CompiledIntervention) else given
    if artifact is None or not isinstance(artifact.kind, kind):
        held = "nothing" if artifact is None else type(artifact.kind).__name__
        raise InvalidRequest(f"this takes a {kind.__name__}, and the intervention holds {held}", reason="NO_SUCH_EDIT")
    return artifact, artifact.kind


def _tensor(plain: Plain) -> Tensor:
    return torch.tensor(plain.values(), dtype=torch.float32).reshape(plain.shape)


def place_of(hook: str, blocks: int) -> tuple[int, bool]:
    """The block to hook, and whether its input is meant, which only "blocks.0.hook_resid_pre" needs."""
    found = _HOOK.fullmatch(hook)
    if found is None:
        raise InvalidRequest(f"hook {hook!r} is no place in the residual stream that this client knows", reason="UNKNOWN_HOOK")
    before = found[2] == "pre"
    block = int(found[3] or found[1]) - (1 if before and found[1] != "0" else 0)
    if block >= blocks:
        raise InvalidRequest(
            f"hook {hook} needs block {block}, and the model has {blocks} (0 to {blocks - 1}): it was made for another model",
            reason="MODEL_MISMATCH",
            details={"block": str(block), "blocks": str(blocks)},
        )
    return block, before and found[1] == "0"


def find_blocks(model: Any) -> tuple[nn.Module, str, nn.ModuleList]:
    """Decoder, the attribute that holds its blocks, and the blocks, of a Hugging Face causal LM, PEFT's wrapping taken off."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else None
    for candidate in (decoder, getattr(base, "base_model", None), getattr(base, "model", None)):
        for name in _BLOCK_LISTS:
            blocks = getattr(candidate, name, None)
            if isinstance(candidate, nn.Module) and isinstance(blocks, nn.ModuleList):
                return candidate, name, blocks
    raise InvalidRequest(
        f"{type(base).__name__} keeps its blocks under none of {', '.join(_BLOCK_LISTS)}; it cannot be edited at a hook",
        reason="UNKNOWN_ARCHITECTURE",
    )


def _is_tuner(module: nn.Module) -> bool:
    """Whether it is one of PEFT's layers; transformers' models have a method of the name."""
    return isinstance(getattr(module, "disable_adapters", None), bool) and hasattr(module, "active_adapters")


def _adapters(module: Any) -> tuple[bool, tuple[str, ...]]:
    """Whether a PEFT layer's adapters are off, and which are active."""
    return bool(module.disable_adapters), tuple(module.active_adapters)
