"""Where concepts fire in the responses of their evidence: the model reads those pairs again, token by token.

Invariants:
- Offsets are code points of the response as it was uploaded, whatever the template put around it.
- Features mean what they meant to the audit: highlights of an audit by another subject are refused.
- A direction fires where ⟨h, v⟩ passes the threshold that the audit tested it by; how far it passes is the highlight's value.
  Never on the first token of a sequence, which is in no span (its residual is an outlier, METHOD.md §6).
- At most ``CONCURRENT`` texts of one call are with the scorer at once, and each text is read once however many concepts ask.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from assay_server.errors import Expired, FailedPrecondition, InvalidItem, Overloaded
from assay_server.jobs.audits.types import MarkedDirection
from assay_server.report.model import Highlight, Sides
from assay_server.scorer import ScorerLike
from assay_server.subject.identity import SubjectRef
from assay_server.subject.types import EncodedTokens, Message, Pair, Prompt, SubjectInfo, TokenInfo

CONCURRENT = 8
MAX_HOLD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pair to read again, and what is looked for in it: features, and directions by name."""

    pair: Pair
    features: tuple[int, ...] = ()
    directions: Mapping[str, MarkedDirection] = field(default_factory=dict[str, MarkedDirection])


@dataclass(frozen=True, slots=True, eq=False)
class ReadPair:
    """A pair read again."""

    features: tuple[int, ...]
    directions: tuple[str, ...]
    sides: tuple[tuple[tuple[TokenInfo, ...], NDArray[np.float32]], ...]  # tokens, and values [features and directions, tokens]
    response: int  # which message is the response
    skip: int  # code points of a raw prompt before the response

    def highlights(self, features: Iterable[int] = (), direction: str = "") -> Sides:
        """Where any of these features or this direction fires; those that were not looked for count as silent."""
        asked = set(features)
        rows = [row for row, feature in enumerate(self.features) if feature in asked]
        rows += [row for row, name in enumerate(self.directions, start=len(self.features)) if name == direction]
        chosen, rejected = (
            merge_tokens(tokens, values[rows], self.response, self.skip) if rows and len(tokens) else ()
            for tokens, values in self.sides
        )
        return chosen, rejected


def check_same_subject(audited: SubjectRef, loaded: SubjectInfo) -> None:
    """Refuses highlights where the loaded subject is not the one that the audit read with; its dtype may be another.

    Raises:
        FailedPrecondition: SUBJECT_CHANGED.
    """
    if changed := [part for part in audited.differing(loaded) if part != "dtype"]:
        raise FailedPrecondition(
            f"The audit was made with {audited.model_id} and {audited.sae_id}, and another subject is loaded "
            f"({', '.join(changed)} differ), whose features mean other things. Ask without highlights, or audit again.",
            reason="SUBJECT_CHANGED",
            details={part: f"{getattr(audited, part)[:16]} != {getattr(loaded, part)[:16]}" for part in changed},
        )


async def read_again(
    scorer: ScorerLike, wanted: Mapping[int, Wanted], *, deadline: float | None, patience: float = 0.0, partial: bool = False
) -> dict[int, ReadPair]:
    """The pairs, read again, under the same keys; those in which nothing is looked for are left out.

    Args:
        scorer: what reads.
        wanted: by row, the most important first; at most ``max_features_per_request`` features and directions each.
        deadline: ``time.monotonic()`` instant past which nothing is read.
        patience: seconds during which an overloaded scorer is asked again.
        partial: leave out what an overload or the deadline kept from being read, instead of raising.

    Raises:
        AssayError: the scorer refuses (overload, deadline, a server that stops).
    """
    room = asyncio.Semaphore(CONCURRENT)
    reader = _Reader(scorer, deadline, time.monotonic() + patience)

    async def read(asked: Wanted) -> ReadPair | None:
        try:
            async with room:
                return await reader.read(asked)
        except (Overloaded, Expired):
            if not partial:
                raise
            return None

    rows = [row for row, asked in wanted.items() if asked.features or asked.directions]
    tasks = [asyncio.ensure_future(read(wanted[row])) for row in rows]
    try:
        found = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return {row: pair for row, pair in zip(rows, found, strict=True) if pair is not None}


def merge_tokens(
    tokens: Sequence[TokenInfo], activations: NDArray[np.float32], response: int, skip: int
) -> tuple[Highlight, ...]:
    """Neighbouring tokens that fire, as one highlight each.

    Args:
        tokens: the tokens of prompt and response.
        activations: of each feature or direction on each token, float32 [features, tokens], at least one; above 0 is firing.
        response: the message that is the response.
        skip: code points of that message before the response, where a raw prompt stands before it; a token across the border
            counts from there.
    """
    strongest = activations.max(axis=0)
    found: list[Highlight] = []
    for place in np.flatnonzero(strongest > 0).tolist():
        token, value = tokens[place], float(strongest[place])
        start, end = max(0, token.start - skip), token.end - skip
        if token.message != response or end <= start:
            continue
        if found and start <= found[-1].end:  # also bytes of one character, which are tokens on the same place
            last = found.pop()
            start, end, value = last.start, max(last.end, end), max(last.value, value)
        found.append(Highlight(start, end, value))
    return tuple(found)


class _Reader:
    def __init__(self, scorer: ScorerLike, deadline: float | None, patience: float) -> None:
        self._scorer = scorer
        self._deadline = deadline
        self._patience = patience

    async def read(self, asked: Wanted) -> ReadPair:
        prompt, pair = asked.pair.prompt, asked.pair
        sides = tuple([await self._side(prompt, response, asked) for response in (pair.chosen, pair.rejected)])
        raw, names = isinstance(prompt, str), tuple(asked.directions)
        return ReadPair(asked.features, names, sides, 0 if raw else len(prompt), len(prompt) if raw else 0)

    async def _side(self, prompt: Prompt, response: str, asked: Wanted) -> tuple[tuple[TokenInfo, ...], NDArray[np.float32]]:
        text: Prompt = prompt + response if isinstance(prompt, str) else (*prompt, Message("assistant", response))
        marks = list(asked.directions.values())
        along = np.stack([mark.vector for mark in marks]) if marks else None
        while True:
            try:
                encoded, _ = await self._scorer.encode_tokens(text, asked.features, along=along, deadline=self._deadline)
                return encoded.tokens, _fired(encoded, [mark.threshold for mark in marks])
            except InvalidItem:  # it could be read when it was audited, under a longer context
                return (), np.zeros((len(asked.features) + len(marks), 0), dtype=np.float32)
            except Overloaded as overload:
                hold = min(max(overload.retry_after_seconds, 0.01), MAX_HOLD_SECONDS)
                if time.monotonic() + hold > self._patience:
                    raise
            await asyncio.sleep(hold)


def _fired(encoded: EncodedTokens, thresholds: Sequence[float]) -> NDArray[np.float32]:
    """Activations of the features, then how far each direction passes its threshold, float32 [features + directions, tokens]."""
    if not thresholds:
        return encoded.activations
    # Compared as the audit compares them: a float32 score against a float64 threshold.
    past = np.maximum(encoded.along.astype(np.float64) - np.array(thresholds)[:, None], 0.0)
    past[:, :1] = 0.0
    return np.concatenate([encoded.activations, past.astype(np.float32)])
