"""Random mutations of valid messages: whatever arrives, the answer is a clean status, and the server goes on."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from assay.v1 import audit_service_pb2 as audits
from assay.v1 import model_pb2, scoring_pb2
from assay_server.errors import AssayError
from assay_server.jobs.audits.types import AuditSettings
from assay_server.rpc.audits.hypotheses import check_question
from assay_server.rpc.audits.requests import read_decision, read_settings, read_stated
from assay_server.rpc.errors import to_status
from assay_server.rpc.pairs import read_encode, read_options, read_pair, read_response, read_stored_pair
from assay_server.rpc.specs import Bounds
from assay_server.scorer import Lane
from assay_server.subject.pair_checks import check_pair
from assay_server.subject.types import Message as Turn
from assay_server.subject.types import Pair
from google.longrunning import operations_pb2 as longrunning
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fake_library import FakeLibrary
from tests.support.fake_scorer import D_IN, D_SAE
from tests.support.harness import Harness, settled
from tests.support.waiting import PATIENCE
from tests.support.wire import batch, decode, head, pair, rich, turns

CLEAN = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}
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

# What the fake jobs call the dataset of KEPT, its finished audit (made by request "a") and the operation that made it.
KEPT = [Pair((Turn("user", "tea?"),), "- yes", "no", "a", {"topic": "tea"}), Pair("raw ", "a", "b")]
AUDIT, DATASET = "audits/a0", FakeLibrary.name_of(KEPT)
AUDIT_OPTIONS: dict[str, Any] = {
    "views": [1, 2, 3],
    "families": [1, 2],
    "concepts": ["concepts/tea"],
    "tau": 0.02,
    "q_level": 0.1,
    "interval_level": 0.9,
    "correction": 2,
    "nuisances": [1, 2],
    "max_t_flips": 128,
    "data_clusters": 4,
    "silent_percentile": 5.0,
    "min_features": 3,
    "min_inside": 5,
    "min_firings": 9,
    "prompt_clusters": 2,
    "response_clusters": 3,
    "top_share": 0.2,
    "metadata_keys": ["topic"],
    "seed": 7,
    "keep": 10,
    "evidence": 2,
    "control_pairs": 60,
}
AUDIT_SEEDS: dict[str, Message] = {
    "assay.v1.AuditService/GetUpload": audits.GetUploadRequest(request_id="up"),
    "assay.v1.AuditService/ImportPairs": audits.ImportPairsRequest(uri="file:///a.jsonl", display_name="a", request_id="b"),
    "assay.v1.AuditService/GetDataset": audits.GetDatasetRequest(name=DATASET),
    "assay.v1.AuditService/ListDatasets": audits.ListDatasetsRequest(page_size=1),
    "assay.v1.AuditService/CreateAudit": audits.CreateAuditRequest(dataset=DATASET, display_name="é", options=AUDIT_OPTIONS),
    "assay.v1.AuditService/GetAudit": audits.GetAuditRequest(name=AUDIT),
    "assay.v1.AuditService/ListAudits": audits.ListAuditsRequest(page_size=3, dataset=DATASET),
    "assay.v1.AuditService/TestHypothesis": audits.TestHypothesisRequest(
        dataset=DATASET, concept="feature/3", metadata={"key": "topic", "value": "tea"}, options=AUDIT_OPTIONS
    ),
    "assay.v1.AuditService/ListHypotheses": audits.ListHypothesesRequest(
        parent=AUDIT, page_size=7, filter='view = "global" AND q <= 0.05 AND label : "list"', order_by="effect desc"
    ),
    "assay.v1.AuditService/GetHypothesis": audits.GetHypothesisRequest(name=f"{AUDIT}/hypotheses/global-3", highlights=True),
    "assay.v1.AuditService/ExportAudit": audits.ExportAuditRequest(name=AUDIT, format=2),
    "assay.v1.AuditService/RecordDecision": audits.RecordDecisionRequest(
        decision={"hypothesis": f"{AUDIT}/hypotheses/global-3", "mode": 1, "strength": 0.5, "note": "n", "author": "a"}
    ),
    "assay.v1.AuditService/ListCards": audits.ListCardsRequest(name=AUDIT),
    "assay.v1.AuditService/ListDecisions": audits.ListDecisionsRequest(parent=AUDIT, page_size=2),
    "assay.v1.AuditService/CompareRollouts": audits.CompareRolloutsRequest(
        dataset=DATASET,
        rollouts=DATASET,
        noise=DATASET,
        plan="plans/p",
        concepts=["concepts/tea"],
        families=[1, 2],
        margins={"margins": [0.5, -0.25, 0.0], "of": "held-out é"},
        tau=0.02,
        interval_level=0.9,
        min_telling=3,
        draws=200,
        seed=7,
        keep=10,
    ),
    "google.longrunning.Operations/GetOperation": longrunning.GetOperationRequest(name="operations/audit-a"),
    "google.longrunning.Operations/ListOperations": longrunning.ListOperationsRequest(page_size=2),
    "google.longrunning.Operations/WaitOperation": longrunning.WaitOperationRequest(
        name="operations/audit-a", timeout={"seconds": 1, "nanos": 500}
    ),
    "google.longrunning.Operations/CancelOperation": longrunning.CancelOperationRequest(name="operations/audit-a"),
}
BATCHES = [audits.UploadPairsRequest(batch={"sequence": n, "pairs": PAIRS}) for n in range(3)]
UPLOAD_END = audits.UploadPairsRequest(end={"pairs": 3 * len(PAIRS)})


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


@pytest.mark.parametrize("method", list(AUDIT_SEEDS))
async def test_mutated_requests_about_audits_get_a_clean_status(harness: Harness, method: str) -> None:
    dataset = harness.library.store(KEPT)
    await harness.library.audits.create(dataset.name, AuditSettings(), request_id="a")
    await harness.library.operations.wait("operations/audit-a")
    source = random.Random(method)
    seed = AUDIT_SEEDS[method].SerializeToString()
    statuses: Counter[grpc.StatusCode] = Counter()

    async def send(data: bytes) -> None:
        call: Any = harness.channel.unary_stream(f"/{method}")(data)  # reads what a unary call answers, too
        try:
            async for _ in call:
                pass
            statuses[grpc.StatusCode.OK] += 1
        except grpc.aio.AioRpcError as error:
            statuses[rich(error).code] += 1

    await send(seed)
    assert set(statuses) == {grpc.StatusCode.OK}
    for _ in range(10):
        await asyncio.gather(*[send(mutate(seed, source)) for _ in range(40)])
    assert set(statuses) <= CLEAN
    assert statuses[grpc.StatusCode.INVALID_ARGUMENT] > 20
    await send(seed)
    await settled(harness)


HOSTILE: dict[int, list[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: ["", "-", "..", "a/b", "audits/-", "feature/99999999999", "\0", "x" * 5000, "🎉", '"'],
    FieldDescriptor.CPPTYPE_INT32: [-1, 0, 1, 2**31 - 1, -(2**31)],
    FieldDescriptor.CPPTYPE_INT64: [-1, 0, 2**63 - 1, -(2**63)],
    FieldDescriptor.CPPTYPE_UINT32: [0, 2**32 - 1],
    FieldDescriptor.CPPTYPE_UINT64: [0, 2**64 - 1],
    FieldDescriptor.CPPTYPE_DOUBLE: [float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1.0, 1e300, 5e-324],
    FieldDescriptor.CPPTYPE_ENUM: [-1, 0, 1, 2, 3, 4, 99],
    FieldDescriptor.CPPTYPE_BOOL: [False, True],
}


def hostile(seed: Message) -> Iterator[Message]:
    """The message with one field after another, at any depth, set to each value that somebody might try."""
    for field in seed.DESCRIPTOR.fields:
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if not field.is_repeated and seed.HasField(field.name):
                for inner in hostile(getattr(seed, field.name)):
                    changed = type(seed).FromString(seed.SerializeToString())
                    getattr(changed, field.name).CopyFrom(inner)
                    yield changed
            continue
        for value in HOSTILE[field.cpp_type]:
            changed = type(seed).FromString(seed.SerializeToString())
            if field.is_repeated:
                getattr(changed, field.name).extend([value, value])
            else:
                setattr(changed, field.name, value)
            yield changed


@pytest.mark.parametrize("method", list(AUDIT_SEEDS))
async def test_any_value_in_any_field_is_taken_or_refused_by_its_field(harness: Harness, method: str) -> None:
    dataset = harness.library.store(KEPT)
    await harness.library.audits.create(dataset.name, AuditSettings(), request_id="a")
    await harness.library.operations.wait("operations/audit-a")
    refusals: Counter[str] = Counter()

    async def send(request: Message) -> None:
        call: Any = harness.channel.unary_stream(f"/{method}")(request.SerializeToString())
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            told = rich(error)
            assert told.code in CLEAN, (told.message, request)
            if told.code is grpc.StatusCode.INVALID_ARGUMENT:
                assert len(told.violations) == 1, (told.message, request)
                refusals[told.violations[0]] += 1

    requests = list(hostile(AUDIT_SEEDS[method]))
    for start in range(0, len(requests), 40):
        await asyncio.gather(*[send(request) for request in requests[start : start + 40]])
    assert refusals or method.endswith("ListOperations")
    await settled(harness)


async def test_mutated_uploads_get_a_clean_status_and_keep_what_came_before(harness: Harness) -> None:
    with grpc.insecure_channel(harness.address) as channel:
        call: Any = channel.stream_unary("/assay.v1.AuditService/UploadPairs")
        source = random.Random(0)
        good = [message.SerializeToString() for message in (*BATCHES, UPLOAD_END)]
        outcomes: Counter[str] = Counter()

        def send(messages: list[bytes]) -> None:
            try:
                response = audits.UploadPairsResponse.FromString(call(iter(messages), timeout=PATIENCE))
                assert response.dataset.pairs > 0
                outcomes["OK"] += 1
            except grpc.RpcError as error:
                outcomes[rich(error).code.name] += 1

        for _ in range(10):
            tries: list[list[bytes]] = []
            for _ in range(30):
                fresh = audits.UploadPairsRequest(options={"request_id": f"up-{source.randrange(1 << 40)}"})
                messages = [fresh.SerializeToString(), *good]
                target = source.randrange(5)
                tries.append([mutate(data, source) if place == target else data for place, data in enumerate(messages)])
            await asyncio.gather(*[asyncio.to_thread(send, messages) for messages in tries])
        assert set(outcomes) <= {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION"}
        assert min(outcomes["OK"], outcomes["INVALID_ARGUMENT"]) > 5
        assert outcomes["FAILED_PRECONDITION"] > 0, "some ends announce another number"
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
                for data in call(iter(messages), timeout=PATIENCE):
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
    (AUDIT_SEEDS["assay.v1.AuditService/CreateAudit"].options, lambda m: read_settings(m, BOUNDS)),  # type: ignore[attr-defined]
    (AUDIT_SEEDS["assay.v1.AuditService/TestHypothesis"], lambda m: read_stated(m, BOUNDS)),
    (AUDIT_SEEDS["assay.v1.AuditService/RecordDecision"].decision, read_decision),  # type: ignore[attr-defined]
    (AUDIT_SEEDS["assay.v1.AuditService/ListHypotheses"], check_question),
    (PAIRS[2], lambda m: check_pair(read_stored_pair(m), max_text_bytes=LIMITS.max_text_bytes)),
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
