from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
from assay_server.audit import explained as audit_explained
from assay_server.audit.explained import Block, Explained, explained, fit_margins, sampled_pairs
from assay_server.audit.matrices import Csr, Ints
from scipy import special
from sklearn.linear_model import LogisticRegression

PAIRS, FEATURES = 1_200, 300


def world(seed: int, *, length: float = 0.0, features: float = 0.0, prompts: int = 600) -> tuple[list[Block], np.ndarray]:
    """Labels from length and from five features, by a coin each; pairs of a prompt are alike."""
    draws = np.random.default_rng(seed)
    ids = draws.integers(0, prompts, PAIRS)
    x = 0.7 * draws.normal(size=PAIRS) + 0.7 * draws.normal(size=prompts)[ids]
    # Two features in five go along with length.
    fires = draws.random((PAIRS, FEATURES)) < 0.1
    side = np.where(
        draws.random((PAIRS, FEATURES)) < special.expit(np.where(np.arange(FEATURES) % 5 < 2, 2, 0) * x[:, None]), 1, -1
    )
    b = np.where(fires, side, 0)
    margin = length * x + features * b[:, 2:25:5].sum(axis=1)
    sign = np.where(draws.random(PAIRS) < special.expit(margin), 1, -1)
    style = np.stack([x, draws.normal(size=PAIRS)], axis=1) * sign[:, None]
    sae = Csr((b * sign[:, None]).astype(np.float64))
    blocks = [
        Block("length", Csr(style[:, :1]), scaled=True),
        Block("style", Csr(style), scaled=True),
        Block("SAE findings", sae, selected=True),
        Block("SAE", sae),
        Block("SAE over style", sae, over="style"),
    ]
    return blocks, ids


def coded(seed: int, weight: float) -> tuple[list[Block], np.ndarray]:
    """Residuals that mix sparse features, four of which make the labels: what a trained dictionary reads, and a random one."""
    draws = np.random.default_rng(seed)
    pairs, width, features, active = 1_000, 40, 80, 5
    directions = draws.normal(size=(features, width)) / np.sqrt(width)
    fires = draws.random((2, pairs, features)) < active / features
    residual = (fires * draws.uniform(1, 2, fires.shape)) @ directions
    others = draws.normal(size=(width, features)) / np.sqrt(width)
    scores = residual @ others
    highest = scores >= np.sort(scores, axis=2)[:, :, [-active]]
    margin = weight * (fires[0, :, :4].sum(axis=1) - 1.0 * fires[1, :, :4].sum(axis=1))
    sign = np.where(draws.random(pairs) < special.expit(margin), 1.0, -1.0)[:, None]

    def differences(shown: np.ndarray) -> Csr:
        return Csr(sign * (shown[0].astype(np.float64) - shown[1]))

    dense = Csr(sign * (residual[0] - residual[1]))
    blocks = [Block("SAE", differences(fires)), Block("dense", dense), Block("random dictionary", differences(highest))]
    return blocks, np.arange(pairs)


def by_name(found: Explained) -> dict[str, float]:
    return {block.name: block.auc for block in found.blocks}


def test_the_fit_is_that_of_a_penalised_logistic_regression_without_intercept() -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(200, 6)) + 0.3
    beta = fit_margins(Csr(x), 2.0, np.zeros(200))
    turned = draws.choice([-1, 1], 200)
    model = LogisticRegression(C=1 / 2.0, fit_intercept=False, tol=1e-10).fit(x * turned[:, None], turned > 0)
    assert beta == pytest.approx(model.coef_[0], abs=2e-3)
    margin = x @ beta + 0.4
    moved = fit_margins(Csr(x), 2.0, np.full(200, 0.4))
    assert np.abs(2.0 * moved - x.T @ special.expit(-(x @ moved + 0.4))).max() < 0.1, "the gradient with an offset"
    assert np.abs(2.0 * beta - x.T @ special.expit(-margin)).max() > 1


def test_where_length_decides_the_sae_adds_nothing_to_style() -> None:
    found = explained(*world(1, length=1.2))
    auc = by_name(found)
    assert auc["length"] > 0.7
    assert auc["SAE"] > 0.55, "features that go along with length predict too"
    assert found.over_style is not None
    assert found.over_style.low < 0 < found.over_style.high or abs(found.over_style.value) < 0.01
    assert auc["SAE over style"] < auc["style"] + 0.01


def test_where_features_decide_the_sae_adds_to_style_and_findings_alone_say_it() -> None:
    found = explained(*world(2, length=0.6, features=2.0))
    auc = by_name(found)
    assert found.over_style is not None
    assert found.over_style.low > 0
    assert auc["SAE over style"] > auc["style"] + 0.03
    assert auc["SAE findings"] > 0.6
    columns = {block.name: block.columns for block in found.blocks}
    assert columns["length"] == 1
    assert 5 <= columns["SAE findings"] < 120
    assert columns["SAE"] == FEATURES


def test_where_features_carry_the_signal_the_trained_dictionary_beats_a_random_one() -> None:
    found = explained(*coded(0, 3.0))
    auc = by_name(found)
    assert found.over_random is not None
    assert found.over_random.value == pytest.approx(auc["SAE"] - auc["random dictionary"])
    assert found.over_random.low > 0.02
    shares = {block.name: block.share for block in found.blocks}
    dense, random = shares["dense"], shares["random dictionary"]
    assert dense is not None
    assert random is not None
    assert (dense.value, dense.low, dense.high) == (1.0, 1.0, 1.0)
    assert random.value == pytest.approx((auc["random dictionary"] - 0.5) / (auc["dense"] - 0.5))
    assert 0 < random.low < random.value < random.high < 1


