"""Bad input over the wire: each gets the status and reason that the contract names, and nothing else is lost."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from assay import Client, InvalidRequest, Message, Pair, ScoreOptions, chat
from assay.v1 import model_pb2, model_pb2_grpc, pair_pb2, scoring_pb2, scoring_pb2_grpc

from tests.e2e.conftest import MAX_PAIRS
from tests.e2e.pairs import pairs, same
from tests.support import wire
from tests.support.models import CONTEXT, WIDTH
from tests.support.saes import FEATURES
from tests.support.server_process import ServerProcess
from tests.support.waiting import PATIENCE
from tests.support.wire import Rich, batch, head, pair, rich, turns

INVALID = grpc.StatusCode.INVALID_ARGUMENT
TEN_MB = "colour " * (10_000_000 // 7)
PATH = "/assay.v1.ScoringService/"


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as one:
        yield one


@pytest.fixture(scope="module")
def scoring(channel: grpc.Channel) -> Any:
    return scoring_pb2_grpc.ScoringServiceStub(channel)


@pytest.fixture(scope="module")
def control(scoring: Any) -> bytes:
    return scores(scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=[pair(n) for n in range(3)])).results)


@pytest.fixture(autouse=True)
def the_next_call_works(server: ServerProcess, scoring: Any, control: bytes) -> Iterator[None]:
    """After each test the same connection scores the same pairs to the same numbers, and nothing is open."""
    yield
    response = scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=[pair(n) for n in range(3)]), timeout=PATIENCE)
    assert scores(response.results) == control
    server.rest()


def scores(results: Any) -> bytes:
    """All of the results but their timings, as bytes."""
    copies = scoring_pb2.ScorePairsResponse(results=results)
    for result in copies.results:
        assert result.WhichOneof("outcome") == "score", result.error
        result.score.ClearField("timings")
    return copies.SerializeToString(deterministic=True)


BAD_PAIRS: dict[str, tuple[dict[str, Any], str, str]] = {
    "empty chosen": ({"chosen": ""}, "EMPTY_SPAN", "chosen"),
    "empty rejected": ({"rejected": ""}, "EMPTY_SPAN", "rejected"),
    "two user turns": ({"conversation": turns("user", "user")}, "ROLE_ORDER", "conversation.messages[1].role"),
    "assistant first": ({"conversation": turns("assistant", "user")}, "ROLE_ORDER", "conversation.messages[0].role"),
    "assistant last": ({"conversation": turns("user", "assistant")}, "ROLE_ORDER", "conversation.messages[1].role"),
    "late system": ({"conversation": turns("user", "assistant", "system")}, "ROLE_ORDER", "conversation.messages[2].role"),
    "unknown role": ({"conversation": turns("narrator")}, "UNKNOWN_ROLE", "conversation.messages[0].role"),
    "no turn": ({"conversation": turns()}, "EMPTY_CONVERSATION", "conversation.messages"),
    "no prompt": ({"conversation": None}, "MISSING_PROMPT", "prompt"),
    "10 MB response": ({"chosen": TEN_MB}, "TEXT_TOO_LONG", ""),
    "10 MB prompt": ({"text": TEN_MB}, "TEXT_TOO_LONG", ""),
    "past the context": ({"rejected": "one two " * CONTEXT}, "CONTEXT_OVERFLOW", "rejected"),
    "long id": ({"id": "é" * 129}, "ID_TOO_LONG", "id"),
    "much metadata": ({"metadata": {str(n): "" for n in range(65)}}, "METADATA_TOO_LARGE", "metadata"),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_a_bad_pair_fails_alone_in_its_place_in_calls_and_in_streams(scoring: Any, control: bytes, case: str) -> None:
    changes, reason, field = BAD_PAIRS[case]
    bad = pair(9, **changes)
    given = [pair(0), bad, pair(1), pair(2)]
    (unary,) = [scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=given))]
    (streamed,) = scoring.StreamPairs(iter([head(), batch(0, *given)]))
    for response, path in ((unary, "pairs[1]"), (streamed, "batch.pairs[1]")):
        failed = response.results[1]
        status = wire.decode(failed.error)
        assert (status.code, status.info.reason) == (INVALID, reason)
        assert status.violations == [f"{path}.{field}" if field else path]
        assert failed.id == bad.id[:256]
        assert failed.ByteSize() < 4096, "an error is no echo of what caused it"
        assert scores([one for place, one in enumerate(response.results) if place != 1]) == control


def test_overflow_names_both_lengths_and_truncation_that_is_asked_for_is_told(scoring: Any) -> None:
    long = pair(0, rejected="one two " * CONTEXT)
    refused = scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=[long])).results[0].error
    numbers = {int(value) for value in wire.decode(refused).info.metadata.values() if value.isdigit()}
    assert CONTEXT in numbers
    assert max(numbers) > CONTEXT
    options = {"truncation": "TRUNCATION_RESPONSE_END"}
    cut = scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=[long], options=options)).results[0].score
    assert cut.tokens.truncated == max(numbers) - CONTEXT


def weights(indices: list[int], values: list[float]) -> dict[str, Any]:
    return {"concepts": [{"name": "c", "features": {"indices": indices, "values": values}}]}


def direction(values: Any, *, shape: list[int] | None = None, dtype: Any = "DTYPE_FLOAT32", data: bytes | None = None) -> Any:
    raw = np.asarray(values, dtype="<f4").tobytes() if data is None else data
    tensor = {"dtype": dtype, "shape": [WIDTH] if shape is None else shape, "data": raw}
    return {"concepts": [{"name": "c", "direction": tensor}]}


def one_wrong(value: float) -> list[float]:
    return [*([1.0] * (WIDTH - 1)), value]


FEATURES_PATH, DIRECTION_PATH = "options.concepts[0].features", "options.concepts[0].direction"
BAD_OPTIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "negative top_k": ({"top_k": -1}, "OUT_OF_RANGE", "options.top_k"),
    "large top_k": ({"top_k": 1025}, "LIMIT_EXCEEDED", "options.top_k"),
    "unknown truncation": ({"truncation": 77}, "UNKNOWN_ENUM_VALUE", "options.truncation"),
    "unknown lane": ({"lane": -3}, "UNKNOWN_ENUM_VALUE", "options.lane"),
    "unknown cache mode": ({"cache_mode": 9}, "UNKNOWN_ENUM_VALUE", "options.cache_mode"),
    "NaN weight": (weights([1, 2], [1.0, math.nan]), "NOT_FINITE", f"{FEATURES_PATH}.values[1]"),
    "infinite weight": (weights([1], [-math.inf]), "NOT_FINITE", f"{FEATURES_PATH}.values[0]"),
    "unknown feature": ({"concepts": [{"name": "c", "feature": FEATURES}]}, "UNKNOWN_FEATURE", "options.concepts[0].feature"),
    "unknown weighted feature": (weights([1, FEATURES], [1, 1]), "UNKNOWN_FEATURE", f"{FEATURES_PATH}.indices[1]"),
    "unsorted features": (weights([2, 1], [1, 1]), "UNSORTED_INDICES", f"{FEATURES_PATH}.indices[1]"),
    "a feature twice": (weights([2, 2], [1, 1]), "UNSORTED_INDICES", f"{FEATURES_PATH}.indices[1]"),
    "more values than features": (weights([2], [1, 1]), "LENGTH_MISMATCH", FEATURES_PATH),
    "no feature": (weights([], []), "EMPTY_CONCEPT", FEATURES_PATH),
    "too many weights": (weights([*range(4097)], [1.0] * 4097), "LIMIT_EXCEEDED", FEATURES_PATH),
    "no kind": ({"concepts": [{"name": "c"}]}, "MISSING_CONCEPT_KIND", "options.concepts[0]"),
    "no name": ({"concepts": [{"feature": 1}]}, "INVALID_NAME", "options.concepts[0].name"),
    "long name": ({"concepts": [{"name": "n" * 129, "feature": 1}]}, "INVALID_NAME", "options.concepts[0].name"),
    "one name twice": ({"concepts": [{"name": "c", "feature": n} for n in (1, 2)]}, "DUPLICATE_NAME", "options.concepts[1].name"),
    "too many concepts": (
        {"concepts": [{"name": str(n), "feature": 1} for n in range(257)]},
        "LIMIT_EXCEEDED",
        "options.concepts",
    ),
    "NaN in a direction": (direction(one_wrong(math.nan)), "NOT_FINITE", f"{DIRECTION_PATH}.data[{WIDTH - 1}]"),
    "infinity in a direction": (direction(one_wrong(math.inf)), "NOT_FINITE", f"{DIRECTION_PATH}.data[{WIDTH - 1}]"),
    "a direction too long": (direction([1.0] * (WIDTH + 1), shape=[WIDTH + 1]), "SHAPE_MISMATCH", f"{DIRECTION_PATH}.shape"),
    "a matrix for a direction": (direction([1.0] * WIDTH, shape=[1, WIDTH]), "SHAPE_MISMATCH", f"{DIRECTION_PATH}.shape"),
    "a negative shape": (direction([1.0] * WIDTH, shape=[-WIDTH]), "SHAPE_MISMATCH", f"{DIRECTION_PATH}.shape"),
    "fewer bytes than the shape says": (direction([1.0] * (WIDTH - 1)), "DATA_LENGTH_MISMATCH", f"{DIRECTION_PATH}.data"),
    "one byte too many": (direction([], data=bytes(4 * WIDTH + 1)), "DATA_LENGTH_MISMATCH", f"{DIRECTION_PATH}.data"),
    "no dtype": (direction([1.0] * WIDTH, dtype=0), "INVALID_DTYPE", f"{DIRECTION_PATH}.dtype"),
    "an unknown dtype": (direction([1.0] * WIDTH, dtype=44), "INVALID_DTYPE", f"{DIRECTION_PATH}.dtype"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_are_refused_in_every_method_that_takes_them(scoring: Any, case: str) -> None:
    options, reason, field = BAD_OPTIONS[case]
    response = pair_pb2.Pair(text="a", chosen="b")
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=[pair(0)], options=options)), field),
        (
            lambda: scoring.ScoreResponses(
                scoring_pb2.ScoreResponsesRequest(responses=[{"text": "a", "response": response.chosen}], options=options)
            ),
            field,
        ),
        (lambda: list(scoring.StreamPairs(iter([head(**options), batch(0)]))), field.replace("options", "options.score", 1)),
    ]
    for call, path in calls:
        status = refusal(call)
        assert (status.code, status.info.reason, status.violations) == (INVALID, reason, [path])


def refusal(call: Callable[[], Any]) -> Rich:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return rich(caught.value)


def test_requests_of_no_or_too_many_items_name_the_limit(scoring: Any) -> None:
    too_many = [pair(n) for n in range(MAX_PAIRS + 1)]
    for given, reason in (([], "EMPTY_REQUEST"), (too_many, "TOO_MANY_PAIRS")):
        status = refusal(lambda given=given: scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=given)))
        assert (status.code, status.info.reason, status.violations) == (INVALID, reason, ["pairs"])
        assert str(MAX_PAIRS) in status.message
    status = refusal(lambda: list(scoring.StreamPairs(iter([head(), batch(0, *too_many)]))))
    assert (status.info.reason, status.violations) == ("TOO_MANY_PAIRS", ["batch.pairs"])


STREAMS: dict[str, tuple[list[scoring_pb2.StreamPairsRequest], str, list[int]]] = {
    "no options": ([batch(0)], "STREAM_ORDER", []),
    "nothing at all in the first message": ([scoring_pb2.StreamPairsRequest()], "STREAM_ORDER", []),
    "options twice": ([head(), batch(0), head()], "STREAM_ORDER", [0]),
    "an empty message": ([head(), batch(0), scoring_pb2.StreamPairsRequest()], "STREAM_ORDER", [0]),
    "a decreasing sequence": ([head(), batch(5), batch(4)], "SEQUENCE_ORDER", [5]),
    "a sequence twice": ([head(), batch(5), batch(7), batch(7)], "SEQUENCE_ORDER", [5, 7]),
    "a negative sequence": ([head(), batch(-1)], "SEQUENCE_ORDER", []),
    "a batch of nothing": (
        [head(), batch(1), scoring_pb2.StreamPairsRequest(batch={"sequence": 2})],
        "EMPTY_REQUEST",
        [1],
    ),
}


@pytest.mark.parametrize("case", STREAMS)
async def test_a_stream_that_breaks_the_contract_keeps_the_answers_before_it(server: ServerProcess, case: str) -> None:
    messages, reason, answered = STREAMS[case]
    status, sequences = await wire.refused_stream(server.address, *messages)
    assert (status.code, status.info.reason) == (INVALID, reason)
    assert sequences == answered


def spoiled(message: Any, mark: str = "MARK", by: bytes = b"\xff\xfe\xc0A") -> bytes:
    """The message's bytes with a text in it replaced by bytes that are no UTF-8."""
    data = message.SerializeToString()
    assert data.count(mark.encode()) == 1
    return data.replace(mark.encode(), by)


