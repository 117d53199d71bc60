"""The prompt-conditioned view: what do chosen responses express more where the prompt is about this? (METHOD.md §3.3)

Prompt features are clustered by how they fire over prompts; which pairs are inside depends on prompts alone. Response features
are clustered by how their difference between chosen and rejected moves over pairs. Such clusters are built from the very
differences that are then tested, and on the same pairs that would prove itself: they are fitted on one half of the prompts
and tested on the other (beyond [A]), by a coin per prompt, so that no prompt is on both sides.

Under `FEW` pairs half of them show little, and a cluster dilutes what one of its features shows. There response features are
tested singly (beyond [A]): nothing is then fitted on what is tested, and all pairs take part. `AuditOptions.response_clusters`
requests clusters at any size.

Descriptors of the texts are tested there too, in a family of their own: they are written down beforehand, so no half is kept back
for them, but they are tested on the pairs that the view tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import sparse

from assay_server.audit.conditioned import Contrasting, conditioned_table
from assay_server.audit.draws import drawn_bits
from assay_server.audit.families import Family, family_of
from assay_server.audit.feature_clusters import (
    SVD_PASSES,
    ColumnSums,
    Subspace,
    cluster_features,
    column_sums,
    prompt_filter,
    response_filter,
)
from assay_server.audit.findings import AuditOptions, Condition, TestedConcept, TestTable, ViewKind
from assay_server.audit.matrices import Bools, Csr, Floats, Ints, csr
from assay_server.audit.passes import Survey, blocks, concept_subset, disparities, places
from assay_server.audit.reason import Reason
from assay_server.audit.shards import ConceptSet, PairShard, Shards
from assay_server.audit.tables import named, untested
from assay_server.audit.watch import UNWATCHED, Watch

# Thin products come back as dense arrays of all features: fewer, larger blocks make fewer of them.
_SVD_BLOCK = 8_192
_HALF_STREAM, _TIE_STREAM = 1 << 22, 1 << 23
_VIEW = ViewKind.PROMPT_CONDITIONED
FEW = 20_000  # pairs
_SINGLE_TESTS = 1 << 20


@dataclass(frozen=True, eq=False)
class PromptClusters:
    """What was fitted on one half of the prompts, and which pairs of the other half stand inside; or both on all of them."""

    prompt: tuple[Ints, ...]  # features of each prompt cluster A_k, strongest first
    response: tuple[Ints, ...]  # features of each response cluster R_m, strongest first; of one where they are taken singly
    scaling: Csr  # [d_sae, response clusters] 1/(σ_f |R_m|): takes D to the mean of z-scored D, up to a constant
    inside: Csr  # [pairs of the survey, prompt clusters] 0/1 int64
    tested: Bools  # [pairs of the survey] those that are tested
    singly: bool  # whether response features are tested singly
    texts: ConceptSet  # descriptors of the texts
    text_scale: Floats  # [descriptors] 1/σ of u, 0 where it never differs
    left_out: int = 0  # response features that there was no room for


@dataclass(frozen=True, eq=False)
class _Columns:
    kept: Bools  # [d_sae]
    sums: ColumnSums
    firings: Ints  # [d_sae]


def prompt_view(
    shards: Shards, concepts: ConceptSet, options: AuditOptions, known: Survey, watch: Watch = UNWATCHED
) -> tuple[TestTable, PromptClusters | None]:
    """Every prompt cluster against its outside, for every response cluster, over the half that no cluster was fitted on; or for
    every response feature, over all pairs; and for every descriptor among `concepts`."""
    texts = descriptors_among(concepts)
    singly = not options.response_clusters and known.pairs < FEW
    fitting = np.ones(known.pairs, np.bool_) if singly else fitting_half(known.prompts, options.seed)
    reason = Reason.NO_PAIRS.text if not known.pairs else ""
    prompts = len(np.unique(known.prompts))
    if known.pairs and prompts < 2:
        reason = f"{prompts} different prompts are too few: there must be some inside and some outside of a topic"
    elif known.pairs and not singly and (fitting.all() or not fitting.any()):
        reason = f"{prompts} different prompts are too few to form clusters on one half of them and test on the other"
    response, prompt = _columns(shards, options, known, fitting, watch)
    if not reason and (prompt.kept.sum() < 2 or (response.kept.sum() < 2 and not texts.names)):
        reason = (
            f"{prompt.kept.sum()} prompt features and {response.kept.sum()} response features fire in "
            f"{options.min_firings} pairs and vary: too few to form clusters"
        )
    if reason:
        return untested(_VIEW, reason, controlled=known.fit is not None), None
    clusters = _fit(shards, options, known, fitting, response, prompt, singly, texts, watch)
    return _contrast(shards, options, known, clusters, watch), clusters


def response_disparities(block: PairShard, clusters: PromptClusters, options: AuditOptions) -> Csr:
    """What is tested, in standard deviations, [pairs, response clusters and then descriptors].

    Of a response cluster, the mean of z-scored D over R_m less the same constant for every pair; of a descriptor, u / σ.
    """
    found = Csr(response_delta(block, options) @ clusters.scaling)
    if not clusters.texts.names:
        return found
    texts = disparities(block, clusters.texts, options.tau).values()
    return csr(sparse.hstack([found, Csr(texts.multiply(clusters.text_scale[None, :]))], format="csr"))


def descriptors_among(concepts: ConceptSet) -> ConceptSet:
    """The descriptors of the texts alone."""
    columns = np.flatnonzero(np.array([family_of(name) is Family.TEXT for name in concepts.names], np.bool_))
    return concept_subset(concepts, columns)


def fitting_half(prompts: Ints, seed: int) -> Bools:
    """True for the pairs that clusters are fitted on: a seeded coin per prompt, [pairs]."""
    return (drawn_bits(prompts, _HALF_STREAM, seed) & np.uint64(1)).astype(np.bool_)


def response_delta(block: PairShard, options: AuditOptions, rows: Ints | None = None) -> Csr:
    """D = X_chosen − X_rejected, float64 [pairs, d_sae]; X is max, or freq where the options say so.

    Args:
        block: the pairs.
        options: say what X is.
        rows: the pairs of the block that are wanted; all by default.
    """
    sides = (block.freq_chosen, block.freq_rejected) if options.delta_of_freq else (block.max_chosen, block.max_rejected)
    chosen, rejected = (side if rows is None else Csr(side[rows]) for side in sides)
    return Csr(chosen.astype(np.float64) - rejected.astype(np.float64))


def _columns(shards: Shards, options: AuditOptions, known: Survey, fitting: Bools, watch: Watch) -> tuple[_Columns, _Columns]:
    """Which response and prompt features take part. Firings are counted over all pairs, values over the fitting half alone."""
    zero = np.zeros(known.d_sae)
    sums = [ColumnSums(0, zero, zero, zero) for _ in range(2)]
    firings = [np.zeros(known.d_sae, np.int64) for _ in range(2)]
    for block in blocks(shards, "prompt features", watch.progress):
        fit = np.flatnonzero(fitting[places(block, known)])
        either = Csr(block.freq_chosen + block.freq_rejected)
        for index, values in enumerate((response_delta(block, options), block.freq_prompt)):
            fired = either if index == 0 else values
            firings[index] += np.bincount(fired.indices, minlength=known.d_sae)
            sums[index] = sums[index] + column_sums(Csr(values[fit]))
    return (
        _Columns(response_filter(sums[0], firings[0], options.min_firings), sums[0], firings[0]),
        _Columns(prompt_filter(sums[1], firings[1], options.min_firings), sums[1], firings[1]),
    )


def _fit(
    shards: Shards,
    options: AuditOptions,
    known: Survey,
    fitting: Bools,
    response: _Columns,
    prompt: _Columns,
    singly: bool,
    texts: ConceptSet,
    watch: Watch,
) -> PromptClusters:
    clustered = not singly and response.kept.sum() >= 2
    sides = (prompt, response) if clustered else (prompt,)
    spaces = [Subspace(part.sums, part.kept, options.svd_rank, options.seed) for part in sides]
    for number in range(SVD_PASSES):
        for space in spaces if number else ():
            space.turn()
        for block in blocks(shards, f"prompt clusters, pass {number + 1} of {SVD_PASSES}", watch.progress, size=_SVD_BLOCK):
            fit = np.flatnonzero(fitting[places(block, known)])
            spaces[0].add(Csr(block.freq_prompt[fit]))
            if clustered:
                spaces[1].add(response_delta(block, options, fit))
    found: list[tuple[Ints, ...]] = []
    for space, part, wanted in zip(spaces, sides, (options.prompt_clusters, options.response_clusters), strict=False):
        features = np.flatnonzero(part.kept)
        groups = cluster_features(space.embedding()[features], wanted, options.seed, check=watch.check)
        found.append(tuple(features[group] for group in groups))
    if not clustered:
        found.append(_single_features(response, _SINGLE_TESTS // max(1, len(found[0]))))
    tested = fitting if singly else ~fitting
    inside = _inside(shards, options, known, tested, found[0], watch)
    weights = [1.0 / response.sums.sigma[group] / len(group) for group in found[1]]
    left_out = int(response.kept.sum()) - len(found[1]) if singly else 0
    scaling = _by_cluster(found[1], weights, known.d_sae)
    scale = _text_scale(shards, texts, options, watch)
    return PromptClusters(found[0], found[1], scaling, inside, tested, singly, texts, scale, left_out)


def _text_scale(shards: Shards, texts: ConceptSet, options: AuditOptions, watch: Watch) -> Floats:
    """1/σ of u of every descriptor over all pairs, [descriptors]; 0 where no pair's responses differ in it."""
    sums = ColumnSums(0, *(np.zeros(len(texts.names)) for _ in range(3)))
    for block in blocks(shards, "descriptors", watch.progress) if texts.names else ():
        sums = sums + column_sums(disparities(block, texts, options.tau).values())
    return np.divide(1.0, sums.sigma, out=np.zeros(len(texts.names)), where=sums.sigma > 0)


