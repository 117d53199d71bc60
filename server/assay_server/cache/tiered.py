"""A memory cache in front of a slower one: a hit in either is a hit, and hits of the slower one move to the front."""

from collections.abc import Sequence

from assay_server.cache.interface import FeatureCache
from assay_server.cache.lru import LruCache
from assay_server.subject.types import Pooled


class TieredCache:
    """A FeatureCache of two.

    Args:
        front: asked first.
        back: looked up for what the front does not hold; written to as well.
    """

    def __init__(self, front: LruCache, back: FeatureCache) -> None:
        self._front = front
        self._back = back

    async def get_many(self, keys: Sequence[bytes]) -> list[Pooled | None]:
        """As FeatureCache."""
        found = self._front.look_up(keys)
        missing = [i for i, entry in enumerate(found) if entry is None]
        if not missing:
            return found
        moved: list[tuple[bytes, Pooled]] = []
        for i, entry in zip(missing, await self._back.get_many([keys[i] for i in missing]), strict=True):
            if entry is not None:
                found[i] = entry
                moved.append((keys[i], entry))
        if moved:
            self._front.put_many(moved)
        return found

    def put_many(self, entries: Sequence[tuple[bytes, Pooled]]) -> None:
        """As FeatureCache: to both."""
        self._front.put_many(entries)
        self._back.put_many(entries)

    async def aclose(self) -> None:
        """As FeatureCache."""
        await self._front.aclose()
        await self._back.aclose()
