"""Passes over a dataset: pairs in blocks of one size, independent of its shards, and what a first pass gathers.

Every statistic is computed block by block, and blocks are cut by a pair's place, not by the shard that held it: a dataset gives
the same bits however it was split, and neither tiny nor huge shards cost time or memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from assay_server.audit.disparity import Disparity, disparity, firing_difference
from assay_server.audit.matrices import Csr, Floats, Ints, csr
from assay_server.audit.nuisance import NuisanceFit, fit_nuisance
from assay_server.audit.shards import ConceptSet, PairShard, Shards
from assay_server.audit.watch import Progress

BLOCK = 2_048


@dataclass(frozen=True, eq=False)
class Survey:
    """What is kept in memory of a whole dataset: a few numbers per pair."""

    rows: Ints  # [pairs] row in the dataset
    prompts: Ints  # [pairs]
    nuisance: Floats  # [pairs, nuisances]
    fit: NuisanceFit | None  # None where nothing is controlled for
    open_prompts: Ints  # prompts whose pairs lie in more than one block
    d_sae: int
    tokens: Ints  # [pairs, 3] of the prompt, chosen and rejected spans
    response_spans: Ints  # [d_sae] chosen and rejected responses in which the feature fires

    @property
    def pairs(self) -> int:
        """Usable pairs."""
        return len(self.rows)

    @cached_property
    def order(self) -> Ints:
        """Places of the pairs in order of their rows, [pairs]."""
        return np.argsort(self.rows, kind="stable").astype(np.int64)

    @property
    def nuisance_accuracy(self) -> float:
        """Share of pairs whose preference the nuisances get right, ties counting half; ½ where nothing is fitted."""
        if self.fit is None or not self.pairs:
            return 0.5
        margins = self.nuisance @ self.fit.gamma
        return float(((margins > 0) + 0.5 * (margins == 0)).mean())


def survey(shards: Shards, progress: Progress | None = None) -> Survey:
    """Read once what every view needs: rows, prompts and nuisances; and fit the nuisance model on all pairs."""
    parts: list[tuple[Ints, Ints, Floats, Ints]] = []
    spans = np.zeros(shards.d_sae, np.int64)
    for block in blocks(shards, "survey", progress):
        parts.append((block.rows, block.prompts, block.nuisance, block.tokens))
        for fired in (block.freq_chosen, block.freq_rejected):
            spans += np.bincount(fired.indices, minlength=shards.d_sae)
    empty = np.zeros(0, np.int64)
    rows = np.concatenate([empty, *(part[0] for part in parts)])
    prompts = np.concatenate([empty, *(part[1] for part in parts)])
    nuisance = np.concatenate([part[2] for part in parts]) if parts else np.zeros((0, 0))
    return Survey(
        rows=rows,
        prompts=prompts,
        nuisance=np.asarray(nuisance, np.float64),
        fit=fit_nuisance(nuisance) if nuisance.shape[1] else None,
        open_prompts=_in_several_blocks(prompts),
        d_sae=shards.d_sae,
        tokens=np.concatenate([np.zeros((0, 3), np.int64), *(part[3] for part in parts)]),
        response_spans=spans,
    )


def blocks(shards: Shards, phase: str = "", progress: Progress | None = None, *, size: int = BLOCK) -> Iterator[PairShard]:
    """The pairs in order, `size` at a time (the last block may hold fewer); empty shards leave no trace."""
    waiting: list[PairShard] = []
    count = done = 0
    for shard in shards:
        first, pairs = 0, len(shard.rows)
        while first < pairs:
            piece = _cut(shard, first, min(pairs, first + size - count))
            waiting.append(piece)
            first, count = first + len(piece.rows), count + len(piece.rows)
            if count == size:
                yield _joined(waiting)
                waiting, count, done = [], 0, done + size
                if progress:
                    progress(phase, done, shards.pairs)
    if waiting:
        yield _joined(waiting)
    if progress:
        progress(phase, shards.pairs, shards.pairs)


def places(block: PairShard, known: Survey) -> Ints:
    """Where each pair of a block stands among the pairs of the survey, [pairs]."""
    return known.order[np.searchsorted(known.rows, block.rows, sorter=known.order)]


def disparities(block: PairShard, concepts: ConceptSet, tau: float) -> Disparity:
    """u of every concept: those made of features first, then directions, whose size is 1.

    Raises:
        ValueError: there are not as many names as columns.
    """
    directions = block.directions if concepts.directions is None else Csr(block.directions[:, concepts.directions])
    columns = concepts.members.shape[1] + directions.shape[1]
    if len(concepts.names) != columns:
        raise ValueError(f"{len(concepts.names)} concepts are named, but {columns} columns are tested")
    found = disparity(firing_difference(block.freq_chosen, block.freq_rejected, tau), concepts.members)
    if not directions.shape[1]:
        return found
    both = csr(sparse.hstack([found.numerators, directions.astype(np.int64)], format="csr"))
    return Disparity(both, np.concatenate([found.sizes, np.ones(directions.shape[1], np.int64)]))


def concept_subset(concepts: ConceptSet, columns: Ints) -> ConceptSet:
    """Some columns, in ascending order: what a view that tests few should compute.

    Raises:
        ValueError: the columns do not ascend.
    """
    made = concepts.members.shape[1]
    if (np.diff(columns) <= 0).any():
        raise ValueError("columns must ascend")
    others = columns[columns >= made] - made
    names = tuple(concepts.names[column] for column in columns)
    return ConceptSet(
        names,
        Csr(concepts.members[:, columns[columns < made]]),
        others if concepts.directions is None else concepts.directions[others],
        None if concepts.second_p is None else concepts.second_p[columns],
    )


def _cut(shard: PairShard, first: int, last: int) -> PairShard:
    if first == 0 and last == len(shard.rows):
        return shard
    return replace(shard, **{field.name: getattr(shard, field.name)[first:last] for field in fields(shard)})


def _joined(parts: list[PairShard]) -> PairShard:
    if len(parts) == 1:
        return parts[0]

    def join(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        return np.concatenate(columns) if isinstance(columns[0], np.ndarray) else Csr(sparse.vstack(columns, format="csr"))

    return replace(parts[0], **{field.name: join(field.name) for field in fields(PairShard)})


def _in_several_blocks(prompts: Ints, size: int = BLOCK) -> Ints:
    block = np.arange(len(prompts)) // size
    order = np.lexsort((block, prompts))
    ordered, where = prompts[order], block[order]
    return np.unique(ordered[1:][(ordered[1:] == ordered[:-1]) & (where[1:] != where[:-1])])
