"""The audit library end to end over a real tiny subject: uploads to findings, and what is left when they stop in between."""

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from assay_server.audit.findings import ViewKind
from assay_server.errors import Cancelled, FailedPrecondition, InvalidItem, NotFound, SubjectMismatch
from assay_server.jobs.audits.types import AuditCondition, AuditState, DecisionMode, MetadataValue, Nuisance, PromptConcept
from assay_server.scorer import ScoreOptions, Scorer
from assay_server.subject.types import Pair

from tests.server.jobs.worlds import OPTIONS, QUICK, audit, lesson, only, open_library, tiny_scorer, upload
from tests.support.tiny_subject import FEATURES, Watched
from tests.support.waiting import PATIENCE, until

PAIRS = lesson(70)
UNUSABLE = sum(not pair.rejected for pair in PAIRS)


async def test_pairs_become_a_dataset_and_a_dataset_findings(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, PAIRS)
        before = await library.datasets.get(dataset)
        assert (before.pairs, before.scored, before.unusable_pairs, before.display_name) == (70, False, 0, "display up")
        done = await audit(library, dataset, replace(QUICK, metadata_keys=("topic",)), display_name="mine")
        after = await library.datasets.get(dataset)
        assert (after.scored, after.unusable_pairs) == (True, UNUSABLE)
        assert (done.state, done.display_name, done.dataset) == (AuditState.DONE, "mine", dataset)
        assert [view.view for view in done.views] == list(QUICK.statistics.views)
        assert done.views[0].tests > 20
        assert done.nuisance.names == ("log_tokens",)
        assert 0.5 < done.nuisance.accuracy <= 1
        assert done.length is not None
        assert done.length.pairs == 70 - UNUSABLE
        assert done.length.longer + done.length.shorter <= 1
        assert 0 < (done.length.information_left or 0) <= 1
        assert done.explained is not None
        assert "prompts are too few to hold some out" in done.explained.note
        for view in done.views:
            assert view.explained + view.weakened + view.unchanged == view.findings_raw
        assert (done.cost.pairs_scored, done.cost.cache_hits, done.cost.device) == (70, 0, "cpu")
        assert done.cost.tokens_read > 2000
        result = await library.audits.result(done.name)
        assert result.info == done, "what was found of length comes back from its file"
        assert result.raw_first[0].raw.p <= min(row.raw.p for row in result.hypotheses if row.view is ViewKind.GLOBAL)
        assert {row.view for row in result.hypotheses} == set(QUICK.statistics.views)
        assert any(row.condition and row.condition.name.startswith("metadata/topic=") for row in result.hypotheses)
        numbers = [row.raw.estimate for row in result.hypotheses] + [row.raw.p for row in result.hypotheses]
        assert np.isfinite(numbers).all()
        first = result.hypotheses[0]
        detail = await library.audits.hypothesis(first.name)
        assert detail.hypothesis == first
        assert detail.supporting
        assert all(one.pair == PAIRS[one.row] for one in (*detail.supporting, *detail.contradicting))
        assert all(one.disparity * first.raw.estimate > 0 for one in detail.supporting)
        frame = pd.read_parquet(io.BytesIO(await library.audits.parquet(done.name)))
        assert len(frame) == sum(len(table.concept) for table in result.tables.values())
        operations = library.operations.all()
        assert [operation.target for operation in operations] == [done.name]


async def test_an_audit_says_the_same_whatever_happened_around_it(tmp_path: Path, watched: Watched, scorer: Scorer) -> None:
    """Stopped between shards and taken up, beside live traffic, with a warm cache: not one bit differs."""
    async with open_library(tmp_path / "calm", scorer) as library:
        calm = await audit(library, await upload(library, PAIRS))

    async with tiny_scorer(watched) as other:
        await other.score(PAIRS[:20], ScoreOptions(include_prompt=True))
        resumed = 0
        request: dict[str, str] = {"request_id": "a"}
        for number in range(40):
            async with open_library(tmp_path / "stormy", other) as library:
                dataset = await upload(library, PAIRS)
                operation = await library.audits.create(dataset, QUICK, **request)
                traffic = asyncio.ensure_future(other.score(PAIRS[number : number + 3], ScoreOptions()))
                end = await library.operations.wait(operation.name, 0.02 + 0.04 * number if resumed < 8 else PATIENCE)
                await traffic
                resumed = end.resumed
                if end.done:
                    stormy = await library.audits.get(end.response)
                    break
        assert resumed >= 2
    assert stormy.result_fingerprint == calm.result_fingerprint
    assert stormy.cost.tokens_read == calm.cost.tokens_read
    assert stormy.cost.pairs_scored == calm.cost.pairs_scored


