"""Lessons of whole views: planted causes, their leads, their stability, and what stays in the rest."""

import time
from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.findings import AuditOptions, Condition, TestTable, ViewKind
from assay_server.audit.groups import grouped, kind_of
from assay_server.audit.lessons import same_conditions, stable_groups
from assay_server.audit.matrices import Csr
from assay_server.audit.resampling import RESAMPLES, Adjustment, BucketCollector, BucketSums, resample_weights, scores
from assay_server.audit.run import run_views
from assay_server.audit.shards import PairShard

from tests.server.audit.small_datasets import concepts_of, dataset, everything, express_more, split

QUICK = AuditOptions(views=(ViewKind.GLOBAL,), max_t_flips=0, evidence=0)


def gathered(u: np.ndarray, seed: int = 0) -> tuple[BucketSums, Adjustment, np.ndarray]:
    """Bucket sums of u with one pair a prompt, their adjustment, and z."""
    pairs = len(u)
    collector = BucketCollector([np.arange(u.shape[1] + 1)], u.shape[1] + 1, np.arange(pairs), np.zeros(0, np.int64), seed)
    collector.add(Csr(np.hstack([u, np.ones((pairs, 1))])), np.arange(pairs))
    z = u.sum(axis=0) / np.sqrt((u**2).sum(axis=0))
    return collector.finish()[0], Adjustment(u.mean(axis=0)[:, None], u.sum(axis=0)), z


def echoes(draws: np.random.Generator, cause: np.ndarray, count: int, share: float) -> np.ndarray:
    """u that follow a cause in a share of the pairs."""
    return np.where(draws.random((len(cause), count)) < share, cause[:, None], draws.integers(-1, 2, (len(cause), count)))


