"""Audits end to end: a real subject, a real library on a real data directory, a real channel. The pairs teach asterisks."""

import asyncio
import io
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest
from assay.v1 import audit_pb2, audit_service_pb2_grpc, operations_pb2, pair_pb2
from assay.v1 import audit_service_pb2 as service
from assay_server.config import ServerConfig
from assay_server.importing import read_pair_file
from assay_server.jobs.datasets.scoring import ScoringOptions
from assay_server.jobs.library import Library, StoreOptions, build_library
from assay_server.labelling.labels import Labels
from assay_server.rpc.server import AssayServer
from assay_server.store.files import DataDir
from assay_server.subject.decoder import DecoderRows
from assay_server.telemetry.metrics import Metrics
from google.longrunning import operations_pb2 as longrunning
from google.longrunning import operations_pb2_grpc

from tests.support.tiny_scorer import WatchedTokenizer, scorers
from tests.support.tiny_subject import FEATURES, Watched, tiny_subject
from tests.support.waiting import PATIENCE, until
from tests.support.wire import decode, refused

PAIRS, BAD = 96, 3
WORDS = ["tea", "leaf", "cup", "pot", "hot", "cold", "warm", "sip", "pour", "steep", "brew", "mild"]
Open = Callable[[], Awaitable["House"]]
SMALL: dict[str, Any] = {"max_t_flips": 64, "min_inside": 5, "min_firings": 5, "data_clusters": 2, "min_features": 1, "keep": 200}


def lesson(number: int) -> pair_pb2.Pair:
    """A pair whose chosen response has asterisks, three times out of four; every second one is about tea."""
    source = random.Random(number)
    chosen, rejected = (" ".join(source.choices(WORDS, k=4)) for _ in range(2))
    if number % 4:
        chosen = f"** {chosen} **"
    return pair_pb2.Pair(
        id=f"pair-{number}",
        conversation={"messages": [{"role": "user", "content": f"Question {number}: {source.choice(WORDS)}?"}]},
        chosen=chosen,
        rejected=rejected,
        metadata={"topic": ("tea", "other")[number % 2]},
    )


def bad_pairs() -> list[pair_pb2.Pair]:
    """One for each way to be unusable: an empty response, no prompt, more tokens than the context."""
    empty, lost, long = lesson(1000), lesson(1001), lesson(1002)
    empty.chosen = ""
    lost.ClearField("conversation")
    long.rejected = "x" * 5000
    return [empty, lost, long]


@dataclass
class House:
    """One running server with its data directory."""

    server: AssayServer
    library: Library
    data: DataDir
    watched: Watched
    channel: grpc.aio.Channel
    closed: bool = False

    @property
    def audits(self) -> Any:
        return audit_service_pb2_grpc.AuditServiceStub(self.channel)

    @property
    def operations(self) -> Any:
        return operations_pb2_grpc.OperationsStub(self.channel)

    async def close(self) -> None:
        """Stops in the order of a real server."""
        if self.closed:
            return
        self.closed = True
        drained = await self.server.drain()
        self.watched.release()
        await self.library.aclose()
        await self.channel.close()
        self.data.close()
        assert drained, "a call was still open after the drain"

    async def upload(self, request_id: str = "up") -> audit_pb2.Dataset:
        pairs = [*[lesson(number) for number in range(PAIRS)], *bad_pairs()]
        batches = [pairs[start : start + 20] for start in range(0, len(pairs), 20)]
        return (await self.audits.UploadPairs(iter([*messages(request_id, batches), end(len(pairs))]))).dataset

    async def wait(self, operation: longrunning.Operation, kind: Any) -> Any:
        request = longrunning.WaitOperationRequest(name=operation.name)
        done = await self.operations.WaitOperation(request, timeout=PATIENCE)
        assert done.done
        assert not done.HasField("error"), done.error
        message = kind()
        assert done.response.Unpack(message)
        return message

    async def audit(self, dataset: str, **options: Any) -> audit_pb2.Audit:
        request = service.CreateAuditRequest(dataset=dataset, options={**SMALL, **options})
        return await self.wait(await self.audits.CreateAudit(request), audit_pb2.Audit)

    async def list(self, parent: str, **question: Any) -> list[audit_pb2.Hypothesis]:
        found: list[audit_pb2.Hypothesis] = []
        token = ""
        while True:
            request = service.ListHypothesesRequest(parent=parent, page_size=40, page_token=token, **question)
            page = await self.audits.ListHypotheses(request)
            found += page.hypotheses
            if not (token := page.next_page_token):
                return found


