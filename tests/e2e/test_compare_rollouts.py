"""Rollouts compared on the real server with a small real model, from Python and from the command line."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from assay import AsyncClient, Client, ComparisonOptions, Intervene, InterventionMode, InvalidRequest, Pair, chat

from tests.support.server_process import ServerProcess
from tests.support.waiting import PATIENCE

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "140"}
OPTIONS = ComparisonOptions(min_telling=5, draws=200, seed=2)
MARGINS = [0.4, 0.2, 0.5, 0.3] * 10


def answers(kind: str, count: int, taught: float, *, each: int = 1) -> list[Pair]:
    """Pairs whose first response says one thing more, so often."""
    draw = random.Random(kind)
    words = [f"w{draw.randrange(900)}" for _ in range(60)]
    pairs: list[Pair] = []
    for number in range(count):
        for one in range(each):
            text = [" ".join(draw.choices(words, k=draw.randint(5, 10))) for _ in range(2)]
            more = " lovely lovely" if draw.random() < taught else ""
            topic = "trained" if kind == "training" else "unseen"
            pairs.append(Pair(chat(f"Question {topic} {number}?"), text[0] + more, text[1], id=f"{kind}-{number}-{one}"))
    return pairs


TRAINING = answers("training", 60, 0.9)
ROLLOUTS = answers("rollouts", 40, 0.8, each=2)
NOISE = answers("noise", 40, 0.0, each=2)


def write(path: Path, pairs: list[Pair]) -> Path:
    rows: list[str] = []
    for one in pairs:
        assert not isinstance(one.prompt, str)
        prompt = [{"role": message.role, "content": message.content} for message in one.prompt]
        rows.append(json.dumps({"id": one.id, "prompt": prompt, "chosen": one.chosen, "rejected": one.rejected}))
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def names(server: ServerProcess) -> list[str]:
    with Client(server.address) as client:
        return [client.upload_pairs(pairs).name for pairs in (TRAINING, ROLLOUTS, NOISE)]


def assay(server: ServerProcess, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay", *map(str, words), "--address", server.address]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=PATIENCE)
    assert done.returncode == code, done.stdout + done.stderr
    return done


async def test_what_was_taught_is_what_shifts_and_both_clients_say_the_same(server: ServerProcess, names: list[str]) -> None:
    with Client(server.address) as client:
        found = client.compare_rollouts(*names, margins=MARGINS, margins_of="held out", options=OPTIONS).wait()
    assert (found.dataset, found.rollouts, found.noise) == tuple(names)
    assert (found.dataset_pairs, found.rollout_pairs, found.prompts) == (60, 80, 40)
    assert found.control is not None
    assert found.control.passed
    assert found.retained.pearson_squared is not None
    assert found.noise_floor.pearson_squared is not None
    assert found.retained.pearson_squared.low > found.noise_floor.pearson_squared.high
    strongest = found.shifts[0]
    assert strongest.clears_noise
    assert strongest.predicted * strongest.observed.value > 0
    assert found.retained.same_sign is not None
    assert found.retained.same_sign.value > 0.6
    assert ElementTree.fromstring(found.plot_svg).tag.endswith("svg")
    async with AsyncClient(server.address) as client:
        again = await (await client.compare_rollouts(*names, margins=MARGINS, margins_of="held out", options=OPTIONS)).wait()
    assert (again.retained, again.above_noise, again.shifts) == (found.retained, found.above_noise, found.shifts)
    assert again.conclusions == found.conclusions


def test_a_plan_weighs_the_prediction_and_one_of_other_data_is_refused(server: ServerProcess, names: list[str]) -> None:
    with Client(server.address) as client:
        plain = client.compare_rollouts(*names, options=OPTIONS).wait()
        concept = plain.shifts[0].concept.name
        ask = [Intervene(concept, InterventionMode.EXPLAIN_AWAY, strength=2.0)]
        plan = client.create_plan(names[0], ask).wait()
        weighed = client.compare_rollouts(*names, plan=plan, options=OPTIONS).wait()
        (one,) = plan.interventions
        shifts = {shift.concept.name: shift for shift in weighed.shifts}
        assert one.expected.shift_after is not None
        assert shifts[concept].predicted == pytest.approx(one.expected.shift_after, abs=1e-12)
        assert abs(shifts[concept].predicted) < abs(plain.shifts[0].predicted)
        assert shifts[concept].observed == plain.shifts[0].observed
        other = client.create_plan(names[2], ask).wait()
        with pytest.raises(InvalidRequest) as refused:
            client.compare_rollouts(*names, plan=other, options=OPTIONS)
        assert refused.value.reason == "DATASET_MISMATCH"
        for name in (names[0], names[2]):
            assert client.dataset(name).fingerprint in str(refused.value)


def test_the_command_uploads_compares_and_says_first_what_speaks_against(server: ServerProcess, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.jsonl", pairs) for name, pairs in (("d", TRAINING), ("r", ROLLOUTS), ("n", NOISE))]
    margins, plot = tmp_path / "margins.txt", tmp_path / "plot.svg"
    margins.write_text("\n".join(map(str, [0.0] * 20)))
    words: list[Any] = ["compare", "--dataset", files[0], "--rollouts", files[1], "--noise", files[2], "--min-telling", 5]
    words += ["--draws", 100]
    bare = assay(server, *words)
    assert bare.stdout.startswith("- No margins were sent")
    done = assay(server, *words, "--margins", margins, "--plot", plot, "--top", 4)
    assert done.stdout.startswith("- The policy is not seen to have moved: agreement says nothing.")
    assert "squared Pearson" in done.stdout
    assert len([line for line in done.stdout.splitlines() if "feature/" in line]) == 4
    assert "Positive control failed" in plot.read_text()
    assert f"wrote {plot}" in done.stderr
    told = json.loads(assay(server, *words, "--json", "--quiet").stdout)
    assert told["control"] is None
    assert "plot_svg" not in told
    assert told["retained"]["concepts"] > 3
    margins.write_text("0.5\nmuch\n")
    assert "line 2" in assay(server, *words, "--margins", margins, code=2).stderr


def test_noise_on_other_prompts_is_refused_by_the_command_with_numbers(server: ServerProcess, names: list[str]) -> None:
    done = assay(server, "compare", "--dataset", names[1], "--rollouts", names[0], "--noise", names[2], "--quiet", code=2)
    assert "40 prompts and the rollouts 60, and 0 of them are the same" in done.stderr
