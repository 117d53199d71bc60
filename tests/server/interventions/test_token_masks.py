"""Token masks: words by white space, a word's score its tokens' largest, offsets that point at the masked text."""

import numpy as np
import pytest
from assay_server.interventions.token_masks import default_threshold, mask_tokens, token_words
from assay_server.interventions.types import MaskUnit

TEXT = "Un believable, yes"
TOKENS = [(0, 2), (2, 5), (5, 12), (12, 14), (14, 18)]  # "Un", " be", "lievabl", "e,", " yes": a token may begin with a space
STARTS, ENDS = np.array(TOKENS).T


def test_tokens_belong_to_the_word_of_their_first_visible_character() -> None:
    assert token_words(TEXT, STARTS, ENDS).tolist() == [0, 1, 1, 1, 2]


def test_a_word_is_masked_whole_where_any_of_its_tokens_reaches_the_threshold() -> None:
    mask = mask_tokens(TEXT, STARTS, ENDS, [0.1, 0.0, 0.9, 0.0, 0.2], 0.9, MaskUnit.WORD)
    assert mask.tokens.tolist() == [1, 2, 3]
    assert [TEXT[a:b] for a, b in zip(mask.starts, mask.ends, strict=True)] == [" be", "lievabl", "e,"]
    assert mask.of == 5


def test_single_tokens_are_masked_alone() -> None:
    mask = mask_tokens(TEXT, STARTS, ENDS, [0.1, 0.0, 0.9, 0.0, 0.2], 0.2, MaskUnit.TOKEN)
    assert mask.tokens.tolist() == [2, 4]


def test_a_token_of_white_space_is_a_unit_of_its_own() -> None:
    text = "a \n\n b"
    starts, ends = np.array([(0, 1), (1, 4), (4, 6)]).T
    mask = mask_tokens(text, starts, ends, [0.0, 1.0, 0.0], 1.0, MaskUnit.WORD)
    assert mask.tokens.tolist() == [1]


def test_the_threshold_itself_is_masked_and_nothing_below() -> None:
    assert mask_tokens("ab", [0, 1], [1, 2], [0.5, np.nextafter(0.5, 0)], 0.5, MaskUnit.TOKEN).tokens.tolist() == [0]


def test_an_empty_response_has_an_empty_mask() -> None:
    assert mask_tokens("", [], [], [], 1.0, MaskUnit.WORD).tokens.tolist() == []


def test_characters_outside_the_basic_plane_count_once() -> None:
    text = "🙂🙂 ok"
    starts, ends = np.array([(0, 1), (1, 2), (2, 5)]).T
    assert mask_tokens(text, starts, ends, [0, 1, 0], 1.0, MaskUnit.WORD).tokens.tolist() == [0, 1]


def test_the_default_threshold_is_reached_by_a_tenth_of_responses_and_never_by_a_token_on_which_nothing_fires() -> None:
    assert default_threshold(np.arange(101.0), activations=True) == pytest.approx(90.0)
    rare = np.zeros(100)
    rare[:3] = (0.5, 0.25, 2.0)
    assert default_threshold(rare, activations=True) == 0.25
    assert 0 < default_threshold(np.zeros(10), activations=True) < 1e-300
    assert default_threshold([-3.0, -1.0], activations=False) == pytest.approx(-1.2)
    assert default_threshold([], activations=False) == 0.0


def test_arrays_that_do_not_fit_and_thresholds_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError):
        mask_tokens("ab", [0], [1], [0.5, 0.5], 0.5, MaskUnit.TOKEN)
    with pytest.raises(ValueError, match="threshold"):
        mask_tokens("a", [0], [1], [0.5], float("nan"), MaskUnit.TOKEN)
