import numpy as np
import pytest
from assay_server.concepts.examples import Examples, pair_examples, text_examples
from assay_server.concepts.selection import feature_aurocs, select_features
from assay_server.errors import Cancelled, InvalidItem
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import roc_auc_score

FEATURES = 600  # more than are dense at once


def rows(values: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(values)


def activations(seed: int, count: int, telling: dict[int, float]) -> np.ndarray:
    """Sparse noise, and features that fire on every row as strongly as is said."""
    draws = np.random.default_rng(seed)
    values = np.where(draws.random((count, FEATURES)) < 0.1, draws.exponential(size=(count, FEATURES)), 0.0)
    for feature, strength in telling.items():
        values[:, feature] = strength + 0.1 * draws.random(count)
    return values


def texts(positive: dict[int, float], *negatives: dict[int, float], count: int = 40) -> Examples:
    sides = [activations(seed, count, one) for seed, one in enumerate((positive, *negatives))]
    return text_examples(rows(sides[0]), rows(np.concatenate(sides[1:])))


VALUES = st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.0])


@given(
    st.lists(st.lists(VALUES, min_size=4, max_size=4), min_size=2, max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
@settings(max_examples=120, deadline=None)
def test_aurocs_are_those_of_scikit_learn_feature_by_feature(values: list[list[float]], labels: list[bool]) -> None:
    matrix, positive = np.array(values), np.array(labels[: len(values)])
    positive[:2] = [True, False]
    firing, found = feature_aurocs(rows(matrix), positive)
    assert firing.tolist() == np.flatnonzero(matrix.any(axis=0)).tolist()
    assert found == pytest.approx([roc_auc_score(positive, matrix[:, feature]) for feature in firing], abs=1e-12)


def test_the_features_that_tell_the_sides_apart_are_chosen_and_measured_on_what_was_held_out() -> None:
    examples = texts({7: 2.0, 300: 1.0, 599: 4.0}, {})
    found = select_features(examples, most=3, seed=3)
    assert found.features.tolist() == [7, 300, 599]
    assert found.aurocs == pytest.approx([1.0] * 3, abs=0.1)
    report = found.report
    assert report.auroc > 0.99
    assert report.fitted_positive + report.held_out_positive == 40
    assert report.random_auroc < 0.75
    assert report.random_auroc_max < report.auroc
    assert (report.pair_accuracy, report.l2) == (None, None)
    assert select_features(examples, most=1, seed=3).features.tolist() in ([7], [300], [599])


def test_counterexamples_turn_the_choice_from_what_both_share_to_what_is_its_own() -> None:
    decoration, bold, emoji = 5, 6, 8
    shown, other = {decoration: 3.0, bold: 1.0}, {decoration: 3.0, emoji: 1.0}
    assert decoration in select_features(texts(shown, {}), most=2).features
    assert select_features(texts(shown, {}, other), most=1).features.tolist() == [bold]


def test_fewer_features_are_taken_where_fewer_tell_anything() -> None:
    values = np.zeros((60, 4))
    values[:30, 2] = 1.0
    values[::2, 1] = 1.0  # fires on half of either side
    examples = Examples(rows(values), np.arange(60) < 30, np.arange(60))
    assert select_features(examples, most=3).features.tolist() == [2]


def test_sides_that_do_not_differ_are_refused_with_the_numbers() -> None:
    values = np.tile(np.array([[0.0, 1.0]]), (40, 1))
    with pytest.raises(InvalidItem, match=r"None of 1 features .* the best AUROC is 0.50, and 0.6 is needed") as caught:
        select_features(Examples(rows(values), np.arange(40) < 20, np.arange(40)), most=3)
    assert caught.value.reason == "NO_DIFFERENCE"
    with pytest.raises(InvalidItem, match="None of 0 features"):
        select_features(Examples(rows(np.zeros((40, 2))), np.arange(40) < 20, np.arange(40)), most=3)


def test_both_sides_of_a_pair_are_held_out_together_and_compared() -> None:
    chosen, rejected = activations(0, 30, {9: 2.0}), activations(1, 30, {})
    report = select_features(pair_examples(rows(chosen), rows(rejected)), most=1).report
    assert report.pair_accuracy == 1.0
    assert report.held_out_positive == report.held_out_negative


def test_what_is_held_out_decides_nothing() -> None:
    examples = texts({7: 2.0}, {})
    found = select_features(examples, most=2, seed=1)
    changed = examples.rows.toarray()  # type: ignore[union-attr]
    from assay_server.concepts.splits import split_groups

    held = split_groups(examples.positive, examples.groups, share=0.3, minimum=3, seed=1).held_out
    changed[held, 400] = 50.0 * examples.positive[held]
    again = select_features(Examples(rows(changed), examples.positive, examples.groups), most=2, seed=1)
    assert again.features.tolist() == found.features.tolist()


def test_rivals_are_other_features_and_nothing_where_there_are_no_others() -> None:
    values = np.zeros((60, 3))
    values[:30, 1] = 1.0
    report = select_features(Examples(rows(values), np.arange(60) < 30, np.arange(60)), most=3).report
    assert report.auroc == 1.0
    assert (report.random_auroc, report.random_auroc_max) == (0.5, 0.5)


def test_dense_rows_are_refused_and_a_check_ends_the_work() -> None:
    with pytest.raises(TypeError, match="CSR"):
        select_features(text_examples(np.ones((10, 2)), np.zeros((10, 2))), most=1)

    def stop() -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        select_features(texts({7: 2.0}, {}), most=1, check=stop)