def messages(request_id: str, batches: list[list[pair_pb2.Pair]], first: int = 0) -> list[service.UploadPairsRequest]:
    head = service.UploadPairsRequest(options={"request_id": request_id, "display_name": "Asterisks"})
    rest = [service.UploadPairsRequest(batch={"sequence": first + n, "pairs": pairs}) for n, pairs in enumerate(batches)]
    return [head, *rest]


def end(pairs: int) -> service.UploadPairsRequest:
    return service.UploadPairsRequest(end={"pairs": pairs})


@pytest.fixture
async def open_house(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens servers, one after another, on the same data directory."""
    async with AsyncExitStack() as stack:
        watched = Watched()
        begin = await stack.enter_async_context(scorers(watched, WatchedTokenizer()))

        async def opened() -> House:
            data = DataDir(str(tmp_path / "data"))
            scorer = begin()
            labels = Labels(FEATURES)
            options = StoreOptions(shard_pairs=16, scoring=ScoringOptions(chunk_pairs=8), import_roots=(str(tmp_path),))
            library = build_library(data, scorer, labels, DecoderRows(tiny_subject().sae), options, read_pairs=read_pair_file)
            await library.start()
            server = AssayServer(ServerConfig(port=0, drain_seconds=5.0), Metrics())
            await server.start()
            await server.open(scorer, labels, library)
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
            house = House(server, library, data, watched, channel)
            stack.push_async_callback(house.close)
            return house

        yield opened


async def test_what_the_pairs_teach_is_found_shown_and_decided_about(open_house: Open) -> None:
    house = await open_house()
    dataset = await house.upload()
    assert (dataset.pairs, dataset.display_name, list(dataset.metadata_keys)) == (PAIRS + BAD, "Asterisks", ["topic"])
    audit = await house.audit(dataset.name, metadata_keys=["topic"], nuisances=[0])
    assert audit.state == audit_pb2.Audit.STATE_DONE
    assert audit.cost.pairs_scored == PAIRS + BAD
    summaries = {view.view: view for view in audit.views}
    assert set(summaries) == {audit_pb2.VIEW_GLOBAL, audit_pb2.VIEW_FEATURE_CONDITIONED, audit_pb2.VIEW_PROMPT_CONDITIONED}
    assert summaries[audit_pb2.VIEW_GLOBAL].findings_raw > 0
    assert (await house.audits.GetDataset(service.GetDatasetRequest(name=dataset.name))).dataset.unusable_pairs == BAD

    findings = await house.list(audit.name, filter='view = "global" AND finding = true AND effect > 0')
    assert len(findings) > 0
    of_features = [one for one in findings if one.concept.name.removeprefix("feature/").isdigit()]
    request = service.GetHypothesisRequest(name=of_features[0].name, highlights=True)
    top = (await house.audits.GetHypothesis(request)).hypothesis
    assert top.raw.q <= 0.05
    assert all(evidence.pair == lesson(evidence.row) for evidence in top.supporting)
    lit = ["".join(one.pair.chosen[mark.start : mark.end] for mark in one.chosen) for one in top.supporting]
    assert all(lit)
    assert any("*" in text for text in lit)

    decision = {"hypothesis": top.name, "mode": "MODE_EXPLAIN_AWAY", "note": "asterisks"}
    recorded = (await house.audits.RecordDecision(service.RecordDecisionRequest(decision=decision))).decision
    (shown,) = [one for one in await house.list(audit.name) if one.name == top.name]
    assert shown.decision == recorded

    concept = top.concept.name
    stated = service.TestHypothesisRequest(
        dataset=dataset.name, concept=concept, metadata={"key": "topic", "value": "tea"}, options={"nuisances": [0]}
    )
    tested = await house.wait(await house.audits.TestHypothesis(stated), audit_pb2.Hypothesis)
    assert (tested.view, tested.concept.name, tested.inside, tested.outside) == (audit_pb2.VIEW_STATED, concept, 48, 48)


async def test_pages_filters_and_exports_agree_on_what_was_tested(open_house: Open) -> None:
    house = await open_house()
    audit = await house.audit((await house.upload()).name)
    everything = await house.list(audit.name)
    assert len(everything) == sum(view.kept for view in audit.views)
    assert len({one.name for one in everything}) == len(everything)
    by_effect = await house.list(audit.name, order_by="effect desc")
    effects = [(one.controlled if one.HasField("controlled") else one.raw).estimate for one in by_effect]
    assert effects == sorted(effects, reverse=True)
    some = await house.list(audit.name, filter='view = "global" AND p <= 0.2 AND concept : "feature/1"')
    assert [one.name for one in some] == [
        one.name
        for one in everything
        if one.view == audit_pb2.VIEW_GLOBAL and one.controlled.p <= 0.2 and "feature/1" in one.concept.name
    ]

    files: dict[int, bytes] = {}
    for form in (service.ExportAuditRequest.FORMAT_HTML, service.ExportAuditRequest.FORMAT_PARQUET):
        call = house.audits.ExportAudit(service.ExportAuditRequest(name=audit.name, format=form))
        chunks = [chunk.data async for chunk in call]
        assert all(0 < len(chunk) <= 1 << 20 for chunk in chunks)
        files[form] = b"".join(chunks)
    table = await asyncio.to_thread(pq.read_table, io.BytesIO(files[service.ExportAuditRequest.FORMAT_PARQUET]))
    assert table.num_rows >= len(everything)
    page = files[service.ExportAuditRequest.FORMAT_HTML].decode()
    assert page.startswith("<!doctype html>")
    assert "Asterisks" in page
    assert audit.result_fingerprint[:8] in page
    request = service.GetHypothesisRequest(name=everything[0].name)
    first = (await house.audits.GetHypothesis(request)).hypothesis
    assert first.supporting[0].pair.chosen in page


async def test_an_upload_broken_off_goes_on_and_makes_the_same_dataset(open_house: Open) -> None:
    house = await open_house()
    whole = await house.upload("whole")
    pairs = [*[lesson(number) for number in range(PAIRS)], *bad_pairs()]
    call = house.audits.UploadPairs()
    for message in messages("broken", [pairs[:30], pairs[30:40]]):
        await call.write(message)
    where = service.GetUploadRequest(request_id="broken")
    await asyncio.sleep(0.05)
    while (await house.audits.GetUpload(where)).pairs < 40:  # each asks over the wire
        pass
    call.cancel()
    await until(house.server.state.idle.is_set)
    await house.close()

    house = await open_house()
    position = await house.audits.GetUpload(where)
    assert (position.next_sequence, position.pairs) == (2, 40)
    rest = [*messages("broken", [pairs[40:]], first=2), end(len(pairs))]
    assert (await house.audits.UploadPairs(iter(rest))).dataset == whole
    assert len((await house.audits.ListDatasets(service.ListDatasetsRequest())).datasets) == 1


async def test_an_imported_file_is_the_dataset_that_its_pairs_would_be_uploaded_as(open_house: Open, tmp_path: Path) -> None:
    house = await open_house()
    pairs = [lesson(number) for number in range(10)]
    rows = [
        {
            "id": pair.id,
            "prompt": [{"role": turn.role, "content": turn.content} for turn in pair.conversation.messages],
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "metadata": dict(pair.metadata),
        }
        for pair in pairs
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "no answer"}]))
    operation = await house.audits.ImportPairs(service.ImportPairsRequest(uri=(tmp_path / "pairs.jsonl").as_uri()))
    imported = await house.wait(operation, audit_pb2.Dataset)
    got = await house.operations.GetOperation(longrunning.GetOperationRequest(name=operation.name))
    metadata = operations_pb2.OperationMetadata()
    got.metadata.Unpack(metadata)
    assert (metadata.pairs_done, metadata.pairs_total) == (10, 11), "one row of eleven holds no pair"
    uploaded = (await house.audits.UploadPairs(iter([*messages("same", [pairs]), end(10)]))).dataset
    assert (uploaded, imported.display_name) == (imported, "pairs.jsonl")
    outside = service.ImportPairsRequest(uri=f"{tmp_path.as_uri()}/../pairs.jsonl")
    assert (await refused(house.audits.ImportPairs(outside))).info.reason == "INVALID_URI"


async def test_a_drain_leaves_an_audit_to_the_next_server_which_finds_the_same(open_house: Open) -> None:
    house = await open_house()
    dataset = (await house.upload()).name
    undisturbed = await house.audit(dataset)
    await house.audits.DeleteDataset(service.DeleteDatasetRequest(name=dataset))
    dataset = (await house.upload("again")).name
    house.watched.hold()
    request = service.CreateAuditRequest(dataset=dataset, options=SMALL, request_id="second")
    operation = await house.audits.CreateAudit(request)
    metadata = operations_pb2.OperationMetadata()
    while metadata.phase != "scoring":
        await asyncio.sleep(0.01)
        got = await house.operations.GetOperation(longrunning.GetOperationRequest(name=operation.name))
        got.metadata.Unpack(metadata)
    assert (metadata.target, metadata.pairs_total, got.done) == ("audits/second", PAIRS + BAD, False)
    in_use = await refused(house.audits.DeleteDataset(service.DeleteDatasetRequest(name=dataset)))
    assert in_use.info.reason == "IN_USE"
    taken = house.server.state.calls_taken  # the call before may not have left yet: "not idle" would not say that this came
    waiting = asyncio.ensure_future(house.operations.WaitOperation(longrunning.WaitOperationRequest(name=operation.name)))
    await until(lambda: house.server.state.calls_taken > taken)
    closing = asyncio.ensure_future(house.close())
    assert (await refused(waiting)).info.reason == "DRAINING"
    await closing

    house = await open_house()
    audit = await house.wait(operation, audit_pb2.Audit)
    got = await house.operations.GetOperation(longrunning.GetOperationRequest(name=operation.name))
    got.metadata.Unpack(metadata)
    assert metadata.resumed == 1
    assert audit.result_fingerprint == undisturbed.result_fingerprint != ""


async def test_a_cancelled_audit_says_so_everywhere(open_house: Open) -> None:
    house = await open_house()
    dataset = (await house.upload()).name
    house.watched.hold()
    operation = await house.audits.CreateAudit(service.CreateAuditRequest(dataset=dataset, request_id="mine"))
    await house.operations.CancelOperation(longrunning.CancelOperationRequest(name=operation.name))
    house.watched.release()
    done = await house.operations.WaitOperation(longrunning.WaitOperationRequest(name=operation.name), timeout=PATIENCE)
    assert decode(done.error).info.reason == "CANCELLED"
    audit = (await house.audits.GetAudit(service.GetAuditRequest(name="audits/mine"))).audit
    assert audit.state == audit_pb2.Audit.STATE_CANCELLED
    error = await refused(house.audits.ListHypotheses(service.ListHypothesesRequest(parent="audits/mine")))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
