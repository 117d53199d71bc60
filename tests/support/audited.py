"""A finished audit of a few pairs, for tests of what is read of it over the wire."""

from typing import Any

from assay.v1 import audit_service_pb2 as service
from assay_server.subject.types import Pair

from tests.support.fake_rows import chat
from tests.support.harness import Harness

PAIRS = [
    Pair(chat("What is tea?"), "- leaves\n- water", "Leaves.", "a", {"topic": "tea"}),
    Pair("raw prompt: ", "yes", "no", "b"),
    Pair(chat("one", "two", "three"), "vier", "fünf", "c"),
    Pair(chat("q"), "🎉 done", "a", "d"),
    Pair(chat("q"), "e", "a", "e"),
]


async def audited(harness: Harness, **options: Any) -> str:
    """The name of a finished audit of PAIRS."""
    dataset = harness.library.store(PAIRS, "Tea").name
    operation = await harness.audits.CreateAudit(service.CreateAuditRequest(dataset=dataset, options=options))
    await harness.library.operations.wait(operation.name)
    return str(harness.library.operations.get(operation.name).target)
