"""Edits of the readability experiments write what they say, keep the response's words, and are what `EXPECTED` lists."""

import re

import numpy as np
import pytest
from assay_server.descriptors import INDEX, amounts, present

from benchmarks.readability.edits import ADDED, MARKS, NAMES, edited
from benchmarks.readability.expected import EXPECTED

TEXTS = (
    "I think that would be a wonderful idea. You could start with the kitchen, and then paint the hallway.",
    "It depends; some people prefer trains, others prefer buses, and my guess is that both are fine.",
    "First the soup! Then a salad, bread and cheese. Dessert comes last.",
)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def shown(name: str, text: str, seed: int) -> bool:
    row = present(np.array(amounts("", [edited(name, text, seed)])))[0]
    return any(row[INDEX[id]] for id in EXPECTED[name].descriptors)


@pytest.mark.parametrize("name", ADDED)
def test_an_edit_changes_the_text_and_keeps_every_word(name: str) -> None:
    for text in TEXTS:
        changed = edited(name, text, seed=0)
        assert changed != text
        left = iter(words(changed))
        assert all(word in left for word in words(text)), "the response's own words, in their order"


def test_american_spellings_become_british_with_their_capitals() -> None:
    assert "Colour and HUMOUR, my neighbours" in edited("British spelling", "Color and HUMOR, my neighbors", seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_depends_on_text_and_seed_alone(name: str) -> None:
    assert [edited(name, text, 3) for text in TEXTS] == [edited(name, text, 3) for text in TEXTS]


@pytest.mark.parametrize("name", sorted(MARKS))
def test_what_names_a_mark_is_shown_by_every_text_that_has_it(name: str) -> None:
    assert all(shown(name, text, seed) for text in TEXTS for seed in range(20))


@pytest.mark.parametrize("name", sorted(set(ADDED) - MARKS))
def test_a_phrase_is_written_in_words_that_the_lexicon_holds_and_in_words_that_it_does_not(name: str) -> None:
    said = [shown(name, TEXTS[1], seed) for seed in range(60)]
    assert 0.5 < np.mean(said) < 1


def test_what_names_an_edit_takes_whole_words_only() -> None:
    apology = EXPECTED["apology"]
    assert apology.names("word/so sorry")
    assert apology.names("text/apology")
    assert apology.names("text/more-apology")
    assert not apology.names("word/sorrylike")
    assert not apology.names("text/refusal")
    assert not apology.names("feature/17")
    assert apology.said("More an apology, almost everywhere")
    assert not apology.said("More hedging")
