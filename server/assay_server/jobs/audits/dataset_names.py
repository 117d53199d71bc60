"""Names of what an audit found, from the dataset itself: descriptors, words and metadata, each with the share that holds it.

Made once, after the tests, over at most `PAIRS` pairs; no name is read by a test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from assay_server.audit.disparity import firing
from assay_server.audit.findings import TestTable, ViewKind
from assay_server.audit.matrices import Bools, Csr, Floats, Ints
from assay_server.audit.naming import Name, NameKind, name_condition, name_findings
from assay_server.audit.ngrams import DocumentFrequencies, Vocabulary, counts, words_in
from assay_server.audit.shards import PairShard
from assay_server.audit.watch import Check, go_on
from assay_server.descriptors import DESCRIPTORS
from assay_server.jobs.audits.texts import AuditTexts, streams
from assay_server.jobs.audits.types import NamedText
from assay_server.jobs.datasets.shards import DatasetShards
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.texts import TextShard, Words

PAIRS = 20_000  # evenly spaced; more would change no name
CONCEPTS = 512  # a view, the surest findings first
VALUES = 256  # of a metadata key; one with more is an id

# Words that say nothing alone. Of a phrase one word must not be among them.
_FUNCTION_WORDS = frozenset(
    """
    a about all also am an and any are as at be because been but by can could did do does for from get got had has have he her
    here him his how i i'd i'll i'm i've if in into is it it's its just like me more most my no not of on one or other our out
    own she should so some such than that that's the their them then there there's these they they're this those to too up us
    very was we were what when where which who will with would you you're your
    """.split()  # noqa: SIM905 - a list would be forty lines
)


def dataset_names(
    tables: Mapping[ViewKind, TestTable],
    shards: DatasetShards,
    texts: AuditTexts,
    datasets: Datasets,
    dataset: Dataset,
    *,
    tau: float,
    keep: int,
    check: Check = go_on,
) -> dict[str, NamedText]:
    """Names by concept and by condition, of findings' features and of conditions that the audit made; what has none is not there.

    Args:
        tables: what was found.
        shards: the features.
        texts: of the same dataset.
        datasets: where metadata is.
        dataset: which dataset.
        tau: share of a response's tokens from which on it expresses a feature.
        keep: rows of a table that are kept.
        check: called before each step; may raise to stop.

    Raises:
        ShardGone, DataLoss: a shard cannot be read.
    """
    concepts = _found_features(tables, keep)
    read = _Read.of(shards, texts, datasets, dataset, concepts, tau, check)
    names = dict[str, NamedText]()
    if concepts and len(read.rows):
        found = name_findings(
            read.presence,
            read.amounts,
            read.counts,
            read.words,
            np.tile(read.prompts, 2),
            read.vocabulary.words,
            read.telling(read.vocabulary),
            check=check,
        )
        names |= {name: _named(one, read) for name, one in zip(concepts, found, strict=True) if one.terms}
    for table in tables.values():
        kept = set(table.condition[:keep].tolist())
        for place, members in enumerate(table.members):
            check()
            if place in kept:
                inside = np.isin(read.rows, members)
                one = read.condition(inside)
                if one.terms:
                    names[table.conditions[place].name] = _named(one, read, of_prompts=True)
    return names


def _found_features(tables: Mapping[ViewKind, TestTable], keep: int) -> dict[str, int]:
    """Single features among the findings, by name, the surest first."""
    features = dict[str, int]()
    for table in tables.values():
        rows = np.flatnonzero(table.finding[:keep])
        own = dict.fromkeys(int(table.concept[row]) for row in rows)
        single = [table.concepts[concept] for concept in own if table.concepts[concept].name.startswith("feature/")]
        features |= {concept.name: concept.features[0] for concept in single[:CONCEPTS]}
    return features


@dataclass(frozen=True, eq=False)
class _Read:
    """What names are made from; responses are all chosen ones, then all rejected ones."""

    rows: Ints  # [pairs]
    prompts: Ints  # [pairs]
    presence: Csr  # [2 pairs, concepts]
    amounts: Floats  # [2 pairs, descriptors]
    counts: Csr  # [2 pairs, words]
    words: Ints  # [2 pairs]
    vocabulary: Vocabulary
    prompt_counts: Csr  # [pairs, words of prompts]
    prompt_words: Ints  # [pairs]
    prompt_vocabulary: Vocabulary
    metadata: Ints  # [pairs, keys]
    values: tuple[tuple[str, tuple[str, ...]], ...]  # each key with its values
    spelled: Mapping[int, str]

    @staticmethod
    def of(
        shards: DatasetShards,
        texts: AuditTexts,
        datasets: Datasets,
        dataset: Dataset,
        concepts: Mapping[str, int],
        tau: float,
        check: Check,
    ) -> _Read:
        """Read at most `PAIRS` usable pairs."""
        step = -(-shards.pairs // PAIRS) or 1
        features = np.array(list(concepts.values()), np.int64)
        picked, frequencies, spelled = list[_Picked](), [DocumentFrequencies() for _ in range(2)], dict[int, str]()
        for index, (shard, text) in enumerate(zip(shards, texts, strict=True)):
            check()
            keep = np.flatnonzero(shard.rows % step == 0)
            part = _Picked.of(shard, text, keep, features, tau)
            frequencies[0].add(streams(part.chosen))
            frequencies[0].add(streams(part.rejected))
            frequencies[1].add(streams(part.prompt))
            spelled |= text.spelled
            picked.append(part)
            part.metadata.extend(_metadata(datasets, dataset, index, part.rows))
        response, prompt = (one.vocabulary() for one in frequencies)
        metadata, values = _coded([one for part in picked for one in part.metadata])
        sides = [[part.chosen for part in picked], [part.rejected for part in picked], [part.prompt for part in picked]]
        books = (response, response, prompt)
        counted = [[counts(streams(one), book) for one in side] for side, book in zip(sides, books, strict=True)]
        sizes = [np.concatenate([words_in(streams(one)) for one in side]) for side in sides]
        return _Read(
            rows=np.concatenate([part.rows for part in picked]),
            prompts=np.concatenate([part.prompts for part in picked]),
            presence=_stack([part.fires[0] for part in picked] + [part.fires[1] for part in picked]),
            amounts=np.concatenate([part.amounts[0] for part in picked] + [part.amounts[1] for part in picked]),
            counts=_stack([*counted[0], *counted[1]]),
            words=np.concatenate(sizes[:2]),
            vocabulary=response,
            prompt_counts=_stack(counted[2]),
            prompt_words=sizes[2],
            prompt_vocabulary=prompt,
            metadata=metadata,
            values=values,
            spelled=spelled,
        )

    def telling(self, vocabulary: Vocabulary) -> Bools:
        """Which n-grams may stand alone, [words]."""
        return np.array([_tells([self.spelled[int(one)] for one in row if one]) for row in vocabulary.words], np.bool_)

    def condition(self, inside: Bools) -> Name:
        """The name of some pairs."""
        return name_condition(
            inside,
            self.metadata,
            self.prompt_counts,
            self.prompt_words,
            self.prompts,
            self.prompt_vocabulary.words,
            self.telling(self.prompt_vocabulary),
        )

    def said(self, term: int, *, of_prompts: bool) -> str:
        """An n-gram as text."""
        book = self.prompt_vocabulary if of_prompts else self.vocabulary
        return " ".join(self.spelled[int(one)] for one in book.words[term] if one)


@dataclass(frozen=True, eq=False)
class _Picked:
    """Some pairs of a shard."""

    rows: Ints
    prompts: Ints
    fires: tuple[Csr, Csr]
    amounts: tuple[Floats, Floats]
    chosen: Words
    rejected: Words
    prompt: Words
    metadata: list[Mapping[str, str]]

    @staticmethod
    def of(shard: PairShard, text: TextShard, keep: Ints, features: Ints, tau: float) -> _Picked:
        place = shard.rows[keep] - text.rows[0] if len(text.rows) else keep
        sides = (shard.freq_chosen, shard.freq_rejected)
        chosen, rejected, prompt = (_taken(text.words[name], place) for name in ("chosen", "rejected", "prompt"))
        return _Picked(
            rows=shard.rows[keep],
            prompts=shard.prompts[keep],
            fires=(firing(Csr(sides[0][keep][:, features]), tau), firing(Csr(sides[1][keep][:, features]), tau)),
            amounts=(text.chosen[place].astype(np.float64), text.rejected[place].astype(np.float64)),
            chosen=chosen,
            rejected=rejected,
            prompt=prompt,
            metadata=[],
        )


def _taken(texts: Words, place: Ints) -> Words:
    """Some of the texts."""
    starts = np.concatenate([[0], texts.ends[:-1]]).astype(np.int64)
    lengths = (texts.ends - starts)[place] if len(texts.ends) else np.zeros(0, np.int64)
    ends = np.cumsum(lengths).astype(np.int64)
    shift = np.repeat(starts[place] - np.concatenate([[0], ends[:-1]]), lengths) if len(place) else np.zeros(0, np.int64)
    return Words(texts.tokens[np.arange(int(lengths.sum())) + shift], ends)


def _metadata(datasets: Datasets, dataset: Dataset, shard: int, rows: Ints) -> Iterator[Mapping[str, str]]:
    if not dataset.metadata_keys:
        yield from ({} for _ in rows)
        return
    column = datasets.columns(dataset, shard, ("metadata",))["metadata"].to_pylist()
    start = dataset.shards[shard].start
    yield from (dict(column[row - start]) for row in rows.tolist())


def _coded(entries: list[Mapping[str, str]]) -> tuple[Ints, tuple[tuple[str, tuple[str, ...]], ...]]:
    """Each pair's value of each key as a number, −1 where it has none; keys with few values alone."""
    columns: list[Ints] = []
    keys: list[tuple[str, tuple[str, ...]]] = []
    for key in sorted({key for entry in entries for key in entry}):
        values = sorted({entry[key] for entry in entries if key in entry})
        if len(values) <= VALUES:
            code = {value: place for place, value in enumerate(values)}
            columns.append(np.array([code[entry[key]] if key in entry else -1 for entry in entries], np.int64))
            keys.append((key, tuple(values)))
    return np.stack(columns, axis=1) if columns else np.zeros((len(entries), 0), np.int64), tuple(keys)


def _named(name: Name, read: _Read, *, of_prompts: bool = False) -> NamedText:
    if name.kind is NameKind.DESCRIPTOR:
        return NamedText(DESCRIPTORS[name.terms[0]].noun, "descriptor", name.share)
    if name.kind is NameKind.METADATA:
        key, values = read.values[name.terms[0]]
        return NamedText(f"{key} = {values[name.terms[1]]}", "metadata", name.share)
    said = ", ".join(f"“{read.said(term, of_prompts=of_prompts)}”" for term in name.terms)
    return NamedText(said, "words", name.share)


def _tells(words: list[str]) -> bool:
    return any(word not in _FUNCTION_WORDS and (len(word) > 1 or not word.isascii()) for word in words)


def _stack(parts: list[Csr]) -> Csr:
    return Csr(sparse.vstack(parts, format="csr"))
