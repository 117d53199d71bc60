"""Measures a dose-response curve on the loaded model (METHOD.md §4: coefficients have a useful range, and it is measured).

For each coefficient the steered model continues the calibration prompts; the model without steering reads what it wrote, and the
concept's mean score on it is the response. Reading the steered activations themselves would show nothing: along the
direction they move by the coefficient, whatever the model makes of it. Fluency is the calibration answers' perplexity under the
steered model. Greedy, so the same model gives the same curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from assay_server.batching import Lane
from assay_server.errors import InvalidItem
from assay_server.interventions.dose import (
    DEFAULT_FRACTIONS,
    PERPLEXITY_LIMIT,
    DosePoint,
    DoseResponse,
    dose_response,
    perplexity,
)
from assay_server.interventions.reading import Engine, Steering, log_probabilities, tree_of
from assay_server.interventions.spans import edited_positions
from assay_server.interventions.targets import Target, directions_of, span_score
from assay_server.interventions.types import EditedSpan, Statistic
from assay_server.scorer import Scored, ScoreOptions
from assay_server.subject.calibration import CALIBRATION
from assay_server.subject.continuation import Continuation
from assay_server.subject.logprobs import ResponseLogprobs
from assay_server.subject.subject import Subject
from assay_server.subject.types import Message, PromptedResponse, SpanName, Truncation

Floats = NDArray[np.float64]
STEPS = 4  # tokens a row that one call on the device writes
DEFAULT_TOKENS = 32


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """Knobs of a sweep; no coefficients means ``DEFAULT_FRACTIONS`` of the mean residual norm."""

    coefficients: tuple[float, ...] = ()
    generated_tokens: int = DEFAULT_TOKENS
    perplexity_limit: float = PERPLEXITY_LIMIT


async def measure(
    engine: Engine,
    target: Target,
    direction: Floats,
    span: EditedSpan,
    options: SweepOptions | None = None,
    advance: Callable[[int], None] = lambda texts: None,
) -> DoseResponse:
    """The curve of steering along a direction.

    Args:
        engine: keeps the whole model.
        target: what is scored.
        direction: unit vector that is added, float64 [d_in].
        span: at which tokens.
        options: knobs.
        advance: told of every text that is read or written; what it raises ends the work.

    Raises:
        Overloaded, NotReady: the device took no work.
        EngineFailure: NON_FINITE.
    """
    options = options or SweepOptions()
    items = await engine.off_device(calibration_items)
    norm = await engine.call(lambda subject: _residual_norm(subject, items), 2048)
    given = options.coefficients or tuple(fraction * norm for fraction in DEFAULT_FRACTIONS)
    coefficients = sorted({0.0, *(float(one) for one in given)})
    changes = [Steering((one * direction).astype(np.float32), span) for one in coefficients[1:]]
    read = await log_probabilities(engine, items, changes)
    sound = [one for one in read if isinstance(one, ResponseLogprobs)]
    if len(sound) < len(items):
        raise next(one for one in read if not isinstance(one, ResponseLogprobs))
    advance(len(items))
    sums = np.stack([one.sums[:, 0] for one in sound])  # [texts, coefficients]
    tokens = int(sum(one.tokens[0] for one in sound))
    points: list[DosePoint] = []
    for place, coefficient in enumerate(coefficients):
        scores = await _written_scores(engine, target, items, (coefficient * direction).astype(np.float32), span, options)
        advance(len(items))
        error = float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0
        mean = float(scores.mean()) if len(scores) else 0.0
        points.append(DosePoint(coefficient, mean, error, perplexity(float(sums[:, place].sum()), tokens)))
    return dose_response(
        points,
        perplexity_limit=options.perplexity_limit,
        residual_norm=norm,
        perplexity_tokens=tokens,
        generated_tokens=options.generated_tokens * len(items),
    )


def texts_of(options: SweepOptions) -> int:
    """Texts that a sweep reads or writes, for progress."""
    return len(CALIBRATION) * (1 + len({0.0, *(options.coefficients or DEFAULT_FRACTIONS)}))


def check_options(options: SweepOptions) -> None:
    """Refuse what cannot be measured. Raises InvalidItem with the field's path."""
    if len(options.coefficients) > 32 or any(not (np.isfinite(one) and one >= 0) for one in options.coefficients):
        raise InvalidItem(
            f"{len(options.coefficients)} coefficients are given; give at most 32, each at least 0 and finite.",
            reason="OUT_OF_RANGE",
            field="coefficients",
        )
    if options.coefficients and not any(options.coefficients):
        raise InvalidItem("Every coefficient is 0; give one above it.", reason="OUT_OF_RANGE", field="coefficients")
    if not 1 <= options.generated_tokens <= 256:
        raise InvalidItem(
            f"generated_tokens is {options.generated_tokens}; give 1 to 256.", reason="OUT_OF_RANGE", field="generated_tokens"
        )
    if not (np.isfinite(options.perplexity_limit) and options.perplexity_limit > 1):
        raise InvalidItem(
            f"perplexity_limit is {options.perplexity_limit:g}; give more than 1.",
            reason="OUT_OF_RANGE",
            field="perplexity_limit",
        )


