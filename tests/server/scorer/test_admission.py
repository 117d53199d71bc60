"""The scorer under load and at its end: who is let in, who waits, and that a call that goes away leaves nothing."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence

import pytest
from assay_server.errors import AssayError, EngineFailure, Expired, NotReady, Overloaded
from assay_server.scorer import Lane, Scored, ScoreOptions, Scorer
from assay_server.subject.subject import TreeRequest

from tests.support.tiny_scorer import Begin, WatchedCache, WatchedTokenizer, at_rest, pair_of, score_one
from tests.support.tiny_subject import Watched
from tests.support.waiting import PATIENCE, until

INTERACTIVE = ScoreOptions(lane=Lane.INTERACTIVE)
BULK = ScoreOptions(lane=Lane.BULK)
Call = asyncio.Task[list[Scored | AssayError]]


def waiting(scorer: Scorer) -> list[int]:
    """Tokens of the calls that wait to be let in, in order."""
    return list(scorer._admission._waiting.values())


async def fill(scorer: Scorer, watched: Watched, tokens: int) -> Call:
    """Have that many tokens in flight, held on the device."""
    watched.hold()
    call = asyncio.create_task(scorer.score([pair_of(tokens, 9000)], BULK))
    await until(lambda: scorer.tokens_in_flight == tokens and len(watched.reads) == 1)
    return call


async def line_up(scorer: Scorer, sizes: Sequence[int], **more: float) -> list[Call]:
    """Bulk calls of one pair each that wait to be let in, one after the other."""
    calls: list[Call] = []
    for size in sizes:
        before = len(waiting(scorer))
        calls.append(asyncio.create_task(scorer.score([pair_of(size, size)], BULK, **more)))
        await until(lambda before=before: len(waiting(scorer)) == before + 1)
    return calls


async def all_scored(*calls: Call) -> None:
    for outcomes in await asyncio.wait_for(asyncio.gather(*calls), PATIENCE):
        assert all(isinstance(outcome, Scored) for outcome in outcomes)


# Who is let in


async def test_interactive_work_past_the_bound_is_refused_with_when_to_come_back(begin: Begin, watched: Watched) -> None:
    scorer = begin(bound=100)
    running = await fill(scorer, watched, 80)
    with pytest.raises(Overloaded) as refusal:
        await score_one(scorer, pair_of(21), INTERACTIVE)
    assert 0.1 <= refusal.value.retry_after_seconds <= 60
    assert refusal.value.details == {"tokens_in_flight": "80", "tokens_asked": "21", "max_tokens_in_flight": "100"}
    fits = asyncio.create_task(scorer.score([pair_of(20, 1)], INTERACTIVE))
    await until(lambda: scorer.tokens_in_flight == 100)
    watched.release()
    await all_scored(running, fits)
    assert (await score_one(scorer, pair_of(21), INTERACTIVE)).pooled.read == 21


async def test_token_activations_are_admitted_like_any_interactive_work(begin: Begin, watched: Watched) -> None:
    scorer = begin(bound=100)
    running = await fill(scorer, watched, 80)
    with pytest.raises(Overloaded):
        await scorer.encode_tokens("x" * 21, [1])
    watched.release()
    await all_scored(running)
    assert (await scorer.encode_tokens("x" * 21, [1]))[0].activations.shape == (1, 21)


async def test_bulk_work_waits_for_room_and_is_let_in_in_order(begin: Begin, watched: Watched) -> None:
    scorer = begin(bound=100)
    running = await fill(scorer, watched, 80)
    calls = await line_up(scorer, [60, 15, 25])  # the second would fit, and does not overtake
    assert waiting(scorer) == [60, 15, 25]
    assert scorer.tokens_in_flight == 80
    watched.release()
    await all_scored(running, *calls)
    assert [name.split(":")[0] for name in watched.read_names] == ["80", "60", "15", "25"]


async def test_interactive_work_that_fits_does_not_wait_behind_bulk_work(begin: Begin, watched: Watched) -> None:
    scorer = begin(bound=100)
    running = await fill(scorer, watched, 80)
    calls = await line_up(scorer, [60])
    urgent = asyncio.create_task(scorer.score([pair_of(20, 1)], INTERACTIVE))
    await until(lambda: scorer.tokens_in_flight == 100)
    assert waiting(scorer) == [60]
    watched.release()
    await all_scored(running, urgent, *calls)
    assert [name.split(":")[0] for name in watched.read_names] == ["80", "20", "60"]


async def test_bulk_work_is_refused_when_as_much_again_waits_already(begin: Begin, watched: Watched) -> None:
    scorer = begin(bound=100)
    running = await fill(scorer, watched, 80)
    calls = await line_up(scorer, [50, 45])
    with pytest.raises(Overloaded):
        await score_one(scorer, pair_of(12), BULK)
    watched.release()
    await all_scored(running, *calls)


async def test_patient_bulk_work_keeps_its_place_however_much_waits(begin: Begin, watched: Watched) -> None:
    scorer = begin(bound=100)
    running = await fill(scorer, watched, 80)
    calls = await line_up(scorer, [50, 45])
    patient = asyncio.create_task(scorer.score([pair_of(70, 1)], ScoreOptions(lane=Lane.BULK, patient=True)))
    await until(lambda: waiting(scorer) == [50, 45, 70])
    with pytest.raises(Overloaded):
        await score_one(scorer, pair_of(12), BULK)
    watched.release()
    await all_scored(running, *calls, patient)
    assert watched.read_names[-1].startswith("70:")


async def test_a_call_larger_than_the_bound_is_let_in_alone(begin: Begin, watched: Watched) -> None:
    scorer = begin(bound=100)
    large = [pair_of(60, seed) for seed in range(5)]
    running = await fill(scorer, watched, 20)
    call = asyncio.create_task(scorer.score(large, BULK))
    await until(lambda: waiting(scorer) == [300])
    assert scorer.tokens_in_flight == 20
    watched.release()
    await all_scored(running, call)
    assert (await score_one(scorer, pair_of(120, 8), INTERACTIVE)).pooled.read == 120


# Who goes away


async def test_a_deadline_that_passes_while_waiting_for_room_ends_the_call(begin: Begin, watched: Watched) -> None:
    scorer = begin(bound=100)
    running = await fill(scorer, watched, 80)
    (late,) = await line_up(scorer, [60], deadline=time.monotonic() + 1.0)
    (patient,) = await line_up(scorer, [20])
    with pytest.raises(Expired):
        await asyncio.wait_for(late, PATIENCE)
    await until(lambda: scorer.tokens_in_flight == 100)  # who stood behind it fits
    watched.release()
    await all_scored(running, patient)
    assert len(watched.read_names) == 2


async def test_a_call_cancelled_while_waiting_for_room_makes_way(begin: Begin, watched: Watched) -> None:
    scorer = begin(bound=100)
    running = await fill(scorer, watched, 80)
    first, second = await line_up(scorer, [60, 20])
    first.cancel()
    await until(lambda: scorer.tokens_in_flight == 100)
    watched.release()
    await all_scored(running, second)
    assert len(watched.read_names) == 2


async def test_a_call_cancelled_in_the_moment_it_is_let_in_gives_its_room_back(begin: Begin, watched: Watched) -> None:
    scorer = begin(bound=100)
    running = await fill(scorer, watched, 80)
    (call,) = await line_up(scorer, [60])
    turn = next(iter(scorer._admission._waiting))
    turn.add_done_callback(lambda _: call.cancel())
    watched.release()
    await all_scored(running)
    with pytest.raises(asyncio.CancelledError):
        await call
    assert at_rest(scorer)


@pytest.mark.parametrize("phase", ["cache", "tokenizer", "queue", "device"])
async def test_a_call_cancelled_in_any_phase_leaves_nothing(
    begin: Begin, watched: Watched, tokenizer: WatchedTokenizer, phase: str
) -> None:
    cache = WatchedCache(delay=0.2 if phase == "cache" else 0.0)
    scorer = begin(cache=cache)
    if phase == "tokenizer":
        tokenizer.free.clear()
    if phase == "queue":
        running = await fill(scorer, watched, 80)
    watched.hold()
    calls = [
        asyncio.create_task(scorer.score([pair_of(40), pair_of(50)], BULK)),
        asyncio.create_task(scorer.encode_tokens("text", [1])),
    ]
    reached = {
        "cache": lambda: len(cache.asked) == 2 and len(watched.reads) == 1,  # token activations have nothing to ask it
        "tokenizer": lambda: tokenizer.calls == 1,
        "queue": lambda: scorer.tokens_in_flight == 80 + 90 + 4,
        "device": lambda: len(watched.reads) == 1 and scorer.tokens_in_flight == 94,
    }
    await until(reached[phase])
    for call in calls:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    tokenizer.free.set()
    watched.release()
    await until(lambda: at_rest(scorer))
    if phase == "queue":
        await all_scored(running)
    assert len(watched.reads) == (phase != "tokenizer")


async def test_an_error_that_a_cancelled_call_did_not_wait_for_is_not_reported_as_unseen(
    begin: Begin, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """Its second pair has failed, in a batch prepared ahead, while it waits for the first: the teardown listens to the loop."""
    caplog.set_level(logging.CRITICAL + 1)  # a record of the failure would keep its frames, and so the futures, alive
    scorer = begin(budget=50)
    watched.hold()

    def fault(requests: Sequence[TreeRequest]) -> None:
        if requests[0].size != 30:
            raise ValueError("does not stack")

    watched.prepare_fault = fault
    call = asyncio.create_task(scorer.score([pair_of(30, 1), pair_of(50, 2), pair_of(50, 3)], BULK))
    await until(lambda: scorer.tokens_in_flight == 30)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    del call


@pytest.mark.parametrize("seed", [1, 2])
async def test_hundreds_of_calls_that_vanish_at_random_leave_nothing(begin: Begin, watched: Watched, seed: int) -> None:
    """Cancellations, deadlines, refusals, shared pairs, failing batches, a slow cache: every call ends, the bound holds."""
    rng = random.Random(seed)
    scorer = begin(bound=600, budget=200, cache=WatchedCache(delay=0.001))
    watched.delay = 0.01  # slower than what is asked of it
    items = [pair_of(rng.randint(12, 60), index) for index in range(200)]

    def fault(requests: Sequence[TreeRequest]) -> None:
        if rng.random() < 0.05:
            raise RuntimeError("bad luck")

    watched.fault = fault
    calls: list[Call] = []
    peak = 0
    for _ in range(400):
        options = ScoreOptions(lane=rng.choice(list(Lane)), include_prompt=rng.random() < 0.2, bypass_cache=rng.random() < 0.1)
        deadline = rng.choice([None, None, time.monotonic() + rng.uniform(0, 0.1)])
        picked = rng.choices(items, k=rng.randint(1, 6))
        calls.append(asyncio.create_task(scorer.score(picked, options, deadline=deadline)))
        if rng.random() < 0.3:
            rng.choice(calls[-10:]).cancel()
        if rng.random() < 0.5:
            await asyncio.sleep(rng.uniform(0, 0.01))
        peak = max(peak, scorer.tokens_in_flight)
    outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), PATIENCE)
    scored = sum(isinstance(outcome, list) for outcome in outcomes)
    kinds = {type(outcome) for outcome in outcomes} - {list}
    assert scored > 50
    assert kinds <= {asyncio.CancelledError, Overloaded, Expired}, kinds
    assert {asyncio.CancelledError, Overloaded} <= kinds
    inside = [item for outcome in outcomes if isinstance(outcome, list) for item in outcome]
    assert {type(item) for item in inside} <= {Scored, Expired, EngineFailure}
    assert 0 < peak <= 600
    await until(lambda: at_rest(scorer))


# The end


async def test_closing_ends_every_call_wherever_it_is(begin: Begin, watched: Watched, tokenizer: WatchedTokenizer) -> None:
    scorer = begin(bound=300, cache=WatchedCache())
    await score_one(scorer, pair_of(40, 1))
    watched.reads.clear()
    running = await fill(scorer, watched, 100)
    queued = asyncio.create_task(scorer.score([pair_of(150, 2)], BULK))
    await until(lambda: scorer.tokens_in_flight == 250)
    (outside,) = await line_up(scorer, [90])
    tokenizer.free.clear()
    before = tokenizer.calls
    tokenising = [asyncio.create_task(scorer.score([pair_of(20 + seed, seed)], BULK)) for seed in range(20, 23)]
    await until(lambda: tokenizer.calls == before + 1)  # one is being tokenised, the others wait for the thread
    closing = asyncio.create_task(scorer.aclose())
    await until(lambda: scorer._batcher._closed)
    with pytest.raises(NotReady):
        await scorer.score([pair_of(20)], BULK)
    with pytest.raises(NotReady):
        await scorer.encode_tokens("text", [1])
    watched.release()
    await asyncio.wait_for(closing, PATIENCE)
    tokenizer.free.set()
    await all_scored(running)
    outcomes = await asyncio.wait_for(asyncio.gather(queued, outside, *tokenising, return_exceptions=True), PATIENCE)
    in_place, *raised = outcomes
    assert isinstance(in_place, list)
    assert isinstance(in_place[0], NotReady)
    assert [type(outcome) for outcome in raised] == [NotReady] * 4
    assert all(outcome.reason == "STOPPING" for outcome in raised if isinstance(outcome, NotReady))
    assert len(watched.reads) == 1


async def test_a_call_that_is_still_asking_the_cache_when_the_scorer_closes_ends_as_refused(begin: Begin) -> None:
    cache = WatchedCache(delay=0.1)
    scorer = begin(cache=cache)
    await score_one(scorer, pair_of(40))
    cache.put.clear()
    again = asyncio.create_task(scorer.score([pair_of(40), pair_of(50)], BULK))
    await asyncio.sleep(0.02)
    await scorer.aclose()
    with pytest.raises(NotReady):
        await asyncio.wait_for(again, PATIENCE)
    assert not cache.put


async def test_a_scorer_closes_twice(begin: Begin) -> None:
    scorer = begin()
    await scorer.aclose()
    await scorer.aclose()
