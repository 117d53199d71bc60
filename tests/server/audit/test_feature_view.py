from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.findings import AuditOptions, Condition, TestTable, ViewKind, resolved
from assay_server.audit.matrices import Csr
from assay_server.audit.reason import Reason
from assay_server.audit.run import run_views
from assay_server.audit.shards import ConceptSet, PairShard
from scipy import stats

from tests.server.audit.small_datasets import (
    coins,
    concepts_of,
    dataset,
    everything,
    express_more,
    length_preferring,
    picked,
    split,
    swapped,
)
from tests.server.audit.welch import welch

VIEW = ViewKind.FEATURE_CONDITIONED
ONLY = AuditOptions(views=(VIEW,), data_clusters=5)
TOPICS = tuple(Condition(f"metadata/topic={topic}") for topic in range(3))


def audited(
    shard: PairShard, options: AuditOptions = ONLY, cuts: tuple[int, ...] = (), concepts: ConceptSet | None = None
) -> TestTable:
    return run_views(split(shard, cuts), concepts or concepts_of(shard), options, given=TOPICS)[VIEW]


def rows_of(table: TestTable, condition: str, concept: str) -> list[int]:
    return [
        row
        for row in range(len(table.concept))
        if table.conditions[table.condition[row]].name == condition and table.concepts[table.concept[row]].name == concept
    ]


def test_given_conditions_are_contrasted_over_all_pairs_and_clusters_over_those_that_are_not_silent() -> None:
    shard = replace(dataset(1, 300, share=0.0))
    table = audited(shard)
    b = (shard.freq_chosen.toarray() > 0.01).astype(float) - (shard.freq_rejected.toarray() > 0.01)
    u = b[:, 12:24].mean(axis=1)
    (row,) = rows_of(table, "metadata/topic=1", "cluster/1")
    inside = shard.groups.toarray()[:, 1] == 1
    theirs = welch(u[inside], u[~inside])
    assert table.raw.p[row] == pytest.approx(theirs.pvalue, abs=1e-9)
    assert table.raw.estimate[row] == pytest.approx(u[inside].mean() - u[~inside].mean(), abs=1e-12)
    active = np.concatenate(table.members)
    assert len(active) == len(np.unique(active)) == 285
    (row,) = rows_of(table, "data-cluster/0", "cluster/1")
    inside = np.isin(shard.rows, table.members[0])
    theirs = welch(u[inside], u[np.isin(shard.rows, active) & ~inside])
    assert table.raw.p[row] == pytest.approx(theirs.pvalue, abs=1e-9)
    assert (table.inside[row], table.outside[row]) == (inside.sum(), 285 - inside.sum())


def test_clusters_of_pairs_are_tested_on_large_concepts_and_directions_and_given_conditions_on_single_features_too() -> None:
    table = audited(dataset(2, 300))
    tested: dict[str, set[str]] = {"data-cluster": set(), "metadata": set()}
    for concept, condition in zip(table.concept, table.condition, strict=True):
        tested[table.conditions[condition].name.partition("/")[0]].add(table.concepts[concept].name)
    large = {f"cluster/{m}" for m in range(6)} | {"concepts/direction-0"}
    assert tested["data-cluster"] == large
    assert tested["metadata"] == large | {f"feature/{feature}" for feature in range(80)}
    clusters = sum(len(members) >= 25 for members in table.members)
    assert [(one.given, one.tests) for one in table.families] == [(False, clusters * 7), (True, 3 * 87)]
    assert table.tests == clusters * 7 + 3 * 87
    assert audited(dataset(2, 300), replace(ONLY, min_inside=90)).tests < table.tests


def test_given_conditions_are_corrected_apart_from_the_clusters() -> None:
    table = audited(dataset(2, 300))
    given = np.array([table.conditions[condition].name.startswith("metadata/") for condition in table.condition])
    assert given.any()
    assert not given.all()
    for part in (given, ~given):
        assert np.allclose(table.raw.q[part], stats.false_discovery_control(table.raw.p[part]), atol=1e-12)


def test_without_clusters_the_features_that_fire_most_are_tested_singly_and_the_note_says_so() -> None:
    shard = dataset(3, 300)
    singles = concepts_of(shard, blocks=0)
    table = audited(shard, concepts=singles)
    assert table.note.startswith("No concept holds 10 features, so the 80 most frequent features were tested singly.")
    assert table.tests > 0
    assert audited(shard).note == ""


def test_swapping_chosen_and_rejected_changes_no_cluster() -> None:
    shard = dataset(4, 200)
    one, other = audited(shard), audited(swapped(shard, coins(shard, np.random.default_rng(0))))
    assert all(np.array_equal(a, b) for a, b in zip(one.members, other.members, strict=True))
    assert one.conditions == other.conditions