def _single_features(response: _Columns, most: int) -> tuple[Ints, ...]:
    """Response features, each by itself, ascending: those that fire most where there are more than `most`."""
    features = np.flatnonzero(response.kept)
    often = features[np.argsort(-response.firings[features], kind="stable")[:most]]
    return tuple(np.array([feature]) for feature in np.sort(often))


def _inside(
    shards: Shards,
    options: AuditOptions,
    known: Survey,
    tested: Bools,
    groups: tuple[Ints, ...],
    watch: Watch,
) -> Csr:
    """S(k): the tested pairs with the largest c[i, k] > 0, at most `top_share` of them; a seeded draw decides between equals."""
    members = _by_cluster(groups, [np.ones(len(group)) for group in groups], known.d_sae)
    parts: list[Csr] = []
    where: list[Ints] = []
    for block in blocks(shards, "prompt conditions", watch.progress):
        place = places(block, known)
        rows = np.flatnonzero(tested[place])
        prompt = Csr(block.freq_prompt[rows])
        fires = prompt.data > np.float32(options.tau)
        activity = prompt.data.astype(np.float64) if options.prompt_values else fires.astype(np.float64)
        activity = Csr((activity * fires, prompt.indices, prompt.indptr), shape=prompt.shape)
        parts.append(Csr(Csr(activity @ members).astype(np.float32)))
        where.append(place[rows])
    by_cluster = Csr(sparse.vstack(parts, format="csr")).T.tocsr()
    place, limit = np.concatenate(where), int(options.top_share * tested.sum())
    draw = drawn_bits(known.rows[place], _TIE_STREAM, options.seed)
    picked: list[Ints] = []
    for first, last in pairwise(by_cluster.indptr.tolist()):
        pairs, values = by_cluster.indices[first:last], by_cluster.data[first:last]
        pairs, values = pairs[values > 0], values[values > 0]
        picked.append(place[pairs[np.lexsort((draw[pairs], -values))[:limit]]])
    return Csr(_by_cluster(tuple(picked), [np.ones(len(rows)) for rows in picked], known.pairs).astype(np.int64))


