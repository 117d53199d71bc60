from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit.bins import BINS, EDGES, bins_of
from assay_server.audit.disparity import membership, presence_difference
from assay_server.audit.findings import AuditOptions, TestTable, ViewKind, resolved
from assay_server.audit.local import with_local
from assay_server.audit.matrices import Csr
from assay_server.audit.maxima import ANY, Maxima, first_of_upper_mode
from assay_server.audit.passes import concept_subset, disparities, survey
from assay_server.audit.run import run_views
from assay_server.audit.shards import ConceptSet, PairShard
from scipy import stats

from tests.server.audit.small_datasets import coins, everything, split, swapped

QUESTION, ONCE, BROAD, OFTEN = range(4)
NAMES = tuple(f"feature/{feature}" for feature in range(4))
CONCEPTS = ConceptSet((*NAMES, "concepts/direction-0"), membership([[feature] for feature in range(4)], 4))
OPTIONS = AuditOptions(views=(ViewKind.GLOBAL,), max_t_flips=0)


def long_responses(seed: int, pairs: int = 300) -> PairShard:
    """Responses of 150 to 400 tokens. Chosen ones end in a question mark, rejected ones do not.

    Feature QUESTION fires strongly on the mark, and faintly on a few tokens of most responses; ONCE on one token of three
    responses in ten; BROAD on many tokens of half of the responses; OFTEN once in every response.
    """
    draws = np.random.default_rng(seed)
    tokens = draws.integers(150, 400, (pairs, 2))

    def side(asks: np.ndarray, length: np.ndarray) -> tuple[Csr, Csr]:
        faint = draws.random(pairs) < 0.7
        counts = np.stack(
            [
                faint * draws.integers(1, 7, pairs) + asks,
                draws.random(pairs) < 0.3,
                (draws.random(pairs) < 0.5) * draws.integers(20, 60, pairs),
                np.ones(pairs),
            ],
            axis=1,
        )
        largest = draws.gamma(4.0, size=(pairs, 4))
        largest[:, QUESTION] = np.where(asks, draws.normal(12, 1.5, pairs), draws.gamma(3.0, 0.25, pairs))
        fires = counts > 0
        return Csr((counts / length[:, None]).astype(np.float32)), Csr(np.where(fires, largest, 0).astype(np.float32))

    chosen, rejected = side(np.ones(pairs, np.bool_), tokens[:, 0]), side(np.zeros(pairs, np.bool_), tokens[:, 1])
    length = np.log(tokens[:, :1] / tokens[:, 1:])
    return PairShard(
        rows=np.arange(pairs),
        prompts=np.arange(pairs),
        tokens=np.concatenate([np.full((pairs, 1), 10), tokens], axis=1),
        freq_chosen=chosen[0],
        freq_rejected=rejected[0],
        freq_prompt=Csr((pairs, 4), dtype=np.float32),
        max_chosen=chosen[1],
        max_rejected=rejected[1],
        nuisance=length,
        directions=Csr(draws.integers(-1, 2, (pairs, 1))),
        groups=Csr((pairs, 0), dtype=np.int64),
    )


def audited(shard: PairShard, options: AuditOptions = OPTIONS) -> TestTable:
    return run_views(split(shard, []), CONCEPTS, options)[ViewKind.GLOBAL]


def row_of(table: TestTable, name: str) -> int:
    return next(row for row, concept in enumerate(table.concept) if table.concepts[concept].name == name)


def test_a_question_mark_at_the_end_is_hidden_from_the_frequency_rule_and_plain_by_max() -> None:
    table = audited(long_responses(0))
    auc = {name: 0.5 + table.raw.estimate[row_of(table, name)] / 2 for name in ("feature/0", "feature/0@max")}
    assert abs(auc["feature/0"] - 0.5) < 0.1
    assert auc["feature/0@max"] > 0.98
    row = row_of(table, "feature/0@max")
    assert table.finding[row]
    concept = table.concepts[table.concept[row]]
    assert (concept.features, concept.size) == ((QUESTION,), 1)
    assert (table.evidence[row].supporting_strength > 0).all()


def test_only_what_is_hidden_and_neither_rare_nor_everywhere_is_tested_by_max() -> None:
    shard = long_responses(0)
    known, options = survey(split(shard, [])), resolved(OPTIONS, 300)
    found = with_local(CONCEPTS, options, known)
    assert found.names == (*NAMES, "feature/0@max", "feature/1@max", "concepts/direction-0")
    assert found.thresholds[1] == ANY
    assert 2 < found.thresholds[0] < 9
    assert with_local(CONCEPTS, replace(options, min_firings=250), known).names == (*NAMES, "feature/0@max", CONCEPTS.names[-1])
    unnamed = ConceptSet(("cluster/0", "concepts/direction-0"), membership([[QUESTION]], 4))
    assert with_local(unnamed, options, known).names == unnamed.names
    assert [name for name in audited(shard, replace(OPTIONS, local=False)).concepts if name.name.endswith("@max")] == []


