"""What an audit tests of the texts themselves: descriptors and words as columns beside the SAE's, and words by log-odds.

Columns are read once and kept: per pair a few hundred small integers. Which words are counted depends on how many responses hold
them, never on which was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from assay_server.audit.findings import TestTable
from assay_server.audit.matrices import Bools, Csr, Ints
from assay_server.audit.ngrams import LONGEST, DocumentFrequencies, Streams, Vocabulary, counts, vocabulary_of, words_in
from assay_server.audit.words import LogOdds, WordSums, log_odds, merge_word_sums, word_sums
from assay_server.descriptors import DESCRIPTORS, INDEX, NOUNS, present
from assay_server.descriptors.words import BOUNDARY, words
from assay_server.errors import DataLoss, NotFound
from assay_server.jobs.audits.types import NamedText
from assay_server.jobs.datasets.shards import ShardGone
from assay_server.store.datasets import Dataset
from assay_server.store.texts import Texts, TextShard, Words, word_hash


@dataclass(frozen=True, eq=False)
class TextColumns:
    """Descriptors and words of all pairs, usable or not. Implements ``jobs.datasets.shards.OtherColumns``.

    Attributes:
        names: "text/bold" (the response shows it), "text/more-bold" (it has more of it), "word/many thanks".
        values: which response shows it, int8 [pairs, names] in {-1, 0, 1}.
        strengths: how much more, float32, chosen minus rejected; of the same pattern and signs.
        vocabulary: the n-grams behind the words' names.
    """

    names: tuple[str, ...]
    values: Csr
    strengths: Csr
    vocabulary: Vocabulary

    @property
    def words(self) -> int:
        """The first column that is a word."""
        return len(self.names) - len(self.vocabulary.ids)

    def columns(self, rows: Ints) -> tuple[Csr, Csr]:
        """See ``OtherColumns``."""
        return Csr(self.values[rows].astype(np.int64)), Csr(self.strengths[rows])


class AuditTexts:
    """The texts of one dataset as an audit reads them. Blocks: call it in a thread.

    Args:
        texts: described whole.
        dataset: whose they are.
        check: called before each shard; what it raises ends the work.
    """

    def __init__(self, texts: Texts, dataset: Dataset, check: Callable[[], None]) -> None:
        self._texts = texts
        self._dataset = dataset
        self._check = check

    def __iter__(self) -> Iterator[TextShard]:
        """The shards in order. Raises ShardGone."""
        for index, entry in enumerate(self._dataset.shards):
            self._check()
            try:
                shard = self._texts.read(index, entry)
            except DataLoss:
                shard = None
            if shard is None:
                raise ShardGone("A shard of texts is gone.", details={"shard": index})
            yield shard

    def columns(self, *, descriptors: bool = True, with_words: bool = True) -> TextColumns:
        """Every descriptor, and the words that enough responses hold; or one of the two."""
        vocabulary, spelled = self._vocabulary(with_words)
        parts = [_differences(shard, vocabulary) for shard in self]
        names = [f"text/{one.id}" for one in DESCRIPTORS] + [f"text/more-{one.id}" for one in DESCRIPTORS] + spelled
        every = np.arange(len(names))
        twin = _twins([values for values, _ in parts], len(DESCRIPTORS)) if descriptors else every < 2 * len(DESCRIPTORS)
        kept = np.flatnonzero(~twin)
        return TextColumns(tuple(names[k] for k in kept), *_stacked(parts, kept), vocabulary)

    def column(self, name: str) -> TextColumns:
        """One concept that ``check_text_concept`` lets pass, whether or not an audit would test it."""
        kind, _, id = name.partition("/")
        if kind == "text":
            every = self.columns(with_words=False)
            # An amount that says what presence says stands under its name.
            place = every.names.index(name if name in every.names else f"text/{id.removeprefix('more-')}")
            return TextColumns((name,), Csr(every.values[:, [place]]), Csr(every.strengths[:, [place]]), every.vocabulary)
        hashes = [word_hash(word) for word in words(id)]
        vocabulary = vocabulary_of(np.array([hashes + [0] * (LONGEST - len(hashes))], np.uint64))
        parts = [_differences(shard, vocabulary) for shard in self]
        values, strengths = (Csr(Csr(sparse.vstack([part[k] for part in parts], format="csr"))[:, [-1]]) for k in range(2))
        return TextColumns((name,), values, strengths, vocabulary)

    def odds(self, vocabulary: Vocabulary, prompts: Ints, usable: NDArray[np.bool_]) -> LogOdds:
        """Chosen against rejected responses, [words]; prompt ids and usability of all pairs, [pairs]."""
        total: WordSums | None = None
        shared = _in_several(prompts, self._dataset)
        for shard in self:
            counted, sizes = _counted(shard, vocabulary)
            cells = np.repeat([0, 1], len(shard.rows)) * usable[np.tile(shard.rows, 2)] - ~usable[np.tile(shard.rows, 2)]
            sums = word_sums(counted, sizes, cells, np.tile(prompts[shard.rows], 2), open_prompts=shared)
            total = sums if total is None else merge_word_sums(total, sums)
        assert total is not None, "a dataset has a shard"
        return log_odds(total)

    def _vocabulary(self, with_words: bool) -> tuple[Vocabulary, list[str]]:
        frequencies, spelled = DocumentFrequencies(), dict[int, str]()
        if with_words:
            for shard in self:
                for side in ("chosen", "rejected"):
                    frequencies.add(streams(shard.words[side]))
        vocabulary = frequencies.vocabulary()
        wanted = set(np.unique(vocabulary.words).tolist()) - {0}
        for shard in self if wanted else ():
            spelled |= {hashed: word for hashed, word in shard.spelled.items() if hashed in wanted}
            if len(spelled) == len(wanted):
                break
        return vocabulary, ["word/" + " ".join(spelled[int(one)] for one in row if one) for row in vocabulary.words]


def check_text_concept(name: str, field: str) -> str:
    """The name of a concept of the text, in its one spelling.

    Raises:
        NotFound: no descriptor has this id, or a phrase has not one to three words.
    """
    kind, _, id = name.partition("/")
    if kind == "text":
        if id not in INDEX and id.removeprefix("more-") not in INDEX:
            raise NotFound(f"There is no text descriptor {id!r}; docs/descriptors.md lists all {len(INDEX)}.", field=field)
        return name
    said = words(id)
    if not 0 < len(said) <= LONGEST or BOUNDARY in said:
        raise NotFound(f"{name!r} is no phrase of one to {LONGEST} words.", field=field)
    return "word/" + " ".join(said)


def is_text_concept(name: str) -> bool:
    """Whether a concept is read from the text, without a model."""
    return name.startswith(("text/", "word/"))


def text_name(name: str) -> NamedText | None:
    """What a concept of the text is called; None for any other concept."""
    kind, _, id = name.partition("/")
    if kind == "word":
        return NamedText(f"“{id}”", "words")
    if kind != "text":
        return None
    noun = NOUNS.get(id) or NOUNS.get(id.removeprefix("more-"))
    return NamedText(noun if id in INDEX else f"more {noun}", "descriptor") if noun else None


def streams(texts: Words) -> Streams:
    """As the statistics take them."""
    return Streams(texts.tokens, texts.ends)


def joined_streams(first: Words, second: Words) -> Streams:
    """The texts of both, one behind the other."""
    ends = np.concatenate([first.ends, second.ends + len(first.tokens)])
    return Streams(np.concatenate([first.tokens, second.tokens]), ends)


def _counted(shard: TextShard, vocabulary: Vocabulary) -> tuple[Csr, Ints]:
    """N-grams and words of the chosen responses, then of the rejected ones."""
    both = joined_streams(shard.words["chosen"], shard.words["rejected"])
    return counts(both, vocabulary), words_in(both)


def _differences(shard: TextShard, vocabulary: Vocabulary) -> tuple[Csr, Csr]:
    shows = present(shard.chosen).astype(np.int8) - present(shard.rejected).astype(np.int8)
    amount = (shard.chosen - shard.rejected).astype(np.float32)
    counted, pairs = _counted(shard, vocabulary)[0], len(shard.rows)
    sides = [Csr(counted[:pairs]), Csr(counted[pairs:])]
    held = [Csr((np.ones(side.nnz, np.int8), side.indices, side.indptr), shape=side.shape) for side in sides]
    word = Csr(held[0] - held[1])
    word.eliminate_zeros()
    more = Csr(sides[0] - sides[1]).astype(np.float32).multiply(word.multiply(word))
    values = sparse.hstack([Csr(shows), Csr(np.sign(amount).astype(np.int8)), word], format="csr", dtype=np.int8)
    strengths = sparse.hstack([Csr(np.abs(shows) * amount), Csr(amount), Csr(more)], format="csr", dtype=np.float32)
    return Csr(values), Csr(strengths)


def _twins(parts: Sequence[Csr], descriptors: int) -> Bools:
    """Columns of amounts that say in every pair what presence says."""
    twin = np.zeros(parts[0].shape[1], np.bool_)
    twin[descriptors : 2 * descriptors] = True
    for values in parts:
        shown, more = (values[:, first : first + descriptors].toarray() for first in (0, descriptors))
        twin[descriptors : 2 * descriptors] &= (shown == more).all(axis=0)
    return twin


def _stacked(parts: list[tuple[Csr, Csr]], kept: Ints) -> tuple[Csr, Csr]:
    """Some columns of values and strengths of all pairs, which share one pattern in memory; empties the parts on its way."""
    values, strengths, columns = [np.zeros(0, np.int8)], [np.zeros(0, np.float32)], [np.zeros(0, np.int32)]
    sizes = [np.zeros(1, np.int64)]
    for place, (value, strength) in enumerate(parts):
        one, other = Csr(value[:, kept]), Csr(strength[:, kept])
        one.sort_indices()
        other.sort_indices()
        assert np.array_equal(one.indices, other.indices), "a difference has a sign and a size, or neither"
        values.append(one.data)
        strengths.append(other.data)
        columns.append(one.indices.astype(np.int32))
        sizes.append(np.diff(one.indptr).astype(np.int64))
        parts[place] = (Csr(value[:0]), Csr(strength[:0]))
    starts = np.cumsum(np.concatenate(sizes))
    if starts[-1] <= np.iinfo(np.int32).max:  # an array of 64 bits would widen the other
        starts = starts.astype(np.int32)
    shape, place_of = (len(starts) - 1, len(kept)), np.concatenate(columns)
    first = Csr((np.concatenate(values), place_of, starts), shape=shape)
    return first, Csr((np.concatenate(strengths), first.indices, first.indptr), shape=shape)


def _in_several(prompts: Ints, dataset: Dataset) -> Ints:
    shard = np.repeat(np.arange(len(dataset.shards)), [entry.pairs for entry in dataset.shards])
    pairs = np.unique(np.stack([prompts, shard], axis=1), axis=0)
    ids, shards = np.unique(pairs[:, 0], return_counts=True)
    return ids[shards > 1]


def with_odds(table: TestTable, odds: LogOdds) -> TestTable:
    """The table with the log-odds of its words; words are the last concepts."""
    before = np.zeros(len(table.concepts) - len(odds.delta))
    delta, z = (np.concatenate([before, part])[table.concept] for part in (odds.delta, odds.z))
    return replace(table, log_odds=delta, log_odds_z=z)
