"""ConceptService through a real channel, with a real tiny subject, real files and real operations."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from assay.v1 import concept_service_pb2 as pb
from assay.v1 import concept_service_pb2_grpc, pair_pb2, scoring_pb2, scoring_pb2_grpc
from assay_server.config import ServerConfig
from assay_server.jobs.library import Library, StoreOptions, build_library
from assay_server.labelling.labels import FeatureLabel, Labels
from assay_server.rpc.paging import seal_token
from assay_server.rpc.server import AssayServer
from assay_server.store.concepts import ConceptFiles, subject_fingerprint
from assay_server.store.datasets import Datasets
from assay_server.store.files import DataDir
from assay_server.subject.decoder import DecoderRows
from assay_server.subject.types import Pair
from assay_server.telemetry.metrics import Metrics
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.message import Message

from tests.support.concepts import CLUSTERS, LABELS, cosine, loud_pairs, loud_texts
from tests.support.tiny_scorer import WatchedTokenizer, scorers
from tests.support.tiny_subject import FEATURES, WIDTH, Watched, tiny_subject
from tests.support.waiting import PATIENCE
from tests.support.wire import refused


@dataclass
class Service:
    """A running server over a data directory."""

    concepts: Any
    operations: Any
    scoring: Any
    kept: Library
    dataset: str

    async def made(self, operation: operations_pb2.Operation, kind: type[Message]) -> Any:
        """What an operation made, once it is done."""
        ended = await self.operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name), timeout=PATIENCE)
        assert ended.done
        assert not ended.HasField("error"), ended.error
        message = kind()
        assert ended.response.Unpack(message)
        return message

    async def create(self, **fields: Any) -> Any:
        request = pb.CreateConceptRequest(**{"display_name": "Loud", **fields})
        return await self.made(await self.concepts.CreateConcept(request), pb.Concept)


Begin = Callable[..., Awaitable[Service]]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Begin]:
    async with AsyncExitStack() as stack:
        make = await stack.enter_async_context(scorers(Watched(), WatchedTokenizer()))

        async def start(*, pairs: tuple[Pair, ...] = (), keeping: bool = True, **knobs: Any) -> Service:
            scorer, labels, data = make(), Labels(FEATURES, LABELS), DataDir(str(tmp_path))
            datasets = Datasets(data.files, 16)
            dataset = datasets.write(lambda: [list(pairs)], "some").id if pairs else "none"
            decoder = DecoderRows(tiny_subject().sae)
            library = build_library(data, scorer, labels, decoder, StoreOptions(shard_pairs=16), shipped=CLUSTERS)
            await library.start()
            server = AssayServer(ServerConfig(port=0, drain_seconds=2.0, **knobs), Metrics())
            port = await server.start()
            await server.open(scorer, labels, library if keeping else None)
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")

            async def stop() -> None:
                await channel.close()
                await server.drain()
                await library.aclose()
                data.close()

            stack.push_async_callback(stop)
            return Service(
                concept_service_pb2_grpc.ConceptServiceStub(channel),
                operations_pb2_grpc.OperationsStub(channel),
                scoring_pb2_grpc.ScoringServiceStub(channel),
                library,
                f"datasets/{dataset}",
            )

        yield start


def response(item: Any) -> pair_pb2.PromptedResponse:
    turns = [pair_pb2.Message(role=turn.role, content=turn.content) for turn in item.prompt]
    return pair_pb2.PromptedResponse(conversation={"messages": turns}, response=item.response)


def texts(count: int = 14) -> pb.ExampleTexts:
    source = loud_texts(count)
    return pb.ExampleTexts(positive=map(response, source.positive), negative=map(response, source.negative))


def tensor(values: np.ndarray) -> pair_pb2.Tensor:
    data = values.astype("<f4").tobytes()
    return pair_pb2.Tensor(dtype=pair_pb2.Tensor.DTYPE_FLOAT32, shape=list(values.shape), data=data)


async def test_a_concept_from_texts_carries_its_report_its_neighbours_and_its_subject(begin: Begin) -> None:
    service = await begin()
    concept = await service.create(texts=texts(), method=pb.PROBE_METHOD_LOGISTIC, held_out=0.4, random_directions=8, seed=3)
    assert (concept.name, concept.display_name, concept.method) == ("concepts/loud", "Loud", pb.PROBE_METHOD_LOGISTIC)
    assert list(concept.direction.shape) == [WIDTH]
    vector = np.frombuffer(concept.direction.data, "<f4")
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    report = concept.report
    assert report.fitted_positive + report.held_out_positive == 14
    assert report.held_out_positive >= 5
    assert report.auroc > 0.9
    assert report.auroc_low < report.auroc <= report.auroc_high
    assert 0.5 <= report.random_auroc <= report.random_auroc_max <= 1
    assert 0 < report.f1 <= 1
    assert report.base_rate == 0.5
    assert report.HasField("l2")
    assert not report.HasField("pair_accuracy")
    assert len(concept.nearest) == 10
    assert abs(concept.nearest[0].cosine) >= abs(concept.nearest[-1].cosine)
    assert concept.subject_fingerprint == subject_fingerprint(tiny_subject().info)
    assert concept.create_time.seconds > 0
    assert (await service.concepts.GetConcept(pb.GetConceptRequest(name=concept.name))).concept == concept


async def test_pairs_and_a_dataset_make_the_same_concept(begin: Begin) -> None:
    pairs = loud_pairs(14)
    service = await begin(pairs=pairs)
    sent = [
        pair_pb2.Pair(
            conversation={"messages": [{"role": turn.role, "content": turn.content} for turn in pair.prompt]},
            chosen=pair.chosen,
            rejected=pair.rejected,
        )
        for pair in pairs
    ]
    method = pb.PROBE_METHOD_BRADLEY_TERRY
    one = await service.create(pairs=pb.ExamplePairs(pairs=sent), method=method, concept_id="one")
    two = await service.create(dataset=service.dataset, method=method, concept_id="two")
    assert one.direction == two.direction
    assert one.report == two.report
    assert one.report.HasField("pair_accuracy")


async def test_examples_make_features_where_that_is_asked(begin: Begin) -> None:
    service = await begin()
    concept = await service.create(texts=texts(14), method=pb.PROBE_METHOD_FEATURES, max_features=2)
    assert concept.method == pb.PROBE_METHOD_FEATURES
    assert concept.WhichOneof("kind") in ("feature", "features")
    assert concept.report.held_out_positive > 0
    assert not concept.report.HasField("l2")


async def test_other_sources_are_done_in_the_first_answer(begin: Begin) -> None:
    service = await begin()
    sources: list[dict[str, Any]] = [
        {"features": pair_pb2.SparseVector(indices=[7], values=[1])},
        {"features": pair_pb2.SparseVector(indices=[3, 9], values=[0.5, -1])},
        {"cluster": 0},
        {"label_search": "praise"},
        {"direction": tensor(np.arange(WIDTH))},
    ]
    kinds = []
    for number, source in enumerate(sources):
        request = pb.CreateConceptRequest(display_name=f"c{number}", **source)
        operation = await service.concepts.CreateConcept(request)
        assert operation.done
        concept = pb.Concept()
        operation.response.Unpack(concept)
        kinds.append(concept.WhichOneof("kind"))
        assert not concept.HasField("report")
        assert concept.method == pb.PROBE_METHOD_UNSPECIFIED
    assert kinds == ["feature", "features", "features", "features", "direction"]
    first = await service.concepts.ListConcepts(pb.ListConceptsRequest(page_size=3))
    rest = await service.concepts.ListConcepts(pb.ListConceptsRequest(page_size=3, page_token=first.next_page_token))
    assert [concept.display_name for page in (first, rest) for concept in page.concepts] == ["c4", "c3", "c2", "c1", "c0"]
    assert rest.next_page_token == ""


async def test_a_stored_concept_is_scored_as_what_it_is_made_of(begin: Begin) -> None:
    service = await begin()
    vector = np.arange(WIDTH, dtype=np.float32) / np.linalg.norm(np.arange(WIDTH))
    weights = pair_pb2.SparseVector(indices=[3, 9, 40], values=[0.5, -1, 2])
    await service.create(direction=tensor(vector), concept_id="way")
    await service.create(features=weights, concept_id="sum")
    options = {
        "concepts": [
            {"name": "a", "stored": "concepts/way"},
            {"name": "b", "direction": tensor(vector)},
            {"name": "c", "stored": "concepts/sum"},
            {"name": "d", "features": weights},
        ]
    }
    item = loud_texts(1).positive[0]
    answer = await service.scoring.ScoreResponses(scoring_pb2.ScoreResponsesRequest(responses=[response(item)], options=options))
    scores = {score.name: score for score in answer.results[0].score.concepts}
    assert scores["a"].chosen == pytest.approx(scores["b"].chosen, rel=1e-5)
    assert scores["c"].chosen == scores["d"].chosen
    pair = pair_pb2.Pair(text="q", chosen="one", rejected="TWO!!")
    paired = await service.scoring.ScorePairs(scoring_pb2.ScorePairsRequest(pairs=[pair], options=options))
    both = {score.name: (score.chosen, score.rejected) for score in paired.results[0].score.concepts}
    assert both["a"] == pytest.approx(both["b"], rel=1e-5)
    assert both["c"] == both["d"]


async def test_a_stored_concept_that_cannot_be_used_is_refused_by_its_path(begin: Begin, tmp_path: Path) -> None:
    service = await begin()
    request = scoring_pb2.ScoreResponsesRequest(
        responses=[response(loud_texts(1).positive[0])], options={"concepts": [{"name": "a", "stored": "concepts/gone"}]}
    )
    missing = await refused(service.scoring.ScoreResponses(request))
    assert missing.code is grpc.StatusCode.NOT_FOUND
    await service.create(cluster=0, concept_id="theirs")
    theirs = service.kept.concepts._concepts["theirs"]
    object.__setattr__(theirs, "subject", "f" * 64)
    request.options.concepts[0].stored = "concepts/theirs"
    for call in (
        service.scoring.ScoreResponses(request),
        service.concepts.GetConcept(pb.GetConceptRequest(name="concepts/theirs")),
    ):
        foreign = await refused(call)
        assert foreign.code is grpc.StatusCode.FAILED_PRECONDITION
        assert foreign.info.reason == "OTHER_SUBJECT"
        assert foreign.info.metadata["concept_subject"] == "f" * 64
        assert foreign.info.metadata["loaded_subject"] == subject_fingerprint(tiny_subject().info)


GOOD_PAIR = pair_pb2.Pair(text="q", chosen="a", rejected="b")
BAD_PAIRS = pb.ExamplePairs(pairs=[*[GOOD_PAIR] * 11, pair_pb2.Pair(text="q", chosen="a")])


@pytest.mark.parametrize(
    ("fields", "code", "reason", "violation"),
    [
        ({}, "INVALID_ARGUMENT", "MISSING_SOURCE", "source"),
        ({"display_name": " ", "cluster": 0}, "INVALID_ARGUMENT", "INVALID_NAME", "display_name"),
        ({"display_name": "x" * 129, "cluster": 0}, "INVALID_ARGUMENT", "TEXT_TOO_LONG", "display_name"),
        ({"texts": texts(9)}, "INVALID_ARGUMENT", "TOO_FEW_EXAMPLES", "texts.positive"),
        ({"pairs": pb.ExamplePairs()}, "INVALID_ARGUMENT", "TOO_FEW_EXAMPLES", "pairs.pairs"),
        ({"pairs": BAD_PAIRS}, "INVALID_ARGUMENT", "EMPTY_SPAN", "pairs.pairs[11].rejected"),
        ({"texts": texts(10), "method": pb.PROBE_METHOD_BRADLEY_TERRY}, "INVALID_ARGUMENT", "PAIRS_NEEDED", "method"),
        ({"texts": texts(10), "max_features": 3}, "INVALID_ARGUMENT", "NOT_READ", "max_features"),
        (
            {"texts": texts(10), "method": pb.PROBE_METHOD_FEATURES, "max_features": 65},
            "INVALID_ARGUMENT",
            "LIMIT_EXCEEDED",
            "max_features",
        ),
        (
            {"texts": texts(10), "method": pb.PROBE_METHOD_FEATURES, "max_features": 0},
            "INVALID_ARGUMENT",
            "OUT_OF_RANGE",
            "max_features",
        ),
        ({"texts": texts(10), "method": 9}, "INVALID_ARGUMENT", "UNKNOWN_ENUM_VALUE", "method"),
        ({"texts": texts(10), "held_out": 1.0}, "INVALID_ARGUMENT", "OUT_OF_RANGE", "held_out"),
        ({"texts": texts(10), "held_out": float("nan")}, "INVALID_ARGUMENT", "OUT_OF_RANGE", "held_out"),
        ({"texts": texts(10), "random_directions": 0}, "INVALID_ARGUMENT", "OUT_OF_RANGE", "random_directions"),
        ({"cluster": 99}, "NOT_FOUND", "NOT_FOUND", ""),
        ({"cluster": -1}, "NOT_FOUND", "NOT_FOUND", ""),
        ({"dataset": "datasets/none"}, "NOT_FOUND", "NOT_FOUND", ""),
        ({"dataset": "datasets/../x"}, "INVALID_ARGUMENT", "INVALID_NAME", "dataset"),
        ({"label_search": "  "}, "INVALID_ARGUMENT", "EMPTY_SEARCH", "label_search"),
        ({"label_search": "zzz"}, "INVALID_ARGUMENT", "NO_FEATURE_FOUND", "label_search"),
        ({"features": {"indices": [96], "values": [1]}}, "INVALID_ARGUMENT", "UNKNOWN_FEATURE", "features.indices[0]"),
        ({"direction": tensor(np.zeros(WIDTH))}, "INVALID_ARGUMENT", "NO_DIRECTION", "direction.data"),
        ({"direction": tensor(np.ones(3))}, "INVALID_ARGUMENT", "SHAPE_MISMATCH", "direction.shape"),
        ({"cluster": 0, "concept_id": "a/b"}, "INVALID_ARGUMENT", "INVALID_CONCEPT_ID", "concept_id"),
        ({"cluster": 0, "request_id": "a b"}, "INVALID_ARGUMENT", "INVALID_REQUEST_ID", "request_id"),
    ],
)
async def test_a_request_that_cannot_be_is_refused_by_its_path(
    begin: Begin, fields: dict[str, Any], code: str, reason: str, violation: str
) -> None:
    service = await begin()
    status = await refused(service.concepts.CreateConcept(pb.CreateConceptRequest(**{"display_name": "x", **fields})))
    assert (status.code.name, status.info.reason) == (code, reason)
    assert status.violations == ([violation] if violation else [])
    assert len((await service.operations.ListOperations(operations_pb2.ListOperationsRequest())).operations) == 0


async def test_the_same_request_id_gives_the_same_operation_and_deletion_is_final(begin: Begin) -> None:
    service = await begin()
    request = pb.CreateConceptRequest(display_name="Loud", cluster=1, request_id="r1")
    first, again = [await service.concepts.CreateConcept(request) for _ in range(2)]
    assert first == again
    await service.concepts.DeleteConcept(pb.DeleteConceptRequest(name="concepts/loud"))
    gone = await refused(service.concepts.GetConcept(pb.GetConceptRequest(name="concepts/loud")))
    assert gone.code is grpc.StatusCode.NOT_FOUND
    assert (await refused(service.concepts.DeleteConcept(pb.DeleteConceptRequest(name="concepts/loud")))).code == gone.code
    assert len((await service.concepts.ListConcepts(pb.ListConceptsRequest())).concepts) == 0


async def test_clusters_are_computed_labelled_and_listed_page_by_page(begin: Begin) -> None:
    service = await begin(pairs=loud_pairs(24))
    shipped = await service.concepts.ListClusters(pb.ListClustersRequest())
    assert [tuple(cluster.features) for cluster in shipped.clusters] == [cluster.features for cluster in CLUSTERS.clusters]
    assert shipped.clusters[1].label == "praise"
    assert shipped.clusters[1].label_method == "members/1"
    request = pb.ComputeClustersRequest(dataset=service.dataset, edge_share=0.2, min_size=3, seed=1)
    summary = await service.made(await service.concepts.ComputeClusters(request), pb.ClusterSummary)
    assert summary.samples == 48
    assert summary.clusters >= 1
    labels = pb.CreateLabelsRequest(dataset=service.dataset, clusters=[0])
    made = await service.made(await service.concepts.CreateLabels(labels), pb.LabelSummary)
    assert (made.labelled, made.failed, made.endpoint_requests) == (1, 0, 0)
    found: list[Any] = []
    token = ""
    while True:
        page = await service.concepts.ListClusters(pb.ListClustersRequest(page_size=1, page_token=token))
        assert page.total_size == summary.clusters
        found += page.clusters
        token = page.next_page_token
        if not token:
            break
    assert [cluster.id for cluster in found] == list(range(summary.clusters))
    assert sum(len(cluster.features) for cluster in found) == summary.features
    assert found[0].label_method == "evidence-tokens/1"
    assert found[0].detection_score == pytest.approx(made.median_detection_score)
    assert found[0].cohesion > 0
    for token in ("x", seal_token("no number", ("ListClusters",))):
        broken = await refused(service.concepts.ListClusters(pb.ListClustersRequest(page_token=token)))
        assert broken.info.reason == "INVALID_PAGE_TOKEN"


async def test_labels_through_an_endpoint_need_one(begin: Begin) -> None:
    service = await begin(pairs=loud_pairs(12))
    request = pb.CreateLabelsRequest(dataset=service.dataset, features=[1], method=pb.CreateLabelsRequest.METHOD_ENDPOINT)
    status = await refused(service.concepts.CreateLabels(request))
    assert (status.code, status.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_LABEL_ENDPOINT")
    assert "--label-endpoint" in status.message


async def test_a_failed_operation_says_why_with_both_numbers(begin: Begin) -> None:
    service = await begin()
    one_prompt = pb.ExampleTexts(
        positive=[pair_pb2.PromptedResponse(text="q", response=f"YES {i}") for i in range(10)],
        negative=[pair_pb2.PromptedResponse(text="q", response=f"no {i}") for i in range(10)],
    )
    operation = await service.concepts.CreateConcept(pb.CreateConceptRequest(display_name="x", texts=one_prompt))
    ended = await service.operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name), timeout=PATIENCE)
    assert ended.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "10 positive and 10 negative examples in 1 prompts" in ended.error.message


async def test_without_a_data_directory_concepts_are_refused_and_everything_else_works(begin: Begin) -> None:
    service = await begin(keeping=False)
    status = await refused(service.concepts.ListConcepts(pb.ListConceptsRequest()))
    assert (status.code, status.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_DATA_DIR")
    options = {"concepts": [{"name": "a", "stored": "concepts/x"}]}
    asked = scoring_pb2.ScoreResponsesRequest(responses=[response(loud_texts(1).positive[0])], options=options)
    assert (await refused(service.scoring.ScoreResponses(asked))).info.reason == "NO_DATA_DIR"


async def test_a_concept_is_read_back_by_others_from_its_files(begin: Begin, tmp_path: Path) -> None:
    service = await begin()
    concept = await service.create(texts=texts(12))
    stored = ConceptFiles(service.kept.concepts._files._files).read("loud")
    assert cosine(stored.direction, np.frombuffer(concept.direction.data, "<f4")) == pytest.approx(1)
    assert FeatureLabel(concept.nearest[0].feature).id in range(FEATURES)
