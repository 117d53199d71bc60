from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from assay_server.audit.concentration import TOP, UNKNOWN, Carried, ConcentrationSketch
from assay_server.audit.evidence import EvidenceBlock, asked_of, entries_of
from assay_server.audit.feature_view import labels_of
from assay_server.audit.findings import AuditOptions, TestTable, ViewKind
from assay_server.audit.matrices import Csr
from assay_server.audit.passes import disparities, strengths, survey
from assay_server.audit.prompt_view import prompt_view, response_disparities
from assay_server.audit.run import run_views
from assay_server.audit.shards import PairShard

from tests.server.audit.small_datasets import concepts_of, dataset, everything, express_more, split


def sketched(u: np.ndarray, strength: np.ndarray, cuts: tuple[int, ...] = ()) -> Carried:
    """Of one concept over all pairs."""
    asked = asked_of(np.zeros(1, int), np.full(1, -1), np.sign(u.mean(keepdims=True)))
    sketch = ConcentrationSketch(asked)
    for a, b in pairwise([0, *cuts, len(u)]):
        rows = np.arange(a, b)
        part = EvidenceBlock(rows, rows, None, Csr(u[rows, None]), Csr(strength[rows, None]), None)
        sketch.add(entries_of(part, asked))
    return sketch.finish(u.mean(keepdims=True))


def exactly(contribution: np.ndarray, strength: np.ndarray) -> tuple[float, float]:
    """Share of pairs that carries half, and what is left without the strongest 5%, by sorting."""
    order = np.argsort(-strength, kind="stable")
    running = np.cumsum(contribution[order])
    half = int((running >= running[-1] / 2).argmax() + 1) / len(order)
    top = min(round(TOP * len(order)), int((strength > 0).sum()))
    return half, float(np.clip(1 - running[top - 1] / running[-1], 0, 1))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_sketch_is_within_a_bin_of_sorting_all_pairs(seed: int, sign: float) -> None:
    draws, pairs = np.random.default_rng(seed), 4_000
    strength = draws.normal(0.3, 1, pairs) * draws.gamma(0.5, size=pairs) * (draws.random(pairs) < 0.6)
    u = np.sign(strength) * (draws.random(pairs) < 0.7)
    told = sketched(sign * u, sign * strength, (700, 701, 2_000))
    half, left = exactly(u, strength)
    widest = 0.03  # the largest share of these pairs in a bin
    assert told.carried_by[0] == pytest.approx(half, abs=widest)
    assert told.left_without_top[0] == pytest.approx(left, abs=0.01)
    sides = [int((sign * u > 0).sum()), int((sign * u < 0).sum())]
    assert [told.only_chosen[0], told.only_rejected[0]] == sides


def test_few_strong_pairs_are_told_from_many_weak_ones_and_taking_out_the_few_undoes_them() -> None:
    draws, pairs = np.random.default_rng(0), 10_000
    few = (np.arange(pairs) < 200).astype(float)
    (carried,), (left,) = (getattr(sketched(few, 3 * few), name) for name in ("carried_by", "left_without_top"))
    assert (carried, left) == (pytest.approx(0.01), 0.0)
    many = np.where(draws.random(pairs) < 0.6, 1.0, -1.0)
    (carried,), (left,) = (getattr(sketched(many, many), name) for name in ("carried_by", "left_without_top"))
    # Ties are mixed evenly: half of the net 2,000 comes from 1,000 of the 6,000 pairs for it.
    assert carried == pytest.approx(0.1, abs=0.005)
    assert left == pytest.approx(1 - 500 / many.sum())


def test_nothing_is_said_where_the_pairs_show_no_effect() -> None:
    assert sketched(np.array([1.0, -1.0]), np.array([1.0, -1.0])).carried_by.tolist() == [UNKNOWN]
    assert sketched(np.zeros(3), np.zeros(3)).left_without_top.tolist() == [UNKNOWN]


def by_loop(u: np.ndarray, strength: np.ndarray, inside: np.ndarray, compared: np.ndarray, sign: float) -> tuple[float, float]:
    contribution = sign * (u[inside] - u[compared & ~inside].mean())
    return exactly(contribution, sign * strength[inside])


def planted() -> PairShard:
    draws = np.random.default_rng(3)
    shard = replace(dataset(3, 1_200), groups=Csr((1_200, 0), dtype=np.int64))
    return express_more(shard, range(24, 36), draws.random(1_200) < 0.2, draws)


def known_rows(table: TestTable) -> np.ndarray:
    return np.flatnonzero(table.carried_by[:40] != UNKNOWN)


def test_conditioned_views_take_the_mean_outside_away() -> None:
    shard = planted()
    concepts, options = concepts_of(shard), AuditOptions(keep=40, max_t_flips=0, data_clusters=4, min_features=1)
    known, shards = survey(split(shard, [])), split(shard, [400])
    tables = run_views(shards, concepts, options)
    table = tables[ViewKind.FEATURE_CONDITIONED]
    u, strength = disparities(shard, concepts, 0.01).values().toarray(), strengths(shard, concepts, known.scale).toarray()
    label, place = labels_of(table, known), {name: column for column, name in enumerate(concepts.names)}
    assert len(known_rows(table)) > 30
    for row in known_rows(table):
        column = place[table.concepts[table.concept[row]].name]
        sign = np.sign(table.controlled.estimate[row])
        found = by_loop(u[:, column], strength[:, column], label == table.condition[row], label >= 0, sign)
        assert (table.carried_by[row], table.left_without_top[row]) == pytest.approx(found, abs=0.06)
        assert table.only_chosen[row] == (u[label == table.condition[row], column] > 0).sum()
    prompts = tables[ViewKind.PROMPT_CONDITIONED]
    _, clusters = prompt_view(shards, concepts, replace(options, min_firings=120), known)
    assert clusters is not None
    delta = response_disparities(shard, clusters, options).toarray()
    for row in known_rows(prompts):
        inside = clusters.inside.toarray()[:, prompts.condition[row]] > 0
        sign = np.sign(prompts.controlled.estimate[row])
        column = prompts.concept[row]
        found = by_loop(delta[:, column], delta[:, column], inside, clusters.tested, sign)
        assert (prompts.carried_by[row], prompts.left_without_top[row]) == pytest.approx(found, abs=0.06)


def test_tables_are_the_same_however_the_dataset_is_split_and_hold_nothing_beyond_what_is_kept() -> None:
    shard = planted()
    concepts, options = concepts_of(shard), AuditOptions(views=(ViewKind.GLOBAL,), keep=30, max_t_flips=0)
    one, other = (run_views(split(shard, cuts), concepts, options)[ViewKind.GLOBAL] for cuts in ([], [5, 600]))
    assert all(np.array_equal(a, b) for a, b in zip(everything(one), everything(other), strict=True))
    assert len(one.carried_by) == len(one.concept)
    for column in (one.only_chosen, one.only_rejected, one.carried_by, one.left_without_top):
        assert (column[30:] == UNKNOWN).all()
    assert (one.only_chosen[:30] >= 0).all()
