"""An audit's statistics from end to end: the views over a dataset, and one stated hypothesis.

A first pass fits the nuisance model on all pairs, each view passes over the shards as often as it must, and a last pass gathers
the evidence of all views. The same shards, concepts, options and seed give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeAlias

import numpy as np

from assay_server.audit.concentration import UNKNOWN, ConcentrationSketch
from assay_server.audit.evidence import Asked, EvidenceBlock, EvidenceCollector, asked_of, entries_of
from assay_server.audit.feature_view import feature_view, inside_groups, labels_of
from assay_server.audit.findings import AuditOptions, Condition, TestTable, ViewKind, resolved
from assay_server.audit.global_view import global_view
from assay_server.audit.lessons import LessonSearch
from assay_server.audit.local import with_local
from assay_server.audit.matrices import Csr, Ints
from assay_server.audit.passes import Survey, blocks, concept_subset, disparities, places, strengths, survey
from assay_server.audit.prompt_view import PromptClusters, prompt_view, response_disparities
from assay_server.audit.shards import ConceptSet, PairShard, Shards
from assay_server.audit.stated import stated_view
from assay_server.audit.watch import UNWATCHED, Watch

# From a block, its pairs' places among all pairs and their topics to what a view tested.
_Part: TypeAlias = Callable[[PairShard, Ints, Ints | None], EvidenceBlock]


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
        known: what `survey` found with the same tau, where the caller has it already.

    Raises:
        ValueError: names and columns of concepts, or `given` and the groups, do not match.
    """
    options = resolved(options, shards.pairs)
    known = known or survey(shards, watch.progress, tau=options.tau)
    concepts = with_local(concepts, options, known) if options.local else concepts
    tables: dict[ViewKind, TestTable] = {}
    parts: dict[ViewKind, _Part] = {}
    topics: Ints | None = None
    if ViewKind.GLOBAL in options.views:
        table = global_view(shards, concepts, options, known, watch)
        tables[ViewKind.GLOBAL] = table
        parts[ViewKind.GLOBAL] = _everywhere(table, concepts, options, known)
    if ViewKind.FEATURE_CONDITIONED in options.views:
        table = feature_view(shards, concepts, options, known, given, watch)
        tables[ViewKind.FEATURE_CONDITIONED] = table
        if len(table.concept):
            topics = labels_of(table, known)
            parts[ViewKind.FEATURE_CONDITIONED] = _by_features(table, concepts, options, known, topics)
    if ViewKind.PROMPT_CONDITIONED in options.views:
        table, clusters = prompt_view(shards, concepts, options, known, watch)
        tables[ViewKind.PROMPT_CONDITIONED] = table
        if clusters is not None:
            parts[ViewKind.PROMPT_CONDITIONED] = _by_prompts(clusters, options)
    return _last_pass(tables, parts, shards, options, known, watch, topics, lessons=True)


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

    def part(block: PairShard, place: Ints, topic: Ints | None) -> EvidenceBlock:
        u, strength = disparities(block, concepts, options.tau).values(), strengths(block, concepts, known.scale)
        return EvidenceBlock(block.rows, block.prompts, topic, u, strength, None if held is None else Csr(held[place]))

    found = _last_pass({ViewKind.STATED: table}, {ViewKind.STATED: part}, shards, options, known, watch, None, lessons=False)
    return found[ViewKind.STATED]


def _everywhere(table: TestTable, concepts: ConceptSet, options: AuditOptions, known: Survey) -> _Part:
    kept = _kept(table, np.arange(len(concepts.names)), concepts, options, known)
    return lambda block, place, topic: EvidenceBlock(block.rows, block.prompts, topic, *kept(block), None)


def _by_features(table: TestTable, concepts: ConceptSet, options: AuditOptions, known: Survey, label: Ints) -> _Part:
    place_of = {name: column for column, name in enumerate(concepts.names)}
    columns = np.array([place_of[concept.name] for concept in table.concepts], np.int64)
    kept = _kept(table, columns, concepts, options, known)

    def part(block: PairShard, place: Ints, topic: Ints | None) -> EvidenceBlock:
        inside = inside_groups(block, label[place], len(table.members))
        return EvidenceBlock(block.rows, block.prompts, topic, *kept(block), inside, label[place] >= 0)

    return part


