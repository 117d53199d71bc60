"""Which n-grams of one to three words a text holds, and the vocabulary of a dataset: words are integers here, never text.

A word is a 64-bit hash made elsewhere. An n-gram's id mixes the hashes of its words in order, so equal n-grams have equal ids
in every block and nothing has to be agreed on beforehand. Of 10^8 different n-grams two share an id with probability 3e-4.
The vocabulary is chosen by document frequency over all responses, which no label changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_server.audit.matrices import Bools, Csr, Ints

LONGEST = 3
MOST_NGRAMS = 20_000
LEAST_TEXTS = 10
# An n-gram in 95% of the responses of a shorter one that it contains says all that the shorter one says.
SAME_TEXTS = 0.95
BLOCK_WORDS = 1 << 19
TABLE_NGRAMS = 4_000_000

Hashes = NDArray[np.uint64]

# Added before each word of an n-gram, so that the same words at another length or in another order mix differently: the
# fractional parts of the golden ratio, of the square root of 3 and of that of 5.
_SALTS = np.array([0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B], np.uint64)


@dataclass(frozen=True, eq=False)
class Streams:
    """Texts as words, one behind the other; a 0 is the end of a sentence, which no n-gram crosses."""

    tokens: Hashes  # [total]
    ends: Ints  # [texts] where each text ends in `tokens`, ascending; the last is `total`


@dataclass(frozen=True, eq=False)
class Ngrams:
    """What some consecutive texts hold."""

    first: int  # the first of these texts in its stream
    ids: Hashes  # [n] ascending
    words: Hashes  # [n, 3] the words of each, 0 behind the last
    counts: Csr  # [texts, n] int32


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The n-grams that are counted, in ascending order of their ids."""

    ids: Hashes  # [n]
    words: Hashes  # [n, 3] the words of each, 0 behind the last
    texts: Ints  # [n] responses that hold it
    responses: int
    missed: int  # `texts` may fall short by up to this many; 0 unless the table of n-grams was pruned