def test_the_same_pairs_in_other_shards_give_the_same_bits() -> None:
    shard = dataset(5, 200)
    one, many = audited(shard), audited(shard, cuts=(0, 13, 13, 120))
    assert all(np.array_equal(a, b) for a, b in zip(everything(one), everything(many), strict=True))


def test_a_lesson_planted_in_one_topic_is_found_there_and_named() -> None:
    shard, draws = dataset(6, 600), np.random.default_rng(0)
    where = (shard.groups.toarray()[:, 1] == 1) & (draws.random(600) < 0.5)
    table = audited(express_more(shard, range(48, 60), where, draws))
    (row,) = rows_of(table, "metadata/topic=1", "cluster/4")
    assert table.finding[row]
    assert table.raw.estimate[row] > 0.1
    assert where[table.evidence[row].supporting].mean() >= 0.8
    named = {table.concepts[table.concept[row]].name for row in np.flatnonzero(table.finding)}
    planted = {f"feature/{feature}" for feature in range(48, 60)}
    assert len(named & planted) >= 9
    assert len(named - planted - {"cluster/4"}) <= 1  # a share of 5% may be false


def test_swapped_labels_give_findings_no_more_often_than_the_level_allows() -> None:
    base, draws = dataset(7, 240), np.random.default_rng(1)
    options = replace(ONLY, evidence=0)
    runs = [audited(swapped(base, coins(base, draws)), options) for _ in range(60)]
    for count in (sum(run.findings_raw > 0 for run in runs), sum(run.findings_controlled > 0 for run in runs)):
        assert stats.binomtest(count, len(runs), 0.05, alternative="greater").pvalue > 0.01


def test_where_length_differs_between_topics_the_raw_contrast_is_fooled_and_the_controlled_one_is_not() -> None:
    base, draws = dataset(8, 500), np.random.default_rng(2)
    longer = np.where(base.groups.toarray()[:, :1] == 1, base.nuisance, 0.1 * base.nuisance)
    dense = {name: getattr(base, name).toarray() for name in ("freq_chosen", "freq_rejected")}
    for name, sign in (("freq_chosen", 1), ("freq_rejected", -1)):
        fires = draws.random(dense[name].shape) < 1 / (1 + np.exp(1.5 - 1.2 * sign * longer))
        dense[name] = np.where(fires, 0.2, 0.0).astype(np.float32)
    base = replace(base, nuisance=longer, **{name: Csr(values) for name, values in dense.items()})
    runs = [audited(length_preferring(base, draws, 2.0), replace(ONLY, evidence=0)) for _ in range(40)]
    assert sum(run.findings_raw > 0 for run in runs) >= 38
    assert stats.binomtest(sum(run.findings_controlled > 0 for run in runs), 40, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("pairs", [0, 1, 2, 10])
def test_few_pairs_give_an_answer_or_a_reason_and_never_a_nan(pairs: int) -> None:
    table = audited(picked(dataset(9, 20, share=0.0), slice(0, pairs)), replace(ONLY, data_clusters=0))
    assert table.tests == 0
    assert table.reason
    assert all(np.isfinite(array).all() for array in everything(table))


def test_one_metadata_value_one_prompt_and_constant_features_say_why_they_tell_nothing() -> None:
    shard = dataset(10, 120)
    everywhere = replace(shard, groups=Csr(np.stack([np.ones(120, int), np.zeros(120, int), np.zeros(120, int)], axis=1)))
    table = audited(everywhere)
    assert "metadata/topic=0 holds all but 0 pairs: there is nothing to compare it with." in table.note
    assert "metadata/topic=1 holds 0 pairs, fewer than 25: it was not tested." in table.note
    assert table.tests > 0
    together = audited(replace(shard, prompts=np.zeros(120, np.int64)))
    assert (together.tests, together.reason) == (0, Reason.ONE_PROMPT.text)
    alike = {"freq_rejected": shard.freq_chosen, "max_rejected": shard.max_chosen}
    same = audited(replace(shard, **alike, directions=shard.directions * 0))
    assert (same.tests, same.reason) == (0, Reason.CONSTANT.text)
    for result in (table, together, same):
        assert all(np.isfinite(array).all() for array in everything(result))


def test_groups_of_another_number_than_the_conditions_given_are_refused() -> None:
    shard = dataset(1, 40)
    with pytest.raises(ValueError, match="2 conditions are given, but the pairs are in 3 groups"):
        run_views(split(shard, []), concepts_of(shard), ONLY, given=TOPICS[:2])


def test_the_default_number_of_clusters_grows_with_the_root_of_the_pairs() -> None:
    assert [resolved(AuditOptions(), pairs).data_clusters for pairs in (0, 10, 319, 10_000, 260_000)] == [1, 1, 6, 100, 512]
    assert [resolved(AuditOptions(), pairs).min_firings for pairs in (0, 319, 260_000)] == [10, 31, 200]
    assert resolved(AuditOptions(data_clusters=7, min_firings=3), 1_000) == AuditOptions(data_clusters=7, min_firings=3)
