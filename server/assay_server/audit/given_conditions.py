"""Conditions that somebody named beforehand, tested finely: single features, descriptors and words inside against outside.

Clusters of pairs are many and made by the audit, so concepts of ten features are tested there ([A]). A metadata value is one of a
few, and a lesson under it may be as small as two words. Tests here are families of their own, and those that could not pass
their correction whatever the labels (Tarone 1990) are not counted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import special

from assay_server.audit.conditioned import Contrasted, conditioned_table, in_order
from assay_server.audit.families import attainable, family_codes
from assay_server.audit.findings import AuditOptions, Condition, Effects, TestTable, ViewKind
from assay_server.audit.matrices import Bools, Codes, Csr, Ints
from assay_server.audit.passes import Survey
from assay_server.audit.reason import Reason
from assay_server.audit.shards import ConceptSet
from assay_server.audit.tables import named

TESTS = 1 << 22  # conditions times concepts at most: about 200 bytes each


def fine_columns(concepts: ConceptSet, known: Survey, conditions: int) -> Ints:
    """The concepts that are tested under given conditions, ascending.

    All of them, where there are at most `TESTS` tests. Else those without features first (directions, descriptors, words, in
    their order), then clusters, then single features, those first that fire in most responses: no choice looks at a label.
    """
    if not conditions:
        return np.zeros(0, np.int64)
    made, most = concepts.members.shape[1], TESTS // conditions
    many = len(concepts.names)
    if many <= most:
        return np.arange(many, dtype=np.int64)
    sizes = np.asarray(concepts.members.sum(axis=0)).ravel()
    often = concepts.members.T.astype(np.int64) @ known.response_spans
    order = np.lexsort((-often, sizes == 1))
    return np.sort(np.concatenate([np.arange(made, many), order])[:most]).astype(np.int64)


def differing_inside(values: Csr, groups: Csr) -> Ints:
    """Pairs of each condition whose responses differ in a concept, [conditions, concepts]; no swap changes it."""
    differs = Csr((np.ones(values.nnz, np.int64), values.indices, values.indptr), shape=values.shape)
    return np.asarray((groups.T.astype(np.int64) @ differs).toarray(), np.int64)


def given_table(
    tested: Contrasted, differing: Ints, concepts: ConceptSet, conditions: tuple[Condition, ...], options: AuditOptions
) -> TestTable:
    """The strongest tests of every condition and concept that could pass the correction.

    If all T pairs that differ spoke one way inside, Welch's z of n pairs would be √(T / (1 − T/n)): no labelling gives a larger
    one, as far as the other side does not help.
    """
    inside, prompts = tested.raw.inside[:, None].astype(np.float64), tested.prompts
    share = np.minimum(differing / np.maximum(inside, 1), 1 - 1e-9)
    least = 2 * special.ndtr(-np.sqrt(differing / (1 - share)))
    large: Bools = np.broadcast_to((prompts >= options.min_inside)[:, None], least.shape)
    counted = large & (tested.raw.reason == Reason.NONE)
    codes = np.tile(family_codes(concepts.names, given=True), len(conditions))
    passing = attainable(least.ravel(), counted.ravel(), codes, options.q_level).reshape(least.shape)
    names = named(concepts, len(concepts.names))
    return conditioned_table(ViewKind.FEATURE_CONDITIONED, tested, names, conditions, passing, options, given=True)


def joined(
    clusters: TestTable,
    columns: Ints,
    given: TestTable,
    fine: Ints,
    made: tuple[Condition, ...],
    named_before: tuple[Condition, ...],
    options: AuditOptions,
) -> TestTable:
    """Both tables as one, the `keep` strongest rows of each, in the view's order.

    Args:
        clusters: tests of data clusters.
        columns: where its concepts stand among all, ascending.
        given: tests of given conditions.
        fine: the same of its concepts.
        made: the data clusters.
        named_before: the given conditions.
        options: levels and limits.
    """
    tables = ((clusters, columns), (given, fine))
    # A table that tested nothing names no concept.
    concepts = {int(column): one for table, at in tables for column, one in zip(at, table.concepts, strict=False)}
    present = np.array(sorted(concepts), np.int64)
    moved = [np.searchsorted(present, at)[table.concept] for table, at in tables]
    table = replace(
        _stacked(clusters, given),
        concepts=tuple(concepts[column] for column in present.tolist()),
        concept=np.concatenate(moved),
        conditions=(*made, *named_before),
        condition=np.concatenate([clusters.condition, given.condition + len(made)]),
        tests=clusters.tests + given.tests,
        findings_raw=clusters.findings_raw + given.findings_raw,
        findings_controlled=clusters.findings_controlled + given.findings_controlled,
        families=clusters.families + given.families,
        reason=clusters.reason if clusters.reason and given.reason else "",
    )
    return in_order(table)


def _stacked(first: TestTable, second: TestTable) -> TestTable:
    def stack(one: Effects, two: Effects) -> Effects:
        names = [name for name in Effects.__dataclass_fields__ if getattr(one, name) is not None]
        return replace(one, **{name: np.concatenate([getattr(one, name), getattr(two, name)]) for name in names})

    columns = ("finding", "cohen_d", "consistent", "delta_min", "inside", "outside", "prompts")
    columns += ("rank_first_half", "rank_second_half", "rank_stable")
    both = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in columns}
    controlled = first.controlled and second.controlled and stack(first.controlled, second.controlled)
    return replace(
        first,
        raw=stack(first.raw, second.raw),
        controlled=controlled,
        length_verdict=_verdicts(first, second),
        length_counts=tuple(map(sum, zip(first.length_counts, second.length_counts, strict=True))),
        **both,
    )


def _verdicts(first: TestTable, second: TestTable) -> Codes | None:
    if first.controlled is None:
        return None
    none = np.zeros(0, np.uint8)  # a table that tested nothing has no verdicts
    return np.concatenate([none if one.length_verdict is None else one.length_verdict for one in (first, second)])
