"""Random mutations of valid messages: whatever arrives, the answer is a clean status, and the server goes on."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from assay.v1 import model_pb2, scoring_pb2
from assay_server.errors import AssayError
from assay_server.rpc.concepts import Bounds
from assay_server.rpc.convert import read_encode, read_options, read_pair, read_response
from assay_server.rpc.errors import to_status
from assay_server.scorer import Lane
from assay_server.subject.types import Pair
from google.protobuf.message import Message
from google.rpc import status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fake_scorer import D_IN, D_SAE
from tests.support.harness import Harness, settled
from tests.support.wire import batch, decode, head, pair, rich, turns

CLEAN = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
LIMITS = model_pb2.Limits(
    max_pairs_per_request=8,
    max_text_bytes=4096,
    max_top_k=64,
    max_concepts=4,
    max_concept_features=8,
    max_features_per_request=8,
)
BOUNDS = Bounds(LIMITS, D_IN, D_SAE)

OPTIONS: dict[str, Any] = {
    "top_k": 4,
    "include_prompt": True,
    "include_features": True,
    "include_mean_residual": True,
    "concepts": [
        {"name": "one", "feature": 3},
        {"name": "some", "features": {"indices": [1, 5, 9], "values": [1.0, -2.0, 0.5]}},
        {"name": "way", "direction": {"dtype": "DTYPE_FLOAT32", "shape": [D_IN], "data": np.ones(D_IN, "<f4").tobytes()}},
    ],
}
PAIRS = [pair(0), pair(1, text="raw"), pair(2, conversation=turns("system", "user", "assistant", "user"), metadata={"a": "b"})]
SEEDS: dict[str, Message] = {
    "ScoringService/ScorePairs": scoring_pb2.ScorePairsRequest(pairs=PAIRS, options=OPTIONS),
    "ScoringService/ScoreResponses": scoring_pb2.ScoreResponsesRequest(
        responses=[{"id": "a", "conversation": turns("user"), "response": "b"}], options=OPTIONS
    ),
    "ScoringService/EncodeTokens": scoring_pb2.EncodeTokensRequest(conversation=turns("user", "assistant"), features=[1, 2]),
    "ModelService/GetModel": model_pb2.GetModelRequest(name="models/default"),
    "ModelService/BatchGetFeatures": model_pb2.BatchGetFeaturesRequest(parent="models/default", ids=[1, 7]),
    "ModelService/ListFeatures": model_pb2.ListFeaturesRequest(page_size=5, filter="flatter"),
}


def mutate(data: bytes, random: random.Random) -> bytes:
    """A few bytes flipped, dropped, doubled, or replaced by the values that parsers fear."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 6)):
        place = random.randrange(len(changed) + 1)
        kind = random.randrange(5)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[place : place + random.randint(1, 8)]
        elif kind == 2:
            changed[place:place] = changed[place : place + random.randint(1, 16)]
        elif kind == 3:
            changed[place : place + 1] = bytes([random.choice([0x00, 0x7F, 0x80, 0xFF])])
        else:
            changed[place : place + 4] = random.choice([b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff\x0f"])
    return bytes(changed)


@pytest.mark.parametrize("method", list(SEEDS))
async def test_mutated_unary_requests_get_a_clean_status(harness: Harness, method: str) -> None:
    call: Any = harness.channel.unary_unary(f"/assay.v1.{method}")
    source = random.Random(method)
    seed = SEEDS[method].SerializeToString()
    statuses: set[grpc.StatusCode] = set()

    async def send(data: bytes) -> None:
        try:
            await call(data)
            statuses.add(grpc.StatusCode.OK)
        except grpc.aio.AioRpcError as error:
            statuses.add(rich(error).code)

    for _ in range(15):
        await asyncio.gather(*[send(mutate(seed, source)) for _ in range(40)])
    assert statuses <= CLEAN
    assert grpc.StatusCode.INVALID_ARGUMENT in statuses
    assert len(await call(seed)) > 0
    await settled(harness)


async def test_mutated_streams_get_a_clean_status_and_errors_in_place(harness: Harness) -> None:
    # The synchronous client: the asynchronous one loses the server's status where a write is under way when it arrives.
    with grpc.insecure_channel(harness.address) as channel:
        call: Any = channel.stream_stream("/assay.v1.ScoringService/StreamPairs")
        source = random.Random(0)
        good = [head(**OPTIONS).SerializeToString(), *[batch(n, *PAIRS).SerializeToString() for n in range(3)]]
        outcomes: Counter[str] = Counter()

        def send(messages: list[bytes]) -> None:
            last = -1
            try:
                for data in call(iter(messages), timeout=30):
                    response = scoring_pb2.StreamPairsResponse.FromString(data)
                    assert response.sequence > last
                    last = response.sequence
                    for result in response.results:
                        outcomes[result.WhichOneof("outcome")] += 1
                        if result.HasField("error"):
                            assert decode(result.error).code is grpc.StatusCode.INVALID_ARGUMENT
                outcomes["OK"] += 1
            except grpc.RpcError as error:
                outcomes[rich(error).code.name] += 1

        for _ in range(15):
            tries: list[list[bytes]] = []
            for _ in range(30):
                target = source.randrange(4)
                tries.append([mutate(data, source) if place == target else data for place, data in enumerate(good)])
            await asyncio.gather(*[asyncio.to_thread(send, messages) for messages in tries])
        assert set(outcomes) == {"OK", "INVALID_ARGUMENT", "score", "error"}
        before = outcomes["OK"]
        await asyncio.to_thread(send, good)
        assert outcomes["OK"] == before + 1
    await settled(harness)


READERS: list[tuple[Message, Callable[[Any], object]]] = [
    (SEEDS["ScoringService/ScorePairs"].options, lambda m: read_options(m, BOUNDS, lane=Lane.BULK)),  # type: ignore[attr-defined]
    (PAIRS[0], lambda m: read_pair(m, BOUNDS)),
    (PAIRS[1], lambda m: read_pair(m, BOUNDS)),
    (PAIRS[2], lambda m: read_pair(m, BOUNDS)),
    (SEEDS["ScoringService/ScoreResponses"].responses[0], lambda m: read_response(m, BOUNDS)),  # type: ignore[attr-defined]
    (SEEDS["ScoringService/EncodeTokens"], lambda m: read_encode(m, BOUNDS)),
]


@settings(max_examples=3000, deadline=None)
@given(st.sampled_from(READERS), st.randoms(use_true_random=False))
def test_what_still_parses_is_read_or_refused_by_the_error_family(
    reader: tuple[Message, Callable[[Any], object]], source: random.Random
) -> None:
    seed, read = reader
    message = type(seed)()
    try:
        message.ParseFromString(mutate(seed.SerializeToString(), source))
    except Exception:
        return
    try:
        outcome = read(message)
    except AssayError as error:
        status = to_status(error, within="pairs[0]")
        assert decode(status_pb2.Status.FromString(status.SerializeToString())).code is grpc.StatusCode.INVALID_ARGUMENT
        assert status.ByteSize() < 4096
    else:
        if isinstance(outcome, Pair):
            assert outcome.chosen
            assert outcome.rejected
