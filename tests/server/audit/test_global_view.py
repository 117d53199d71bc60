from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.families import family_codes
from assay_server.audit.findings import AuditOptions, TestTable, ViewKind
from assay_server.audit.global_view import _Merging
from assay_server.audit.matrices import Csr
from assay_server.audit.multiplicity import Procedure, q_values
from assay_server.audit.nuisance import fit_nuisance
from assay_server.audit.reason import Reason
from assay_server.audit.run import run_views
from assay_server.audit.shards import PairShard
from assay_server.audit.shared_prompts import side_freedom
from hypothesis import given, settings
from hypothesis import strategies as st
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

ONLY = AuditOptions(views=(ViewKind.GLOBAL,), max_t_flips=0)


def audited(
    shard: PairShard, options: AuditOptions = ONLY, cuts: tuple[int, ...] = (), order: list[int] | None = None
) -> TestTable:
    return run_views(split(shard, cuts, order), concepts_of(shard), options)[ViewKind.GLOBAL]


def by_name(table: TestTable) -> dict[str, int]:
    return {table.concepts[c].name: row for row, c in enumerate(table.concept)}


def test_both_effects_equal_a_plain_loop_over_pairs_and_prompts() -> None:
    shard = dataset(2, 150)
    table, place = audited(shard), by_name(audited(shard))
    x = shard.nuisance
    left = fit_nuisance(x).residuals(x)
    weight = left * (1 - left)
    b = (shard.freq_chosen.toarray() > 0.01).astype(float) - (shard.freq_rejected.toarray() > 0.01)
    for name, features in (("feature/3", [3]), ("cluster/1", range(12, 24)), ("cluster/4", range(48, 60))):
        u, row = b[:, list(features)].mean(axis=1), place[name]
        by_prompt = np.array([u[shard.prompts == c].sum() for c in np.unique(shard.prompts)])
        assert table.raw.estimate[row] == pytest.approx(u.mean(), abs=1e-12)
        assert table.raw.z[row] == pytest.approx(by_prompt.sum() / np.sqrt((by_prompt**2).sum()), abs=1e-9)
        slope = (weight * u * x[:, 0]).sum() / (weight * x[:, 0] ** 2).sum()
        part = (u - slope * x[:, 0]) * left
        noise = np.sqrt(sum(part[shard.prompts == c].sum() ** 2 for c in np.unique(shard.prompts)))
        assert table.controlled is not None
        assert table.controlled.estimate[row] == pytest.approx(2 * part.sum() / len(u), abs=1e-9)
        many, (_, of, sizes) = len(np.unique(shard.prompts)), np.unique(shard.prompts, return_inverse=True, return_counts=True)
        noise *= np.sqrt(many / (many - 1))
        assert table.controlled.z[row] == pytest.approx(part.sum() / noise, abs=1e-9)
        assert table.controlled.p[row] == pytest.approx(2 * stats.norm.sf(abs(part.sum() / noise)), abs=1e-9)
        factor, freedom = side_freedom(sizes)
        centred = factor * many / (many - 1) * (np.bincount(of, part - part.mean()) ** 2).sum()
        width = stats.t.ppf(0.975, freedom) * 2 * np.sqrt(centred) / len(u)
        assert table.controlled.high[row] - table.controlled.low[row] == pytest.approx(2 * width, abs=1e-9)
        halves = [2 * (left * u)[shard.rows % 2 == half].mean() for half in (0, 1)]
        assert table.delta_min[row] == pytest.approx(min(map(abs, halves)), abs=1e-9)
        assert table.consistent[row] == (np.sign(halves) == np.sign(part.sum())).all()


SPANS = ("freq_chosen", "freq_rejected", "max_chosen", "max_rejected")


