"""A person's one pair overtakes a bulk stream, and the tokens that a viewer highlights are the right characters."""

import threading
import time

import numpy as np
import pytest
from assay import CacheMode, Client, Flow, Message, Pair, PairResult, PromptedResponse, ScoreOptions
from assay.results import EncodedText

from tests.e2e.conftest import MAX_TOKENS_IN_FLIGHT
from tests.e2e.pairs import LAST_DIGIT, pair, pairs
from tests.support.server_process import ServerProcess
from tests.support.waiting import PATIENCE, in_time

BULK = ScoreOptions(cache_mode=CacheMode.BYPASS)
ASCII = 'Name a warm colour, please.\n\n  Orange?  (3, 4); it\'s "fine".'
WIDE = "Größe 🙂 naïve 👩\u200d🚀 é, Привет こんにちは \U0001f9d1\u200d\U0001f33e!"


def test_one_pair_under_a_bulk_stream_comes_back_well_before_the_stream_ends(server: ServerProcess, client: Client) -> None:
    answered = 0
    many = pairs(360, length=300, salt="bulk")
    started = threading.Event()

    def stream() -> None:
        nonlocal answered
        with Client(server.address, flow=Flow(pairs_per_message=8, pairs_in_flight=128)) as bulk:
            for _ in bulk.score(many, BULK):
                answered += 1
                started.set()

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        assert started.wait(PATIENCE)
        overtook: list[int] = []
        slowest = 0.0
        for number in range(5):
            before, asked = answered, time.monotonic()
            (result,) = client.score_pairs([pair(number, salt="asked meanwhile")])
            slowest = max(slowest, time.monotonic() - asked)
            overtook.append(answered - before)
            assert result.ok
        left = len(many) - answered
        waiting = server.metric("assay_queued_tokens", lane="bulk")
    finally:
        thread.join()
    assert waiting > 0, "the stream was over before the question was asked"
    assert left > len(many) / 3, "the stream had nearly ended"
    assert max(overtook) <= 64, "the pair waited behind much of the 128 pairs that were queued before it"
    assert in_time(slowest, 5.0)


def test_streams_that_ask_for_more_than_may_be_in_flight_share_it_and_lose_nothing(server: ServerProcess) -> None:
    """Three streams of twice the bound each, over an impatient server: none is refused, and nothing is read twice."""
    count = 3
    got: list[list[PairResult]] = [[] for _ in range(count)]

    def stream(number: int) -> None:
        with Client(server.address) as one:
            for result in one.score(pairs(450, length=100, salt=f"share{number} "), BULK):
                got[number].append(result)

    before = server.metrics()
    threads = [threading.Thread(target=stream, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = sum(result.unwrap().tokens.read for results in got for result in results)
    assert [len(results) for results in got] == [450] * count
    assert asked > 5 * MAX_TOKENS_IN_FLIGHT
    assert server.metric("assay_tokens_read_total") - before["assay_tokens_read_total"] == asked
    refused = 'assay_requests_total{code="RESOURCE_EXHAUSTED",method="StreamPairs"}'
    assert server.metrics().get(refused, 0) == before.get(refused, 0)


@pytest.mark.parametrize("text", [ASCII, WIDE], ids=["ascii", "wide"])
def test_offsets_of_raw_text_cut_out_each_tokens_own_characters(client: Client, text: str) -> None:
    encoded = client.encode_tokens(text, range(8))
    assert_offsets(encoded, {0: text})


def test_offsets_of_a_conversation_count_within_each_turn(client: Client) -> None:
    turns = [Message("user", WIDE), Message("assistant", ASCII), Message("user", "x" * 50), Message("assistant", WIDE)]
    encoded = client.encode_tokens(turns, range(8))
    assert_offsets(encoded, {place: turn.content for place, turn in enumerate(turns)})
    assert any(token.message == -1 for token in encoded.tokens), "the template has tokens of its own"
    assert all(token.start == token.end == 0 for token in encoded.tokens if token.message == -1)


def test_offsets_count_the_callers_characters_where_the_tokenizer_composes_them(client: Client) -> None:
    text = "cafe\u0301 and cafe\u0301, then"
    encoded = client.encode_tokens(text, [0])
    assert "\u0301" not in "".join(token.text for token in encoded.tokens), "this tokenizer composes letter and accent"
    plain = [token for token in encoded.tokens if token.text.isascii()]
    assert max(token.start for token in plain) > text.rindex("\u0301"), "some of them stand after the second accent"
    assert all(text[token.start : token.end] == token.text for token in plain)


def assert_offsets(encoded: EncodedText, contents: dict[int, str]) -> None:
    """Every token cuts out its own text, and together they cover every character; a split character is covered by its parts."""
    for message, content in contents.items():
        reached = 0
        for token in encoded.tokens:
            if token.message != message:
                continue
            cut = content[token.start : token.end]
            assert token.start <= reached, "no character lies between two tokens"
            reached = max(reached, token.end)
            if "\ufffd" in token.text:
                assert any(ord(character) > 127 for character in cut)
            else:
                assert cut == token.text
        assert reached == len(content)


def test_a_responses_strongest_token_activations_are_its_pooled_features(client: Client) -> None:
    prompt = (Message("user", "Which one?"),)
    response = "The " + WIDE + " " + ASCII
    (scored,) = client.score_responses([PromptedResponse(prompt, response)], ScoreOptions(include_features=True))
    score = scored.unwrap()
    encoded = client.encode_tokens([*prompt, Message("assistant", response)], range(client.model().d_sae))
    places = [place for place, token in enumerate(encoded.tokens) if token.message == 1]
    assert len(places) == score.tokens.chosen
    fired = {
        one.feature: [value for token, value in zip(one.tokens, one.values, strict=True) if token in places]
        for one in encoded.activations
    }
    fired = {feature: values for feature, values in fired.items() if values}
    assert score.features is not None
    assert tuple(sorted(fired)) == score.features.indices
    assert len(fired) > 20
    assert np.allclose([max(fired[f]) for f in score.features.indices], score.features.max, rtol=LAST_DIGIT, atol=0)
    assert np.allclose([len(fired[f]) / len(places) for f in score.features.indices], score.features.freq, rtol=1e-6, atol=0)


def test_the_words_that_a_feature_marks_are_those_it_fires_on(client: Client) -> None:
    """Highlighting end to end: a feature's characters, cut out, fire again as a text of their own tokens."""
    encoded = client.encode_tokens(ASCII, range(client.model().d_sae))
    strongest = max(encoded.activations, key=lambda one: max(one.values, default=0.0))
    token = encoded.tokens[strongest.tokens[int(np.argmax(strongest.values))]]
    assert ASCII[token.start : token.end] == token.text
    until_there = client.encode_tokens(ASCII[: token.end], [strongest.feature])
    (again,) = until_there.activations
    assert until_there.tokens[again.tokens[-1]].text == token.text
    assert np.isclose(again.values[-1], max(strongest.values), rtol=1e-4)


def test_pairs_of_raw_text_and_of_chat_are_different_pairs(client: Client) -> None:
    raw, turned = client.score_pairs([Pair("Hi", "yes", "no"), Pair([Message("user", "Hi")], "yes", "no")])
    assert raw.unwrap().tokens.read < turned.unwrap().tokens.read
    assert raw.unwrap().by_max != turned.unwrap().by_max
