"""The server as a whole: health, reflection, auth, TLS, drain, limits of messages, and what binds where."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from assay.v1 import audit_service_pb2, model_pb2, model_pb2_grpc, scoring_pb2
from assay_server.config import ConfigError, ServerConfig
from assay_server.labelling.labels import Labels
from assay_server.rpc.server import KEEPING, SERVICES, AssayServer
from assay_server.telemetry.metrics import Metrics
from google.longrunning import operations_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.fake_scorer import D_SAE, INFO
from tests.support.harness import Harness, Start, settled
from tests.support.waiting import PATIENCE, in_time, until
from tests.support.wire import batch, drained, head, pair, refused, refused_stream, rich

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Raw:
    """Bytes to send in place of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:
        return self._data


def one_pair() -> scoring_pb2.ScorePairsRequest:
    return scoring_pb2.ScorePairsRequest(pairs=[pair()])


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


async def test_health_is_not_serving_until_the_subject_is_verified(start: Start) -> None:
    harness = await start(ready=False)
    for service in ("", *SERVICES):
        assert await health_of(harness.channel, service) == NOT_SERVING
    await harness.server.open(harness.scorer, Labels(D_SAE), harness.library)
    for service in ("", *SERVICES):
        assert await health_of(harness.channel, service) == SERVING


