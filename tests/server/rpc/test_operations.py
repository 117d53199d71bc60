"""google.longrunning.Operations over a real channel: from asking for work to its end, and what a wait may cost."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from assay.v1 import audit_pb2, operations_pb2
from assay.v1 import audit_service_pb2 as service
from assay_server.errors import DataLoss
from google.longrunning import operations_pb2 as longrunning
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2

from tests.support.audited import PAIRS
from tests.support.harness import Harness, Start, settled
from tests.support.waiting import PATIENCE, in_time, until
from tests.support.wire import decode, refused


async def begin(harness: Harness, **fields: Any) -> longrunning.Operation:
    """An audit's operation."""
    dataset = harness.library.store(PAIRS, "Tea").name
    return await harness.audits.CreateAudit(service.CreateAuditRequest(dataset=dataset, **fields))


def metadata(operation: longrunning.Operation) -> operations_pb2.OperationMetadata:
    message = operations_pb2.OperationMetadata()
    assert operation.metadata.Unpack(message)
    return message


async def wait(harness: Harness, name: str, seconds: float | None = None, **call: Any) -> longrunning.Operation:
    request = longrunning.WaitOperationRequest(name=name)
    if seconds is not None:
        request.timeout.CopyFrom(Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9)))
    return await harness.operations.WaitOperation(request, **call)


async def test_an_operation_tells_how_far_it_is_until_it_carries_what_it_made(harness: Harness) -> None:
    harness.library.gate.clear()
    operation = await begin(harness)
    told = metadata(operation)
    assert (operation.done, operation.WhichOneof("result")) == (False, None)
    assert (told.target, told.phase, told.pairs_done, told.pairs_total) == ("audits/a0", "scoring", 10, 40)
    assert (told.pairs_per_second, told.seconds_left, told.resumed) == (5.0, 6.0, 1)
    assert told.update_time.ToMicroseconds() - told.create_time.ToMicroseconds() == 500_000
    assert await harness.operations.GetOperation(longrunning.GetOperationRequest(name=operation.name)) == operation
    harness.library.gate.set()
    done = await wait(harness, operation.name)
    assert (done.name, done.done) == (operation.name, True)
    audit = audit_pb2.Audit()
    assert done.response.Unpack(audit)
    assert audit == (await harness.audits.GetAudit(service.GetAuditRequest(name="audits/a0"))).audit


async def test_each_kind_of_work_carries_its_own_kind_of_result(harness: Harness) -> None:
    dataset = harness.library.store(PAIRS).name
    test = await harness.audits.TestHypothesis(service.TestHypothesisRequest(dataset=dataset, concept="feature/1"))
    imported = await harness.audits.ImportPairs(service.ImportPairsRequest(uri="file:///pairs.jsonl", display_name="File"))
    hypothesis, stored = audit_pb2.Hypothesis(), audit_pb2.Dataset()
    assert (await wait(harness, test.name)).response.Unpack(hypothesis)
    assert (hypothesis.view, len(hypothesis.supporting)) == (audit_pb2.VIEW_STATED, 2)
    assert (await wait(harness, imported.name)).response.Unpack(stored)
    assert stored.display_name == "File"


async def test_a_result_that_nothing_shows_is_a_fault_of_the_server(harness: Harness) -> None:
    harness.library.gate.clear()
    operation = await begin(harness)
    harness.library.operations.end(operation.name, response="moons/1")
    done = await wait(harness, operation.name)
    assert decode(done.error).info.reason == "UNKNOWN_RESOURCE"


async def test_a_cancelled_operation_ends_with_cancelled(harness: Harness) -> None:
    harness.library.gate.clear()
    operation = await begin(harness)
    waiting = asyncio.ensure_future(wait(harness, operation.name))
    await until(lambda: not harness.server.state.idle.is_set())
    await harness.operations.CancelOperation(longrunning.CancelOperationRequest(name=operation.name))
    done = await waiting
    assert (done.done, done.error.code) == (True, code_pb2.CANCELLED)
    assert decode(done.error).info.reason == "CANCELLED"
    await harness.operations.CancelOperation(longrunning.CancelOperationRequest(name=operation.name))


async def test_work_that_failed_says_why_with_its_reason(harness: Harness) -> None:
    harness.library.gate.clear()
    operation = await begin(harness)
    harness.library.operations.end(operation.name, error=DataLoss("A shard is damaged.", details={"shard": 3}))
    done = await wait(harness, operation.name)
    error = decode(done.error)
    assert (error.code, error.info.reason, dict(error.info.metadata)) == (
        grpc.StatusCode.DATA_LOSS,
        "DATA_LOSS",
        {"shard": "3"},
    )


async def test_an_operation_whose_result_was_deleted_says_so(harness: Harness) -> None:
    operation = await begin(harness)
    await wait(harness, operation.name)
    await harness.audits.DeleteAudit(service.DeleteAuditRequest(name="audits/a0"))
    done = await harness.operations.GetOperation(longrunning.GetOperationRequest(name=operation.name))
    assert (done.done, done.error.code) == (True, code_pb2.NOT_FOUND)


