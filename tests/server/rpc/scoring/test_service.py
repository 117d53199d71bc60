"""ScoringService over a real channel: what goes in, what comes out, and what is refused."""

import asyncio
import time

import grpc
import numpy as np
import pytest
from assay.v1 import pair_pb2, scoring_pb2
from assay_server.errors import ContextOverflow, EngineFailure, Expired, NotReady, Overloaded
from assay_server.scorer import Lane
from assay_server.scorer.ranking import Ranker
from assay_server.subject.types import Truncation

from tests.support.fake_scorer import D_IN, D_SAE, FakeScorer, pooled_span
from tests.support.harness import Harness, Start, settled
from tests.support.waiting import until
from tests.support.wire import decode, pair, refused, turns


def request(*pairs: pair_pb2.Pair, **options: object) -> scoring_pb2.ScorePairsRequest:
    return scoring_pb2.ScorePairsRequest(pairs=pairs or [pair()], options=options)


def tensor(values: list[float], **changes: object) -> dict[str, object]:
    data = np.array(values, dtype="<f4")
    return {"dtype": "DTYPE_FLOAT32", "shape": [len(values)], "data": data.tobytes(), **changes}


async def test_pairs_are_answered_in_order_with_their_rankings(harness: Harness) -> None:
    pairs = [pair(n) for n in range(20)]
    response = await harness.scoring.ScorePairs(request(*pairs, top_k=5))
    assert [result.id for result in response.results] == [p.id for p in pairs]
    ranker = Ranker(D_SAE)
    for sent, result in zip(pairs, response.results, strict=True):
        by_max, by_freq = ranker.pair(pooled_span(sent.chosen), pooled_span(sent.rejected), 5)
        assert list(result.score.by_max.features) == by_max.features.tolist()
        assert list(result.score.by_max.chosen) == by_max.chosen.tolist()
        assert list(result.score.by_freq.features) == by_freq.features.tolist()
        assert list(result.score.by_freq.rejected) == by_freq.rejected.tolist()
        assert result.score.tokens.read == 40
        assert result.score.timings.cache_state == scoring_pb2.CACHE_STATE_MISS
        assert result.score.timings.forward_seconds == pytest.approx(0.003)


async def test_sixteen_features_are_ranked_unless_the_options_say_otherwise(harness: Harness) -> None:
    unset = await harness.scoring.ScorePairs(request())
    assert len(unset.results[0].score.by_max.features) == 16
    none = await harness.scoring.ScorePairs(request(top_k=0))
    assert len(none.results[0].score.by_max.features) == 0


async def test_a_bad_pair_fails_in_its_place_and_the_others_are_scored(harness: Harness) -> None:
    harness.scorer.refusing["too long"] = ContextOverflow(
        "The chosen side takes 4,000 tokens; the context is 2,048.", field="chosen", details={"tokens": 4000, "context": 2048}
    )
    pairs = [pair(0), pair(1, rejected=""), pair(2), pair(3, chosen="too long"), pair(4)]
    response = await harness.scoring.ScorePairs(request(*pairs))
    outcomes = [result.WhichOneof("outcome") for result in response.results]
    assert outcomes == ["score", "error", "score", "error", "score"]
    empty, overflow = decode(response.results[1].error), decode(response.results[3].error)
    assert (empty.code, empty.info.reason, empty.violations) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "EMPTY_SPAN",
        ["pairs[1].rejected"],
    )
    assert (overflow.info.reason, overflow.violations) == ("CONTEXT_OVERFLOW", ["pairs[3].chosen"])
    assert dict(overflow.info.metadata) == {"tokens": "4000", "context": "2048"}
    assert [result.id for result in response.results] == [p.id for p in pairs]


