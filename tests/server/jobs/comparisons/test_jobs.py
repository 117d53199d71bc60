"""Comparisons of rollouts end to end over a real tiny subject: pairs that teach exclamation marks, and policies that learn it."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from assay_server.audit.findings import ViewKind
from assay_server.errors import Cancelled, FailedPrecondition, InvalidItem, NotFound, SubjectMismatch
from assay_server.jobs.audits.types import ConceptFamily
from assay_server.jobs.concepts.types import FromFeatures, PairExamples
from assay_server.store.files import Files
from assay_server.subject.types import SpanName

from tests.server.audit.comparison.worlds import slow_plane
from tests.server.jobs.comparisons.house import EVERYTHING, MARGINS, QUICK, TRAINING, House, house, rollouts, slow_firing, slow_u
from tests.server.jobs.worlds import audit, lesson, only
from tests.support.concepts import loud_pairs, request
from tests.support.tiny_subject import Watched, build_subject
from tests.support.waiting import PATIENCE, until


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def test_shifts_are_the_means_of_u_of_what_was_rolled_out(at: House) -> None:
    found = await at.compare(margins=MARGINS, margins_of="held-out pairs", options=EVERYTHING)
    sets = (TRAINING, rollouts(0.9), rollouts(0.0, seed=1))
    training, after, noise = [await slow_u(at.scorer, pairs) for pairs in sets]
    both, chosen = (SpanName.CHOSEN, SpanName.REJECTED), (SpanName.CHOSEN,)
    shares = [await slow_firing(at.scorer, pairs, sides) for pairs, sides in ((sets[0], both), (sets[2], chosen))]
    head = found.head
    assert (head.dataset_pairs, head.rollout_pairs, head.noise_pairs) == (len(training), 30, 30)
    assert (head.prompts, head.total_shifts) == (15, len(found.shifts))
    assert found.plotted == tuple(row for row in found.shifts if row.retained)
    assert found.noise_error == np.median([row.difference_error for row in found.plotted])
    few = await at.compare(options=replace(EVERYTHING, keep=3))
    assert (few.shifts, few.plotted, few.head.total_shifts) == (found.shifts[:3], found.plotted, head.total_shifts)
    brief = await at.library.comparisons.get(head.name, brief=True)
    assert (brief.head, brief.shifts, brief.plotted) == (head, (), ())
    assert (head.dataset, head.rollouts, head.noise) == at.names
    assert head.subject.model_fingerprint == at.scorer.info.model_fingerprint
    assert head.options == EVERYTHING
    for row in found.shifts:
        if row.concept.name.startswith("cluster/"):
            continue
        feature = int(row.concept.name.partition("/")[2])
        assert row.concept.features == (feature,)
        assert row.predicted == pytest.approx(training[:, feature].mean(), abs=1e-12)
        assert row.observed.value == pytest.approx(after[:, feature].mean(), abs=1e-12)
        assert row.noise == pytest.approx(noise[:, feature].mean(), abs=1e-12)
        assert row.retained == ((training[:, feature] != 0).sum() >= 5)
        assert row.gap == pytest.approx(shares[0][feature] - shares[1][feature], abs=1e-12)
    assert head.retained.concepts == sum(row.retained for row in found.shifts)
    assert head.above_noise.concepts == sum(row.retained and row.clears_noise for row in found.shifts)
    assert head.control is not None
    assert (head.control.pairs, head.control.of, head.control.passed) == (40, "held-out pairs", True)
    assert head.retained.pearson_squared is not None
    assert head.noise_floor.pearson_squared is not None
    assert head.retained.pearson_squared.value > head.noise_floor.pearson_squared.value
    assert head.retained.with_gap is not None
    kept = [row for row in found.shifts if row.retained]
    columns = [np.array([getattr(row, name) for row in kept]) for name in ("predicted", "gap")]
    r_squared, slope = slow_plane(*columns, np.array([row.observed.value for row in kept]))
    assert head.retained.with_gap.value == pytest.approx(r_squared)
    assert head.retained.gap_slope is not None
    assert head.retained.gap_slope.value == pytest.approx(slope)
    assert head.noise_floor.with_gap is None
    assert any("cannot be scored were left out: 3 of the training data" in line for line in head.conclusions)
    assert any("% longer than before" in line for line in head.conclusions), "who shouts says more"
    ratios = [abs(row.observed.value) / row.difference_error for row in found.shifts if row.difference_error]
    assert ratios == sorted(ratios, reverse=True)
    frame = pd.read_parquet(at.folder / head.name / "shifts.parquet")
    assert frame["concept"].tolist() == [row.concept.name for row in found.shifts]
    assert np.isfinite(frame.select_dtypes("number")).all(axis=None)


async def test_nothing_is_scored_twice_whoever_needed_it_first(at: House) -> None:
    await audit(at.library, at.names[0], only(ViewKind.GLOBAL))
    audited = sum(map(len, at.watched.reads))
    first, second = await asyncio.gather(at.compare(), at.compare(margins=MARGINS))
    assert sum(map(len, at.watched.reads)) == audited + 60, "30 pairs of rollouts and 30 of noise, once"
    await at.compare(options=replace(QUICK, seed=3))
    assert sum(map(len, at.watched.reads)) == audited + 60
    assert first.shifts == second.shifts
    scored = [(await at.library.datasets.get(name)).scored for name in at.names]
    assert scored == [True] * 3


async def test_a_policy_that_did_not_change_shifts_nothing_and_the_control_says_so(tmp_path: Path) -> None:
    same = [replace(pair, chosen=pair.rejected) for pair in rollouts(0.0)]
    async with house(tmp_path, after=same, noise=same) as at:
        found = await at.compare(margins=(0.0,) * 20)
        assert at.names[1] == at.names[2], "equal pairs are one dataset"
        assert all(row.observed.value == row.noise == 0.0 for row in found.shifts)
        assert not any(row.clears_noise for row in found.shifts)
        assert found.head.above_noise.concepts == 0
        assert found.head.retained.pearson_squared is None
        assert found.head.conclusions[0].startswith("The policy is not seen to have moved: agreement says nothing.")
        assert "no shift to predict" in found.head.conclusions[1]


async def test_noise_on_other_prompts_is_refused_with_the_numbers(tmp_path: Path) -> None:
    async with house(tmp_path, noise=[*rollouts(0.0, seed=1, prompts=12), *lesson(5)]) as at:
        with pytest.raises(InvalidItem) as refused:
            await at.library.comparisons.create(at.request())
        assert (refused.value.reason, refused.value.field) == ("PROMPTS_DIFFER", "noise")
        numbers = {key: int(value) for key, value in refused.value.details.items()}
        assert numbers["rollout_prompts"] == 15
        assert numbers["shared_prompts"] == 12
        assert numbers["only_in_rollouts"] == 3
        assert numbers["only_in_noise"] == numbers["noise_prompts"] - 12 > 0
        assert not list((at.folder / "comparisons").glob("*"))


async def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    empty = [replace(pair, chosen="") for pair in rollouts(0.9)]
    async with house(tmp_path / "a", after=empty, clusters=None) as at:
        ended = await at.ended(await at.library.comparisons.create(at.request()))
        assert isinstance(ended.error, FailedPrecondition)
        assert ended.error.reason == "NO_USABLE_PAIRS"
        assert "30 pairs of the rollouts" in ended.error.message
        assert not list((at.folder / "comparisons").glob("*")), "a failed comparison leaves nothing"
        with pytest.raises(InvalidItem) as same:
            await at.library.comparisons.create(replace(at.request(), rollouts=at.names[0]))
        assert (same.value.reason, same.value.field) == ("SAME_DATASET", "rollouts")
        with pytest.raises(NotFound) as lost:
            await at.library.comparisons.create(replace(at.request(), noise="datasets/none"))
        assert lost.value.field == "noise"
        with pytest.raises(InvalidItem) as nothing:
            await at.library.comparisons.create(at.request(families=(ConceptFamily.CLUSTERS,)))
        assert nothing.value.reason == "NO_CONCEPTS"
        with pytest.raises(NotFound) as concept:
            await at.library.comparisons.create(at.request(concepts=("concepts/none",)))
        assert concept.value.field == "concepts[0]"
        with pytest.raises(NotFound) as plan:
            await at.library.comparisons.create(at.request(plan="plans/none"))
        assert plan.value.field == "plan"
    one = rollouts(0.9, prompts=1, each=6)
    async with house(tmp_path / "b", after=one, noise=rollouts(0.0, prompts=1, each=6)) as at:
        ended = await at.ended(await at.library.comparisons.create(at.request()))
        assert isinstance(ended.error, FailedPrecondition)
        assert ended.error.reason == "TOO_FEW_PROMPTS"


async def test_few_concepts_give_no_correlation_and_no_nan(at: House) -> None:
    found = await at.compare(options=replace(QUICK, min_telling=10_000))
    assert found.head.retained.concepts == 0
    assert found.head.retained.pearson_squared is None
    assert any("too few for a correlation" in line for line in found.head.conclusions)
    assert "NaN" not in json.dumps([str(found.head)])


async def test_clusters_stored_sets_and_directions_are_compared_beside_features(at: House) -> None:
    members = np.array([2, 30, 31])
    sources = {"set": FromFeatures(members, np.ones(3, np.float32)), "loud": PairExamples(loud_pairs())}
    for id, source in sources.items():
        assert (await at.ended(await at.library.concepts.create(request(source, concept_id=id)))).error is None
    found = await at.compare(concepts=("concepts/set", "concepts/loud"), families=(ConceptFamily.CLUSTERS,), options=EVERYTHING)
    rows = {row.concept.name: row for row in found.shifts}
    assert set(rows) == {"cluster/0", "cluster/1", "concepts/set", "concepts/loud"}
    training, after = await slow_u(at.scorer, TRAINING), await slow_u(at.scorer, rollouts(0.9))
    for name, features in (("cluster/1", np.array([2, 3, 4, 95])), ("concepts/set", members)):
        assert rows[name].concept.features == tuple(features)
        assert rows[name].predicted == pytest.approx(training[:, features].mean(), abs=1e-12)
        assert rows[name].observed.value == pytest.approx(after[:, features].mean(), abs=1e-12)
    assert rows["concepts/loud"].concept.label.text == "Loud"
    assert rows["concepts/loud"].concept.size == 0
    assert rows["concepts/loud"].observed.value != 0
    weighed = FromFeatures(members, np.array([1.0, 2.0, 1.0], np.float32))
    await at.ended(await at.library.concepts.create(request(weighed, concept_id="weighed")))
    with pytest.raises(FailedPrecondition) as refused:
        await at.library.comparisons.create(at.request(concepts=("concepts/weighed",)))
    assert (refused.value.reason, refused.value.field) == ("NOT_A_SET", "concepts")


async def test_what_becomes_of_concepts_meanwhile_changes_nothing(at: House) -> None:
    features = FromFeatures(np.array([2, 30]), np.ones(2, np.float32))
    await at.ended(await at.library.concepts.create(request(features, concept_id="set")))
    at.watched.hold()
    operation = await at.library.comparisons.create(at.request(concepts=("concepts/set",), options=EVERYTHING))
    await until(lambda: bool(at.watched.reads))
    await at.library.concepts.delete("concepts/set")
    at.watched.release()
    assert (await at.ended(operation)).error is None
    found = await at.library.comparisons.get(operation.target)
    assert [row.concept.features for row in found.shifts if row.concept.name == "concepts/set"] == [(2, 30)]


async def test_the_same_file_twice_is_no_noise_floor(tmp_path: Path) -> None:
    async with house(tmp_path, noise=rollouts(0.9)) as at:
        found = await at.compare()
        assert at.names[1] == at.names[2]
        assert not any(row.clears_noise for row in found.shifts)
        assert any("noise rollouts are the rollouts themselves" in line for line in found.head.conclusions)


async def test_the_same_request_id_is_the_same_comparison_and_another_request_is_refused(at: House) -> None:
    first = await at.library.comparisons.create(at.request(margins=MARGINS), request_id="mine")
    again = await at.library.comparisons.create(at.request(margins=MARGINS), request_id="mine")
    assert (again.name, again.target) == (first.name, "comparisons/mine")
    for changed in (at.request(), at.request(margins=MARGINS, options=replace(QUICK, seed=4)), at.request(margins=(1.0, 2.0))):
        with pytest.raises(InvalidItem) as refused:
            await at.library.comparisons.create(changed, request_id="mine")
        assert refused.value.reason == "REQUEST_ID_REUSED"
    await at.ended(first)
    made = await at.library.comparisons.get("comparisons/mine")
    await at.library.operations.delete(first.name)
    await at.ended(await at.library.comparisons.create(at.request(margins=MARGINS), request_id="mine"))
    assert (await at.library.comparisons.get("comparisons/mine")).head.created == made.head.created, "it was there already"
    await at.library.operations.delete(first.name)
    await at.ended(await at.library.comparisons.create(at.request(), request_id="mine"))
    assert (await at.library.comparisons.get("comparisons/mine")).head.control is None, (
        "and is made anew where another is asked for"
    )


async def test_a_comparison_goes_on_after_a_stop_to_the_same_bits(tmp_path: Path) -> None:
    async with house(tmp_path / "calm") as at:
        calm = await at.compare(margins=MARGINS)
    watched, resumed = Watched(), 0
    for number in range(40):
        async with house(tmp_path / "stormy", watched) as at:
            operation = await at.library.comparisons.create(at.request(margins=MARGINS), request_id="c")
            end = await at.library.operations.wait(operation.name, 0.02 + 0.04 * number)
            resumed = end.resumed
            if end.done:
                stormy = await at.library.comparisons.get(end.response)
                break
    assert resumed >= 2
    assert stormy.shifts == calm.shifts
    for name in ("retained", "above_noise", "noise_floor", "control", "conclusions"):
        assert getattr(stormy.head, name) == getattr(calm.head, name)


async def test_a_cancelled_comparison_stops_soon_and_its_datasets_are_in_use_until_then(at: House) -> None:
    at.watched.hold()
    operation = await at.library.comparisons.create(at.request())
    await until(lambda: bool(at.watched.reads))
    for name in at.names:
        with pytest.raises(FailedPrecondition) as refused:
            await at.library.datasets.delete(name)
        assert refused.value.reason == "IN_USE"
    assert at.library.operations.get(operation.name).phase == "scoring"
    await at.library.operations.cancel(operation.name)
    assert isinstance((await at.ended(operation)).error, Cancelled)
    assert not list((at.folder / "comparisons").glob("*"))
    with pytest.raises(NotFound):
        await at.library.comparisons.get(operation.target)
    at.watched.release()
    await at.library.datasets.delete(at.names[1])


async def test_damaged_features_are_scored_again_and_a_damaged_table_is_an_error(at: House) -> None:
    first = await at.compare()
    shards = sorted((at.folder / "features").rglob("00000.parquet"))
    assert len(shards) == 3
    shards[1].write_bytes(shards[1].read_bytes()[:-30])
    second = await at.compare()
    assert second.shifts == first.shifts
    table = at.folder / second.head.name / "shifts.parquet"
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(Exception, match=r"shifts\.parquet is damaged"):
        await at.library.comparisons.get(second.head.name)


async def test_a_comparison_lives_as_long_as_its_operation(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        kept, gone = [await at.compare(options=replace(QUICK, seed=seed)) for seed in (1, 2)]
        for operation in at.library.operations.all():
            if operation.target == gone.head.name:
                await at.library.operations.delete(operation.name)
    async with house(tmp_path) as at:
        assert (await at.library.comparisons.get(kept.head.name)).shifts == kept.shifts
        with pytest.raises(NotFound):
            await at.library.comparisons.get(gone.head.name)


async def test_a_comparison_that_another_subject_was_asked_for_is_not_made(tmp_path: Path) -> None:
    watched = Watched()
    watched.hold()
    async with house(tmp_path, watched) as at:
        operation = await at.library.comparisons.create(at.request(), request_id="c")
        await until(lambda: bool(watched.reads))
    async with house(tmp_path, Watched(build_subject(seed=9))) as at:
        ended = await asyncio.wait_for(at.ended(operation), PATIENCE)
        assert isinstance(ended.error, SubjectMismatch)


async def test_a_comparison_from_before_there_was_a_gap_is_read_without_one(at: House) -> None:
    found = await at.compare(options=EVERYTHING)
    folder = at.folder / found.head.name
    table = pq.read_table(folder / "shifts.parquet").drop_columns(["gap"])
    pq.write_table(table, folder / "shifts.parquet")
    files = Files(str(at.folder))
    head = files.read_json(f"{found.head.name}/comparison.json")
    for part in ("retained", "above_noise", "noise_floor"):
        del head[part]["with_gap"], head[part]["gap_slope"]
    head["shifts_sha256"] = hashlib.sha256((folder / "shifts.parquet").read_bytes()).hexdigest()
    files.write_json(f"{found.head.name}/comparison.json", head)
    old = await at.library.comparisons.get(found.head.name)
    assert [row.gap for row in old.shifts] == [None] * len(found.shifts)
    assert old.head.retained == replace(found.head.retained, with_gap=None, gap_slope=None)
    assert any(row.gap is not None for row in found.shifts)
