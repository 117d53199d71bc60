"""The validity experiments in small, on made-up features: seeded, without a model, and each able to fail."""

import numpy as np
import pytest
from assay_server.audit.findings import ViewKind
from assay_server.audit.matrices import Bools, Ints
from assay_server.audit.shards import ConceptSet
from scipy import stats

from benchmarks.validity import calibration, conditional, power
from benchmarks.validity.agreement import APPROXIMATION, TOLERANCE, conditioned_differences, few_concepts, global_differences
from benchmarks.validity.audits import audit, decisive
from benchmarks.validity.calibration import LEVEL, bound, coins, run
from benchmarks.validity.concepts import best, column_aurocs, concept_set, response_clusters
from benchmarks.validity.data import Features
from benchmarks.validity.planting import Planting, raised
from benchmarks.validity.synthetic import planted, synthetic, topics

VIEWS = (ViewKind.GLOBAL, ViewKind.FEATURE_CONDITIONED, ViewKind.PROMPT_CONDITIONED)
SWAPS = 16
# So few runs tell a broken test from a sound one, not 0.05 from 0.07: no sound test passes this in one of 10,000 seeds.
FALSE_RUNS = int(stats.binom.ppf(0.9999, SWAPS, LEVEL))


@pytest.fixture(scope="module")
def features() -> Features:
    return synthetic(320, 160, seed=1)


@pytest.fixture(scope="module")
def concepts(features: Features) -> ConceptSet:
    return concept_set(features, response_clusters(features))


def test_swapped_labels_yield_no_more_findings_than_chance_in_any_view(features: Features, concepts: ConceptSet) -> None:
    tallies = run(features, concepts, coins(features.prompts), swaps=SWAPS, seed=0, min_inside=12)
    assert set(tallies) == {view.value for view in VIEWS}
    for view, kinds in tallies.items():
        for name, tally in kinds.items():
            summary = tally.summary()
            assert summary["tests"] > 10, f"{view} tests something"
            assert summary["false_runs"] <= FALSE_RUNS, f"{view}, {name}"
            assert summary["ks"] is not None, f"{view}, {name}"
            assert summary["ks"]["p"] > 0.001, f"{view}, {name}: p-values are not uniform"


def test_a_preference_for_length_alone_fools_the_raw_test_and_not_the_controlled_one(
    features: Features, concepts: ConceptSet
) -> None:
    strong = calibration.by_length(features, 2.0)
    kinds = run(features, concepts, strong, swaps=SWAPS, seed=0, views=(ViewKind.GLOBAL,))["global"]
    assert kinds["raw"].summary()["false_share"] == 1.0
    assert kinds["controlled"].summary()["false_runs"] <= FALSE_RUNS


def test_calibration_notices_a_test_that_reports_too_much(features: Features, concepts: ConceptSet) -> None:
    def always_first(draws: np.random.Generator) -> Bools:
        return features.chosen.freq[:, [7]].toarray().ravel() < features.rejected.freq[:, [7]].toarray().ravel()

    kinds = run(features, concepts, always_first, swaps=4, seed=0, views=(ViewKind.GLOBAL,))["global"]
    assert kinds["raw"].summary()["false_share"] > bound(4), "labels that follow one feature are not null"


def test_the_largest_share_that_agrees_with_the_level_is_the_binomial_one() -> None:
    assert bound(200) == stats.binom.ppf(0.975, 200, LEVEL) / 200 == 0.08


def rare(features: Features, count: int) -> Ints:
    """Features that fire in fewest responses, and in some."""
    fires = np.asarray((features.chosen.freq + features.rejected.freq).astype(bool).sum(axis=0)).ravel()
    return np.sort(np.argsort(np.where(fires > 0, fires, 10**6), kind="stable")[:count])


def test_a_rare_concept_planted_in_a_twentieth_of_the_pairs_ranks_in_the_top_ten_and_unplanted_does_not(
    features: Features, concepts: ConceptSet
) -> None:
    column = int(rare(features, 1)[0])
    base = features.swapped(np.random.default_rng(5).random(320) < 0.5)
    assert place_of(column, base, concepts) > 10
    assert place_of(column, planted(base, np.arange(0, 320, 20), np.array([column])), concepts) <= 10


