"""Audits, hypotheses, decisions and concepts over the wire; the blocking and the async client by the same tests."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from assay import (
    AsyncClient,
    AuditOptions,
    AuditState,
    Cancelled,
    CardKind,
    Client,
    ConceptFamily,
    Correction,
    DeadlineExceeded,
    DecisionMode,
    Examples,
    FamilySummary,
    FromCluster,
    FromDataset,
    FromLabels,
    InvalidRequest,
    NotReady,
    Nuisance,
    OperationProgress,
    Pair,
    ProbeMethod,
    PromptedResponse,
    ServerFault,
    Snippet,
    Tensor,
    View,
    chat,
)
from assay.v1 import audit_pb2, concept_service_pb2, pair_pb2

from tests.client.conftest import QUICK, pairs
from tests.client.support.audits import operation
from tests.client.support.server import ScriptedServer, rich_status

Call = Callable[..., Any]
LISTS = {"datasets", "audits", "hypotheses", "decisions", "concepts", "clusters", "operations"}


def call_sync(address: str, method: str, /, *args: Any, then: Callable[[Any], Any] | None = None, **kwargs: Any) -> Any:
    with Client(address, retry=QUICK) as client:
        result = getattr(client, method)(*args, **kwargs)
        if method in LISTS:
            return list(result)
        return then(result) if then else result


def call_async(address: str, method: str, /, *args: Any, then: Callable[[Any], Any] | None = None, **kwargs: Any) -> Any:
    async def go() -> Any:
        async with AsyncClient(address, retry=QUICK) as client:
            result = getattr(client, method)(*args, **kwargs)
            if method in LISTS:
                return [one async for one in result]
            made = await result
            return await then(made) if then else made

    return asyncio.run(go())


@pytest.fixture(params=[call_sync, call_async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    return request.param


def hypothesis(place: int) -> audit_pb2.Hypothesis:
    message = audit_pb2.Hypothesis(name=f"audits/one/hypotheses/h{place}", view=audit_pb2.VIEW_GLOBAL, rank=place, finding=True)
    message.concept.name = f"feature/{place}"
    message.raw.estimate, message.raw.q = 0.5, 0.01
    return message


AUDIT = audit_pb2.Audit(
    name="audits/one",
    dataset="datasets/one",
    state=audit_pb2.Audit.STATE_DONE,
    options=audit_pb2.AuditOptions(views=[audit_pb2.VIEW_GLOBAL], tau=0.01, max_t_flips=0),
    views=[
        audit_pb2.ViewSummary(
            view=audit_pb2.VIEW_GLOBAL,
            tests=100,
            findings_raw=9,
            findings_controlled=4,
            note="As told.",
            families=[audit_pb2.FamilySummary(title="words", given=True, tests=60, findings_raw=5, findings_controlled=1)],
        )
    ],
    nuisance=audit_pb2.NuisanceSummary(names=["length"], gamma=[0.25], accuracy=0.6),
    cost=audit_pb2.Cost(tokens_read=12, device="cpu"),
)


def test_an_audit_is_waited_for_and_tells_how_far_it_is(server: ScriptedServer, call: Call) -> None:
    server.shelf.states.extend(
        [operation(done=1, total=4), operation(done=3, total=4), operation(phase="testing"), operation(made=AUDIT)]
    )
    seen: list[OperationProgress] = []
    options = AuditOptions(views=[View.GLOBAL], nuisances=[], max_t_flips=0, metadata_keys=["topic"], seed=7)
    audit = call(server.address, "audit", "one", options, display_name="mine", then=lambda run: run.wait(seen.append))
    (request,) = server.shelf.asked("CreateAudit")
    assert (request.dataset, request.display_name) == ("datasets/one", "mine")
    assert list(request.options.nuisances) == [audit_pb2.NUISANCE_UNSPECIFIED], "nothing is controlled for"
    assert request.options.HasField("max_t_flips"), "0 is not unset"
    assert not request.options.HasField("tau")
    assert request.request_id, "gRPC may send it twice"
    assert (audit.name, audit.state, audit.options.views) == ("audits/one", AuditState.DONE, (View.GLOBAL,))
    assert audit.options.max_t_flips == 0
    assert audit.options.q_level is None
    assert audit.views[0].findings_raw - audit.views[0].findings_controlled == 5
    assert audit.views[0].note == "As told."
    assert audit.views[0].families == (FamilySummary("words", given=True, tests=60, findings_raw=5, findings_controlled=1),)
    assert audit.nuisance.gamma == (0.25,)
    assert [(one.phase, one.pairs_done) for one in seen][:2] == [("waiting", 0), ("scoring", 1)]
    assert hash(audit) == hash(audit)


def test_waiting_outlives_a_server_that_is_gone_for_a_while(server: ScriptedServer, call: Call) -> None:
    server.shelf.refusals.extend([rich_status("UNAVAILABLE", "loading", reason="LOADING", retry_seconds=0.01)] * 12)
    server.shelf.states.extend([operation(), operation(made=AUDIT)])
    assert call(server.address, "audit", "one", then=lambda run: run.wait()).name == "audits/one"
    assert not server.shelf.refusals, "more than gRPC tries by itself"


def test_waiting_ends_with_what_the_work_failed_of(server: ScriptedServer, call: Call) -> None:
    failure = rich_status("FAILED_PRECONDITION", "every pair is unusable", reason="NO_USABLE_PAIR", details={"pairs": "9"})
    server.shelf.states.append(operation(error=failure))
    with pytest.raises(InvalidRequest, match="every pair is unusable") as caught:
        call(server.address, "audit", "one", then=lambda run: run.wait())
    assert (caught.value.reason, caught.value.details) == ("NO_USABLE_PAIR", {"pairs": "9"})


def test_a_server_that_is_gone_for_good_is_given_up(server: ScriptedServer, call: Call) -> None:
    server.shelf.refusals.extend([rich_status("UNAVAILABLE", "loading", reason="LOADING", retry_seconds=0.01)] * 100)
    with pytest.raises(NotReady, match="gave up"):
        call(server.address, "audit", "one", then=lambda run: run.wait())


def test_a_cancelled_operation_says_so_and_a_timeout_leaves_it_running(server: ScriptedServer, call: Call) -> None:
    server.shelf.states.append(operation())
    with pytest.raises(DeadlineExceeded, match="goes on on the server"):
        call(server.address, "operation", "one", then=lambda run: run.wait(timeout=0.2))
    assert server.shelf.stopped == []
    call(server.address, "operation", "operations/one", then=lambda run: run.cancel())
    assert server.shelf.stopped == ["operations/one"]
    server.shelf.states.clear()
    server.shelf.states.append(operation(error=rich_status("CANCELLED", "it was cancelled", reason="CANCELLED")))
    with pytest.raises(Cancelled, match="it was cancelled"):
        call(server.address, "operation", "one", then=lambda run: run.wait())


def test_an_operation_that_made_nothing_this_client_knows_is_a_fault(server: ScriptedServer, call: Call) -> None:
    server.shelf.states.append(operation(made=pair_pb2.Pair()))
    with pytest.raises(ServerFault, match=r"assay\.v1\.Pair"):
        call(server.address, "operation", "one")


def test_hypotheses_come_page_by_page(server: ScriptedServer, call: Call) -> None:
    server.shelf.hypotheses.extend(hypothesis(i) for i in range(25))
    found = call(server.address, "hypotheses", "one", "finding = true", "rank", page_size=10)
    assert [one.id for one in found] == [f"h{i}" for i in range(25)]
    asked = server.shelf.asked("ListHypotheses")
    assert [one.page_token for one in asked] == ["", "10", "20"]
    assert {(one.parent, one.filter, one.order_by) for one in asked} == {("audits/one", "finding = true", "rank")}


def test_a_hypothesis_comes_with_evidence_both_effects_and_its_decision(server: ScriptedServer, call: Call) -> None:
    full = hypothesis(3)
    full.controlled.estimate, full.controlled.p_max_t = 0.25, 0.5
    full.condition.name = "metadata/topic=cooking"
    full.log_odds, full.log_odds_z = -0.5, -4.0
    full.decision.mode = audit_pb2.Decision.MODE_KEEP
    evidence = full.supporting.add(row=4, disparity=1.0)
    evidence.pair.CopyFrom(Pair(chat("Why?"), "So.", "No.", id="x", metadata={"topic": "cooking"}).to_proto())
    evidence.chosen.add(start=0, end=2, value=0.5)
    server.shelf.hypotheses.append(full)
    found = call(server.address, "hypothesis", "audits/one/hypotheses/h3", highlights=True)
    assert server.shelf.asked("GetHypothesis")[0].highlights
    assert (found.raw.estimate, found.raw.p_max_t) == (0.5, None)
    assert found.effect is found.controlled
    assert found.effect.p_max_t == 0.5
    assert found.decision.mode is DecisionMode.KEEP
    assert found.supporting[0].pair == Pair(chat("Why?"), "So.", "No.", id="x", metadata={"topic": "cooking"})
    assert found.supporting[0].chosen[0].end == 2
    assert (found.log_odds, found.log_odds_z) == (-0.5, -4.0)
    server.shelf.hypotheses[0] = hypothesis(1)
    plain = call(server.address, "hypothesis", "audits/one/hypotheses/h1")
    assert (plain.condition, plain.controlled, plain.decision) == (None, None, None)
    assert plain.effect is plain.raw
    assert (plain.log_odds, plain.log_odds_z) == (None, None)


def test_a_hypothesis_whose_evidence_is_over_grpcs_4_mib_is_read(server: ScriptedServer, call: Call) -> None:
    full = hypothesis(3)
    for row in range(50):
        full.supporting.add(row=row, pair=Pair(chat("?"), "w" * 200_000, "x", id=str(row)).to_proto())
    assert full.ByteSize() > 8 << 20
    server.shelf.hypotheses.append(full)
    found = call(server.address, "hypothesis", "audits/one/hypotheses/h3")
    assert [len(one.pair.chosen) for one in found.supporting] == [200_000] * 50


@pytest.mark.parametrize(
    ("kwargs", "field", "value"),
    [
        ({}, None, None),
        ({"where": ("topic", "own=writing")}, "metadata", ("topic", "own=writing")),
        ({"where": "audits/one/conditions/data-cluster/7"}, "audit_condition", "audits/one/conditions/data-cluster/7"),
        ({"where_prompt": "feature/17"}, "prompt_concept", "feature/17"),
    ],
)
def test_a_stated_hypothesis_has_one_condition_at_most(
    server: ScriptedServer, call: Call, kwargs: dict[str, Any], field: str | None, value: Any
) -> None:
    call(server.address, "test", "datasets/one", "cluster/3", **kwargs)
    (request,) = server.shelf.asked("TestHypothesis")
    assert (request.concept, request.WhichOneof("condition")) == ("cluster/3", field)
    if field == "metadata":
        assert (request.metadata.key, request.metadata.value) == value
    elif field is not None:
        assert getattr(request, field) == value


def test_two_conditions_are_refused(server: ScriptedServer, call: Call) -> None:
    with pytest.raises(ValueError, match="one condition"):
        call(server.address, "test", "one", "cluster/3", where=("a", "b"), where_prompt="feature/1")


def test_cards_are_plain_values(server: ScriptedServer, call: Call) -> None:
    message = audit_pb2.Card(id="global-3", kind=audit_pb2.Card.KIND_LESSON, title="More", members=["bold", "lists"])
    snippet = message.snippets.add(row=4, side=audit_pb2.Snippet.SIDE_REJECTED, text="plain tea")
    snippet.marks.add(start=0, end=5)
    snippet.differs.add(start=6, end=9)
    server.shelf.cards.extend([message, audit_pb2.Card(id="new", kind=99)])  # type: ignore[arg-type]
    first, unknown = call(server.address, "cards", "one")
    assert server.shelf.asked("ListCards")[0].name == "audits/one"
    assert (first.id, first.kind, first.title, first.members) == ("global-3", CardKind.LESSON, "More", ("bold", "lists"))
    assert first.snippets == (Snippet(4, "rejected", "plain tea", ((0, 5),), ((6, 9),)),)
    assert (unknown.id, unknown.kind) == ("new", None), "of a server that knows more"


def test_decisions_are_recorded_and_listed(server: ScriptedServer, call: Call) -> None:
    made = call(
        server.address, "decide", "audits/one/hypotheses/h1", DecisionMode.EXPLAIN_AWAY, strength=0.5, note="why", author="me"
    )
    assert (made.mode, made.strength, made.note, made.author) == (DecisionMode.EXPLAIN_AWAY, 0.5, "why", "me")
    call(server.address, "decide", "audits/one/hypotheses/h1", DecisionMode.KEEP)
    assert [one.mode for one in call(server.address, "decisions")] == [DecisionMode.EXPLAIN_AWAY, DecisionMode.KEEP]
    assert server.shelf.asked("ListDecisions")[0].parent == "audits/-"
    ids = [request.request_id for request in server.shelf.asked("RecordDecision")]
    assert len(set(ids)) == 2
    assert all(ids)


def test_an_audit_is_exported_whole_or_not_at_all(server: ScriptedServer, call: Call, tmp_path: Path) -> None:
    server.shelf.file = b"<!doctype html>" * 100
    report = tmp_path / "report.html"
    assert call(server.address, "export_audit", "one", report) == report
    assert report.read_bytes() == server.shelf.file
    server.shelf.file_breaks = True
    with pytest.raises(ServerFault, match="disk is gone"):
        call(server.address, "export_audit", "one", tmp_path / "hypotheses.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    formats = [request.format for request in server.shelf.asked("ExportAudit")]
    assert formats == [1, 2]
    with pytest.raises(ValueError, match="html or parquet"):
        call(server.address, "export_audit", "one", tmp_path / "report.pdf")


def test_datasets_and_audits_are_listed_found_and_deleted(server: ScriptedServer, call: Call) -> None:
    for count in (3, 4):
        call(server.address, "upload_pairs", pairs(count))
    assert [one.pairs for one in call(server.address, "datasets")] == [3, 4]
    dataset = call(server.address, "dataset", "one")
    assert (dataset.name, dataset.metadata_keys, dataset.create_time) == ("datasets/one", ("topic",), None)
    call(server.address, "delete_dataset", dataset)
    assert server.shelf.asked("DeleteDataset")[0].name == "datasets/one"
    assert call(server.address, "get_audit", "one").state is AuditState.DONE
    assert [one.dataset for one in call(server.address, "audits", dataset)] == ["datasets/one"]
    call(server.address, "delete_audit", "audits/one")
    assert server.shelf.asked("DeleteAudit")[0].name == "audits/one"


SOURCES: list[tuple[Any, str]] = [
    (Examples([PromptedResponse(chat("q"), "yes")], ["a raw text"]), "texts"),
    ([Pair(chat("q"), "a", "b")], "pairs"),
    (FromDataset("datasets/one"), "dataset"),
    ({9: 0.5, 3: 1.0}, "features"),
    (FromCluster(0), "cluster"),
    (FromLabels("praise"), "label_search"),
    (Tensor.from_values([1.0, 2.0]), "direction"),
    ([1.0, 2.0], "direction"),
]


@pytest.mark.parametrize(("source", "field"), SOURCES, ids=[f"{field}-{at}" for at, (_, field) in enumerate(SOURCES)])
def test_a_concept_is_made_of_any_source(server: ScriptedServer, call: Call, source: Any, field: str) -> None:
    concept = call(server.address, "create_concept", "Warmth", source, method=ProbeMethod.LOGISTIC, then=lambda run: run.wait())
    (request,) = server.shelf.asked("CreateConcept")
    assert request.WhichOneof("source") == field
    assert request.method == concept_service_pb2.PROBE_METHOD_LOGISTIC
    assert concept.kind == Tensor.from_values([1.0])
    assert (concept.report.auroc, concept.report.pair_accuracy) == (0.75, None)
    assert concept.nearest[0].label == "warmth"
    if field == "texts":
        assert request.texts.negative[0].WhichOneof("prompt") == "text", "a plain string has an empty raw prompt"
    if field == "features":
        assert list(request.features.indices) == [3, 9]


def test_concepts_and_clusters_are_listed_and_deleted(server: ScriptedServer, call: Call) -> None:
    assert [one.kind for one in call(server.address, "concepts")] == [7]
    assert call(server.address, "concept", "one").kind == ((3, 1.0), (9, 0.5))
    call(server.address, "delete_concept", "concepts/one")
    assert server.shelf.asked("DeleteConcept")[0].name == "concepts/one"
    assert call(server.address, "clusters")[0].features == (1, 2, 5, 8)
    made = call(server.address, "compute_clusters", "one", min_size=4, then=lambda run: run.wait())
    assert (made.clusters, made.features) == (4, 40)
    labelled = call(server.address, "create_labels", "one", features=[1, 2], endpoint=True, then=lambda run: run.wait())
    assert labelled.median_detection_score == 0.75
    assert server.shelf.asked("CreateLabels")[0].method == concept_service_pb2.CreateLabelsRequest.METHOD_ENDPOINT


def test_options_survive_the_wire_and_unknown_members_do_not_break_it() -> None:
    options = AuditOptions(
        views=(View.GLOBAL, View.STATED),
        families=tuple(ConceptFamily),
        concepts=("concepts/a",),
        tau=0.0,
        correction=Correction.BENJAMINI_YEKUTIELI,
        nuisances=(Nuisance.LENGTH, Nuisance.FORMAT),
        metadata_keys=("topic",),
        seed=3,
        keep=5,
        top_share=0.25,
    )
    assert AuditOptions.from_proto(options.to_proto()) == options
    assert AuditOptions.from_proto(AuditOptions(nuisances=()).to_proto()).nuisances == ()
    assert AuditOptions.from_proto(AuditOptions().to_proto()).nuisances is None
    newer = audit_pb2.AuditOptions.FromString(audit_pb2.AuditOptions(views=[1]).SerializeToString() + b"\x08\x63")
    assert AuditOptions.from_proto(newer).views == (View.GLOBAL,)