def calibration_items(subject: Subject) -> list[PromptedResponse]:
    """The built-in calibration text as the subject reads it: chat turns, or raw text."""
    chat = subject.tokenizer.template.available
    return [
        PromptedResponse((Message("user", question),) if chat else f"Question: {question}\n\nAnswer: ", answer)
        for question, answer in CALIBRATION
    ]


@torch.inference_mode()
def _residual_norm(subject: Subject, items: Sequence[PromptedResponse]) -> float:
    norms: list[float] = []
    for item in items:
        tree = tree_of(subject, item, Truncation.RESPONSE_END)
        rows = torch.from_numpy(tree.spans[SpanName.CHOSEN].astype(np.int64)).to(subject.device)
        norms += subject.residual(tree)[rows].float().norm(dim=-1).cpu().tolist()
    return float(np.mean(norms))


async def _written_scores(
    engine: Engine,
    target: Target,
    items: Sequence[PromptedResponse],
    delta: NDArray[np.float32],
    span: EditedSpan,
    options: SweepOptions,
) -> Floats:
    """The target's score on what the steered model writes to each prompt; prompts that it answers with nothing are left out."""
    continuation = await engine.off_device(lambda subject: _begin(subject, items, delta, span, options.generated_tokens))
    first = True
    while first or not continuation.finished:
        tokens = len(items) * (64 if first else STEPS)
        await engine.call(lambda _: continuation.advance(STEPS), tokens, lane=Lane.BULK)
        first = False
    written = await engine.off_device(lambda subject: [subject.tokenizer.decode(ids.tolist()) for ids in continuation.tokens()])
    answers = [PromptedResponse(item.prompt, text) for item, text in zip(items, written, strict=True) if text.strip()]
    if not answers:
        return np.zeros(0)
    how = ScoreOptions(directions=directions_of([target]), lane=Lane.BULK, patient=True, sealed=True)  # the same bits each time
    outcomes = await engine.score(answers, how)
    return np.array([_score(outcome, target) for outcome in outcomes if isinstance(outcome, Scored)])


def _begin(
    subject: Subject, items: Sequence[PromptedResponse], delta: NDArray[np.float32], span: EditedSpan, length: int
) -> Continuation:
    prompts: list[NDArray[np.int32]] = []
    starts: list[int] = []
    for item in items:
        tree = tree_of(subject, item, Truncation.RESPONSE_END)
        prompt = tree.trunk[: int(tree.spans[SpanName.CHOSEN][0])]
        edited = edited_positions(subject.tokenizer, item, tree, span, Truncation.RESPONSE_END)
        prompts.append(prompt)
        starts.append(min(int(edited[0]), len(prompt)))
    assert subject.logprobs is not None, "a sweep was asked of a model without its head: this is a bug"
    return Continuation(subject.logprobs, prompts, starts, np.tile(delta, (len(prompts), 1)), length)


def _score(outcome: Scored, target: Target) -> float:
    directions = outcome.pooled.directions.get(SpanName.CHOSEN)
    along = float(directions[0]) if directions is not None and len(directions) else 0.0
    return span_score(outcome.pooled.spans[SpanName.CHOSEN], target, Statistic.LARGEST, along)
