"""The scorer with real parts: what comes back, from where, and what calls share."""

import asyncio
import time
from hashlib import sha256

import numpy as np
import pytest
import torch
from assay_server.cache import LruCache
from assay_server.errors import ContextOverflow, EmptySpan, EngineFailure, Expired, InvalidItem
from assay_server.scorer import CacheState, Lane, ScoreOptions, build_scorer
from assay_server.subject.subject import TreeRequest
from assay_server.subject.types import Directions, Message, Pair, PromptedResponse, SpanName, Truncation

from tests.support.tiny_scorer import (
    Begin,
    WatchedCache,
    WatchedTokenizer,
    at_rest,
    pair_of,
    score_one,
    scored,
)
from tests.support.tiny_subject import CONTEXT, WIDTH, Watched, about_equal, build_subject, read_alone, same_bits, tiny_subject
from tests.support.waiting import PATIENCE, until

CHAT = (Message("user", "Which herb likes shade?"), Message("assistant", "Mint."), Message("user", "And sun?"))
MIXED = [
    Pair(CHAT, "Basil, and plenty of it.", "Basil, I would say, though thyme is fine."),
    PromptedResponse(CHAT, "Rosemary."),
    Pair("The sea is ", "blue", "green today"),
    PromptedResponse("One, two, ", "three."),
]


def directions(count: int, seed: int = 0) -> Directions:
    vectors = np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)
    return Directions(vectors, sha256(vectors.tobytes()).digest())


# What comes back


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize("include_prompt", [False, True])
async def test_pairs_and_responses_are_read_right_in_the_order_given(begin: Begin, lane: Lane, include_prompt: bool) -> None:
    outcomes = await begin(budget=60).score(MIXED, ScoreOptions(lane=lane, include_prompt=include_prompt))
    for item, outcome in zip(MIXED, outcomes, strict=True):
        make = tiny_subject().tokenizer.pair if isinstance(item, Pair) else tiny_subject().tokenizer.response
        assert about_equal(scored(outcome).pooled, read_alone(TreeRequest(make(item), include_prompt)))  # pyright: ignore[reportArgumentType]


async def test_a_cached_answer_is_the_cold_one_bit_for_bit_and_never_touches_the_device(begin: Begin, watched: Watched) -> None:
    scorer = begin()
    options = ScoreOptions(directions=directions(3))
    cold = [scored(outcome) for outcome in await scorer.score(MIXED, options)]
    batches = len(watched.reads)
    watched.hold()
    stuck = asyncio.create_task(scorer.score([pair_of(20)], options))
    await until(lambda: len(watched.reads) == batches + 1)
    warm = [scored(outcome) for outcome in await asyncio.wait_for(scorer.score(MIXED, options), PATIENCE)]
    watched.release()
    await stuck
    assert [outcome.timings.cache_state for outcome in cold] == [CacheState.MISS] * 4
    assert [outcome.timings.cache_state for outcome in warm] == [CacheState.HIT] * 4
    assert all(same_bits(a.pooled, b.pooled) for a, b in zip(cold, warm, strict=True))
    assert len(watched.reads) == batches + 1


async def test_timings_say_what_each_step_took(begin: Begin, watched: Watched) -> None:
    scorer = begin(cache=WatchedCache(delay=0.02))
    watched.delay = 0.03
    cold = (await score_one(scorer, pair_of(30))).timings
    warm = (await score_one(scorer, pair_of(30))).timings
    assert cold.forward_seconds >= 0.03
    assert cold.queue_seconds >= 0
    assert cold.tokenize_seconds > 0
    assert cold.cache_seconds >= 0.02
    assert (warm.forward_seconds, warm.queue_seconds, warm.tokenize_seconds) == (0, 0, 0)
    assert warm.cache_seconds >= 0.02


async def test_a_bad_item_fails_in_its_place(begin: Begin) -> None:
    items = [
        pair_of(20),
        Pair("x", "", "y"),
        Pair("x", "y" * (CONTEXT + 1), "y"),
        Pair("half a \ud83d", "surrogate", "pair"),
        pair_of(30),
        PromptedResponse((Message("user", "a"),), ""),
    ]
    outcomes = await begin().score(items, ScoreOptions())
    kinds = (EmptySpan, ContextOverflow, InvalidItem, EmptySpan)
    for index, kind in zip((1, 2, 3, 5), kinds, strict=True):
        assert isinstance(outcomes[index], kind)
    for index, size in ((0, 20), (4, 30)):
        assert scored(outcomes[index]).pooled.read == size


