"""A stored dataset's features as the statistics read them: usable pairs only, one shard in memory at a time.

Everything that makes a shard comes from files, so that a second pass, or one after a crash, reads the same bits. Frequencies are
counts over tokens, divided in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from assay_server.audit.matrices import Csr, Floats, Ints
from assay_server.audit.shards import PairShard
from assay_server.errors import AssayError
from assay_server.store.datasets import Dataset, Datasets
from assay_server.store.features import DirectionSet, Features, FeatureShard, SpanColumns
from assay_server.subject.types import SpanName


class ShardGone(AssayError):
    """A shard of features was lost or damaged between scoring and reading; scoring it again mends it."""

    default_reason = "SHARD_GONE"


class Groups(Protocol):
    """Conditions that are known beforehand."""

    @property
    def count(self) -> int:
        """How many."""
        ...

    @property
    def metadata_keys(self) -> tuple[str, ...]:
        """Keys that they look at."""
        ...

    def columns(self, rows: Ints, metadata: Sequence[Mapping[str, str]]) -> Csr:
        """Which pairs of a shard are in each condition, 0/1 int64 [pairs, conditions].

        Args:
            rows: the pairs' rows in the dataset.
            metadata: of each pair; empty if no keys are needed.
        """
        ...


class NoGroups:
    """None."""

    count = 0
    metadata_keys: tuple[str, ...] = ()

    def columns(self, rows: Ints, metadata: Sequence[Mapping[str, str]]) -> Csr:
        """No column."""
        return Csr((len(rows), 0), dtype=np.int64)


class OtherColumns(Protocol):
    """Concepts that are read from something else than features."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        ...

    def columns(self, rows: Ints) -> tuple[Csr, Csr]:
        """Some pairs by their rows: which response shows each concept, int64 [pairs, names] in {-1, 0, 1}; and how much more."""
        ...


