import resource
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from assay_server.audit.ngrams import (
    DocumentFrequencies,
    Streams,
    Vocabulary,
    contains,
    counts,
    least_texts,
    ngrams,
    words_in,
)

from tests.support.waiting import in_time


def hashes(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2**64, number, dtype=np.uint64)


def texts(number: int, length: int, different: int, seed: int = 0) -> Streams:
    """Texts of up to `length` words with frequencies after Zipf, some of them empty, with sentence ends between."""
    draws = np.random.default_rng(seed)
    ends = np.cumsum(draws.integers(0, length + 1, number))
    tokens = hashes(different)[np.minimum(draws.zipf(1.3, int(ends[-1])) - 1, different - 1)]
    tokens[draws.random(len(tokens)) < 0.1] = 0
    return Streams(tokens, ends.astype(np.int64))


def part(streams: Streams, first: int, last: int) -> Streams:
    start = int(streams.ends[first - 1]) if first else 0
    return Streams(streams.tokens[start : int(streams.ends[last - 1])], streams.ends[first:last] - start)


def as_lists(streams: Streams) -> list[list[int]]:
    starts = [0, *streams.ends.tolist()]
    return [streams.tokens[a:b].tolist() for a, b in pairwise(starts)]


def by_hand(words: list[int]) -> Counter[tuple[int, ...]]:
    windows = [tuple(words[k : k + n]) for n in (1, 2, 3) for k in range(len(words) - n + 1)]
    return Counter(window for window in windows if 0 not in window)


def spelled(words: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(int(word) for word in row if word) for row in words]


def vocabulary_of(*blocks: Streams, most: int = 20_000, table: int = 4_000_000) -> Vocabulary:
    seen = DocumentFrequencies(table)
    for block in blocks:
        seen.add(block)
    return seen.vocabulary(most)


@pytest.mark.parametrize("block_words", [1, 100, 1 << 19])
def test_ngrams_are_those_of_a_plain_loop_and_never_cross_a_sentence_or_a_text(block_words: int) -> None:
    streams = texts(60, 30, 12)
    found: list[Counter[tuple[int, ...]]] = []
    for block in ngrams(streams, block_words=block_words):
        assert block.first == len(found)
        assert (np.diff(block.ids.astype(object)) > 0).all()
        names = spelled(block.words)
        found += [Counter({names[k]: int(row[k]) for k in np.flatnonzero(row)}) for row in block.counts.toarray()]
    assert found == [by_hand(words) for words in as_lists(streams)]


def test_ids_tell_order_and_length_apart() -> None:
    a, b = hashes(2).tolist()
    streams = Streams(np.array([a, b, 0, b, a, 0, a, a, a, 0, a, a], np.uint64), np.array([12], np.int64))
    (block,) = ngrams(streams)
    assert sorted(spelled(block.words)) == sorted([(a,), (b,), (a, b), (b, a), (a, a), (a, a, a)])
    assert (block.ids != 0).all()


def test_the_vocabulary_is_that_of_a_plain_loop() -> None:
    streams = texts(400, 20, 40)
    held = Counter(gram for words in as_lists(streams) for gram in by_hand(words).elements())
    frequency = Counter(gram for words in as_lists(streams) for gram in set(by_hand(words)))
    assert any(held[gram] > frequency[gram] for gram in held)
    fits = {gram: n for gram, n in frequency.items() if 10 <= n <= 360}

    def repeated(gram: tuple[int, ...]) -> bool:
        longer = [g for g in fits if any(g[k : k + len(gram)] == gram for k in range(len(g) - len(gram) + 1)) and g != gram]
        return any(fits[g] >= 0.95 * fits[gram] for g in longer)

    expected = {gram: n for gram, n in fits.items() if not repeated(gram)}
    found = vocabulary_of(streams)
    assert dict(zip(spelled(found.words), found.texts.tolist(), strict=True)) == expected
    assert (found.responses, found.missed) == (400, 0)
    assert (np.diff(found.ids.astype(object)) > 0).all()
    few = vocabulary_of(streams, most=15)
    assert sorted(few.texts.tolist()) == sorted(expected.values())[-15:]