def test_q_values_count_what_could_be_tested_and_nothing_else() -> None:
    shard = dataset(4, 120)
    shard = replace(shard, **{name: zeroed(getattr(shard, name), [5, 77]) for name in SPANS})
    table = audited(shard)
    dead = [row for name, row in by_name(table).items() if name in ("feature/5", "feature/77")]
    assert (table.raw.reason[dead] == Reason.NO_DIFFERENCE).all()
    for shown in (table.raw, table.controlled):
        assert shown is not None
        assert np.array_equal(shown.low[dead], shown.estimate[dead]), "what was not tested has no interval"
        assert np.array_equal(shown.high[dead], shown.estimate[dead])
    assert (table.raw.q[dead] == 1).all()
    counted = table.raw.reason == Reason.NONE
    assert not counted[dead].any()
    families = family_codes(table.concepts[concept].name for concept in table.concept)
    assert np.array_equal(table.raw.q, q_values(table.raw.p, tested=counted, families=families))
    by = q_values(table.raw.p, Procedure.BENJAMINI_YEKUTIELI, tested=counted, families=families)
    assert np.array_equal(table.raw.q_by, by)
    assert table.tests == (table.controlled.reason == Reason.NONE).sum()
    assert min(dead) >= table.tests


def zeroed(matrix: Csr, features: list[int]) -> Csr:
    dense = matrix.toarray()
    dense[:, features] = 0
    return Csr(dense)


def test_rows_are_in_order_of_the_controlled_p_and_then_of_the_effect() -> None:
    table = audited(dataset(5, 200))
    keys = list(zip(table.controlled.p, -np.abs(table.controlled.estimate), strict=True))[: table.tests]
    assert keys == sorted(keys)
    plain = audited(replace(dataset(5, 200), nuisance=np.zeros((200, 0))))
    assert plain.controlled is None
    keys = list(zip(plain.raw.p, -np.abs(plain.raw.estimate), strict=True))[: plain.tests]
    assert keys == sorted(keys)
    assert np.array_equal(plain.finding, plain.raw.q <= 0.05)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 20))
def test_shards_in_any_order_give_the_same_table(data: st.DataObject, seed: int) -> None:
    shard = dataset(seed, 60)
    cuts = data.draw(st.lists(st.integers(0, 60), max_size=4))
    order = data.draw(st.permutations(range(len(cuts) + 1)))
    options = replace(ONLY, max_t_flips=64)
    one, many = audited(shard, options), audited(shard, options, tuple(cuts))
    assert all(np.array_equal(a, b) for a, b in zip(everything(one), everything(many), strict=True))
    mixed, place = audited(shard, options, tuple(cuts), list(order)), by_name(one)
    there = [place[mixed.concepts[c].name] for c in mixed.concept]
    for name in ("estimate", "low", "high", "z", "p", "q", "q_by", "p_max_t"):
        assert np.array_equal(getattr(mixed.raw, name), getattr(one.raw, name)[there])
        assert np.allclose(getattr(mixed.controlled, name), getattr(one.controlled, name)[there], rtol=1e-9, atol=1e-9)


def test_a_planted_lesson_comes_first_with_its_pairs_as_evidence() -> None:
    shard, draws = dataset(6, 400), np.random.default_rng(0)
    where = draws.random(400) < 0.15
    table = audited(express_more(shard, range(24, 36), where, draws), replace(ONLY, max_t_flips=256))
    assert table.concepts[table.concept[0]].name == "cluster/2"
    assert table.finding[0]
    assert table.rank_stable[0]
    assert table.consistent[0]
    assert table.controlled.p_max_t[0] == table.raw.p_max_t[0] == 1 / 257
    assert where[table.evidence[0].supporting].all()
    assert (table.evidence[0].supporting_u > 0).all()
    assert (table.evidence[0].contradicting_u < 0).all()
    assert table.findings_controlled == table.finding.sum()


def test_swapped_labels_give_findings_no_more_often_than_the_level_allows() -> None:
    base, draws = dataset(7, 200), np.random.default_rng(1)
    runs = [audited(swapped(base, coins(base, draws)), replace(ONLY, evidence=0)) for _ in range(60)]
    for count in (sum(run.findings_raw > 0 for run in runs), sum(run.findings_controlled > 0 for run in runs)):
        assert stats.binomtest(count, len(runs), 0.05, alternative="greater").pvalue > 0.01


