"""AuditService over a real channel: datasets, audits, decisions, and what cannot be asked."""

from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from assay.v1 import audit_pb2
from assay.v1 import audit_service_pb2 as service
from assay_server.audit.findings import ViewKind
from assay_server.errors import EngineFailure
from assay_server.jobs.audits.types import AuditCondition, MetadataValue, PromptConcept
from assay_server.subject.types import Pair

from tests.support.audited import PAIRS, audited
from tests.support.fake_scorer import D_SAE
from tests.support.harness import Harness
from tests.support.wire import refused

# Datasets


async def test_datasets_are_listed_newest_first_page_by_page(harness: Harness) -> None:
    names = [harness.library.store([Pair("p", str(n), "x")]).name for n in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page = await harness.audits.ListDatasets(service.ListDatasetsRequest(page_size=2, page_token=token))
        seen += [dataset.name for dataset in page.datasets]
        if not (token := page.next_page_token):
            break
    assert seen == names[::-1]


async def test_what_is_made_or_deleted_between_pages_neither_repeats_nor_loses_anything(harness: Harness) -> None:
    names = [harness.library.store([Pair("p", str(n), "x")]).name for n in range(6)]
    first = await harness.audits.ListDatasets(service.ListDatasetsRequest(page_size=2))
    harness.library.store([Pair("p", "new", "x")])
    await harness.audits.DeleteDataset(service.DeleteDatasetRequest(name=first.datasets[1].name))
    rest = await harness.audits.ListDatasets(service.ListDatasetsRequest(page_token=first.next_page_token))
    assert [dataset.name for dataset in rest.datasets] == names[3::-1]


async def test_a_dataset_in_use_is_not_deleted(harness: Harness) -> None:
    harness.library.gate.clear()
    dataset = harness.library.store(PAIRS).name
    await harness.audits.CreateAudit(service.CreateAuditRequest(dataset=dataset))
    error = await refused(harness.audits.DeleteDataset(service.DeleteDatasetRequest(name=dataset)))
    assert (error.code, error.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IN_USE")
    assert (await harness.audits.GetDataset(service.GetDatasetRequest(name=dataset))).dataset.pairs == 5


# Audits


async def test_an_audit_says_what_was_asked_with_every_default_filled_in(harness: Harness) -> None:
    name = await audited(harness, views=[audit_pb2.VIEW_GLOBAL], tau=0.25, nuisances=[audit_pb2.NUISANCE_UNSPECIFIED], seed=7)
    audit = (await harness.audits.GetAudit(service.GetAuditRequest(name=name))).audit
    assert audit.state == audit_pb2.Audit.STATE_DONE
    assert (audit.options.tau, audit.options.q_level, audit.options.seed, audit.options.keep) == (0.25, 0.05, 7, 1000)
    assert list(audit.options.views) == [audit_pb2.VIEW_GLOBAL]
    assert list(audit.options.nuisances) == [audit_pb2.NUISANCE_UNSPECIFIED]
    (view,) = audit.views
    assert (view.view, view.tests, view.findings_raw, view.findings_controlled) == (audit_pb2.VIEW_GLOBAL, 1000, 30, 20)
    assert (view.kept, view.conditions, view.reason, view.note) == (60, 4, "", "fewer clusters than asked")
    assert audit.end_time.seconds > audit.create_time.seconds > 0
    assert harness.library.asked[0].nuisances == ()


async def test_the_same_request_id_is_the_same_audit(harness: Harness) -> None:
    request = service.CreateAuditRequest(dataset=harness.library.store(PAIRS).name, request_id="mine")
    first = await harness.audits.CreateAudit(request)
    again = await harness.audits.CreateAudit(request)
    assert again.name == first.name
    assert len((await harness.audits.ListAudits(service.ListAuditsRequest())).audits) == 1


async def test_audits_are_listed_by_dataset(harness: Harness) -> None:
    mine = await audited(harness)
    other = harness.library.store([Pair("p", "q", "r")]).name
    await harness.audits.CreateAudit(service.CreateAuditRequest(dataset=other))
    listed = await harness.audits.ListAudits(service.ListAuditsRequest())
    assert [audit.dataset == other for audit in listed.audits] == [True, False]
    dataset = listed.audits[1].dataset
    only = await harness.audits.ListAudits(service.ListAuditsRequest(dataset=dataset))
    assert [audit.name for audit in only.audits] == [mine]
    page = await harness.audits.ListAudits(service.ListAuditsRequest(page_size=1))
    foreign = service.ListAuditsRequest(page_token=page.next_page_token, dataset=dataset)
    assert (await refused(harness.audits.ListAudits(foreign))).info.reason == "INVALID_PAGE_TOKEN"


async def test_a_deleted_audit_is_gone(harness: Harness) -> None:
    name = await audited(harness)
    await harness.audits.DeleteAudit(service.DeleteAuditRequest(name=name))
    error = await refused(harness.audits.GetAudit(service.GetAuditRequest(name=name)))
    assert (error.code, error.info.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_an_audit_that_runs_has_no_hypotheses_yet(harness: Harness) -> None:
    harness.library.gate.clear()
    dataset = harness.library.store(PAIRS).name
    await harness.audits.CreateAudit(service.CreateAuditRequest(dataset=dataset))
    audit = (await harness.audits.ListAudits(service.ListAuditsRequest())).audits[0]
    assert (audit.state, audit.HasField("end_time")) == (audit_pb2.Audit.STATE_RUNNING, False)
    for call in (
        harness.audits.ListHypotheses(service.ListHypothesesRequest(parent=audit.name)),
        harness.audits.GetHypothesis(service.GetHypothesisRequest(name=f"{audit.name}/hypotheses/global-1")),
        harness.audits.ExportAudit(service.ExportAuditRequest(name=audit.name)).read(),
        harness.audits.ExportAudit(service.ExportAuditRequest(name=audit.name, format=2)).read(),
    ):
        error = await refused(call)
        assert (error.code, error.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_DONE")


@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        ({}, None),
        ({"prompt_concept": "cluster/3"}, PromptConcept("cluster/3")),
        ({"audit_condition": "audits/a/conditions/metadata/topic=a b"}, AuditCondition("audits/a/conditions/metadata/topic=a b")),
        ({"metadata": {"key": "topic", "value": ""}}, MetadataValue("topic", "")),
    ],
)
async def test_a_stated_hypothesis_is_asked_as_it_was_stated(harness: Harness, fields: dict[str, Any], condition: Any) -> None:
    dataset = harness.library.store(PAIRS).name
    request = service.TestHypothesisRequest(dataset=dataset, concept="feature/017", options={"tau": 0.5}, **fields)
    operation = await harness.audits.TestHypothesis(request)
    concept, asked, settings = harness.library.asked[-1]
    assert (concept, asked) == ("feature/17", condition)
    assert (settings.statistics.views, settings.statistics.tau) == ((ViewKind.STATED,), 0.5)
    assert operation.name.startswith("operations/test-")


# Decisions


async def decide(harness: Harness, request_id: str = "", **fields: Any) -> Any:
    request = service.RecordDecisionRequest(decision=fields, request_id=request_id)
    return (await harness.audits.RecordDecision(request)).decision


async def test_the_last_decision_counts_and_earlier_ones_are_kept(harness: Harness) -> None:
    name = await audited(harness)
    about = f"{name}/hypotheses/global-2"
    first = await decide(harness, hypothesis=about, mode="MODE_AMPLIFY", strength=0.0)
    last = await decide(harness, hypothesis=about, mode="MODE_EXPLAIN_AWAY", note="length", author="me")
    assert (first.HasField("strength"), first.strength, last.HasField("strength")) == (True, 0.0, False)
    shown = (await harness.audits.GetHypothesis(service.GetHypothesisRequest(name=about))).hypothesis
    assert shown.decision == last
    listed = await harness.audits.ListDecisions(service.ListDecisionsRequest(parent=name))
    assert list(listed.decisions) == [first, last]


async def test_the_same_request_id_is_the_same_decision(harness: Harness) -> None:
    about = f"{await audited(harness)}/hypotheses/global-2"
    first = await decide(harness, "once", hypothesis=about, mode="MODE_KEEP")
    assert await decide(harness, "once", hypothesis=about, mode="MODE_KEEP") == first
    assert len((await harness.audits.ListDecisions(service.ListDecisionsRequest(parent="audits/-"))).decisions) == 1


async def test_decisions_of_all_audits_come_oldest_first_page_by_page(harness: Harness) -> None:
    names = [await audited(harness), await audited(harness, seed=1)]
    made = [
        await decide(harness, hypothesis=f"{names[n % 2]}/hypotheses/global-{n + 1}", mode="MODE_KEEP", note=str(n))
        for n in range(5)
    ]
    seen: list[audit_pb2.Decision] = []
    token = ""
    while True:
        request = service.ListDecisionsRequest(parent="audits/-", page_size=2, page_token=token)
        page = await harness.audits.ListDecisions(request)
        seen += page.decisions
        if not (token := page.next_page_token):
            break
    assert seen == made
    only = await harness.audits.ListDecisions(service.ListDecisionsRequest(parent=names[0]))
    assert [decision.note for decision in only.decisions] == ["0", "2", "4"]


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"mode": 0}, "MISSING_MODE", "decision.mode"),
        ({"mode": 4}, "UNKNOWN_ENUM_VALUE", "decision.mode"),
        ({"strength": -1.0}, "OUT_OF_RANGE", "decision.strength"),
        ({"strength": float("nan")}, "OUT_OF_RANGE", "decision.strength"),
        ({"strength": float("inf")}, "OUT_OF_RANGE", "decision.strength"),
        ({"note": "x" * 4097}, "TEXT_TOO_LONG", "decision.note"),
        ({"author": "é" * 129}, "TEXT_TOO_LONG", "decision.author"),
        ({"hypothesis": ""}, "INVALID_NAME", "decision.hypothesis"),
        ({"hypothesis": "audits/a"}, "INVALID_NAME", "decision.hypothesis"),
    ],
)
async def test_a_decision_that_cannot_be_is_refused(harness: Harness, fields: dict[str, Any], reason: str, field: str) -> None:
    good = {"hypothesis": f"{await audited(harness)}/hypotheses/global-2", "mode": 1}
    request = service.RecordDecisionRequest(decision={**good, **fields})
    error = await refused(harness.audits.RecordDecision(request))
    assert (error.code, error.info.reason, error.violations) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [field])


