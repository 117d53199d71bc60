"""Feature clusters: communities of features that fire together over a reference corpus (METHOD.md §2, [A]).

    clusters = cluster_features(fired)           # fired: samples x d_sae, CSR
    clusters.members(0), clusters.cohesion[0]    # the largest

The steps: NMI of co-firing pairs, the top 1% as edges (``cofiring``), Leiden by modularity, communities of >= 4 features.

Invariants:
- One seed, one answer, in any process. Renumbering the features renumbers the answer and changes nothing
  else, because Leiden sees the graph in canonical order.
- A feature is in one cluster or in none. Clusters come largest first, ties by smallest feature id.

Leiden is `graspologic-native` (MIT, Rust, 1 MB): the implementations that [A] names are under the GPL.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import graspologic_native
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from assay_server.concepts.cofiring import CofiringEdges, cofiring_edges

Ids = NDArray[np.int64]

# The extension module has no type stubs.
_leiden_csr = cast("Callable[..., tuple[float, dict[int, int]]]", graspologic_native.leiden_csr)  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Every knob of the clustering, with the method's default.

    Attributes:
        top_share: part of the co-firing pairs kept as edges, in (0, 1].
        min_samples: samples that a feature must have fired on to be considered (beyond [A]).
        positive_only: drop pairs that fire together less often than by chance (beyond [A]).
        min_size: features that a community needs to be a cluster, >= 1.
        resolution: of modularity, > 0; higher gives more and smaller communities.
        iterations: times that Leiden starts again from its own answer, >= 1.
        seed: of Leiden, >= 0.
    """

    top_share: float = 0.01
    min_samples: int = 10
    positive_only: bool = True
    min_size: int = 4
    resolution: float = 1.0
    iterations: int = 2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FeatureClusters:
    """Clusters, end to end.

    Attributes:
        features: feature ids, int64 [total]; ascending within a cluster.
        starts: where each cluster begins, and the end of the last, int64 [n + 1].
        cohesion: sum of the edges' NMI inside each cluster over its number of pairs, float64 [n], in [0, 1]. A pair that
            is no edge counts 0.
        d_sae: features of the SAE.
        samples: samples in the reference corpus.
        considered: features that fired often enough, and not always.
        pairs: co-firing pairs among them.
        edges: pairs kept.
        weakest_edge: the least NMI kept; 0 without edges.
        modularity: of Leiden's whole partition under ``options.resolution``; 0 without edges.
        reason: why there is no cluster; "" where there is one.
        options: of the clustering.
    """

    features: Ids
    starts: Ids
    cohesion: NDArray[np.float64]
    d_sae: int
    samples: int
    considered: int
    pairs: int
    edges: int
    weakest_edge: float
    modularity: float
    reason: str = ""
    options: ClusterOptions = field(default_factory=ClusterOptions)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def members(self, cluster: int) -> Ids:
        """Return the feature ids of one cluster, ascending, 0 <= cluster < len(self)."""
        if not 0 <= cluster < len(self):
            raise IndexError(f"cluster {cluster} of {len(self)}")
        return self.features[self.starts[cluster] : self.starts[cluster + 1]]

    def labels(self) -> NDArray[np.int32]:
        """Return the cluster of each feature, int32 [d_sae]; −1 for none."""
        labels = np.full(self.d_sae, -1, dtype=np.int32)
        labels[self.features] = np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.starts))
        return labels