def test_where_nothing_is_taught_a_random_dictionary_is_a_coin_and_nothing_beats_it() -> None:
    found = [explained(*coded(10 + seed, 0.0)) for seed in range(8)]
    random = [block for one in found for block in one.blocks if block.name == "random dictionary"]
    assert sum(block.low > 0.5 for block in random) <= 1
    assert 0.46 < np.mean([block.auc for block in random]) < 0.51, "under a half, as what a fold leaves out leans the other way"
    assert sum(one.over_random is not None and one.over_random.low > 0 for one in found) <= 1
    assert all(block.share is None for one in found for block in one.blocks), "of nothing there is no share"


def test_a_block_beside_another_is_fitted_along_with_it() -> None:
    draws = np.random.default_rng(11)
    first, second = draws.normal(size=(2, 900, 3))
    sign = np.where(draws.random(900) < special.expit(first[:, 0] + second[:, 0]), 1.0, -1.0)[:, None]
    x = Csr(sign * first * 1e-3)
    one, other = Block("one", x), Block("other", Csr(sign * second * 50), scaled=True)
    both = Block("both", other.values, scaled=True, beside="one")
    found = {block.name: block for block in explained([one, other, both], np.arange(900)).blocks}
    joint = explained([Block("joint", Csr(sign * np.hstack([first, second])), scaled=True)], np.arange(900)).blocks[0]
    assert found["both"].columns == 6
    assert found["both"].auc > max(found["one"].auc, found["other"].auc) + 0.04
    assert found["both"].auc == pytest.approx(joint.auc, abs=0.01), "whatever units each of the two has"
    with pytest.raises(ValueError, match="beside 'one'"):
        explained([both], np.arange(900))


def test_without_anything_to_learn_hardly_any_interval_lies_over_a_half() -> None:
    claimed = [0, 0]
    for seed in range(8):
        for block in explained(*world(100 + seed)).blocks:
            claimed[0] += block.low > 0.5
            claimed[1] += 1
    assert claimed[0] <= 0.1 * claimed[1]


def test_findings_that_are_selected_on_all_pairs_would_claim_what_is_not_there() -> None:
    blocks, ids = world(7)
    z = np.abs(blocks[3].values.sum(axis=0)).ravel()
    best = np.argsort(-z)[:20]
    cheated = explained([Block("chosen on all pairs", Csr(blocks[3].values[:, best]))], ids).blocks[0]
    honest = explained([blocks[2]], ids).blocks[0]
    assert cheated.low > 0.5
    assert honest.low <= 0.5 <= honest.high


def test_pairs_of_a_prompt_are_never_on_both_sides_of_a_fold() -> None:
    # A prompt's own column tells its label, and nothing else: known to a model only if it saw the prompt.
    draws = np.random.default_rng(3)
    ids = np.repeat(np.arange(200), 4)
    sign = draws.choice([-1.0, 1.0], 200)
    own = Csr((sign[ids], (np.arange(800), ids)), shape=(800, 200))
    assert by_name(explained([Block("own", own)], ids))["own"] == pytest.approx(0.5, abs=1e-9)
    assert by_name(explained([Block("own", own)], np.arange(800)))["own"] > 0.95


def test_the_same_seed_gives_the_same_bits_and_the_order_of_pairs_does_not_matter_to_who_takes_part() -> None:
    blocks, ids = world(4, features=1.0)
    once, again, other = (explained(blocks[1:3], ids, seed=seed) for seed in (5, 5, 6))
    assert once == again
    assert once != other
    taken = sampled_pairs(ids, 400, 0)
    assert 380 <= taken.sum() <= 400
    assert not np.isin(ids[taken], ids[~taken]).any()
    turned = np.random.default_rng(0).permutation(PAIRS)
    assert np.array_equal(sampled_pairs(ids[turned], 400, 0), taken[turned])
    assert sampled_pairs(ids, PAIRS, 0).all()


def test_a_prompt_that_does_not_fit_is_skipped_wherever_the_draw_puts_it() -> None:
    ids = np.concatenate([np.full(500, 7), np.arange(100, 400)])
    for seed in range(20):
        taken = sampled_pairs(ids, 200, seed)
        assert taken.sum() == 200
        assert not taken[:500].any()


def test_only_what_a_later_block_goes_beside_is_kept_through_a_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []
    made: list[weakref.ref[Csr]] = []
    scaled = audit_explained._scaled  # pyright: ignore[reportPrivateUsage]

    def watched(x: Csr, rows: Ints, *, by_column: bool) -> Csr:
        alive.append(sum(one() is not None for one in made))
        made.append(weakref.ref(found := scaled(x, rows, by_column=by_column)))
        return found

    monkeypatch.setattr(audit_explained, "_scaled", watched)
    x = Csr(np.random.default_rng(0).normal(size=(120, 3)))
    explained([Block("first", x), *(Block(f"block {k}", x) for k in range(5)), Block("both", x, beside="first")], np.arange(120))
    assert max(alive) == 1, "the first alone"


def test_what_cannot_be_held_out_says_why() -> None:
    blocks, ids = world(5)
    few = explained(blocks, ids % 30, note="Some were left out.")
    assert few.blocks == ()
    assert few.over_style is None
    assert few.note == "Some were left out. 30 prompts are too few to hold some out: 50 are needed"
    assert explained([], ids).note == "there is nothing to fit"
    empty = explained([replace(blocks[3], values=Csr((PAIRS, 3)))], ids).blocks[0]
    assert (empty.auc, empty.low, empty.high, empty.columns) == (0.5, 0.5, 0.5, 0)
    with pytest.raises(ValueError, match="goes over 'style'"):
        explained([blocks[4]], ids)
    with pytest.raises(ValueError, match="level"):
        explained(blocks, ids, level=0.0)
