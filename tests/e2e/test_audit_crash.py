"""``kill -9`` at random moments of uploads and audits, twenty times: the findings are those of a server that nobody disturbed."""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import grpc
import pytest
from assay import AuditOptions, Client, ConnectionFailed, DeadlineExceeded, Flow, NotFound, NotReady, Pair, RetryPolicy
from assay.v1 import audit_service_pb2, audit_service_pb2_grpc

from tests.e2e.conftest import Fork
from tests.support.forked_server import ForkedServer
from tests.support.waiting import PATIENCE

T = TypeVar("T")
KILLS = 20
MORE_KILLS = 40
SEED = 20240607
PATIENT = RetryPolicy(attempts=400, initial_seconds=0.05, max_seconds=0.2)
SMALL = Flow(pairs_per_message=3, pairs_in_flight=12)
WORDS = ("sage", "mint", "rain", "salt", "moss", "kiln", "amber", "delta")
OPTIONS = AuditOptions(max_t_flips=64, min_features=1, min_inside=5, min_firings=5, data_clusters=4, metadata_keys=("topic",))


def make_pairs(count: int) -> list[Pair]:
    """Pairs that teach exclamation marks; some have no rejected response."""
    chance = random.Random(7)

    def words(least: int) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(least, 9)))

    return [
        Pair(
            f"On {chance.choice(WORDS)} {chance.randrange(30)}: ",
            words(2) + "!!! " * chance.randrange(3),
            words(2) if index % 19 else "",
            id=str(index),
            metadata={"topic": chance.choice(WORDS[:3])},
        )
        for index in range(count)
    ]


PAIRS = make_pairs(150)


class Rounds(threading.Thread):
    """Uploads and audits the same pairs round after round, each from nothing, and remembers what was found."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.rounds = 0
        self.found: list[str] = []
        self.resumed = 0
        self.auditing = threading.Event()
        self.enough = threading.Event()
        self.failure: BaseException | None = None
        self._address = address

    def run(self) -> None:
        try:
            with Client(self._address, retry=PATIENT, flow=SMALL) as client:
                while not self.found or not self.enough.is_set():
                    self._round(client, self.rounds)
                    self.rounds += 1
        except BaseException as error:
            self.failure = error

    def _round(self, client: Client, number: int) -> None:
        dataset = persist(lambda: client.upload_pairs(iter(PAIRS), request_id=f"upload-{number}", display_name="pairs"))
        assert dataset.pairs == len(PAIRS)
        operation = persist(lambda: client.audit(dataset, OPTIONS, request_id=f"audit-{number}"))
        self.auditing.set()
        audit = persist(operation.wait)
        self.resumed += persist(operation.refresh).progress.resumed
        self.auditing.clear()
        assert audit.cost.pairs_scored == len(PAIRS)
        self.found.append(audit.result_fingerprint)
        names = persist(lambda: [hypothesis.name for hypothesis in client.hypotheses(audit)])
        assert len(set(names)) == len(names) > 0
        with contextlib.suppress(NotFound):  # deleted, and then killed before it could say so
            persist(lambda: client.delete_dataset(dataset))


def persist(call: Callable[[], T]) -> T:
    """The call's answer, asked for until a server lives that gives it."""
    while True:
        try:
            return call()
        except (ConnectionFailed, NotReady, DeadlineExceeded):
            time.sleep(0.05)


@pytest.fixture
def forked(fork: Fork) -> ForkedServer:
    return fork("data", "--shard-pairs", "32", "--batch-tokens", "600").start()


def stored(address: str, number: int) -> int:
    """Sequences that the server says it has of a round's upload."""
    with grpc.insecure_channel(address) as channel:
        stub = audit_service_pb2_grpc.AuditServiceStub(channel)
        answer = stub.GetUpload(audit_service_pb2.GetUploadRequest(request_id=f"upload-{number}"), wait_for_ready=True)
        return -1 if answer.HasField("dataset") else int(answer.next_sequence)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_at_random_moments_changes_no_bit_of_what_is_found(forked: ForkedServer) -> None:
    calm = Rounds(forked.address)
    calm.enough.set()
    calm.run()
    assert calm.failure is None, calm.failure

    chance = random.Random(SEED)
    stormy = Rounds(forked.address)
    stormy.start()
    for _ in range(KILLS):
        time.sleep(chance.expovariate(1 / 0.35))
        number = stormy.rounds
        before = stored(forked.address, number) if chance.random() < 0.5 else 0
        forked.kill()
        forked.start()
        after = stored(forked.address, number)
        if number == stormy.rounds and before > 0:
            assert after == -1 or after >= before, "a batch that was counted is gone"
    # Chance may have spared every audit: then some are killed on purpose, until one had to be resumed.
    for _ in range(MORE_KILLS):
        if stormy.resumed or stormy.failure is not None:
            break
        stormy.auditing.wait(PATIENCE)
        time.sleep(chance.uniform(0.0, 0.1))
        forked.kill()
        forked.start()
        while stormy.auditing.is_set() and stormy.is_alive():
            time.sleep(0.01)
    stormy.enough.set()
    stormy.join(PATIENCE)
    assert not stormy.is_alive()
    assert stormy.failure is None, stormy.failure
    assert set(stormy.found) == set(calm.found)
    assert stormy.resumed >= 1