async def test_truncation_is_passed_on_and_reported(begin: Begin) -> None:
    item = Pair("x", "y" * (CONTEXT + 9), "z")
    kept = await score_one(begin(budget=4096), item, ScoreOptions(truncation=Truncation.RESPONSE_END))
    assert kept.pooled.truncated == 10
    assert kept.pooled.spans[SpanName.CHOSEN].tokens == CONTEXT - 1


async def test_no_items_give_no_outcomes(begin: Begin) -> None:
    assert await begin().score([], ScoreOptions()) == []


async def test_a_deadline_that_has_passed_on_arrival_is_refused(begin: Begin, tokenizer: WatchedTokenizer) -> None:
    scorer = begin()
    with pytest.raises(Expired):
        await scorer.score([pair_of(20)], ScoreOptions(), deadline=time.monotonic() - 0.001)
    with pytest.raises(Expired):
        await scorer.encode_tokens("text", [1], deadline=time.monotonic() - 0.001)
    assert tokenizer.calls == 0


async def test_direction_scores_are_the_largest_projection_of_a_response_token(begin: Begin) -> None:
    wanted = directions(5)
    item = MIXED[0]
    assert isinstance(item, Pair)
    got = await score_one(begin(), item, ScoreOptions(directions=wanted))
    tree = tiny_subject().tokenizer.pair(item)
    residual = tiny_subject().residual(tree).double().numpy()
    for name in (SpanName.CHOSEN, SpanName.REJECTED):
        best = (residual[tree.spans[name]] @ wanted.vectors.T.astype(np.float64)).max(axis=0)
        assert np.allclose(got.pooled.directions[name], best, rtol=1e-4)
    assert set(got.pooled.directions) == {SpanName.CHOSEN, SpanName.REJECTED}


async def test_scores_along_other_directions_are_other_entries(begin: Begin) -> None:
    scorer, item = begin(), pair_of(40)
    for wanted in (None, directions(2, 1), directions(2, 2)):
        for state in (CacheState.MISS, CacheState.HIT):
            outcome = await score_one(scorer, item, ScoreOptions(directions=wanted))
            assert outcome.timings.cache_state is state
            assert len(outcome.pooled.directions) == (0 if wanted is None else 2)


async def test_token_activations_agree_with_pooled_features(begin: Begin) -> None:
    scorer = begin()
    prompt, response = "The kettle sings, and ", "the cat does not mind at all."
    (outcome,) = await scorer.score([PromptedResponse(prompt, response)], ScoreOptions())
    span = scored(outcome).pooled.spans[SpanName.CHOSEN]
    features = list(range(96))[::-1]
    encoded, timings = await scorer.encode_tokens(prompt + response, features)
    assert timings.cache_state is CacheState.BYPASS
    assert "".join(token.text for token in encoded.tokens) == prompt + response
    inside = encoded.activations[:, len(prompt) :]
    dense, counts = np.zeros(96, np.float32), np.zeros(96, np.int64)
    dense[span.indices], counts[span.indices] = span.max, span.counts
    assert np.allclose(inside.max(axis=1)[::-1], dense, rtol=2**-10, atol=1e-4)
    assert np.array_equal((inside > 0).sum(axis=1)[::-1], counts)


async def test_a_text_that_cannot_be_encoded_says_why(begin: Begin) -> None:
    with pytest.raises(ContextOverflow):
        await begin().encode_tokens("x" * (CONTEXT + 1), [0])


async def test_a_residual_that_is_not_finite_is_an_error_in_its_place_and_is_not_kept() -> None:
    """One byte's embedding overflows: what holds that byte fails, its neighbours in the batch do not."""
    subject = build_subject()
    embedding = subject._model.decoder.embed_tokens.weight
    token = int(subject.tokenizer.text("Z").ids[0])
    whole = embedding[token].clone()
    scorer = build_scorer(subject, LruCache(1 << 20))
    items = [Pair("abc", "def", "ghi"), Pair("abc", "dZf", "ghi"), Pair("jkl", "mno", "pqr")]
    with torch.no_grad():
        embedding[token] = float("inf")
    first = await scorer.score(items, ScoreOptions())
    with torch.no_grad():
        embedding[token] = whole
    again = await scorer.score(items, ScoreOptions())
    await scorer.aclose()
    broken = first[1]
    assert isinstance(broken, EngineFailure)
    assert broken.reason == "NON_FINITE"
    for item, outcome in ((items[0], first[0]), (items[2], first[2]), (items[1], again[1])):
        assert about_equal(scored(outcome).pooled, read_alone(TreeRequest(tiny_subject().tokenizer.pair(item))))
    assert [scored(outcome).timings.cache_state.value for outcome in again] == ["hit", "miss", "hit"]


# Where it comes from


