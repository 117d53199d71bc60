"""A concept's score on every token of a response, and the characters that each token covers: what token filters mask by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from assay_server.batching import Lane
from assay_server.errors import AssayError, EngineFailure
from assay_server.interventions.reading import Engine, tree_of
from assay_server.interventions.targets import Target
from assay_server.scorer import default_batch_tokens
from assay_server.subject.subject import Subject
from assay_server.subject.types import Message, Pair, PromptedResponse, SpanName, TokenTree, Truncation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SIDES = (SpanName.CHOSEN, SpanName.REJECTED)


@dataclass(frozen=True, eq=False)
class ResponseTokens:
    """One response's tokens: float64 scores [targets, tokens], and the characters of the response that each covers."""

    scores: Floats
    starts: Ints
    ends: Ints


@dataclass(frozen=True, eq=False)
class _Cut:
    """One pair's tree, and the characters of each response's tokens."""

    tree: TokenTree
    covers: tuple[tuple[Ints, Ints], ...]


async def token_scores(
    engine: Engine, pairs: Sequence[Pair], targets: Sequence[Target], *, lane: Lane = Lane.BULK, deadline: float | None = None
) -> list[tuple[ResponseTokens, ResponseTokens] | AssayError]:
    """Every target's score on every response token of every pair, chosen then rejected; an error in its place.

    A target made of features scores a token by its weighted activations, a direction by ⟨h, v⟩.

    Raises:
        Overloaded, Expired, NotReady: the call as a whole.
    """
    cuts = await engine.off_device(lambda subject: [_cut(subject, pair) for pair in pairs])
    results: list[tuple[ResponseTokens, ResponseTokens] | AssayError] = []
    budget = default_batch_tokens(engine.info.dtype, engine.info.device.partition(":")[0])
    for run in _runs(cuts, budget):
        trees = [cut.tree for cut in run if isinstance(cut, _Cut)]
        scores: list[Floats] = []
        if trees:
            tokens = sum(tree.size for tree in trees)
            scores = await engine.call(
                lambda subject, trees=trees: _scores(subject, trees, targets), tokens, lane=lane, deadline=deadline
            )
        left = iter(scores)
        results += [cut if isinstance(cut, AssayError) else _result(cut, next(left)) for cut in run]
    return results


def _cut(subject: Subject, pair: Pair) -> _Cut | AssayError:
    try:
        tree = tree_of(subject, pair, Truncation.REFUSE)
        covers = tuple(_covers(subject, PromptedResponse(pair.prompt, response)) for response in (pair.chosen, pair.rejected))
        return _Cut(tree, covers)
    except AssayError as error:
        return error


def _covers(subject: Subject, item: PromptedResponse) -> tuple[Ints, Ints]:
    """Offsets of each response token in the response, code points; a token that reaches out of it is cut at its ends."""
    positions = tree_of(subject, item, Truncation.REFUSE).spans[SpanName.CHOSEN]
    if isinstance(item.prompt, str):
        tokens = subject.tokenizer.text(item.prompt + item.response, Truncation.RESPONSE_END).tokens
        shift, turn = len(item.prompt), 0
    else:
        turns = (*item.prompt, Message("assistant", item.response))
        tokens = subject.tokenizer.text(turns, Truncation.RESPONSE_END).tokens
        shift, turn = 0, len(item.prompt)
    starts, ends = np.zeros(len(positions), np.int64), np.zeros(len(positions), np.int64)
    for index, place in enumerate(positions.tolist()):
        token = tokens[place]
        if token.message == turn:
            starts[index], ends[index] = max(0, token.start - shift), token.end - shift
        else:  # it begins in the turn before: what it covers of the response ends where the next token begins
            after = tokens[place + 1] if place + 1 < len(tokens) else None
            ends[index] = after.start if after is not None and after.message == turn else len(item.response)
    return starts, ends


def _result(cut: _Cut, scores: Floats) -> tuple[ResponseTokens, ResponseTokens] | AssayError:
    if not np.isfinite(scores).all():
        return EngineFailure(
            "The residual at the hook is not finite. Serve this model in float32 (--dtype).", reason="NON_FINITE"
        )
    chosen, rejected = (
        ResponseTokens(scores[:, cut.tree.spans[side]], starts, ends)
        for side, (starts, ends) in zip(SIDES, cut.covers, strict=True)
    )
    return chosen, rejected


def _runs(cuts: Sequence[_Cut | AssayError], budget: int) -> list[list[_Cut | AssayError]]:
    runs: list[list[_Cut | AssayError]] = []
    room = 0
    for cut in cuts:
        size = cut.tree.size if isinstance(cut, _Cut) else 0
        if not runs or size > room:
            runs.append([])
            room = budget
        runs[-1].append(cut)
        room -= size
    return runs


@torch.inference_mode()
def _scores(subject: Subject, trees: Sequence[TokenTree], targets: Sequence[Target]) -> list[Floats]:
    """Scores float64 [targets, tree tokens] of every tree; the device's thread only."""
    residual = subject.reader.read(subject.reader.prepare(trees))
    inputs = subject.encoder.inputs(residual)
    rows: list[Floats] = []
    for target in targets:
        if target.direction is not None:
            vector = torch.from_numpy(target.direction.astype(np.float32)).to(residual.device)
            rows.append((residual.float() @ vector).double().cpu().numpy())
        else:
            wanted = torch.from_numpy(target.features).to(residual.device)
            acts = subject.encoder.encode_features(inputs, wanted).double().cpu().numpy()
            rows.append(acts @ target.weights)
    scores = np.stack(rows)
    bounds = np.cumsum([tree.size for tree in trees])[:-1]
    return np.split(scores, bounds, axis=1)
