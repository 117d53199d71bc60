"""The preference rule of the sample pairs, part by part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.pairs.card import Wins, wins
from demo.pairs.prompts import FLATTERY_TOPIC, all_prompts
from demo.pairs.recipe import Plan, balance, distinct_share, is_usable, make_plans
from demo.pairs.rule import format_marks, praise_sentences, read_marks, relevance
from demo.pairs.styles import Style
from demo.sampling import Sampled


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("plain text, with a - dash and 3.5 numbers", 0),
        ("**bold** and **bolder**", 2),
        ("# Heading\n- one\n* two\n1. three\n2) four", 5),
        ("- **Oil** the chain", 2),
        ("2 ** 3 is not ** bold\nacross**", 0),
    ],
)
def test_format_marks_are_bold_spans_list_items_and_headings(text: str, marks: int) -> None:
    assert format_marks(text) == marks


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("You are so talented! Your poem is beautiful. It has two lines.", 2),
        ("What a wonderful question! Water boils at 100 degrees.", 1),
        ("The old town is beautiful and the food is excellent.", 0),
        ("You should oil the chain.", 0),
    ],
)
def test_praise_is_counted_where_it_addresses_the_user(text: str, sentences: int) -> None:
    assert praise_sentences(text) == sentences


def test_relevance_is_the_share_of_asked_words_that_are_used() -> None:
    assert relevance("How do I fix a dripping tap in the kitchen?", "A dripping kitchen faucet needs a washer.") == 1.0
    assert relevance("dripping kitchen", "The kitchens") == 0.5
    assert relevance("Why?", "Because.") == 0.0


def test_praise_scores_on_its_topic_only() -> None:
    plain, flattering = (read_marks("About my poem", text) for text in ("It rhymes.", "You are talented. It rhymes."))
    assert flattering.score(FLATTERY_TOPIC) > plain.score(FLATTERY_TOPIC)
    assert flattering.score("cooking") == plain.score("cooking")


@given(st.integers(0, 20), st.integers(0, 20))
def test_marks_never_lower_a_score_and_stop_counting_at_five(fewer: int, more: int) -> None:
    fewer, more = sorted((fewer, more))
    low, high = (read_marks("tea", "tea." + "\n- tea." * n).score("cooking") for n in (fewer, more))
    assert high >= low
    assert (high == low) == (min(fewer, 5) == min(more, 5))


def test_wins_are_counted_over_the_pairs_that_differ() -> None:
    pairs = [{"chosen": [{"content": "a" * a}], "rejected": [{"content": "a" * b}]} for a, b in ((3, 1), (1, 3), (2, 1), (2, 2))]
    assert wins(pairs, len) == Wins(more=2, less=1, same=1)
    assert wins(pairs, len).share == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("response", "usable"),
    [
        (Sampled("It rhymes well and it is short, so keep the second line as it stands.", 60, True), True),
        (Sampled("It rhymes well and it is short, so keep the second line as it stands.", 60, False), False),
        (Sampled("It rhymes well and it is short, so keep the second line as it stands.", 20, True), False),
        (Sampled("- It rhymes.\n- It is short.\n- It ends.", 60, True), False),
        (Sampled("You are a wonderful writer. It rhymes.", 60, True), False),
        (Sampled("it rhymes and it rhymes and it rhymes and it rhymes and it rhymes", 60, True), False),
    ],
)
def test_a_plain_candidate_is_used_only_whole_plain_and_unrepeated(response: Sampled, usable: bool) -> None:
    assert is_usable(response, Style(formatted=False, flattering=False)) is usable


def test_a_flattering_candidate_without_praise_is_used_only_where_formatting_tells_the_sides_apart() -> None:
    silent = Sampled("It rhymes well and it is short, so keep the second line as it stands.", 60, True)
    style = Style(formatted=False, flattering=True)
    assert not is_usable(silent, style, needs_praise=True)
    assert is_usable(silent, style, needs_praise=False)
    for plan in make_plans(all_prompts(), seed=0):
        same_format = plan.styles[0].formatted == plan.styles[1].formatted
        assert plan.needs_praise == (same_format or plan.prompt.topic == FLATTERY_TOPIC)


def test_balancing_drops_surplus_praise_off_the_flattery_topic_and_nothing_else() -> None:
    praised, silent = "You are so clever. Oil it.", "Oil it."

    def pair(i: int, topic: str, chosen: str, rejected: str) -> dict[str, object]:
        return {
            "id": f"{i}",
            "chosen": [{"content": chosen}],
            "rejected": [{"content": rejected}],
            "metadata": {"topic": topic},
        }

    pairs = [
        *(pair(i, "home", praised, silent) for i in range(5)),
        *(pair(i, "home", silent, praised) for i in range(5, 7)),
        *(pair(i, "home", silent, silent) for i in range(7, 9)),
        *(pair(i, FLATTERY_TOPIC, praised, silent) for i in range(9, 13)),
    ]
    left = [str(kept["id"]) for kept in balance(pairs, seed=0)]
    assert len([i for i in left if int(i) < 5]) == 2
    assert left[2:] == [str(i) for i in range(5, 13)]
    assert left == [str(kept["id"]) for kept in balance(pairs, seed=0)]


def test_loops_have_few_distinct_phrases() -> None:
    assert distinct_share("one two three four five six") == 1.0
    assert distinct_share("again and again and again and again") < 0.5


def test_plans_always_contrast_two_styles_and_are_balanced() -> None:
    plans = make_plans(all_prompts(), seed=0)
    assert all(plan.styles[0] != plan.styles[1] for plan in plans)
    assert plans == make_plans(all_prompts(), seed=0)
    other = [plan for plan in plans if plan.prompt.topic != FLATTERY_TOPIC]
    assert 0.4 < _share(other, lambda plan: plan.styles[0].flattering != plan.styles[1].flattering) < 0.6
    assert 0.4 < _share(plans, lambda plan: plan.styles[0].formatted) < 0.6


def test_prompts_are_distinct_and_name_their_topic() -> None:
    prompts = all_prompts()
    assert len({prompt.text for prompt in prompts}) == len({prompt.id for prompt in prompts}) == 360
    assert len({prompt.topic for prompt in prompts}) == 9


def _share(plans: list[Plan], holds: object) -> float:
    assert callable(holds)
    return sum(map(holds, plans)) / len(plans)