def test_a_phrase_takes_the_place_of_the_words_that_occur_nowhere_else() -> None:
    a, b, c, *fill = hashes(400).tolist()
    rows = [[a, b, c, fill[k]] if k < 20 else ([c, fill[k]] if k < 60 else [fill[k]]) for k in range(300)]
    streams = Streams(
        np.array([word for row in rows for word in row], np.uint64), np.cumsum([len(row) for row in rows]).astype(np.int64)
    )
    assert sorted(spelled(vocabulary_of(streams).words)) == sorted([(c,), (a, b, c)])


@pytest.mark.parametrize(("responses", "least"), [(0, 10), (5_000, 10), (5_001, 11), (520_000, 1_040)])
def test_an_ngram_needs_ten_responses_or_a_five_hundredth(responses: int, least: int) -> None:
    assert least_texts(responses) == least


def test_the_vocabulary_does_not_depend_on_blocks_or_their_order() -> None:
    streams = texts(500, 25, 60, seed=3)
    whole = vocabulary_of(streams)
    for cuts in ([0, 1, 250, 500], [0, 77, 78, 300, 499, 500]):
        blocks = [part(streams, a, b) for a, b in pairwise(cuts)]
        split = vocabulary_of(*reversed(blocks))
        assert np.array_equal(split.ids, whole.ids)
        assert np.array_equal(split.words, whole.words)
        assert np.array_equal(split.texts, whole.texts)


def test_a_pruned_table_stays_small_and_no_count_falls_short_by_more_than_it_says() -> None:
    streams = texts(3_000, 40, 3_000, seed=4)
    exact = dict(zip(*_frequencies(vocabulary_of(streams)), strict=True))
    seen = DocumentFrequencies(table=15_000)
    for first in range(0, 3_000, 50):
        seen.add(part(streams, first, first + 50))
        assert len(seen._ids) <= 15_000
    pruned = seen.vocabulary()
    assert 0 < pruned.missed < 10
    found = dict(zip(*_frequencies(pruned), strict=True))
    short = [exact[gram] - found.get(gram, 0) for gram in exact if exact[gram] >= 10 + pruned.missed]
    assert len(short) > 100
    assert 0 <= min(short) <= max(short) <= pruned.missed


def _frequencies(found: Vocabulary) -> tuple[list[tuple[int, ...]], list[int]]:
    return spelled(found.words), found.texts.tolist()


@pytest.mark.parametrize("block_words", [1, 333, 1 << 19])
def test_counts_are_those_of_a_plain_loop(block_words: int) -> None:
    streams = texts(200, 40, 50, seed=2)
    chosen = vocabulary_of(streams)
    found = counts(streams, chosen, block_words=block_words)
    names = spelled(chosen.words)
    expected = [[held[name] for name in names] for held in map(by_hand, as_lists(streams))]
    assert found.dtype == np.int32
    assert np.array_equal(found.toarray(), expected)
    assert words_in(streams).tolist() == [sum(word != 0 for word in words) for words in as_lists(streams)]


def test_no_texts_no_words_and_no_vocabulary_are_nothing_not_an_error() -> None:
    nothing = Streams(np.zeros(0, np.uint64), np.zeros(0, np.int64))
    empty = Streams(np.zeros(0, np.uint64), np.zeros(3, np.int64))
    none = vocabulary_of(nothing, empty)
    assert (len(none.ids), none.responses) == (0, 3)
    assert counts(empty, none).shape == (3, 0)
    assert counts(texts(20, 5, 5), none).shape == (20, 0)
    assert words_in(empty).tolist() == [0, 0, 0]


@pytest.mark.parametrize("ends", [[2, 1, 3], [1, 2], [4]])
def test_ends_that_do_not_fit_are_refused(ends: list[int]) -> None:
    with pytest.raises(ValueError, match="ends must ascend"):
        next(ngrams(Streams(hashes(3), np.array(ends, np.int64))))


def test_one_ngram_contains_another_where_its_words_stand_together() -> None:
    words = np.array([[1, 2, 3], [2, 3, 0], [1, 3, 0], [3, 0, 0]], np.uint64)
    assert [contains(words[0], inner) for inner in words] == [True, True, False, True]
    assert not contains(words[3], words[1])


@pytest.mark.serial
def test_twenty_thousand_texts_of_a_hundred_words_take_seconds_and_little_memory() -> None:
    streams = texts(20_000, 200, 30_000, seed=5)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    chosen = vocabulary_of(streams)
    found = counts(streams, chosen)
    assert in_time(time.perf_counter() - started, 10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # KiB
    assert found.nnz > 1_000_000