@pytest.mark.parametrize(
    ("bad", "reason", "field"),
    [
        (pair(chosen=""), "EMPTY_SPAN", "chosen"),
        (pair_pb2.Pair(chosen="a", rejected="b"), "MISSING_PROMPT", "prompt"),
        (pair(conversation=pair_pb2.Conversation()), "EMPTY_CONVERSATION", "conversation.messages"),
        (pair(conversation=turns("user", "assistant")), "ROLE_ORDER", "conversation.messages[1].role"),
        (pair(conversation=turns("assistant", "user")), "ROLE_ORDER", "conversation.messages[0].role"),
        (pair(conversation=turns("user", "user")), "ROLE_ORDER", "conversation.messages[1].role"),
        (pair(conversation=turns("user", "system", "user")), "ROLE_ORDER", "conversation.messages[1].role"),
        (pair(conversation=turns("system")), "ROLE_ORDER", "conversation.messages[0].role"),
        (pair(conversation=turns("system", "system", "user")), "ROLE_ORDER", "conversation.messages[1].role"),
        (pair(conversation=turns("wizard")), "UNKNOWN_ROLE", "conversation.messages[0].role"),
        (pair(id="é" * 200), "ID_TOO_LONG", "id"),
        (pair(metadata={str(n): "" for n in range(65)}), "METADATA_TOO_LARGE", "metadata"),
        (pair(metadata={"note": "x" * 20_000}), "METADATA_TOO_LARGE", "metadata"),
        (pair(chosen="x" * 10_000_000), "TEXT_TOO_LONG", ""),
    ],
)
async def test_a_malformed_pair_is_refused_by_field_and_reason(
    harness: Harness, bad: pair_pb2.Pair, reason: str, field: str
) -> None:
    response = await harness.scoring.ScorePairs(request(bad, pair(1)))
    error = decode(response.results[0].error)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.info.reason == reason
    assert error.violations == [f"pairs[0].{field}".rstrip(".")]
    assert response.results[1].HasField("score")


@pytest.mark.parametrize(
    "roles",
    [("user",), ("system", "user"), ("user", "assistant", "user"), ("system", "user", "assistant", "tool", "assistant", "user")],
)
async def test_turns_in_order_are_scored(harness: Harness, roles: tuple[str, ...]) -> None:
    response = await harness.scoring.ScorePairs(request(pair(conversation=turns(*roles)), pair(text="raw text")))
    assert all(result.HasField("score") for result in response.results)


async def test_no_refusal_quotes_the_text_of_a_pair(harness: Harness) -> None:
    secret = "a sentence that must not leak"
    bad = pair(conversation=turns("user"), chosen=secret, rejected="", metadata={secret: secret * 2000})
    bad.conversation.messages[0].role = secret
    response = await harness.scoring.ScorePairs(request(bad))
    assert secret.encode() not in response.results[0].error.SerializeToString()


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        ({"top_k": -1}, "OUT_OF_RANGE", "options.top_k"),
        ({"top_k": 1025}, "LIMIT_EXCEEDED", "options.top_k"),
        ({"lane": 9}, "UNKNOWN_ENUM_VALUE", "options.lane"),
        ({"truncation": 9}, "UNKNOWN_ENUM_VALUE", "options.truncation"),
        ({"cache_mode": -3}, "UNKNOWN_ENUM_VALUE", "options.cache_mode"),
        ({"concepts": [{"name": "a"}]}, "MISSING_CONCEPT_KIND", "options.concepts[0]"),
        ({"concepts": [{"feature": 1}]}, "INVALID_NAME", "options.concepts[0].name"),
        ({"concepts": [{"name": "é" * 65, "feature": 1}]}, "INVALID_NAME", "options.concepts[0].name"),
        ({"concepts": [{"name": "a", "feature": 1}, {"name": "a", "feature": 2}]}, "DUPLICATE_NAME", "options.concepts[1].name"),
        ({"concepts": [{"name": "a", "feature": D_SAE}]}, "UNKNOWN_FEATURE", "options.concepts[0].feature"),
        ({"concepts": [{"name": str(n), "feature": 1} for n in range(257)]}, "LIMIT_EXCEEDED", "options.concepts"),
        ({"concepts": [{"name": "a", "features": {}}]}, "EMPTY_CONCEPT", "options.concepts[0].features"),
        (
            {"concepts": [{"name": "a", "features": {"indices": [1], "values": []}}]},
            "LENGTH_MISMATCH",
            "options.concepts[0].features",
        ),
        (
            {"concepts": [{"name": "a", "features": {"indices": [2, 2], "values": [1, 1]}}]},
            "UNSORTED_INDICES",
            "options.concepts[0].features.indices[1]",
        ),
        (
            {"concepts": [{"name": "a", "features": {"indices": [1, D_SAE], "values": [1, 1]}}]},
            "UNKNOWN_FEATURE",
            "options.concepts[0].features.indices[1]",
        ),
        (
            {"concepts": [{"name": "a", "features": {"indices": [1, 2], "values": [1, float("nan")]}}]},
            "NOT_FINITE",
            "options.concepts[0].features.values[1]",
        ),
        (
            {"concepts": [{"name": "a", "features": {"indices": range(4097), "values": [0.0] * 4097}}]},
            "LIMIT_EXCEEDED",
            "options.concepts[0].features",
        ),
        ({"concepts": [{"name": "a", "direction": tensor([1.0] * 7)}]}, "SHAPE_MISMATCH", "options.concepts[0].direction.shape"),
        (
            {"concepts": [{"name": "a", "direction": tensor([1.0] * D_IN, dtype=0)}]},
            "INVALID_DTYPE",
            "options.concepts[0].direction.dtype",
        ),
        (
            {"concepts": [{"name": "a", "direction": tensor([1.0] * D_IN, data=b"123")}]},
            "DATA_LENGTH_MISMATCH",
            "options.concepts[0].direction.data",
        ),
        (
            {"concepts": [{"name": "a", "direction": tensor([1.0] * (D_IN - 1) + [float("inf")])}]},
            "NOT_FINITE",
            f"options.concepts[0].direction.data[{D_IN - 1}]",
        ),
    ],
)
async def test_bad_options_fail_the_call_before_anything_is_scored(
    harness: Harness, options: dict[str, object], reason: str, field: str
) -> None:
    error = await refused(harness.scoring.ScorePairs(request(**options)))
    assert (error.code, error.info.reason, error.violations) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [field])
    assert harness.scorer.started == 0


