"""UploadPairs over a real channel: order, resuming, limits, back-pressure, bad pairs, and what a broken upload leaves."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from assay.v1 import audit_service_pb2, audit_service_pb2_grpc, pair_pb2
from assay_server.errors import FailedPrecondition
from assay_server.subject.types import Message, Pair

from tests.client.support.proxy import CuttingProxy
from tests.support.harness import Harness, Start, settled
from tests.support.waiting import PATIENCE, until
from tests.support.wire import Rich, pair, refused, rich, turns

Request = audit_service_pb2.UploadPairsRequest


def head(request_id: str = "up", display_name: str = "") -> Request:
    return Request(options={"request_id": request_id, "display_name": display_name})


def batch(sequence: int, *pairs: pair_pb2.Pair) -> Request:
    return Request(batch={"sequence": sequence, "pairs": pairs or [pair(sequence)]})


def end(pairs: int) -> Request:
    return Request(end={"pairs": pairs})


async def upload(harness: Harness, *messages: Request, pairs: int) -> Any:
    return (await harness.audits.UploadPairs(iter([*messages, end(pairs)]))).dataset


async def refused_upload(harness: Harness, *messages: Request) -> Rich:
    """The status that an upload ends with, through the synchronous client: the other one loses it where a write is under way."""

    def run() -> Rich:
        with grpc.insecure_channel(harness.address) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                audit_service_pb2_grpc.AuditServiceStub(channel).UploadPairs(iter(messages), timeout=PATIENCE)
            return rich(caught.value)

    return await asyncio.to_thread(run)


async def where(harness: Harness, request_id: str = "up") -> Any:
    return await harness.audits.GetUpload(audit_service_pb2.GetUploadRequest(request_id=request_id))


async def test_pairs_become_a_dataset(harness: Harness) -> None:
    pairs = [pair(0, metadata={"topic": "tea"}), pair(1, text="raw prompt"), pair(2, conversation=turns("system", "user"))]
    dataset = await upload(harness, head(display_name="Tea"), batch(0, *pairs[:2]), batch(1, pairs[2]), pairs=3)
    assert dataset.name == f"datasets/{dataset.fingerprint[:24]}"
    assert (dataset.pairs, dataset.prompts, list(dataset.metadata_keys)) == (3, 3, ["topic"])
    assert dataset.create_time.seconds > 0
    stored = [one for part in harness.library.appends["up"] for one in part]
    assert stored[0] == Pair((Message("user", "question 0"),), pairs[0].chosen, pairs[0].rejected, "pair-0", {"topic": "tea"})
    assert stored[1].prompt == "raw prompt"
    position = await where(harness)
    assert (position.next_sequence, position.pairs, position.dataset) == (2, 3, dataset)
    assert 'assay_pairs_total{code="OK",method="UploadPairs"} 3.0' in harness.metrics.exposition().decode()


async def test_an_unknown_upload_stands_at_its_beginning(harness: Harness) -> None:
    position = await where(harness, "never-seen")
    assert (position.next_sequence, position.pairs, position.HasField("dataset")) == (0, 0, False)


async def test_a_finished_upload_that_is_sent_again_gives_the_same_dataset(harness: Harness) -> None:
    messages = [head(), batch(0), batch(1)]
    first = await upload(harness, *messages, pairs=2)
    assert await upload(harness, *messages, pairs=2) == first
    assert await upload(harness, head(), pairs=2) == first
    assert (await harness.audits.UploadPairs(iter(messages))).dataset == first, "it is complete: no end is needed to be told so"
    assert len(harness.library.appends["up"]) == 2


async def test_a_finished_upload_that_is_sent_again_as_another_number_of_pairs_is_refused(harness: Harness) -> None:
    await upload(harness, head(), batch(0), batch(1), pairs=2)
    error = await refused_upload(harness, head(), batch(0), batch(1), batch(2), end(3))
    assert (error.code, error.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_INCOMPLETE")
    assert (error.info.metadata["stored"], error.info.metadata["announced"]) == ("2", "3")


async def test_a_stream_that_closes_without_its_end_completes_nothing_and_keeps_its_batches(harness: Harness) -> None:
    for messages in ([head()], [head(), batch(0), batch(1)]):
        error = await refused_upload(harness, *messages)
        assert (error.code, error.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_INCOMPLETE")
    assert dict(error.info.metadata) == {"stored": "2", "next_sequence": "2"}
    position = await where(harness)
    assert (position.next_sequence, position.pairs, position.HasField("dataset")) == (2, 2, False)
    assert (await upload(harness, head(), batch(2), pairs=3)).pairs == 3


@pytest.mark.parametrize("announced", [0, 1, 3, -2, 1 << 62])
async def test_an_end_that_announces_another_number_than_is_stored_completes_nothing(harness: Harness, announced: int) -> None:
    error = await refused_upload(harness, head(), batch(0), batch(1), end(announced))
    assert (error.code, error.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_INCOMPLETE")
    assert dict(error.info.metadata) == {"stored": "2", "announced": str(announced)}
    assert not (await where(harness)).HasField("dataset")
    assert (await upload(harness, head(), pairs=2)).pairs == 2


async def test_an_upload_that_is_cancelled_midway_goes_on_where_it_stood(harness: Harness) -> None:
    call = harness.audits.UploadPairs()
    await call.write(head())
    for number in range(3):
        await call.write(batch(number))
    await until(lambda: len(harness.library.appends.get("up", [])) == 3)
    call.cancel()
    await settled(harness)
    position = await where(harness)
    assert (position.next_sequence, position.pairs, position.HasField("dataset")) == (3, 3, False)
    dataset = await upload(harness, head(), *[batch(number) for number in range(position.next_sequence, 6)], pairs=6)
    assert dataset.pairs == 6
    assert await upload(harness, head("whole"), *[batch(number) for number in range(6)], pairs=6) == dataset


async def test_a_connection_that_is_cut_midway_makes_no_dataset(harness: Harness) -> None:
    proxy = CuttingProxy(harness.server.port)
    channel = grpc.aio.insecure_channel(proxy.address)
    audits: Any = audit_service_pb2_grpc.AuditServiceStub(channel)
    try:
        for number in range(5):
            name = f"up-{number}"
            call = audits.UploadPairs()
            await call.write(head(name))
            await call.write(batch(0))
            await until(lambda name=name: len(harness.library.appends.get(name, [])) == 1)
            proxy.cut()
            with pytest.raises(grpc.aio.AioRpcError):
                await call
            await settled(harness)
            position = await where(harness, name)
            assert (position.next_sequence, position.pairs, position.HasField("dataset")) == (1, 1, False)
    finally:
        await channel.close()
        proxy.close()
    assert (await upload(harness, head("up-0"), batch(1), pairs=2)).pairs == 2


async def test_batches_that_are_stored_already_are_skipped_and_a_gap_names_what_is_expected(harness: Harness) -> None:
    await upload(harness, head("other"), batch(0), batch(1), pairs=2)
    again = await refused_upload(harness, head(), batch(0), batch(1), batch(0), batch(3))
    assert (again.code, again.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SEQUENCE_GAP")
    assert again.info.metadata["expected"] == "2"
    assert (await where(harness)).next_sequence == 2
    assert (await upload(harness, head(), batch(1), batch(2), pairs=3)).pairs == 3


BAD_PAIRS = {
    "empty response": pair(1, chosen=""),
    "no prompt": pair(1, conversation=None),
    "two user turns": pair(1, conversation=turns("user", "user")),
    "unknown role": pair(1, conversation=turns("narrator")),
    "long text": pair(1, chosen="x" * 5000),
    "long id": pair(1, id="x" * 1000),
    "much metadata": pair(1, metadata={"key": "x" * 20_000}),
}


@pytest.mark.parametrize("kind", list(BAD_PAIRS))
async def test_a_bad_pair_is_stored_in_its_place_and_does_not_end_the_upload(start: Start, kind: str) -> None:
    harness = await start(max_text_bytes=4096)
    bad = BAD_PAIRS[kind]
    dataset = await upload(harness, head(), batch(0, pair(0), bad, pair(2)), pairs=3)
    assert dataset.pairs == 3
    stored = harness.library.appends["up"][0]
    assert [one.id for one in stored] == ["pair-0", bad.id, "pair-2"]
    assert (stored[1].chosen, stored[1].rejected, dict(stored[1].metadata)) == (bad.chosen, bad.rejected, dict(bad.metadata))


@pytest.mark.parametrize(
    ("messages", "reason", "field"),
    [
        ([], "STREAM_ORDER", "options"),
        ([batch(0)], "STREAM_ORDER", "options"),
        ([Request()], "STREAM_ORDER", "options"),
        ([head("")], "INVALID_REQUEST_ID", "options.request_id"),
        ([head("-")], "INVALID_REQUEST_ID", "options.request_id"),
        ([head("a b")], "INVALID_REQUEST_ID", "options.request_id"),
        ([head("../../etc")], "INVALID_REQUEST_ID", "options.request_id"),
        ([head("x" * 65)], "INVALID_REQUEST_ID", "options.request_id"),
        ([head("up", "é" * 129)], "TEXT_TOO_LONG", "options.display_name"),
        ([head(), head()], "STREAM_ORDER", "options"),
        ([head(), Request()], "STREAM_ORDER", "payload"),
        ([head(), batch(-1)], "SEQUENCE_ORDER", "batch.sequence"),
        ([head(), Request(batch={"sequence": 0})], "EMPTY_REQUEST", "batch.pairs"),
        ([head(), batch(0, *[pair(n) for n in range(5)])], "TOO_MANY_PAIRS", "batch.pairs"),
        ([end(0)], "STREAM_ORDER", "options"),
        ([head(), batch(0), end(1), batch(1)], "STREAM_ORDER", "batch"),
        ([head(), batch(0), end(1), end(1)], "STREAM_ORDER", "end"),
        ([head(), batch(0), end(1), head()], "STREAM_ORDER", "options"),
        ([head(), batch(0), end(1), Request()], "STREAM_ORDER", "payload"),
    ],
)
async def test_a_stream_out_of_order_is_refused_with_the_field(
    start: Start, messages: list[Request], reason: str, field: str
) -> None:
    harness = await start(max_pairs_per_message=4)
    error = await refused_upload(harness, *messages)
    assert (error.code, error.info.reason, error.violations) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [field])
    assert not (await where(harness)).HasField("dataset")


async def test_an_upload_without_pairs_is_refused(harness: Harness) -> None:
    assert (await refused_upload(harness, head(), end(0))).info.reason == "EMPTY_DATASET"


async def test_a_dataset_over_its_limits_is_refused_with_both_numbers_and_keeps_what_fitted(start: Start) -> None:
    harness = await start(max_dataset_pairs=3, max_upload_bytes=2048)
    error = await refused_upload(harness, head(), batch(0), batch(1, pair(1), pair(2)), batch(2))
    assert (error.code, error.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DATASET_TOO_LARGE")
    assert dict(error.info.metadata) == {"pairs": "4", "max_dataset_pairs": "3"}
    assert (await where(harness)).pairs == 3
    assert (await upload(harness, head(), pairs=3)).pairs == 3
    error = await refused_upload(harness, head("large"), batch(0, pair(chosen="x" * 3000)))
    assert error.info.metadata["max_upload_bytes"] == "2048"


async def test_the_bytes_of_an_upload_are_counted_over_all_its_streams(start: Start) -> None:
    harness = await start(max_upload_bytes=4096)
    batches = [batch(number, pair(number, chosen="x" * 1500)) for number in range(3)]
    for one in batches[:2]:
        await refused_upload(harness, head(), one)
    error = await refused_upload(harness, head(), *batches)
    assert (error.code, error.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DATASET_TOO_LARGE")
    assert dict(error.info.metadata) == {"bytes": str(sum(one.ByteSize() for one in batches)), "max_upload_bytes": "4096"}
    assert (await upload(harness, head(), pairs=2)).pairs == 2


async def test_reading_stops_where_storing_is_slow(harness: Harness) -> None:
    harness.library.gate.clear()
    call = harness.audits.UploadPairs()
    await call.write(head())
    written = 0

    async def push() -> None:
        nonlocal written
        for number in range(300):
            await call.write(batch(number, pair(number, chosen="x" * 65_536)))
            written += 1
        await call.write(end(300))
        await call.done_writing()

    pushing = asyncio.ensure_future(push())
    await until(lambda: written > 0)
    before = -1
    while before != written:
        before = written
        await asyncio.sleep(0.2)
    assert written < 60, "the client was let to push megabytes that nobody stores"
    harness.library.gate.set()
    await pushing
    assert (await call).dataset.pairs == 300


async def test_a_fault_of_the_store_arrives_with_its_reason_and_leaves_nothing_open(harness: Harness) -> None:
    harness.library.failing = [FailedPrecondition("The disk is full.", reason="DISK_FULL")]
    error = await refused_upload(harness, head(), batch(0))
    assert (error.code, error.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DISK_FULL")
    await settled(harness)
    assert (await upload(harness, head(), batch(0), pairs=1)).pairs == 1


async def test_uploads_count_as_streams(start: Start) -> None:
    harness = await start(max_streams=1)
    open_call = harness.audits.UploadPairs()
    await open_call.write(head())
    await until(lambda: "up" in harness.library.appends)
    error = await refused_upload(harness, head("second"), batch(0))
    assert (error.code, error.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
    assert error.retry_seconds is not None
    open_call.cancel()
    await settled(harness)
    assert (await upload(harness, head("second"), batch(0), pairs=1)).pairs == 1


async def test_a_drain_ends_an_open_upload_as_unavailable_and_keeps_its_batches(start: Start) -> None:
    harness = await start(drain_seconds=PATIENCE)

    async def endless() -> AsyncIterator[Request]:
        yield head()
        for number in range(2):
            yield batch(number)
        await asyncio.sleep(60)

    call = harness.audits.UploadPairs(endless())
    await until(lambda: len(harness.library.appends.get("up", [])) == 2)
    assert await harness.server.drain() is True
    error = await refused(call)
    assert (error.code, error.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert len(harness.library.appends["up"]) == 2
