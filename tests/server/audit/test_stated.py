from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit import run
from assay_server.audit.disparity import membership
from assay_server.audit.findings import AuditOptions, Condition, ViewKind
from assay_server.audit.matrices import Csr
from assay_server.audit.reason import Reason
from assay_server.audit.shards import ConceptSet
from assay_server.audit.stated import prompt_inside

from tests.server.audit.small_datasets import concepts_of, dataset, everything, express_more, picked, split
from tests.server.audit.welch import welch

CLUSTER = ConceptSet(("cluster/4",), membership([range(48, 60)], 80))
BARE = {"directions": Csr((400, 0), dtype=np.int64)}


def test_everywhere_it_is_the_global_test_corrected_for_nothing() -> None:
    shard = dataset(1, 400)
    table = run.test_stated(split(replace(shard, **BARE), [100]), CLUSTER, AuditOptions())
    options = AuditOptions(views=(ViewKind.GLOBAL,), max_t_flips=0)
    among = run.run_views(split(shard, []), concepts_of(shard), options)[ViewKind.GLOBAL]
    row = [among.concepts[c].name for c in among.concept].index("cluster/4")
    assert table.view is ViewKind.STATED
    assert (table.tests, len(table.concept)) == (1, 1)
    assert table.raw.p[0] == table.raw.q[0] == table.raw.q_by[0] == among.raw.p[row]
    assert table.controlled is not None
    assert among.controlled is not None
    assert table.controlled.p[0] == table.controlled.q[0] == pytest.approx(among.controlled.p[row], abs=1e-12)
    assert len(table.evidence) == 1


def test_a_given_group_and_a_feature_of_the_prompt_are_contrasted_with_what_is_outside() -> None:
    shard = replace(dataset(2, 400, share=0.0), **BARE)
    b = (shard.freq_chosen.toarray() > 0.01).astype(float) - (shard.freq_rejected.toarray() > 0.01)
    u, fires = b[:, 48:60].mean(axis=1), shard.freq_prompt.toarray()[:, 30] > 0.01
    for inside, held in ((1, shard.groups.toarray()[:, 1] == 1), ([30], fires)):
        table = run.test_stated(split(shard, [7, 300]), CLUSTER, AuditOptions(), inside=inside)
        theirs = welch(u[held], u[~held])
        assert table.raw.p[0] == table.raw.q[0] == pytest.approx(theirs.pvalue, abs=1e-9)
        assert (table.inside[0], table.outside[0]) == (held.sum(), 400 - held.sum())
        assert np.array_equal(table.members[0], np.flatnonzero(held))
        assert held[table.evidence[0].supporting].all()


def test_conditions_have_names() -> None:
    shards = split(replace(dataset(3, 100), directions=Csr((100, 0), dtype=np.int64)), [])
    names = [
        run.test_stated(shards, CLUSTER, AuditOptions(), inside=inside, condition=condition).conditions[0].name
        for inside, condition in ((2, None), ([5], None), ([5, 6], None), (0, Condition("metadata/topic=cooking")))
    ]
    assert names == ["group/2", "feature/5", "prompt-concept", "metadata/topic=cooking"]


def test_a_prompt_expresses_a_concept_of_many_features_where_most_of_them_fire() -> None:
    assert prompt_inside(np.array([0, 1, 1, 0, 1]), 0.1).tolist() == [False, True, True, False, True]
    counts = np.array([0, 1, 2, 3, 3, 1, 1, 1, 1, 2])
    assert np.flatnonzero(prompt_inside(counts, 0.2)).tolist() == [3, 4]
    assert np.flatnonzero(prompt_inside(counts, 0.45)).tolist() == [2, 3, 4, 9]
    assert np.flatnonzero(prompt_inside(counts, 0.1)).tolist() == [3, 4]
    assert prompt_inside(counts, 0.95).sum() == 9
    assert prompt_inside(np.zeros(0, np.int64), 0.1).tolist() == []
    assert not prompt_inside(np.zeros(4, np.int64), 0.1).any()


def test_a_lesson_planted_in_a_topic_is_confirmed_there_and_not_for_another_concept() -> None:
    shard, draws = replace(dataset(4, 400), **BARE), np.random.default_rng(0)
    where = (shard.groups.toarray()[:, 1] == 1) & (draws.random(400) < 0.5)
    shard = express_more(shard, range(48, 60), where, draws)
    assert run.test_stated(split(shard, []), CLUSTER, AuditOptions(), inside=1).finding[0]
    topical = run.test_stated(split(shard, []), CLUSTER, AuditOptions(top_share=0.35), inside=list(range(12, 24)))
    assert topical.raw.p[0] < 1e-6
    other = ConceptSet(("cluster/2",), membership([range(24, 36)], 80))
    assert run.test_stated(split(shard, []), other, AuditOptions(), inside=1).raw.p[0] > 0.01


@pytest.mark.parametrize("pairs", [0, 1, 10])
@pytest.mark.parametrize("inside", [None, 1, [3]])
def test_few_pairs_give_an_answer_or_a_reason_and_never_a_nan(pairs: int, inside: int | list[int] | None) -> None:
    shard = picked(replace(dataset(5, 400), **BARE), slice(0, pairs))
    table = run.test_stated(split(shard, []), CLUSTER, AuditOptions(), inside=inside)
    assert bool(table.reason) == (table.tests == 0)
    assert all(np.isfinite(array).all() for array in everything(table))


def test_a_condition_that_holds_everywhere_or_nowhere_says_so() -> None:
    shard = replace(dataset(6, 400), **BARE)
    shard = replace(shard, groups=Csr(np.stack([np.ones(400, int), np.zeros(400, int)], axis=1)))
    for inside, reason in ((0, Reason.FEW_OUTSIDE), (1, Reason.FEW_INSIDE)):
        table = run.test_stated(split(shard, []), CLUSTER, AuditOptions(), inside=inside)
        assert (table.tests, table.reason) == (0, reason.text)


def test_what_is_not_one_concept_or_no_place_is_refused() -> None:
    shards = split(replace(dataset(7, 400), **BARE), [])
    two = ConceptSet(("a", "b"), membership([[1], [2]], 80))
    with pytest.raises(ValueError, match="about one concept, got 2"):
        run.test_stated(shards, two, AuditOptions())
    with pytest.raises(ValueError, match="no group 3"):
        run.test_stated(shards, CLUSTER, AuditOptions(), inside=3)
    with pytest.raises(ValueError, match=r"features in 0\.\.79"):
        run.test_stated(shards, CLUSTER, AuditOptions(), inside=[80])