def cluster_features(
    fired: sparse.csr_array, options: ClusterOptions | None = None, *, check: Callable[[], None] = lambda: None
) -> FeatureClusters:
    """Cluster features by the samples they fire on.

    Args:
        fired: samples x d_sae; nonzero means fired.
        options: None for the defaults.
        check: called between steps, of which Leiden is one; may raise to stop.

    An answer without clusters carries its reason and raises nothing.

    Source: [A]; Leiden: Traag, Waltman and van Eck 2019, Scientific Reports 9:5233.
    """
    options = options or ClusterOptions()
    edges = cofiring_edges(
        fired,
        top_share=options.top_share,
        min_samples=options.min_samples,
        positive_only=options.positive_only,
        check=check,
    )
    check()
    community, modularity = _leiden(edges, options)
    d_sae = cast("tuple[int, int]", fired.shape)[1]
    kept = _kept(edges, community, options.min_size)
    inside = community[edges.left] == community[edges.right]
    weight = np.bincount(community[edges.left[inside]], edges.nmi[inside], minlength=len(edges.features))
    sizes = np.array([len(members) for members in kept.values()], dtype=np.int64)
    cohesion = [weight[label] / max(len(members) * (len(members) - 1) / 2, 1) for label, members in kept.items()]
    return FeatureClusters(
        features=np.concatenate([np.empty(0, dtype=np.int64), *kept.values()]),
        starts=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)]),
        cohesion=np.array(cohesion, dtype=np.float64),
        d_sae=d_sae,
        samples=edges.samples,
        considered=len(edges.features),
        pairs=edges.pairs,
        edges=len(edges.nmi),
        weakest_edge=float(edges.nmi.min()) if len(edges.nmi) else 0.0,
        modularity=modularity,
        reason="" if kept else _reason(edges, d_sae, options),
        options=options,
    )


def _leiden(edges: CofiringEdges, options: ClusterOptions) -> tuple[Ids, float]:
    """Community of each canonical position, int64 [f], and the partition's modularity; a lone feature is its own."""
    f = len(edges.features)
    alone = np.arange(f, dtype=np.int64)
    # An edge of weight 0 joins nothing, and a graph of such edges has no modularity.
    heavy = edges.nmi > 0
    if not heavy.any():
        return alone, 0.0
    left, right, nmi = edges.left[heavy], edges.right[heavy], edges.nmi[heavy]
    used = np.unique(np.concatenate([left, right]))
    ends = np.searchsorted(used, left), np.searchsorted(used, right)
    rows, columns = np.concatenate(ends), np.concatenate(ends[::-1])
    graph = sparse.csr_array((np.concatenate([nmi, nmi]), (rows, columns)), shape=(len(used), len(used)))
    graph.sort_indices()
    modularity, found = _leiden_csr(
        graph.indptr.astype(np.int64),
        graph.indices.astype(np.int32),
        graph.data,
        len(used),
        resolution=options.resolution,
        iterations=options.iterations,
        seed=options.seed,
    )
    labels = np.array([found[node] for node in range(len(used))], dtype=np.int64)
    community = alone.copy()
    # Named after a member, so that no name meets that of a lone feature.
    first = np.full(int(labels.max()) + 1, f, dtype=np.int64)
    np.minimum.at(first, labels, used)
    community[used] = first[labels]
    return community, float(modularity)


def _kept(edges: CofiringEdges, community: Ids, min_size: int) -> dict[int, Ids]:
    """Feature ids, ascending, of each community that is large enough; largest first, ties by smallest id."""
    joined = np.union1d(edges.left, edges.right)
    order = joined[np.argsort(community[joined], kind="stable")]
    starts = np.flatnonzero(np.diff(community[order], prepend=-1))
    groups = np.split(order, starts[1:]) if len(order) else []
    found = {int(community[group[0]]): np.sort(edges.features[group]) for group in groups if len(group) >= min_size}
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), int(item[1][0]))))


def _reason(edges: CofiringEdges, d_sae: int, options: ClusterOptions) -> str:
    if len(edges.features) < options.min_size:
        return (
            f"{len(edges.features)} of {d_sae} features fired on at least {options.min_samples} of {edges.samples} samples "
            f"and not on all, and a cluster needs {options.min_size}: use a larger corpus."
        )
    return (
        f"no community of {options.min_size} features among {len(edges.nmi)} edges, the top {options.top_share:.2%} of "
        f"{edges.pairs} co-firing pairs: use a larger corpus or a larger share."
    )
