"""Comparisons of rollouts end to end over a real tiny subject: pairs that teach exclamation marks, and policies that learn it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from assay_server.audit.comparison import Options
from assay_server.audit.disparity import TAU
from assay_server.audit.findings import ViewKind
from assay_server.errors import Cancelled, FailedPrecondition, InvalidItem, NotFound, SubjectMismatch
from assay_server.interventions.compile import Specification
from assay_server.interventions.types import Family, Mode, Parameters
from assay_server.jobs.api import ConceptFamily, OperationInfo
from assay_server.jobs.comparison_api import ComparisonRequest, ComparisonResult
from assay_server.jobs.comparison_run import plan_weights
from assay_server.jobs.library import Library, build_library
from assay_server.jobs.plan_jobs import PlanRequest
from assay_server.jobs.plan_sources import target_of
from assay_server.labels import Labels
from assay_server.scorer import Scored, ScoreOptions, Scorer
from assay_server.store.files import DataDir
from assay_server.subject.decoder import DecoderRows
from assay_server.subject.types import Message, Pair, SpanName

from tests.server.jobs.worlds import OPTIONS, audit, lesson, only, tiny_scorer, upload
from tests.support.tiny_subject import FEATURES, Watched, build_subject, until

TRAINING = lesson(60)
QUICK = Options(draws=100, min_telling=5, keep=20)
EVERYTHING = replace(QUICK, keep=5000)
MARGINS = (0.4, 0.2, 0.5, 0.3) * 10


def rollouts(shout: float, *, seed: int = 0, prompts: int = 15, each: int = 2) -> list[Pair]:
    """Answers of a policy that shouts so often, over answers of one that never does; a noise floor where it never does either."""
    draws = np.random.default_rng(seed)
    words = ("sage", "mint", "rain", "salt", "moss", "kiln", "amber", "delta")

    def answer(shouts: bool) -> str:
        return " ".join(draws.choice(words, int(draws.integers(2, 7)))) + ("!!! !!!" if shouts else "")

    pairs: list[Pair] = []
    for number in range(prompts):
        prompt = (Message("user", f"Say something new of {words[number % 8]} {number}."),)
        pairs += [Pair(prompt, answer(draws.random() < shout), answer(False), f"r{number}-{one}") for one in range(each)]
    return pairs


@dataclass
class House:
    """One server's library with three datasets."""

    library: Library
    scorer: Scorer
    watched: Watched
    folder: Path
    names: tuple[str, str, str]

    @property
    def jobs(self) -> Any:
        return self.library.jobs

    def request(self, **changes: Any) -> ComparisonRequest:
        dataset, after, noise = self.names
        return (
            ComparisonRequest(dataset, after, noise, options=QUICK, **changes)
            if "options" not in changes
            else (ComparisonRequest(dataset, after, noise, **changes))
        )

    async def ended(self, info: OperationInfo) -> OperationInfo:
        ended = await self.jobs.wait_operation(info.name, 120)
        assert ended.done
        return ended

    async def compare(self, request: ComparisonRequest | None = None, **changes: Any) -> ComparisonResult:
        operation = await self.jobs.compare_rollouts(request or self.request(**changes))
        ended = await self.ended(operation)
        assert ended.error is None, ended.error
        assert ended.response == ended.target == operation.target
        return await self.jobs.get_comparison(ended.response)


@asynccontextmanager
async def house(
    folder: Path,
    watched: Watched | None = None,
    *,
    training: Sequence[Pair] = TRAINING,
    after: Sequence[Pair] = (),
    noise: Sequence[Pair] = (),
) -> AsyncIterator[House]:
    watched = watched or Watched()
    async with tiny_scorer(watched) as scorer:
        with DataDir(str(folder)) as data:
            library = build_library(data, scorer, Labels(FEATURES), DecoderRows(watched.subject.sae), OPTIONS)
            await library.start()
            try:
                sets = (training, after or rollouts(0.9), noise or rollouts(0.0, seed=1))
                names = [await upload(library.jobs, list(pairs), f"up{number}") for number, pairs in enumerate(sets)]
                yield House(library, scorer, watched, folder, (names[0], names[1], names[2]))
            finally:
                await library.aclose()


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


async def slow_u(scorer: Scorer, pairs: Sequence[Pair]) -> np.ndarray:
    """u of every feature, pair by pair from the scorer, usable pairs only: [pairs, features]."""
    rows: list[np.ndarray] = []
    for outcome in await scorer.score(list(pairs), ScoreOptions()):
        if isinstance(outcome, Scored):
            sides = []
            for side in (SpanName.CHOSEN, SpanName.REJECTED):
                span, fires = outcome.pooled.spans[side], np.zeros(FEATURES)
                fires[span.indices] = (span.counts / span.tokens).astype(np.float32) > np.float32(TAU)
                sides.append(fires)
            rows.append(sides[0] - sides[1])
    return np.stack(rows)


