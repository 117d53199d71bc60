"""The in-process cache: decoded features, least recently used evicted first, bounded by bytes.

Invariants:
- ``resident_bytes`` is the sum of ``entry_bytes`` over the entries, and never exceeds the bound.
- An entry owns its memory: features that are views into something larger (a batch's buffer) are copied when they are put, so
  that what is counted is what is held.
- Getting and putting are O(1) in the number of entries. An entry larger than the bound is not kept and displaces nothing.
- Confined to one event loop, without a lock.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from assay_server.cache.interface import CacheObserver, NullObserver
from assay_server.cache.key import KEY_BYTES, lacks_prompt
from assay_server.subject.types import Pooled, PooledSpan

_ARRAY_BYTES = sys.getsizeof(np.empty(0))  # the array object without its data
_SPAN_BYTES = PooledSpan.__basicsize__
_ENTRY_BYTES = (
    Pooled.__basicsize__
    + sys.getsizeof(bytes(KEY_BYTES))
    + sys.getsizeof((None, 0))
    + 6 * sys.getsizeof(1 << 20)  # the integers that no other entry shares
    + 200  # a slot of the ordered table: hash entry, index at two thirds load, list node
)
"""Bytes of an entry before its spans, with key and table slot."""


class LruCache:
    """A FeatureCache in memory.

    Args:
        max_bytes: bound on ``resident_bytes``; 0 keeps nothing.
        observer: told queries, hits, evictions and residence.
    """

    def __init__(self, max_bytes: int, *, observer: CacheObserver | None = None) -> None:
        if max_bytes < 0:
            raise ValueError(f"the memory cache holds 0 bytes or more, not {max_bytes}")
        self._max_bytes = max_bytes
        self._observer: CacheObserver = observer or NullObserver()
        self._entries: OrderedDict[bytes, tuple[Pooled, int]] = OrderedDict()
        self._resident = 0

    @property
    def resident_bytes(self) -> int:
        """Bytes held."""
        return self._resident

    def __len__(self) -> int:
        return len(self._entries)

    async def get_many(self, keys: Sequence[bytes]) -> list[Pooled | None]:
        """As FeatureCache; without waiting."""
        return self.look_up(keys)

    def look_up(self, keys: Sequence[bytes]) -> list[Pooled | None]:
        """As ``get_many``, for callers that do not await."""
        found = [self._get(key) for key in keys]
        self._observer.queries("memory", len(keys))
        self._observer.hits("memory", sum(entry is not None for entry in found))
        return found

    def put_many(self, entries: Sequence[tuple[bytes, Pooled]]) -> None:
        """As FeatureCache; an entry that holds the prompt is not replaced by one that lacks it."""
        before = len(self._entries)
        added = sum(self._put(key, pooled) for key, pooled in entries)
        evicted = before + added - len(self._entries)
        if evicted:
            self._observer.evictions(evicted)
        self._observer.resident(self._resident, len(self._entries))

    async def aclose(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._resident = 0
        self._observer.resident(0, 0)

    def _get(self, key: bytes) -> Pooled | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def _put(self, key: bytes, pooled: Pooled) -> bool:
        """Keep one entry; whether that made one more, before evictions."""
        old = self._entries.get(key)
        if old is not None and lacks_prompt(pooled) and not lacks_prompt(old[0]):
            self._entries.move_to_end(key)
            return False
        pooled = owned(pooled)
        size = entry_bytes(pooled)
        if size > self._max_bytes:
            return False
        if old is not None:
            self._resident -= old[1]
        self._entries[key] = (pooled, size)
        self._entries.move_to_end(key)
        self._resident += size
        while self._resident > self._max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._resident -= freed
        return old is None


def entry_bytes(pooled: Pooled) -> int:
    """Bytes that an entry of ``pooled`` takes: its data and the objects around it, key and table slot included."""
    arrays = list(_arrays(pooled))
    bases = {id(array.base) for array in arrays if array.base is not None}
    mappings = sys.getsizeof(pooled.spans) + sys.getsizeof(pooled.directions)
    objects = len(pooled.spans) * _SPAN_BYTES + (len(arrays) + len(bases)) * _ARRAY_BYTES
    return _ENTRY_BYTES + mappings + objects + pooled.nbytes


def owned(pooled: Pooled) -> Pooled:
    """``pooled`` itself where its arrays hold no more memory than they show, else a copy: a view keeps its whole batch alive."""
    bases: dict[int, int] = {}
    for array in _arrays(pooled):
        base = array if array.base is None else array.base
        if not isinstance(base, np.ndarray) or base.base is not None:  # pyright: ignore[reportUnnecessaryIsInstance]
            return _copied(pooled)  # memory of something else, of unknown size
        bases[id(base)] = base.nbytes
    return pooled if sum(bases.values()) <= pooled.nbytes else _copied(pooled)


def _arrays(pooled: Pooled) -> Iterator[NDArray[np.generic]]:
    spans = ((s.indices, s.max_f16, s.counts, s.mean_residual_f16) for s in pooled.spans.values())
    return chain(chain.from_iterable(spans), pooled.directions.values())


def _copied(pooled: Pooled) -> Pooled:
    return replace(
        pooled,
        spans={
            name: replace(
                span,
                indices=span.indices.copy(),
                max_f16=span.max_f16.copy(),
                counts=span.counts.copy(),
                mean_residual_f16=span.mean_residual_f16.copy(),
            )
            for name, span in pooled.spans.items()
        },
        directions={name: scores.copy() for name, scores in pooled.directions.items()},
    )
