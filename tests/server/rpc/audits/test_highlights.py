"""Highlights by a real subject whose tokens are bytes: each character is marked if and only if one of its bytes fires."""

import asyncio
from itertools import pairwise

import numpy as np
import pytest
from assay_server.errors import Expired, Overloaded
from assay_server.jobs.audits.types import MarkedDirection
from assay_server.report.model import Highlight
from assay_server.rpc.audits.highlights import CONCURRENT, Wanted, merge_tokens, read_again
from assay_server.scorer import Scored, ScoreOptions, Scorer
from assay_server.subject.types import Directions, Message, Pair, Prompt, SpanName, TokenInfo, TokenTree, Truncation

from tests.support.fake_scorer import FakeScorer
from tests.support.tiny_subject import FEATURES, WIDTH, tiny_subject

SIDES = (SpanName.CHOSEN, SpanName.REJECTED)
TALK = (Message("system", "Be brief."), Message("user", "Why? 🎉"))
PAIRS = {
    "chat": Pair(TALK, "Because — naïvely — it is.", "No."),
    "raw": Pair("Q: why?\nA: ", "日本語 and 🎉🎉 text", " trailing "),
    "empty raw prompt": Pair("", "only a response", "another"),
    "the response stands in the prompt too": Pair((Message("user", "same"),), "same", "other"),
}


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


def inner_products(prompt: Prompt, response: str, vector: np.ndarray) -> list[float]:
    """The largest ⟨h, v⟩ on any byte of each character of the response, by the subject's residuals and a loop."""
    raw, subject = isinstance(prompt, str), tiny_subject()
    text: Prompt = prompt + response if isinstance(prompt, str) else (*prompt, Message("assistant", response))
    ids = subject.tokenizer.text(text, Truncation.REFUSE).ids
    residual = subject.residual(TokenTree(ids, (), {SpanName.PROMPT: ids[:0]})).numpy().astype(np.float64)
    products = [sum(float(h) * float(v) for h, v in zip(row, vector, strict=True)) for row in residual]
    products[0] = -np.inf  # the first token of a sequence is in no span
    place = len(products) - len(response.encode()) - (0 if raw else 2)
    found: list[float] = []
    for character in response:
        size = len(character.encode())
        found.append(max(products[place : place + size]))
        place += size
    return found


@pytest.mark.parametrize("kind", list(PAIRS))
async def test_a_direction_marks_the_characters_on_which_it_passes_its_threshold(scorer: Scorer, kind: str) -> None:
    pair, draws = PAIRS[kind], np.random.default_rng(3)
    vectors = draws.normal(size=(2, WIDTH)).astype(np.float32)
    products = [[inner_products(pair.prompt, text, vector) for text in (pair.chosen, pair.rejected)] for vector in vectors]
    thresholds = [float(np.quantile([value for side in both for value in side if value > -np.inf], 0.6)) for both in products]
    marks = {f"concepts/{n}": MarkedDirection(vectors[n], threshold) for n, threshold in enumerate(thresholds)}
    features = (3, 17)
    read = (await read_again(scorer, {7: Wanted(pair, features, marks)}, deadline=None))[7]
    for number, (name, threshold) in enumerate(zip(marks, thresholds, strict=True)):
        for values, found in zip(products[number], read.highlights((), name), strict=True):
            marked = {place for mark in found for place in range(mark.start, mark.end)}
            assert marked == {place for place, value in enumerate(values) if value > threshold}
            for mark in found:
                expected = max(values[mark.start : mark.end]) - threshold
                assert mark.value == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert any(side for name in marks for side in read.highlights((), name))
    alone = (await read_again(scorer, {7: Wanted(pair, features)}, deadline=None))[7]
    assert read.highlights(features, "concepts/unknown") == alone.highlights(features)
    only = (await read_again(scorer, {7: Wanted(pair, (), marks)}, deadline=None))[7]
    assert only.highlights((), "concepts/1") == read.highlights((), "concepts/1")


async def test_a_response_has_marks_exactly_where_the_audit_says_that_it_shows_the_direction(scorer: Scorer) -> None:
    vector = np.random.default_rng(5).normal(size=WIDTH).astype(np.float32)
    pairs = list(PAIRS.values())
    scored = await scorer.score(pairs, ScoreOptions(directions=Directions(vector[None], b"d")))
    scores = np.array([[one.pooled.directions[side][0] for side in SIDES] for one in scored if isinstance(one, Scored)])
    ordered = np.sort(scores.ravel().astype(np.float64))
    for threshold in ((ordered[2] + ordered[3]) / 2, (ordered[-2] + ordered[-1]) / 2):
        mark = {"concepts/x": MarkedDirection(vector, float(threshold))}
        read = await read_again(scorer, {row: Wanted(pair, (), mark) for row, pair in enumerate(pairs)}, deadline=None)
        shows = [[bool(side) for side in read[row].highlights((), "concepts/x")] for row in range(len(pairs))]
        assert shows == (scores > threshold).tolist()


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
