"""The feature-conditioned view: what do chosen responses express more among pairs where this happens? (METHOD.md §3.2)

Pairs are grouped by s, the activity of the SAE's feature clusters in both responses together, which no swap of the responses
changes; u is what is tested. Centroids are fitted on a seeded sample of the pairs whose size depends on the number of groups
alone, then every pair is assigned in a pass.

Conditions that are known beforehand are tested beside the groups, and finely: somebody who names a condition asks about it, so
single features, descriptors and words are tested there too, in families of their own (`given_conditions`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from assay_server.audit.conditioned import Contrasted, Contrasting, conditioned_table
from assay_server.audit.contrast import groups_from_labels
from assay_server.audit.disparity import activity, membership
from assay_server.audit.draws import drawn_bits
from assay_server.audit.families import Family, family_codes
from assay_server.audit.findings import AuditOptions, Condition, TestTable, ViewKind
from assay_server.audit.given_conditions import differing_inside, fine_columns, given_table, joined
from assay_server.audit.grouping import Grouping, assign, group_pairs
from assay_server.audit.matrices import Csr, Floats, Ints
from assay_server.audit.passes import Survey, blocks, concept_subset, disparities
from assay_server.audit.reason import Reason
from assay_server.audit.shards import ConceptSet, PairShard, Shards
from assay_server.audit.tables import named, untested
from assay_server.audit.watch import UNWATCHED, Watch

SAMPLE_PAIRS = 8_192
SAMPLE_PAIRS_A_GROUP = 128
MAX_STEPS = 30
FALLBACK_CONCEPTS = 1_024
FALLBACK_FEATURES = 4_096
NAMED_FEATURES = 16
_SAMPLE_STREAM, _GIVEN_STREAM = 1 << 21, 1 << 26


@dataclass(frozen=True, eq=False)
class _Groups:
    members: Csr  # [d_sae, columns] what s sums over
    centroids: Floats  # [groups, columns]
    silent_below: float


def feature_view(
    shards: Shards,
    concepts: ConceptSet,
    options: AuditOptions,
    known: Survey,
    given: tuple[Condition, ...] = (),
    watch: Watch = UNWATCHED,
) -> TestTable:
    """Every data cluster and given condition against its outside, for every concept that is large enough.

    Raises:
        ValueError: the shards hold groups of another number than `given`.
    """
    controlled = known.fit is not None
    if not known.pairs:
        return untested(ViewKind.FEATURE_CONDITIONED, Reason.NO_PAIRS.text, controlled=controlled)
    columns, note = columns_to_test(concepts, options, known)
    fine = fine_columns(concepts, known, len(given))
    if not len(columns) and not len(fine):
        return untested(ViewKind.FEATURE_CONDITIONED, "there is no concept to test", controlled=controlled)
    groups = _fit_groups(shards, concepts, options, known, watch)
    tested, closely = concept_subset(concepts, columns), concept_subset(concepts, fine)
    passed = _contrast(shards, tested, closely, options, known, groups, len(given), watch)
    clusters = len(groups.centroids)
    telling = (_telling(passed.fired, k, passed.labels, known.response_spans) for k in range(clusters))
    made = tuple(Condition(f"data-cluster/{k}", features) for k, features in enumerate(telling))
    table = conditioned_table(
        ViewKind.FEATURE_CONDITIONED,
        passed.clusters,
        named(tested, len(columns)),
        made,
        np.broadcast_to((passed.clusters.prompts >= options.min_inside)[:, None], passed.clusters.raw.p.shape),
        options,
    )
    notes = [note]
    if passed.given is not None:
        close = given_table(passed.given, passed.differing, closely, given, options)
        table = joined(table, columns, close, fine, made, given, options)
        notes += _untested_conditions(passed.given, given, options)
    members = tuple(np.sort(known.rows[passed.labels == k]) for k in range(clusters))
    return replace(table, note=" ".join(note for note in notes if note), members=members)


def columns_to_test(concepts: ConceptSet, options: AuditOptions, known: Survey) -> tuple[Ints, str]:
    """Concepts of at least `min_features` features ([A]), and others but words and sources, which have no size; and a note.

    Where no concept made of features is that large, the filter would leave nothing: then the 1,024 features that fire in most
    responses are tested singly instead, and the note says so. Neither choice looks at which response was chosen.
    """
    sizes = np.asarray(concepts.members.sum(axis=0)).ravel()
    others = np.arange(len(sizes), len(concepts.names))
    directions = others[~np.isin(family_codes(concepts.names[len(sizes) :]), [Family.WORDS, Family.SOURCE])]
    large = np.flatnonzero(sizes >= options.min_features)
    if len(large):
        return np.concatenate([large, directions]), ""
    single = np.flatnonzero(sizes == 1)
    by_column = concepts.members.T.tocsr()
    spans = known.response_spans[by_column.indices[by_column.indptr[single]]] if len(single) else np.zeros(0, np.int64)
    chosen = np.sort(single[np.argsort(-spans, kind="stable")[: min(FALLBACK_CONCEPTS, int((spans > 0).sum()))]])
    note = f"No concept holds {options.min_features} features, so the {len(chosen)} most frequent features were tested singly."
    return np.concatenate([chosen, directions]), note if len(chosen) else ""


def labels_of(table: TestTable, known: Survey) -> Ints:
    """The data cluster of each pair of the survey, [pairs]; −1 for silent ones."""
    label, rows = np.full(known.pairs, -1, np.int64), known.rows[known.order]
    for k, members in enumerate(table.members):
        label[known.order[np.searchsorted(rows, members)]] = k
    return label


def inside_groups(block: PairShard, label: Ints, clusters: int) -> Csr:
    """The pairs of a block inside each condition of the table: data clusters, then given ones."""
    return Csr(sparse.hstack([groups_from_labels(label, clusters), block.groups], format="csr"))


def _fit_groups(shards: Shards, concepts: ConceptSet, options: AuditOptions, known: Survey, watch: Watch) -> _Groups:
    members = _grouping_members(concepts, known)
    wanted = max(SAMPLE_PAIRS, SAMPLE_PAIRS_A_GROUP * options.data_clusters)
    sampled = np.zeros(known.pairs, np.bool_)
    sampled[np.argsort(drawn_bits(known.rows, _SAMPLE_STREAM, options.seed), kind="stable")[:wanted]] = True
    norms, kept, first = np.zeros(known.pairs), [], 0
    for block in blocks(shards, "grouping", watch.progress):
        last = first + len(block.rows)
        s = activity(block.freq_chosen, block.freq_rejected, members)
        norms[first:last] = np.sqrt(np.asarray(s.multiply(s).sum(axis=1)).ravel())
        kept.append(Csr(s[np.flatnonzero(sampled[first:last])]))
        first = last
    threshold = float(np.percentile(norms, options.silent_percentile))
    rows = Csr(sparse.vstack(kept, format="csr"))
    order = np.argsort(known.rows[sampled], kind="stable")
    active = order[(norms[sampled] >= threshold)[order]]
    fitted: Grouping = group_pairs(
        rows[active], options.data_clusters, seed=options.seed, max_steps=MAX_STEPS, silent_percentile=0.0, check=watch.check
    )
    return _Groups(members, fitted.centroids, threshold)


def _grouping_members(concepts: ConceptSet, known: Survey) -> Csr:
    """What s sums over: the feature clusters; where there are fewer than two, the 4,096 features that fire most often."""
    clusters = [column for column, name in enumerate(concepts.names[: concepts.members.shape[1]]) if name.startswith("cluster/")]
    if len(clusters) >= 2:
        return Csr(concepts.members[:, np.array(clusters)])
    busiest = np.argsort(-known.response_spans, kind="stable")[:FALLBACK_FEATURES]
    features = np.sort(busiest[known.response_spans[busiest] > 0])
    return membership([[int(feature)] for feature in features], known.d_sae)


@dataclass(frozen=True, eq=False)
class _Passed:
    """What one pass over all pairs gave: contrasts of clusters (silent pairs left out) and of given conditions (all pairs)."""

    labels: Ints  # [pairs of the survey]
    fired: NDArray[np.int32]  # [clusters, d_sae] firings
    clusters: Contrasted
    given: Contrasted | None
    differing: Ints  # [given, concepts] pairs inside whose responses differ in the concept


def _contrast(
    shards: Shards,
    concepts: ConceptSet,
    closely: ConceptSet,
    options: AuditOptions,
    known: Survey,
    groups: _Groups,
    given: int,
    watch: Watch,
) -> _Passed:
    clusters = len(groups.centroids)
    labels, fired, first = np.full(known.pairs, -1, np.int64), np.zeros((clusters, known.d_sae), np.int32), 0
    sizes = [_sizes(one) for one in (concepts, closely)]
    sums = [Contrasting(size, known.open_prompts, known.fit, check=watch.check) for size in sizes]
    differing = np.zeros((given, len(sizes[1])), np.int64)
    for block in blocks(shards, ViewKind.FEATURE_CONDITIONED, watch.progress):
        if block.groups.shape[1] != given:
            raise ValueError(f"{given} conditions are given, but the pairs are in {block.groups.shape[1]} groups")
        last = first + len(block.rows)
        label = _labels(block, groups)
        labels[first:last] = label
        _count_firings(fired, block, label)
        rows = (block.prompts, block.rows, block.nuisance)
        values = disparities(block, concepts, options.tau).numerators
        sums[0].add(values, groups_from_labels(label, clusters), *rows, compared=label >= 0)
        if given:
            values = disparities(block, closely, options.tau).numerators
            halves = (drawn_bits(block.prompts, _GIVEN_STREAM, options.seed) & np.uint64(1)).astype(np.int64)
            sums[1].add(values, block.groups, block.prompts, halves, block.nuisance)
            differing += differing_inside(values, block.groups)
        first = last
    parts = [total.finish(options.interval_level) for total in sums]
    assert parts[0] is not None, "a dataset without pairs was turned away before"
    return _Passed(labels, fired, parts[0], parts[1], differing)


def _sizes(concepts: ConceptSet) -> Ints:
    made = np.asarray(concepts.members.sum(axis=0), np.int64).ravel()
    return np.concatenate([made, np.ones(len(concepts.names) - len(made), np.int64)])


def _labels(block: PairShard, groups: _Groups) -> Ints:
    s = activity(block.freq_chosen, block.freq_rejected, groups.members)
    norms = np.sqrt(np.asarray(s.multiply(s).sum(axis=1)).ravel())
    return np.where((norms >= groups.silent_below) & (norms > 0), assign(s, groups.centroids)[0], -1)


def _count_firings(fired: NDArray[np.int32], block: PairShard, label: Ints) -> None:
    for spans in (block.freq_chosen, block.freq_rejected):
        cluster = np.repeat(label, np.diff(spans.indptr))
        grouped = cluster >= 0
        np.add.at(fired, (cluster[grouped], spans.indices[grouped]), 1)


def _telling(fired: NDArray[np.int32], cluster: int, labels: Ints, spans: Ints) -> tuple[int, ...]:
    """The features whose firing rate inside is most above their rate over all pairs, at most 16."""
    rate = fired[cluster] / max(2 * int((labels == cluster).sum()), 1) - spans / max(2 * len(labels), 1)
    best = np.argsort(-rate, kind="stable")[:NAMED_FEATURES]
    return tuple(int(feature) for feature in best if rate[feature] > 0)


def _untested_conditions(sums: Contrasted, given: tuple[Condition, ...], options: AuditOptions) -> list[str]:
    """A sentence for each given condition that could not be tested."""
    notes: list[str] = []
    for k, condition in enumerate(given):
        inside, outside, prompts = int(sums.raw.inside[k]), int(sums.raw.outside[k]), int(sums.prompts[k])
        if prompts < options.min_inside:
            what = f"{inside} pairs" if prompts == inside else f"{inside} pairs of {prompts} prompts"
            notes.append(f"{condition.name} holds {what}, fewer than {options.min_inside}: it was not tested.")
        elif outside < 2:
            notes.append(f"{condition.name} holds all but {outside} pairs: there is nothing to compare it with.")
    return notes
