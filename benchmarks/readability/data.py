"""Pairs as an audit reads them: their texts as descriptors and words, and the SAE's features where a model reads them.

Invariants:
- Columns of text come from the job's own `AuditTexts`; a response is read once, and relabelling or planting only moves readings.
- Without a model (`Subject.NONE`) no SAE feature is tested, and length is counted in the model's own tokens all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

import numpy as np
from assay_server.audit.findings import AuditOptions, Condition, TestTable, ViewKind
from assay_server.audit.matrices import Bools, Csr, Ints
from assay_server.audit.run import run_views
from assay_server.audit.shards import ConceptSet, PairShard
from assay_server.descriptors import amounts
from assay_server.descriptors.words import words
from assay_server.jobs.audits.texts import AuditTexts, TextColumns
from assay_server.store.datasets import Dataset, ShardEntry
from assay_server.store.texts import Texts, TextShard, Words, asked, word_hash
from assay_server.subject.types import Pair, PromptedResponse
from numpy.typing import NDArray

from benchmarks.common import MODEL
from benchmarks.validity.concepts import concept_set, response_clusters
from benchmarks.validity.data import Features, Shards, Spans, numbered, prompt_text, read, read_responses

DTYPE = "float32"  # as fast as any on a CPU without bfloat16


class Subject(StrEnum):
    """What reads features."""

    NONE = "none"
    DEMO = "demo"

    @property
    def suffix(self) -> str:
        """Of the names of its results."""
        return "" if self is Subject.DEMO else "-text"


@dataclass(frozen=True, eq=False)
class Reading:
    """One response's text."""

    amounts: NDArray[np.float32]  # [descriptors]
    tokens: NDArray[np.uint64]  # hashes of its words


@dataclass(frozen=True, eq=False)
class Data:
    """n pairs; what differs between datasets is only which readings stand where."""

    features: Features
    chosen: tuple[Reading, ...]
    rejected: tuple[Reading, ...]

    def __len__(self) -> int:
        return len(self.chosen)

    def swapped(self, where: Bools) -> Data:
        """Exchange chosen and rejected where `where` [n] holds."""
        both = list(zip(self.chosen, self.rejected, where, strict=True))
        return Data(
            self.features.swapped(where),
            tuple(no if turn else yes for yes, no, turn in both),
            tuple(yes if turn else no for yes, no, turn in both),
        )

    def replaced(self, rows: Ints, written: Written) -> Data:
        """The same pairs with the chosen responses at `rows` as written; `rows` are some of `written.rows`."""
        place = np.searchsorted(written.rows, rows)
        chosen = list(self.chosen)
        for row, at in zip(rows.tolist(), place.tolist(), strict=True):
            chosen[row] = written.readings[at]
        return replace(self, features=self.features.replaced(rows, written.spans.take(place)), chosen=tuple(chosen))


@dataclass(frozen=True, eq=False)
class Written:
    """Other chosen responses for some pairs, ascending by row."""

    rows: Ints
    readings: tuple[Reading, ...]
    spans: Spans


def read_data(pairs: Sequence[Pair], subject: Subject, say: Callable[[str], None] = lambda _: None) -> Data:
    """The pairs as they are."""
    sides = [[pair.chosen for pair in pairs], [pair.rejected for pair in pairs]]
    if subject is Subject.DEMO:
        features = read(pairs, dtype=DTYPE, say=say)
    else:
        prompts = numbered([str(pair.prompt) for pair in pairs])
        features = Features(_unread([prompt_text(pair) for pair in pairs]), _unread(sides[0]), _unread(sides[1]), prompts)
    readings = [tuple(_reading(asked(p.prompt), text) for p, text in zip(pairs, side, strict=True)) for side in sides]
    return Data(features, readings[0], readings[1])