async def test_without_a_data_directory_what_needs_one_does_not_serve_and_says_why(start: Start) -> None:
    harness = await start(ready=False)
    await harness.server.open(harness.scorer, Labels(D_SAE))
    assert {service for service in SERVICES if await health_of(harness.channel, service) == NOT_SERVING} == set(KEEPING)
    for call in (
        harness.audits.ListDatasets(audit_service_pb2.ListDatasetsRequest()),
        harness.audits.UploadPairs(iter([audit_service_pb2.UploadPairsRequest(options={"request_id": "a"})])),
        harness.operations.ListOperations(operations_pb2.ListOperationsRequest()),
    ):
        error = await refused(call)
        assert (error.code, error.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_DATA_DIR")
        assert "--data-dir" in error.message


async def test_calls_before_loading_are_told_to_come_back(start: Start) -> None:
    harness = await start(ready=False)
    for error in (
        await refused(harness.scoring.ScorePairs(one_pair())),
        await refused(harness.models.GetModel(model_pb2.GetModelRequest())),
        await refused(harness.audits.GetAudit(audit_service_pb2.GetAuditRequest(name="audits/a"))),
        await refused(harness.operations.GetOperation(operations_pb2.GetOperationRequest(name="operations/a"))),
        (await refused_stream(harness.address, head(), batch(0)))[0],
    ):
        assert (error.code, error.info.reason) == (grpc.StatusCode.UNAVAILABLE, "LOADING")
        assert error.retry_seconds == 1.0
        assert error.metadata["grpc-retry-pushback-ms"] == "1000"


async def test_reflection_lists_every_service(harness: Harness) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(harness.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for response in stub.ServerReflectionInfo(iter([request])):
        names = {service.name for service in response.list_services_response.service}
        assert {*SERVICES, "grpc.health.v1.Health"} <= names


async def test_the_model_says_what_is_loaded_and_which_limits_hold(start: Start) -> None:
    harness = await start(max_top_k=77, max_sequence_tokens=512)
    model = (await harness.models.GetModel(model_pb2.GetModelRequest(name="models/default"))).model
    assert (model.model_id, model.hook, model.d_in, model.d_sae) == (INFO.model_id, INFO.hook, INFO.d_in, INFO.d_sae)
    assert (model.explained_variance, model.mean_l0) == (INFO.explained_variance, INFO.mean_l0)
    assert (model.limits.max_top_k, model.limits.max_sequence_tokens, model.limits.batch_tokens) == (77, 512, 1024)
    assert model.labelled_features == 1
    assert model.server_version
    unset = [field.name for field in model.limits.DESCRIPTOR.fields if not getattr(model.limits, field.name)]
    assert unset == []


async def test_another_models_name_is_not_found(harness: Harness) -> None:
    for call in (
        harness.models.GetModel(model_pb2.GetModelRequest(name="models/other")),
        harness.models.BatchGetFeatures(model_pb2.BatchGetFeaturesRequest(parent="models/other")),
        harness.models.ListFeatures(model_pb2.ListFeaturesRequest(parent="other")),
    ):
        error = await refused(call)
        assert (error.code, error.info.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


async def test_features_come_in_the_order_asked_with_what_is_known_of_them(harness: Harness) -> None:
    asked = model_pb2.BatchGetFeaturesRequest(ids=[9, 7, 9])
    features = (await harness.models.BatchGetFeatures(asked)).features
    assert [feature.id for feature in features] == [9, 7, 9]
    assert features[1].name == "models/default/features/7"
    assert (features[1].label, features[1].detection_score) == ("flattery", 0.75)
    assert not features[0].HasField("detection_score")
    unknown = await refused(harness.models.BatchGetFeatures(model_pb2.BatchGetFeaturesRequest(ids=[0, D_SAE])))
    assert (unknown.info.reason, unknown.violations) == ("UNKNOWN_FEATURE", ["ids[1]"])
    many = await refused(harness.models.BatchGetFeatures(model_pb2.BatchGetFeaturesRequest(ids=range(1025))))
    assert many.info.reason == "TOO_MANY_FEATURES"


async def test_features_are_paged_to_the_end_and_filtered(harness: Harness) -> None:
    ids: list[int] = []
    token = ""
    while True:
        page = await harness.models.ListFeatures(model_pb2.ListFeaturesRequest(page_size=200, page_token=token))
        ids += [feature.id for feature in page.features]
        assert page.total_size == D_SAE
        if not (token := page.next_page_token):
            break
    assert ids == list(range(D_SAE))
    found = await harness.models.ListFeatures(model_pb2.ListFeaturesRequest(filter="FLATT"))
    assert ([feature.id for feature in found.features], found.total_size) == ([7], 1)
    forged = await refused(harness.models.ListFeatures(model_pb2.ListFeaturesRequest(page_token="MTAw")))
    assert (forged.code, forged.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


@pytest.mark.parametrize("sent", [None, "Bearer wrong", "Bearer ", "secret", "bearer secret"])
async def test_without_the_right_token_nothing_is_served_but_health(start: Start, sent: str | None) -> None:
    harness = await start(token="secret")
    metadata = () if sent is None else (("authorization", sent),)
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    for error in (
        await refused(harness.scoring.ScorePairs(one_pair(), metadata=metadata)),
        await refused(harness.models.GetModel(model_pb2.GetModelRequest(), metadata=metadata)),
        (await refused_stream(harness.address, head(), token=sent))[0],
        (await refused_stream(harness.address, asked, method=reflection, token=sent))[0],
    ):
        assert (error.code, error.info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert "secret" not in error.message
    assert await health_of(harness.channel, "") == SERVING
    assert harness.scorer.started == 0


async def test_the_right_token_is_let_in(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    harness = await start(token_file=str(file))
    metadata = (("authorization", "Bearer secret"),)
    assert len((await harness.scoring.ScorePairs(one_pair(), metadata=metadata)).results) == 1
    assert len(await drained(harness.scoring.StreamPairs(iter([head(), batch(0)]), metadata=metadata))) == 1


async def test_a_message_over_the_limit_is_refused_by_name_and_number(start: Start) -> None:
    harness = await start(max_message_bytes=10_000, max_text_bytes=5_000)
    fits = scoring_pb2.ScorePairsRequest(pairs=[pair(chosen="x" * 9_000)])
    assert (await harness.scoring.ScorePairs(fits)).results[0].HasField("error")
    large = scoring_pb2.ScorePairsRequest(pairs=[pair(chosen="x" * 12_000)])
    error = await refused(harness.scoring.ScorePairs(large))
    assert (error.code, error.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE")
    assert dict(error.info.metadata) == {"message_bytes": str(large.ByteSize()), "max_message_bytes": "10000"}
    with pytest.raises(grpc.aio.AioRpcError) as huge:
        await harness.scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=[pair(chosen="x" * 50_000)]))
    assert huge.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await harness.scoring.ScorePairs(one_pair())).results[0].HasField("score")


async def test_a_large_message_in_a_stream_ends_it_after_what_was_accepted(start: Start) -> None:
    harness = await start(max_message_bytes=10_000)
    error, answered = await refused_stream(harness.address, head(), batch(0), batch(1, pair(chosen="x" * 12_000)))
    assert (error.info.reason, answered) == ("MESSAGE_TOO_LARGE", [0])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\xff\xff\xff", "MALFORMED_MESSAGE"), (b"\x0a\x04\x0a\x02\xff\xfe", "INVALID_UTF8"), (b"\x0a\x7f", "MALFORMED_MESSAGE")],
)
async def test_bytes_that_are_no_message_are_refused_with_a_reason(harness: Harness, data: bytes, reason: str) -> None:
    unary: Any = harness.channel.unary_unary("/assay.v1.ScoringService/ScorePairs")
    error = await refused(unary(data))
    assert (error.code, error.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    if reason == "INVALID_UTF8":  # the pairs of a batch are its field 2
        pairs = b"\x12" + data[1:]
        data = b"\x12" + bytes([len(pairs)]) + pairs
    error, answered = await refused_stream(harness.address, head(), batch(0), Raw(data))
    assert (error.code, error.info.reason, answered) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [0])


async def test_a_drain_finishes_what_was_accepted_and_refuses_the_rest(start: Start) -> None:
    harness = await start(drain_seconds=PATIENCE)
    harness.scorer.gate.clear()
    accepted = asyncio.ensure_future(harness.scoring.ScorePairs(one_pair()))
    await until(lambda: harness.scorer.running == 1)
    draining = asyncio.ensure_future(harness.server.drain())
    await until(harness.server.state.draining.is_set)
    assert await health_of(harness.channel, "") == NOT_SERVING
    assert await health_of(harness.channel, SERVICES[1]) == NOT_SERVING
    late = await refused(harness.scoring.ScorePairs(one_pair()))
    assert (late.code, late.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    harness.scorer.gate.set()
    assert (await accepted).results[0].HasField("score")
    assert await draining is True


async def test_a_drain_answers_a_streams_accepted_batches_and_ends_it_as_unavailable(start: Start) -> None:
    harness = await start(drain_seconds=PATIENCE)
    harness.scorer.gate.clear()

    async def endless() -> AsyncIterator[scoring_pb2.StreamPairsRequest]:
        yield head()
        for number in range(3):
            yield batch(number)
        await asyncio.sleep(60)

    call = harness.scoring.StreamPairs(endless())
    await until(lambda: harness.scorer.running == 3)
    draining = asyncio.ensure_future(harness.server.drain())
    await until(harness.server.state.draining.is_set)
    harness.scorer.gate.set()
    assert [(await call.read()).sequence for _ in range(3)] == [0, 1, 2]
    error = await refused(call.read())
    assert (error.code, error.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert await draining is True


async def test_an_idle_stream_and_a_health_watch_do_not_hold_up_the_drain(start: Start) -> None:
    harness = await start(drain_seconds=PATIENCE)
    stub: Any = health_pb2_grpc.HealthStub(harness.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
    assert (await watch.read()).status == SERVING
    idle = harness.scoring.StreamPairs()
    await idle.write(head())
    silent = harness.scoring.StreamPairs()
    await until(lambda: not harness.server.state.idle.is_set())
    began = time.monotonic()
    assert await harness.server.drain() is True
    assert in_time(time.monotonic() - began, 3.0)
    assert (await watch.read()).status == NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await idle.read()
    assert rich(ended.value).info.reason == "DRAINING"
    silent.cancel()


async def test_a_drain_that_runs_out_of_time_cuts_the_work_off_and_leaves_nothing(start: Start) -> None:
    harness = await start(drain_seconds=0.2)
    harness.scorer.gate.clear()
    stuck = asyncio.ensure_future(harness.scoring.ScorePairs(one_pair()))
    await until(lambda: harness.scorer.running == 1)
    assert await harness.server.drain() is False
    with pytest.raises(grpc.aio.AioRpcError):
        await stuck
    await settled(harness)


async def test_a_port_in_use_is_an_error_that_says_so(harness: Harness) -> None:
    second = AssayServer(ServerConfig(port=harness.server.port), Metrics())
    with pytest.raises(ConfigError, match=str(harness.server.port)) as refused:
        await second.start()
    assert refused.value.reason == "CANNOT_BIND"


async def test_calls_and_pairs_are_counted_by_method_and_code(harness: Harness) -> None:
    await harness.scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=[pair(0), pair(1, chosen="")]))
    await refused(harness.scoring.ScorePairs(scoring_pb2.ScorePairsRequest()))
    await drained(harness.scoring.StreamPairs(iter([head(), batch(0), batch(1)])))
    await settled(harness)
    text = harness.metrics.exposition().decode()
    for line in (
        'assay_requests_total{code="OK",method="ScorePairs"} 1.0',
        'assay_requests_total{code="INVALID_ARGUMENT",method="ScorePairs"} 1.0',
        'assay_requests_total{code="OK",method="StreamPairs"} 1.0',
        'assay_pairs_total{code="OK",method="ScorePairs"} 1.0',
        'assay_pairs_total{code="INVALID_ARGUMENT",method="ScorePairs"} 1.0',
        'assay_pairs_total{code="OK",method="StreamPairs"} 2.0',
        'assay_requests_in_flight{method="StreamPairs"} 0.0',
        'assay_request_seconds_count{method="ScorePairs"} 2.0',
    ):
        assert line in text, line


async def test_tls_is_spoken_where_a_certificate_is_given(start: Start, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    await asyncio.to_thread(self_sign, key, cert)
    harness = await start(tls_cert=str(cert), tls_key=str(key))
    credentials = grpc.ssl_channel_credentials(cert.read_bytes())
    async with grpc.aio.secure_channel(f"localhost:{harness.server.port}", credentials) as channel:
        stub: Any = model_pb2_grpc.ModelServiceStub(channel)
        assert (await stub.GetModel(model_pb2.GetModelRequest())).model.model_id == INFO.model_id
    with pytest.raises(grpc.aio.AioRpcError):
        await harness.models.GetModel(model_pb2.GetModelRequest(), timeout=2)


def self_sign(key: Path, cert: Path) -> None:
    """A certificate for localhost that holds for a day."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(["openssl", "req", "-x509", *curve, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)


async def test_a_call_that_is_silent_for_longer_than_the_ping_interval_lives(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay_server.rpc.server.MIN_PING_INTERVAL_MS", 20)  # seconds of silence instead of minutes
    harness = await start()
    options = [("grpc.keepalive_time_ms", 100), ("grpc.http2.max_pings_without_data", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(harness.address, options=options) as channel:
        stream = harness.scoring_on(channel).StreamPairs()
        await stream.write(head())
        await stream.initial_metadata()
        await asyncio.sleep(6)  # gRPC sends one ping a second at most, and three too early ones end a connection
        await stream.write(batch(0))
        assert (await stream.read()).sequence == 0
        await stream.done_writing()
        assert await stream.code() == grpc.StatusCode.OK


async def test_one_connection_opens_no_more_calls_at_once_than_are_allowed(start: Start) -> None:
    harness = await start(max_concurrent_streams=3)

    async def one_call() -> None:
        stream = harness.scoring.StreamPairs()
        await stream.write(head())
        await stream.initial_metadata()
        opened.append(stream)
        await stream.read()

    opened: list[Any] = []
    calls = [asyncio.create_task(one_call()) for _ in range(5)]
    await until(lambda: len(opened) == 3)
    await asyncio.sleep(0.2)
    assert len(opened) == 3
    await opened[0].done_writing()
    await until(lambda: len(opened) == 4)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