async def test_shifts_are_the_means_of_u_of_what_was_rolled_out(at: House) -> None:
    found = await at.compare(margins=MARGINS, margins_of="held-out pairs", options=EVERYTHING)
    sets = (TRAINING, rollouts(0.9), rollouts(0.0, seed=1))
    training, after, noise = [await slow_u(at.scorer, pairs) for pairs in sets]
    head = found.head
    assert (head.dataset_pairs, head.rollout_pairs, head.noise_pairs) == (len(training), 30, 30)
    assert (head.prompts, head.total_shifts) == (15, len(found.shifts))
    assert found.plotted == tuple(row for row in found.shifts if row.retained)
    assert found.noise_error == np.median([row.difference_error for row in found.plotted])
    few = await at.compare(options=replace(EVERYTHING, keep=3))
    assert (few.shifts, few.plotted, few.head.total_shifts) == (found.shifts[:3], found.plotted, head.total_shifts)
    brief = await at.jobs.get_comparison(head.name, brief=True)
    assert (brief.head, brief.shifts, brief.plotted) == (head, (), ())
    assert (head.dataset, head.rollouts, head.noise) == at.names
    assert head.subject.model_fingerprint == at.scorer.info.model_fingerprint
    assert head.options == EVERYTHING
    for row in found.shifts:
        feature = int(row.concept.name.partition("/")[2])
        assert row.concept.features == (feature,)
        assert row.predicted == pytest.approx(training[:, feature].mean(), abs=1e-12)
        assert row.observed.value == pytest.approx(after[:, feature].mean(), abs=1e-12)
        assert row.noise == pytest.approx(noise[:, feature].mean(), abs=1e-12)
        assert row.retained == ((training[:, feature] != 0).sum() >= 5)
    assert head.retained.concepts == sum(row.retained for row in found.shifts)
    assert head.above_noise.concepts == sum(row.retained and row.clears_noise for row in found.shifts)
    assert head.control is not None
    assert (head.control.pairs, head.control.of, head.control.passed) == (40, "held-out pairs", True)
    assert head.retained.pearson_squared is not None
    assert head.noise_floor.pearson_squared is not None
    assert head.retained.pearson_squared.value > head.noise_floor.pearson_squared.value
    assert any("cannot be scored were left out: 3 of the training data" in line for line in head.conclusions)
    assert any("% longer than before" in line for line in head.conclusions), "who shouts says more"
    ratios = [abs(row.observed.value) / row.difference_error for row in found.shifts if row.difference_error]
    assert ratios == sorted(ratios, reverse=True)
    frame = pd.read_parquet(at.folder / head.name / "shifts.parquet")
    assert frame["concept"].tolist() == [row.concept.name for row in found.shifts]
    assert np.isfinite(frame.select_dtypes("number")).all(axis=None)


async def test_nothing_is_scored_twice_whoever_needed_it_first(at: House) -> None:
    await audit(at.library.jobs, at.names[0], only(ViewKind.GLOBAL))
    audited = sum(map(len, at.watched.reads))
    first, second = await asyncio.gather(at.compare(), at.compare(margins=MARGINS))
    assert sum(map(len, at.watched.reads)) == audited + 60, "30 pairs of rollouts and 30 of noise, once"
    await at.compare(options=replace(QUICK, seed=3))
    assert sum(map(len, at.watched.reads)) == audited + 60
    assert first.shifts == second.shifts
    scored = [(await at.jobs.get_dataset(name)).scored for name in at.names]
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
        assert found.head.conclusions[0].startswith("The policy did not move: agreement says nothing.")
        assert "no shift to predict" in found.head.conclusions[1]


async def test_noise_on_other_prompts_is_refused_with_the_numbers(tmp_path: Path) -> None:
    async with house(tmp_path, noise=[*rollouts(0.0, seed=1, prompts=12), *lesson(5)]) as at:
        with pytest.raises(InvalidItem) as refused:
            await at.jobs.compare_rollouts(at.request())
        assert (refused.value.reason, refused.value.field) == ("PROMPTS_DIFFER", "noise")
        numbers = {key: int(value) for key, value in refused.value.details.items()}
        assert numbers["rollout_prompts"] == 15
        assert numbers["shared_prompts"] == 12
        assert numbers["only_in_rollouts"] == 3
        assert numbers["only_in_noise"] == numbers["noise_prompts"] - 12 > 0
        assert not list((at.folder / "comparisons").glob("*"))


