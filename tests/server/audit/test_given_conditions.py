"""Conditions that were named beforehand are tested finely, and what there is no room for is chosen without labels."""

from dataclasses import replace

import numpy as np
from assay_server.audit import given_conditions
from assay_server.audit.disparity import membership
from assay_server.audit.families import Family
from assay_server.audit.findings import AuditOptions, Condition, ViewKind
from assay_server.audit.given_conditions import differing_inside, fine_columns
from assay_server.audit.matrices import Csr
from assay_server.audit.passes import survey
from assay_server.audit.run import run_views
from assay_server.audit.shards import ConceptSet, PairShard

from tests.server.audit.small_datasets import coins, concepts_of, dataset, split, swapped

VIEW = ViewKind.FEATURE_CONDITIONED
ONLY = AuditOptions(views=(VIEW,), data_clusters=5, evidence=0)
TOPICS = tuple(Condition(f"metadata/topic={topic}") for topic in range(3))


def with_words(shard: PairShard, words: np.ndarray) -> tuple[PairShard, ConceptSet]:
    """Columns of words behind the shard's direction."""
    concepts = concepts_of(shard)
    names = (*concepts.names, *(f"word/{number}" for number in range(words.shape[1])))
    return replace(shard, directions=Csr(np.hstack([shard.directions.toarray(), words]))), replace(concepts, names=names)


def test_a_word_preferred_in_one_topic_alone_is_found_there_and_in_no_cluster_of_pairs() -> None:
    shard, draws = dataset(6, 500, share=0.0), np.random.default_rng(0)
    words = (draws.random((500, 40)) < 0.1) * draws.choice([-1, 1], (500, 40))
    inside = shard.groups.toarray()[:, 1] == 1
    words[inside & (draws.random(500) < 0.4), 7] = 1
    shard, concepts = with_words(shard, words)
    table = run_views(split(shard, []), concepts, ONLY, given=TOPICS)[VIEW]
    rows = [row for row in np.flatnonzero(table.finding) if table.concepts[table.concept[row]].name == "word/7"]
    assert [table.conditions[table.condition[row]].name for row in rows if table.raw.estimate[row] > 0] == ["metadata/topic=1"]
    tested = {table.conditions[table.condition[row]].name.partition("/")[0] for row in range(len(table.concept))
              if table.concepts[table.concept[row]].name.startswith("word/")}  # fmt: skip
    assert tested == {"metadata"}
    assert {(one.family, one.given) for one in table.families} == {
        (Family.SAE, False),
        (Family.SAE, True),
        (Family.WORDS, True),
    }


def test_with_swapped_labels_no_family_has_findings_more_often_than_the_level_allows() -> None:
    base, draws = dataset(7, 300), np.random.default_rng(1)
    words = (draws.random((300, 60)) < 0.15) * draws.choice([-1, 1], (300, 60))
    runs = 0
    for _ in range(60):
        shard, concepts = with_words(swapped(base, coins(base, draws)), words * draws.choice([-1, 1], (300, 1)))
        table = run_views(split(shard, []), concepts, ONLY, given=TOPICS)[VIEW]
        runs += any(one.findings_raw or one.findings_controlled for one in table.families if one.family is Family.WORDS)
    assert runs <= 7  # binomial(60, 0.05) passes 7 once in 50


def test_pairs_that_differ_are_counted_whatever_the_sign() -> None:
    values, groups = np.array([[1, 0], [-1, 2], [0, 1]]), np.array([[1, 0], [1, 1], [0, 1]])
    counted = differing_inside(Csr(values), Csr(groups))
    assert counted.tolist() == [[2, 1], [1, 2]]
    assert np.array_equal(differing_inside(Csr(-values), Csr(groups)), counted)


def test_where_there_is_no_room_others_than_features_come_first_then_clusters_then_the_busiest_features(monkeypatch) -> None:
    shard = dataset(8, 60)
    concepts, known = concepts_of(shard), survey(split(shard, []))
    many = len(concepts.names)
    assert fine_columns(concepts, known, 3).tolist() == list(range(many))
    assert not len(fine_columns(concepts, known, 0))
    monkeypatch.setattr(given_conditions, "TESTS", 30)
    kept = fine_columns(concepts, known, 3)
    names = {concepts.names[column] for column in kept}
    busiest = np.argsort(-known.response_spans, kind="stable")[:3]
    assert names == {"concepts/direction-0"} | {f"cluster/{m}" for m in range(6)} | {f"feature/{f}" for f in busiest}
    assert (np.diff(kept) > 0).all()


def test_a_view_without_large_concepts_still_tests_given_conditions_finely() -> None:
    shard = dataset(9, 120)
    concepts = ConceptSet(("feature/3", "word/x"), membership([[3]], 80))
    table = run_views(split(shard, []), concepts, ONLY, given=TOPICS)[VIEW]
    assert {table.concepts[which].name for which in table.concept} <= {"feature/3", "word/x"}
    assert any(one.given for one in table.families)


def test_a_condition_that_holds_every_second_row_can_be_a_finding() -> None:
    """Two sources in turns: even and odd rows would leave one half without any pair inside."""
    shard, draws = dataset(6, 500, share=0.0), np.random.default_rng(0)
    every_second = (np.arange(500) % 2)[:, None]
    words = (draws.random((500, 5)) < 0.1) * draws.choice([-1, 1], (500, 5))
    words[(every_second[:, 0] == 1) & (draws.random(500) < 0.4), 3] = 1
    shard, concepts = with_words(replace(shard, groups=Csr(every_second)), words)
    table = run_views(split(shard, [200]), concepts, ONLY, given=(Condition("metadata/source=b"),))[VIEW]
    found = {table.concepts[table.concept[row]].name for row in np.flatnonzero(table.finding)}
    assert "word/3" in found