def test_thresholds_and_choice_do_not_change_when_chosen_and_rejected_swap() -> None:
    shard, draws = long_responses(1), np.random.default_rng(0)
    one = survey(split(shard, []))
    for _ in range(3):
        other = survey(split(swapped(shard, coins(shard, draws)), [20, 100], [1, 2, 0]))
        assert all(np.array_equal(a, b) for a, b in zip(everything(one.presence), everything(other.presence), strict=True))


def test_swapped_labels_give_findings_by_max_no_more_often_than_the_level_allows() -> None:
    base, draws = long_responses(2), np.random.default_rng(1)
    p: list[float] = []
    for _ in range(200):
        table = audited(swapped(base, coins(base, draws)), replace(OPTIONS, evidence=0))
        p.append(float(table.controlled.p[row_of(table, "feature/0@max")]))
    assert stats.binomtest(sum(value <= 0.05 for value in p), len(p), 0.05).pvalue > 0.01
    assert 0.4 < np.mean(p) < 0.6


@pytest.mark.parametrize(
    "draw",
    [
        lambda draws, n: np.exp(0.7 * draws.normal(size=n)),
        lambda draws, n: draws.uniform(0, 1, n),
        lambda draws, n: draws.exponential(size=n),
        lambda draws, n: 2 + draws.exponential(size=n),
        lambda draws, n: draws.gamma(2.0, size=n),
        lambda draws, n: np.abs(draws.normal(size=n)),
        lambda draws, n: np.exp(0.5 * draws.standard_t(3, n)),
    ],
)
def test_maxima_of_one_mode_are_not_cut(draw: object) -> None:
    values = draw(np.random.default_rng(0), 2_000)  # type: ignore[operator]
    assert first_of_upper_mode(np.bincount(bins_of(values), minlength=BINS)[None].astype(np.int32)).tolist() == [0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_mode_of_one_response_in_ten_is_told_from_the_rest(share: float) -> None:
    draws, many = np.random.default_rng(0), 2_000
    strong = np.arange(many) < share * many
    values = np.where(strong, np.exp(2.3 + 0.3 * draws.normal(size=many)), np.exp(0.5 * draws.normal(size=many)))
    (first,) = first_of_upper_mode(np.bincount(bins_of(values), minlength=BINS)[None].astype(np.int32))
    assert ((values >= EDGES[first]) != strong).mean() < 0.02


def test_a_feature_by_max_is_the_difference_of_presences_whatever_columns_are_computed() -> None:
    shard = long_responses(3, 60)
    concepts = with_local(CONCEPTS, resolved(OPTIONS, 60), survey(split(shard, [])))
    u = disparities(shard, concepts, 0.01).numerators.toarray()
    for column, feature, threshold in zip((4, 5), (QUESTION, ONCE), concepts.thresholds, strict=True):
        chosen, rejected = (side.toarray()[:, feature] >= threshold for side in (shard.max_chosen, shard.max_rejected))
        assert np.array_equal(u[:, column], chosen.astype(int) - rejected)
    plain = disparities(shard, CONCEPTS, 0.01).numerators.toarray()
    assert np.array_equal(u[:, [0, 1, 2, 3, 6]], plain)
    for columns in ([0, 5, 6], [4, 6], [2, 6]):
        some = concept_subset(concepts, np.array(columns))
        assert np.array_equal(disparities(shard, some, 0.01).numerators.toarray(), u[:, columns])
    exactly = presence_difference(Csr(np.array([[2.0]])), Csr(np.array([[1.9]])), membership([[0]], 1), np.array([2.0]))
    assert exactly.toarray().tolist() == [[1]]


def test_a_frequency_that_is_not_stored_is_0_and_hides_its_feature() -> None:
    maxima = Maxima(3, 0.01)
    maxima.add(Csr(np.array([[1.0, 0.0, 2.0], [1.0, 1.0, 0.0]])), Csr(np.array([[0.5, 0.0, 0.0], [0.01, 0.2, 0.3]])))
    assert maxima.presence().responses.tolist() == [2, 1, 1]
    assert maxima.presence().hidden.tolist() == [1, 0, 1]