def write(
    pairs: Sequence[Pair], rows: Ints, edit: Callable[[str], str], subject: Subject, say: Callable[[str], None] = lambda _: None
) -> Written:
    """The chosen responses at `rows` (ascending), edited and read."""
    texts = [edit(pairs[row].chosen) for row in rows.tolist()]
    items = [PromptedResponse(pairs[row].prompt, text) for row, text in zip(rows.tolist(), texts, strict=True)]
    spans = read_responses(items, dtype=DTYPE, say=say) if subject is Subject.DEMO else _unread(texts)
    return Written(rows, tuple(_reading(asked(item.prompt), item.response) for item in items), spans)


def concepts_of(data: Data) -> ConceptSet:
    """The SAE's features and their clusters, with all responses as the reference corpus; nothing where no model read."""
    if not data.features.d_sae:
        return ConceptSet((), Csr((0, 0), dtype=np.int64))
    return concept_set(data.features, response_clusters(data.features))


def run(
    data: Data,
    concepts: ConceptSet,
    options: AuditOptions,
    *,
    given: tuple[Condition, ...] = (),
    groups: Csr | None = None,
) -> dict[ViewKind, TestTable]:
    """An audit of the pairs: the SAE's concepts, then descriptors, then words that pass the log-odds test too."""
    texts = audit_texts(data)
    columns = texts.columns()
    odds = texts.odds(columns.vocabulary, data.features.prompts, np.ones(len(data), np.bool_))
    names = (*concepts.names, *columns.names)
    second = np.concatenate([np.zeros(len(names) - len(odds.p)), odds.p])
    held = Csr((len(data), 0), dtype=np.int64) if groups is None else groups
    shards = _WithTexts(Shards(data.features), columns, held)
    return run_views(shards, replace(concepts, names=names, second_p=second), options, given=given)


@dataclass(frozen=True, eq=False)
class _WithTexts:
    """Shards with columns of text and given conditions beside the features."""

    shards: Shards
    columns: TextColumns
    groups: Csr

    @property
    def pairs(self) -> int:
        return self.shards.pairs

    @property
    def d_sae(self) -> int:
        return self.shards.d_sae

    def __iter__(self) -> Iterator[PairShard]:
        for shard in self.shards:
            values, strengths = self.columns.columns(shard.rows)
            yield replace(shard, directions=values, direction_strengths=strengths, groups=Csr(self.groups[shard.rows]))


class _Held(Texts):
    """One shard of texts in memory."""

    def __init__(self, shard: TextShard) -> None:
        self._shard = shard

    def read(self, shard: int, entry: ShardEntry) -> TextShard:
        """The shard."""
        return self._shard


def audit_texts(data: Data) -> AuditTexts:
    """The texts of the pairs as a job reads them, from memory."""
    sides = {"chosen": data.chosen, "rejected": data.rejected}
    shard = TextShard(
        rows=np.arange(len(data)),
        chosen=np.stack([one.amounts for one in data.chosen]),
        rejected=np.stack([one.amounts for one in data.rejected]),
        words={name: _stream(side) for name, side in sides.items()},
        spelled=_SPELLED,
    )
    dataset = Dataset("", "", "", len(data), 0, (), 0.0, (ShardEntry(0, len(data), ""),))
    return AuditTexts(_Held(shard), dataset, lambda: None)


def _stream(readings: Sequence[Reading]) -> Words:
    ends = np.cumsum([len(one.tokens) for one in readings]).astype(np.int64)
    return Words(np.concatenate([one.tokens for one in readings]), ends)


_SPELLED: dict[int, str] = {0: ""}


@lru_cache(maxsize=1 << 16)
def _reading(prompt: str, response: str) -> Reading:
    spelled = words(response)
    hashes = [word_hash(word) for word in spelled]
    _SPELLED.update(zip(hashes, spelled, strict=True))
    return Reading(np.array(amounts(prompt, [response])[0], np.float32), np.array(hashes, np.uint64))


def _unread(texts: Sequence[str]) -> Spans:
    """Their tokens alone."""
    counted = np.array([max(1, len(ids)) for ids in _tokenizer()(list(texts), add_special_tokens=False)["input_ids"]], np.int64)
    none = Csr((len(texts), 0), dtype=np.float32)
    return Spans(none, none, counted, np.zeros((len(texts), 0)))


@cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(MODEL))
