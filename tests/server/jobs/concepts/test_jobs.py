"""Concepts from every source, through a real tiny subject: fitted, measured on tokens, kept over a restart, made once."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assay_server.concepts.measuring import random_unit_vectors
from assay_server.concepts.probes import ProbeMethod
from assay_server.errors import DataLoss, FailedPrecondition, InvalidItem, NotFound, SubjectMismatch
from assay_server.jobs.concepts.fitting import stack_directions
from assay_server.jobs.concepts.types import (
    FromCluster,
    FromDataset,
    FromDirection,
    FromFeatures,
    FromSearch,
    PairExamples,
    TextExamples,
)
from assay_server.jobs.operations.progress import Progress
from assay_server.scorer import Scored, ScoreOptions, Scorer
from assay_server.store.concepts import ConceptFiles, ConceptKind, StoredConcept, subject_fingerprint
from assay_server.store.files import Files
from assay_server.subject.types import PromptedResponse, SpanName
from sklearn.metrics import roc_auc_score

from tests.support.concepts import CLUSTERS, concept_jobs, cosine, loud_pairs, loud_texts, request
from tests.support.tiny_subject import WIDTH, Watched, tiny_subject
from tests.support.waiting import PATIENCE, until


async def made(jobs: Any, operations: Any, asked: Any) -> StoredConcept:
    info = await operations.wait((await jobs.create(asked)).name, PATIENCE)
    assert info.error is None, info.error
    assert info.done
    return jobs.get(info.response)


async def token_scores(scorer: Scorer, items: Any, direction: np.ndarray) -> list[float]:
    outcomes = await scorer.score(items, ScoreOptions(directions=stack_directions(direction[None])))
    assert all(isinstance(outcome, Scored) for outcome in outcomes)
    return [float(outcome.pooled.directions[SpanName.CHOSEN][0]) for outcome in outcomes]  # type: ignore[union-attr]


@pytest.mark.parametrize("method", [ProbeMethod.DIFFERENCE_OF_MEANS, ProbeMethod.LOGISTIC])
async def test_texts_make_a_direction_that_tells_unseen_texts_apart(tmp_path: Path, scorer: Scorer, method: ProbeMethod) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        concept = await made(jobs, operations, request(loud_texts(), method=method, display_name="Loud texts"))
    assert (concept.name, concept.kind, concept.method) == ("concepts/loud-texts", ConceptKind.DIRECTION, method.value)
    assert concept.direction is not None
    assert np.linalg.norm(concept.direction) == pytest.approx(1, abs=1e-6)
    report = concept.report
    assert report is not None
    assert (report.fitted_positive, report.held_out_positive) == (17, 7)
    assert (report.fitted_negative, report.held_out_negative) == (17, 7)
    assert report.auroc > 0.95
    assert report.auroc_low < report.auroc
    assert 0.5 <= report.random_auroc <= report.random_auroc_max
    assert report.pair_accuracy is None
    assert (report.l2 is None) == (method is ProbeMethod.DIFFERENCE_OF_MEANS)
    unseen = loud_texts(60)
    high = await token_scores(scorer, unseen.positive[24:], concept.direction)
    low = await token_scores(scorer, unseen.negative[24:], concept.direction)
    assert roc_auc_score([1] * len(high) + [0] * len(low), high + low) > 0.9
    assert np.mean([score > report.threshold for score in high]) > 0.8
    assert np.mean([score > report.threshold for score in low]) < 0.2


async def test_the_difference_of_means_is_that_of_the_fitted_mean_residuals(tmp_path: Path, scorer: Scorer) -> None:
    source = loud_texts(12)
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        concept = await made(jobs, operations, request(source, held_out=0.25, seed=3))
    outcomes = await scorer.score([*source.positive, *source.negative], ScoreOptions())
    means = np.stack([outcome.pooled.spans[SpanName.CHOSEN].mean_residual for outcome in outcomes])  # type: ignore[union-attr]
    everything = means[:12].mean(axis=0) - means[12:].mean(axis=0)
    assert cosine(concept.direction, everything) > 0.97


async def test_the_report_is_what_scikit_learn_says_of_token_scores_of_held_out_texts(tmp_path: Path, scorer: Scorer) -> None:
    source = loud_texts(20)
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        concept = await made(jobs, operations, request(source, seed=5, random_directions=4))
    assert concept.report is not None
    assert concept.direction is not None
    items = [*source.positive, *source.negative]
    labels = np.arange(40) < 20
    scores = np.array(await token_scores(scorer, items, concept.direction))
    matching = [
        held
        for held in _possible_splits(items, labels)
        if roc_auc_score(labels[held], scores[held]) == pytest.approx(concept.report.auroc)
    ]
    assert matching, "the held-out AUROC is that of max over tokens of <h, v>"
    rivals = random_unit_vectors(4, WIDTH, 5)
    (held,) = matching[:1]
    areas = []
    for rival in rivals:
        along = np.array(await token_scores(scorer, items, rival))
        areas.append(abs(roc_auc_score(labels[held], along[held]) - 0.5) + 0.5)
    assert concept.report.random_auroc == pytest.approx(np.mean(areas), abs=1e-6)
    assert concept.report.random_auroc_max == pytest.approx(np.max(areas), abs=1e-6)


def _possible_splits(items: Any, labels: np.ndarray) -> list[np.ndarray]:
    from assay_server.concepts.splits import group_codes, split_groups
    from assay_server.store.pairs import prompt_id

    groups = group_codes([f"prompt prompt {prompt_id(item.prompt)}" for item in items])
    return [split_groups(labels, groups, share=0.3, minimum=3, seed=5).held_out]


async def test_pairs_make_a_bradley_terry_direction_with_its_pair_accuracy(tmp_path: Path, scorer: Scorer) -> None:
    source = PairExamples(loud_pairs(24, prompts=12))
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        concept = await made(jobs, operations, request(source, method=ProbeMethod.BRADLEY_TERRY))
    report = concept.report
    assert report is not None
    assert report.pair_accuracy is not None
    assert report.pair_accuracy > 0.9
    assert report.held_out_positive == report.held_out_negative
    assert report.held_out_positive % 2 == 0, "pairs that share a prompt are held out together"
    assert report.l2 is not None


async def test_a_dataset_is_taken_as_pairs(tmp_path: Path, scorer: Scorer) -> None:
    pairs = loud_pairs(24)
    async with concept_jobs(tmp_path, scorer, datasets={"datasets/a": pairs}) as (jobs, operations):
        concept = await made(jobs, operations, request(FromDataset("datasets/a"), display_name="from a dataset"))
        same = await made(jobs, operations, request(PairExamples(pairs), display_name="from pairs"))
        with pytest.raises(NotFound):
            await jobs.create(request(FromDataset("datasets/b")))
    assert np.array_equal(concept.direction, same.direction)
    assert concept.source["dataset"] == "datasets/a"


async def test_what_needs_no_model_is_done_at_once_and_reads_nothing(tmp_path: Path, scorer: Scorer, watched: Watched) -> None:
    direction = np.arange(WIDTH, dtype=np.float32)
    sources: list[tuple[Any, ConceptKind, list[int]]] = [
        (FromFeatures(np.array([4]), np.ones(1, dtype=np.float32)), ConceptKind.FEATURE, [4]),
        (FromFeatures(np.array([4, 8]), np.array([1, -0.5], dtype=np.float32)), ConceptKind.FEATURES, [4, 8]),
        (FromCluster(1), ConceptKind.FEATURES, [2, 3, 4, 95]),
        (FromSearch("PRAISE"), ConceptKind.FEATURES, [3, 7]),
        (FromDirection(direction), ConceptKind.DIRECTION, []),
    ]
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        for number, (source, kind, features) in enumerate(sources):
            info = await jobs.create(request(source, concept_id=f"c{number}"))
            assert info.done
            concept = jobs.get(info.response)
            assert (concept.kind, concept.features.tolist()) == (kind, features)
            assert concept.report is None
            assert len(concept.nearest) == 10
        assert [concept.id for concept in jobs.all()] == ["c4", "c3", "c2", "c1", "c0"]
        assert jobs.get("concepts/c1").weights.tolist() == [1, -0.5]
        assert jobs.get("concepts/c2").is_set
        assert cosine(jobs.get("concepts/c4").direction, direction) == pytest.approx(1)
    assert watched.reads == []


async def test_the_nearest_features_are_those_of_the_decoder(tmp_path: Path, scorer: Scorer) -> None:
    rows = tiny_subject().sae.W_dec.detach().numpy().astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        along = await made(jobs, operations, request(FromDirection(-rows[17].astype(np.float32)), concept_id="a"))
        alone = await made(jobs, operations, request(FromFeatures(np.array([17]), np.ones(1, np.float32)), concept_id="b"))
    assert (along.nearest[0].feature, along.nearest[0].cosine) == (17, pytest.approx(-1))
    assert (alone.nearest[0].feature, alone.nearest[0].cosine) == (17, pytest.approx(1))
    expected = np.argsort(-np.abs(rows @ rows[17]))[:10]
    assert [near.feature for near in alone.nearest] == expected.tolist()


@pytest.mark.parametrize(
    ("source", "field", "given"),
    [
        (loud_texts(7, negatives=12), "texts.positive", 7),
        (loud_texts(12, negatives=0), "texts.negative", 0),
        (PairExamples(loud_pairs(9)), "pairs.pairs", 9),
    ],
)
async def test_too_few_examples_are_refused_with_both_numbers_and_the_fix(
    tmp_path: Path, scorer: Scorer, source: Any, field: str, given: int
) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        with pytest.raises(InvalidItem, match=f"{given} .* 10 are needed.* at least {10 - given} more") as refused:
            await jobs.create(request(source))
        assert operations.all() == []
    assert (refused.value.reason, refused.value.field) == ("TOO_FEW_EXAMPLES", field)
    assert refused.value.details == {"examples": str(given), "needed": "10"}


async def test_examples_that_cannot_be_read_are_left_out_and_named_where_too_few_remain(tmp_path: Path, scorer: Scorer) -> None:
    source = loud_texts(12)
    long = tuple(PromptedResponse(item.prompt, "x" * 5000) for item in source.positive)
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        enough = TextExamples((*source.positive, *long[:3]), source.negative)
        report = (await made(jobs, operations, request(enough))).report
        assert report is not None
        assert report.fitted_positive + report.held_out_positive == 12
        too_few = TextExamples((*source.positive[:9], *long), source.negative)
        info = await operations.wait((await jobs.create(request(too_few, concept_id="few"))).name, PATIENCE)
    assert info.error is not None
    assert info.error.reason == "TOO_FEW_EXAMPLES"
    assert "12 of 33 could not be read" in info.error.message
    assert info.error.details["examples"] == "9"


async def test_texts_without_prompts_are_each_their_own_group_and_equal_texts_one(tmp_path: Path, scorer: Scorer) -> None:
    source = loud_texts(12)
    bare = TextExamples(
        *(tuple(PromptedResponse("", item.response) for item in side) for side in (source.positive, source.negative))
    )
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        concept = await made(jobs, operations, request(bare))
        assert concept.report is not None
        assert concept.report.held_out_positive >= 3
        one_prompt = TextExamples(
            *(tuple(PromptedResponse("q", item.response) for item in side) for side in (source.positive, source.negative))
        )
        info = await operations.wait((await jobs.create(request(one_prompt))).name, PATIENCE)
    assert info.error is not None
    assert info.error.reason == "TOO_FEW_EXAMPLES"
    assert "in 1 prompts" in info.error.message


async def test_sides_that_do_not_differ_make_no_concept(tmp_path: Path, scorer: Scorer) -> None:
    positive = loud_texts(12).positive
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        info = await operations.wait((await jobs.create(request(TextExamples(positive, positive)))).name, PATIENCE)
        assert jobs.all() == []
    assert info.error is not None
    assert info.error.reason == "NO_DIFFERENCE"


async def test_texts_are_no_pairs_for_bradley_terry(tmp_path: Path, scorer: Scorer) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        with pytest.raises(InvalidItem) as refused:
            await jobs.create(request(loud_texts(12), method=ProbeMethod.BRADLEY_TERRY))
    assert (refused.value.reason, refused.value.field) == ("PAIRS_NEEDED", "method")


async def test_the_same_request_makes_one_concept_and_another_under_its_id_is_refused(tmp_path: Path, scorer: Scorer) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        asked = request(FromCluster(0), request_id="r1")
        first, again = await asyncio.gather(jobs.create(asked), jobs.create(asked))
        assert first.name == again.name
        assert (await jobs.create(asked)).response == first.response
        assert len(jobs.all()) == 1
        for other in (request(FromCluster(1), request_id="r1"), request(loud_texts(12), request_id="r1")):
            with pytest.raises(InvalidItem) as refused:
                await jobs.create(other)
            assert refused.value.reason == "REQUEST_ID_REUSED"
        second = await jobs.create(request(FromCluster(0)))
        assert second.response == "concepts/loud-2", "without an id of its own, the name makes one that is free"


async def test_an_id_that_is_taken_or_none_is_refused(tmp_path: Path, scorer: Scorer) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        await jobs.create(request(FromCluster(0), concept_id="mine"))
        with pytest.raises(FailedPrecondition, match="concepts/mine exists"):
            await jobs.create(request(FromCluster(0), concept_id="mine"))
        for id in ("a/b", "..", "x" * 65, "-x", "ä"):
            with pytest.raises(InvalidItem, match="concept_id"):
                await jobs.create(request(FromCluster(0), concept_id=id))


async def test_a_display_name_of_any_alphabet_makes_an_id(tmp_path: Path, scorer: Scorer) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        for name, id in (("Ærlig & kind!", "rlig-kind"), ("礼儀正しい", "concept"), ("x" * 100, "x" * 56)):
            assert (await jobs.create(request(FromCluster(0), display_name=name))).response == f"concepts/{id}"


async def test_clusters_and_words_that_are_not_there_are_said_to_be_so(tmp_path: Path, scorer: Scorer) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        with pytest.raises(NotFound, match="no cluster 2: there are clusters 0 to 1"):
            await jobs.create(request(FromCluster(2)))
        with pytest.raises(InvalidItem, match="2 labelled features") as refused:
            await jobs.create(request(FromSearch("nowhere")))
        assert refused.value.field == "label_search"
        with pytest.raises(InvalidItem, match="points somewhere"):
            await jobs.create(request(FromDirection(np.zeros(WIDTH, dtype=np.float32))))


async def test_concepts_outlive_the_process_and_their_examples_go_with_the_last_of_them(tmp_path: Path, scorer: Scorer) -> None:
    source = loud_texts(12)
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        before = [await made(jobs, operations, request(source, concept_id=id)) for id in ("a", "b")]
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        assert [concept.id for concept in jobs.all()] == ["b", "a"]
        assert np.array_equal(jobs.get("concepts/a").direction, before[0].direction)
        assert jobs.get("concepts/a").report == before[0].report
        assert np.array_equal(before[0].direction, before[1].direction), "the same request makes the same bits"
        await jobs.delete("concepts/a")
        assert len(Files(str(tmp_path)).names("examples")) == 1
        await jobs.delete("concepts/b")
        assert Files(str(tmp_path)).names("examples") == []
        with pytest.raises(NotFound):
            jobs.get("concepts/a")
        with pytest.raises(NotFound):
            await jobs.delete("concepts/a")


async def test_another_subject_refuses_a_concept_and_does_not_list_it(tmp_path: Path, scorer: Scorer) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        await jobs.create(request(FromCluster(0), concept_id="mine"))
    files = ConceptFiles(Files(str(tmp_path)))
    theirs = subject_fingerprint(replace(scorer.info, hook="blocks.1.hook_resid_post"))
    files.write(replace(files.read("mine"), subject=theirs))
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        assert jobs.all() == []
        with pytest.raises(SubjectMismatch) as refused:
            jobs.get("concepts/mine")
        assert refused.value.details == {
            "concept": "concepts/mine",
            "concept_subject": theirs,
            "loaded_subject": subject_fingerprint(scorer.info),
        }
        await jobs.delete("concepts/mine")


async def test_a_damaged_concept_is_named_keeps_its_id_and_can_be_deleted(tmp_path: Path, scorer: Scorer) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        await jobs.create(request(FromCluster(0), concept_id="mine"))
    (tmp_path / "concepts/mine/concept.safetensors").write_bytes(b"torn")
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        with pytest.raises(DataLoss, match="Delete it and make it again"):
            jobs.get("concepts/mine")
        with pytest.raises(FailedPrecondition):
            await jobs.create(request(FromCluster(0), concept_id="mine"))
        await jobs.delete("concepts/mine")
        await jobs.create(request(FromCluster(0), concept_id="mine"))


async def test_what_was_under_way_when_the_server_stopped_is_made_at_the_next_start(
    tmp_path: Path, scorer: Scorer, watched: Watched
) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        undisturbed = await made(jobs, operations, request(loud_texts(12), concept_id="whole"))
        watched.reads.clear()
        watched.hold()
        info = await jobs.create(request(loud_texts(12), concept_id="broken-off", request_id="r"))
        await until(lambda: bool(watched.reads))
        closing = asyncio.create_task(operations.aclose())
        await asyncio.sleep(0.02)
        watched.release()
        await closing
        assert not operations.get(info.name).done
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        ended = await operations.wait(info.name, PATIENCE)
        assert (ended.response, ended.resumed, ended.error) == ("concepts/broken-off", 1, None)
        concept = jobs.get("concepts/broken-off")
        assert np.array_equal(concept.direction, undisturbed.direction)
        assert concept.report == undisturbed.report


async def test_a_cancelled_fit_leaves_no_concept(tmp_path: Path, scorer: Scorer, watched: Watched) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, operations):
        watched.hold()
        info = await jobs.create(request(loud_texts(12)))
        await until(lambda: bool(watched.reads))
        await operations.cancel(info.name)
        watched.release()
        ended = await operations.wait(info.name, 30)
        assert ended.error is not None
        assert ended.error.reason == "CANCELLED"
        assert jobs.all() == []


async def test_a_crash_between_writing_and_answering_makes_no_second_concept(tmp_path: Path, scorer: Scorer) -> None:
    async with concept_jobs(tmp_path, scorer) as (jobs, _):
        info = await jobs.create(request(FromCluster(0), request_id="r"))
        concept = jobs.get(info.response)
        again = await jobs._maker.collect({"concept_id": concept.id, "subject": jobs.subject}, Progress())
        assert again == concept.name
        assert len(jobs.all()) == 1
        with pytest.raises(SubjectMismatch):
            await jobs._maker.collect({"concept_id": "x", "subject": "f" * 64}, Progress())
        assert CLUSTERS.clusters[0].features == tuple(concept.features)