async def test_options_reach_the_engine(harness: Harness) -> None:
    await harness.scoring.ScorePairs(
        request(include_prompt=True, truncation="TRUNCATION_PROMPT_START", cache_mode="CACHE_MODE_BYPASS", lane="LANE_BULK")
    )
    await harness.scoring.ScorePairs(request())
    (asked, _), (default, _) = harness.scorer.calls
    assert (asked.include_prompt, asked.truncation, asked.bypass_cache, asked.lane) == (
        True,
        Truncation.PROMPT_START,
        True,
        Lane.BULK,
    )
    assert (default.include_prompt, default.truncation, default.bypass_cache, default.lane) == (
        False,
        Truncation.REFUSE,
        False,
        Lane.INTERACTIVE,
    )
    assert default.directions is None


@pytest.mark.parametrize(("dtype", "kind"), [("DTYPE_FLOAT32", "<f4"), ("DTYPE_FLOAT16", "<f2"), ("DTYPE_BFLOAT16", None)])
async def test_concepts_of_every_kind_are_scored_in_their_order(harness: Harness, dtype: str, kind: str | None) -> None:
    values = np.array([0.5, -2.0, 1.0, 0.0, 4.0, 0.25, -1.0, 8.0], dtype="<f4")
    data = values.astype(kind).tobytes() if kind else (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    sent = pair()
    chosen, rejected = pooled_span(sent.chosen), pooled_span(sent.rejected)
    first, second = int(chosen.indices[0]), int(chosen.indices[1])
    response = await harness.scoring.ScorePairs(
        request(
            sent,
            concepts=[
                {"name": "direction", "direction": {"dtype": dtype, "shape": [D_IN], "data": data}},
                {"name": "one", "feature": first},
                {"name": "weighted", "features": {"indices": [first, second], "values": [2.0, -0.5]}},
            ],
        )
    )
    scores = response.results[0].score.concepts
    assert [score.name for score in scores] == ["direction", "one", "weighted"]
    assert scores[0].chosen == pytest.approx(float(values.sum()) * len(sent.chosen))
    assert scores[0].rejected == pytest.approx(float(values.sum()) * len(sent.rejected))
    dense = np.zeros(D_SAE, dtype=np.float32)
    dense[chosen.indices] = chosen.max
    assert scores[1].chosen == pytest.approx(dense[first])
    assert scores[2].chosen == pytest.approx(2.0 * dense[first] - 0.5 * dense[second], rel=1e-6)
    dense = np.zeros(D_SAE, dtype=np.float32)
    dense[rejected.indices] = rejected.max
    assert scores[2].rejected == pytest.approx(2.0 * dense[first] - 0.5 * dense[second], rel=1e-6)


async def test_pooled_features_are_sent_only_where_they_were_asked_for(harness: Harness) -> None:
    plain = (await harness.scoring.ScorePairs(request())).results[0].score
    assert not plain.HasField("chosen_features")
    full = (
        (await harness.scoring.ScorePairs(request(include_features=True, include_prompt=True, include_mean_residual=True)))
        .results[0]
        .score
    )
    span = pooled_span(pair().chosen)
    assert list(full.chosen_features.indices) == span.indices.tolist()
    assert list(full.chosen_features.max) == span.max.tolist()
    assert list(full.chosen_features.freq) == span.freq.tolist()
    residual = full.rejected_features.mean_residual
    assert (residual.dtype, list(residual.shape)) == (pair_pb2.Tensor.DTYPE_FLOAT32, [D_IN])
    assert np.frombuffer(residual.data, "<f4").tolist() == pooled_span(pair().rejected).mean_residual.tolist()
    assert full.HasField("prompt_features")


async def test_a_request_holds_one_pair_to_the_limit_of_pairs(start: Start) -> None:
    harness = await start(max_pairs_per_request=4)
    none = await refused(harness.scoring.ScorePairs(scoring_pb2.ScorePairsRequest()))
    assert (none.info.reason, none.violations) == ("EMPTY_REQUEST", ["pairs"])
    many = await refused(harness.scoring.ScorePairs(request(*[pair(n) for n in range(5)])))
    assert many.info.reason == "TOO_MANY_PAIRS"
    assert dict(many.info.metadata) == {"items": "5", "max_pairs_per_request": "4"}


async def test_single_responses_are_ranked_by_their_own_value(harness: Harness) -> None:
    response = await harness.scoring.ScoreResponses(
        scoring_pb2.ScoreResponsesRequest(
            responses=[
                {"id": "a", "text": "prompt", "response": "an answer"},
                {"id": "b", "text": "prompt", "response": ""},
                {"id": "c", "conversation": turns("user"), "response": "a third"},
            ],
            options={"top_k": 3, "concepts": [{"name": "f", "feature": 3}], "include_features": True},
        )
    )
    assert [r.id for r in response.results] == ["a", "b", "c"]
    score = response.results[0].score
    span = pooled_span("an answer")
    order = sorted(range(len(span.indices)), key=lambda i: (-span.max[i], span.indices[i]))[:3]
    assert list(score.by_max.features) == [int(span.indices[i]) for i in order]
    assert list(score.by_max.chosen) == [float(span.max[i]) for i in order]
    assert list(score.by_max.rejected) == []
    assert (score.tokens.rejected, score.concepts[0].rejected) == (0, 0.0)
    assert list(score.features.indices) == span.indices.tolist()
    assert decode(response.results[1].error).violations == ["responses[1].response"]


async def test_tokens_carry_offsets_and_only_the_activations_that_fire(harness: Harness) -> None:
    response = await harness.scoring.EncodeTokens(scoring_pb2.EncodeTokensRequest(text="abcé", features=[5, 2]))
    assert [token.text for token in response.tokens] == list("abcé")
    assert [(token.start, token.end) for token in response.tokens] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert [entry.feature for entry in response.activations] == [5, 2]
    assert list(response.activations[0].tokens) == [0, 2, 3]
    assert list(response.activations[1].values) == [3.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"features": [1]}, "MISSING_INPUT", "input"),
        ({"text": "", "features": [1]}, "EMPTY_SPAN", "text"),
        ({"text": "x"}, "NO_FEATURES", "features"),
        ({"text": "x", "features": [1, 1]}, "DUPLICATE_FEATURE", "features[1]"),
        ({"text": "x", "features": [D_SAE]}, "UNKNOWN_FEATURE", "features[0]"),
        ({"text": "x", "features": [0] * 1025}, "TOO_MANY_FEATURES", "features"),
        ({"text": "x", "features": [1], "truncation": "TRUNCATION_PROMPT_START"}, "INVALID_TRUNCATION", "truncation"),
        ({"text": "x" * 2_000_000, "features": [1]}, "TEXT_TOO_LONG", "text"),
        ({"conversation": turns("assistant"), "features": [1]}, "ROLE_ORDER", "conversation.messages[0].role"),
    ],
)
async def test_a_bad_encode_request_is_refused(harness: Harness, fields: dict[str, object], reason: str, field: str) -> None:
    error = await refused(harness.scoring.EncodeTokens(scoring_pb2.EncodeTokensRequest(**fields)))
    assert (error.code, error.info.reason, error.violations) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [field])


