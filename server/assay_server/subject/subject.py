"""The subject: one model and one SAE, loaded, verified (``verification``), and ready to read batches of trees.

Invariant: ``prepare`` may run on any thread, ``read`` and ``activations`` only on the thread that owns the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay_server.errors import AssayError, EngineFailure
from assay_server.subject import pooling
from assay_server.subject.calibration import CALIBRATION, VarianceMeter, measure
from assay_server.subject.hooks import Hook, parse_hook
from assay_server.subject.loading import (
    LoadedModel,
    find_device,
    find_dtype,
    fingerprint_sae,
    load_model,
    load_sae,
)
from assay_server.subject.logprobs import LogprobReader, check_logprobs
from assay_server.subject.reader import PathReader, PreparedTrees, Reader, TreeReader
from assay_server.subject.sae import FeatureEncoder, make_encoder, wants_centred_residual
from assay_server.subject.tokenize import TreeTokenizer
from assay_server.subject.types import (
    Directions,
    Message,
    Pair,
    Pooled,
    PromptedResponse,
    SpanName,
    SubjectInfo,
    TokenTree,
)
from assay_server.subject.verification import (
    Failures,
    check_bos,
    check_model_name,
    check_overrides,
    check_variance,
    check_width,
)

AGREEMENT = {torch.float32: 2e-4, torch.bfloat16: 6e-2, torch.float16: 2e-2}  # of the residual's own norm


@dataclass(frozen=True, slots=True)
class TreeRequest:
    """One tree to read: whether to pool its prompt, and the directions to score."""

    tree: TokenTree
    include_prompt: bool = False
    directions: Directions | None = None

    @property
    def size(self) -> int:
        """Tokens that the model reads."""
        return self.tree.size


@dataclass(slots=True)
class PreparedBatch:
    """A batch ready for the device: the reader's tensors and where each span's rows are.

    ``spans`` lists (request, span name) in row order; ``rows`` are flat positions in the batch, span after span, delimited by
    ``bounds``; ``needed`` are the same positions, each once, ascending.
    """

    requests: tuple[TreeRequest, ...]
    trees: PreparedTrees
    spans: list[tuple[int, SpanName]]
    rows: Tensor
    needed: Tensor
    bounds: list[int]

    @property
    def tokens(self) -> int:
        """Tokens that the model reads for the batch."""
        return sum(request.tree.size for request in self.requests)


class Subject:
    """A verified model and SAE. Build it with ``load_subject`` or, from parts, with ``assemble``."""

    def __init__(
        self, model: LoadedModel, sae: Any, hook: Hook, tokenizer: TreeTokenizer, reader: Reader, device: torch.device
    ) -> None:
        self._model = model
        self._device = device
        self.sae = sae
        self.hook = hook
        self.encoder: FeatureEncoder = make_encoder(sae)
        self.tokenizer = tokenizer
        self.reader = reader
        self.logprobs: LogprobReader | None = None  # where the whole model is kept
        self.info: SubjectInfo

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._device

    def prepare(self, requests: Sequence[TreeRequest]) -> PreparedBatch:
        """Build a batch's tensors; any thread."""
        spans: list[tuple[int, SpanName]] = []
        rows: list[NDArray[np.int32]] = []
        start = 0
        for index, request in enumerate(requests):
            for name, positions in request.tree.spans.items():
                if len(positions) and (name is not SpanName.PROMPT or request.include_prompt):
                    spans.append((index, name))
                    rows.append(positions + start)
            start += request.tree.size
        bounds = np.cumsum([0] + [len(positions) for positions in rows]).tolist()
        flat = np.concatenate(rows).astype(np.int64)
        wanted, needed = (torch.from_numpy(array).to(self._device) for array in (flat, np.unique(flat)))
        trees = self.reader.prepare([request.tree for request in requests])
        return PreparedBatch(tuple(requests), trees, spans, wanted, needed, bounds)

    @torch.inference_mode()
    def read(self, batch: PreparedBatch) -> list[Pooled | AssayError]:
        """Pooled features of every request of a batch, in order; the device's thread only.

        A request whose residual is not finite (an overflow in half precision) gets an EngineFailure (NON_FINITE) in its place.
        """
        residual = self.reader.read(batch.trees, batch.needed)[batch.rows]
        pooled = pooling.pool(self.encoder, residual, batch.bounds)
        means = pooling.mean_rows(residual, batch.bounds)
        sizes = np.diff(batch.bounds).tolist()
        spans = pooling.split_spans(pooled, means, sizes)
        directions = self._direction_scores(batch, residual)
        by_request: list[dict[SpanName, Any]] = [{} for _ in batch.requests]
        for (index, name), span in zip(batch.spans, spans, strict=True):
            by_request[index][name] = span
        broken = {batch.spans[row][0] for row in np.flatnonzero(~np.isfinite(means).all(axis=1))}
        return [
            _non_finite(self.info.dtype)
            if index in broken
            else Pooled(
                spans=by_request[index],
                prompt_tokens=len(request.tree.spans[SpanName.PROMPT]),
                read=request.tree.size,
                shared=request.tree.shared,
                truncated=request.tree.truncated,
                directions=directions[index],
            )
            for index, request in enumerate(batch.requests)
        ]

    @torch.inference_mode()
    def activations(
        self, ids: NDArray[np.int32], features: Sequence[int], along: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Activations of named features on every token of one sequence, float32 [features, tokens]; the device's thread only.

        With directions ``along`` [n, d_in] the inner products of each with every token's residual follow: [features + n, tokens].

        Raises:
            EngineFailure: the residual is not finite (NON_FINITE).
        """
        tree = TokenTree(ids, (), {SpanName.PROMPT: ids[:0]})
        residual = self.reader.read(self.reader.prepare([tree]))
        if not bool(residual.isfinite().all()):
            raise _non_finite(self.info.dtype)
        wanted = torch.tensor(list(features), dtype=torch.int64, device=self._device)
        columns = [self.encoder.encode_features(self.encoder.inputs(residual), wanted).float()]
        if along is not None:
            columns.append(residual.float() @ torch.from_numpy(along).to(self._device).T)
        return torch.cat(columns, dim=1).T.contiguous().cpu().numpy()

    @torch.inference_mode()
    def residual(self, tree: TokenTree) -> Tensor:
        """Residuals [tree tokens, width] of one tree in flat order; the device's thread only."""
        return self.reader.read(self.reader.prepare([tree]))

    def _direction_scores(self, batch: PreparedBatch, residual: Tensor) -> list[dict[SpanName, NDArray[np.float32]]]:
        scores: list[dict[SpanName, NDArray[np.float32]]] = [{} for _ in batch.requests]
        moved: dict[bytes, Tensor] = {}
        for (index, name), start, end in zip(batch.spans, batch.bounds, batch.bounds[1:], strict=False):
            directions = batch.requests[index].directions
            if directions is None or name is SpanName.PROMPT:
                continue
            if directions.digest not in moved:
                moved[directions.digest] = torch.from_numpy(directions.vectors).to(self._device)
            along = residual[start:end].float() @ moved[directions.digest].T
            scores[index][name] = along.amax(dim=0).cpu().numpy()
        return scores


def load_subject(
    model: str,
    sae: str,
    *,
    sae_id: str = "",
    hook: str = "",
    dtype: str = "auto",
    device: str = "auto",
    overrides: Sequence[str] = (),
    max_sequence_tokens: int = 0,
    variance_floor: float = 0.5,
    allow_download: bool = False,
    whole_model: bool = False,
) -> Subject:
    """Load, cut, verify and probe a model and its SAE.

    Args:
        model: folder, ``.gguf`` file or hub id.
        sae: folder, or SAELens registry release with ``sae_id``.
        hook: SAELens hook string; "" takes the SAE's own.
        dtype, device: "auto" or by name.
        overrides: checks of ``OVERRIDABLE`` that may fail.
        max_sequence_tokens: bound below the model's own context; 0 for none.
        variance_floor: least explained variance on the calibration text.
        whole_model: keep the blocks past the hook and the head, for log-probabilities.

    Raises:
        SubjectMismatch: a part is missing or a check fails; the message names the numbers and the fix.
    """
    check_overrides(overrides)  # before minutes of loading
    where = find_device(device)
    kind = find_dtype(dtype, where)
    loaded_sae = load_sae(sae, sae_id, device=where, dtype=kind, allow_download=allow_download)
    place = parse_hook(hook or str(loaded_sae.cfg.metadata.hook_name or ""))
    loaded = load_model(model, place, device=where, dtype=kind, allow_download=allow_download, keep_whole=whole_model)
    return assemble(
        loaded,
        loaded_sae,
        place,
        device=where,
        model_id=_public_name(model),
        sae_id="/".join(filter(None, (_public_name(sae), sae_id))),
        overrides=overrides,
        max_sequence_tokens=max_sequence_tokens,
        variance_floor=variance_floor,
    )


def assemble(
    model: LoadedModel,
    sae: Any,
    hook: Hook,
    *,
    device: torch.device,
    model_id: str,
    sae_id: str,
    overrides: Sequence[str] = (),
    max_sequence_tokens: int = 0,
    variance_floor: float = 0.5,
) -> Subject:
    """Verify loaded parts against each other and make a subject of them. Raises as ``load_subject``."""
    check_overrides(overrides)
    failures = Failures(overrides)
    check_width(model, sae)
    check_model_name(model_id, sae, failures)
    prepend_bos = check_bos(model, sae, failures)
    context = min(model.context_tokens, max_sequence_tokens or model.context_tokens)
    tokenizer = TreeTokenizer(model.tokenizer, context_tokens=model.context_tokens, prepend_bos=prepend_bos)
    subject = Subject(model, sae, hook, tokenizer, PathReader(model, hook, device), device)
    _choose_reader(subject, model)
    if model.whole is not None:
        subject.logprobs = LogprobReader(model, hook, subject.reader, device)
        check_logprobs(subject.logprobs, _probe_tree(subject))
    meter = _calibrate(subject)  # in the model's own context: the operator's bound is on requests
    tokenizer.context_tokens = context
    check_variance(meter, hook, variance_floor, failures)
    parameter = next(model.decoder.parameters())
    subject.info = SubjectInfo(
        model_id=model_id,
        model_fingerprint=model.fingerprint,
        model_architecture=model.architecture,
        tokenizer_fingerprint=model.tokenizer_fingerprint,
        template_fingerprint=model.template_fingerprint,
        hook=hook.name,
        hook_module=model.hook_module,
        blocks_run=hook.blocks_run,
        blocks_total=model.blocks_total,
        d_in=subject.encoder.d_in,
        d_sae=subject.encoder.d_sae,
        sae_architecture=sae.cfg.architecture(),
        sae_id=sae_id,
        sae_fingerprint=fingerprint_sae(sae),
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=str(device),
        context_tokens=context,
        explained_variance=meter.explained_variance,
        mean_l0=meter.mean_l0,
        calibration_tokens=meter.tokens,
        overrides=tuple(failures.overridden),
        whole_model_fingerprint=model.whole.fingerprint if model.whole is not None else "",
    )
    return subject


def _non_finite(dtype: str) -> EngineFailure:
    return EngineFailure(
        f"The residual at the hook is not finite in {dtype}. Serve this model in float32 or bfloat16 (--dtype).",
        reason="NON_FINITE",
        details={"dtype": dtype},
    )


def _public_name(source: str) -> str:
    """A hub id as it is; of a local path only its last part, so that callers do not see the server's folders."""
    path = Path(source).expanduser()
    return path.name if path.exists() else source


def _calibration_trees(subject: Subject) -> list[TokenTree]:
    chat = subject.tokenizer.template.available
    return [
        subject.tokenizer.response(
            PromptedResponse((Message("user", question),) if chat else f"Question: {question}\n\nAnswer: ", answer)
        )
        for question, answer in CALIBRATION
    ]


def _choose_reader(subject: Subject, model: LoadedModel) -> None:
    """Share prefixes where the model's residuals on a probe agree with reading each path alone."""
    if getattr(model.decoder.config, "attention_chunk_size", None):
        return
    tree = _probe_tree(subject)
    truth = subject.residual(tree)
    alone, shared = subject.reader, TreeReader(model, subject.hook, subject.device)
    subject.reader = shared
    probe = shared.prepare([tree])
    try:
        with torch.inference_mode():
            residual = shared.read(probe)
        error = (residual - truth).float().norm(dim=-1) / truth.float().norm(dim=-1).clamp(min=1e-6)
        # The probe is shorter than a real window: a layer that leaves its window to the mask would agree here and err later.
        agrees = float(error.max()) <= AGREEMENT[truth.dtype] and probe.state.windows_masked <= probe.state.windows_used
    except Exception:  # whatever a model's own code raises when no mask comes: AttributeError, KeyError, ...
        agrees = False
    if not agrees:
        subject.reader = alone
    (alone if agrees else shared).close()


def _probe_tree(subject: Subject) -> TokenTree:
    question, answer = CALIBRATION[0]
    chat = subject.tokenizer.template.available
    prompt = (Message("user", question),) if chat else question + "\n\n"
    return subject.tokenizer.pair(Pair(prompt, answer[:80], CALIBRATION[1][1][:60]))


def _calibrate(subject: Subject) -> VarianceMeter:
    meter = VarianceMeter(subject.encoder.d_in)
    for tree in _calibration_trees(subject):
        rows = torch.from_numpy(tree.spans[SpanName.CHOSEN].astype(np.int64)).to(subject.device)
        measure(subject.sae, subject.residual(tree)[rows], meter, center=wants_centred_residual(subject.sae))
    return meter
