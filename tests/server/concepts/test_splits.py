"""Splits and folds keep prompts whole, classes in proportion, and do not care about the order of rows."""

import numpy as np
import pytest
from assay_server.concepts.splits import fold_groups, group_codes, split_groups
from assay_server.errors import InvalidItem
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray


@st.composite
def grouped(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    rows = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 25)), min_size=1, max_size=80))
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows], dtype=np.int64)


@given(grouped(), st.floats(0.1, 0.9), st.integers(0, 5))
def test_every_row_is_on_one_side_and_no_prompt_on_both(
    case: tuple[NDArray[np.bool_], NDArray[np.int64]], share: float, seed: int
) -> None:
    positive, groups = case
    try:
        split = split_groups(positive, groups, share=share, minimum=1, seed=seed)
    except InvalidItem:
        assume(False)
        return
    assert sorted([*split.fit, *split.held_out]) == list(range(len(positive)))
    assert not set(groups[split.fit]) & set(groups[split.held_out])
    for part in (split.fit, split.held_out):
        assert {True, False} == set(positive[part].tolist())


@given(grouped(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_side_and_no_fold(
    case: tuple[NDArray[np.bool_], NDArray[np.int64]], seed: int, random
) -> None:
    positive, groups = case
    order = np.array(random.sample(range(len(groups)), len(groups)))
    fold = fold_groups(positive, groups, folds=3, seed=seed)
    assert np.array_equal(fold_groups(positive[order], groups[order], folds=3, seed=seed), fold[order])
    try:
        split = split_groups(positive, groups, share=0.3, minimum=1, seed=seed)
    except InvalidItem:
        return
    shuffled = split_groups(positive[order], groups[order], share=0.3, minimum=1, seed=seed)
    assert sorted(order[shuffled.held_out]) == split.held_out.tolist()


@given(grouped(), st.integers(2, 5))
def test_folds_keep_prompts_whole(case: tuple[NDArray[np.bool_], NDArray[np.int64]], folds: int) -> None:
    positive, groups = case
    fold = fold_groups(positive, groups, folds=folds, seed=0)
    assert 0 <= fold.min() <= fold.max() < folds
    for group in set(groups.tolist()):
        assert len(set(fold[groups == group].tolist())) == 1


def test_each_class_is_held_out_in_its_share() -> None:
    positive = np.arange(400) < 100
    split = split_groups(positive, np.arange(400), share=0.25, minimum=1, seed=3)
    assert int(positive[split.held_out].sum()) == 25
    assert int((~positive[split.held_out]).sum()) == 75


def test_another_seed_holds_out_other_prompts() -> None:
    positive = np.arange(100) < 50
    first, again, other = (
        split_groups(positive, np.arange(100), share=0.5, minimum=1, seed=seed).held_out.tolist() for seed in (0, 0, 1)
    )
    assert first == again != other


def test_too_few_examples_are_refused_with_every_count_that_matters() -> None:
    positive = np.array([True] * 4 + [False] * 40)
    with pytest.raises(InvalidItem, match=r"4 positive and 40 negative examples in 44 prompts leave 3 \+ 27") as caught:
        split_groups(positive, np.arange(44), share=1 / 3, minimum=3, seed=0)
    assert caught.value.reason == "TOO_FEW_EXAMPLES"
    assert caught.value.details["held_out_positive"] == "1"
    assert caught.value.details["needed"] == "3"


def test_examples_of_a_single_prompt_cannot_be_split() -> None:
    positive = np.arange(50) < 25
    with pytest.raises(InvalidItem, match="in 1 prompts leave"):
        split_groups(positive, np.zeros(50, dtype=np.int64), share=0.5, minimum=1, seed=0)


def test_no_examples_at_all_are_refused() -> None:
    with pytest.raises(InvalidItem, match="0 positive and 0 negative"):
        split_groups(np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64), share=0.5, minimum=1, seed=0)


def test_group_numbers_are_equal_exactly_where_names_are() -> None:
    assert group_codes(["b", "a", "b", "c"]).tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_two_large_prompts_are_one_on_each_side_whatever_the_share(share: float) -> None:
    positive, groups = np.arange(20) % 2 == 0, np.repeat([0, 1], 10)
    split = split_groups(positive, groups, share=share, minimum=5, seed=0)
    assert (len(split.fit), len(split.held_out)) == (10, 10)