def _contrast(shards: Shards, options: AuditOptions, known: Survey, clusters: PromptClusters, watch: Watch) -> TestTable:
    texts = clusters.texts.names
    sums = Contrasting(np.ones(len(clusters.response) + len(texts), np.int64), known.open_prompts, known.fit, check=watch.check)
    for block in blocks(shards, _VIEW, watch.progress):
        place = places(block, known)
        values, inside = response_disparities(block, clusters, options), Csr(clusters.inside[place])
        sums.add(values, inside, block.prompts, block.rows, block.nuisance, compared=clusters.tested[place])
    tested = sums.finish(options.interval_level)
    assert tested is not None, "a dataset without pairs was turned away before"
    table = conditioned_table(
        _VIEW,
        tested,
        tuple(
            TestedConcept(f"feature/{group[0]}" if clusters.singly else f"response-cluster/{m}", _listed(group), len(group))
            for m, group in enumerate(clusters.response)
        )
        + named(clusters.texts, len(texts)),
        tuple(Condition(f"prompt-cluster/{k}", _listed(group)) for k, group in enumerate(clusters.prompt)),
        np.broadcast_to((tested.prompts >= options.min_inside)[:, None], tested.raw.p.shape),
        options,
    )
    by_cluster = clusters.inside.T.tocsr()
    members = tuple(np.sort(known.rows[by_cluster.indices[a:b]]) for a, b in pairwise(by_cluster.indptr.tolist()))
    return replace(table, members=members, note=_note(table.note, clusters))


def _note(said: str, clusters: PromptClusters) -> str:
    if not clusters.left_out:
        return said
    more = (
        f"of the response features that fire in enough pairs, the {len(clusters.response):,} that fire most were tested over "
        f"{len(clusters.prompt)} prompt clusters, and {clusters.left_out:,} were not"
    )
    return f"{said}; {more}" if said else more


def _by_cluster(groups: tuple[Ints, ...], weights: list[Floats], features: int) -> Csr:
    """Each cluster's weights on its members, as an array [features, clusters]."""
    rows = np.concatenate([np.zeros(0, np.int64), *groups])
    columns = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return csr(Csr((np.concatenate([np.zeros(0), *weights]), (rows, columns)), shape=(features, len(groups))))


def _listed(features: Ints) -> tuple[int, ...]:
    return tuple(int(feature) for feature in features)
