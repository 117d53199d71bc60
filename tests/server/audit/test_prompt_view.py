from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.families import Family
from assay_server.audit.findings import AuditOptions, TestTable, ViewKind, resolved
from assay_server.audit.matrices import Csr
from assay_server.audit.passes import survey
from assay_server.audit.prompt_view import PromptClusters, fitting_half, prompt_view
from assay_server.audit.reason import Reason
from assay_server.audit.run import run_views
from assay_server.audit.shards import PairShard
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

VIEW = ViewKind.PROMPT_CONDITIONED
ONLY = AuditOptions(views=(VIEW,), prompt_clusters=5, response_clusters=6, top_share=0.25, svd_rank=8)


def audited(shard: PairShard, options: AuditOptions = ONLY, cuts: tuple[int, ...] = ()) -> TestTable:
    return run_views(split(shard, cuts), concepts_of(shard), options)[VIEW]


def fitted(shard: PairShard, options: AuditOptions = ONLY) -> tuple[TestTable, PromptClusters]:
    whole = split(shard, [])
    table, clusters = prompt_view(whole, concepts_of(shard), resolved(options, whole.pairs), survey(whole))
    assert clusters is not None
    return table, clusters


def test_every_test_equals_scipy_on_the_half_that_no_cluster_was_fitted_on() -> None:
    shard = dataset(1, 400, share=0.0)
    table, clusters = fitted(shard)
    tested = ~fitting_half(shard.prompts, 0)
    d = shard.max_chosen.toarray().astype(float) - shard.max_rejected.toarray()
    sigma, fires = d[~tested].std(axis=0), shard.freq_prompt.toarray() > 0.01
    assert table.tests == len(table.concept) == 30
    for row in range(0, 30, 4):
        features = list(table.concepts[table.concept[row]].features)
        u = (d[:, features] / sigma[features]).mean(axis=1)
        c = fires[:, list(table.conditions[table.condition[row]].features)].mean(axis=1)
        inside = clusters.inside[:, [int(table.condition[row])]].toarray()[:, 0] == 1
        assert not inside[~tested].any()
        assert inside.sum() == min((c[tested] > 0).sum(), int(0.25 * tested.sum())) == table.inside[row]
        assert c[inside].min() >= c[tested & ~inside].max()
        assert c[inside].min() > 0
        theirs = welch(u[inside], u[tested & ~inside])
        assert table.raw.p[row] == pytest.approx(theirs.pvalue, abs=1e-9)
        assert table.raw.estimate[row] == pytest.approx(u[inside].mean() - u[tested & ~inside].mean(), abs=1e-9)
        assert np.array_equal(table.members[table.condition[row]], np.flatnonzero(inside))


def test_response_features_are_taken_singly_over_all_pairs_where_pairs_are_few() -> None:
    shard = dataset(1, 400, share=0.0)
    table, clusters = fitted(shard, replace(ONLY, response_clusters=0))
    assert clusters.tested.all()
    assert {concept.name for concept in table.concepts} == {f"feature/{feature}" for feature in range(80)}
    assert table.tests == len(table.concept) == 5 * 80
    d = shard.max_chosen.toarray().astype(float) - shard.max_rejected.toarray()
    fires = shard.freq_prompt.toarray() > 0.01
    for row in range(0, 400, 37):
        (feature,) = table.concepts[table.concept[row]].features
        u = d[:, feature] / d[:, feature].std()
        c = fires[:, list(table.conditions[table.condition[row]].features)].mean(axis=1)
        inside = clusters.inside[:, [int(table.condition[row])]].toarray()[:, 0] == 1
        assert inside.sum() == min((c > 0).sum(), 100)
        assert c[inside].min() >= c[~inside].max()
        theirs = welch(u[inside], u[~inside])
        assert table.raw.p[row] == pytest.approx(theirs.pvalue, abs=1e-9)


def test_a_lesson_of_one_feature_under_one_topic_is_named_among_few_pairs() -> None:
    shard, draws = dataset(4, 300), np.random.default_rng(0)
    where = (shard.groups.toarray()[:, 2] == 1) & (draws.random(300) < 0.7)
    planted = express_more(shard, [50], where, draws)
    singly, clustered = (audited(planted, replace(ONLY, response_clusters=number)) for number in (0, 6))
    assert singly.finding[0]
    assert singly.concepts[singly.concept[0]].name == "feature/50"
    assert set(singly.conditions[singly.condition[0]].features) <= set(range(24, 36))
    assert not clustered.finding.any()