@pytest.mark.parametrize("by", [b"\xff\xfe\xc0A", b"\xed\xa0\x80a", b"\xc3\xc3\xc3\xc3", b"abc\xf0"])
def test_invalid_utf8_is_refused_by_name_in_calls_and_in_streams(channel: grpc.Channel, by: bytes) -> None:
    request = scoring_pb2.ScorePairsRequest(pairs=[pair(0), pair(1, chosen="MARK")])
    unary: Any = channel.unary_unary(PATH + "ScorePairs", lambda raw: raw, scoring_pb2.ScorePairsResponse.FromString)
    status = refusal(lambda: unary(spoiled(request, by=by), timeout=PATIENCE))
    assert (status.code, status.info.reason) == (INVALID, "INVALID_UTF8")
    stream: Any = channel.stream_stream(PATH + "StreamPairs", lambda raw: raw, scoring_pb2.StreamPairsResponse.FromString)
    good = [head().SerializeToString(), batch(0).SerializeToString()]
    answers = stream(iter([*good, spoiled(batch(1, pair(1, rejected="MARK")), by=by)]), timeout=PATIENCE)
    assert next(answers).sequence == 0
    status = refusal(lambda: next(answers))
    assert (status.code, status.info.reason) == (INVALID, "INVALID_UTF8")


