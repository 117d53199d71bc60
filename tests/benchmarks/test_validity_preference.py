"""Held-out prediction of preferences: the fit, the folds, and the small autoencoders that it is compared with."""

import numpy as np
import pytest
from assay_server.audit.matrices import Csr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.validity.difference_sae import ACTIVE, train_difference_sae
from benchmarks.validity.explained import shares, standardised
from benchmarks.validity.preference import Description, described, fit, folds, pair_auc, predict


def taught(pairs: int = 240, columns: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Differences whose first column decides the preference, and prompts of two pairs each."""
    draws = np.random.default_rng(seed)
    x = draws.normal(size=(pairs, columns))
    x[:, 0] += 0.8
    return x, np.arange(pairs) // 2


def test_the_fit_is_that_of_scikit_learn_on_both_orders_of_every_pair() -> None:
    x, _ = taught()
    theirs = LogisticRegression(C=1 / (0.01 * 2 * len(x)), fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(np.concatenate([x, -x]), np.repeat([1, 0], len(x)))
    assert fit(x, 0.01) == pytest.approx(theirs.coef_[0], abs=1e-4)


def test_auc_counts_every_pair_in_both_orders() -> None:
    margins = np.random.default_rng(1).normal(0.3, 1.0, 100)
    both = np.concatenate([margins, -margins])
    assert pair_auc(margins) == pytest.approx(roc_auc_score(np.repeat([1, 0], 100), both), abs=1e-12)
    assert pair_auc(np.zeros(10)) == 0.5


def test_folds_keep_prompts_whole_and_cover_every_pair() -> None:
    _, prompts = taught()
    dealt = folds(prompts, 5, seed=3)
    assert set(dealt.tolist()) == set(range(5))
    assert all(len(set(dealt[prompts == prompt].tolist())) == 1 for prompt in np.unique(prompts))


def test_what_decides_is_predicted_what_does_not_is_not_and_the_better_representation_is_taken() -> None:
    x, prompts = taught(400)
    good = predict(lambda train, seed: [described(x[:, 1:]), described(x)], prompts, repeats=1, count=5, seed=0)
    idle = predict(lambda train, seed: [described(x[:, 1:])], prompts, repeats=1, count=5, seed=0)
    assert good.auc > 0.75
    assert abs(idle.auc - 0.5) < 0.1
    assert set(good.chosen) == {1}


def test_what_a_representation_learns_it_learns_from_training_pairs() -> None:
    x, prompts = taught(100)
    seen: list[set[int]] = []

    def describe(train: np.ndarray, seed: int) -> list[Description]:
        seen.append(set(train.tolist()))
        return [described(x)]

    predict(describe, prompts, repeats=1, count=4, seed=0)
    assert [len(part) for part in seen] == [100 - int((folds(prompts, 4, 0) == fold).sum()) for fold in range(4)]
    assert set.intersection(*seen) == set()


def test_shares_are_relative_to_the_dense_ceiling_with_an_interval() -> None:
    x, prompts = taught(300)
    contenders = {"dense residual": lambda train, seed: [described(x)], "first": lambda train, seed: [described(x[:, :1])]}
    predictions = {name: predict(d, prompts, repeats=1, count=5, seed=0) for name, d in contenders.items()}
    summary = shares(predictions, prompts, seed=0)
    assert summary["dense residual"]["share"] == 1.0
    assert summary["dense residual"]["share_interval"] == [1.0, 1.0]
    low, high = summary["first"]["share_interval"]
    assert low < summary["first"]["share"] < high
    expected = (summary["first"]["auc"] - 0.5) / (summary["dense residual"]["auc"] - 0.5)
    assert summary["first"]["share"] == pytest.approx(expected, abs=1e-12)


def test_the_small_autoencoder_keeps_four_features_on_average_and_turns_with_its_input() -> None:
    draws = np.random.default_rng(0)
    atoms, codes = draws.normal(size=(16, 24)), draws.normal(size=(600, 16)) * (draws.random((600, 16)) < 0.15)
    x = codes @ atoms
    sae = train_difference_sae(np.concatenate([x, -x]), seed=0, steps=150, rate=5e-3)
    z = sae.encode(x)
    assert (z != 0).sum(axis=1).mean() == pytest.approx(ACTIVE, rel=0.15)
    assert np.array_equal(sae.encode(-x), -z)
    assert np.array_equal(train_difference_sae(np.concatenate([x, -x]), seed=0, steps=150, rate=5e-3).encode(x), z)


def test_standardising_keeps_zero_and_sign() -> None:
    values = np.array([[0.0, 3.0, 0.0], [2.0, -3.0, 0.0]])
    assert np.array_equal(np.sign(standardised(values)), np.sign(values))
    assert np.square(standardised(values)).mean(axis=0).tolist() == pytest.approx([1.0, 1.0, 0.0])


def test_wide_and_sparse_descriptions_give_the_fit_of_their_columns() -> None:
    x, prompts = taught(60, 200)
    wide = predict(lambda train, seed: [described(Csr(x))], prompts, repeats=1, count=4, seed=0)
    plain = predict(lambda train, seed: [Description(x, 200)], prompts, repeats=1, count=4, seed=0)
    assert wide.columns == plain.columns == [200] * 4
    assert wide.margins == pytest.approx(plain.margins, abs=1e-3)
