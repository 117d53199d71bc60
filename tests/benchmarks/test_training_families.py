"""Every treatment at small size: the server makes the plan, the trainer takes it, the run is kept and told."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import assay
import pytest

from benchmarks.training import explaining, figures, prediction, sections
from benchmarks.training.data import PLANTED, Sizes
from benchmarks.training.lab import Lab, Run
from benchmarks.training.treatments import TREATMENTS, Server
from demo.loop.serving import serving
from experiments.policies import Sampling
from experiments.training import Recipe
from tests.support.models import save_family
from tests.support.saes import build_sae, save_sae

SIZES = Sizes(train=24, held_out=6, prompts=6, examples=20, prompt_tokens=400, response_tokens=400)
RECIPE = Recipe(batch=8, rank=4, alpha=8, dtype="float32", max_length=600)
CONCEPT = PLANTED[0]


@dataclass(frozen=True)
class World:
    """The lab and a server of its model."""

    lab: Lab
    server: Server


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("training")
    model, sae = save_family("qwen2", folder / "model"), save_sae(build_sae("topk"), folder / "sae")
    with (folder / "pairs.jsonl").open("w") as file:
        for at in range(80):
            prompt = [{"role": "user", "content": f"Where is place {at}?"}]
            sides = {"chosen": f"It is north of here, {at} miles away.", "rejected": f"Nobody knows where number {at} is today."}
            row = {name: [{"role": "assistant", "content": text}] for name, text in sides.items()}
            file.write(json.dumps({"prompt": prompt, **row}) + "\n")
    lab = Lab(
        str(folder / "pairs.jsonl"),
        sizes=SIZES,
        folder=folder / "runs",
        sampling=Sampling(tokens=6, batch=6),
        model=model,
        recipe=RECIPE,
    )
    flags = ["--overrides", "VARIANCE", "--device", "cpu", "--dtype", "float32"]
    with serving(model, sae, folder, flags) as address, assay.Client(address) as client:
        yield World(lab, Server(client, lab))


@pytest.mark.parametrize("treatment", TREATMENTS, ids=lambda one: one.family.value)
def test_a_treatment_is_planned_trained_and_kept(world: World, treatment: Any) -> None:
    run = treatment.run(CONCEPT, RECIPE)
    assert world.lab.done(run) is None
    record = world.lab.run(run, world.server.plan(run))
    plan = record["plan"]["interventions"][0]
    assert plan["family"] == treatment.family.value
    assert record["pairs"] == (SIZES.train - plan["rows"] if treatment.family.value == "example_filter" else SIZES.train)
    assert len(record["rollouts"]) == SIZES.prompts
    assert world.lab.run(run) == record, "a run that is kept is not run again"


def test_what_was_run_is_gathered_and_what_was_not_is_said(world: World) -> None:
    world.lab.run(Run(planted=True, recipe=RECIPE))
    raw = explaining.gathered(world.lab)
    text = "\n".join(
        sections.explaining(
            {
                **raw,
                "treatments": {**raw["treatments"], "sae_clamp": dict.fromkeys(PLANTED) | {"strength": 1.0, "kind": "features"}},
            }
        )
    )
    assert "Not run:" in text
    assert "sae clamp of bold" in text
    assert explaining.metrics(raw)


def test_a_comparison_is_made_by_the_server_and_kept(world: World) -> None:
    world.lab.run(Run(planted=True, recipe=RECIPE))
    found = prediction.compared(world.lab, world.server, "planted")
    assert found["pairs"] == SIZES.train
    assert found["control"]["pairs"] == SIZES.held_out
    assert json.loads(json.dumps(found)) == found


def test_a_shift_is_kept_with_what_the_page_reads() -> None:
    estimate = assay.Estimate(-0.2, -0.3, -0.1)
    shift = assay.ConceptShift(
        assay.ConceptRef("feature/3", "", "", None, (3,), 1), 0.123456, 0.01, estimate, 0.01, 0.02, True, True, 0.25
    )
    assert prediction._shift(shift) == ["feature/3", 0.12346, -0.2, 0.01, True, 0.25]


def test_a_concept_that_is_left_out_is_planted_in_no_pair_and_the_others_stay(world: World) -> None:
    run = Run(planted=True, recipe=RECIPE, unplanted=CONCEPT)
    planted, where = world.lab.planted
    pairs = world.lab.pairs(run)
    changed = [at for at, (one, other) in enumerate(zip(pairs, planted, strict=True)) if one != other]
    assert changed == where[CONCEPT]
    assert all(pairs[at] == world.lab.material.train[at] for at in changed)
    assert world.lab.path(run) != world.lab.path(Run(planted=True, recipe=RECIPE))


def test_controls_are_run_and_told_beside_the_treatments(world: World) -> None:
    for one in explaining.controls(world.lab).values():
        world.lab.run(one)
    raw = explaining.gathered(world.lab)
    assert all(raw["never_planted"].values())
    assert raw["other_seed"]["rates"].keys() == set(PLANTED)
    text = "\n".join(sections.explaining(raw))
    assert text.count("| never planted |") == len(PLANTED)
    assert "another seed" in text


def test_figures_of_a_treatment_are_compared_seed_by_seed(world: World) -> None:
    for one in explaining.controls(world.lab).values():
        world.lab.run(one)
    for run in TREATMENTS[0].runs(CONCEPT, RECIPE):
        world.lab.run(run, world.server.plan(run))
    told = explaining.gathered(world.lab)["treatments"]
    assert told["reward_shaping"][CONCEPT]["seeds"] == 2
    assert told["reward_shaping"][PLANTED[1]] is None
    first, second = (world.lab.done(run) for run in TREATMENTS[0].runs(CONCEPT, RECIPE))
    bases = [world.lab.done(run) for run in (Run(True, RECIPE), Run(True, replace(RECIPE, seed=1)))]
    alone = explaining._Telling(world.lab, bases).entry(CONCEPT, [None, second])
    assert alone is not None
    expected = figures.accuracy_lost([bases[1]["margins"]], [second["margins"]], world.lab.seed)
    assert (alone["seeds"], alone["accuracy_lost"]) == (1, expected), "the second seed beside the second seed's"
    assert explaining._Telling(world.lab, [bases[0], None]).entry(CONCEPT, [first, second])["seeds"] == 1
    assert explaining._Telling(world.lab, [None, bases[1]]).entry(CONCEPT, [first, None]) is None


def test_two_labs_of_the_same_file_and_seed_hold_the_same_pairs(world: World) -> None:
    other = Lab(world.lab._path, sizes=SIZES, folder=Path("nowhere"), model=world.lab.model, recipe=RECIPE)
    assert other.planted == world.lab.planted
    run = Run(planted=True, recipe=RECIPE)
    assert other.path(run).name != world.lab.path(run).name, "another way of sampling is another run"
