import resource
import time

import numpy as np
import pytest
from assay_server.audit.matrices import Csr
from assay_server.audit.naming import Name, NameKind, auroc, name_condition, name_findings
from assay_server.audit.reason import Reason
from scipy import stats
from sklearn.metrics import roc_auc_score

from tests.support.waiting import in_time

WORDS = np.array([[k, 0, 0] for k in range(1, 9)] + [[1, 2, 0]], np.uint64)
TELLING = np.arange(9) != 7


@pytest.mark.parametrize("dense", [True, False])
def test_auroc_equals_pair_by_pair_comparison_with_ties(dense: bool) -> None:
    draws = np.random.default_rng(0)
    presence = draws.random((300, 6)) < np.array([0.02, 0.1, 0.5, 0.9, 0.0, 1.0])
    amounts = np.stack([draws.integers(0, 4, 300), draws.normal(size=300), np.zeros(300), presence[:, 2] * 2.5], axis=1)
    found = auroc(presence if dense else Csr(presence), amounts)
    for j in range(4):
        for d in range(4):
            ones, zeros = amounts[presence[:, j], d], amounts[~presence[:, j], d]
            wins = (ones[:, None] > zeros).mean() + (ones[:, None] == zeros).mean() / 2
            assert found.value[j, d] == pytest.approx(wins, rel=1e-9)
            assert found.value[j, d] == pytest.approx(roc_auc_score(presence[:, j], amounts[:, d]), rel=1e-9)
            assert found.share[j, d] == pytest.approx((ones > 0).mean())
            assert found.others[j, d] == pytest.approx((zeros > 0).mean())
    assert found.value[2, 3] == found.low[2, 3] == 1
    assert found.firing.tolist() == presence.sum(axis=0).tolist()
    assert found.reason.tolist() == [Reason.NONE] * 4 + [Reason.CONSTANT] * 2
    for array in (found.value, found.low, found.high, found.share, found.others):
        assert np.isfinite(array).all()
    assert (found.low[4:] == 0).all()
    assert (found.high[4:] == 1).all()


def test_the_interval_of_hanley_and_mcneil_holds_the_true_auroc() -> None:
    draws = np.random.default_rng(1)
    truth = stats.norm.cdf(1.5 / np.sqrt(2))
    presence = np.arange(200) < 60
    amounts = draws.normal(size=(200, 1_000)) + 1.5 * presence[:, None]
    found = auroc(presence[:, None], amounts)
    held = ((found.low <= truth) & (truth <= found.high)).sum()
    assert stats.binom.ppf(0.001, 1_000, 0.93) <= held <= stats.binom.ppf(0.999, 1_000, 0.97)


@pytest.mark.parametrize("amounts", [np.full((3, 1), np.nan), np.zeros((2, 1)), np.zeros(3)])
def test_amounts_that_do_not_fit_are_refused(amounts: np.ndarray) -> None:
    with pytest.raises(ValueError, match="amounts must be finite"):
        auroc(np.ones((3, 1), bool), amounts)


def responses(seed: int = 3, prompts: int = 400) -> tuple[np.ndarray, ...]:
    """Presence of six concepts: by descriptor 1; by words 0 and 3; by neither; hardly ever; by word 7; weakly by word 4."""
    draws = np.random.default_rng(seed)
    ids = np.repeat(np.arange(prompts), 2)
    total = len(ids)
    presence = draws.random((total, 6)) < np.array([0.3, 0.3, 0.3, 0.005, 0.3, 0.3])
    counts = (draws.random((total, 9)) < 0.05) * draws.geometric(0.5, (total, 9))
    counts[:, 0] += presence[:, 1] & (draws.random(total) < 0.5)
    counts[:, 3] += presence[:, 1] & (draws.random(total) < 0.3)
    counts[:, 7] += presence[:, 4] & (draws.random(total) < 0.9)
    counts[:, 4] += presence[:, 5] & (draws.random(total) < 0.15)
    amounts = np.stack([draws.normal(size=total), 3.0 * presence[:, 0] + np.maximum(draws.normal(size=total), 0)], axis=1)
    return presence, amounts, counts, np.full(total, 60), ids


def named(presence: np.ndarray, amounts: np.ndarray, counts: np.ndarray, words: np.ndarray, ids: np.ndarray) -> tuple[Name, ...]:
    return name_findings(Csr(presence), amounts, Csr(counts), words, ids, WORDS, TELLING)


def test_findings_are_named_by_what_was_planted_and_by_nothing_else() -> None:
    presence, amounts, counts, words, ids = responses()
    found = named(presence, amounts, counts, words, ids)
    assert (found[0].kind, found[0].terms) == (NameKind.DESCRIPTOR, (1,))
    assert found[0].auroc == pytest.approx(roc_auc_score(presence[:, 0], amounts[:, 1]), rel=1e-9)
    assert found[0].share == 1
    assert found[0].others == pytest.approx(0.5, abs=0.05)
    assert (found[1].kind, set(found[1].terms)) == (NameKind.WORDS, {0, 3})
    assert found[2:] == (Name(), Name(), Name(), Name())
    back = ids % 2 == 1
    holds = (counts[:, [0, 3]] > 0).any(axis=1)
    assert found[1].share == pytest.approx(holds[back & presence[:, 1]].mean())
    assert found[1].others == pytest.approx(holds[back & ~presence[:, 1]].mean())
    assert found[1].auroc == pytest.approx(roc_auc_score(presence[back, 1], holds[back]), rel=1e-9)