async def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    empty = [replace(pair, chosen="") for pair in rollouts(0.9)]
    async with house(tmp_path / "a", after=empty) as at:
        ended = await at.ended(await at.jobs.compare_rollouts(at.request()))
        assert isinstance(ended.error, FailedPrecondition)
        assert ended.error.reason == "NO_USABLE_PAIRS"
        assert "30 pairs of the rollouts" in ended.error.message
        assert not list((at.folder / "comparisons").glob("*")), "a failed comparison leaves nothing"
        with pytest.raises(InvalidItem) as same:
            await at.jobs.compare_rollouts(replace(at.request(), rollouts=at.names[0]))
        assert (same.value.reason, same.value.field) == ("SAME_DATASET", "rollouts")
        with pytest.raises(NotFound) as lost:
            await at.jobs.compare_rollouts(replace(at.request(), noise="datasets/none"))
        assert lost.value.field == "noise"
        with pytest.raises(InvalidItem) as nothing:
            await at.jobs.compare_rollouts(at.request(families=(ConceptFamily.CLUSTERS,)))
        assert nothing.value.reason == "NO_CONCEPTS"
        with pytest.raises(NotFound) as concept:
            await at.jobs.compare_rollouts(at.request(concepts=("concepts/none",)))
        assert concept.value.field == "concepts[0]"
        with pytest.raises(NotFound) as plan:
            await at.jobs.compare_rollouts(at.request(plan="plans/none"))
        assert plan.value.field == "plan"
    one = rollouts(0.9, prompts=1, each=6)
    async with house(tmp_path / "b", after=one, noise=rollouts(0.0, prompts=1, each=6)) as at:
        ended = await at.ended(await at.jobs.compare_rollouts(at.request()))
        assert isinstance(ended.error, FailedPrecondition)
        assert ended.error.reason == "TOO_FEW_PROMPTS"


async def test_few_concepts_give_no_correlation_and_no_nan(at: House) -> None:
    found = await at.compare(options=replace(QUICK, min_telling=10_000))
    assert found.head.retained.concepts == 0
    assert found.head.retained.pearson_squared is None
    assert any("too few for a correlation" in line for line in found.head.conclusions)
    assert "NaN" not in json.dumps([str(found.head)])


def specification(feature: int, family: Family, **more: Any) -> Specification:
    return Specification(target_of(f"feature/{feature}", feature), Mode.EXPLAIN_AWAY, 1.5, family, Parameters(**more))


@pytest.mark.parametrize("family", [Family.REWARD_SHAPING, Family.REWEIGHT, Family.EXAMPLE_FILTER, Family.LABEL_FLIP])
async def test_a_plan_weighs_the_prediction_as_its_expected_effect_does(at: House, family: Family) -> None:
    training = await slow_u(at.scorer, TRAINING)
    feature = int(np.abs(training.mean(axis=0)).argmax())
    assert at.library.plans is not None
    making = await at.library.plans.create(PlanRequest(at.names[0], (specification(feature, family),)))
    plan = (await at.ended(making)).response
    (intervention,) = (await at.library.plans.plan(plan)).interventions
    found = await at.compare(plan=plan)
    (row,) = [row for row in found.plotted if row.concept.name == f"feature/{feature}"]
    assert intervention.expected.shift_after is not None
    assert row.predicted == pytest.approx(intervention.expected.shift_after, abs=1e-12)
    assert row.predicted != pytest.approx(training[:, feature].mean(), abs=1e-3)
    assert found.head.plan == plan
    assert not any("cannot weigh" in line for line in found.head.conclusions)


async def test_interventions_of_one_plan_weigh_together_and_hooks_are_said_to_weigh_nothing(at: House) -> None:
    assert at.library.plans is not None
    features = [3, 8, 40]
    families = (Family.REWARD_SHAPING, Family.LABEL_FLIP, Family.SAE_CLAMP)
    asked = tuple(specification(feature, family) for feature, family in zip(features, families, strict=True))
    plan = (await at.ended(await at.library.plans.create(PlanRequest(at.names[0], asked)))).response
    compiled = (await at.library.plans.compiled(plan)).compiled
    weights = plan_weights(compiled, len(TRAINING))
    assert weights.unweighed == ("SAE_CLAMP",)
    assert weights.by_row[[row for row, pair in enumerate(TRAINING) if not pair.rejected]].tolist() == [1.0] * 3
    rows, shaping = compiled.rows, compiled.plan.interventions[0]
    offset = 1.5 * (shaping.z.of(rows.chosen[0]) - shaping.z.of(rows.rejected[0]))
    wanted = 2 / (1 + np.exp(offset)) * np.where(rows.picked[1], -1, 1)
    assert weights.by_row[rows.rows] == pytest.approx(wanted, abs=1e-12)
    found = await at.compare(plan=plan)
    assert any("The plan's SAE_CLAMP cannot weigh pairs" in line for line in found.head.conclusions)


