"""Edits write a concept into a response and leave its own words alone."""

import re

import pytest

from benchmarks.validity.edits import EDITS, Half, edited

TEXTS = (
    "I think that would be a wonderful idea. You could start with the kitchen, and then paint the hallway.",
    "Yes.",
    "It depends; some people prefer trains, others prefer buses",
    "First line\nSecond line! Third sentence?",
)
MARKS = {
    "bold": r"\*\*\S+\*\*",
    "bullet list": r"(?m)^[-*] \S",
    "emoji": "[\U0001f300-\U0001faff]",
    "flattery": r"(?i)brilliant|thoughtful|insight|intelligent|smart|wonderful and gifted|wise|extraordinary",
    "hedging": r"(?i)not entirely sure|could be wrong|seems possible|I think it may|not certain|As far as I can tell",
    "refusal opening": r"(?i)^(I'm sorry|I cannot|Sorry|I apologize|I'm afraid|I must decline)",
}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("half", Half)
def test_an_edit_writes_its_mark_and_keeps_every_word(name: str, half: Half) -> None:
    for text in TEXTS:
        changed = edited(name, text, half, seed=0)
        assert re.search(MARKS[name], changed), changed
        left = iter(words(changed))
        assert all(word in left for word in words(text)), "the response's own words, in their order"


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_depends_on_text_half_and_seed_alone(name: str) -> None:
    assert [edited(name, text, Half.PLANTED, 3) for text in TEXTS] == [edited(name, text, Half.PLANTED, 3) for text in TEXTS]


@pytest.mark.parametrize("name", ["emoji", "flattery", "hedging", "refusal opening"])
def test_the_two_halves_share_no_phrase(name: str) -> None:
    seen = {half: {edited(name, TEXTS[1], half, seed) for seed in range(40)} for half in Half}
    assert len(seen[Half.PLANTED]) > 1
    assert not seen[Half.PLANTED] & seen[Half.REFERENCE]