async def test_the_prompt_is_added_to_an_entry_that_lacks_it(begin: Begin, watched: Watched) -> None:
    scorer, item = begin(), MIXED[0]
    bare, full = ScoreOptions(), ScoreOptions(include_prompt=True)
    states = []
    for options in (bare, full, full, bare):
        outcome = await score_one(scorer, item, options)
        states.append(outcome.timings.cache_state)
        assert SpanName.PROMPT in outcome.pooled.spans or not options.include_prompt
    assert states == [CacheState.MISS, CacheState.MISS, CacheState.HIT, CacheState.HIT]
    assert len(watched.reads) == 2


async def test_bypass_neither_asks_the_cache_nor_writes_nor_shares(begin: Begin, watched: Watched) -> None:
    cache = WatchedCache()
    scorer = begin(cache=cache)
    kept = await score_one(scorer, pair_of(30))
    asked, put = len(cache.asked), len(cache.put)
    outcomes = await scorer.score([pair_of(30)] * 3, ScoreOptions(bypass_cache=True))
    assert [scored(outcome).timings.cache_state for outcome in outcomes] == [CacheState.BYPASS] * 3
    assert (len(cache.asked), len(cache.put)) == (asked, put)
    assert len(watched.read_names) == 4
    assert all(about_equal(scored(outcome).pooled, kept.pooled) for outcome in outcomes)


async def test_a_replay_is_not_tokenised_again(begin: Begin, tokenizer: WatchedTokenizer) -> None:
    scorer = begin()
    await scorer.score(MIXED, ScoreOptions())
    calls = tokenizer.calls
    await scorer.score(MIXED[::-1], ScoreOptions())
    assert tokenizer.calls == calls == 4


@pytest.mark.parametrize(
    "other",
    [
        Pair("ab", "c", "d"),
        Pair("a", "bc", "d"),
        Pair((Message("a", "b"),), "c", "d"),
        Pair((Message("", "a"),), "b", "cd"),
        Pair("a", "d", "bc"),
        PromptedResponse("a", "bcd"),
    ],
)
async def test_texts_that_only_look_alike_are_told_apart(begin: Begin, other: Pair | PromptedResponse) -> None:
    scorer = begin()
    await score_one(scorer, Pair("a", "b", "cd"))
    assert (await score_one(scorer, other)).timings.cache_state is CacheState.MISS
    assert (await score_one(scorer, other)).timings.cache_state is CacheState.HIT


async def test_remembered_texts_are_bounded_and_only_save_time(begin: Begin, tokenizer: WatchedTokenizer) -> None:
    scorer = begin(remembered=2)
    items = [pair_of(20, seed) for seed in range(3)]
    await scorer.score(items, ScoreOptions())
    outcomes = await scorer.score(items, ScoreOptions())
    assert [scored(outcome).timings.cache_state for outcome in outcomes] == [CacheState.HIT] * 3
    assert tokenizer.calls == 4, "the first was forgotten"


async def test_a_remembered_text_whose_entry_is_gone_is_read_again(begin: Begin, watched: Watched) -> None:
    cache = WatchedCache()
    scorer = begin(cache=cache)
    cold = await score_one(scorer, pair_of(30))
    await cache.aclose()
    again = await score_one(scorer, pair_of(30))
    assert again.timings.cache_state is CacheState.MISS
    assert same_bits(cold.pooled, again.pooled)
    assert len(watched.reads) == 2


@pytest.mark.parametrize("cache", [WatchedCache(forgets=True), WatchedCache(delay=0.05), WatchedCache(delay=0.05, forgets=True)])
async def test_a_cache_that_forgets_or_dawdles_costs_time_and_nothing_else(begin: Begin, cache: WatchedCache) -> None:
    scorer = begin(cache=cache)
    items = [pair_of(20 + seed, seed) for seed in range(5)]
    for _ in range(2):
        both = await asyncio.gather(scorer.score(items, ScoreOptions()), scorer.score(items[::-1], ScoreOptions()))
        for outcomes, asked in zip(both, (items, items[::-1]), strict=True):
            assert [scored(outcome).pooled.read for outcome in outcomes] == [len(i.prompt + i.chosen + i.rejected) for i in asked]


# What calls share


async def test_a_pair_that_comes_twice_in_a_call_is_read_once(begin: Begin, watched: Watched) -> None:
    item = pair_of(40)
    outcomes = [scored(outcome) for outcome in await begin().score([item, pair_of(20), item, item], ScoreOptions())]
    states = [outcome.timings.cache_state for outcome in outcomes]
    assert states == [CacheState.MISS, CacheState.MISS, CacheState.SHARED, CacheState.SHARED]
    assert outcomes[0].pooled is outcomes[2].pooled
    assert len(watched.read_names) == 2


