"""Uploads over the wire, blocking and async by the same tests: resumed by sequence, bounded, one dataset for equal pairs."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from assay import (
    AsyncClient,
    Client,
    ConnectionFailed,
    Dataset,
    Flow,
    InputError,
    InvalidRequest,
    Pair,
    ServerFault,
    chat,
)
from assay.data import RowError
from assay.flow import ENVELOPE_BYTES
from assay.model import Limits
from assay.upload import Parcels, request_id_of
from assay.v1 import audit_pb2
from assay.v1 import audit_service_pb2 as service

from tests.client.conftest import QUICK, pairs
from tests.client.support.proxy import CuttingProxy
from tests.client.support.server import ScriptedServer, rich_status

Upload = Callable[..., Dataset]
TINY = Flow(pairs_per_message=3, bytes_in_flight=1000)
LOST = rich_status("UNAVAILABLE", "going away")


def upload_sync(address: str, given: Any, *, flow: Flow = TINY, **kwargs: Any) -> Dataset:
    with Client(address, flow=flow, retry=QUICK) as client:
        return client.upload_pairs(given, **kwargs)


def upload_async(address: str, given: Any, *, flow: Flow = TINY, **kwargs: Any) -> Dataset:
    async def go() -> Dataset:
        async with AsyncClient(address, flow=flow, retry=QUICK) as client:
            return await client.upload_pairs(given, **kwargs)

    return asyncio.run(go())


@pytest.fixture(params=[upload_sync, upload_async], ids=["sync", "async"])
def upload(request: pytest.FixtureRequest) -> Upload:
    return request.param


def stored(server: ScriptedServer, request_id: str) -> list[str]:
    return [pair.id for batch in server.shelf.uploads.get(request_id, []) for pair in batch]


def ids(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


def test_every_pair_arrives_once_and_in_order(server: ScriptedServer, upload: Upload) -> None:
    told: list[int] = []
    dataset = upload(server.address, iter(pairs(50)), request_id="up", display_name="fifty", on_progress=told.append)
    assert (dataset.pairs, dataset.display_name) == (50, "fifty")
    assert stored(server, "up") == ids(50)
    assert [len(batch) for batch in server.shelf.uploads["up"]] == [3] * 16 + [2]
    assert told == sorted(told)
    assert told[-1] == 50
    assert dataset.create_time is not None
    assert dataset.create_time.isoformat() == "2023-11-14T22:13:20+00:00"


def test_a_connection_that_breaks_again_and_again_costs_no_pair_and_doubles_none(server: ScriptedServer, upload: Upload) -> None:
    server.shelf.upload_ends.extend([(2, LOST), (0, LOST), (5, LOST), (1, LOST)])
    dataset = upload(server.address, iter(pairs(60)), request_id="up")
    assert dataset.pairs == 60
    assert stored(server, "up") == ids(60)
    for earlier, later in zip(server.shelf.received, server.shelf.received[1:], strict=False):
        assert not earlier or not later or later[0] <= earlier[-1] + 1


def test_a_server_that_fails_after_the_last_batch_is_asked_again_and_completes(server: ScriptedServer, upload: Upload) -> None:
    server.shelf.upload_ends.append((10, LOST))
    assert upload(server.address, iter(pairs(9)), request_id="up").pairs == 9


def test_a_cut_wire_is_mended(server: ScriptedServer, proxy: CuttingProxy, upload: Upload) -> None:
    server.shelf.seconds_a_batch = 0.01

    def given() -> Iterator[Pair]:
        for count, pair in enumerate(pairs(90)):
            if count in (20, 60):
                proxy.cut()
            yield pair

    assert upload(proxy.address, given(), request_id="up").pairs == 90
    assert stored(server, "up") == ids(90)


def test_another_process_goes_on_after_what_the_server_has_whatever_its_messages_hold(
    server: ScriptedServer, upload: Upload
) -> None:
    class Enough(Exception):
        pass

    def torn() -> Iterator[Pair]:
        yield from pairs(40)[:23]
        raise Enough

    with pytest.raises(Enough):
        upload(server.address, torn(), request_id="up")
    assert not server.shelf.complete, "half of the pairs are no dataset"
    before = len(stored(server, "up"))
    told: list[int] = []
    dataset = upload(server.address, iter(pairs(40)), request_id="up", flow=Flow(pairs_per_message=7), on_progress=told.append)
    assert dataset.pairs == 40
    assert stored(server, "up") == ids(40)
    assert told[0] > before


def test_equal_pairs_have_an_equal_id_so_that_a_rerun_sends_nothing(server: ScriptedServer, upload: Upload) -> None:
    first = upload(server.address, pairs(10))
    again = upload(server.address, pairs(10))
    assert first == again
    assert len(server.shelf.received) == 1
    upload(server.address, pairs(11))
    assert len(server.shelf.uploads) == 2


def test_a_file_is_known_by_its_content_and_how_it_is_read(server: ScriptedServer, upload: Upload, tmp_path: Path) -> None:
    file, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    rows = [{"prompt": f"q{i}", "chosen": "a", "rejected": "b"} for i in range(5)]
    for path in (file, copy):
        path.write_text("\n".join(map(json.dumps, rows)))
    dataset = upload(server.address, file)
    assert (dataset.pairs, dataset.display_name) == (5, "a.jsonl")
    assert upload(server.address, str(copy)) == dataset
    assert len(server.shelf.received) == 1
    from assay.data import open_pairs

    assert request_id_of(open_pairs(file, as_="text")) != request_id_of(file)


def test_a_row_that_holds_no_pair_ends_the_upload_by_name(server: ScriptedServer, upload: Upload, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n{"prompt": "torn\n')
    with pytest.raises(RowError, match="line 2"):
        upload(server.address, file)


def test_an_id_that_stands_for_more_pairs_is_refused(server: ScriptedServer, upload: Upload) -> None:
    server.shelf.uploads["up"] = [[pair.to_proto() for pair in pairs(12)]]
    with pytest.raises(InputError, match="there are 5 pairs here, and the server has 12") as caught:
        upload(server.address, iter(pairs(5)), request_id="up")
    assert caught.value.reason == "OTHER_UPLOAD"


def test_an_id_that_made_a_dataset_of_another_number_of_pairs_is_refused(server: ScriptedServer, upload: Upload) -> None:
    upload(server.address, pairs(12), request_id="up")
    with pytest.raises(InputError, match="there are 13 pairs here, and the server has 12") as caught:
        upload(server.address, pairs(13), request_id="up")
    assert caught.value.reason == "OTHER_UPLOAD"


def test_a_dataset_of_another_number_of_pairs_than_were_sent_is_an_error(server: ScriptedServer, upload: Upload) -> None:
    server.shelf.drops_a_pair = True
    with pytest.raises(ServerFault, match="12 pairs were sent, and the server made a dataset of 11") as caught:
        upload(server.address, iter(pairs(12)), request_id="up")
    assert (caught.value.reason, caught.value.details) == ("PAIRS_DIFFER", {"sent": "12", "stored": "11"})


@pytest.mark.parametrize("count", [40, 41])
def test_an_upload_that_somebody_else_completed_meanwhile_is_only_another_ones_where_the_pairs_are(
    server: ScriptedServer, upload: Upload, count: int
) -> None:
    other = server.shelf

    def given() -> Iterator[Pair]:
        for at, pair in enumerate(pairs(count)):
            if at == 30:
                other.uploads["up"] = [[one.to_proto() for one in pairs(40)]]
                other.complete["up"] = audit_pb2.Dataset(name="datasets/other", pairs=40)
            yield pair

    if count == 40:
        assert upload(server.address, given(), request_id="up").pairs == 40
    else:
        with pytest.raises(InvalidRequest) as caught:
            upload(server.address, given(), request_id="up")
        assert caught.value.reason == "UPLOAD_INCOMPLETE"


def test_a_refusal_arrives_with_its_reason_and_is_not_repeated(server: ScriptedServer, upload: Upload) -> None:
    refusal = rich_status("INVALID_ARGUMENT", "the disk is full of pairs", reason="DATASET_TOO_LARGE", details={"pairs": "9"})
    server.shelf.upload_ends.extend([(0, refusal)] * 4)
    with pytest.raises(InvalidRequest, match="full of pairs") as caught:
        upload(server.address, iter(pairs(90)), request_id="up")
    assert caught.value.reason == "DATASET_TOO_LARGE"
    assert caught.value.details == {"pairs": "9"}


def test_a_server_that_never_answers_is_given_up(server: ScriptedServer, upload: Upload) -> None:
    server.shelf.upload_ends.extend([(0, LOST)] * 50)
    with pytest.raises(ConnectionFailed, match="gave up"):
        upload(server.address, iter(pairs(9)), request_id="up")


def test_a_server_that_forgot_what_it_had_is_no_reason_to_store_half(server: ScriptedServer, upload: Upload) -> None:
    given = iter(pairs(300))
    server.shelf.upload_ends.append((60, LOST))

    def forgetting() -> Iterator[Pair]:
        for count, pair in enumerate(given):
            if count == 250:
                server.shelf.forget = True
            yield pair

    with pytest.raises(ServerFault) as caught:
        upload(server.address, forgetting(), request_id="up")
    assert caught.value.reason == "UPLOAD_LOST"


def test_an_async_iterable_is_uploaded_too(server: ScriptedServer) -> None:
    async def given() -> AsyncIterator[Pair]:
        for pair in pairs(20):
            await asyncio.sleep(0)
            yield pair

    assert upload_async(server.address, given(), request_id="up").pairs == 20
    assert stored(server, "up") == ids(20)


def test_the_source_is_read_no_faster_than_the_server_stores(server: ScriptedServer, upload: Upload) -> None:
    server.shelf.seconds_a_batch = 0.02
    ahead: list[int] = []
    long = "w" * 60_000

    def given() -> Iterator[Pair]:
        for i in range(300):
            ahead.append(i - sum(map(len, server.shelf.uploads.get("up", []))))
            yield Pair(chat("?"), long, "no", id=f"p{i}")

    upload(server.address, given(), request_id="up", flow=Flow(pairs_per_message=2, bytes_in_flight=1 << 20))
    assert max(ahead) < 200, "18 MB are not read ahead of a server that stores 6 MB a second"


LIMITS = Limits(0, 5, 10_000, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def at(sequence: int) -> service.GetUploadResponse:
    return service.GetUploadResponse(next_sequence=sequence)


def drain(parcels: Parcels) -> list[int]:
    sent: list[int] = []
    while (message := parcels.next_unsent()) is not None:
        assert message.ByteSize() <= LIMITS.max_message_bytes
        sent.append(message.batch.sequence)
    return sent


def test_parcels_keep_to_the_servers_limits_and_drop_what_is_stored() -> None:
    parcels = Parcels(LIMITS, Flow(pairs_per_message=64), at(3))
    for pair in pairs(12):
        parcels.add(pair)
    parcels.flush()
    assert drain(parcels) == [3, 4, 5]
    parcels.stored(at(5))
    assert drain(parcels) == []
    parcels.stored(at(5), again=True)
    assert drain(parcels) == [5]
    parcels.stored(at(9), again=True)
    assert drain(parcels) == []


def test_a_pair_that_no_message_holds_is_named_with_both_numbers() -> None:
    parcels = Parcels(LIMITS, Flow(), at(0))
    parcels.add(pairs(1)[0])
    most = 10_000 - ENVELOPE_BYTES
    parcels.add(Pair("", "w" * (most - 40), "x", id="fits"))
    with pytest.raises(InputError, match=r"pair 3 \(id 'big'\) takes \d+ bytes, more than one message of 10000"):
        parcels.add(Pair("", "w" * most, "x", id="big"))
    with pytest.raises(InputError, match="no Unicode"):
        parcels.add(Pair("", "\ud800", "x"))
    parcels.flush()
    assert drain(parcels) == [0, 1]
