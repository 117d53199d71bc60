"""Which responses of a dataset labels are made from, and what fires on their tokens.

Responses are chosen so that every feature to label is seen where it fires: round by round the strongest response of each, then
random ones as the background that rates are taken over. Half of the prompts are for making labels, half for measuring them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_server.errors import AssayError, InvalidItem, Overloaded
from assay_server.jobs.operations.progress import Progress
from assay_server.labelling.firings import FiringsBuilder, TokenFirings
from assay_server.scorer import ScorerLike
from assay_server.store.features import FeatureShard
from assay_server.subject.types import EncodedTokens, Message, Pair, Prompt, SpanName

MAX_TEXTS = 1200
_BACKGROUND = 200
_STRONGEST = 24
_AT_ONCE = 2
_PATIENCE_SECONDS = 600.0
_SIDES = (SpanName.CHOSEN, SpanName.REJECTED)
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Response:
    """One response of a dataset: its pair's row, which side, and the number of its prompt."""

    row: int
    side: SpanName
    prompt: int


@dataclass(frozen=True, slots=True)
class LabelTexts:
    """Firings on the responses that labels are made from, and on those that they are measured on."""

    made: TokenFirings
    unseen: TokenFirings


def fires_in(shards: Iterable[FeatureShard], d_sae: int) -> Ids:
    """Features that fire on a response of a usable pair, ascending."""
    fires = np.zeros(d_sae, dtype=np.bool_)
    for shard in shards:
        for side in _SIDES:
            fires[shard.spans[side].features] = True
    return np.flatnonzero(fires).astype(np.int64)


def choose_responses(
    shards: Callable[[], Iterable[FeatureShard]], features: Ids, d_sae: int, *, seed: int, most: int = MAX_TEXTS
) -> list[Response]:
    """The responses to read, in the dataset's order: the features' strongest, and random ones.

    Args:
        shards: the dataset's features; read once.
        features: to be labelled.
        d_sae: features of the SAE.
        seed: of the random ones.
        most: responses in all.
    """
    strongest = _Strongest(features, d_sae)
    responses: list[Response] = []
    for shard in shards():
        for side in _SIDES:
            strongest.add(shard, side, len(responses))
            responses += [Response(int(row), side, int(prompt)) for row, prompt in zip(shard.rows, shard.prompts, strict=True)]
    usable = strongest.usable()
    chosen: dict[int, None] = {}
    background = np.random.default_rng(seed).permutation(usable)[: min(_BACKGROUND, most // 4)]
    for number in (*background, *strongest.rounds()):
        if len(chosen) == most:
            break
        chosen.setdefault(int(number))
    return [responses[number] for number in sorted(chosen)]


class _Strongest:
    """The responses on which each feature fires most strongly, kept shard by shard."""

    def __init__(self, features: Ids, d_sae: int) -> None:
        self._column = np.full(d_sae, -1, dtype=np.int64)
        self._column[features] = np.arange(len(features))
        self._values = np.zeros((len(features), _STRONGEST), dtype=np.float32)
        self._numbers = np.full((len(features), _STRONGEST), -1, dtype=np.int64)
        self._usable: list[Ids] = []

    def add(self, shard: FeatureShard, side: SpanName, first: int) -> None:
        """Take a shard's responses of one side, numbered from ``first``."""
        self._usable.append(np.flatnonzero(shard.usable).astype(np.int64) + first)
        span = shard.spans[side]
        column = self._column[span.features]
        wanted = np.flatnonzero(column >= 0)
        number = np.repeat(np.arange(len(span.tokens)), np.diff(span.indptr))[wanted] + first
        column, value = column[wanted], span.max[wanted]
        # The best of a shard first, then those against the best so far: memory is [features, kept] whatever comes.
        order = np.lexsort((number, -value, column))
        column, value, number = column[order], value[order], number[order]
        starts = np.searchsorted(column, column)
        place = np.arange(len(column)) - starts
        top = place < _STRONGEST
        values = np.zeros_like(self._values)
        numbers = np.full_like(self._numbers, -1)
        values[column[top], place[top]] = value[top]
        numbers[column[top], place[top]] = number[top]
        values, numbers = np.hstack([self._values, values]), np.hstack([self._numbers, numbers])
        best = np.argsort(-values, axis=1, kind="stable")[:, :_STRONGEST]
        self._values, self._numbers = np.take_along_axis(values, best, axis=1), np.take_along_axis(numbers, best, axis=1)

    def usable(self) -> Ids:
        """Numbers of all responses that could be scored."""
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *self._usable]))

    def rounds(self) -> Ids:
        """Response numbers, round by round: every feature's strongest, then every feature's second."""
        numbers = self._numbers.T.reshape(-1)
        return numbers[numbers >= 0]