# Names and other arguments

DATASET = "datasets/0123456789abcdef01234567"
BAD_REQUESTS: Mapping[str, tuple[str, Any, str, str]] = {
    "dataset without a name": ("GetDataset", service.GetDatasetRequest(), "INVALID_NAME", "name"),
    "dataset with a path": ("GetDataset", service.GetDatasetRequest(name="datasets/../x"), "INVALID_NAME", "name"),
    "dataset with a slash": ("DeleteDataset", service.DeleteDatasetRequest(name="datasets/a/b"), "INVALID_NAME", "name"),
    "dataset with a newline": ("GetDataset", service.GetDatasetRequest(name="datasets/a\n"), "INVALID_NAME", "name"),
    "audit of a dataset's name": ("GetAudit", service.GetAuditRequest(name=DATASET), "INVALID_NAME", "name"),
    "audit with a long name": ("DeleteAudit", service.DeleteAuditRequest(name=f"audits/{'x' * 200}"), "INVALID_NAME", "name"),
    "audits of no dataset": ("ListAudits", service.ListAuditsRequest(dataset="x"), "INVALID_NAME", "dataset"),
    "hypotheses of nothing": ("ListHypotheses", service.ListHypothesesRequest(), "INVALID_NAME", "parent"),
    "hypothesis of nothing": ("GetHypothesis", service.GetHypothesisRequest(name="audits/a"), "INVALID_NAME", "name"),
    "decisions of nothing": ("ListDecisions", service.ListDecisionsRequest(), "INVALID_NAME", "parent"),
    "upload without an id": ("GetUpload", service.GetUploadRequest(), "INVALID_REQUEST_ID", "request_id"),
    "import of nothing": ("ImportPairs", service.ImportPairsRequest(), "MISSING_URI", "uri"),
    "import of a long uri": ("ImportPairs", service.ImportPairsRequest(uri="file:///" + "x" * 5000), "TEXT_TOO_LONG", "uri"),
    "audit of nothing": ("CreateAudit", service.CreateAuditRequest(), "INVALID_NAME", "dataset"),
    "audit with a bad id": (
        "CreateAudit",
        service.CreateAuditRequest(dataset=DATASET, request_id="a/b"),
        "INVALID_REQUEST_ID",
        "request_id",
    ),
    "audit with a long title": (
        "CreateAudit",
        service.CreateAuditRequest(dataset=DATASET, display_name="x" * 257),
        "TEXT_TOO_LONG",
        "display_name",
    ),
    "audit with bad options": (
        "CreateAudit",
        service.CreateAuditRequest(dataset=DATASET, options={"q_level": 2.0}),
        "OUT_OF_RANGE",
        "options.q_level",
    ),
    "test of nothing": ("TestHypothesis", service.TestHypothesisRequest(dataset=DATASET), "INVALID_NAME", "concept"),
    "test of an unknown feature": (
        "TestHypothesis",
        service.TestHypothesisRequest(dataset=DATASET, concept=f"feature/{D_SAE}"),
        "UNKNOWN_FEATURE",
        "concept",
    ),
    "test where nothing is said": (
        "TestHypothesis",
        service.TestHypothesisRequest(dataset=DATASET, concept="feature/1", metadata={}),
        "MISSING_KEY",
        "metadata.key",
    ),
    "test where no concept is": (
        "TestHypothesis",
        service.TestHypothesisRequest(dataset=DATASET, concept="feature/1", prompt_concept="tea"),
        "INVALID_NAME",
        "prompt_concept",
    ),
    "test where no condition is": (
        "TestHypothesis",
        service.TestHypothesisRequest(dataset=DATASET, concept="feature/1", audit_condition="data-cluster/1"),
        "INVALID_NAME",
        "audit_condition",
    ),
}


