"""What the server will not do, as a client sees it: each refusal by the reason that a program switches on."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from assay import (
    AssayError,
    AuditOptions,
    Client,
    Concept,
    Dataset,
    Examples,
    Intervene,
    InterventionFamily,
    InterventionMode,
    InterventionParameters,
    Pair,
    ProbeMethod,
    View,
)
from assay.interventions import ScoreStatistic
from assay_server.interventions.plans import CompiledPlan
from assay_server.jobs.plans.files import PlanFiles
from assay_server.store.features import Features

from tests.support.plan_server import plan_server
from tests.support.tiny_subject import WIDTH
from tests.support.waiting import PATIENCE

AWAY, AMPLIFY = InterventionMode.EXPLAIN_AWAY, InterventionMode.AMPLIFY
ALONG = Concept.direction("along", [math.sin(at) for at in range(WIDTH)])
WORDS = ("sage", "mint", "rain", "salt", "moss", "kiln", "amber", "delta", "fern", "lime")
PAIRS = [
    Pair(f"On {WORDS[n % 10]}: ", f"{WORDS[n % 7]} {WORDS[n % 3]}!", f"{WORDS[n % 9]}.", id=f"{n}", metadata={"topic": "herbs"})
    for n in range(24)
]


@dataclass(frozen=True)
class House:
    client: Client
    dataset: Dataset
    other: Dataset

    def plan(self, *interventions: Intervene, **more: str) -> object:
        return self.client.create_plan(self.dataset, interventions, **more).wait(timeout=PATIENCE)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with plan_server(tmp_path_factory.mktemp("refusals")) as server, Client(server.address) as client:
        yield House(client, client.upload_pairs(PAIRS), client.upload_pairs(PAIRS[:20]))


def taken_concept(house: House) -> object:
    source = Examples([f"{word}!!" for word in WORDS], [f"{word}." for word in WORDS])
    for name in ("first", "second"):
        house.client.create_concept(
            name, source, concept_id="taken", method=ProbeMethod.DIFFERENCE_OF_MEANS, request_id=name
        ).wait(timeout=PATIENCE)
    return None


def condition_of_another_dataset(house: House) -> object:
    audit = house.client.audit(house.other, AuditOptions(views=[View.GLOBAL], max_t_flips=64)).wait(timeout=PATIENCE)
    return house.client.test(house.dataset, "feature/3", where=f"{audit.name}/conditions/prompt-cluster-0")


def prompt_for_what_no_response_has(house: House) -> object:
    """No chosen response scores higher where both are the same text."""
    same = house.client.upload_pairs([Pair(f"{n}: ", "the same", "the same", id=f"{n}") for n in range(8)])
    return house.client.rank_inoculation_prompts(same, "feature/3", ["Say it."]).wait(timeout=PATIENCE)


def curve_of_what_has_none(house: House) -> object:
    plan = house.client.create_plan(house.dataset, [Intervene("feature/3", AWAY, 1.0)]).wait(timeout=PATIENCE)
    return house.client.measure_intervention(plan.interventions[0], [0.0, 1.0])


REFUSALS: dict[str, Callable[[House], object]] = {
    "CONCEPT_EXISTS": taken_concept,
    "EMPTY_CONDITION": lambda house: house.client.test(house.dataset, "feature/3", where=("topic", "gemstones")),
    "INVALID_ID": lambda house: house.plan(Intervene("feature/3", AWAY, 1.0), plan_id="no/slashes"),
    "INVALID_STATISTIC": lambda house: house.plan(
        Intervene(ALONG, AWAY, 1.0, parameters=InterventionParameters(statistic=ScoreStatistic.FIRING))
    ),
    "MISSING_DATASET": lambda house: house.client.create_plan("", [Intervene("feature/3", AWAY, 1.0)]),
    "NOTHING_TO_EXPLAIN": prompt_for_what_no_response_has,
    "NOTHING_TO_MEASURE": curve_of_what_has_none,
    "NOT_A_FEATURE": lambda house: house.plan(Intervene(ALONG, AWAY, 1.0, InterventionFamily.SAE_CLAMP)),
    "NOT_FEATURES": lambda house: house.client.test(house.dataset, "feature/3", where_prompt=direction(house)),
    "OTHER_DATASET": condition_of_another_dataset,
}


def direction(house: House) -> str:
    source = Examples([f"{word} {word}!!" for word in WORDS], [f"{word}, {word}." for word in WORDS])
    made = house.client.create_concept("along", source, method=ProbeMethod.DIFFERENCE_OF_MEANS, request_id="along")
    return made.wait(timeout=PATIENCE).name


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_cannot_be_done_is_refused_with_its_reason(house: House, reason: str) -> None:
    with pytest.raises(AssayError) as refused:
        REFUSALS[reason](house)
    assert refused.value.reason == reason, refused.value


def test_a_disk_that_gives_nothing_back_is_told_from_a_fault_of_the_request(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    auditing = AuditOptions(views=[View.GLOBAL], max_t_flips=64)
    house.client.audit(house.dataset, auditing, request_id="sound").wait(timeout=PATIENCE)
    monkeypatch.setattr(Features, "read", lambda *_: None)
    with pytest.raises(AssayError) as failed:
        house.client.audit(house.dataset, auditing, request_id="unsound").wait(timeout=PATIENCE)
    assert failed.value.reason == "STORE_UNSOUND"


def test_a_plan_that_is_another_one_by_the_time_it_is_read_weighs_no_comparison(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = house.client.create_plan(house.dataset, [Intervene("feature/3", AWAY, 1.0)], request_id="read-twice")
    name, read, reads = plan.wait(timeout=PATIENCE).name, PlanFiles.read, itertools.count()

    def changing(plans: PlanFiles, id: str) -> CompiledPlan:
        found = read(plans, id)
        (one,) = found.plan.interventions
        return replace(found, plan=replace(found.plan, interventions=(replace(one, strength=float(next(reads))),)))

    monkeypatch.setattr(PlanFiles, "read", changing)
    with pytest.raises(AssayError) as failed:
        house.client.compare_rollouts(house.dataset, house.other, house.other, plan=name).wait(timeout=PATIENCE)
    assert failed.value.reason == "PLAN_CHANGED"