def place_of(column: int, features: Features, concepts: ConceptSet) -> int:
    table = audit(features, concepts, ViewKind.GLOBAL)[ViewKind.GLOBAL]
    return int(np.flatnonzero(table.concept == column)[0]) + 1


def test_a_trial_reports_rank_recall_and_precision_of_what_was_planted(features: Features, concepts: ConceptSet) -> None:
    pool, right = np.arange(0, 320, 4), rare(features, 2)
    changed = np.zeros(len(concepts.names), np.bool_)
    changed[right] = True
    spans = planted(features, pool, right).chosen.take(pool)
    planting = Planting("made up", pool, spans, right, np.ones(2), changed)
    flips = np.setdiff1d(np.flatnonzero(np.random.default_rng(2).random(320) < 0.5), pool)
    many = power.trial(features, concepts, planting, pool, flips)
    assert many["rank"] == 1
    assert many["lesson"] == 1
    assert many["recall"] == 1.0
    assert many["precision"] >= 0.2
    none = power.trial(features, concepts, planting, pool[:1], flips)
    assert none["rank"] > 1
    assert none["recall"] == 0.0


def test_what_an_edit_raises_is_found_from_the_texts_alone(features: Features, concepts: ConceptSet) -> None:
    rows = np.arange(100)
    edited, originals = planted(features, rows, np.array([3])).chosen.take(rows), features.chosen.take(rows)
    found = raised(edited, originals, concepts)
    assert found[3]
    singles = np.asarray(concepts.members.sum(axis=0)).ravel() == 1
    assert np.flatnonzero(found & singles).tolist() == [3]
    areas = column_aurocs(edited.peak.toarray(), originals.peak.toarray())
    assert int(np.argmax(areas)) == 3


def test_a_concept_planted_on_one_topic_is_named_with_its_topic() -> None:
    features, about = synthetic(900, 160, seed=3), topics(900, seed=3) == 2
    peaks = features.prompt.peak.toarray()
    right = best(column_aurocs(peaks[about], peaks[~about]), 5)
    topic = conditional.Topic("made up", about, right, [])
    columns = np.array([20, 21, 22])
    shown = planted(features, np.flatnonzero(about), columns)
    both = shown.swapped((np.random.default_rng(4).random(900) < 0.5) & ~about)
    view = ViewKind.PROMPT_CONDITIONED
    case = conditional.judge(audit(both, concept_set(features), view)[view], topic, columns)
    assert case["finding"]
    assert case["rank"] == 1
    assert case["luck"] < 0.1
    nothing = conditional.judge(audit(features, concept_set(features), view)[view], topic, columns)
    assert not nothing["finding"]


def test_figures_of_the_global_view_equal_those_of_scipy_statsmodels_and_loops() -> None:
    features = synthetic(90, 60, prompts=70, seed=4)
    differences = global_differences(features, few_concepts(features, 15), shard=17)
    assert differences.pop(APPROXIMATION) == 0.0, "so few prompts are counted, not approximated"
    assert max(differences.values()) <= TOLERANCE, differences


@pytest.mark.parametrize(
    ("view", "response_clusters"),
    [(ViewKind.FEATURE_CONDITIONED, 0), (ViewKind.PROMPT_CONDITIONED, 0), (ViewKind.PROMPT_CONDITIONED, 5)],
    ids=["feature", "prompt, features singly", "prompt, clusters"],
)
def test_figures_of_the_conditioned_views_equal_those_of_plain_loops(view: ViewKind, response_clusters: int) -> None:
    features = synthetic(260, 60, prompts=170, seed=4)
    concepts = few_concepts(features, 15)
    knobs = {"min_features": 4, "min_inside": 10, "response_clusters": response_clusters}
    differences = conditioned_differences(features, concepts, view, shard=57, rows=12, **knobs)
    assert max(differences.values()) <= TOLERANCE, differences


def test_decisive_effects_are_the_controlled_ones_where_length_is_controlled(features: Features, concepts: ConceptSet) -> None:
    table = audit(features, concepts, ViewKind.GLOBAL)[ViewKind.GLOBAL]
    assert table.controlled is not None
    assert decisive(table) is table.controlled
