"""Log-probabilities of responses, plain and with the residual at the hook edited, in one pass as far as both agree.

Plain and edited passes differ from the hook on. With tree attention the blocks up to it run once; there the packed row becomes
one row for each variant, edited at its tokens, and the blocks past it run all rows at once. Where trees are not shared (see
``reader``), each variant is a pass of its own, through the model's own attention.

Invariants:
- A response's log-probability is the sum over its tokens (``TokenTree.spans``: no template token, no end-of-turn token) of
  log p(token | everything before it), in nats; logits are taken in float32, sums in float64.
- Logits are made for tokens of responses only, and in blocks: never [tokens, vocabulary] at once.
- ``prepare`` may run on any thread, ``read`` only on the one that owns the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay_server.errors import AssayError, EngineFailure, SubjectMismatch
from assay_server.subject import attention
from assay_server.subject.calibration import CALIBRATION
from assay_server.subject.hooks import Hook
from assay_server.subject.loading import LoadedModel
from assay_server.subject.reader import PreparedTrees, Reader, TreeReader, tree_paths
from assay_server.subject.types import SpanName, TokenTree
from assay_server.subject.whole import WholeModel

LOGITS = 8 * 2**20  # elements of one block of logits: 32 MiB in float32
AGREEMENT = {torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.05}  # nats per token, of the probe
SIDES = (SpanName.CHOSEN, SpanName.REJECTED)


class Edit(Protocol):
    """A change of the residual stream at the hook."""

    def apply(self, residual: Tensor) -> Tensor:
        """The residuals of edited tokens, [tokens, width], changed; the same dtype."""
        ...


@dataclass(frozen=True, eq=False)
class Steer:
    """h ← h + delta (METHOD.md §4), delta float32 [width]."""

    delta: NDArray[np.float32]

    def apply(self, residual: Tensor) -> Tensor:
        """See ``Edit``."""
        return (residual.float() + torch.from_numpy(self.delta).to(residual.device)).to(residual.dtype)


@dataclass(frozen=True, eq=False)
class LogprobRequest:
    """One tree to read.

    Attributes:
        tree: a pair or a response.
        edited: flat positions of the tokens that edits change, int32 [n]; see ``edited_positions``.
    """

    tree: TokenTree
    edited: NDArray[np.int32]

    @property
    def size(self) -> int:
        """Tokens that the model reads."""
        return self.tree.size


@dataclass(frozen=True, eq=False)
class ResponseLogprobs:
    """Log-probabilities of one tree's responses, in nats: float64 [variants, responses], and each response's tokens."""

    sums: NDArray[np.float64]
    tokens: NDArray[np.int64]


@dataclass(slots=True)
class PreparedLogprobs:
    """A batch ready for the device.

    Attributes:
        trees: as the reader prepared them.
        predictors: flat batch positions that response tokens are predicted from, int64 [tokens].
        targets: the ids they should be, int64 [tokens].
        bounds: where each response's tokens end among them, [responses + 1].
        responses: (request, tokens) of each response.
        edited: bool [batch tokens].
    """

    trees: PreparedTrees
    predictors: Tensor
    targets: Tensor
    bounds: list[int]
    responses: list[tuple[int, int]]
    edited: Tensor


class LogprobReader:
    """Reads log-probabilities with a whole model.

    Args:
        model: as loaded, ``whole`` kept.
        hook: where edits happen.
        reader: the subject's: trees are shared where it shares them.
        device: where it runs.
    """

    def __init__(self, model: LoadedModel, hook: Hook, reader: Reader, device: torch.device) -> None:
        assert model.whole is not None, "the whole model was not kept: this is a bug"
        self.whole: WholeModel = model.whole
        self._reader = reader
        self.hook = hook
        self.device = device
        self._vocabulary = int(self.whole.causal.get_output_embeddings().weight.shape[0])

    @property
    def end_tokens(self) -> frozenset[int]:
        """Ids that end a turn or a text, by the model's own configuration."""
        found: set[int] = set()
        for config in (self.whole.causal.config, getattr(self.whole.causal, "generation_config", None)):
            ids = getattr(config, "eos_token_id", None)
            found |= {ids} if isinstance(ids, int) else set(ids or ())
        return frozenset(found)

    @property
    def shares_blocks(self) -> bool:
        """Whether variants share the blocks up to the hook."""
        return isinstance(self._reader, TreeReader)

    def prepare(self, requests: Sequence[LogprobRequest]) -> PreparedLogprobs:
        """Build a batch's tensors; any thread."""
        predictors: list[NDArray[np.int64]] = []
        targets: list[NDArray[np.int64]] = []
        responses: list[tuple[int, int]] = []
        edited = np.zeros(sum(request.size for request in requests), np.bool_)
        start = 0
        for index, request in enumerate(requests):
            tree = request.tree
            ids, before = flat_ids(tree), predecessors(tree)
            for side in SIDES:
                if side in tree.spans:
                    span = tree.spans[side].astype(np.int64)
                    predictors.append(before[span] + start)
                    targets.append(ids[span].astype(np.int64))
                    responses.append((index, len(span)))
            edited[request.edited.astype(np.int64) + start] = True
            start += tree.size
        return PreparedLogprobs(
            trees=self._reader.prepare([request.tree for request in requests]),
            predictors=torch.from_numpy(np.concatenate(predictors)).to(self.device),
            targets=torch.from_numpy(np.concatenate(targets)).to(self.device),
            bounds=np.cumsum([0] + [len(part) for part in targets]).tolist(),
            responses=responses,
            edited=torch.from_numpy(edited).to(self.device),
        )

    @torch.inference_mode()
    def read(self, batch: PreparedLogprobs, variants: Sequence[Edit | None]) -> list[ResponseLogprobs | AssayError]:
        """Log-probabilities of every request under every variant, in order; None is the plain model.

        A request whose sum is not finite gets an EngineFailure (NON_FINITE) in its place. The device's thread only.
        """
        with self.whole.restored():
            if self.shares_blocks:
                hidden = self._shared(batch, variants)
            else:
                hidden = torch.stack([self._alone(batch, variant) for variant in variants])
            logprobs = self._logprobs(hidden, batch.targets)
        sums = np.zeros((len(variants), len(batch.responses)))
        for response, (first, last) in enumerate(zip(batch.bounds, batch.bounds[1:], strict=False)):
            sums[:, response] = logprobs[:, first:last].sum(axis=1)
        return [self._result(batch, sums, request) for request in range(len(batch.trees.trees))]

    def _result(self, batch: PreparedLogprobs, sums: NDArray[np.float64], request: int) -> ResponseLogprobs | AssayError:
        mine = [place for place, (index, _) in enumerate(batch.responses) if index == request]
        if not np.isfinite(sums[:, mine]).all():
            return EngineFailure(
                "A response's log-probability is not finite. Lower the coefficient, or serve this model in float32 (--dtype).",
                reason="NON_FINITE",
            )
        return ResponseLogprobs(sums[:, mine], np.array([batch.responses[place][1] for place in mine], np.int64))

    def _shared(self, batch: PreparedLogprobs, variants: Sequence[Edit | None]) -> Tensor:
        """Hidden states [variants, response tokens, width] of one pass that fans out at the hook."""

        def fan_out(residual: Tensor) -> Tensor:  # [1, row, width] -> [variants, row, width]
            rows = [residual[0] if edit is None else _edited(residual[0], edit, batch.edited) for edit in variants]
            return torch.stack(rows)

        self.whole.decoder.config._attn_implementation = attention.NAME
        with attention.reading(batch.trees.state), changing(self.whole.blocks[self.hook.block], self.hook, fan_out):
            out = self.whole.decoder(
                input_ids=batch.trees.ids, position_ids=batch.trees.state.positions[None], use_cache=False
            ).last_hidden_state
        return out[:, batch.predictors]

    def _alone(self, batch: PreparedLogprobs, edit: Edit | None) -> Tensor:
        """Hidden states [response tokens, width] of one variant, path by path through the model's own attention."""
        mask, flat = batch.trees.state
        where = torch.from_numpy(path_edits(batch.trees.trees, batch.edited.cpu().numpy(), mask.shape[1])).to(self.device)

        def change(residual: Tensor) -> Tensor:  # [paths, longest, width]
            return residual if edit is None else _edited(residual, edit, where)

        self.whole.decoder.config._attn_implementation = "eager"
        with changing(self.whole.blocks[self.hook.block], self.hook, change):
            out = self.whole.decoder(input_ids=batch.trees.ids, attention_mask=mask, use_cache=False).last_hidden_state
        return out.flatten(0, 1)[flat][batch.predictors]

    def _logprobs(self, hidden: Tensor, targets: Tensor) -> NDArray[np.float64]:
        """log p of each target, float64 [variants, tokens], a block of logits at a time."""
        variants, tokens, width = hidden.shape
        rows, wanted = hidden.reshape(-1, width), targets.repeat(variants)
        block = max(1, LOGITS // self._vocabulary)
        parts: list[Tensor] = []
        for first in range(0, len(rows), block):
            logits = self.whole.logits(rows[first : first + block]).float()
            mine = logits.gather(1, wanted[first : first + block, None])[:, 0]
            parts.append(mine - logits.logsumexp(dim=1))
        return torch.cat(parts).double().cpu().numpy().reshape(variants, tokens)


def flat_ids(tree: TokenTree) -> NDArray[np.int32]:
    """Token ids in flat order, [size]."""
    return np.concatenate([tree.trunk, *tree.branches])


def predecessors(tree: TokenTree) -> NDArray[np.int64]:
    """Flat position of the token before each on its own path, int64 [size]; the first token has itself."""
    before = np.arange(tree.size, dtype=np.int64) - 1
    before[0] = 0
    start = len(tree.trunk)
    for branch in tree.branches:
        if len(branch):
            before[start] = len(tree.trunk) - 1
        start += len(branch)
    return before


def path_edits(trees: Sequence[TokenTree], edited: NDArray[np.bool_], longest: int) -> NDArray[np.bool_]:
    """Which tokens of padded paths are edited, bool [paths, longest]: a trunk's tokens in every path that begins with it."""
    rows: list[NDArray[np.bool_]] = []
    start = 0
    for tree in trees:
        n = len(tree.trunk)
        at = start + n
        for path, branch in zip(tree_paths(tree), tree.branches or (tree.trunk[:0],), strict=True):
            row = np.zeros(longest, np.bool_)
            row[:n] = edited[start : start + n]
            row[n : len(path)] = edited[at : at + len(branch)]
            at += len(branch)
            rows.append(row)
        start += tree.size
    return np.stack(rows)


def check_logprobs(logprobs: LogprobReader, subject_tree: TokenTree) -> None:
    """Hold the reader to the model's own forward pass on one tree, plain and with an edit.

    Raises:
        SubjectMismatch: LOGPROBS: they differ by more than the dtype's rounding, or the architecture does not run so.
    """
    width = logprobs.whole.causal.get_input_embeddings().weight.shape[1]
    parameter = next(logprobs.whole.decoder.parameters())
    edit = Steer(np.full(width, 0.05, np.float32))
    edited = np.arange(1, subject_tree.size, dtype=np.int32)
    try:
        batch = logprobs.prepare([LogprobRequest(subject_tree, edited)])
        got = logprobs.read(batch, [None, edit])[0]
        if isinstance(got, AssayError):
            raise got
        worst = max(
            float(np.abs(got.sums[row] - _plain(logprobs, subject_tree, variant)).max() / got.tokens.max())
            for row, variant in enumerate((None, edit))
        )
    except Exception as error:
        raise SubjectMismatch(
            f"The whole model's log-probabilities cannot be read: {type(error).__name__}: {error}. "
            "Serve without --whole-model; offsets by STEERING and INOCULATION are then not offered.",
            reason="LOGPROBS",
        ) from error
    limit = AGREEMENT[parameter.dtype]
    if not worst <= limit:
        raise SubjectMismatch(
            f'Log-probabilities differ from the model\'s own by {worst:.4g} nats per token on "{CALIBRATION[0][0]}"; {limit:g} '
            f"is what {parameter.dtype} explains. Serve without --whole-model.",
            reason="LOGPROBS",
            details={"difference": worst, "limit": limit},
        )


def _plain(logprobs: LogprobReader, tree: TokenTree, edit: Edit | None) -> NDArray[np.float64]:
    """Each response's log-probability by the causal model's own forward pass, one path at a time."""
    whole, hook = logprobs.whole, logprobs.hook
    spans = [tree.spans[side] for side in SIDES if side in tree.spans]
    n, sums, skipped = len(tree.trunk), [], 0
    for path, span in zip(tree_paths(tree), spans, strict=True):
        positions = torch.from_numpy(np.where(span < n, span, span - skipped).astype(np.int64))
        skipped += len(path) - n

        def change(residual: Tensor) -> Tensor:
            where = torch.arange(residual.shape[1], device=residual.device)[None] >= 1
            return residual if edit is None else _edited(residual, edit, where)

        ids = torch.from_numpy(path.astype(np.int64))[None].to(next(whole.decoder.parameters()).device)
        with torch.inference_mode(), whole.restored() as causal, changing(whole.blocks[hook.block], hook, change):
            whole.decoder.config._attn_implementation = "eager"
            logits = causal(input_ids=ids, use_cache=False).logits[0].float().log_softmax(dim=-1).cpu()
        sums.append(float(logits[positions - 1, ids[0].cpu()[positions]].double().sum()))
    return np.array(sums)


class changing:
    """Changes a block's output (or input) for the length of one pass."""

    def __init__(self, block: Any, hook: Hook, change: Any) -> None:
        self._block, self._hook, self._change = block, hook, change

    def __enter__(self) -> None:
        if self._hook.is_input:
            self._handle = self._block.register_forward_pre_hook(self._before, with_kwargs=True)
        else:
            self._handle = self._block.register_forward_hook(self._after)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _before(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (self._change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self._change(kwargs["hidden_states"])}

    def _after(self, _: Any, __: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (self._change(output[0]), *output[1:])
        return self._change(output)


def _edited(residual: Tensor, edit: Edit, where: Tensor) -> Tensor:
    """The residuals with the marked tokens' edited; ``where`` is bool over all but the last dimension."""
    changed = residual.clone()
    changed[where] = edit.apply(residual[where])
    return changed
