"""What a pair must be before a subject reads it, the same wherever it came from."""

import pytest
from assay.v1 import model_pb2, pair_pb2
from assay_server.errors import EmptySpan, InvalidItem
from assay_server.rpc.pairs import read_pair, read_stored_pair
from assay_server.rpc.specs import Bounds
from assay_server.subject.pair_checks import check_pair
from assay_server.subject.types import Message, Pair
from hypothesis import given
from hypothesis import strategies as st

MOST = 200
BOUNDS = Bounds(model_pb2.Limits(max_text_bytes=MOST), 32, 96)


def refusal(pair: Pair) -> tuple[str, str] | None:
    try:
        check_pair(pair, max_text_bytes=MOST)
    except InvalidItem as error:
        return error.reason, error.field
    return None


def test_pairs_that_can_be_read_pass() -> None:
    turns = (
        Message("system", ""),
        Message("user", "a"),
        Message("assistant", "b"),
        Message("tool", "c"),
        Message("assistant", ""),
    )
    for prompt in ("", "raw", (Message("user", ""),), (*turns, Message("user", "d"))):
        assert refusal(Pair(prompt, "a", "b")) is None


@pytest.mark.parametrize(
    ("pair", "reason", "field"),
    [
        (Pair("p", "", "b"), "EMPTY_SPAN", "chosen"),
        (Pair("p", "a", ""), "EMPTY_SPAN", "rejected"),
        (Pair((), "a", "b"), "EMPTY_CONVERSATION", "conversation.messages"),
        (Pair((Message("assistant", "x"),), "a", "b"), "ROLE_ORDER", "conversation.messages[0].role"),
        (Pair((Message("user", "x"), Message("assistant", "y")), "a", "b"), "ROLE_ORDER", "conversation.messages[1].role"),
        (Pair((Message("narrator", "x"),), "a", "b"), "UNKNOWN_ROLE", "conversation.messages[0].role"),
        (Pair("é" * 100, "a", "b"), "TEXT_TOO_LONG", ""),
        (Pair((Message("user", "é" * 100),), "a", "b"), "TEXT_TOO_LONG", ""),
        (Pair("p", "a", "b", "é" * 129), "ID_TOO_LONG", "id"),
        (Pair("p", "a", "b", metadata={str(n): "" for n in range(65)}), "METADATA_TOO_LARGE", "metadata"),
        (Pair("p", "a", "b", metadata={"key": "x" * 16_384}), "METADATA_TOO_LARGE", "metadata"),
    ],
)
def test_a_pair_that_cannot_be_scored_is_refused_with_its_field(pair: Pair, reason: str, field: str) -> None:
    assert refusal(pair) == (reason, field)


def test_an_empty_response_is_an_empty_span() -> None:
    with pytest.raises(EmptySpan, match="chosen response is empty"):
        check_pair(Pair("p", "", "b"), max_text_bytes=MOST)


def test_half_a_surrogate_pair_does_not_break_the_checks() -> None:
    assert refusal(Pair((Message("user", "\ud83c"),), "\udc89", "b", "\ud800" * 70, {"\ud800": "\ud800"})) is None


texts = st.text(st.characters(codec="utf-8"), max_size=60)
turn = st.builds(pair_pb2.Message, role=st.sampled_from(["system", "user", "assistant", "tool", "x"]), content=texts)
talks = st.lists(turn, max_size=5).map(lambda messages: pair_pb2.Conversation(messages=messages))
prompts = st.one_of(texts.map(lambda text: {"text": text}), talks.map(lambda talk: {"conversation": talk}))


@given(prompts, texts, texts, st.one_of(texts, st.just("x" * 300)), st.dictionaries(texts, texts, max_size=3))
def test_a_live_call_and_a_stored_pair_are_judged_alike(
    prompt: dict[str, object], chosen: str, rejected: str, id: str, metadata: dict[str, str]
) -> None:
    sent = pair_pb2.Pair(chosen=chosen, rejected=rejected, id=id, metadata=metadata, **prompt)  # type: ignore[arg-type]
    try:
        live: tuple[str, str] | None = None
        read = read_pair(sent, BOUNDS)
    except InvalidItem as error:
        live = error.reason, error.field
    stored = read_stored_pair(sent)
    judged = refusal(stored)
    assert (judged is None) == (live is None)
    if live is None:
        assert (stored.prompt, stored.chosen, stored.rejected, stored.id) == (read.prompt, read.chosen, read.rejected, read.id)
        assert stored.metadata == metadata
    elif "TEXT_TOO_LONG" not in (live[0], judged and judged[0]):  # which of two faults is told first may differ there
        assert judged == live
