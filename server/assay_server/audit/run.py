"""An audit's statistics from end to end: the views over a dataset, and one stated hypothesis.

A first pass fits the nuisance model on all pairs, each view passes over the shards as often as it must, and a last pass gathers
the evidence and the lessons of all views. The same shards, concepts, options and seed give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from assay_server.audit.evidence import EvidenceBlock, EvidenceCollector
from assay_server.audit.feature_view import feature_view, inside_groups, labels_of
from assay_server.audit.findings import AuditOptions, Condition, TestTable, ViewKind, resolved
from assay_server.audit.global_view import global_view
from assay_server.audit.lessons import LessonSearch
from assay_server.audit.matrices import Csr, Floats, Ints
from assay_server.audit.passes import Survey, blocks, concept_subset, disparities, places, survey
from assay_server.audit.prompt_view import PromptClusters, prompt_view, response_disparities
from assay_server.audit.shards import ConceptSet, PairShard, Shards
from assay_server.audit.stated import stated_view
from assay_server.audit.watch import UNWATCHED, Watch

# From a block and its pairs' places among all pairs to what a view tested.
_Part: TypeAlias = Callable[[PairShard, Ints], EvidenceBlock]


def run_views(
    shards: Shards,
    concepts: ConceptSet,
    options: AuditOptions,
    *,
    given: tuple[Condition, ...] = (),
    watch: Watch = UNWATCHED,
    known: Survey | None = None,
) -> dict[ViewKind, TestTable]:
    """The views that the options name, each a table in rank order with the evidence of its first `keep` rows.

    Args:
        shards: the dataset; read several times.
        concepts: what is tested.
        options: see `resolved` for defaults that depend on the data.
        given: conditions that the columns of `PairShard.groups` stand for, tested in the feature-conditioned view.
        watch: told the phase, the pairs done in it and all pairs; called between steps too. May raise to stop the audit.
        known: what `survey` found, where the caller has it already.

    Raises:
        ValueError: names and columns of concepts, or `given` and the groups, do not match.
    """
    options = resolved(options, shards.pairs)
    known = known or survey(shards, watch.progress)
    tables: dict[ViewKind, TestTable] = {}
    parts: dict[ViewKind, _Part] = {}
    if ViewKind.GLOBAL in options.views:
        table = global_view(shards, concepts, options, known, watch)
        tables[ViewKind.GLOBAL] = table
        parts[ViewKind.GLOBAL] = _everywhere(table, concepts, options)
    if ViewKind.FEATURE_CONDITIONED in options.views:
        table = feature_view(shards, concepts, options, known, given, watch)
        tables[ViewKind.FEATURE_CONDITIONED] = table
        if len(table.concept):
            parts[ViewKind.FEATURE_CONDITIONED] = _by_features(table, concepts, options, known)
    if ViewKind.PROMPT_CONDITIONED in options.views:
        table, clusters = prompt_view(shards, options, known, watch)
        tables[ViewKind.PROMPT_CONDITIONED] = table
        if clusters is not None:
            parts[ViewKind.PROMPT_CONDITIONED] = _by_prompts(clusters, options)
    return _last_pass(tables, parts, shards, options, known, watch, lessons=True)


def test_stated(
    shards: Shards,
    concepts: ConceptSet,
    options: AuditOptions,
    *,
    inside: int | Sequence[int] | None = None,
    condition: Condition | None = None,
    watch: Watch = UNWATCHED,
    known: Survey | None = None,
) -> TestTable:
    """One stated hypothesis, raw and controlled, corrected for nothing (METHOD.md §3.4).

    Args:
        shards: the dataset.
        concepts: the one concept.
        options: tau, levels, seed and evidence are used; top_share where a prompt concept has several features.
        inside: where it should hold: a column of `PairShard.groups`; or the features of a concept of the prompt (see
            `stated.prompt_inside`); None everywhere.
        condition: what to call that place; made from `inside` by default.
        watch: as in `run_views`.
        known: as in `run_views`.

    Raises:
        ValueError: there is not exactly one concept, or no such column or feature.
    """
    if len(concepts.names) != 1:
        raise ValueError(f"a stated hypothesis is about one concept, got {len(concepts.names)}")
    options = replace(resolved(options, shards.pairs), max_t_flips=0)
    known = known or survey(shards, watch.progress)
    if inside is None:
        table = replace(global_view(shards, concepts, options, known, watch), view=ViewKind.STATED)
        held = None
    else:
        table, held = stated_view(shards, concepts, options, known, inside, condition, watch)

    def part(block: PairShard, place: Ints) -> EvidenceBlock:
        u = disparities(block, concepts, options.tau).values()
        return EvidenceBlock(block.rows, u, None if held is None else Csr(held[place]))

    found = _last_pass({ViewKind.STATED: table}, {ViewKind.STATED: part}, shards, options, known, watch, lessons=False)
    return found[ViewKind.STATED]


def _everywhere(table: TestTable, concepts: ConceptSet, options: AuditOptions) -> _Part:
    kept = _kept_disparities(table, np.arange(len(concepts.names)), concepts, options)
    return lambda block, place: EvidenceBlock(block.rows, kept(block), None)


def _by_features(table: TestTable, concepts: ConceptSet, options: AuditOptions, known: Survey) -> _Part:
    place_of = {name: column for column, name in enumerate(concepts.names)}
    kept = _kept_disparities(table, np.array([place_of[concept.name] for concept in table.concepts], np.int64), concepts, options)
    label = labels_of(table, known)

    def part(block: PairShard, place: Ints) -> EvidenceBlock:
        inside = inside_groups(block, label[place], len(table.members))
        return EvidenceBlock(block.rows, kept(block), inside, label[place] >= 0)

    return part


def _kept_disparities(table: TestTable, columns: Ints, concepts: ConceptSet, options: AuditOptions) -> Callable[[PairShard], Csr]:
    """u [pairs, concepts of the table]: of the first `keep` rows' concepts alone, the rest stay empty columns.

    Args:
        table: whose rows are kept.
        columns: where each of its concepts stands among all, ascending.
        concepts: all concepts.
        options: tau and how many rows are kept.
    """
    kept = np.unique(table.concept[: options.keep]).astype(np.int64)
    some = concept_subset(concepts, columns[kept])

    def found(block: PairShard) -> Csr:
        u = disparities(block, some, options.tau).values()
        return Csr((u.data, kept[u.indices], u.indptr), shape=(u.shape[0], len(columns)))

    return found


def _by_prompts(clusters: PromptClusters, options: AuditOptions) -> _Part:
    def part(block: PairShard, place: Ints) -> EvidenceBlock:
        u = response_disparities(block, clusters, options)
        return EvidenceBlock(block.rows, u, Csr(clusters.inside[place]), clusters.tested[place])

    return part


def _last_pass(
    tables: dict[ViewKind, TestTable],
    parts: dict[ViewKind, _Part],
    shards: Shards,
    options: AuditOptions,
    known: Survey,
    watch: Watch,
    *,
    lessons: bool,
) -> dict[ViewKind, TestTable]:
    """Evidence of all tables that have rows, and lessons of those with findings, in one more pass."""
    kept = slice(0, options.keep)
    wanted = [view for view in parts if options.evidence and len(tables[view].concept[kept])]
    collectors = {view: _collector(tables[view], kept, options.evidence) for view in wanted}
    searches = {view: LessonSearch(tables[view], options, known) for view in tables if lessons and len(tables[view].concept)}
    read = [view for view in parts if view in collectors or (view in searches and searches[view].wanted)]
    for block in blocks(shards, "evidence", watch.progress) if read else ():
        place = places(block, known)
        for view in read:
            part = parts[view](block, place)
            if view in collectors:
                collectors[view].add(part)
            if view in searches and searches[view].wanted:
                searches[view].add(part, block)
    told = {**tables, **{view: search.finish(watch.check) for view, search in searches.items()}}
    return {**told, **{view: replace(told[view], evidence=collector.finish()) for view, collector in collectors.items()}}


def _collector(table: TestTable, kept: slice, count: int) -> EvidenceCollector:
    decisive = table.raw if table.controlled is None else table.controlled
    direction: Floats = np.sign(decisive.estimate[kept])
    return EvidenceCollector(table.concept[kept], table.condition[kept], direction, count)