async def two_calls(begin: Begin, watched: Watched, **leader: float) -> tuple[asyncio.Task, asyncio.Task]:
    """A leader whose pair is queued behind a busy device, and a follower that wants the same pair."""
    scorer = begin(budget=50)
    watched.hold()
    plug = asyncio.create_task(scorer.score([pair_of(20, 77)], ScoreOptions(lane=Lane.INTERACTIVE)))
    await until(lambda: len(watched.reads) == 1)
    first = asyncio.create_task(scorer.score([pair_of(40)], ScoreOptions(), **leader))
    await until(lambda: scorer.tokens_in_flight == 60)
    second = asyncio.create_task(scorer.score([pair_of(40)], ScoreOptions()))
    await until(lambda: len(scorer._flight) == 2 and len(asyncio.all_tasks()) >= 4)
    await asyncio.sleep(0.05)
    assert scorer.tokens_in_flight == 60, "the follower queued nothing"
    plug.add_done_callback(lambda task: task.result())
    return first, second


async def test_a_pair_wanted_by_two_calls_at_once_is_read_once(begin: Begin, watched: Watched) -> None:
    first, second = await two_calls(begin, watched)
    watched.release()
    (lead,), (followed,) = await asyncio.wait_for(asyncio.gather(first, second), PATIENCE)
    assert (lead.timings.cache_state, followed.timings.cache_state) == (CacheState.MISS, CacheState.SHARED)
    assert same_bits(lead.pooled, followed.pooled)
    assert len(watched.read_names) == 2


async def test_a_follower_outlives_its_cancelled_leader(begin: Begin, watched: Watched) -> None:
    first, second = await two_calls(begin, watched)
    first.cancel()
    await asyncio.sleep(0.01)
    watched.release()
    (outcome,) = await asyncio.wait_for(second, PATIENCE)
    assert scored(outcome).timings.cache_state is CacheState.MISS
    assert first.cancelled()
    assert len(watched.read_names) == 2, "the leader's own request never reached the device"


async def test_a_follower_is_not_bound_by_its_leaders_deadline(begin: Begin, watched: Watched) -> None:
    first, second = await two_calls(begin, watched, deadline=time.monotonic() + 1.0)
    await asyncio.sleep(1.0)
    watched.release()
    lead, (outcome,) = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), PATIENCE)
    # Whoever notices first, the call's own clock or the batcher, says it: as the call's error or as its only item's.
    assert isinstance(lead[0] if isinstance(lead, list) else lead, Expired)
    assert scored(outcome).timings.cache_state is CacheState.MISS


async def test_a_cancelled_follower_disturbs_nobody(begin: Begin, watched: Watched) -> None:
    first, second = await two_calls(begin, watched)
    second.cancel()
    await asyncio.sleep(0.01)
    watched.release()
    (outcome,) = await asyncio.wait_for(first, PATIENCE)
    assert scored(outcome).timings.cache_state is CacheState.MISS


async def test_a_failed_leader_lets_its_follower_try(begin: Begin, watched: Watched) -> None:
    first, second = await two_calls(begin, watched)
    failures = iter([RuntimeError("once")])

    def fault(requests: object) -> None:
        if error := next(failures, None):
            raise error

    watched.fault = fault
    await asyncio.sleep(0)
    watched.fault = lambda requests: fault(requests) if requests[0].size == 40 else None
    watched.release()
    (failed,), (outcome,) = await asyncio.wait_for(asyncio.gather(first, second), PATIENCE)
    assert isinstance(failed, EngineFailure)
    assert scored(outcome).timings.cache_state is CacheState.MISS


async def test_a_pair_being_read_while_another_call_tokenises_it_is_read_once(
    begin: Begin, watched: Watched, tokenizer: WatchedTokenizer
) -> None:
    """The second call is between its first look into the cache and its claim when the first one finishes."""
    scorer = begin()
    watched.hold()
    first = asyncio.create_task(scorer.score([pair_of(40)], ScoreOptions()))
    await until(lambda: len(watched.reads) == 1)
    tokenizer.free.clear()
    second = asyncio.create_task(scorer.score([pair_of(40)], ScoreOptions()))
    await until(lambda: tokenizer.calls == 2)
    watched.release()
    await asyncio.wait_for(first, PATIENCE)
    tokenizer.free.set()
    (outcome,) = await asyncio.wait_for(second, PATIENCE)
    assert scored(outcome).timings.cache_state is CacheState.HIT
    assert len(watched.reads) == 1
    assert at_rest(scorer)
