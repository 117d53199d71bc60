"""``kill -9`` while rollouts are compared: what comes of it is, to the last bit, what a server that nobody disturbed says."""

import json
import time
from pathlib import Path

import pytest
from assay import Client, ComparisonOptions, Operation, RetryPolicy, RolloutComparison

from tests.e2e.conftest import Fork
from tests.e2e.test_compare_rollouts import MARGINS, NOISE, ROLLOUTS, TRAINING
from tests.support.waiting import PATIENCE

PATIENT = RetryPolicy(attempts=400, initial_seconds=0.05, max_seconds=0.2)
OPTIONS = ComparisonOptions(min_telling=5, draws=10_000)  # enough of them that a kill can meet the statistics
FLAGS = ("--shard-pairs", "16", "--batch-tokens", "400")
PHASES = ("scoring", "scoring", "testing")


def begin(client: Client) -> Operation[RolloutComparison]:
    sets = {"training": TRAINING, "rollouts": ROLLOUTS, "noise": NOISE}
    names = [client.upload_pairs(iter(pairs), request_id=id, display_name=id) for id, pairs in sets.items()]
    return client.compare_rollouts(*names, margins=MARGINS, options=OPTIONS, request_id="mine")


def met(operation: Operation[RolloutComparison], phase: str, beyond: int) -> bool:
    """Whether the operation came to a phase, with so many pairs of it done, before it was over."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and not operation.refresh().done:
        if operation.status.progress.phase == phase and operation.status.progress.pairs_done >= beyond:
            return True
        time.sleep(0.002)
    return False


def stored(folder: Path) -> str:
    """The digest of every concept's shift."""
    return json.loads((folder / "comparisons/mine/comparison.json").read_text())["shifts_sha256"]


@pytest.mark.slow
def test_a_comparison_that_was_killed_on_its_way_is_the_one_of_a_calm_server(fork: Fork, tmp_path: Path) -> None:
    calm = fork("calm", *FLAGS)
    calm.start()
    with Client(calm.address, retry=PATIENT) as client:
        undisturbed = begin(client).wait()
    stormy, kills = fork("stormy", *FLAGS), 0
    stormy.start()
    with Client(stormy.address, retry=PATIENT) as client:
        operation = begin(client)
        for number, phase in enumerate(PHASES):
            if met(operation, phase, beyond=16 * number if phase == "scoring" else 0):
                stormy.kill()
                stormy.start()
                kills += 1
        disturbed = operation.wait()
    assert kills >= 1, "ten thousand draws last longer than a look"
    assert operation.status.progress.resumed == kills
    assert stored(tmp_path / "stormy") == stored(tmp_path / "calm")
    for name in ("retained", "above_noise", "noise_floor", "control", "conclusions", "shifts", "plot_svg"):
        assert getattr(disturbed, name) == getattr(undisturbed, name), name
