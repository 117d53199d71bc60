"""Texts as words, for n-grams: what is a word, what keeps two apart."""

import unicodedata
from itertools import pairwise

import pytest
from assay_server.descriptors.words import words
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It’s the dogs' House", ["it's", "the", "dogs", "house"]),
        ("One two. Three!\nFour", ["one", "two", "", "three", "", "four"]),
        ("a\n\n\n b.\n", ["a", "", "b"]),
        ('He said "no." Then left', ["he", "said", "no", "", "then", "left"]),
        ("3.5 of 1,000 in v2", ["3.5", "of", "1,000", "in", "v2"]),
        ("Dr. Who met e.g. Mr. Fox", ["dr", "who", "met", "e", "g", "mr", "fox"]),
        ("see example.org now", ["see", "example", "org", "now"]),
        ("well-known snake_case", ["well", "known", "snake", "case"]),
        ("**Bold** _it_", ["bold", "it"]),
        ("Fine 😀😀 👍🏽 👨‍👩‍👧 ❤️ 1️⃣", ["fine", "😀", "😀", "👍🏽", "👨‍👩‍👧", "❤", "1⃣"]),
        ("before\n```py\nx = 1\n```\nafter", ["before", "", "after"]),
        ("before\n```\nnever closed", ["before"]),
        ("a stray ``` in a line", ["a", "stray", "", "in", "a", "line"]),
        ("École naïve ΣΊΣΥΦΟΣ", ["école", "naïve", "σίσυφος"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("東京です。はい", ["東", "京", "で", "す", "", "は", "い"]),
        ("", []),
        (" \n.!? \n", []),
        ("\ud800a\x00b", ["a", "b"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_an_accent_that_is_a_character_of_its_own_stays_in_its_word() -> None:
    assert words(unicodedata.normalize("NFD", "très élevé")) == [unicodedata.normalize("NFD", word) for word in ("très", "élevé")]


@given(st.text(alphabet=st.sampled_from("aB1 .,!?'\n\"`*é\u2019\u00a0東😀\ufe0f\u200d\u20e3\ud800\x00"), max_size=60) | st.text())
def test_boundaries_only_stand_between_words_and_words_hold_no_blank(text: str) -> None:
    found = words(text)
    assert found[:1] != [""]
    assert found[-1:] != [""]
    assert not any(first == second == "" for first, second in pairwise(found))
    assert all(word == word.lower() and len(word.split()) == 1 for word in found if word)


@given(st.lists(st.from_regex("[a-z0-9]{1,8}", fullmatch=True), min_size=1))
def test_plain_words_come_back(written: list[str]) -> None:
    assert words(" ".join(written)) == written
    assert words("\n".join(written)) == [part for word in written for part in ("", word)][1:]
