"""The memory cache against a model of one, and its figures against what Python really allocates."""

import gc
import tracemalloc
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
from assay_server.cache import LruCache, decode, encode, lacks_prompt
from assay_server.cache.lru import entry_bytes
from assay_server.subject.types import Pooled, SpanName
from hypothesis import given
from hypothesis import strategies as st

from tests.server.cache.builders import Recorder, key_of, pooled_of, same

SIZES = [pooled_of(seed, features=10 * (seed % 5), d_in=8, prompt=seed % 2 == 1) for seed in range(10)]

operations = st.lists(
    st.one_of(
        st.tuples(st.just("get"), st.integers(0, 7), st.just(0)),
        st.tuples(st.just("put"), st.integers(0, 7), st.integers(0, len(SIZES) - 1)),
    ),
    max_size=60,
)


class Model:
    """An LRU written to be obviously right."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.entries: OrderedDict[int, Pooled] = OrderedDict()

    def get(self, key: int) -> Pooled | None:
        if key in self.entries:
            self.entries.move_to_end(key)
        return self.entries.get(key)

    def put(self, key: int, pooled: Pooled) -> None:
        if key in self.entries and lacks_prompt(pooled) and not lacks_prompt(self.entries[key]):
            self.entries.move_to_end(key)
        elif entry_bytes(pooled) <= self.bound:
            self.entries[key] = pooled
            self.entries.move_to_end(key)
            while self.size > self.bound:
                self.entries.popitem(last=False)

    @property
    def size(self) -> int:
        return sum(map(entry_bytes, self.entries.values()))


@given(operations, st.integers(0, 4 * entry_bytes(SIZES[9])))
def test_it_answers_holds_and_counts_as_the_model_does(steps: list[tuple[str, int, int]], bound: int) -> None:
    recorder = Recorder()
    cache, model = LruCache(bound, observer=recorder), Model(bound)
    for step, key, value in steps:
        if step == "put":
            cache.put_many([(key_of(key), SIZES[value])])
            model.put(key, SIZES[value])
            assert recorder.held == (cache.resident_bytes, len(cache))
        else:
            assert cache.look_up([key_of(key)]) == [model.get(key)]
        assert cache.resident_bytes == model.size <= bound
        assert len(cache) == len(model.entries)


@pytest.mark.parametrize("decoded", [False, True])
def test_its_bytes_are_those_that_python_allocates(decoded: bool) -> None:
    entries = 400
    made = [pooled_of(seed, features=100, d_in=64, prompt=seed % 2 == 1) for seed in range(entries)]
    encoded = [encode(key_of(seed), pooled) for seed, pooled in enumerate(made)]
    cache = LruCache(1 << 30)
    gc.collect()
    tracemalloc.start()
    try:
        for seed in range(entries):
            fresh = (
                decode(key_of(seed), encoded[seed]) if decoded else pooled_of(seed, features=100, d_in=64, prompt=seed % 2 == 1)
            )
            cache.put_many([(key_of(seed), fresh)])
            del fresh
        gc.collect()
        allocated, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) == entries
    assert cache.resident_bytes == pytest.approx(allocated, rel=0.12)


def test_views_into_a_batch_are_copied_so_that_the_batch_can_go() -> None:
    batch = np.random.default_rng(0).random((2, 100_000)).astype(np.float16)
    pooled = pooled_of(0)
    viewed = replace(
        pooled,
        spans=pooled.spans | {SpanName.CHOSEN: replace(pooled.spans[SpanName.CHOSEN], mean_residual_f16=batch[0, :16])},
    )
    cache = LruCache(1 << 20)
    cache.put_many([(key_of(0), viewed)])
    [kept] = cache.look_up([key_of(0)])
    assert same(kept, viewed)
    assert kept is not None
    assert kept.spans[SpanName.CHOSEN].mean_residual_f16.base is None


def test_features_that_own_their_memory_are_not_copied() -> None:
    cache = LruCache(1 << 20)
    entries = [(key_of(0), pooled_of(0)), (key_of(1), decode(key_of(1), encode(key_of(1), pooled_of(1))))]
    cache.put_many(entries)
    assert all(kept is pooled for kept, (_, pooled) in zip(cache.look_up([key_of(0), key_of(1)]), entries, strict=True))


async def test_it_reports_queries_hits_and_evictions() -> None:
    recorder = Recorder()
    cache = LruCache(2 * entry_bytes(pooled_of(0)), observer=recorder)
    cache.put_many([(key_of(seed), pooled_of(seed)) for seed in range(3)])
    found = await cache.get_many([key_of(0), key_of(1), key_of(2)])
    assert [entry is not None for entry in found] == [False, True, True]
    assert (recorder.asked["memory"], recorder.answered["memory"], recorder.evicted) == (3, 2, 1)
    await cache.aclose()
    assert (len(cache), recorder.held) == (0, (0, 0))


def test_a_bound_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        LruCache(-1)
