"""The breaker: every way through its three states."""

import pytest
from assay_server.cache.breaker import Breaker, Permit
from assay_server.cache.interface import BreakerState


class Fixture:
    """A breaker that opens after three failures for ten seconds, with a clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0
        self.states: list[BreakerState] = []
        self.breaker = Breaker(failures=3, open_seconds=10, on_change=self.states.append, clock=lambda: self.now)

    def permit(self) -> Permit:
        permit = self.breaker.ask()
        assert permit is not None
        return permit

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.breaker.settle(self.permit(), False)


@pytest.fixture
def it() -> Fixture:
    return Fixture()


def test_it_opens_after_so_many_failures_in_a_row(it: Fixture) -> None:
    it.fail(2)
    assert it.breaker.state == "closed"
    it.fail(1)
    assert it.breaker.state == "open"
    assert it.breaker.ask() is None


def test_a_success_between_failures_starts_the_count_again(it: Fixture) -> None:
    it.fail(2)
    it.breaker.settle(it.permit(), True)
    it.fail(2)
    assert it.states == []


def test_what_says_nothing_of_the_other_side_counts_for_nothing(it: Fixture) -> None:
    it.fail(2)
    it.breaker.settle(it.permit(), None)
    assert it.breaker.state == "closed"
    it.fail(1)
    assert it.breaker.state == "open"


def test_after_its_time_exactly_one_probe_is_let_through(it: Fixture) -> None:
    it.fail(3)
    it.now += 9.9
    assert it.breaker.ask() is None
    assert it.breaker.seconds_until_probe() == pytest.approx(0.1)
    it.now += 0.2
    assert it.breaker.seconds_until_probe() == 0
    assert it.permit().probe
    assert it.breaker.ask() is None
    assert it.breaker.seconds_until_probe() == 10


@pytest.mark.parametrize(("ok", "state"), [(True, "closed"), (False, "open"), (None, "open")])
def test_the_probe_decides(it: Fixture, ok: bool | None, state: BreakerState) -> None:
    it.fail(3)
    it.now += 11
    it.breaker.settle(it.permit(), ok)
    assert it.states == ["open", "half_open", state]
    assert (it.breaker.ask() is None) == (state == "open")


def test_a_closed_breaker_that_recovered_counts_from_nothing(it: Fixture) -> None:
    it.fail(3)
    it.now += 11
    it.breaker.settle(it.permit(), True)
    it.fail(2)
    assert it.breaker.state == "closed"


@pytest.mark.parametrize("ok", [True, False])
def test_what_began_before_the_breaker_opened_does_not_move_it(it: Fixture, ok: bool) -> None:
    early = it.permit()
    it.fail(3)
    it.breaker.settle(early, ok)
    assert it.states == ["open"]
    it.now += 11
    probe = it.permit()
    it.breaker.settle(early, ok)
    assert it.states == ["open", "half_open"]
    it.breaker.settle(probe, True)
    it.breaker.settle(probe, False)
    assert it.breaker.state == "closed"


def test_a_breaker_that_never_lets_anything_fail_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Breaker(failures=0, open_seconds=1, on_change=lambda _: None)
