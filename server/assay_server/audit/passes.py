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

from assay_server.audit.disparity import TAU, Disparity, disparity, firing_difference, presence_difference
from assay_server.audit.matrices import Csr, Floats, Ints, csr, scaled_rows
from assay_server.audit.maxima import Maxima, Presence
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
    scale: Floats  # [d_sae] median of the feature's non-zero maxima in responses; 1 where it never fires
    presence: Presence  # of features by their maxima

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


def survey(shards: Shards, progress: Progress | None = None, *, tau: float = TAU) -> Survey:
    """Read once what every view needs: rows, prompts, nuisances and the sizes of maxima; and fit the nuisance model on all pairs.

    ``tau``: the frequency up to which a feature is hidden from the frequency rule.
    """
    parts: list[tuple[Ints, Ints, Floats, Ints]] = []
    spans, maxima = np.zeros(shards.d_sae, np.int64), Maxima(shards.d_sae, tau)
    for block in blocks(shards, "survey", progress):
        parts.append((block.rows, block.prompts, block.nuisance, block.tokens))
        for fired in (block.freq_chosen, block.freq_rejected):
            spans += np.bincount(fired.indices, minlength=shards.d_sae)
        maxima.add(block.max_chosen, block.freq_chosen)
        maxima.add(block.max_rejected, block.freq_rejected)
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
        scale=maxima.scale(),
        presence=maxima.presence(),
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

    A feature by max counts where its maximum reaches its threshold, everything else by frequency and tau.

    Raises:
        ValueError: there are not as many names as columns.
    """
    directions = _directions(block.directions, concepts)
    columns = concepts.members.shape[1] + directions.shape[1]
    if len(concepts.names) != columns:
        raise ValueError(f"{len(concepts.names)} concepts are named, but {columns} columns are tested")
    by_frequency = concepts.members.shape[1] - len(concepts.thresholds)
    members, local = (Csr(concepts.members[:, part]) for part in (slice(by_frequency), slice(by_frequency, None)))
    found = disparity(firing_difference(block.freq_chosen, block.freq_rejected, tau), members)
    parts, sizes = [found.numerators], [found.sizes]
    if len(concepts.thresholds):
        parts.append(presence_difference(block.max_chosen, block.max_rejected, local, concepts.thresholds))
    if directions.shape[1]:
        parts.append(directions.astype(np.int64))
    if len(parts) == 1:
        return found
    sizes += [np.ones(part.shape[1], np.int64) for part in parts[1:]]
    return Disparity(csr(sparse.hstack(parts, format="csr")), np.concatenate(sizes))


def _directions(columns: Csr, concepts: ConceptSet) -> Csr:
    return columns if concepts.directions is None else Csr(columns[:, concepts.directions])


def strengths(block: PairShard, concepts: ConceptSet, scale: Floats) -> Csr:
    """Activation differences of every concept, float64 [pairs, concepts], positive where the chosen response is stronger.

    Of a concept made of features: the sum over them of (max_chosen − max_rejected) / scale. Of a direction: its column of
    `direction_strengths`; u where there is none.
    """
    difference = Csr(block.max_chosen.astype(np.float64) - block.max_rejected.astype(np.float64))
    members = concepts.members.astype(np.float64)
    made = csr(difference @ scaled_rows(members, 1.0 / scale))
    own = _directions(block.directions if block.direction_strengths is None else block.direction_strengths, concepts)
    if not own.shape[1]:
        return made
    return csr(sparse.hstack([made, own.astype(np.float64)], format="csr"))


def concept_subset(concepts: ConceptSet, columns: Ints) -> ConceptSet:
    """Some columns, in ascending order: what a view that tests few should compute.

    Raises:
        ValueError: the columns do not ascend.
    """
    if (np.diff(columns) <= 0).any():
        raise ValueError("columns must ascend")
    made = concepts.members.shape[1]
    others, made_of, first = columns[columns >= made] - made, columns[columns < made], made - len(concepts.thresholds)
    return ConceptSet(
        names=tuple(concepts.names[column] for column in columns),
        members=Csr(concepts.members[:, made_of]),
        thresholds=concepts.thresholds[made_of[made_of >= first] - first],
        directions=others if concepts.directions is None else concepts.directions[others],
        second_p=None if concepts.second_p is None else concepts.second_p[columns],
    )


def _cut(shard: PairShard, first: int, last: int) -> PairShard:
    if first == 0 and last == len(shard.rows):
        return shard
    held = {field.name: getattr(shard, field.name) for field in fields(shard)}
    return replace(shard, **{name: None if column is None else column[first:last] for name, column in held.items()})


def _joined(parts: list[PairShard]) -> PairShard:
    if len(parts) == 1:
        return parts[0]

    def join(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        if columns[0] is None:
            return None
        return np.concatenate(columns) if isinstance(columns[0], np.ndarray) else Csr(sparse.vstack(columns, format="csr"))

    return replace(parts[0], **{field.name: join(field.name) for field in fields(PairShard)})


def _in_several_blocks(prompts: Ints, size: int = BLOCK) -> Ints:
    block = np.arange(len(prompts)) // size
    order = np.lexsort((block, prompts))
    ordered, where = prompts[order], block[order]
    return np.unique(ordered[1:][(ordered[1:] == ordered[:-1]) & (where[1:] != where[:-1])])
