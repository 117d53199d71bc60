"""Markdown counts are Chatbot Arena's, and no text makes them, or any other descriptor, slow."""

import re
import time

import pytest
from assay_server.descriptors import amounts
from assay_server.descriptors.markup import arena_counts
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.waiting import in_time


def counted_by_arena(text: str) -> dict[str, int]:
    """FastChat's patterns as they are written there, on the text whose code blocks it has emptied."""
    text = re.sub("```([^`]*)```", "``````", text)
    ordered = len(re.findall(r"^\s*\d+\.\s", text, re.MULTILINE))
    unordered = len(re.findall(r"^\s*[-*+]\s", text, re.MULTILINE))
    return {
        "header": sum(len(re.findall(rf"^#{{{level}}}\s", text, re.MULTILINE)) for level in range(1, 7)),
        "list": ordered + unordered,
        "ordered-list": ordered,
        "unordered-list": unordered,
        "bold": len(re.findall(r"\*\*[^*\n]+\*\*", text)) + len(re.findall(r"__[^_\n]+__", text)),
    }


PIECES = (
    "#", "## ", "-", "- ", "* ", "+\t", "**", "__", "*", "_", "1. ", "12.", "\u0663. ", "```", "`", "\n", "\n\n", " ", "\r",
    "\x0b", "\u2028", "a", "b c", ".",
)  # fmt: skip


@settings(max_examples=1_000)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_headings_lists_and_bold_are_counted_as_arena_counts_them(text: str) -> None:
    assert arena_counts(text) == counted_by_arena(text)


def test_the_generated_texts_hold_every_kind() -> None:
    text = "# a\n\n \n- b\n  1. c **d** __e__\n```\n# f\n- g\n```- h\n"
    assert counted_by_arena(text) == {"header": 1, "list": 2, "ordered-list": 1, "unordered-list": 1, "bold": 2}


UNITS = (
    "*", "**a", "_", "__a", "`", "```", "```a", " \n", "\n", "\r", "1.", "1", "1.\n", ".", ".'", "?", "!?", '"', '"a', "[",
    "[a](", "$", "$^", "-", "- ", "--", "|-", "#", "# ", ">\n", "a'", "A", "a ", "a. ", "so sorry ", "i am ", "step 1 ",
    "https://", "www.", "\\(", " ", "\t", "\x1c", "\u00a0", "\u2019", "\u2028", "\U0001f600", "\U0001f600\u200d",
    "\U000e0061", "\u0301", "e\u0301", "\U0001f1e6", "\ufe0f", "1\ufe0f", "\u6771", "\u304b\u3002", "\ud800", "\x00",
)  # fmt: skip
MILLION = 1_000_000
LONGEST = {"*", "**a", "_", "`", " \n", "1."}


@pytest.mark.serial
@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_the_time_of_a_text_grows_with_its_length_alone(unit: str) -> None:
    size = MILLION if unit in LONGEST else MILLION // 5
    text = unit * (size // len(unit)) + "a"
    began = time.process_time()
    amounts("", [text])
    assert in_time(time.process_time() - began, 2.0)


@pytest.mark.serial
def test_a_response_of_35_words_is_read_in_a_quarter_of_a_millisecond() -> None:
    text = "I think the best way to learn a language is to practise it daily with a friend, and to read simple books. "
    text += "Start with ten minutes a day. Would you like me to suggest some?"
    took: list[float] = []
    for _ in range(20):
        began = time.process_time()
        amounts("How do I learn a language?", [text] * 50)
        took.append((time.process_time() - began) / 50)
    assert in_time(min(took), 250e-6)  # about 100 us on an ordinary core


@given(st.text(alphabet=st.characters(), max_size=200), st.text(max_size=100))
def test_any_text_has_amounts(response: str, prompt: str) -> None:
    (row,) = amounts(prompt, [response])
    assert all(0 <= amount < float("inf") for amount in row)