def test_preference_by_length_alone_fools_the_raw_test_and_not_the_controlled_one() -> None:
    base, draws = dataset(8, 300), np.random.default_rng(2)
    runs = [audited(length_preferring(base, draws, 2.0), replace(ONLY, evidence=0)) for _ in range(40)]
    assert all(run.findings_raw > 20 for run in runs)
    assert stats.binomtest(sum(run.findings_controlled > 0 for run in runs), 40, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("pairs", [0, 1, 2, 10])
def test_few_pairs_give_an_answer_or_a_reason_and_never_a_nan(pairs: int) -> None:
    shard = picked(dataset(9, 20, share=0.0), slice(0, pairs))
    table = audited(shard, replace(ONLY, max_t_flips=64))
    assert all(np.isfinite(array).all() for array in everything(table))
    assert bool(table.reason) == (table.tests == 0)
    assert len(table.concept) == len(concepts_of(shard).names)


def test_pairs_of_one_prompt_and_constant_features_say_why_they_tell_nothing() -> None:
    shard = dataset(10, 40)
    together = audited(replace(shard, prompts=np.zeros(40, np.int64)), replace(ONLY, max_t_flips=64))
    assert together.tests == 0
    assert together.reason == Reason.ONE_PROMPT.text
    alike = replace(shard, freq_rejected=shard.freq_chosen, max_rejected=shard.max_chosen, directions=shard.directions * 0)
    same = audited(alike)
    assert same.reason == Reason.NO_DIFFERENCE.text
    decided = audited(replace(shard, nuisance=np.ones((40, 1))))
    assert decided.reason == Reason.SEPARATED.text
    assert decided.raw.q.min() < 1
    for table in (together, same, decided):
        assert not table.finding.any()
        assert all(np.isfinite(array).all() for array in everything(table))


def test_names_that_do_not_fit_the_columns_are_refused() -> None:
    shard = dataset(1, 20)
    concepts = concepts_of(shard)
    with pytest.raises(ValueError, match="86 concepts are named, but 87"):
        run_views(split(shard, []), replace(concepts, names=concepts.names[:-1]), ONLY)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 64, 101])
def test_parts_are_merged_in_order_and_each_is_copied_a_few_times_only(parts: int) -> None:
    copied = [0] * parts

    def merge(left: list[int], right: list[int]) -> list[int]:
        for part in (*left, *right):
            copied[part] += 1
        return left + right

    merging = _Merging(merge)
    for part in range(parts):
        merging.add([part])
    assert merging.finish() == list(range(parts))
    assert max(copied) <= 2 * (parts - 1).bit_length()
    assert _Merging(merge).finish() is None


def test_evidence_comes_from_the_whole_file_with_the_largest_activation_differences_of_different_prompts() -> None:
    shard = dataset(8, 1_500)
    table = audited(shard, replace(ONLY, max_t_flips=0, keep=60))
    rows = np.concatenate([one.supporting for one in table.evidence])
    assert (rows < 100).mean() < 0.15
    difference = shard.max_chosen.toarray().astype(float) - shard.max_rejected.toarray()
    for place, one in enumerate(table.evidence):
        assert len(np.unique(shard.prompts[one.supporting])) == len(one.supporting) == 5
        concept = table.concepts[table.concept[place]]
        assert (np.diff(np.abs(one.supporting_strength)) <= 0).all()
        if concept.size == 1 and concept.features:
            # Every firing passes tau in this dataset, so u has the sign of a difference wherever one side alone fires.
            feature, sign = concept.features[0], np.sign(one.supporting_u[0])
            alone = np.sign((shard.freq_chosen.toarray() > 0).astype(int) - (shard.freq_rejected.toarray() > 0))[:, feature]
            assert sign * difference[one.supporting[0], feature] == (sign * difference[:, feature])[alone == sign].max()