async def test_operations_are_listed_newest_first_page_by_page(harness: Harness) -> None:
    begun = [(await begin(harness, options={"seed": n})).name for n in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        request = longrunning.ListOperationsRequest(name="operations", page_size=2, page_token=token)
        page = await harness.operations.ListOperations(request)
        seen += [operation.name for operation in page.operations]
        if not (token := page.next_page_token):
            break
    assert seen == begun[::-1]


async def test_only_what_is_done_is_deleted_and_what_it_made_stays(harness: Harness) -> None:
    harness.library.gate.clear()
    operation = await begin(harness)
    request = longrunning.DeleteOperationRequest(name=operation.name)
    error = await refused(harness.operations.DeleteOperation(request))
    assert (error.code, error.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_DONE")
    harness.library.gate.set()
    await wait(harness, operation.name)
    await harness.operations.DeleteOperation(request)
    gone = await refused(harness.operations.GetOperation(longrunning.GetOperationRequest(name=operation.name)))
    assert gone.code is grpc.StatusCode.NOT_FOUND
    assert (await harness.audits.GetAudit(service.GetAuditRequest(name="audits/a0"))).audit.name == "audits/a0"


async def test_a_wait_ends_with_its_timeout_and_shows_how_far_the_work_is(harness: Harness) -> None:
    harness.library.gate.clear()
    operation = await begin(harness)
    began = time.monotonic()
    assert await wait(harness, operation.name, 0.2) == operation
    waited = time.monotonic() - began
    assert waited > 0.15
    assert in_time(waited, 10.0)
    assert await wait(harness, operation.name, 0.0) == operation


async def test_a_wait_answers_before_the_calls_own_deadline(harness: Harness) -> None:
    harness.library.gate.clear()
    operation = await begin(harness)
    assert await wait(harness, operation.name, timeout=3.0) == operation
    assert await wait(harness, operation.name, 3600.0, timeout=3.0) == operation


async def test_a_wait_that_is_cancelled_leaves_the_work_alone(harness: Harness) -> None:
    harness.library.gate.clear()
    operation = await begin(harness)
    call = harness.operations.WaitOperation(longrunning.WaitOperationRequest(name=operation.name))
    await until(lambda: not harness.server.state.idle.is_set())
    call.cancel()
    await settled(harness)
    harness.library.gate.set()
    assert (await wait(harness, operation.name)).done


async def test_a_drain_sends_waiting_callers_away_at_once(start: Start) -> None:
    harness = await start(drain_seconds=PATIENCE)
    harness.library.gate.clear()
    operation = await begin(harness)
    waiting = asyncio.ensure_future(wait(harness, operation.name))
    await until(lambda: not harness.server.state.idle.is_set())
    began = time.monotonic()
    assert await harness.server.drain() is True
    assert in_time(time.monotonic() - began, 8.0)
    error = await refused(waiting)
    assert (error.code, error.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


@pytest.mark.parametrize("name", ["", "operations/", "audits/a", "operations/../a", "operations/a b", "operations/a/b"])
async def test_what_is_no_operations_name_is_refused(harness: Harness, name: str) -> None:
    for call in (
        harness.operations.GetOperation(longrunning.GetOperationRequest(name=name)),
        harness.operations.CancelOperation(longrunning.CancelOperationRequest(name=name)),
        harness.operations.DeleteOperation(longrunning.DeleteOperationRequest(name=name)),
        wait(harness, name),
    ):
        error = await refused(call)
        assert (error.code, error.info.reason, error.violations) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_NAME",
            ["name"],
        )


async def test_an_unknown_operation_is_not_found(harness: Harness) -> None:
    name = "operations/audit-none"
    for call in (
        harness.operations.GetOperation(longrunning.GetOperationRequest(name=name)),
        harness.operations.CancelOperation(longrunning.CancelOperationRequest(name=name)),
        harness.operations.DeleteOperation(longrunning.DeleteOperationRequest(name=name)),
        wait(harness, name),
    ):
        assert (await refused(call)).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("call", "reason", "field"),
    [
        ({"name": "datasets"}, "INVALID_NAME", "name"),
        ({"filter": "done = true"}, "INVALID_FILTER", "filter"),
        ({"page_size": -1}, "INVALID_PAGE_SIZE", "page_size"),
        ({"page_token": "x"}, "INVALID_PAGE_TOKEN", "page_token"),
    ],
)
async def test_a_list_that_cannot_be_asked_is_refused(harness: Harness, call: dict[str, Any], reason: str, field: str) -> None:
    error = await refused(harness.operations.ListOperations(longrunning.ListOperationsRequest(**call)))
    assert (error.code, error.info.reason, error.violations) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [field])


async def test_a_timeout_before_now_is_refused(harness: Harness) -> None:
    operation = await begin(harness)
    request = longrunning.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=-1))
    assert (await refused(harness.operations.WaitOperation(request))).violations == ["timeout"]
