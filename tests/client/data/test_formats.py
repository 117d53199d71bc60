"""Each format gives back the conversation that it was written from; anything else is a bad row, never a crash."""

import json
import os
from typing import Any

import pytest
from assay import Message, Pair
from assay.data import Format, RowError, parse_row
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# What an HH transcript can hold without looking like its own markers.
PLAIN = TEXT.filter(lambda text: "\n\n" not in text and not text.startswith("\n") and not text.endswith("\n"))
TURNS = st.lists(st.tuples(PLAIN, PLAIN), max_size=3)  # earlier user and assistant turns


def conversation(earlier: list[tuple[str, str]], question: str) -> list[Message]:
    turns = [turn for user, answer in earlier for turn in (Message("user", user), Message("assistant", answer))]
    return [*turns, Message("user", question)]


def as_json(messages: list[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def parse(row: object, **kwargs: Any) -> tuple[Pair, Format]:
    return parse_row(json.loads(json.dumps(row)), **kwargs)


@given(TURNS, PLAIN, PLAIN, PLAIN)
def test_every_chat_format_gives_back_the_conversation_it_was_written_from(
    earlier: list[tuple[str, str]], question: str, chosen: str, rejected: str
) -> None:
    prompt = conversation(earlier, question)
    spoken = "".join(f"\n\n{'Human' if turn.role == 'user' else 'Assistant'}: {turn.content}" for turn in prompt)
    turns = as_json(prompt)
    rows: list[tuple[Format, dict[str, Any]]] = [
        (Format.TRL, {"prompt": turns, "chosen": [answer(chosen)], "rejected": [answer(rejected)]}),
        (Format.TRL, {"prompt": turns, "chosen": [*turns, answer(chosen)], "rejected": [*turns, answer(rejected)]}),
        (Format.TRL, {"prompt": turns, "chosen": chosen, "rejected": rejected}),
        (Format.TRL_IMPLICIT, {"chosen": [*turns, answer(chosen)], "rejected": [*turns, answer(rejected)]}),
        (Format.HH, {k: f"{spoken}\n\nAssistant: {v}" for k, v in (("chosen", chosen), ("rejected", rejected))}),
        (
            Format.ULTRAFEEDBACK,
            {"prompt": question, "chosen": [*turns, answer(chosen)], "rejected": [*turns, answer(rejected)]},
        ),
    ]
    for expected, row in rows:
        pair, found = parse(row)
        assert found is expected
        assert (list(pair.prompt), pair.chosen, pair.rejected) == (prompt, chosen, rejected)
        assert parse(row, format=expected)[0] == pair


@given(TEXT, TEXT, TEXT)
def test_a_text_prompt_is_one_user_turn_or_raw_text_as_asked(prompt: str, chosen: str, rejected: str) -> None:
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    assert parse(row)[0].prompt == (Message("user", prompt),)
    pair, found = parse(row, as_="text")
    assert (found, pair.prompt, pair.chosen, pair.rejected) == (Format.TRL, prompt, chosen, rejected)


@given(TEXT, TEXT)
def test_an_implicit_text_prompt_loses_no_character(chosen: str, rejected: str) -> None:
    row = {"chosen": chosen, "rejected": rejected}
    try:
        pair, _ = parse(row, format=Format.TRL_IMPLICIT)
    except RowError:
        # Only where no white space is shared, or the two are one.
        shared = os.path.commonprefix([chosen, rejected])  # noqa: RUF071 - texts, not paths
        assert chosen == rejected or not any(character.isspace() for character in shared[1:])
        return
    assert isinstance(pair.prompt, str)
    assert (pair.prompt + pair.chosen, pair.prompt + pair.rejected) == (chosen, rejected)


def test_an_implicit_text_prompt_is_cut_before_the_last_shared_space_as_in_trl() -> None:
    pair, found = parse({"chosen": "The sky is blue.", "rejected": "The sky is blank."})
    assert found is Format.TRL_IMPLICIT
    assert (pair.prompt, pair.chosen, pair.rejected) == ("The sky is", " blue.", " blank.")


def test_a_transcript_read_as_text_keeps_its_markers_and_white_space() -> None:
    head = "\n\nHuman: What is tea?\n\nAssistant: A drink.\n\nHuman: And coffee?\n\nAssistant:"
    pair, _ = parse({"chosen": head + "  Also one.\n", "rejected": head + " No idea."}, as_="text")
    assert (pair.prompt, pair.chosen, pair.rejected) == (head, "  Also one.\n", " No idea.")
    pair, _ = parse({"chosen": head + "  Also one.\n", "rejected": head + " No idea."})
    assert (pair.chosen, pair.rejected) == (" Also one.\n", "No idea.")


def test_an_empty_response_is_left_to_the_server_to_refuse_in_its_place() -> None:
    pair, _ = parse({"chosen": "\n\nHuman: Tea?\n\nAssistant:", "rejected": "\n\nHuman: Tea?\n\nAssistant: Yes."})
    assert (pair.chosen, pair.rejected) == ("", "Yes.")


def test_ids_and_short_values_of_other_columns_come_along() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "prompt_id": "x7", "score_chosen": 8.5, "messages": [1]}
    pair, _ = parse(row | {"long": "w" * 1000, "topic": "tea", "none": None, "nested": {"a": 1}}, line=3)
    assert pair.id == "x7"
    assert pair.metadata == {"prompt_id": "x7", "score_chosen": "8.5", "topic": "tea"}
    assert parse({"prompt": "q", "chosen": "a", "rejected": "b"}, line=3)[0].id == "3"


def test_an_object_of_metadata_gives_its_entries() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "score": 2, "metadata": {"topic": "tea", "n": 1, "list": [1]}}
    pair, _ = parse_row(row)
    assert pair.metadata == {"score": "2", "topic": "tea", "n": "1"}


