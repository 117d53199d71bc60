from functools import reduce

import numpy as np
import pytest
from assay_server.audit.matrices import Csr
from assay_server.audit.reason import Reason
from assay_server.audit.words import WordSums, contrast_words, log_odds, merge_word_sums, shown_words, word_sums
from scipy import stats

FIELDS = ("n", "y", "yy", "yn", "nn", "holding", "texts", "prompts")


def drawn(seed: int, prompts: int = 60, ngrams: int = 25, kinds: int = 2) -> tuple[np.ndarray, ...]:
    """Texts whose prompt shifts their words; a word that occurs is repeated. Counts, words, cells, prompts."""
    draws = np.random.default_rng(seed)
    ids = np.repeat(np.arange(prompts), draws.integers(1, 5, prompts)) * 3 - 5
    tilt = draws.gamma(1.0, 1.0, (prompts, ngrams))[(ids + 5) // 3]
    counts = (draws.random((len(ids), ngrams)) < 0.15 * tilt) * draws.geometric(0.4, (len(ids), ngrams))
    words = counts.sum(axis=1) + draws.integers(20, 200, len(ids))
    return counts, words, draws.integers(-1, kinds, len(ids)), ids


def sums_of(counts: np.ndarray, words: np.ndarray, cells: np.ndarray, ids: np.ndarray, kinds: int = 2) -> WordSums:
    return word_sums(Csr(counts), words, cells, ids, kinds=kinds)


def rates(counts: np.ndarray, words: np.ndarray, cells: np.ndarray, strength: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Smoothed occurrences and words of each cell, straight from Monroe et al. with α by the part's pooled rate."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for k in range(cells.max() + 1):
        both = (cells == k) | (cells == (k ^ 1))
        prior = strength * words[cells == k].sum()
        alpha = prior * counts[both].sum(axis=0) / words[both].sum()
        found.append((counts[cells == k].sum(axis=0) + alpha, words[cells == k].sum() + prior))
    return found


@pytest.mark.parametrize("kinds", [2, 4])
@pytest.mark.parametrize("strength", [0.001, 0.1])
def test_delta_and_its_clustered_error_equal_a_plain_loop(kinds: int, strength: float) -> None:
    counts, words, cells, ids = drawn(kinds, kinds=kinds)
    found = log_odds(sums_of(counts, words, cells, ids, kinds), strength=strength)
    smoothed = rates(counts, words, cells, strength)
    signs = (1, -1, -1, 1)[:kinds]
    delta = sum(s * np.log(a / (m - a)) for s, (a, m) in zip(signs, smoothed, strict=True))
    assert np.allclose(found.delta, delta, rtol=1e-9, atol=1e-12)

    present = np.unique(ids[cells >= 0])
    influence, null = np.zeros((2, len(present), counts.shape[1]))
    mu = under_null(smoothed)
    for i in np.flatnonzero(cells >= 0):
        s, (a, m), rate = signs[cells[i]], smoothed[cells[i]], mu[cells[i]]
        c = np.searchsorted(present, ids[i])
        influence[c] += s * (counts[i] / a - (words[i] - counts[i]) / (m - a))
        null[c] += s * (counts[i] - rate * words[i]) / (m * rate * (1 - rate))
    wald = np.sqrt(len(present) * influence.var(axis=0, ddof=1))
    score = sum(s * (a - m * rate) / (m * rate * (1 - rate)) for s, (a, m), rate in zip(signs, smoothed, mu, strict=True))
    statistic = score / np.sqrt((null**2).sum(axis=0))
    z = np.sign(delta) * np.minimum(np.abs(delta) / wald, np.abs(statistic))
    assert np.allclose(found.z, z, rtol=1e-9, atol=1e-9)
    assert np.allclose(found.p, 2 * stats.norm.sf(np.abs(z)), rtol=1e-9)
    assert np.allclose(found.se * found.z, delta, rtol=1e-9)
    assert (found.se >= wald * (1 - 1e-9)).all()
    assert np.allclose(found.high - found.delta, 1.959963984540054 * found.se, rtol=1e-9)
    assert (np.sign(score) == np.sign(delta)).all()


def under_null(smoothed: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """Rates with one odds ratio in both tables of the same margins, the Mantel-Haenszel one, found by bisection."""
    tables = [(*smoothed[k], *smoothed[k + 1]) for k in range(0, len(smoothed), 2)]
    if len(tables) == 1:
        ((a, m, b, n),) = tables
        return [(a + b) / (m + n)] * 2
    ratio = sum(a * (n - b) / (m + n) for a, m, b, n in tables) / sum(b * (m - a) / (m + n) for a, m, b, n in tables)
    found: list[np.ndarray] = []
    for a, m, b, n in tables:
        low, high = np.zeros_like(a), np.minimum(a + b, m)
        for _ in range(200):
            x = (low + high) / 2
            small = x * (n - (a + b - x)) < ratio * (m - x) * (a + b - x)
            low, high = np.where(small, x, low), np.where(small, high, x)
        found += [x / m, (a + b - x) / n]
    return found


@pytest.mark.parametrize("kinds", [2, 4])
def test_sums_merge_to_the_bit_whatever_the_blocks_even_where_they_split_prompts(kinds: int) -> None:
    counts, words, cells, ids = drawn(1, kinds=kinds)
    whole = sums_of(counts, words, cells, ids, kinds)
    order = np.random.default_rng(0).permutation(len(ids))
    parts = [
        word_sums(Csr(counts[rows]), words[rows], cells[rows], ids[rows], kinds=kinds, open_prompts=np.unique(ids))
        for rows in np.array_split(order, 4)
    ]
    for merged in (reduce(merge_word_sums, parts), reduce(merge_word_sums, parts[::-1])):
        for name in FIELDS:
            assert np.array_equal(getattr(merged.closed(), name), getattr(whole, name))
        assert np.array_equal(log_odds(merged).p, log_odds(whole).p)


def paired(seed: int, prompts: int, ngrams: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two responses a pair, up to three pairs a prompt; who writes a word writes it three times more on average."""
    draws = np.random.default_rng(seed)
    ids = np.repeat(np.arange(prompts), draws.integers(1, 4, prompts))
    rate = draws.uniform(0.02, 0.3, ngrams)
    counts = np.stack([(draws.random((len(ids), ngrams)) < rate) * draws.geometric(0.25, (len(ids), ngrams)) for _ in "ab"])
    return counts, counts.sum(axis=2) + draws.integers(50, 150, (2, len(ids))), ids


def under_swaps(kinds: int, ngrams: int = 3_000) -> tuple[WordSums, np.ndarray]:
    """The sums after a fair coin a prompt, and whether z by Monroe's own variance passes 1.96."""
    (counts, words, ids), draws = paired(5, 150, ngrams), np.random.default_rng(6)
    swap = (draws.random(150) < 0.5)[ids]
    chosen = np.where(swap, 1, 0)
    outside = 2 * (draws.random(len(ids)) < 0.7) if kinds == 4 else 0
    cells = np.concatenate([chosen + outside, 1 - chosen + outside])
    counts, words = counts.reshape(-1, ngrams), words.ravel()
    smoothed = rates(counts, words, cells, 0.1)
    with np.errstate(divide="ignore", invalid="ignore"):  # words that occur nowhere inside
        variance = sum(1 / a + 1 / (m - a) for a, m in smoothed)
        delta = sum(s * np.log(a / (m - a)) for s, (a, m) in zip((1, -1, -1, 1), smoothed, strict=False))
        passes = np.abs(delta) / np.sqrt(variance) > 1.96
    return sums_of(counts, words, cells, np.tile(ids, 2), kinds), passes


@pytest.mark.parametrize("kinds", [2, 4])
def test_swapped_labels_give_p_below_5_percent_in_5_percent_of_words(kinds: int) -> None:
    sums, monroe = under_swaps(kinds)
    found = log_odds(sums)
    low, high = stats.binom.interval(0.999, 3_000, 0.05)
    assert low <= (found.p <= 0.05).sum() <= high
    assert (found.p <= 0.001).sum() <= stats.binom.ppf(0.999, 3_000, 0.001)
    assert monroe.mean() > 0.2


def test_a_rare_word_on_one_side_is_no_surer_than_a_sign_test_says() -> None:
    """Ten prompts use it, all in the chosen response: the sign test gives p = 2/1024, the error at the estimate 1e-16."""
    counts = np.zeros((400, 1), int)
    counts[:10] = 1
    cells, ids = np.repeat([0, 1], 200), np.tile(np.arange(200), 2)
    found = log_odds(sums_of(counts, np.full(400, 100), cells, ids))
    assert found.p[0] == pytest.approx(2 / 1024, rel=0.25)
    smoothed = rates(counts, np.full(400, 100), cells, 0.1)
    assert found.delta[0] / np.sqrt(10 / smoothed[0][0] ** 2) > 8


@pytest.mark.parametrize("truth", [[0.1, -0.1], [0.5, -0.3], [0.3, 0.2, 0.1, -0.1], [0.5, -0.3, 0.1, 0.4]])
def test_an_interval_holds_the_true_difference_in_at_least_95_percent(truth: list[float]) -> None:
    draws, kinds = np.random.default_rng(9), len(truth)
    signs = np.array((1, -1, -1, 1)[:kinds])
    ids = np.repeat(np.arange(300), 4)
    cells = np.tile(np.arange(4) % kinds, 300)
    shared = draws.gamma(4.0, 0.25, (300, 2_000))[ids]
    rate = 0.01 * np.exp(np.array(truth))
    counts = draws.poisson(100 * rate[cells][:, None] * shared)
    words = np.full(1_200, 100)
    found = log_odds(sums_of(counts, words, cells, ids, kinds), strength=1e-6)
    expected = (signs * np.log(rate / (1 - rate))).sum()
    held = (found.low <= expected) & (expected <= found.high)
    assert held.sum() >= stats.binom.ppf(0.001, 2_000, 0.95)
    assert held.mean() <= (0.97 if abs(expected) < 0.5 else 0.995)


def test_what_cannot_be_compared_has_a_reason_and_no_nan() -> None:
    counts = np.zeros((40, 4), int)
    counts[:4, 0] = 1
    counts[:2, 1] = 5  # one prompt
    counts[:, 2] = 1  # everywhere alike
    cells, ids = np.tile([0, 1], 20), np.repeat(np.arange(20), 2)
    found = log_odds(sums_of(counts, np.full(40, 10), cells, ids))
    assert [Reason(code) for code in found.reason] == [Reason.NO_DIFFERENCE, Reason.ONE_PROMPT, *[Reason.NO_DIFFERENCE] * 2]
    inside = log_odds(sums_of(counts, np.full(40, 10), np.tile([2, 3], 20) - 2 * (ids == 10), ids, 4))
    assert Reason(inside.reason[0]) == Reason.FEW_INSIDE
    alone = log_odds(sums_of(counts, np.full(40, 10), cells * 0, ids))
    assert (alone.reason == Reason.NO_PAIRS).all()
    nothing = log_odds(sums_of(counts[:0], np.zeros(0, int), cells[:0], ids[:0]))
    for result in (found, inside, alone, nothing):
        stopped = result.reason != Reason.NONE
        assert (result.p[stopped] == 1).all()
        for name in ("delta", "se", "z", "low", "high"):
            assert (getattr(result, name)[stopped] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"cells": [0, 2]}, "cells must lie"), ({"words": [1]}, "words and cells"), ({"kinds": 3}, "of 2 or 4 kinds")],
)
def test_bad_input_is_refused(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"counts": Csr(np.ones((2, 1), int)), "words": [1, 1], "cells": [0, 1], "prompts": [0, 0]}
    with pytest.raises(ValueError, match=message):
        word_sums(**(given | change))  # pyright: ignore[reportArgumentType]


WORDS = np.array([[1, 0, 0], [2, 0, 0], [1, 2, 0], [3, 0, 0], [4, 0, 0], [5, 0, 0]], np.uint64)


def described(shared: bool) -> tuple[Csr, np.ndarray, np.ndarray, np.ndarray]:
    """Members use n-grams 0 and 2 (its phrase), 3 at times; 4 belongs to the prompts that have more members."""
    draws = np.random.default_rng(2)
    ids = np.repeat(np.arange(200), 2) if shared else np.arange(400)
    about = (np.arange(400) // 2 < 100) if shared else np.zeros(400, bool)
    member = draws.random(400) < np.where(about, 0.8, 0.2) if shared else np.arange(400) < 60
    counts = np.zeros((400, 6), int)
    phrase = member & (draws.random(400) < 0.6)
    counts[:, 2] = phrase
    counts[:, 0] = phrase + (member & (draws.random(400) < 0.2))
    counts[:, 1] = phrase + (draws.random(400) < 0.3)
    counts[:, 3] = 4 * (member & (draws.random(400) < 0.12))
    counts[:, 4] = about & (draws.random(400) < 0.9)
    counts[:, 5] = draws.random(400) < 0.5
    return Csr(counts), np.full(400, 50), member, ids


def test_words_of_members_are_found_and_what_the_prompt_is_about_is_not() -> None:
    counts, words, member, ids = described(shared=True)
    found = contrast_words(counts, words, member, ids)
    assert set(found.ranked) == {0, 1, 2, 3}
    assert (np.diff(found.odds.z[found.ranked]) <= 0).all()
    blind = contrast_words(counts, words, member, np.arange(400))
    assert 4 in blind.ranked
    both = np.array([len(set(member[ids == k])) == 2 for k in ids])
    held = counts.toarray() > 0
    assert np.allclose(found.share, held[both & member].mean(axis=0))
    assert np.allclose(found.others, held[both & ~member].mean(axis=0))


def test_where_no_prompt_has_both_kinds_all_texts_are_compared() -> None:
    counts, words, member, ids = described(shared=False)
    found = contrast_words(counts, words, member, ids)
    assert set(found.ranked) == {0, 1, 2, 3}
    assert np.allclose(found.share, (counts.toarray()[member] > 0).mean(axis=0))


def test_many_prompts_are_thinned_evenly_and_the_same_way_each_time() -> None:
    counts, words, member, ids = described(shared=True)
    few = [contrast_words(counts, words, member, ids, most_prompts=40) for _ in range(2)]
    assert np.array_equal(few[0].odds.z, few[1].odds.z)
    whole = contrast_words(counts, words, member, ids)
    assert few[0].odds.z[0] < whole.odds.z[0]


def test_words_shown_do_not_repeat_each_other_are_telling_and_common_ones_come_first() -> None:
    counts, words, member, ids = described(shared=False)
    found = contrast_words(counts, words, member, ids)
    best = int(found.ranked[np.isin(found.ranked, [0, 2])][0])
    shown = shown_words(found, WORDS, np.ones(6, bool))
    assert shown[0] == best
    assert not (0 in shown and 2 in shown)
    assert shown[-1] == 3
    assert found.share[3] < 0.2
    assert shown_words(found, WORDS, np.array([False, False, True, True, True, True])) == (2, 3)
    assert shown_words(found, WORDS, np.ones(6, bool), most=1) == (best,)