async def test_a_conversation_to_highlight_may_end_with_the_assistant(harness: Harness) -> None:
    sent = scoring_pb2.EncodeTokensRequest(conversation=turns("user", "assistant"), features=[1])
    assert [token.message for token in (await harness.scoring.EncodeTokens(sent)).tokens] == [0] * 12 + [1] * 17


async def test_overload_says_when_to_come_back_in_details_and_trailing_metadata(harness: Harness) -> None:
    harness.scorer.failing = [
        Overloaded("9 tokens are in flight; max_tokens_in_flight is 8.", retry_after_seconds=0.25, details={"limit": 8})
    ]
    error = await refused(harness.scoring.ScorePairs(request()))
    assert (error.code, error.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert error.retry_seconds == pytest.approx(0.25)
    assert error.metadata["grpc-retry-pushback-ms"] == "250"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (NotReady("stopping", reason="STOPPING"), grpc.StatusCode.UNAVAILABLE),
        (Expired("late"), grpc.StatusCode.DEADLINE_EXCEEDED),
        (EngineFailure("the device failed"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_the_engines_errors_keep_their_meaning(harness: Harness, failure: Exception, code: grpc.StatusCode) -> None:
    harness.scorer.failing = [failure]
    assert (await refused(harness.scoring.ScorePairs(request()))).code is code


async def test_an_unexpected_exception_gives_an_incident_and_no_words(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    harness.scorer.failing = [KeyError("words of a pair")]
    error = await refused(harness.scoring.ScorePairs(request()))
    assert (error.code, error.info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "words" not in error.message
    assert error.info.metadata["incident"]


async def test_a_deadline_reaches_the_engine_and_ends_the_call(harness: Harness) -> None:
    before = time.monotonic()
    await harness.scoring.ScorePairs(request(), timeout=5)
    deadline = harness.scorer.calls[0][1]
    assert deadline is not None
    assert 4.0 < deadline - before < 6.0
    await harness.scoring.ScorePairs(request())
    assert harness.scorer.calls[1][1] is None
    harness.scorer.gate.clear()
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await harness.scoring.ScorePairs(request(), timeout=0.2)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await settled(harness)


async def test_a_cancelled_call_leaves_nothing_running(harness: Harness) -> None:
    harness.scorer.gate.clear()
    calls = [harness.scoring.ScorePairs(request()) for _ in range(8)]
    tasks = [asyncio.ensure_future(call) for call in calls]
    await until(lambda: harness.scorer.running == 8)
    for call in calls:
        call.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await settled(harness)
    assert harness.scorer.finished == 0
    assert b'assay_requests_total{code="CANCELLED",method="ScorePairs"} 8.0' in harness.metrics.exposition()


async def test_a_dropped_connection_leaves_nothing_running(start: Start) -> None:
    harness = await start(scorer=FakeScorer())
    harness.scorer.gate.clear()
    task = asyncio.ensure_future(harness.scoring.ScorePairs(request()))
    await until(lambda: harness.scorer.running == 1)
    await harness.channel.close()
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await task
    await settled(harness)
