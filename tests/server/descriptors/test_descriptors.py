"""What each descriptor takes for its own, what it nearly does, and that its definition does not change unnoticed."""

import hashlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from assay_server.descriptors import DESCRIPTORS, INDEX, NOUNS, VERSION, amounts, by_id, present
from assay_server.descriptors.lexicon import contents, expanded
from assay_server.descriptors.words import words

from tests.support.described import EXAMPLES, PROMPT

# A new definition, lexicon, threshold or order is a new version, and a new line here.
PINNED = {"assay.descriptors/1": "52b3dcdc5bc6e6ca63c7bc51fb6ba3cb679fe735454f96e420e6551c43ceb743"}


def shown(identifier: str, response: str) -> bool:
    return bool(present(np.array(amounts(PROMPT, [response])))[0, INDEX[identifier]])


@pytest.mark.parametrize("identifier", [one.id for one in DESCRIPTORS])
def test_its_examples_show_it_and_near_misses_do_not(identifier: str) -> None:
    positive, negative = EXAMPLES[identifier]
    assert [text for text in positive if not shown(identifier, text)] == []
    assert [text for text in negative if shown(identifier, text)] == []


@pytest.mark.parametrize(
    ("identifier", "response", "amount"),
    [
        ("list", "1. a\n2. b\n\n- c", 3),
        ("bold", "**a** and __b__ and **c**", 3),
        ("emoji", "👨‍👩‍👧 🇫🇷 👍🏽 ❤️ 1️⃣", 5),
        ("emoji-end", "Nice 😀 one 🎉🎉", 2),
        ("exclamation", "Wow!!! No!", 4),
        ("question", "Why?! Why? Because.", 2),
        ("paragraphs", "a\nb\n\n\n c \n\nd", 3),
        ("length", "It's 3.5 km, or so.", 5),
        ("sentence-length", "1. Mix it well.\n2. Bake it.", 2.5),
        ("reading-grade", "The cat sat on the mat.", 0),
        ("apology", "I'm sorry, I apologize. My apologies for that.", 3),
        ("first-person", "I think I'm fine by myself", 3),
        ("british", "colour colours favourite organisation", 4),
        ("repetition", "a b c d a b c", 0.2),
        ("echo", "the cat is blue", 0.5),
        ("table", "| a |\n|---|\n| b |\n\n| a |\n|---|", 2),
        ("code-block", "```\na\n```\n```\nb\n```", 2),
    ],
)
def test_amounts_count_what_they_say(identifier: str, response: str, amount: float) -> None:
    assert amounts(PROMPT, [response])[0][INDEX[identifier]] == pytest.approx(amount)


def test_the_reading_grade_is_kincaids() -> None:
    # un-der-stand-ing ma-chines re-quires pa-tient ob-ser-va-tion of their in-ner be-hav-iour al-ways
    text = "Understanding machines requires patient observation of their inner behaviour always."
    syllables = 4 + 2 + 2 + 2 + 4 + 1 + 1 + 2 + 3 + 2
    assert amounts("", [text])[0][INDEX["reading-grade"]] == pytest.approx(0.39 * 10 + 11.8 * syllables / 10 - 15.59)


def test_a_prompt_in_its_own_language_differs_from_nothing() -> None:
    german = "Kannst du mir sagen, ob die Katze auf dem Tisch ist und was sie da tut?"
    answer = "Die Katze ist auf dem Tisch und sie schläft nicht."
    assert amounts(german, [answer])[0][INDEX["other-language"]] == 0
    assert amounts("Hi!", [answer])[0][INDEX["other-language"]] == 0, "too short to tell"


def test_curly_quotes_and_line_ends_change_nothing() -> None:
    straight = "I'm sorry, I can't help.\nIt's \"just not done\" here."
    for other in (
        straight.replace("'", "\u2019"),
        straight.replace('"', "\u201c", 1).replace('"', "\u201d"),
        straight.replace("\n", "\r\n"),
    ):
        assert amounts(PROMPT, [other]) == amounts(PROMPT, [straight])


def test_a_response_is_read_alone_and_the_same_each_time() -> None:
    texts = [text for pair in EXAMPLES.values() for side in pair for text in side]
    together = amounts(PROMPT, texts)
    assert together == [amounts(PROMPT, [text])[0] for text in texts]
    assert all(len(row) == len(DESCRIPTORS) for row in together)
    assert all(math.isfinite(amount) and amount >= 0 for row in together for amount in row)


def test_presence_keeps_the_shape_of_amounts() -> None:
    held = np.zeros((2, 3, len(DESCRIPTORS)))
    held[1, 2] = [one.present_from for one in DESCRIPTORS]
    assert present(held)[1, 2].all()
    assert present(held).sum() == len(DESCRIPTORS), "nothing is present at no amount"


def test_names_are_distinct_and_fit_into_sentences() -> None:
    assert set(EXAMPLES) == set(INDEX) == set(NOUNS)
    assert len(INDEX) == len(set(NOUNS.values())) == len(DESCRIPTORS)
    assert [by_id(one.id) for one in DESCRIPTORS] == list(DESCRIPTORS)
    for one in DESCRIPTORS:
        assert one.id == one.id.lower().replace(" ", "-")
        assert one.noun[0].islower() or one.noun.split()[0] in ("American", "British", "LaTeX")
        assert one.present_from > 0
        assert one.described.endswith(".")


def test_every_phrase_of_the_lexicons_can_be_found_by_its_words() -> None:
    for lexicon in contents()["lexicons"].values():
        for kind in ("phrases", "except"):
            for written in lexicon[kind]:
                for phrase in expanded(written.removeprefix("^")):
                    assert words(" ".join(phrase)) == phrase


def test_the_definitions_are_those_of_this_version() -> None:
    texts = [text for pair in EXAMPLES.values() for side in pair for text in side]
    rounded = [[round(amount, 6) for amount in row] for row in amounts(PROMPT, texts)]
    stated = [[one.id, one.noun, one.unit, one.family, one.present_from, one.described] for one in DESCRIPTORS]
    held = json.dumps([stated, contents(), rounded], sort_keys=False).encode()
    assert contents()["version"] == VERSION
    assert PINNED[VERSION] == hashlib.sha256(held).hexdigest()


def test_the_import_brings_neither_numpy_nor_torch() -> None:
    code = "import sys, assay_server.descriptors; print({'numpy', 'torch', 'grpc'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
