"""``kill -9`` while a plan is made, aimed at what it is doing: the plan that comes of it is that of a server nobody disturbed."""

import hashlib
import json
import random
import time
from pathlib import Path

import pytest
from assay import Client, Operation, Pair, Plan, RetryPolicy
from assay.interventions import Intervene, InterventionFamily, InterventionMode, InterventionParameters

from tests.e2e.conftest import Fork
from tests.support.forked_server import ForkedServer
from tests.support.waiting import PATIENCE

PATIENT = RetryPolicy(attempts=400, initial_seconds=0.05, max_seconds=0.2)
FLAGS = ("--shard-pairs", "32", "--batch-tokens", "600", "--whole-model")
PHASES = ("scoring", "testing", "fitting", "")  # one kill each, the last in whatever it does then
KILLS, ROUNDS = 3, 6
AWAY, MORE = InterventionMode.EXPLAIN_AWAY, InterventionMode.AMPLIFY
WANTED = (
    Intervene("feature/3", AWAY, 1.5),
    Intervene("feature/7", AWAY, 1.0, InterventionFamily.ABLATION),
    Intervene("feature/9", AWAY, 1.0, InterventionFamily.TOKEN_FILTER),
    Intervene("feature/11", AWAY, 1.0, InterventionFamily.EXAMPLE_FILTER, InterventionParameters(share=0.1)),
    Intervene("feature/3", MORE, 2.0, InterventionFamily.STEERING_VECTOR),  # its coefficient is measured: many texts
)


def make_pairs(count: int) -> list[Pair]:
    chance, words = random.Random(3), ("sage", "mint", "rain", "salt", "moss", "kiln", "amber", "delta")

    def some() -> str:
        return " ".join(chance.choices(words, k=chance.randint(3, 10)))

    return [Pair(f"On {chance.choice(words)} {number // 2}: ", some(), some(), id=str(number)) for number in range(count)]


PAIRS = make_pairs(160)


def begin(client: Client, number: int = 0) -> Operation[Plan]:
    dataset = client.upload_pairs(iter(PAIRS), request_id="pairs", display_name="pairs")
    return client.create_plan(dataset, WANTED, request_id=f"plan-{number}", display_name="plan")


def stored(folder: Path, plan: Plan) -> tuple[str, str, str]:
    """Digests of a plan's rows and tensors, and of everything else that it says but its name and when it was made."""
    head = json.loads((folder / "plans" / plan.name.removeprefix("plans/") / "plan.json").read_text())
    rows, tensors = head.pop("rows_sha256"), head.pop("tensors_sha256")
    head.pop("sha256")
    del head["plan"]["created"], head["plan"]["name"]
    return rows, tensors, hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()


def kill_while(server: ForkedServer, client: Client, operation: Operation[Plan], phase: str) -> bool:
    """Kill the server while the operation is in a phase (any for ""); whether it was not too late for that."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        status = operation.refresh()
        if status.done:
            return False
        if status.progress.phase == phase or (not phase and status.progress.phase != "waiting"):
            server.kill()
            server.start()
            return True
        time.sleep(0.002)
    raise AssertionError(f"it was never {phase or 'under way'}, and did not end")


@pytest.mark.slow
def test_a_plan_that_was_killed_while_it_was_made_has_the_bits_of_one_that_was_not(fork: Fork, tmp_path: Path) -> None:
    with fork("calm", *FLAGS) as server, Client(server.address, retry=PATIENT) as client:
        calm = begin(client).wait()
        expected = stored(tmp_path / "calm", calm)

    kills = 0
    with fork("stormy", *FLAGS) as server, Client(server.address, retry=PATIENT) as client:
        for number in range(ROUNDS):  # a fast machine may need several to be killed that often
            operation, before = begin(client, number), kills
            for phase in PHASES:
                kills += kill_while(server, client, operation, phase)
            stormy = operation.wait()
            assert operation.refresh().progress.resumed == kills - before
            assert stormy.fingerprint == calm.fingerprint
            assert stored(tmp_path / "stormy", stormy) == expected
            if kills >= KILLS:
                break
            client.delete_plan(stormy)
    assert kills >= KILLS
