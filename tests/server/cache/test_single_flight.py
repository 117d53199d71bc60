"""Single flight: once for all who ask at the same time, whatever becomes of the one who computes."""

import asyncio
import contextlib
import gc
import random

import pytest
from assay_server.cache import Claim, LeaderGone, SingleFlight

from tests.support.waiting import PATIENCE

Flight = SingleFlight[str, int]


@pytest.fixture
def flight() -> Flight:
    return SingleFlight()


@pytest.fixture(autouse=True)
async def complaints() -> list[dict]:
    """What the event loop complains of ("exception was never retrieved"), which must be nothing."""
    heard: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    yield heard
    gc.collect()
    await asyncio.sleep(0)
    assert heard == []


def resolver(calls: list[tuple[str, ...]], *, gate: asyncio.Event | None = None):
    """A ``compute`` that notes what it led, waits (for the gate), and resolves each key to its length."""

    async def compute(claim: Claim[str, int]) -> None:
        calls.append(claim.leads)
        await (asyncio.sleep(0) if gate is None else gate.wait())
        for key in claim.leads:
            claim.resolve(key, len(key))

    return compute


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_keys_that_several_want_are_computed_once(flight: Flight) -> None:
    calls: list[tuple[str, ...]] = []
    gate = asyncio.Event()
    tasks = [
        asyncio.create_task(flight.run(keys, resolver(calls, gate=gate)))
        for keys in (["a", "bb", "a"], ["bb", "ccc"], ["a", "ccc"])
    ]
    await settle()
    gate.set()
    assert await asyncio.gather(*tasks) == [{"a": 1, "bb": 2}, {"bb": 2, "ccc": 3}, {"a": 1, "ccc": 3}]
    assert calls == [("a", "bb"), ("ccc",)]
    assert len(flight) == 0


async def test_a_key_that_has_landed_is_computed_again_for_the_next(flight: Flight) -> None:
    calls: list[tuple[str, ...]] = []
    await flight.run(["a"], resolver(calls))
    await flight.run(["a"], resolver(calls))
    assert calls == [("a",), ("a",)]


async def test_a_follower_has_a_value_before_the_leader_is_done_with_others(flight: Flight) -> None:
    with flight.claim(["a", "bb"]) as leader:
        follower = flight.claim(["a"])
        waiting = asyncio.create_task(follower.follow("a"))
        await settle()
        leader.resolve("a", 1)
        assert await waiting == 1
        assert len(flight) == 1


@pytest.mark.parametrize("end", ["cancelled", "failed", "unresolved"])
async def test_when_a_leader_ends_without_a_value_a_follower_takes_over(flight: Flight, end: str) -> None:
    gate = asyncio.Event()

    async def hopeless(claim: Claim[str, int]) -> None:
        await gate.wait()
        if end == "failed":
            raise RuntimeError("the leader's own")

    calls: list[tuple[str, ...]] = []
    leader = asyncio.create_task(flight.run(["a"], hopeless))
    await settle()
    followers = [asyncio.create_task(flight.run(["a"], resolver(calls))) for _ in range(3)]
    await settle()
    if end == "cancelled":
        leader.cancel()
    gate.set()
    assert await asyncio.gather(*followers) == [{"a": 1}] * 3
    assert calls == [("a",)]
    [outcome] = await asyncio.gather(leader, return_exceptions=True)
    expected = {"cancelled": asyncio.CancelledError, "failed": RuntimeError}.get(end)
    assert outcome == {} if expected is None else isinstance(outcome, expected)
    assert len(flight) == 0


async def test_cancelling_a_follower_leaves_leader_and_other_followers_alone(flight: Flight) -> None:
    calls: list[tuple[str, ...]] = []
    gate = asyncio.Event()
    leader, one, other = (asyncio.create_task(flight.run(["a"], resolver(calls, gate=gate))) for _ in range(3))
    await settle()
    one.cancel()
    await settle()
    gate.set()
    assert await asyncio.gather(leader, other) == [{"a": 1}] * 2
    assert one.cancelled()


async def test_callers_that_follow_each_other_both_end(flight: Flight) -> None:
    gate = asyncio.Event()
    calls: list[tuple[str, ...]] = []
    both = [asyncio.create_task(flight.run(keys, resolver(calls, gate=gate))) for keys in (["a", "bb"], ["ccc", "a"])]
    await settle()
    third = asyncio.create_task(flight.run(["ccc", "a", "dddd"], resolver(calls)))
    await settle()
    gate.set()
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*both, third) == [{"a": 1, "bb": 2}, {"ccc": 3, "a": 1}, {"ccc": 3, "a": 1, "dddd": 4}]


async def test_only_leads_can_be_resolved_and_only_once(flight: Flight) -> None:
    with flight.claim(["a"]) as leader, flight.claim(["a"]) as follower:
        with pytest.raises(KeyError):
            follower.resolve("a", 1)
        with pytest.raises(KeyError):
            await leader.follow("a")
        leader.resolve("a", 1)
        with pytest.raises(KeyError):
            leader.resolve("a", 2)
        assert await follower.follow("a") == 1


async def test_following_a_leader_that_is_gone_says_so(flight: Flight) -> None:
    with flight.claim(["a"]):
        follower = flight.claim(["a"])
    with pytest.raises(LeaderGone):
        await follower.follow("a")


@pytest.mark.parametrize("seed", range(5))
async def test_under_random_cancellation_and_failure_everyone_ends_with_right_values(flight: Flight, seed: int) -> None:
    rng = random.Random(seed)
    computing: set[str] = set()

    async def compute(claim: Claim[str, int]) -> None:
        assert not computing & set(claim.leads), "two leaders of one key"
        computing.update(claim.leads)
        try:
            for key in claim.leads:
                await asyncio.sleep(rng.random() * 0.002)
                if rng.random() < 0.1:
                    raise RuntimeError("a failure")
                computing.discard(key)
                claim.resolve(key, int(key))
        finally:
            computing.difference_update(claim.leads)

    async def caller() -> None:
        keys = [str(rng.randrange(20)) for _ in range(rng.randrange(1, 8))]
        with contextlib.suppress(RuntimeError):
            assert await flight.run(keys, compute) == {key: int(key) for key in keys}

    tasks = [asyncio.create_task(caller()) for _ in range(300)]
    for task in rng.sample(tasks, 80):
        asyncio.get_running_loop().call_later(rng.random() * 0.02, task.cancel)
    async with asyncio.timeout(PATIENCE):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert len(flight) == 0
