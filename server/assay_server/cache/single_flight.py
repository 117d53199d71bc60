"""Single flight: what several callers want at the same time is computed once.

A caller claims keys. Those that no one computes yet it *leads*: it computes and resolves them. The others it *follows*: it waits
for their leader's value. ``SingleFlight.run`` does all of it::

    async def compute(claim: Claim[bytes, Pooled]) -> None:
        for key, pooled in await engine.features(claim.leads):
            claim.resolve(key, pooled)  # followers have it now

    found = await flight.run(missing, compute)  # keys that could not be computed are absent

Invariants:
- At most one caller leads a key at a time, and every claim gives up what it did not resolve when it ends, however it ends: a
  leader that fails or is cancelled wakes its followers, the first of which leads next. No follower waits without a leader.
- Failures are the leader's own and are not handed to followers: no future ever carries an exception, so none is "never
  retrieved". A key that fails for every caller costs each one attempt.
- Cancelling a follower touches neither the leader nor other followers.
- Keys are all that values depend on. Where one entry can hold more or less (the prompt span), put what is wanted in the key:
  ``(key, include_prompt)``.

Confined to one event loop. Values are held only while a caller computes or waits for them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LeaderGone(Exception):
    """The caller that computed this key gave it up; claim it again."""


class Claim(Generic[K, V]):
    """Keys that one caller leads and follows; a context manager, on whose end unresolved leads are given up.

    Attributes:
        leads: keys to compute and ``resolve``, in the order claimed.
        follows: keys that others compute, to ``await claim.follow(key)`` for, also after the end of the claim.
        resolved: values of the leads so far.
    """

    def __init__(
        self,
        flights: dict[K, asyncio.Future[tuple[V] | None]],
        leads: Sequence[K],
        follows: Mapping[K, asyncio.Future[tuple[V] | None]],
    ) -> None:
        self._flights = flights
        self._mine = {key: flights[key] for key in leads}
        self._theirs = follows
        self.leads: tuple[K, ...] = tuple(leads)
        self.follows: tuple[K, ...] = tuple(follows)
        self.resolved: dict[K, V] = {}

    def resolve(self, key: K, value: V) -> None:
        """Hand the value of a lead to all that follow it; from here on no one leads the key.

        Raises:
            KeyError: the claim does not lead ``key``, or resolved it already.
        """
        self._land(key, (value,))
        self.resolved[key] = value

    async def follow(self, key: K) -> V:
        """The value of a key that another caller computes.

        Raises:
            LeaderGone: the other gave it up. Claim it again.
            KeyError: the claim does not follow ``key``.
        """
        # The future is everybody's: without the shield, one cancelled follower would cancel all of them.
        landed = await asyncio.shield(self._theirs[key])
        if landed is None:
            raise LeaderGone
        return landed[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for key in tuple(self._mine):
            self._land(key, None)

    def _land(self, key: K, result: tuple[V] | None) -> None:
        future = self._mine.pop(key)
        del self._flights[key]
        future.set_result(result)


class SingleFlight(Generic[K, V]):
    """The keys that are being computed."""

    def __init__(self) -> None:
        self._flights: dict[K, asyncio.Future[tuple[V] | None]] = {}

    def __len__(self) -> int:
        """Keys in flight."""
        return len(self._flights)

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    def claim(self, keys: Iterable[K]) -> Claim[K, V]:
        """Lead what no one leads, follow the rest; a repeated key counts once. Enter the claim (``with``) immediately."""
        leads: list[K] = []
        follows: dict[K, asyncio.Future[tuple[V] | None]] = {}
        loop = asyncio.get_running_loop()
        for key in dict.fromkeys(keys):
            future = self._flights.get(key)
            if future is None:
                self._flights[key] = loop.create_future()
                leads.append(key)
            else:
                follows[key] = future
        return Claim(self._flights, leads, follows)

    async def run(self, keys: Iterable[K], compute: Callable[[Claim[K, V]], Awaitable[None]]) -> dict[K, V]:
        """Values of ``keys``: computed here, or by the caller that computes them already.

        Args:
            keys: what is wanted.
            compute: resolves ``claim.leads``; never called with none; called again for keys whose leader gave up.
                Leads are computed before anything is followed, so that callers that wait for each other both make progress.

        Returns:
            The values; keys that ``compute`` left unresolved here are absent.

        Raises:
            Whatever ``compute`` raises; the keys not resolved by then are another caller's to lead.
        """
        values: dict[K, V] = {}
        wanted = list(dict.fromkeys(keys))
        while wanted:
            with self.claim(wanted) as claim:
                if claim.leads:
                    await compute(claim)
            values.update(claim.resolved)
            wanted = []
            for key in claim.follows:
                try:
                    values[key] = await claim.follow(key)
                except LeaderGone:
                    wanted.append(key)
        return values