@pytest.mark.parametrize("number", [0, 6])
def test_a_descriptor_under_one_topic_is_found_in_a_family_of_its_own(number: int) -> None:
    """In standard deviations as everything in the view, on the pairs that the view tests, and not among directions."""
    shard, draws = dataset(4, 300, share=0.0), np.random.default_rng(0)
    praise = np.where((shard.groups.toarray()[:, 2] == 1) & (draws.random(300) < 0.7), 1, draws.integers(-1, 2, 300))
    columns = np.stack([shard.directions.toarray()[:, 0], praise], axis=1)
    planted, names = replace(shard, directions=Csr(columns)), (*concepts_of(shard).names, "text/praise")
    concepts = replace(concepts_of(shard), names=names)
    whole, options = split(planted, [100]), resolved(replace(ONLY, response_clusters=number), 300)
    table = run_views(whole, concepts, options)[VIEW]
    assert {one.family: one.tests for one in table.families}[Family.TEXT] == 5
    assert not any(one.name.startswith("concepts/") for one in table.concepts)
    named = np.array([table.concepts[concept].name == "text/praise" for concept in table.concept])
    row = np.flatnonzero(named & table.finding & (table.raw.estimate > 0))[0]
    inside = np.isin(np.arange(300), table.members[table.condition[row]])
    tested = np.ones(300, np.bool_) if number == 0 else ~fitting_half(shard.prompts, options.seed)
    u = praise / praise.std()
    theirs = welch(u[inside & tested], u[tested & ~inside])
    assert set(table.conditions[table.condition[row]].features) <= set(range(24, 36))
    assert table.raw.estimate[row] == pytest.approx(u[inside & tested].mean() - u[tested & ~inside].mean(), abs=1e-9)
    assert table.raw.p[row] == pytest.approx(theirs.pvalue, rel=1e-6)
    assert table.only_chosen is not None
    assert table.only_chosen[row] == (praise[inside] > 0).sum()


@pytest.mark.parametrize("number", [0, 6])
def test_descriptors_are_tested_where_no_response_feature_fires_enough(number: int) -> None:
    shard = dataset(4, 300, share=0.0)
    silent = Csr(shard.freq_chosen.shape, dtype=np.float32)
    quiet = replace(shard, freq_chosen=silent, freq_rejected=silent, max_chosen=silent, max_rejected=silent)
    names = (*concepts_of(shard).names[:-1], "text/praise")
    options = replace(ONLY, response_clusters=number)
    table = run_views(split(quiet, []), replace(concepts_of(shard), names=names), options)[VIEW]
    assert (table.reason, table.tests, [one.name for one in table.concepts]) == ("", 5, ["text/praise"])
    assert run_views(split(quiet, []), concepts_of(shard), options)[VIEW].reason.endswith("too few to form clusters")


def test_single_features_that_there_is_no_room_for_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = dataset(1, 300)
    monkeypatch.setattr("assay_server.audit.prompt_view._SINGLE_TESTS", 100)
    table = audited(shard, replace(ONLY, response_clusters=0))
    assert table.tests == 100
    assert table.note.endswith("the 20 that fire most were tested over 5 prompt clusters, and 60 were not")
    often = np.asarray(((shard.freq_chosen + shard.freq_rejected) > 0).sum(axis=0)).ravel()
    taken = [concept.features[0] for concept in table.concepts]
    assert often[taken].min() >= np.delete(often, taken).max()