def planted(seed: int, pairs: int = 2_000) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two causes, 40 findings behind each, clusters of ten among them, and the strongest of 500 columns of noise."""
    draws = np.random.default_rng(seed)
    columns: list[np.ndarray] = []
    names: list[str] = []
    for number in range(2):
        cause = draws.choice([-1, 0, 1], pairs, p=[0.15, 0.55, 0.3])
        single = echoes(draws, cause, 36, 0.6)
        columns += [single, single[:, :10].mean(axis=1, keepdims=True), single[:, 10:30].reshape(pairs, 2, 10).mean(axis=2)]
        columns += [echoes(draws, cause, 1, 0.75)]
        names += [f"feature/{36 * number + k}" for k in range(36)]
        names += [f"cluster/{3 * number + k}" for k in range(3)] + [f"text/{number}"]
    noise = draws.integers(-1, 2, (pairs, 500))
    columns += [noise[:, [np.abs(noise.sum(axis=0)).argmax()]]]
    return np.hstack(columns).astype(np.float64), np.repeat([0, 1, 2], [40, 40, 1]), [*names, "feature/99"]


@pytest.mark.parametrize("seed", range(4))
def test_two_causes_behind_eighty_findings_are_two_lessons_that_hold(seed: int) -> None:
    u, cause, names = planted(seed)
    sums, adjustment, z = gathered(u)
    assert names[int(np.abs(z).argmax())].startswith("cluster/")
    groups, stability = stable_groups(sums, adjustment, z, np.array([kind_of(name) for name in names]), 0)
    for own in (0, 1):
        place = set(groups.lesson[cause == own].tolist())
        assert place <= {1, 2}
        assert len(place) == 1
        (lesson,) = place
        assert names[groups.leads[lesson - 1]] == f"text/{own}"
        assert stability[lesson - 1] >= 0.95
    # The strongest of 500 columns of noise belongs to nothing, or leads a lesson that does not hold.
    told = groups.lesson[80]
    assert told not in (1, 2)
    assert told == 0 or stability[told - 1] < 0.8


def test_stability_falls_with_the_evidence() -> None:
    draws = np.random.default_rng(3)
    shown: list[float] = []
    for mean in (0.2, 0.125, 0.11):
        u = draws.normal(0.0, 1.0, (1_000, 1))
        u = (u - u.mean()) / u.std() + mean
        sums, adjustment, z = gathered(u)
        shown.append(float(stable_groups(sums, adjustment, z, np.array([1]), 0)[1][0]))
    assert shown[0] > 0.9 > shown[1] > shown[2] > 0.3


def formatted(seed: int = 7, pairs: int = 900) -> PairShard:
    """Two blocks that chosen responses express more, and one that rejected ones do."""
    draws = np.random.default_rng(seed)
    base = dataset(seed, pairs)
    for features in (range(12), range(24, 36)):
        base = express_more(base, features, draws.random(pairs) < 0.3, draws)
    turned = replace(
        base,
        freq_chosen=base.freq_rejected,
        freq_rejected=base.freq_chosen,
        max_chosen=base.max_rejected,
        max_rejected=base.max_chosen,
    )
    turned = express_more(turned, range(48, 60), draws.random(pairs) < 0.3, draws)
    return replace(
        turned,
        freq_chosen=turned.freq_rejected,
        freq_rejected=turned.freq_chosen,
        max_chosen=turned.max_rejected,
        max_rejected=turned.max_chosen,
    )


def told(table: TestTable) -> dict[str, int]:
    assert table.lesson is not None
    names = [table.concepts[column].name for column in table.concept]
    return dict(zip(names, table.lesson.tolist(), strict=True))


def test_the_global_view_tells_two_lessons_of_more_and_one_of_less() -> None:
    planted = formatted()
    table = run_views(split(planted, [300, 301]), concepts_of(planted), QUICK)[ViewKind.GLOBAL]
    assert table.lesson is not None
    assert table.lesson_z is not None
    assert table.lesson_stability is not None
    assert table.controlled is not None
    lesson = told(table)
    places = [lesson[f"cluster/{block}"] for block in (0, 2, 4)]
    assert sorted(places) == [1, 2, 3]
    for place, block, sign in zip(places, (0, 2, 4), (1, 1, -1), strict=True):
        members = table.lesson == place
        assert {lesson[f"feature/{12 * block + k}"] for k in range(12)} == {place}
        assert (np.sign(table.controlled.estimate[members]) == sign).all()
        (lead,) = np.flatnonzero(members & (table.lesson_z != 0))
        assert table.concepts[table.concept[lead]].name.startswith("feature/"), "a cluster is stronger, and leads nothing"
        assert np.sign(table.lesson_z[lead]) == sign
        assert set(table.lesson_stability[members].tolist()) == {table.lesson_stability[lead]}
        assert table.lesson_stability[lead] >= 0.95
    assert not table.lesson[~table.finding].any()
    assert not table.lesson_stability[table.lesson == 0].any()
    assert table.lessons == int(table.lesson.max())
    whole = run_views(split(planted, []), concepts_of(planted), QUICK)[ViewKind.GLOBAL]
    for mine, theirs in zip(everything(table), everything(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_condition_has_lessons_of_its_own() -> None:
    draws = np.random.default_rng(11)
    pairs = 1_200
    base = dataset(11, pairs)
    inside = base.groups.toarray()[:, 0] == 1
    base = express_more(base, range(40, 46), inside & (draws.random(pairs) < 0.4), draws)
    base = express_more(base, range(60, 64), inside & (draws.random(pairs) < 0.4), draws)
    options = replace(QUICK, views=(ViewKind.FEATURE_CONDITIONED, ViewKind.PROMPT_CONDITIONED), min_features=1)
    given = tuple(Condition(f"metadata/topic={topic}") for topic in range(3))
    tables = run_views(split(base, [500]), concepts_of(base), options, given=given)
    for view, condition in ((ViewKind.FEATURE_CONDITIONED, "metadata/topic=0"), (ViewKind.PROMPT_CONDITIONED, "")):
        table = tables[view]
        assert table.lesson is not None
        assert table.lesson_z is not None
        assert table.lesson_stability is not None
        shown = table.raw if table.controlled is None else table.controlled
        for place in range(1, table.lessons + 1):
            members = np.flatnonzero(table.lesson == place)
            assert len(np.unique(table.condition[members])) == 1
            assert len(np.unique(np.sign(shown.estimate[members]))) == 1
            (lead,) = members[table.lesson_z[members] != 0]
            assert table.lesson_z[lead] == shown.z[lead]
        first = np.flatnonzero(table.lesson == 1)
        names = {table.concepts[column].name for column in table.concept[first]}
        assert names >= {f"feature/{feature}" for feature in range(40, 46)} or names >= {f"feature/{k}" for k in range(60, 64)}
        assert table.lesson_stability[first[0]] >= 0.9
        if condition:
            assert {table.conditions[k].name for k in table.condition[first]} == {condition}


@pytest.mark.parametrize("nuisances", [True, False], ids=["controlled", "raw"])
def test_silent_pairs_count_in_the_lessons_of_given_conditions_as_they_do_in_its_tests(nuisances: bool) -> None:
    draws = np.random.default_rng(12)
    base = dataset(12, 900)
    inside = base.groups.toarray()[:, 0] == 1
    base = express_more(base, range(40, 46), inside & (draws.random(900) < 0.4), draws)
    base = express_more(base, range(60, 66), ~inside & (draws.random(900) < 0.3), draws)
    if not nuisances:
        base = replace(base, nuisance=base.nuisance[:, :0])
    given = tuple(Condition(f"metadata/topic={topic}") for topic in range(3))
    found: list[dict[tuple[str, str], tuple[float, frozenset[str]]]] = []
    for silent in (0.0, 40.0):
        options = replace(QUICK, views=(ViewKind.FEATURE_CONDITIONED,), min_features=1, silent_percentile=silent)
        table = run_views(split(base, [500]), concepts_of(base), options, given=given)[ViewKind.FEATURE_CONDITIONED]
        assert table.lesson is not None
        assert table.lesson_stability is not None
        if silent:
            assert sum(len(rows) for rows in table.members) <= 0.6 * 900
        names = [(table.concepts[c].name, table.conditions[k].name) for c, k in zip(table.concept, table.condition, strict=True)]
        found.append({})
        for row in np.flatnonzero(table.lesson > 0):
            if names[row][1].startswith("metadata/"):
                fellows = frozenset(names[other][0] for other in np.flatnonzero(table.lesson == table.lesson[row]))
                found[-1][names[row]] = (float(table.lesson_stability[row]), fellows)
    assert len(found[0]) > 10
    assert found[0] == found[1]


def test_conditions_that_hold_nearly_the_same_pairs_are_one() -> None:
    rows = np.arange(100)
    assert same_conditions([rows, rows[:85], None, rows[:50], rows[5:], np.zeros(0, np.int64)]).tolist() == [0, 0, 2, 3, 0, 5]


def test_a_dataset_without_findings_has_no_lessons() -> None:
    base = dataset(8, 300)
    table = run_views(split(base, [100]), concepts_of(base), replace(QUICK, q_level=1e-12))[ViewKind.GLOBAL]
    assert table.lesson is not None
    assert table.lesson_stability is not None
    assert not table.lesson.any()
    assert not table.lesson_stability.any()


def test_nothing_controlled_groups_by_what_is_raw() -> None:
    planted = formatted(9)
    bare = replace(planted, nuisance=np.zeros((900, 0)))
    table = run_views(split(bare, []), concepts_of(planted), QUICK)[ViewKind.GLOBAL]
    lesson = told(table)
    assert sorted(lesson[f"cluster/{block}"] for block in (0, 2, 4)) == [1, 2, 3]


def test_resamples_of_512_findings_take_a_minute_at_most_whatever_the_pairs() -> None:
    draws = np.random.default_rng(5)
    cause = draws.choice([-1, 0, 1], (1_500, 12), p=[0.1, 0.75, 0.15])
    u = np.where(draws.random((1_500, 512)) < 0.5, cause[:, np.arange(512) % 12], 0).astype(np.float64)
    sums, adjustment, _ = gathered(u)
    assert len(sums.totals) == 256, "more prompts make larger buckets, not more"
    assert sums.products.nbytes < 140e6
    started = time.process_time()
    for found in scores(sums, adjustment, resample_weights(256, 0, 16)):
        grouped(found.z, found.correlation, np.ones(512, np.int64))
    assert (time.process_time() - started) * RESAMPLES / 16 < 60


def test_the_search_can_be_ended_between_resamples() -> None:
    class Stopped(Exception):
        pass

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise Stopped

    u, _, names = planted(0, 400)
    with pytest.raises(Stopped):
        stable_groups(*gathered(u), np.array([kind_of(name) for name in names]), 0, check=check)
    assert asked == 3