@pytest.mark.parametrize("kind", list(BAD_REQUESTS))
async def test_an_argument_that_cannot_be_is_refused_before_the_jobs_see_it(harness: Harness, kind: str) -> None:
    method, request, reason, field = BAD_REQUESTS[kind]
    error = await refused(getattr(harness.audits, method)(request))
    assert (error.code, error.info.reason, error.violations) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [field])
    assert harness.library.asked == []


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetDataset", service.GetDatasetRequest(name=DATASET)),
        ("DeleteDataset", service.DeleteDatasetRequest(name=DATASET)),
        ("CreateAudit", service.CreateAuditRequest(dataset=DATASET)),
        ("TestHypothesis", service.TestHypothesisRequest(dataset=DATASET, concept="feature/1")),
        ("GetAudit", service.GetAuditRequest(name="audits/none")),
        ("DeleteAudit", service.DeleteAuditRequest(name="audits/none")),
        ("ListHypotheses", service.ListHypothesesRequest(parent="audits/none")),
        ("ListCards", service.ListCardsRequest(name="audits/none")),
        ("GetHypothesis", service.GetHypothesisRequest(name="audits/none/hypotheses/global-1")),
        ("ListDecisions", service.ListDecisionsRequest(parent="audits/none")),
    ],
)
async def test_what_is_not_there_is_not_found(harness: Harness, method: str, request_: Any) -> None:
    error = await refused(getattr(harness.audits, method)(request_))
    assert (error.code, error.info.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_a_broken_file_of_the_store_is_an_incident_without_its_words(harness: Harness) -> None:
    async def broken(name: str) -> Any:
        raise EngineFailure("The file is damaged.", reason="BROKEN")

    harness.library.datasets.get = broken  # type: ignore[method-assign]
    error = await refused(harness.audits.GetDataset(service.GetDatasetRequest(name=DATASET)))
    assert (error.code, error.info.reason) == (grpc.StatusCode.INTERNAL, "BROKEN")
