"""Sealed calls: batches that depend on their items alone, so that the same call gives the same bits, whatever else goes on."""

import asyncio
import itertools

import pytest
from assay_server.batching import Planner
from assay_server.scorer import CacheState, Lane, ScoreOptions
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tiny_scorer import Begin, WatchedCache, pair_of, score_one, scored
from tests.support.tiny_subject import Watched, same_bits

SEALED = ScoreOptions(include_prompt=True, lane=Lane.BULK, patient=True, sealed=True)
PAIRS = [pair_of(20 + 13 * (index % 9), index) for index in range(24)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 120), max_size=60), st.integers(1, 400), st.integers(1, 64), st.booleans())
def test_everything_is_cut_into_batches_that_a_planner_would_pick(
    sizes: list[int], budget: int, window: int, padded: bool
) -> None:
    planner = Planner(budget, window, padded=padded)
    batches = planner.cut(sizes)
    assert sorted(itertools.chain(*batches)) == list(range(len(sizes)))
    for batch in batches:
        longest = max(sizes[index] for index in batch)
        assert len(batch) == 1 or (len(batch) * longest if padded else sum(sizes[i] for i in batch)) <= budget


async def test_a_sealed_call_is_read_in_the_same_batches_and_bits_beside_other_work(begin: Begin, watched: Watched) -> None:
    alone = await begin().score(PAIRS, SEALED)
    expected, watched.reads = watched.reads, []

    busy = begin()
    others = [pair_of(30 + index, 1000 + index) for index in range(60)]
    watched.hold()
    before = asyncio.ensure_future(busy.score(others[:20], ScoreOptions(lane=Lane.BULK)))
    await asyncio.sleep(0.02)
    sealed = asyncio.ensure_future(busy.score(PAIRS, SEALED))
    await asyncio.sleep(0.02)
    after = asyncio.ensure_future(busy.score(others[20:40], ScoreOptions(lane=Lane.BULK)))
    live = asyncio.ensure_future(busy.score(others[40:], ScoreOptions(lane=Lane.INTERACTIVE)))
    await asyncio.sleep(0.02)
    watched.release()
    outcomes = (await asyncio.gather(sealed, before, after, live))[0]
    assert sorted(batch for batch in watched.reads if batch in expected) == sorted(expected)  # in whichever order
    assert all(same_bits(scored(one).pooled, scored(other).pooled) for one, other in zip(alone, outcomes, strict=True))


async def test_a_sealed_call_does_not_read_the_cache_but_fills_it(begin: Begin, watched: Watched) -> None:
    cache = WatchedCache()
    scorer = begin(cache=cache)
    await scorer.score(PAIRS[:5], ScoreOptions(include_prompt=True))
    asked = len(cache.asked)
    watched.reads.clear()
    outcomes = await scorer.score(PAIRS[:10], SEALED)
    assert len(cache.asked) == asked
    assert len(watched.read_names) == 10
    assert {scored(outcome).timings.cache_state for outcome in outcomes} == {CacheState.BYPASS}
    again = await score_one(scorer, PAIRS[9], ScoreOptions(include_prompt=True))
    assert again.timings.cache_state is CacheState.HIT
    assert same_bits(again.pooled, scored(outcomes[9]).pooled)


async def test_a_cancelled_sealed_call_leaves_nothing_queued(begin: Begin, watched: Watched) -> None:
    scorer = begin(budget=60)
    watched.hold()
    call = asyncio.ensure_future(scorer.score(PAIRS, SEALED))
    await asyncio.sleep(0.05)
    call.cancel()
    watched.release()
    with pytest.raises(asyncio.CancelledError):
        await call
    await score_one(scorer, pair_of(25, 77))
    assert len(watched.reads) <= 4  # the one that ran, the one prepared behind it, and the new one
