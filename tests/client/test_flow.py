"""The window without a network: for any sizes, losses and answers, every pair comes out once and in order."""

import dataclasses

import pytest
from assay import Flow, Limits, ModelChanged, ModelInfo, Overloaded, Pair, PairResult, RetryPolicy, ServerFault
from assay.errors import ConnectionFailed, InvalidRequest
from assay.flow import Recovery, Window, scoring
from assay.v1 import model_pb2, scoring_pb2
from hypothesis import given
from hypothesis import strategies as st

SCORING = scoring(scoring_pb2.ScoreOptions())
LIMITS = Limits.from_proto(model_pb2.Limits(max_pairs_per_message=5, max_message_bytes=2000))


class Peer:
    """A server that answers what it is sent, and remembers."""

    def __init__(self) -> None:
        self.queue: list[scoring_pb2.StreamPairsRequest] = []
        self.sizes: list[int] = []

    def take(self, window: Window[PairResult]) -> None:
        while (message := window.next_unsent()) is not None:
            self.sizes.append(message.ByteSize())
            self.queue.append(message)

    def answer(self) -> scoring_pb2.StreamPairsResponse:
        batch = self.queue.pop(0).batch
        results = [scoring_pb2.PairResult(id=pair.id, score=scoring_pb2.PairScore()) for pair in batch.pairs]
        return scoring_pb2.StreamPairsResponse(sequence=batch.sequence, results=results)


@given(
    lengths=st.lists(st.one_of(st.integers(0, 600), st.just(5000), st.just(-1)), max_size=60),
    moves=st.lists(st.sampled_from(["answer", "lose", "add", "flush"]), max_size=80),
    flow=st.builds(
        Flow,
        pairs_per_message=st.integers(1, 8),
        bytes_per_message=st.integers(1, 3000),
        pairs_in_flight=st.integers(1, 20),
        bytes_in_flight=st.integers(1, 9000),
    ),
)
def test_every_pair_comes_out_once_and_in_order(lengths: list[int], moves: list[str], flow: Flow) -> None:
    # A length of -1 is a text that no UTF-8 can carry; 5000 bytes are more than a message holds.
    given_pairs = [Pair("p", "\ud800" if length < 0 else "c" * length, "r", id=str(i)) for i, length in enumerate(lengths)]
    source = iter(given_pairs)
    window, peer = Window(LIMITS, flow, lambda: 0.0, SCORING), Peer()
    out: list[PairResult] = []
    exhausted = False

    def step(move: str) -> bool:
        """One move; True when the source has ended."""
        if move == "add" and not window.full:
            pair = next(source, None)
            if pair is None:
                window.flush()
                return True
            window.add(pair)
        elif move == "flush":
            window.flush()
        elif move == "lose":
            peer.queue.clear()
            window.rewind()
        elif move == "answer":
            peer.take(window)
            out.extend(window.answer(peer.answer()) if peer.queue else window.take_local())
        return False

    for move in moves:
        exhausted |= step(move)
    while not (exhausted and window.empty):
        exhausted |= step("add")
        step("answer")
    assert [result.index for result in out] == list(range(len(given_pairs)))
    assert [result.id for result in out] == [pair.id for pair in given_pairs]
    reasons = [result.error.reason if result.error else "" for result in out]
    assert reasons == [{-1: "INVALID_UTF8", 5000: "MESSAGE_TOO_LARGE"}.get(length, "") for length in lengths]
    assert all(size <= LIMITS.max_message_bytes for size in peer.sizes)


def test_an_answer_to_nothing_is_a_fault() -> None:
    window = Window(LIMITS, Flow(), lambda: 0.0, SCORING)
    with pytest.raises(ServerFault, match="sequence 0"):
        window.answer(scoring_pb2.StreamPairsResponse())


def test_an_answer_to_what_was_not_sent_on_this_connection_is_a_fault() -> None:
    window, peer = Window(LIMITS, Flow(), lambda: 0.0, SCORING), Peer()
    window.add(Pair("p", "c", "r"))
    window.flush()
    peer.take(window)
    window.rewind()
    with pytest.raises(ServerFault):
        window.answer(peer.answer())


@given(failures=st.integers(1, 2000), uniform=st.floats(0, 1), asked=st.one_of(st.none(), st.floats(0, 100)))
def test_delays_grow_to_a_bound_and_never_undercut_the_server(failures: int, uniform: float, asked: float | None) -> None:
    policy = RetryPolicy()
    delay = policy.delay(failures, asked, lambda: uniform)
    if asked is None:
        assert 0 < delay <= policy.max_seconds
    else:
        assert asked <= delay <= asked + policy.max_seconds


def test_failures_are_counted_until_an_answer_comes() -> None:
    recovery = Recovery(RetryPolicy(attempts=2))
    for _ in range(3):
        for _ in range(2):
            recovery.failed(ConnectionFailed("gone"), transport=False)
        recovery.progressed()
    recovery.failed(ConnectionFailed("gone"), transport=False)
    recovery.failed(Overloaded("busy"), transport=False)
    with pytest.raises(ConnectionFailed, match="gave up after 3"):
        recovery.failed(ConnectionFailed("gone"), transport=False)


def test_a_refusal_is_not_worth_another_try() -> None:
    with pytest.raises(InvalidRequest):
        Recovery(RetryPolicy()).failed(InvalidRequest("no"), transport=False)


def test_a_change_of_anything_that_decides_the_numbers_is_noticed() -> None:
    model = ModelInfo.from_proto(model_pb2.Model(model_fingerprint="m", sae_fingerprint="s", hook="h", dtype="float32"))
    recovery = Recovery(RetryPolicy())
    recovery.admit(model)
    recovery.admit(dataclasses.replace(model, device="cuda:0", server_version="2"))
    for name in ("model_fingerprint", "sae_fingerprint", "tokenizer_fingerprint", "template_fingerprint", "hook", "dtype"):
        with pytest.raises(ModelChanged):
            recovery.admit(dataclasses.replace(model, **{name: "other"}))