@pytest.mark.parametrize("method", ["ScorePairs", "ScoreResponses", "EncodeTokens"])
def test_bytes_that_are_no_message_are_refused_by_name(channel: grpc.Channel, method: str) -> None:
    unary: Any = channel.unary_unary(PATH + method, lambda raw: raw, lambda raw: raw)
    status = refusal(lambda: unary(b"\x0a\xff\xff\xff\xff\x7f not protobuf", timeout=PATIENCE))
    assert (status.code, status.info.reason) == (INVALID, "MALFORMED_MESSAGE")


def test_a_message_over_the_limit_is_refused_with_both_numbers(scoring: Any) -> None:
    request = scoring_pb2.ScorePairsRequest(pairs=[pair(n, chosen=TEN_MB) for n in range(4)])
    status = refusal(lambda: scoring.ScorePairs(request, timeout=PATIENCE))
    assert (status.code, status.info.reason) == (INVALID, "MESSAGE_TOO_LARGE")
    assert {str(32 << 20), str(request.ByteSize())} <= set(status.info.metadata.values())


TOKENS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no feature": ({"text": "a"}, "NO_FEATURES", "features"),
    "a feature twice": ({"text": "a", "features": [3, 3]}, "DUPLICATE_FEATURE", "features[1]"),
    "an unknown feature": ({"text": "a", "features": [1, FEATURES]}, "UNKNOWN_FEATURE", "features[1]"),
    "too many features": ({"text": "a", "features": [1] * 1025}, "TOO_MANY_FEATURES", "features"),
    "nothing to read": ({"features": [1]}, "MISSING_INPUT", "input"),
    "an empty text": ({"text": "", "features": [1]}, "EMPTY_SPAN", "text"),
    "10 MB": ({"text": TEN_MB, "features": [1]}, "TEXT_TOO_LONG", "text"),
    "a wrong order": ({"conversation": turns("user", "user"), "features": [1]}, "ROLE_ORDER", "conversation.messages[1].role"),
    "no prompt to cut": ({"text": "a", "features": [1], "truncation": 1}, "INVALID_TRUNCATION", "truncation"),
    "past the context": ({"text": "one two " * CONTEXT, "features": [1]}, "CONTEXT_OVERFLOW", "text"),
}