def _kept(
    table: TestTable, columns: Ints, concepts: ConceptSet, options: AuditOptions, known: Survey
) -> Callable[[PairShard], tuple[Csr, Csr]]:
    """u and strengths [pairs, concepts of the table]: of the first `keep` rows' concepts alone, the rest stay empty columns.

    Args:
        table: whose rows are kept.
        columns: where each of its concepts stands among all, ascending.
        concepts: all concepts.
        options: tau and how many rows are kept.
        known: the features' scales.
    """
    kept = np.unique(table.concept[: options.keep]).astype(np.int64)
    some = concept_subset(concepts, columns[kept])

    def spread(values: Csr) -> Csr:
        return Csr((values.data, kept[values.indices], values.indptr), shape=(values.shape[0], len(columns)))

    def found(block: PairShard) -> tuple[Csr, Csr]:
        return spread(disparities(block, some, options.tau).values()), spread(strengths(block, some, known.scale))

    return found


def _by_prompts(clusters: PromptClusters, options: AuditOptions) -> _Part:
    """Here u is an activation difference itself."""

    def part(block: PairShard, place: Ints, topic: Ints | None) -> EvidenceBlock:
        u, inside = response_disparities(block, clusters, options), Csr(clusters.inside[place])
        return EvidenceBlock(block.rows, block.prompts, topic, u, None, inside, clusters.tested[place])

    return part


def _last_pass(
    tables: dict[ViewKind, TestTable],
    parts: dict[ViewKind, _Part],
    shards: Shards,
    options: AuditOptions,
    known: Survey,
    watch: Watch,
    topics: Ints | None,
    *,
    lessons: bool,
) -> dict[ViewKind, TestTable]:
    """Evidence of all tables that have rows, and lessons of those with findings, in one more pass.

    Topics, [pairs of the survey], are the data clusters, where there are any.
    """
    kept = slice(0, options.keep)
    wanted = [view for view in parts if options.evidence and len(tables[view].concept[kept])]
    asked = {view: _asked(tables[view], kept) for view in wanted}
    collectors = {view: EvidenceCollector(asked[view], options.evidence, options.seed) for view in wanted}
    sketches = {view: ConcentrationSketch(asked[view]) for view in wanted}
    searches = {view: LessonSearch(tables[view], options, known) for view in tables if lessons and len(tables[view].concept)}
    read = [view for view in parts if view in collectors or (view in searches and searches[view].wanted)]
    for block in blocks(shards, "evidence", watch.progress) if read else ():
        place = places(block, known)
        for view in read:
            part = parts[view](block, place, None if topics is None else topics[place])
            if view in collectors:
                entries = entries_of(part, asked[view])
                collectors[view].add(part, entries)
                sketches[view].add(entries)
            if view in searches and searches[view].wanted:
                searches[view].add(part, block)
    told = {**tables, **{view: search.finish(watch.check) for view, search in searches.items()}}
    for view in wanted:
        told[view] = replace(told[view], evidence=collectors[view].finish(), **_carried(told[view], sketches[view]))
    return told


def _carried(table: TestTable, sketch: ConcentrationSketch) -> dict[str, Any]:
    """Columns of the whole table, of which the sketch knows the first rows."""
    known = sketch.finish(table.raw.estimate[: sketch.hypotheses])
    beyond = len(table.concept) - sketch.hypotheses
    columns = {field.name: getattr(known, field.name) for field in fields(known)}
    return {name: np.pad(column, (0, beyond), constant_values=UNKNOWN) for name, column in columns.items()}


def _asked(table: TestTable, kept: slice) -> Asked:
    decisive = table.raw if table.controlled is None else table.controlled
    return asked_of(table.concept[kept], table.condition[kept], np.sign(decisive.estimate[kept]))