class DocumentFrequencies:
    """How many responses hold each n-gram, over blocks of responses in any order.

    Up to `table` n-grams the counts are exact, whatever the blocks. A table that grows beyond is pruned to half its size by
    dropping the n-grams seen least (lossy counting, after Manku and Motwani 2002): at first those seen once. Each pruning adds
    the largest count dropped to `missed`; no count falls short by more. Which n-grams pass a bar of many times `missed` then
    depends on the blocks only for those within `missed` of the bar.
    """

    def __init__(self, table: int = TABLE_NGRAMS) -> None:
        self._table = table
        self._ids, self._words = np.zeros(0, np.uint64), np.zeros((0, LONGEST), np.uint64)
        self._texts = np.zeros(0, np.int64)
        self._responses = self._missed = 0

    def add(self, responses: Streams) -> None:
        """Count a block of responses, chosen and rejected alike.

        Raises:
            ValueError: see `ngrams`.
        """
        for part in ngrams(responses):
            self._merge(part)
            if len(self._ids) > self._table:
                self._prune()
        self._responses += len(responses.ends)

    def vocabulary(self, most: int = MOST_NGRAMS) -> Vocabulary:
        """The n-grams held by at least `least_texts` and at most 90% of the responses, without those that a longer one repeats.

        At most `most`, those in most responses; of equal ones the smaller id.
        """
        least = least_texts(self._responses)
        fits = np.flatnonzero((self._texts >= least) & (10 * self._texts <= 9 * self._responses))
        ids, words, texts = self._ids[fits], self._words[fits], self._texts[fits]
        kept = np.flatnonzero(~_repeated(ids, words, texts))
        kept = np.sort(kept[np.argsort(-texts[kept], kind="stable")[:most]])
        return Vocabulary(ids[kept], words[kept], texts[kept], self._responses, self._missed)

    def _merge(self, part: Ngrams) -> None:
        texts = np.bincount(part.counts.indices, minlength=len(part.ids)).astype(np.int64)
        place = np.searchsorted(self._ids, part.ids)
        known = np.zeros(len(part.ids), np.bool_)
        inside = place < len(self._ids)
        known[inside] = self._ids[place[inside]] == part.ids[inside]
        self._texts[place[known]] += texts[known]
        new = ~known
        self._ids = np.insert(self._ids, place[new], part.ids[new])
        self._words = np.insert(self._words, place[new], part.words[new], axis=0)
        self._texts = np.insert(self._texts, place[new], texts[new])

    def _prune(self) -> None:
        at_most = np.cumsum(np.bincount(self._texts))
        bar = max(1, int(np.searchsorted(at_most, len(self._ids) - self._table // 2)))
        kept = self._texts > bar
        self._ids, self._words, self._texts = self._ids[kept], self._words[kept], self._texts[kept]
        self._missed += bar


def vocabulary_of(words: Hashes) -> Vocabulary:
    """Some n-grams by their words, [n, 3] with 0 behind the last, in ascending order of their ids; nothing is known of texts."""
    ids = np.zeros(len(words), np.uint64)
    for size in range(1, LONGEST + 1):
        here = np.flatnonzero((words != 0).sum(axis=1) == size)
        ids[here] = _mixed([words[here, k] for k in range(size)])
    order = np.argsort(ids)
    return Vocabulary(ids[order], words[order], np.zeros(len(words), np.int64), 0, 0)


def least_texts(responses: int) -> int:
    """Responses that an n-gram must occur in to be counted: 10, or 0.2% if that is more."""
    return max(LEAST_TEXTS, -(-responses // 500))


def ngrams(streams: Streams, *, block_words: int = BLOCK_WORDS) -> Iterator[Ngrams]:
    """The n-grams of all texts, in blocks of whole texts that hold at most `block_words` words each, or one longer text.

    Raises:
        ValueError: the ends do not ascend, or do not end where the words end.
    """
    for first, last, tokens, ends in _blocks(streams, block_words):
        ids, starts, lengths = _windows(tokens, ends)
        found, where, place = np.unique(ids, return_index=True, return_inverse=True)
        text = np.repeat(np.arange(last - first), np.diff(ends, prepend=0))[starts]
        counts = Csr((np.ones(len(ids), np.int32), (text, place)), shape=(last - first, len(found)))
        counts.sum_duplicates()
        padded = np.concatenate([tokens, np.zeros(LONGEST, np.uint64)])
        words = np.stack([padded[starts[where] + k] for k in range(LONGEST)], axis=1)
        words[np.arange(LONGEST) >= lengths[where][:, None]] = 0
        yield Ngrams(first, found, words, counts)


def counts(streams: Streams, vocabulary: Vocabulary, *, block_words: int = BLOCK_WORDS) -> Csr:
    """How often each text holds each n-gram of the vocabulary, int32 [texts, n].

    Raises:
        ValueError: see `ngrams`.
    """
    values, columns, rows = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
    maybe = _filter(vocabulary.ids)
    for first, last, tokens, ends in _blocks(streams, block_words):
        ids, starts, _ = _windows(tokens, ends)
        likely = np.flatnonzero(maybe[ids >> np.uint64(64 - _FILTER_BITS)])
        ids, starts = ids[likely], starts[likely]
        place = np.minimum(np.searchsorted(vocabulary.ids, ids), max(len(vocabulary.ids) - 1, 0))
        held = vocabulary.ids[place] == ids if len(vocabulary.ids) else np.zeros(len(ids), np.bool_)
        text = np.repeat(np.arange(last - first), np.diff(ends, prepend=0))[starts[held]]
        ones = np.ones(len(text), np.int32)
        part = Csr((ones, (text, place[held])), shape=(last - first, len(vocabulary.ids)))
        part.sum_duplicates()
        values.append(part.data)
        columns.append(part.indices.astype(np.int32))
        rows.append(np.diff(part.indptr).astype(np.int64))
    arrays = (np.concatenate(values), np.concatenate(columns), np.cumsum(np.concatenate(rows)))
    return Csr(arrays, shape=(len(streams.ends), len(vocabulary.ids)))


def words_in(streams: Streams) -> Ints:
    """Words of each text, sentence ends not counted, int64 [texts].

    Raises:
        ValueError: see `ngrams`.
    """
    _check(streams)
    before = np.concatenate([[0], np.cumsum(streams.tokens != 0)]).astype(np.int64)
    return np.diff(before[streams.ends], prepend=0)


def contains(longer: Hashes, shorter: Hashes) -> bool:
    """Whether the words of `shorter` [3] stand in `longer` [3] one behind the other; an n-gram contains itself."""
    outer, inner = (words[words != 0] for words in (longer, shorter))
    return any(np.array_equal(outer[k : k + len(inner)], inner) for k in range(len(outer) - len(inner) + 1))


_FILTER_BITS = 20


def _filter(ids: Hashes) -> Bools:
    """Which first bits any of the ids has: turns most other n-grams away before a search."""
    seen = np.zeros(1 << _FILTER_BITS, np.bool_)
    seen[ids >> np.uint64(64 - _FILTER_BITS)] = True
    return seen


def _repeated(ids: Hashes, words: Hashes, texts: Ints) -> Bools:
    """Which n-grams a longer one of them contains that occurs in (nearly) the same texts, [n]."""
    longest = np.zeros(len(ids), np.int64)  # texts of the most frequent longer n-gram around each
    size = (words != 0).sum(axis=1)
    for outer in range(2, LONGEST + 1):
        around = np.flatnonzero(size == outer)
        for inner in range(1, outer):
            for start in range(outer - inner + 1):
                sought = _mixed([words[around, start + k] for k in range(inner)])
                place = np.minimum(np.searchsorted(ids, sought), max(len(ids) - 1, 0))
                hit = ids[place] == sought if len(ids) else np.zeros(len(sought), np.bool_)
                np.maximum.at(longest, place[hit], texts[around[hit]])
    return longest >= SAME_TEXTS * np.maximum(texts, 1)


def _check(streams: Streams) -> None:
    ends = streams.ends
    last = int(ends[-1]) if len(ends) else 0
    if last != len(streams.tokens) or (np.diff(ends, prepend=0) < 0).any():
        raise ValueError(f"ends must ascend to the number of words, got {last} for {len(streams.tokens)} words")


def _blocks(streams: Streams, block_words: int) -> Iterator[tuple[int, int, Hashes, Ints]]:
    """First text, text behind the last, their words, and their ends in those."""
    _check(streams)
    first, start = 0, 0
    while first < len(streams.ends):
        last = max(first + 1, int(np.searchsorted(streams.ends, start + block_words, side="right")))
        stop = int(streams.ends[last - 1])
        yield first, last, streams.tokens[start:stop], streams.ends[first:last] - start
        first, start = last, stop


def _windows(tokens: Hashes, ends: Ints) -> tuple[Hashes, Ints, Ints]:
    """Every occurrence of an n-gram: its id, where it starts, and its number of words, [occurrences]."""
    crossing = np.zeros(len(tokens) + 1, np.bool_)
    crossing[ends] = True
    whole = tokens != 0
    mixed = np.zeros(len(tokens), np.uint64)
    found: list[tuple[Hashes, Ints, Ints]] = []
    for k in range(min(LONGEST, len(tokens))):
        if k:
            whole = whole[:-1] & (tokens[k:] != 0) & ~crossing[k : len(tokens)]
        mixed = _mix((mixed[: len(tokens) - k] + _SALTS[k]) ^ tokens[k:])
        starts = np.flatnonzero(whole).astype(np.int64)
        found.append((np.maximum(mixed[starts], np.uint64(1)), starts, np.full(len(starts), k + 1, np.int64)))
    if not found:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    ids, starts, lengths = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return ids, starts, lengths


def _mixed(words: list[Hashes]) -> Hashes:
    """The ids of n-grams given word by word."""
    mixed = np.zeros(len(words[0]), np.uint64)
    for salt, word in zip(_SALTS, words, strict=False):
        mixed = _mix((mixed + salt) ^ word)
    return np.maximum(mixed, np.uint64(1))


def _mix(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): one to one, and every bit depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
