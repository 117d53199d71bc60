"""Harmless pairs of any size and number for these tests, and what it means that two results are the same.

Results that came from one forward pass are equal to the last bit, however they travelled and however often the cache gave them
back. A pair that is read again may sit in another batch, which float32 sums notice and a pooled float16 rounds away, or
at worst turns by its last digit: ``agree`` allows that digit and nothing else.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from assay import Message, Pair, PairResult, chat
from assay.results import CacheState, PooledFeatures

from tests.support.chat_tokenizers import CORPUS

LAST_DIGIT = 2.0**-9
"""Two units in the last place of a float16, relative."""
_WORDS = [word for sentence in CORPUS for word in sentence.split()]


def words(seed: object, count: int) -> str:
    """So many words, harmless and meaningless; about 1.5 tokens each."""
    return " ".join(random.Random(str(seed)).choices(_WORDS, k=count))


def pair(number: int, *, length: int = 12, salt: str = "") -> Pair:
    """A chat pair of responses of about ``length`` words."""
    name = f"{salt}{number}"
    low = max(1, length // 2)
    chosen, rejected = (words((name, side), random.Random(f"{name}/{side}").randint(low, length)) for side in "cr")
    return Pair(chat(f"Question {name}: {words(name, 6)}?"), chosen, rejected, id=f"pair-{name}")


def pairs(count: int, *, length: int = 12, salt: str = "") -> list[Pair]:
    """So many different pairs."""
    return [pair(number, length=length, salt=salt) for number in range(count)]


def every_kind() -> list[Pair]:
    """Chat of one and of many turns, raw text, all sorts of Unicode, and bad pairs in the middle."""
    turns = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Now?")]
    return [
        *pairs(5, salt="kind"),
        Pair(turns, "Now is good.", "Later, or never; who can say?", id="turns"),
        Pair(chat("What is said?", system=""), " leading and trailing ", "\n\n", id="spaces"),
        Pair("Raw text to go on from: ", "orange", "blue, probably", id="raw"),
        Pair("", "text after nothing", "other text after nothing", id="raw, no prompt"),
        Pair(
            chat("Größe, naïve café?"),
            "Привет, мир. こんにちは 🙂👩‍🚀",
            "e\u0301 is not \u00e9; \U0001f9d1\u200d\U0001f33e",
            id="unicode ✓",
        ),
        Pair(chat("Nothing?"), "", "something", id="empty"),
        Pair([Message("user", "a"), Message("user", "b")], "c", "d", id="order"),
        Pair(chat("long"), words("long", 3000), "short", id="too long"),
        Pair(chat("the same"), "equal", "equal", id="equal"),
        Pair(chat("<|im_start|>user\nNo template<|im_end|>"), "<|im_end|>", "a\x00b\x7f", id="special"),
        *pairs(5, length=60, salt="tail"),
    ]


def stable(result: PairResult) -> PairResult:
    """The result without its place in the call, its timings and its cache state."""
    score = result.score
    if score is not None:
        zero = replace(score.timings, tokenize=0, queue=0, forward=0, cache=0, cache_state=CacheState.UNSPECIFIED)
        score = replace(score, timings=zero)
    return replace(result, index=0, score=score)


def same(got: Iterable[PairResult], expected: Iterable[PairResult]) -> None:
    """Fails where one bit differs."""
    for one, other in zip(got, expected, strict=True):
        assert stable(one) == stable(other), one.id


def agree(got: Sequence[PairResult], expected: Sequence[PairResult]) -> None:
    """Fails where results differ by more than another batch around the pair explains. Needs ``include_features``."""
    assert [one.id for one in got] == [other.id for other in expected]
    for one, other in zip(got, expected, strict=True):
        assert one.error == other.error, one.id
        if one.score is None or other.score is None:
            assert one.score is other.score is None, one.id
            continue
        assert one.score.tokens == other.score.tokens, one.id
        for a, b in zip(_pooled(one), _pooled(other), strict=True):
            assert close(a, b), one.id
        assert_ranked(one)


def close(got: PooledFeatures, expected: PooledFeatures) -> bool:
    """Whether two spans' features are the same but for the last digit."""
    return (
        got.indices == expected.indices
        and np.allclose(got.max, expected.max, rtol=LAST_DIGIT, atol=0)
        and np.allclose(got.freq, expected.freq, rtol=1e-6, atol=0)
    )


def assert_ranked(result: PairResult) -> None:
    """Fails where the rankings are not what the result's own pooled features say; shares no code with the server."""
    score = result.unwrap()
    chosen, rejected = _pooled(result)
    for ranking, name in ((score.by_max, "max"), (score.by_freq, "freq")):
        sides = [dict(zip(side.indices, getattr(side, name), strict=True)) for side in (chosen, rejected)]
        rows = [(feature, *(side.get(feature, 0.0) for side in sides)) for feature in sides[0] | sides[1]]
        rows = [row for row in rows if row[1] != row[2]]
        rows.sort(key=lambda row: (-abs(np.float32(row[1]) - np.float32(row[2])), row[0]))
        assert [(one.feature, one.chosen, one.rejected) for one in ranking] == rows[: len(ranking)], result.id
        assert len(ranking) == min(len(rows), 16), result.id


def states(results: Iterable[PairResult]) -> Iterator[Any]:
    """Cache states of the scored pairs."""
    return (result.score.timings.cache_state for result in results if result.score is not None)


def _pooled(result: PairResult) -> tuple[PooledFeatures, PooledFeatures]:
    score = result.unwrap()
    assert score.chosen_features is not None
    assert score.rejected_features is not None
    return score.chosen_features, score.rejected_features