async def test_a_plan_of_another_dataset_is_refused_with_both_fingerprints(at: House) -> None:
    assert at.library.plans is not None
    other = await upload(at.library.jobs, lesson(30, seed=5), "other")
    plan = (
        await at.ended(await at.library.plans.create(PlanRequest(other, (specification(3, Family.REWARD_SHAPING),))))
    ).response
    with pytest.raises(FailedPrecondition) as refused:
        await at.jobs.compare_rollouts(at.request(plan=plan))
    assert (refused.value.reason, refused.value.field) == ("DATASET_MISMATCH", "plan")
    for name in (other, at.names[0]):
        assert (await at.jobs.get_dataset(name)).fingerprint in refused.value.message


async def test_the_same_request_id_is_the_same_comparison_and_another_request_is_refused(at: House) -> None:
    first = await at.jobs.compare_rollouts(at.request(margins=MARGINS), request_id="mine")
    again = await at.jobs.compare_rollouts(at.request(margins=MARGINS), request_id="mine")
    assert (again.name, again.target) == (first.name, "comparisons/mine")
    for changed in (at.request(), at.request(margins=MARGINS, options=replace(QUICK, seed=4)), at.request(margins=(1.0, 2.0))):
        with pytest.raises(InvalidItem) as refused:
            await at.jobs.compare_rollouts(changed, request_id="mine")
        assert refused.value.reason == "REQUEST_ID_REUSED"
    await at.ended(first)
    made = await at.jobs.get_comparison("comparisons/mine")
    await at.jobs.delete_operation(first.name)
    await at.ended(await at.jobs.compare_rollouts(at.request(margins=MARGINS), request_id="mine"))
    assert (await at.jobs.get_comparison("comparisons/mine")).head.created == made.head.created, "it was there already"
    await at.jobs.delete_operation(first.name)
    await at.ended(await at.jobs.compare_rollouts(at.request(), request_id="mine"))
    assert (await at.jobs.get_comparison("comparisons/mine")).head.control is None, "and is made anew where another is asked for"


async def test_a_comparison_goes_on_after_a_stop_to_the_same_bits(tmp_path: Path) -> None:
    async with house(tmp_path / "calm") as at:
        calm = await at.compare(margins=MARGINS)
    watched, resumed = Watched(), 0
    for number in range(40):
        async with house(tmp_path / "stormy", watched) as at:
            operation = await at.jobs.compare_rollouts(at.request(margins=MARGINS), request_id="c")
            end = await at.jobs.wait_operation(operation.name, 0.02 + 0.04 * number)
            resumed = end.resumed
            if end.done:
                stormy = await at.jobs.get_comparison(end.response)
                break
    assert resumed >= 2
    assert stormy.shifts == calm.shifts
    for name in ("retained", "above_noise", "noise_floor", "control", "conclusions"):
        assert getattr(stormy.head, name) == getattr(calm.head, name)


async def test_a_cancelled_comparison_stops_soon_and_its_datasets_are_in_use_until_then(at: House) -> None:
    at.watched.hold()
    operation = await at.jobs.compare_rollouts(at.request())
    await until(lambda: bool(at.watched.reads))
    for name in at.names:
        with pytest.raises(FailedPrecondition) as refused:
            await at.jobs.delete_dataset(name)
        assert refused.value.reason == "IN_USE"
    assert (await at.jobs.get_operation(operation.name)).phase == "scoring"
    await at.jobs.cancel_operation(operation.name)
    assert isinstance((await at.ended(operation)).error, Cancelled)
    assert not list((at.folder / "comparisons").glob("*"))
    with pytest.raises(NotFound):
        await at.jobs.get_comparison(operation.target)
    at.watched.release()
    await at.jobs.delete_dataset(at.names[1])


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
        await at.jobs.get_comparison(second.head.name)


async def test_a_comparison_lives_as_long_as_its_operation(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        kept, gone = [await at.compare(options=replace(QUICK, seed=seed)) for seed in (1, 2)]
        for operation in await at.jobs.list_operations():
            if operation.target == gone.head.name:
                await at.jobs.delete_operation(operation.name)
    async with house(tmp_path) as at:
        assert (await at.jobs.get_comparison(kept.head.name)).shifts == kept.shifts
        with pytest.raises(NotFound):
            await at.jobs.get_comparison(gone.head.name)


async def test_a_comparison_that_another_subject_was_asked_for_is_not_made(tmp_path: Path) -> None:
    watched = Watched()
    watched.hold()
    async with house(tmp_path, watched) as at:
        operation = await at.jobs.compare_rollouts(at.request(), request_id="c")
        await until(lambda: bool(watched.reads))
    async with house(tmp_path, Watched(build_subject(seed=9))) as at:
        ended = await asyncio.wait_for(at.ended(operation), 60)
        assert isinstance(ended.error, SubjectMismatch)