USER, REPLY = {"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes."}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1], "NOT_AN_OBJECT"),
        (None, "NOT_AN_OBJECT"),
        ({"prompt": "q", "chosen": "a"}, "MISSING_COLUMN"),
        ({"prompt": "q", "chosen": None, "rejected": "b"}, "MISSING_COLUMN"),
        ({"prompt": 5, "chosen": "a", "rejected": "b"}, "NOT_MESSAGES"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "NO_MESSAGES"),
        ({"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}, "NOT_A_MESSAGE"),
        ({"prompt": [USER], "chosen": [USER], "rejected": [REPLY]}, "NOT_ONE_RESPONSE"),
        ({"prompt": [USER], "chosen": [REPLY, REPLY], "rejected": [REPLY]}, "NOT_ONE_RESPONSE"),
        ({"chosen": [USER, REPLY], "rejected": [USER]}, "NO_RESPONSE"),
        ({"chosen": [REPLY], "rejected": [REPLY]}, "NO_SHARED_PROMPT"),
        ({"chosen": [USER, REPLY], "rejected": [USER, REPLY, USER, REPLY]}, "TURNS_DIFFER"),
        ({"chosen": [USER, REPLY], "rejected": [USER | {"content": "Hm?"}, REPLY]}, "TURNS_DIFFER"),
        ({"chosen": "abc", "rejected": "xyz"}, "NO_SHARED_PROMPT"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}, "TURNS_DIFFER"),
        ({"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: a"}, "NO_RESPONSE"),
        ({"prompt": "other", "chosen": [USER, REPLY], "rejected": [USER, REPLY]}, "PROMPT_DIFFERS"),
        ({"prompt": "q", "chosen": "a", "rejected": "\ud800"}, "INVALID_UNICODE"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "id": "x" * 300}, "ID_TOO_LONG"),
    ],
)
def test_a_row_that_is_no_pair_says_why(row: object, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        parse_row(row, line=12)
    assert caught.value.reason == reason
    assert str(caught.value).startswith("line 12: ")


@pytest.mark.parametrize(
    ("format", "row", "reason"),
    [
        (Format.HH, {"chosen": "a", "rejected": "b"}, "NOT_A_TRANSCRIPT"),
        (Format.TRL, {"chosen": "a b", "rejected": "a c"}, "MISSING_COLUMN"),
        (Format.ULTRAFEEDBACK, {"prompt": "q", "chosen": "a", "rejected": "b"}, "NOT_MESSAGES"),
        (Format.TRL_IMPLICIT, {"prompt": "q", "chosen": "a", "rejected": [REPLY]}, "NOT_MESSAGES"),
    ],
)
def test_a_row_of_another_format_than_asked_is_a_bad_row(format: Format, row: object, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        parse_row(row, format=format)
    assert caught.value.reason == reason


def test_messages_cannot_be_read_as_raw_text() -> None:
    with pytest.raises(RowError, match="chat template") as caught:
        parse_row({"prompt": [USER], "chosen": "a", "rejected": "b"}, as_="text")
    assert caught.value.reason == "NEEDS_CHAT"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\n\nHuman: a\n\nAssistant: b"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "content", "chosen", "rejected", "prompt", "id"]) | st.text(), inner)
    ),
    max_leaves=12,
)
ROWS = JSON | st.fixed_dictionaries({"chosen": JSON, "rejected": JSON}, optional={"prompt": JSON, "id": JSON})


@given(ROWS, st.sampled_from([None, *Format]), st.sampled_from(["chat", "text"]))
def test_any_json_value_is_a_pair_or_a_bad_row(row: object, format: Format | None, as_: Any) -> None:
    try:
        pair, _ = parse_row(row, format=format, as_=as_)
    except RowError:
        return
    assert pair.to_proto().chosen == pair.chosen  # what is read can travel
