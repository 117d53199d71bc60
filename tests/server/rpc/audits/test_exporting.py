"""Exports over a real channel: the report, Parquet in chunks, and what is left of one that nobody reads on."""

import grpc
from assay.v1 import audit_service_pb2 as service
from assay_server.rpc.audits.exporting import CHUNK_BYTES
from assay_server.subject.types import Pair

from tests.support.audited import audited
from tests.support.fake_rows import chat
from tests.support.harness import Harness, Start, settled
from tests.support.wire import refused


async def exported(harness: Harness, name: str, form: int = 0) -> list[bytes]:
    call = harness.audits.ExportAudit(service.ExportAuditRequest(name=name, format=form))
    return [chunk.data async for chunk in call]


async def test_parquet_comes_in_chunks_that_make_the_file(harness: Harness) -> None:
    chunks = await exported(harness, await audited(harness), service.ExportAuditRequest.FORMAT_PARQUET)
    assert b"".join(chunks) == harness.library.parquet
    assert [len(chunk) for chunk in chunks[:-1]] == [CHUNK_BYTES] * (len(chunks) - 1)
    assert 0 < len(chunks[-1]) <= CHUNK_BYTES < 1 << 20
    assert len(chunks) > 1


async def test_the_report_is_one_html_page(harness: Harness) -> None:
    name = await audited(harness)
    for form in (service.ExportAuditRequest.FORMAT_UNSPECIFIED, service.ExportAuditRequest.FORMAT_HTML):
        page = b"".join(await exported(harness, name, form)).decode()
        assert page.startswith("<!doctype html>")
        assert "Tea" in page


async def test_a_report_outlives_its_dataset(harness: Harness) -> None:
    name = await audited(harness)
    await harness.audits.DeleteDataset(service.DeleteDatasetRequest(name=(await harness.library.audits.get(name)).dataset))
    assert b"".join(await exported(harness, name)).startswith(b"<!doctype html>")


async def test_an_export_that_nobody_reads_on_leaves_nothing(harness: Harness) -> None:
    harness.library.parquet = bytes(32 << 20)
    call = harness.audits.ExportAudit(service.ExportAuditRequest(name=await audited(harness), format=2))
    assert len((await call.read()).data) == CHUNK_BYTES
    assert not harness.server.state.idle.is_set()
    call.cancel()
    await settled(harness)


async def test_exports_count_as_streams(start: Start) -> None:
    harness = await start(max_streams=1)
    harness.library.parquet = bytes(32 << 20)
    name = await audited(harness)
    call = harness.audits.ExportAudit(service.ExportAuditRequest(name=name, format=2))
    await call.read()
    error = await refused(harness.audits.ExportAudit(service.ExportAuditRequest(name=name, format=2)).read())
    assert (error.code, error.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
    call.cancel()
    await settled(harness)


async def test_an_unknown_export_format_is_refused(harness: Harness) -> None:
    error = await refused(harness.audits.ExportAudit(service.ExportAuditRequest(name="audits/a", format=9)).read())
    assert (error.info.reason, error.violations) == ("UNKNOWN_ENUM_VALUE", ["format"])


async def test_lone_surrogates_of_a_file_do_not_break_the_answer(harness: Harness) -> None:
    pairs = [Pair(chat("half \ud83c"), "a\udc89b", "c", "\ud800", {"\ud800": "\ud800"})]
    dataset = harness.library.store(pairs, "Odd").name
    operation = await harness.audits.CreateAudit(service.CreateAuditRequest(dataset=dataset))
    await harness.library.operations.wait(operation.name)
    name = harness.library.operations.get(operation.name).target
    found = await harness.audits.GetHypothesis(service.GetHypothesisRequest(name=f"{name}/hypotheses/global-1"))
    assert found.hypothesis.supporting[0].pair.chosen == "a?b"
    assert len(b"".join(await exported(harness, name))) > 0