def test_names_are_the_same_every_time_and_in_any_order_of_the_responses() -> None:
    drawn = responses()
    order = np.random.default_rng(0).permutation(len(drawn[-1]))
    assert named(*drawn) == named(*drawn) == named(*(part[order] for part in drawn))


def test_of_equal_descriptors_the_first_names_and_few_responses_name_nothing() -> None:
    presence, amounts, counts, words, ids = responses()
    twice = np.concatenate([amounts, amounts], axis=1)
    assert named(presence, twice, counts, words, ids)[0].terms == (1,)
    rare = np.zeros_like(presence)
    rare[np.flatnonzero(presence[:, 0])[:9], 0] = True
    assert named(rare, rare[:, :1].astype(float), counts, words, ids)[0] == Name()
    rare[np.flatnonzero(presence[:, 0])[9], 0] = True
    assert named(rare, rare[:, :1].astype(float), counts, words, ids)[0].terms == (0,)


def test_words_that_held_back_prompts_do_not_confirm_name_nothing() -> None:
    presence, amounts, counts, words, ids = responses()
    back = ids % 2 == 1
    counts[back] = np.random.default_rng(4).permutation(counts[back])
    assert named(presence, amounts, counts, words, ids)[1] == Name()


def pairs(purity: float, word: float, elsewhere: float = 0.05, seed: int = 5) -> tuple[np.ndarray, ...]:
    draws = np.random.default_rng(seed)
    ids = np.repeat(np.arange(600), draws.integers(1, 4, 600))
    within = ids < 100
    topic = np.where(within & (draws.random(600) < purity)[ids], 2, draws.integers(3, 9, 600)[ids])
    metadata = np.stack([np.full(len(ids), -1), np.zeros(len(ids), int), topic], axis=1)
    counts = (draws.random((600, 9)) < 0.1).astype(int)
    counts[:, 5] = draws.random(600) < np.where(np.arange(600) < 100, word, elsewhere)
    return within, metadata, counts[ids], np.full(len(ids), 30), ids


def condition(within: np.ndarray, metadata: np.ndarray, counts: np.ndarray, words: np.ndarray, ids: np.ndarray) -> Name:
    return name_condition(within, metadata, Csr(counts), words, ids, WORDS, TELLING)


def test_a_condition_is_named_by_the_metadata_value_most_of_it_has() -> None:
    given = pairs(0.93, 0.6)
    found = condition(*given)
    assert (found.kind, found.terms, found.others) == (NameKind.METADATA, (2, 2), 0.0)
    assert found.share == (given[1][given[0], 2] == 2).mean() > 0.8


def test_a_value_that_everything_has_or_few_prompts_have_names_no_condition() -> None:
    within, metadata, counts, words, ids = pairs(0.0, 0.05)
    assert condition(within, metadata, counts, words, ids) == Name()
    metadata[within & (ids == 0), 2] = 2
    few = ids == 0
    assert condition(few, np.where(few[:, None], 1, np.arange(len(ids))[:, None] % 2), counts, words, ids) == Name()


def test_else_words_of_the_prompts_inside_name_it_each_prompt_counted_once() -> None:
    within, metadata, counts, words, ids = pairs(0.5, 0.7)
    found = condition(within, metadata, counts, words, ids)
    assert (found.kind, found.terms, found.auroc) == (NameKind.WORDS, (5,), None)
    first = np.unique(ids, return_index=True)[1]
    holds = counts[first, 5] > 0
    assert found.share == pytest.approx(holds[within[first]].mean())
    assert found.others == pytest.approx(holds[~within[first]].mean())
    split = within.copy()
    split[first[:30]] = False  # prompts with pairs on both sides do not hide the word
    assert condition(split, metadata, counts, words, ids).terms == (5,)


@pytest.mark.parametrize(("word", "elsewhere"), [(0.35, 0.01), (0.65, 0.4)])
def test_a_word_that_few_prompts_hold_or_nearly_as_many_elsewhere_names_nothing(word: float, elsewhere: float) -> None:
    assert condition(*pairs(0.5, word, elsewhere)) == Name()


def test_a_condition_with_no_pairs_or_all_of_them_has_no_name() -> None:
    within, *rest = pairs(0.9, 0.5)
    assert condition(np.zeros_like(within), *rest) == condition(np.ones_like(within), *rest) == Name()


@pytest.mark.serial
def test_two_thousand_findings_take_seconds_and_little_memory() -> None:
    """20,000 responses, 40 descriptors; then words for 20 findings among 9 n-grams. The time grows with the responses."""
    draws = np.random.default_rng(6)
    held = np.repeat(np.arange(20_000), 100), draws.integers(0, 2_000, 2_000_000)
    presence = Csr((np.ones(2_000_000, bool), held), shape=(20_000, 2_000))
    amounts, counts = draws.normal(size=(20_000, 40)), Csr(draws.integers(0, 2, (20_000, 9)))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    found = auroc(presence, amounts)
    few = Csr(presence[:, np.arange(20)])
    names = name_findings(few, amounts[:, :2], counts, np.full(20_000, 60), np.arange(20_000) // 2, WORDS, TELLING)
    assert in_time(time.perf_counter() - started, 10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    assert set(names) == {Name()}
    assert (found.value.max(), found.reason.max()) < (0.6, 1)
