"""Labels from a stored dataset through a real subject: from evidence, through a real endpoint, over a restart, by name."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assay_server.errors import FailedPrecondition, InvalidItem, NotFound
from assay_server.jobs.concepts.clusters import ClusterRequest
from assay_server.jobs.concepts.label_reading import choose_responses
from assay_server.jobs.concepts.labels import LabelMethod, LabelRequest, LabelSummary
from assay_server.jobs.library import Library
from assay_server.jobs.operations.jobs import Operations
from assay_server.labelling.endpoint import EndpointOptions
from assay_server.labelling.labels import FeatureLabel, Labels
from assay_server.scorer import Scorer
from assay_server.store.features import FeatureShard, SpanColumns
from assay_server.subject.types import Pair, SpanName

from tests.support.concepts import CLUSTERS, concepts_over, loud_pairs, sentence
from tests.support.label_endpoint import LabelServer, Reply
from tests.support.tiny_subject import FEATURES
from tests.support.waiting import PATIENCE

RAW = tuple(Pair(f"say {i}: ", sentence(i, loud=True), sentence(i, loud=False)) for i in range(12))
PAIRS = [*loud_pairs(24), *RAW]


def endpoint(judge: LabelServer) -> EndpointOptions:
    return EndpointOptions(judge.url, "judge", api_key="s3cret", attempts=2, backoff_seconds=0.01)


async def labelled(library: Library, operations: Operations, request: LabelRequest) -> LabelSummary:
    info = await operations.wait((await library.labels.create(request)).name, PATIENCE)
    assert info.error is None, info.error
    return await library.labels.summary(info.response)


async def test_every_feature_that_fires_gets_a_label_from_its_tokens(tmp_path: Path, scorer: Scorer) -> None:
    labels = Labels(FEATURES, {5: FeatureLabel(5, "old", "by hand", promoted_tokens=("kept",))})
    async with concepts_over(tmp_path, scorer, PAIRS, labels=labels) as (library, operations, dataset):
        summary = await labelled(library, operations, LabelRequest(dataset))
        firing = [entry for entry in labels.known() if entry.label_method == "evidence-tokens/1"]
    assert summary.labelled == len(firing) > 20
    assert summary.requests == 0
    assert 0.5 < summary.median_detection_score <= 1
    for entry in firing:
        assert entry.contexts
        assert entry.top_tokens
        assert entry.firing_rate is not None
        assert entry.firing_rate > 0
    scores = [entry.detection_score for entry in firing if entry.detection_score is not None]
    assert summary.median_detection_score == pytest.approx(float(np.median(scores)))
    assert labels.get(5).promoted_tokens == ("kept",)


async def test_evidence_quotes_response_tokens_only(tmp_path: Path, scorer: Scorer) -> None:
    labels = Labels(FEATURES)
    async with concepts_over(tmp_path, scorer, PAIRS, labels=labels) as (library, operations, dataset):
        await labelled(library, operations, LabelRequest(dataset))
    letters = {c for pair in PAIRS for c in pair.chosen + pair.rejected}
    prompts = set("say 0123456789:") - letters
    shown = {token for entry in labels.known() for token in entry.top_tokens}
    assert shown
    assert not shown & prompts


async def test_labels_outlive_the_process_and_stand_over_those_that_came_with_the_sae(tmp_path: Path, scorer: Scorer) -> None:
    async with concepts_over(tmp_path, scorer, PAIRS) as (library, operations, dataset):
        ids = (await _firing(library, operations, dataset))[:2]
    (tmp_path / "labels").rename(tmp_path / "gone")
    async with concepts_over(tmp_path, scorer, PAIRS) as (library, operations, dataset):
        assert (await labelled(library, operations, LabelRequest(dataset, ids))).labelled == 2
    labels = Labels(FEATURES, {id: FeatureLabel(id, "shipped", "by hand") for id in range(FEATURES)})
    async with concepts_over(tmp_path, scorer, labels=labels) as (_, _, _):
        assert [entry.id for entry in labels.known() if entry.label_method == "evidence-tokens/1"] == list(ids)


async def test_clusters_are_labelled_by_what_their_members_fire_on_together(tmp_path: Path, scorer: Scorer) -> None:
    async with concepts_over(tmp_path, scorer, PAIRS) as (library, operations, dataset):
        computing = await library.clusters.compute(ClusterRequest(dataset, edge_share=0.2, min_size=3))
        await operations.wait(computing.name, PATIENCE)
        assert library.labels.of_cluster(library.clusters.in_use.clusters[0]).label == ""
        summary = await labelled(library, operations, LabelRequest(dataset, clusters=(0,)))
        assert (summary.labelled, summary.failed) == (1, 0)
        cluster = library.clusters.in_use.clusters[0]
        assert cluster.label
        assert cluster.label_method == "evidence-tokens/1"
        assert library.labels.of_cluster(cluster).detection_score == cluster.detection_score
        assert library.labels.look_up("cluster/0", cluster.features).text == cluster.label
    async with concepts_over(tmp_path, scorer) as (library, _, _):
        assert library.clusters.in_use.clusters[0].label == cluster.label


def knowing(request: dict[str, Any]) -> str:
    asked = request["messages"][1]["content"]
    if not asked.startswith("Description: "):
        return '{"label": "shouting"}'
    texts = [json.loads(text) for text in re.findall(r"^\d+: (.*)$", asked, re.MULTILINE)]
    return str([int("!!" in text) for text in texts])


async def test_an_endpoint_labels_features_and_what_it_cost_is_counted(
    tmp_path: Path, scorer: Scorer, judge: LabelServer
) -> None:
    judge.answer = knowing
    labels = Labels(FEATURES)
    over = concepts_over(tmp_path, scorer, PAIRS, labels=labels, endpoint=endpoint(judge))
    async with over as (library, operations, dataset):
        await labelled(library, operations, LabelRequest(dataset))
        ids = tuple(entry.id for entry in labels.known())[:3]
        summary = await labelled(library, operations, LabelRequest(dataset, ids, method=LabelMethod.ENDPOINT))
    assert (summary.labelled, summary.failed) == (3, 0)
    assert summary.requests == len(judge.requests) >= 3
    assert summary.prompt_tokens == 100 * summary.requests
    assert summary.completion_tokens == 7 * summary.requests
    for id in ids:
        assert (labels.get(id).label, labels.get(id).label_method) == ("shouting", "endpoint:judge")
        assert labels.get(id).top_tokens, "the evidence stays beside the label"
    assert labels.get(ids[0]).detection_score is None or 0 <= labels.get(ids[0]).detection_score <= 1
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]  # noqa: ASYNC240
    assert not any(b"s3cret" in data for data in written)


async def test_one_item_that_gets_no_label_is_counted_and_the_others_are_made(
    tmp_path: Path, scorer: Scorer, judge: LabelServer
) -> None:
    answers = iter(["{}", "{}"])
    judge.answer = lambda request: next(answers, None) or knowing(request)
    async with concepts_over(tmp_path, scorer, PAIRS, endpoint=endpoint(judge)) as (library, operations, dataset):
        ids = await _firing(library, operations, dataset)
        asked = LabelRequest(dataset, ids[:1], method=LabelMethod.ENDPOINT)
        assert (await labelled(library, operations, asked)).failed == 1
        assert (await labelled(library, operations, asked)).failed == 0, "another request asks again"


async def test_an_endpoint_that_refuses_ends_the_run_with_the_fix(tmp_path: Path, scorer: Scorer, judge: LabelServer) -> None:
    judge.answer = lambda request: Reply(status=401)
    async with concepts_over(tmp_path, scorer, PAIRS, endpoint=endpoint(judge)) as (library, operations, dataset):
        ids = await _firing(library, operations, dataset)
        info = await library.labels.create(LabelRequest(dataset, ids, method=LabelMethod.ENDPOINT))
        ended = await operations.wait(info.name, PATIENCE)
    assert ended.error is not None
    assert ended.error.reason == "LABEL_ENDPOINT_REFUSED"
    assert "label_api_key" in ended.error.message


async def test_an_endpoint_that_is_down_is_given_up_before_everything_was_asked(
    tmp_path: Path, scorer: Scorer, judge: LabelServer
) -> None:
    judge.answer = lambda request: Reply(status=503)
    async with concepts_over(tmp_path, scorer, PAIRS, endpoint=endpoint(judge)) as (library, operations, dataset):
        ids = await _firing(library, operations, dataset)
        info = await library.labels.create(LabelRequest(dataset, ids, method=LabelMethod.ENDPOINT))
        ended = await operations.wait(info.name, PATIENCE)
    assert ended.error is not None
    assert ended.error.reason == "LABEL_ENDPOINT_FAILED"
    assert len(judge.requests) <= 64, "one batch at most"


async def test_a_run_that_was_broken_off_asks_only_for_what_is_missing(
    tmp_path: Path, scorer: Scorer, judge: LabelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay_server.jobs.concepts.label_runs.KEPT_AT_ONCE", 2)
    explained: list[str] = []
    stall = asyncio.Event()

    def answer(request: dict[str, Any]) -> "str | Reply":
        if not request["messages"][1]["content"].startswith("Description: "):
            explained.append(request["messages"][1]["content"])
            if len(explained) == 5:
                stall.set()
                return Reply(wait=3.0)
        return knowing(request)

    judge.answer = answer
    async with concepts_over(tmp_path, scorer, PAIRS, endpoint=endpoint(judge)) as (library, operations, dataset):
        ids = (await _firing(library, operations, dataset))[:6]
        info = await library.labels.create(LabelRequest(dataset, ids, method=LabelMethod.ENDPOINT, request_id="r"))
        while not stall.is_set():  # noqa: ASYNC110 - set on a thread of the server's
            await asyncio.sleep(0.01)
        await operations.aclose()
    judge.answer = knowing_again(explained)
    async with concepts_over(tmp_path, scorer, PAIRS, endpoint=endpoint(judge)) as (library, operations, _):
        ended = await operations.wait(info.name, PATIENCE)
        assert ended.error is None
        summary = await library.labels.summary(ended.response)
    assert summary.labelled == 6
    assert all(explained.count(asked) == 1 for asked in explained[:4]), "four of six were kept, and are not asked about again"
    assert len(set(explained)) == 6


def knowing_again(explained: list[str]) -> Any:
    def answer(request: dict[str, Any]) -> str:
        if not request["messages"][1]["content"].startswith("Description: "):
            explained.append(request["messages"][1]["content"])
        return knowing(request)

    return answer


async def test_requests_that_cannot_be_are_refused(tmp_path: Path, scorer: Scorer) -> None:
    async with concepts_over(tmp_path, scorer, PAIRS[:2]) as (library, _, dataset):
        with pytest.raises(InvalidItem, match="Feature 96 does not exist") as refused:
            await library.labels.create(LabelRequest(dataset, (1, 96)))
        assert refused.value.field == "features[1]"
        with pytest.raises(NotFound, match="no clusters were computed"):
            await library.labels.create(LabelRequest(dataset, clusters=(0,)))
        with pytest.raises(NotFound):
            await library.labels.create(LabelRequest("datasets/none"))
        with pytest.raises(FailedPrecondition, match="--label-endpoint") as missing:
            await library.labels.create(LabelRequest(dataset, method=LabelMethod.ENDPOINT))
        assert missing.value.reason == "NO_LABEL_ENDPOINT"


async def test_names_of_concepts_and_conditions_find_their_words(tmp_path: Path, scorer: Scorer) -> None:
    labels = Labels(
        FEATURES,
        {
            5: FeatureLabel(5, "“a”", "evidence-tokens/1", 0.9, (" a",)),
            9: FeatureLabel(9, "“b”", "evidence-tokens/1", 0.8, (" b",)),
        },
    )
    async with concepts_over(tmp_path, scorer, labels=labels, shipped=CLUSTERS) as (library, _, _):
        look_up = library.labels.look_up
        assert (look_up("feature/5", (5,)).text, look_up("feature/5", (5,)).detection_score) == ("“a”", 0.9)
        assert look_up("data-cluster/3", (9, 5)).text == "“b”, “a”"
        assert look_up("data-cluster/3", (9, 5)).method == "members/1"
        assert look_up("cluster/0", CLUSTERS.clusters[0].features).text == "“a”, “b”"
        assert look_up("cluster/0", (95, 9)).text == "“b”", "clusters were computed anew since: its features tell"
        assert look_up("metadata/topic=x", ()).text == ""
        assert look_up("concepts/gone", ()).text == ""
        labels.update([FeatureLabel(9, "“c”", "evidence-tokens/1", 0.8, (" c",))])
        assert look_up("data-cluster/3", (9, 5)).text == "“c”, “a”", "labels that were bettered are seen at once"


async def _firing(library: Library, operations: Operations, dataset: str) -> tuple[int, ...]:
    """Features that have evidence in the dataset."""
    await labelled(library, operations, LabelRequest(dataset))
    return tuple(entry.id for entry in library.labels._labels.known())


def shard(first: int, values: np.ndarray) -> FeatureShard:
    """A shard of pairs whose responses fire feature f by ``values[side, pair, f]``."""
    _, pairs, features = values.shape
    rows = np.arange(first, first + pairs)
    spans = {
        side: SpanColumns(
            np.ones(pairs, np.int64),
            features * np.arange(pairs + 1),
            np.tile(np.arange(features), pairs),
            values[at].reshape(-1).astype(np.float32),
            np.ones(pairs * features, np.int64),
        )
        for at, side in enumerate((SpanName.CHOSEN, SpanName.REJECTED))
    }
    return FeatureShard(rows, rows, np.ones(pairs, np.bool_), spans)


def test_the_strongest_responses_of_every_feature_are_read_before_any_random_one_is_missed() -> None:
    generator = np.random.default_rng(0)
    values = generator.random((2, 400, 3))
    shards = [shard(first, values[:, first : first + 90]) for first in range(0, 400, 90)]
    features = np.array([0, 2])
    chosen = choose_responses(lambda: shards, features, 3, seed=1, most=60)
    assert len(chosen) == len(set(chosen)) == 60
    for feature in features:
        flat = [(values[side, row, feature], row, side) for side in range(2) for row in range(400)]
        for _, row, side in sorted(flat, reverse=True)[:20]:
            assert any(one.row == row and one.side is (SpanName.CHOSEN, SpanName.REJECTED)[side] for one in chosen)
    assert choose_responses(lambda: shards, features, 3, seed=1, most=60) == chosen
    everything = choose_responses(lambda: shards, features, 3, seed=1, most=5000)
    assert 200 <= len(everything) <= 200 + 2 * 24


class Changing(Labels):
    """Labels of which some change while they are counted, as where a thread counts and the event loop takes new ones."""

    meanwhile: FeatureLabel | None = None

    def known(self) -> Iterator[FeatureLabel]:
        yield from list(super().known())
        if self.meanwhile is not None:
            entry, self.meanwhile = self.meanwhile, None
            self.update([entry])


async def test_words_that_were_counted_while_labels_changed_are_counted_anew(tmp_path: Path, scorer: Scorer) -> None:
    labels = Changing(FEATURES, {3: FeatureLabel(3, "old words", "by hand")})
    async with concepts_over(tmp_path, scorer, PAIRS, labels=labels) as (library, _, _):
        labels.update([])
        labels.meanwhile = FeatureLabel(3, "new words", "by hand")
        library.labels.of_group([3])
        assert library.labels.of_group([3]).label == "new words"