@pytest.mark.parametrize("case", TOKENS)
def test_bad_requests_for_tokens_are_refused(scoring: Any, case: str) -> None:
    fields, reason, field = TOKENS[case]
    status = refusal(lambda: scoring.EncodeTokens(scoring_pb2.EncodeTokensRequest(**fields), timeout=PATIENCE))
    assert (status.code, status.info.reason, status.violations) == (INVALID, reason, [field])


def test_lookups_of_what_does_not_exist(channel: grpc.Channel) -> None:
    models: Any = model_pb2_grpc.ModelServiceStub(channel)
    status = refusal(lambda: models.GetModel(model_pb2.GetModelRequest(name="models/other")))
    assert status.code == grpc.StatusCode.NOT_FOUND
    status = refusal(lambda: models.BatchGetFeatures(model_pb2.BatchGetFeaturesRequest(ids=[0, FEATURES])))
    assert (status.code, status.info.reason) == (INVALID, "UNKNOWN_FEATURE")
    status = refusal(lambda: models.ListFeatures(model_pb2.ListFeaturesRequest(page_token="nonsense")))
    assert status.code == INVALID


def test_the_python_client_loses_no_pair_to_bad_ones_among_them(client: Client) -> None:
    good = pairs(40, salt="among bad")
    bad = itertools.cycle(
        [
            Pair(chat("a"), "", "b"),
            Pair([Message("assistant", "a")], "b", "c"),
            Pair(chat("a"), TEN_MB, "b"),
            Pair(chat("a"), "lone \ud800 surrogate", "b"),
            Pair(chat("a"), TEN_MB * 4, "b"),
        ]
    )
    mixed = [one for pair_, wrong in zip(good, bad, strict=False) for one in (pair_, wrong)]
    results = list(client.score(mixed))
    assert [result.index for result in results] == list(range(80))
    reasons = [result.error.reason for result in results[1::2] if result.error]
    assert reasons == ["EMPTY_SPAN", "ROLE_ORDER", "TEXT_TOO_LONG", "INVALID_UTF8", "MESSAGE_TOO_LARGE"] * 8
    same(results[::2], client.score_pairs(good))


def test_python_options_that_are_wrong_raise_at_once(client: Client) -> None:
    with pytest.raises(InvalidRequest) as caught:
        list(client.score(pairs(3), ScoreOptions(top_k=-1)))
    assert (caught.value.reason, caught.value.violations[0].field) == ("OUT_OF_RANGE", "options.score.top_k")
