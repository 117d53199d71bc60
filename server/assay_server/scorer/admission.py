"""Admission: tokens in flight are bounded, and work that waits for room waits in order.

Invariants:
- Interactive work that does not fit is refused at once, with a retry time; it never waits behind bulk work.
- Bulk work waits in order of arrival, up to its deadline, and is refused when as much as the bound is waiting already;
  patient work is not: refused and sent again, it would lose its place to what came later, and might never be read.
- Room is reserved from the moment that work is let in until it is queued, and given back however that ends.
- Work larger than the whole bound is let in when nothing else is in flight.
"""

import asyncio
import time
from collections import OrderedDict

from assay_server.batching import Batcher, Lane
from assay_server.errors import Expired, Overloaded


class Admission:
    """Tokens in flight, bounded; bulk work waits its turn in order of arrival."""

    def __init__(self, batcher: Batcher, bound: int) -> None:
        self._batcher = batcher
        self._bound = bound
        self._reserved = 0  # admitted, and not yet queued
        self._waiting: OrderedDict[asyncio.Future[None], int] = OrderedDict()
        batcher.on_capacity(self._wake)

    async def enter(self, tokens: int, lane: Lane, deadline: float | None, *, patient: bool = False) -> None:
        """Return once ``tokens`` may be queued, with room reserved for them until ``entered``.

        Raises:
            Overloaded, Expired: see ``ScorerLike.score``.
        """
        waiting = sum(self._waiting.values())
        if self._fits(tokens) and (lane is Lane.INTERACTIVE or not waiting):
            self._reserved += tokens
            return
        if lane is Lane.INTERACTIVE or (waiting and waiting + tokens > self._bound and not patient):
            raise self._overloaded(tokens, waiting)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = tokens
        try:
            await asyncio.wait_for(asyncio.shield(turn), None if deadline is None else max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            self._give_up(turn, tokens)
            raise Expired("The deadline passed while the call waited for room; allow more time or send less at once.") from None
        except asyncio.CancelledError:
            self._give_up(turn, tokens)
            raise

    def entered(self, tokens: int) -> None:
        """The reserved tokens are queued now, or never will be."""
        self._reserved -= tokens
        self._wake()

    def _give_up(self, turn: "asyncio.Future[None]", tokens: int) -> None:
        if turn.done():  # it was let in at the same moment
            self._reserved -= tokens
        self._waiting.pop(turn, None)
        self._wake()

    def _fits(self, tokens: int) -> bool:
        in_flight = self._batcher.tokens_in_flight + self._reserved
        return in_flight == 0 or in_flight + tokens <= self._bound

    def _wake(self) -> None:
        """Let in those that waited longest while they fit."""
        while self._waiting:
            turn, tokens = next(iter(self._waiting.items()))
            if not self._fits(tokens):
                return
            self._reserved += tokens
            del self._waiting[turn]
            turn.set_result(None)

    def _overloaded(self, tokens: int, waiting: int) -> Overloaded:
        in_flight = self._batcher.tokens_in_flight
        rate = self._batcher.tokens_per_second or 1000.0
        back = min(60.0, max(0.1, (in_flight + waiting + tokens - self._bound) / rate))
        return Overloaded(
            f"{in_flight} tokens are in flight and {waiting} wait; {tokens} more pass the bound of {self._bound}. "
            f"Come back in {back:.1f} s.",
            retry_after_seconds=back,
            details={"tokens_in_flight": in_flight, "tokens_asked": tokens, "max_tokens_in_flight": self._bound},
        )