class NoColumns:
    """None."""

    names: tuple[str, ...] = ()

    def columns(self, rows: Ints) -> tuple[Csr, Csr]:
        """No column."""
        return Csr((len(rows), 0), dtype=np.int64), Csr((len(rows), 0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class JoinedColumns:
    """Several providers, one behind the other."""

    parts: tuple[OtherColumns, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """See ``OtherColumns``."""
        return tuple(name for part in self.parts for name in part.names)

    def columns(self, rows: Ints) -> tuple[Csr, Csr]:
        """See ``OtherColumns``."""
        values, strengths = zip(*(part.columns(rows) for part in (NoColumns(), *self.parts)), strict=True)
        return Csr(sparse.hstack(values, format="csr")), Csr(sparse.hstack(strengths, format="csr"))


class NuisanceColumns(Protocol):
    """Differences between the responses of a pair that effects are controlled for."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        ...

    def columns(self, shard: FeatureShard) -> Floats:
        """x of a shard's pairs, chosen minus rejected, float64 [pairs, names]; of usable pairs alone (METHOD.md §3.5)."""
        ...


class LengthColumn:
    """The difference of log token counts."""

    names: tuple[str, ...] = ("log_tokens",)

    def columns(self, shard: FeatureShard) -> Floats:
        """See ``NuisanceColumns``."""
        chosen, rejected = (np.log(np.maximum(1, shard.spans[side].tokens)) for side in (SpanName.CHOSEN, SpanName.REJECTED))
        return (chosen - rejected)[:, None]


@dataclass(frozen=True, eq=False)
class KnownColumns:
    """Differences that are known of every pair.

    Attributes:
        names: of the columns.
        values: float64 [pairs of the dataset, names].
    """

    names: tuple[str, ...]
    values: Floats

    def columns(self, shard: FeatureShard) -> Floats:
        """See ``NuisanceColumns``."""
        return self.values[shard.rows]


@dataclass(frozen=True, eq=False)
class ShardSpec:
    """What is read beside the features.

    Attributes:
        nuisances: what is controlled for, in the order of its columns.
        directions: concepts that are directions.
        thresholds: the score above which a response shows each of them.
        groups: conditions that are known beforehand.
        others: concepts that stand behind the directions.
    """

    nuisances: tuple[NuisanceColumns, ...] = ()
    directions: DirectionSet = field(default_factory=lambda: DirectionSet(np.zeros((0, 0), np.float32)))
    thresholds: tuple[float, ...] = ()
    groups: Groups = field(default_factory=NoGroups)
    others: OtherColumns = field(default_factory=NoColumns)


@dataclass(frozen=True, eq=False)
class DatasetShards:
    """Implements ``audit.shards.Shards``.

    Args:
        datasets: where pairs are, for metadata.
        dataset: which pairs.
        features: of that dataset; every shard is stored.
        d_sae: SAE features.
        pairs: usable pairs.
        spec: what is read beside the features.
        check: called before each shard; what it raises ends the pass.
    """

    datasets: Datasets
    dataset: Dataset
    features: Features
    d_sae: int
    pairs: int
    spec: ShardSpec = field(default_factory=ShardSpec)
    check: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[PairShard]:
        """The shards in order. Raises ShardGone, and DataLoss where metadata cannot be read."""
        for index in range(len(self.dataset.shards)):
            self.check()
            yield self._shard(index)

    def feature_shards(self) -> Iterator[FeatureShard]:
        """What is stored of each shard, unusable pairs included. Raises ShardGone."""
        for index in range(len(self.dataset.shards)):
            self.check()
            yield self._stored(index)

    def _stored(self, index: int) -> FeatureShard:
        shard = self.features.read(index, self.dataset.shards[index])
        if shard is None:
            raise _gone(index)
        return shard

    def _shard(self, index: int) -> PairShard:
        shard = self._stored(index)
        keep = np.flatnonzero(shard.usable)
        chosen, rejected = shard.spans[SpanName.CHOSEN], shard.spans[SpanName.REJECTED]
        prompt = shard.spans[SpanName.PROMPT]
        tokens = np.stack([prompt.tokens, chosen.tokens, rejected.tokens], axis=1)[keep]
        directions, strengths = self._columns(index, shard.rows, keep)
        return PairShard(
            rows=shard.rows[keep],
            prompts=shard.prompts[keep],
            tokens=tokens,
            freq_chosen=self._matrix(chosen, frequencies(chosen), keep),
            freq_rejected=self._matrix(rejected, frequencies(rejected), keep),
            freq_prompt=self._matrix(prompt, frequencies(prompt), keep),
            max_chosen=self._matrix(chosen, chosen.max, keep),
            max_rejected=self._matrix(rejected, rejected.max, keep),
            nuisance=_nuisance(shard, self.spec.nuisances)[keep],
            directions=directions,
            groups=self._groups(index, shard.rows, keep),
            direction_strengths=strengths,
        )

    def _matrix(self, span: SpanColumns, values: NDArray[np.float32], keep: Ints) -> Csr:
        matrix = Csr((values, span.features, span.indptr), shape=(len(span.tokens), self.d_sae))
        return matrix if len(keep) == len(span.tokens) else matrix[keep]

    def _columns(self, index: int, rows: Ints, keep: Ints) -> tuple[Csr, Csr]:
        own, (others, more) = self._directions(index, keep), self.spec.others.columns(rows[keep])
        return Csr(sparse.hstack([own, others], format="csr")), Csr(sparse.hstack([own, more], format="csr"))

    def _directions(self, index: int, keep: Ints) -> Csr:
        if not self.spec.thresholds:
            return Csr((len(keep), 0), dtype=np.int64)
        scores = self.features.read_directions(self.spec.directions, index, self.dataset.shards[index])
        if scores is None:
            raise _gone(index)
        chosen, rejected = [(side[keep] > np.array(self.spec.thresholds)).astype(np.int64) for side in scores]
        return Csr(chosen - rejected)

    def _groups(self, index: int, rows: Ints, keep: Ints) -> Csr:
        metadata: list[Mapping[str, str]] = []
        if self.spec.groups.metadata_keys:
            column = self.datasets.columns(self.dataset, index, ("metadata",))["metadata"].to_pylist()
            metadata = [dict(column[place]) for place in keep]
        return self.spec.groups.columns(rows[keep], metadata)


def frequencies(span: SpanColumns) -> NDArray[np.float32]:
    """Share of the span's tokens on which each of its features fires, [nnz]."""
    tokens = np.repeat(np.maximum(1, span.tokens), np.diff(span.indptr))
    return (span.count / tokens).astype(np.float32)


def _nuisance(shard: FeatureShard, nuisances: Sequence[NuisanceColumns]) -> Floats:
    nothing = np.zeros((len(shard.rows), 0))
    return np.concatenate([nothing, *(one.columns(shard) for one in nuisances)], axis=1)


def _gone(index: int) -> ShardGone:
    return ShardGone(f"Shard {index} of the features is missing or damaged; it has to be scored again.", details={"shard": index})
