"""Edges against a loop over all pairs with scikit-learn's NMI, and their selection against a full sort."""

import tracemalloc
from decimal import Decimal
from itertools import combinations
from math import ceil

import numpy as np
import pytest
from assay_server.concepts.cofiring import CofiringEdges, cofiring_edges
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import normalized_mutual_info_score

Pairs = dict[tuple[int, int], float]


def firings(seed: int, samples: int = 30, features: int = 14) -> np.ndarray:
    """Correlated features, some of them equal, one silent and one that always fires."""
    generator = np.random.default_rng(seed)
    hidden = generator.random((samples, 4)) < 0.4
    fired = hidden[:, generator.integers(0, 4, features)] ^ (generator.random((samples, features)) < 0.15)
    fired[:, 1] = fired[:, 0]
    fired[:, 2], fired[:, 3] = False, True
    return fired


def loop(fired: np.ndarray, *, min_samples: int, positive_only: bool) -> Pairs:
    """Every pair that may be an edge, one at a time."""
    n, found = len(fired), {}
    usable = [f for f in range(fired.shape[1]) if min_samples <= fired[:, f].sum() < n]
    for g, h in combinations(usable, 2):
        together = int((fired[:, g] & fired[:, h]).sum())
        expected = fired[:, g].sum() * fired[:, h].sum() / n
        if together and (together > expected or not positive_only):
            found[g, h] = normalized_mutual_info_score(fired[:, g], fired[:, h], average_method="geometric")
    return found


def by_id(edges: CofiringEdges) -> Pairs:
    ends = zip(edges.features[edges.left].tolist(), edges.features[edges.right].tolist(), strict=True)
    return {(min(a, b), max(a, b)): value for (a, b), value in zip(ends, edges.nmi.tolist(), strict=True)}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans(), st.sampled_from([1, 17, 1 << 20]))
def test_every_edge_is_that_of_the_loop(seed: int, min_samples: int, positive_only: bool, block: int) -> None:
    fired = firings(seed)
    wanted = loop(fired, min_samples=min_samples, positive_only=positive_only)
    edges = cofiring_edges(
        sparse.csr_array(fired),
        top_share=1.0,
        min_samples=min_samples,
        positive_only=positive_only,
        block_entries=block,
    )
    found = by_id(edges)
    assert found.keys() == wanted.keys()
    assert edges.pairs == len(wanted)
    for pair, value in wanted.items():
        assert found[pair] == pytest.approx(value, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 1), st.sampled_from([1, 40, 1 << 20]))
def test_the_top_share_is_the_head_of_the_full_sort_whatever_the_blocks(seed: int, share: float, block: int) -> None:
    fired = sparse.csr_array(firings(seed, features=25))
    every = cofiring_edges(fired, top_share=1.0, min_samples=2)
    order = np.lexsort((every.right, every.left, -every.nmi))[: ceil(share * every.pairs)]
    top = cofiring_edges(fired, top_share=share, min_samples=2, block_entries=block)
    wanted = sorted(zip(every.left[order], every.right[order], every.nmi[order], strict=True))
    assert list(zip(top.left, top.right, top.nmi, strict=True)) == wanted
    assert top.pairs == every.pairs


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_renumbering_the_features_renumbers_the_edges_to_the_bit(seed: int, shuffle: int) -> None:
    fired = firings(seed, features=25)
    fired = np.unique(fired, axis=1)  # equal features may stand in for each other
    order = np.random.default_rng(shuffle).permutation(fired.shape[1])
    here = cofiring_edges(sparse.csr_array(fired), top_share=0.2, min_samples=2)
    there = cofiring_edges(sparse.csr_array(fired[:, order]), top_share=0.2, min_samples=2)
    assert order[there.features].tolist() == here.features.tolist()
    assert there.left.tolist() == here.left.tolist()
    assert there.right.tolist() == here.right.tolist()
    assert there.nmi.tobytes() == here.nmi.tobytes()


def test_features_that_always_fire_together_have_an_nmi_of_one_and_independent_ones_of_nearly_none() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 200_000)) < 0.01
    edges = by_id(cofiring_edges(sparse.csr_array(np.stack([a, a, b], axis=1)), top_share=1.0, positive_only=False))
    assert edges[0, 1] == pytest.approx(1.0, abs=1e-12)
    assert edges[0, 2] < 1e-3
    assert edges[0, 2] == edges[1, 2]


def test_a_rare_pair_in_a_large_corpus_keeps_its_digits() -> None:
    fired = np.zeros((100_000, 2), dtype=np.bool_)
    fired[:12, 0], fired[4:18, 1] = True, True
    value = cofiring_edges(sparse.csr_array(fired), top_share=1.0).nmi[0]

    def entropy(*counts: int) -> Decimal:
        shares = [Decimal(count) / 100_000 for count in counts]
        return -sum(share * share.ln() for share in shares)

    left, right = entropy(12, 99_988), entropy(14, 99_986)
    exact = (left + right - entropy(8, 4, 6, 99_982)) / (left * right).sqrt()
    assert value == pytest.approx(float(exact), rel=1e-13)


def test_values_count_as_fired_and_stored_zeros_and_repeats_do_not_mislead() -> None:
    fired = firings(3)
    samples, features = fired.shape
    # Every cell is stored twice; silent cells as zeros, and firings as values that are no counts.
    data = np.repeat(np.where(fired, 0.3, 0.0).ravel(), 2)
    indices = np.tile(np.repeat(np.arange(features), 2), samples)
    messy = sparse.csr_array((data, indices, np.arange(samples + 1) * 2 * features), shape=fired.shape)
    before = messy.data.copy()
    plain = cofiring_edges(sparse.csr_array(fired), top_share=1.0)
    found = cofiring_edges(messy, top_share=1.0)
    assert by_id(found) == by_id(plain)
    assert np.array_equal(messy.data, before)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1), (20, 6)])
def test_a_corpus_in_which_nothing_fires_has_no_edges(shape: tuple[int, int]) -> None:
    edges = cofiring_edges(sparse.csr_array(np.zeros(shape)))
    assert (len(edges.nmi), edges.pairs, len(edges.features), edges.samples) == (0, 0, 0, shape[0])


@pytest.mark.parametrize("knob", [{"top_share": 0.0}, {"top_share": 1.1}, {"min_samples": 0}, {"block_entries": 0}])
def test_knobs_out_of_range_are_refused(knob: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        cofiring_edges(sparse.csr_array(np.eye(3)), **knob)  # type: ignore[arg-type]


def test_memory_follows_the_edges_that_can_still_be_kept_and_not_all_pairs() -> None:
    generator = np.random.default_rng(0)
    fired = sparse.csr_array(generator.random((400, 3000)) < 0.08)
    tracemalloc.start()
    edges = cofiring_edges(fired, top_share=0.01, positive_only=False, block_entries=1 << 16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert edges.pairs > 3_500_000
    # All pairs would take 16 bytes each, 56 MB at the least.
    assert peak < 30e6