def test_many_pairs_are_clustered_on_one_half(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = dataset(1, 400)
    monkeypatch.setattr("assay_server.audit.prompt_view.FEW", 400)
    _, clusters = fitted(shard, replace(ONLY, response_clusters=0))
    assert not clusters.singly
    assert np.array_equal(clusters.tested, ~fitting_half(shard.prompts, 0))


def test_no_prompt_is_on_both_sides_and_the_seed_decides_which_is_which() -> None:
    prompts = np.random.default_rng(0).integers(0, 500, 2_000)
    half = fitting_half(prompts, 3)
    assert not set(prompts[half]) & set(prompts[~half])
    assert 0.4 < half.mean() < 0.6
    assert not np.array_equal(half, fitting_half(prompts, 4))


def test_what_is_fitted_on_one_half_does_not_change_with_the_labels_of_the_other() -> None:
    shard = dataset(2, 300)
    tested = ~fitting_half(shard.prompts, 0)
    _, one = fitted(shard)
    _, other = fitted(swapped(shard, tested))
    assert all(np.array_equal(a, b) for a, b in zip(one.response, other.response, strict=True))
    assert np.array_equal(one.inside.toarray(), other.inside.toarray())


def test_the_same_pairs_in_other_shards_give_the_same_bits() -> None:
    shard = dataset(3, 300)
    one, many = audited(shard), audited(shard, cuts=(0, 13, 13, 120))
    assert all(np.array_equal(a, b) for a, b in zip(everything(one), everything(many), strict=True))


def test_a_lesson_planted_under_one_topic_names_both_sides() -> None:
    shard, draws = dataset(4, 1_000), np.random.default_rng(0)
    where = (shard.groups.toarray()[:, 2] == 1) & (draws.random(1_000) < 0.5)
    table = audited(express_more(shard, range(48, 60), where, draws))
    assert table.finding[0]
    assert set(table.conditions[table.condition[0]].features) <= set(range(24, 36))
    assert len(set(table.concepts[table.concept[0]].features) & set(range(48, 60))) >= 10
    assert table.raw.estimate[0] > 0
    assert where[table.evidence[0].supporting].mean() >= 0.8
    tested = ~fitting_half(shard.prompts, 0)
    assert tested[table.evidence[0].supporting].all()


@pytest.mark.parametrize("options", [replace(ONLY, delta_of_freq=True), replace(ONLY, prompt_values=True)])
def test_frequencies_and_prompt_values_can_stand_in_for_maxima_and_firings(options: AuditOptions) -> None:
    shard, draws = dataset(4, 1_000), np.random.default_rng(0)
    where = (shard.groups.toarray()[:, 2] == 1) & (draws.random(1_000) < 0.5)
    table = audited(express_more(shard, range(48, 60), where, draws), options)
    assert table.finding[0]
    assert set(table.conditions[table.condition[0]].features) <= set(range(24, 36))
    assert not np.array_equal(table.raw.p, audited(express_more(shard, range(48, 60), where, draws)).raw.p)


@pytest.mark.parametrize("response_clusters", [6, 0])
def test_swapped_labels_give_findings_no_more_often_than_the_level_allows(response_clusters: int) -> None:
    base, draws = dataset(5, 240), np.random.default_rng(1)
    options = replace(ONLY, evidence=0, min_inside=20, response_clusters=response_clusters)
    runs = [audited(swapped(base, coins(base, draws)), replace(options, seed=run)) for run in range(50)]
    for count in (sum(run.findings_raw > 0 for run in runs), sum(run.findings_controlled > 0 for run in runs)):
        assert stats.binomtest(count, len(runs), 0.05, alternative="greater").pvalue > 0.01


def test_where_length_differs_between_topics_the_raw_contrast_is_fooled_and_the_controlled_one_is_not() -> None:
    base, draws = dataset(6, 800), np.random.default_rng(2)
    longer = np.where(base.groups.toarray()[:, :1] == 1, base.nuisance, 0.1 * base.nuisance)
    dense = {name: getattr(base, name).toarray() for name in ("max_chosen", "max_rejected")}
    for name, sign in (("max_chosen", 1), ("max_rejected", -1)):
        fires = draws.random(dense[name].shape) < 1 / (1 + np.exp(1.5 - 1.2 * sign * longer))
        dense[name] = np.where(fires, 1.0, 0.0).astype(np.float32)
    base = replace(base, nuisance=longer, **{name: Csr(values) for name, values in dense.items()})
    options = replace(ONLY, evidence=0)
    runs = [audited(length_preferring(base, draws, 2.0), replace(options, seed=run)) for run in range(25)]
    assert sum(run.findings_raw > 0 for run in runs) >= 23
    assert stats.binomtest(sum(run.findings_controlled > 0 for run in runs), 25, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("pairs", [0, 1, 2, 10, 60])
def test_few_pairs_give_an_answer_or_a_reason_and_never_a_nan(pairs: int) -> None:
    table = audited(picked(dataset(7, 60, share=0.0), slice(0, pairs)), replace(ONLY, top_share=0.1))
    assert bool(table.reason) == (table.tests == 0)
    assert table.tests == 0
    assert all(np.isfinite(array).all() for array in everything(table))


def test_one_prompt_and_constant_features_say_why_they_tell_nothing() -> None:
    shard = dataset(8, 120)
    together = audited(replace(shard, prompts=np.zeros(120, np.int64)))
    assert together.reason.startswith("1 different prompts are too few")
    alone = audited(replace(shard, prompts=np.zeros(120, np.int64)), replace(ONLY, response_clusters=0))
    assert alone.reason.startswith("1 different prompts are too few")
    same = audited(replace(shard, max_rejected=shard.max_chosen))
    assert same.reason.startswith("40 prompt features and 0 response features fire in 12 pairs and vary")
    assert audited(picked(shard, slice(0, 0))).reason == Reason.NO_PAIRS.text
    flat = audited(replace(shard, freq_prompt=Csr(np.full((120, 80), 0.5, np.float32))))
    assert flat.reason.startswith("0 prompt features")