async def read_texts(
    responses: Sequence[Response],
    pairs: Callable[[Sequence[int]], Awaitable[Mapping[int, Pair]]],
    features: Sequence[int],
    scorer: ScorerLike,
    progress: Progress,
) -> LabelTexts:
    """What the features do on each token of the responses; of each prompt all responses are for one use.

    Args:
        responses: what to read.
        pairs: the pairs of some rows.
        features: to read.
        scorer: the one path from text to features.
        progress: counts responses.
    """
    progress.enter("scoring", total=len(responses))
    wanted: dict[int, list[Response]] = {}
    for response in responses:
        wanted.setdefault(response.row, []).append(response)
    builders = FiringsBuilder(features), FiringsBuilder(features)
    use = _uses(responses)
    found = await pairs(sorted(wanted))
    queue = [(response, found[row]) for row in sorted(found) for response in wanted[row]]
    for start in range(0, len(queue), _AT_ONCE):
        progress.check()
        batch = queue[start : start + _AT_ONCE]
        read = await asyncio.gather(*(_encode(pair, response.side, features, scorer) for response, pair in batch))
        for (response, pair), encoded in zip(batch, read, strict=True):
            if encoded is not None:  # tens of milliseconds where the SAE is wide: not on the event loop
                await asyncio.to_thread(_add, builders[use[response.prompt]], pair.prompt, encoded)
        progress.advance(len(batch))
    made, unseen = (builder.build() for builder in builders)
    return LabelTexts(made, unseen)


def _uses(responses: Sequence[Response]) -> dict[int, int]:
    """0 (making) or 1 (measuring) by prompt: every other one in the order of their numbers, which are hashes."""
    return {prompt: place % 2 for place, prompt in enumerate(sorted({response.prompt for response in responses}))}


async def _encode(pair: Pair, side: SpanName, features: Sequence[int], scorer: ScorerLike) -> EncodedTokens | None:
    """Activations on a whole conversation; None where it cannot be read. Waits while the server is overloaded."""
    answer = pair.chosen if side is SpanName.CHOSEN else pair.rejected
    text: Prompt = pair.prompt + answer if isinstance(pair.prompt, str) else (*pair.prompt, Message("assistant", answer))
    patience = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            encoded, _ = await scorer.encode_tokens(text, features)
        except Overloaded as overload:
            if time.monotonic() > patience:
                raise
            await asyncio.sleep(max(overload.retry_after_seconds, 0.05))
        except InvalidItem:
            return None
        except AssayError as error:
            if error.reason == "NON_FINITE":
                return None
            raise
        else:
            return encoded


def _add(builder: FiringsBuilder, prompt: Prompt, encoded: EncodedTokens) -> None:
    """The response's own tokens."""
    if isinstance(prompt, str):
        kept = [place for place, token in enumerate(encoded.tokens) if token.message == 0 and token.start >= len(prompt)]
    else:
        kept = [place for place, token in enumerate(encoded.tokens) if token.message == len(prompt)]
    tokens = [encoded.tokens[place] for place in kept]
    builder.add([token.id for token in tokens], [token.text for token in tokens], encoded.activations[:, kept])
