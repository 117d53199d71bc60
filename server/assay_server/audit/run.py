"""An audit's statistics from end to end: the views over a dataset, and one stated hypothesis.

A first pass fits the nuisance model on all pairs, each view passes over the shards as often as it must, and one last pass a view
gathers evidence. The same shards, concepts, options and seed give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from assay_server.audit.evidence import EvidenceBlock, collect_evidence
from assay_server.audit.findings import AuditOptions, Condition, TestTable, ViewKind, resolved
from assay_server.audit.global_view import global_view
from assay_server.audit.passes import Progress, Survey, blocks, disparities, survey
from assay_server.audit.shards import ConceptSet, Shards


def run_views(
    shards: Shards,
    concepts: ConceptSet,
    options: AuditOptions,
    *,
    given: tuple[Condition, ...] = (),
    progress: Progress | None = None,
    known: Survey | None = None,
) -> dict[ViewKind, TestTable]:
    """The views that the options name, each a table in rank order with the evidence of its first `keep` rows.

    Args:
        shards: the dataset; read several times.
        concepts: what is tested.
        options: see `resolved` for defaults that depend on the data.
        given: conditions that the columns of `PairShard.groups` stand for, tested in the feature-conditioned view.
        progress: called with a phase, the pairs done in it, and all pairs. Raising in it ends the audit.
        known: what `survey` found, where the caller has it already.

    Raises:
        ValueError: names and columns of concepts, or `given` and the groups, do not match.
    """
    options = resolved(options, shards.pairs)
    known = known or survey(shards, progress)
    tables: dict[ViewKind, TestTable] = {}
    if ViewKind.GLOBAL in options.views:
        table = global_view(shards, concepts, options, known, progress)
        tables[ViewKind.GLOBAL] = _with_evidence(table, _disparity_blocks(shards, concepts, options, progress), options)
    return tables


def _disparity_blocks(
    shards: Shards, concepts: ConceptSet, options: AuditOptions, progress: Progress | None
) -> Iterator[EvidenceBlock]:
    for block in blocks(shards, "evidence", progress):
        yield EvidenceBlock(block.rows, disparities(block, concepts, options.tau).values(), None)


def _with_evidence(table: TestTable, parts: Iterator[EvidenceBlock], options: AuditOptions) -> TestTable:
    kept = slice(0, options.keep)
    if not options.evidence or not len(table.concept[kept]):
        return table
    decisive = table.raw if table.controlled is None else table.controlled
    direction = np.sign(decisive.estimate[kept])
    found = collect_evidence(parts, table.concept[kept], table.condition[kept], direction, options.evidence)
    return replace(table, evidence=found)