async def test_damaged_features_are_noticed_and_scored_again(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, PAIRS)
        first = await audit(library, dataset)
        shards = sorted((tmp_path / "features").rglob("0000*.parquet"))
        assert len(shards) == 5
        shards[1].write_bytes(shards[1].read_bytes()[:-30])
        shards[3].unlink()
        second = await audit(library, dataset)
        assert second.name != first.name
        assert second.result_fingerprint == first.result_fingerprint
        assert second.cost.pairs_scored == 32
        third = await audit(library, dataset)
        assert (third.cost.pairs_scored, third.cost.tokens_read) == (0, 0)


async def test_a_damaged_table_is_an_error_and_never_half_a_result(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        done = await audit(library, await upload(library, PAIRS), only(ViewKind.GLOBAL))
    path = tmp_path / done.name / "global.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    async with open_library(tmp_path, scorer) as library:
        with pytest.raises(Exception, match=r"global\.parquet is damaged"):
            await library.audits.result(done.name)
        await library.audits.delete(done.name)
        with pytest.raises(NotFound):
            await library.audits.get(done.name)


async def test_equal_uploads_at_once_are_one_dataset(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        names = await asyncio.gather(*[upload(library, PAIRS, f"up-{index}", 3 + index) for index in range(4)])
        assert len(set(names)) == 1
        (only_one,) = await library.datasets.all()
        again = await library.datasets.begin("up-2", "")
        assert again.dataset == only_one
        assert (await library.datasets.position("up-3")).dataset == only_one
        assert (await library.datasets.position("other")).next_sequence == 0
        with pytest.raises(FailedPrecondition) as refused:
            await library.datasets.append("up-2", 99, PAIRS[:1], 100)
        assert refused.value.reason == "UPLOAD_COMPLETE"
        await library.datasets.delete(only_one.name)
        assert await upload(library, PAIRS, "up-2") == only_one.name
        read = [pair async for _, chunk in library.datasets.read(only_one.name, start=60) for pair in chunk]
        assert read == PAIRS[60:]


async def test_a_cancelled_audit_stops_soon_and_says_so(tmp_path: Path, watched: Watched, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, PAIRS)
        watched.hold()
        operation = await library.audits.create(dataset, QUICK)
        waiting = await library.audits.create(dataset, QUICK)
        await until(lambda: bool(watched.reads))
        with pytest.raises(FailedPrecondition) as refused:
            await library.datasets.delete(dataset)
        assert refused.value.reason == "IN_USE"
        with pytest.raises(FailedPrecondition) as refused:
            await library.audits.result(operation.target)
        assert refused.value.reason == "NOT_DONE"
        assert library.operations.get(operation.name).phase == "scoring"
        await library.operations.cancel(operation.name)
        end = await library.operations.wait(operation.name, 10)
        assert isinstance(end.error, Cancelled)
        assert (await library.audits.get(operation.target)).state is AuditState.CANCELLED
        with pytest.raises(FailedPrecondition) as refused:
            await library.audits.result(operation.target)
        assert refused.value.reason == "AUDIT_FAILED"
        await library.audits.delete(waiting.target)
        assert [info.name for info in await library.audits.all()] == [operation.target]
        watched.release()
        await library.datasets.delete(dataset)
        assert not list((tmp_path / "features").glob("*"))


async def test_stated_hypotheses_hold_where_they_say(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, PAIRS)
        first = await audit(library, dataset, replace(QUICK, metadata_keys=("topic",)))
        result = await library.audits.result(first.name)
        concept = result.hypotheses[0].concept.name
        topic = sum(pair.metadata["topic"] == "sage" and bool(pair.rejected) for pair in PAIRS)
        conditioned = next(row for row in result.hypotheses if row.condition and row.condition.name.startswith("data-cluster/"))
        assert conditioned.condition
        cases = {
            None: 70 - UNUSABLE,
            MetadataValue("topic", "sage"): topic,
            AuditCondition(f"{first.name}/conditions/metadata/topic=sage"): topic,
            AuditCondition(f"{first.name}/conditions/{conditioned.condition.name}"): conditioned.inside,
        }
        for condition, inside in cases.items():
            operation = await library.audits.test(dataset, concept, condition, QUICK)
            end = await library.operations.wait(operation.name, PATIENCE)
            assert end.error is None, end.error
            row = (await library.audits.hypothesis(end.response)).hypothesis
            assert (row.view, row.concept.name, row.inside) == (ViewKind.STATED, concept, inside)
            if condition is None:
                assert row.raw.estimate == result.hypotheses[0].raw.estimate
        often, never = _prompt_features(tmp_path)
        prompted = await library.audits.test(dataset, concept, PromptConcept(f"feature/{often}"), QUICK)
        end = await library.operations.wait(prompted.name, PATIENCE)
        row = (await library.audits.hypothesis(end.response)).hypothesis
        assert row.condition is not None
        assert (row.condition.name, row.inside + row.outside) == (f"feature/{often}", 70 - UNUSABLE)
        untestable = await library.audits.test(dataset, concept, PromptConcept(f"feature/{never}"), QUICK)
        end = await library.operations.wait(untestable.name, PATIENCE)
        assert isinstance(end.error, FailedPrecondition)
        assert end.error.reason == "NOTHING_TO_TEST"
        for wrong, error in ((MetadataValue("topic", "x"), InvalidItem), (PromptConcept("feature/999"), NotFound)):
            with pytest.raises(error):
                await library.audits.test(dataset, concept, wrong, QUICK)
        with pytest.raises(NotFound):
            await library.audits.test(dataset, f"feature/{FEATURES}", None, QUICK)


async def test_decisions_outlive_the_process_and_the_last_one_counts(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        done = await audit(library, await upload(library, PAIRS), only(ViewKind.GLOBAL))
        name = f"{done.name}/hypotheses/global-2"
        kept = await library.audits.decide(name, DecisionMode.KEEP, note="fine", request_id="r")
        assert await library.audits.decide(name, DecisionMode.KEEP, note="fine", request_id="r") == kept
        with pytest.raises(InvalidItem):
            await library.audits.decide(name, DecisionMode.AMPLIFY, request_id="r")
        last = await library.audits.decide(name, DecisionMode.EXPLAIN_AWAY, strength=2.0, author="me")
        for wrong in ("global-41", "prompt-1", "nonsense"):
            with pytest.raises(NotFound):
                await library.audits.decide(f"{done.name}/hypotheses/{wrong}", DecisionMode.KEEP)
    async with open_library(tmp_path, scorer) as library:
        assert await library.audits.decisions(done.name) == [kept, last]
        assert await library.audits.decisions() == [kept, last]
        assert (await library.audits.hypothesis(name)).hypothesis.decision == last
        with pytest.raises(NotFound):
            await library.audits.decisions("audits/nope")


@pytest.mark.parametrize(
    ("pairs", "settings"),
    [
        (lesson(10), QUICK),
        (lesson(3), QUICK),
        ([Pair("same", pair.chosen, pair.rejected) for pair in lesson(30)], QUICK),
        ([Pair(f"p{index}", "word", "word") for index in range(30)], QUICK),
        ([Pair("p", "x", "") for _ in range(12)], QUICK),
        (lesson(30), replace(QUICK, metadata_keys=("only",), nuisances=())),
        (lesson(30), replace(QUICK, nuisances=(Nuisance.LENGTH, Nuisance.FORMAT))),
    ],
    ids=["ten pairs", "three pairs", "one prompt", "constant", "none usable", "one metadata value", "format"],
)
async def test_poor_data_gives_an_answer_or_a_reason(tmp_path: Path, scorer: Scorer, pairs: list[Pair], settings: object) -> None:
    async with open_library(tmp_path, scorer) as library:
        done = await audit(library, await upload(library, pairs), settings)  # type: ignore[arg-type]
        assert done.state is AuditState.DONE
        for row in (await library.audits.result(done.name)).hypotheses:
            effects = [row.raw] if row.controlled is None else [row.raw, row.controlled]
            assert all(np.isfinite([e.estimate, e.low, e.high, e.z, e.p, e.q, e.q_by]).all() for e in effects)
        for view in done.views:
            assert view.tests or view.reason


async def test_what_another_subject_was_asked_fails_with_the_difference(tmp_path: Path, watched: Watched, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, PAIRS)
        watched.hold()
        operation = await library.audits.create(dataset, QUICK)
        await until(lambda: bool(watched.reads))
    watched.release()

    class Other:
        info = replace(scorer.info, sae_fingerprint="another")

    async with open_library(tmp_path, Other()) as library:  # type: ignore[arg-type]
        end = await library.operations.wait(operation.name, 10)
        assert isinstance(end.error, SubjectMismatch)
        assert "sae_fingerprint" in end.error.message
        assert (await library.audits.get(operation.target)).state is AuditState.FAILED


async def test_files_are_imported_from_the_roots_and_nowhere_else(tmp_path: Path, scorer: Scorer) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "pairs.jsonl").write_text("17\n")
    (tmp_path / "outside.jsonl").write_text("17\n")
    (root / "link.jsonl").symlink_to(tmp_path / "outside.jsonl")
    options = replace(OPTIONS, import_roots=(str(root),))

    def read(path: Path) -> object:
        return iter(lesson(int(path.read_text())))

    async with open_library(tmp_path / "data", scorer, options=options, read_pairs=read) as library:
        uri = (root / "pairs.jsonl").as_uri()
        operation = await library.datasets.imports.begin(uri, "named")
        end = await library.operations.wait(operation.name, 30)
        assert end.error is None, end.error
        info = await library.datasets.get(end.response)
        assert (info.pairs, info.display_name) == (17, "named")
        assert (await library.datasets.imports.begin(uri, "named")).name == operation.name
        assert await upload(library, lesson(17)) == info.name
        for wrong in (
            (tmp_path / "outside.jsonl").as_uri(),
            (root / "link.jsonl").as_uri(),
            f"{root.as_uri()}/../outside.jsonl",
            (root / "missing.jsonl").as_uri(),
            root.as_uri(),
            "https://example.org/pairs.jsonl",
            "pairs.jsonl",
        ):
            with pytest.raises(InvalidItem) as refused:
                await library.datasets.imports.begin(wrong)
            assert refused.value.reason == "INVALID_URI"


async def test_the_same_audit_asked_twice_is_one(tmp_path: Path, scorer: Scorer) -> None:
    async with open_library(tmp_path, scorer) as library:
        dataset = await upload(library, PAIRS)
        one, two = await asyncio.gather(*[library.audits.create(dataset, QUICK, request_id="x") for _ in range(2)])
        assert one.name == two.name
        end = await library.operations.wait(one.name, PATIENCE)
        with pytest.raises(InvalidItem) as refused:
            await library.audits.create(dataset, only(ViewKind.GLOBAL), request_id="x")
        assert refused.value.reason == "REQUEST_ID_REUSED"
        await library.operations.delete(one.name)
        again = await library.operations.wait((await library.audits.create(dataset, QUICK, request_id="x")).name, PATIENCE)
        assert again.response == end.response
        with pytest.raises(InvalidItem) as refused:
            await library.audits.create(dataset, replace(QUICK, metadata_keys=("nope",)))
        assert refused.value.reason == "UNKNOWN_METADATA_KEY"
        with pytest.raises(NotFound):
            await library.audits.create("datasets/nope", QUICK)


def _prompt_features(folder: Path) -> tuple[int, int]:
    """A feature that fires in about half of the stored prompts, and one that fires in none."""
    prompts = pd.concat([pd.read_parquet(path) for path in (folder / "features").rglob("0*.parquet")])
    fired = np.zeros(FEATURES)
    for features in prompts["prompt_features"]:
        fired[features] += 1
    return int(np.abs(fired - len(prompts) / 2).argmin()), int(fired.argmin())
