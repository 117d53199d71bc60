"""The concepts that the experiments test: every feature that fires, and clusters of features that fire together."""

from __future__ import annotations

from typing import Any

import numpy as np
from assay_server.audit.disparity import TAU, disparity, firing_difference
from assay_server.audit.matrices import Csr, Floats, Ints
from assay_server.audit.shards import ConceptSet
from assay_server.concepts.clusters import FeatureClusters, cluster_features
from scipy import sparse

from benchmarks.validity.data import Features, Spans, stacked


def response_clusters(features: Features) -> FeatureClusters:
    """Feature clusters with all responses as the reference corpus: which response was preferred plays no part."""
    return cluster_features(sparse.csr_array(stacked(features.chosen, features.rejected).freq))


def concept_set(features: Features, clusters: FeatureClusters | None = None) -> ConceptSet:
    """Every feature, then every cluster; what never fires is no test, and is corrected for by nobody."""
    groups = [np.array([feature]) for feature in range(features.d_sae)]
    names = [f"feature/{feature}" for feature in range(features.d_sae)]
    if clusters is not None:
        groups += [clusters.members(index) for index in range(len(clusters))]
        names += [f"cluster/{index}" for index in range(len(clusters))]
    rows = np.concatenate(groups)
    columns = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    members = Csr((np.ones(len(rows), np.int64), (rows, columns)), shape=(features.d_sae, len(groups)))
    return ConceptSet(tuple(names), members)


def disparities(chosen: Spans, rejected: Spans, concepts: ConceptSet) -> Floats:
    """u of each pair and concept, [pairs, concepts]."""
    return disparity(firing_difference(chosen.freq, rejected.freq), concepts.members).values().toarray()


def expression(spans: Spans, concepts: ConceptSet) -> Any:
    """How strongly each text shows each concept: the mean over its features of the largest activation, [texts, concepts]."""
    sizes = np.asarray(concepts.members.sum(axis=0)).ravel()
    return (spans.peak.astype(np.float64) @ concepts.members).toarray() / np.maximum(sizes, 1)


def firing(spans: Spans, concepts: ConceptSet, tau: float = TAU) -> Any:
    """Share of each concept's features that fire on more than `tau` of a text's tokens, [texts, concepts]."""
    sizes = np.asarray(concepts.members.sum(axis=0)).ravel()
    fires = Csr((spans.freq > np.float32(tau)).astype(np.int64))
    return (fires @ concepts.members).toarray() / np.maximum(sizes, 1)


def column_aurocs(positive: Floats, negative: Floats) -> Floats:
    """AUROC of every column's values of telling `positive` [n, columns] from `negative` [m, columns] rows; ties count half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([positive, negative]), axis=0)[: len(positive)].sum(axis=0)
    n, m = len(positive), len(negative)
    return (ranks - n * (n + 1) / 2) / (n * m)


def best(scores: Floats, count: int, *, among: Ints | None = None) -> Ints:
    """Numbers of the `count` largest, largest first, ties by number."""
    order = np.argsort(-scores, kind="stable")
    return order[np.isin(order, among)][:count] if among is not None else order[:count]
