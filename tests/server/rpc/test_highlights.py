"""Highlights by a real subject whose tokens are bytes: each character is marked if and only if one of its bytes fires."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest
from assay_server.errors import Expired, Overloaded
from assay_server.report.model import Highlight
from assay_server.rpc.highlights import CONCURRENT, Wanted, merge_tokens, read_again
from assay_server.scorer import Scorer
from assay_server.subject.types import Message, Pair, Prompt, TokenInfo

from tests.support.fake_scorer import FakeScorer
from tests.support.tiny_scorer import WatchedTokenizer, scorers
from tests.support.tiny_subject import FEATURES, Watched

TALK = (Message("system", "Be brief."), Message("user", "Why? 🎉"))
PAIRS = {
    "chat": Pair(TALK, "Because — naïvely — it is.", "No."),
    "raw": Pair("Q: why?\nA: ", "日本語 and 🎉🎉 text", " trailing "),
    "empty raw prompt": Pair("", "only a response", "another"),
    "the response stands in the prompt too": Pair((Message("user", "same"),), "same", "other"),
}


@pytest.fixture
async def scorer() -> AsyncIterator[Scorer]:
    async with scorers(Watched(), WatchedTokenizer()) as begin:
        yield begin()


async def fires(scorer: Scorer, prompt: Prompt, response: str, features: tuple[int, ...]) -> list[float]:
    """The largest activation on any byte of each character of the response, found by counting bytes from the end."""
    raw = isinstance(prompt, str)
    text: Prompt = prompt + response if isinstance(prompt, str) else (*prompt, Message("assistant", response))
    encoded, _ = await scorer.encode_tokens(text, features)
    strongest = encoded.activations.max(axis=0)
    place = len(strongest) - len(response.encode()) - (0 if raw else 2)  # "</s>" and a newline follow a turn
    found: list[float] = []
    for character in response:
        size = len(character.encode())
        found.append(float(strongest[place : place + size].max()))
        place += size
    return found


@pytest.mark.parametrize("kind", list(PAIRS))
async def test_a_character_is_marked_where_one_of_its_bytes_fires(scorer: Scorer, kind: str) -> None:
    pair, features = PAIRS[kind], tuple(range(0, FEATURES, 9))
    read = await read_again(scorer, {7: Wanted(pair, features)}, deadline=None)
    for response, marks in zip((pair.chosen, pair.rejected), read[7].highlights(features), strict=True):
        activations = await fires(scorer, pair.prompt, response, features)
        marked = {place for mark in marks for place in range(mark.start, mark.end)}
        assert marked == {place for place, value in enumerate(activations) if value > 0}
        assert marked, "features were chosen so that some fire"
        for mark in marks:
            assert mark.value == pytest.approx(max(activations[mark.start : mark.end]))
        assert all(a.end < b.start for a, b in pairwise(marks)), "neighbours are one"


async def test_each_concept_sees_its_own_features_of_a_text_that_was_read_once(scorer: Scorer) -> None:
    pair = PAIRS["chat"]
    together = (await read_again(scorer, {0: Wanted(pair, tuple(range(40)))}, deadline=None))[0]
    for features in ((3,), (3, 17), (39, 0)):
        alone = (await read_again(scorer, {0: Wanted(pair, features)}, deadline=None))[0]
        assert together.highlights(features) == alone.highlights(features)
    assert together.highlights((90,)) == ((), ())


async def test_a_pair_that_can_no_longer_be_read_has_no_highlights_and_others_have(scorer: Scorer) -> None:
    features = tuple(range(FEATURES))
    pairs = {0: Wanted(Pair("p", "x" * 5000, "y"), features), 1: Wanted(PAIRS["raw"], features), 2: Wanted(PAIRS["chat"], ())}
    read = await read_again(scorer, pairs, deadline=None)
    assert set(read) == {0, 1}, "without features there is nothing to read"
    assert read[0].highlights(features)[0] == ()
    assert read[0].highlights(features)[1]
    assert read[1].highlights(features)[0]


def wanted(count: int) -> dict[int, Wanted]:
    return {row: Wanted(Pair("p", f"a{row}", "b"), (1,)) for row in range(count)}


async def test_only_so_many_texts_are_with_the_scorer_at_once() -> None:
    scorer = FakeScorer(delay=0.005)
    assert list(await read_again(scorer, wanted(30), deadline=None)) == list(range(30))
    assert scorer.most_running == CONCURRENT


async def test_an_overloaded_scorer_is_asked_again_as_long_as_patience_lasts() -> None:
    scorer = FakeScorer()
    scorer.failing = [Overloaded("Full.", retry_after_seconds=0.01) for _ in range(5)]
    assert len(await read_again(scorer, wanted(2), deadline=None, patience=5.0)) == 2
    scorer.failing = [Overloaded("Full.", retry_after_seconds=0.01)]
    with pytest.raises(Overloaded):
        await read_again(scorer, wanted(2), deadline=None)


async def test_what_can_do_with_a_part_gets_what_was_read_in_time() -> None:
    scorer = FakeScorer()
    scorer.failing = [Expired("Too late."), Overloaded("Full.", retry_after_seconds=60.0)]
    read = await read_again(scorer, wanted(4), deadline=None, partial=True)
    assert list(read) == [2, 3]


async def test_a_reading_that_is_cancelled_leaves_no_task() -> None:
    scorer = FakeScorer()
    scorer.gate.clear()
    reading = asyncio.ensure_future(read_again(scorer, wanted(4), deadline=None))
    await asyncio.sleep(0.01)
    assert scorer.running == 4
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await asyncio.sleep(0)
    assert scorer.running == 0


def test_tokens_across_the_prompts_border_are_cut_and_the_templates_own_are_left_out() -> None:
    spans = [(0, 0, 3), (0, 3, 6), (0, 6, 7), (0, 6, 7), (0, 7, 9), (0, 10, 12), (-1, 0, 0), (1, 0, 5)]
    tokens = [TokenInfo(0, "", message, start, end) for message, start, end in spans]
    activations = np.array([[1, 2, 3, 0, 0, 1, 9, 9], [0, 0, 0, 4, 0, 0.5, 9, 9]], dtype=np.float32)
    assert merge_tokens(tokens, activations, 0, 5) == (Highlight(0, 2, 4.0), Highlight(5, 7, 1.0))
