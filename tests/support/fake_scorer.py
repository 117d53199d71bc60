"""A deterministic scorer without a model, for tests of the protocol: what a text "expresses" follows from its bytes alone.

It keeps the promises of ``ScorerLike`` (order, errors in place, deadlines, cancellation), can be slowed down, held or made to
fail, and counts what runs in it, so that a test can say "nothing is left running".
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence

import numpy as np
from assay_server.errors import AssayError, Expired
from assay_server.scorer import CacheState, Scored, ScoreOptions, Timings
from assay_server.subject.types import (
    EncodedTokens,
    Pair,
    Pooled,
    PooledSpan,
    Prompt,
    PromptedResponse,
    SpanName,
    SubjectInfo,
    TokenInfo,
    Truncation,
)
from numpy.typing import NDArray

D_IN = 8
D_SAE = 512

INFO = SubjectInfo(
    model_id="fake/model",
    model_fingerprint="a" * 64,
    model_architecture="FakeForCausalLM",
    tokenizer_fingerprint="b" * 64,
    template_fingerprint="c" * 64,
    hook="blocks.1.hook_resid_post",
    hook_module="model.layers.1:output",
    blocks_run=2,
    blocks_total=4,
    d_in=D_IN,
    d_sae=D_SAE,
    sae_architecture="topk",
    sae_id="fake-sae",
    sae_fingerprint="d" * 64,
    dtype="float32",
    device="cpu",
    context_tokens=2048,
    explained_variance=0.9,
    mean_l0=12.5,
    calibration_tokens=1000,
)


def pooled_span(text: str, *, nnz: int = 24, d_sae: int = D_SAE) -> PooledSpan:
    """Pooled features that follow from the text."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
    tokens = max(1, len(text) // 4)
    return PooledSpan(
        tokens=tokens,
        indices=np.sort(rng.choice(d_sae, nnz, replace=False)).astype(np.uint32),
        max_f16=rng.gamma(2.0, 2.0, nnz).astype(np.float16) + np.float16(0.01),
        counts=rng.integers(1, tokens + 1, nnz).astype(np.uint32),
        exponent=0,
        mean_residual_f16=rng.standard_normal(D_IN).astype(np.float16),
        residual_exponent=0,
    )


class FakeScorer:
    """A scorer whose pace and failures a test sets.

    Attributes:
        delay: seconds that a call takes.
        delays: seconds that the next calls take instead, one each, first to last.
        gate: set it to a cleared event to hold calls until it is set.
        failing: raised by the next calls, one each, first to last.
        refusing: items whose (first) response is a key get the error in their place.
        running: calls that are in progress.
        most_running: the largest value of ``running`` so far.
        started: calls begun so far.
        finished: calls that were answered.
        calls: the options and deadline of each call.
    """

    def __init__(self, *, delay: float = 0.0, nnz: int = 24) -> None:
        self.delay = delay
        self.delays: list[float] = []
        self.nnz = nnz
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing: list[BaseException] = []
        self.refusing: dict[str, AssayError] = {}
        self.running = 0
        self.most_running = 0
        self.started = 0
        self.finished = 0
        self.calls: list[tuple[ScoreOptions, float | None]] = []
        self.spans: dict[str, PooledSpan] = {}

    @property
    def info(self) -> SubjectInfo:
        return INFO

    async def score(
        self, items: Sequence[Pair | PromptedResponse], options: ScoreOptions, *, deadline: float | None = None
    ) -> list[Scored | AssayError]:
        self.calls.append((options, deadline))
        await self._work(deadline)
        return [self._score(item, options) for item in items]

    async def encode_tokens(
        self,
        text: Prompt,
        features: Sequence[int],
        *,
        along: NDArray[np.float32] | None = None,
        truncation: Truncation = Truncation.REFUSE,
        deadline: float | None = None,
    ) -> tuple[EncodedTokens, Timings]:
        await self._work(deadline)
        contents = [text] if isinstance(text, str) else [turn.content for turn in text]
        tokens = tuple(
            TokenInfo(id=ord(c), text=c, message=message, start=i, end=i + 1)
            for message, content in enumerate(contents)
            for i, c in enumerate(content)
        )
        activations = np.zeros((len(features), len(tokens)), dtype=np.float32)
        for row, feature in enumerate(features):
            activations[row] = [float(token.id % 2) * (1 + feature) for token in tokens]
        ids = np.array([token.id for token in tokens], dtype=np.float32)
        inner = np.zeros((0, len(tokens))) if along is None else along.sum(axis=1, keepdims=True) * ids / 128
        return EncodedTokens(tokens, activations, inner.astype(np.float32)), Timings(0.001, 0.0, 0.002, 0.0, CacheState.BYPASS)

    async def _work(self, deadline: float | None) -> None:
        self.started += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.failing:
                raise self.failing.pop(0)
            await self.gate.wait()
            if delay := self.delays.pop(0) if self.delays else self.delay:
                await asyncio.sleep(delay)
            if deadline is not None and time.monotonic() > deadline:
                raise Expired("The deadline passed before the work began.")
            self.finished += 1
        finally:
            self.running -= 1

    def _score(self, item: Pair | PromptedResponse, options: ScoreOptions) -> Scored | AssayError:
        first = item.chosen if isinstance(item, Pair) else item.response
        if first in self.refusing:
            return self.refusing[first]
        texts = {SpanName.CHOSEN: first}
        if isinstance(item, Pair):
            texts[SpanName.REJECTED] = item.rejected
        if options.include_prompt:
            texts[SpanName.PROMPT] = str(item.prompt)
        directions = {
            side: options.directions.vectors @ np.full(D_IN, len(text), dtype=np.float32)
            for side, text in texts.items()
            if options.directions is not None and side is not SpanName.PROMPT
        }
        pooled = Pooled(
            spans={side: self._span(text) for side, text in texts.items()},
            prompt_tokens=7,
            read=40,
            shared=10,
            truncated=0,
            directions=directions,
        )
        state = CacheState.BYPASS if options.bypass_cache else CacheState.MISS
        return Scored(pooled, Timings(0.001, 0.002, 0.003, 0.0005, state))

    def _span(self, text: str) -> PooledSpan:
        if text not in self.spans:
            self.spans[text] = pooled_span(text, nnz=self.nnz)
        return self.spans[text]
