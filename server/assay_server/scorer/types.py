"""Requests to a scorer and its answers: plain data, and the protocol that callers code against."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from assay_server.batching import Lane
from assay_server.errors import AssayError
from assay_server.subject.types import (
    Directions,
    EncodedTokens,
    Pair,
    Pooled,
    Prompt,
    PromptedResponse,
    SubjectInfo,
    Truncation,
)

Item = Pair | PromptedResponse


class CacheState(Enum):
    """Whether the cache answered."""

    HIT = "hit"
    MISS = "miss"
    SHARED = "shared"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What to compute.

    Attributes:
        include_prompt: pool the prompt span as well.
        directions: residual directions to score, or None.
        truncation: what to do with long sequences.
        lane: which queue to wait in.
        bypass_cache: neither read nor write the cache.
        patient: bulk work waits for room however much waits before it: for callers that bound what they have under way.
        sealed: read the items in batches of their own, cut by their lengths alone, whatever else is going on: on one machine the
            same items in one call give the same bits each time. Does not read the cache, but fills it.
    """

    include_prompt: bool = False
    directions: Directions | None = None
    truncation: Truncation = Truncation.REFUSE
    lane: Lane = Lane.BULK
    bypass_cache: bool = False
    patient: bool = False
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of each step, and whether the cache answered; steps that items share are charged to each of them."""

    tokenize_seconds: float
    queue_seconds: float
    forward_seconds: float
    cache_seconds: float
    cache_state: CacheState


@dataclass(frozen=True, slots=True)
class Scored:
    """One item's pooled features and what it cost."""

    pooled: Pooled
    timings: Timings


class ScorerLike(Protocol):
    """What ``rpc`` and the audit jobs need of a scorer."""

    @property
    def info(self) -> SubjectInfo:
        """What is loaded."""
        ...

    async def score(
        self, items: Sequence[Item], options: ScoreOptions, *, deadline: float | None = None
    ) -> list[Scored | AssayError]:
        """Score items; a bad item's error stands in its place.

        Args:
            items: pairs or single responses.
            options: what to compute for all of them.
            deadline: ``time.monotonic()`` instant past which nothing is started any more; None waits.

        Raises:
            Overloaded: too many tokens are in flight already; nothing was started.
            Expired: the deadline passed.
            NotReady: the server is stopping.
        """
        ...

    async def encode_tokens(
        self,
        text: Prompt,
        features: Sequence[int],
        *,
        along: NDArray[np.float32] | None = None,
        truncation: Truncation = Truncation.REFUSE,
        deadline: float | None = None,
    ) -> tuple[EncodedTokens, Timings]:
        """Token-level activations of ``features`` on one text, and inner products ``along`` directions, float32 [n, d_in].

        Raises as ``score``, and InvalidItem.
        """
        ...
