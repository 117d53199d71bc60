"""The planner alone: what a batch may hold, which batch is best, and that nothing waits for ever."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pytest
from assay_server.batching import Planner
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = st.lists(st.integers(1, 120), min_size=1, max_size=60)
BUDGETS = st.integers(1, 400)
WINDOWS = st.integers(1, 64)


def computed(planner: Planner, sizes: Sequence[int]) -> int:
    """Tokens that the model processes for a batch of these sizes."""
    return len(sizes) * max(sizes) if planner.padded else sum(sizes)


@given(SIZES, BUDGETS, WINDOWS, st.booleans(), st.floats(0, 10))
def test_a_batch_is_within_its_budget_unless_it_is_one_item(
    sizes: list[int], budget: int, window: int, padded: bool, age: float
) -> None:
    planner = Planner(budget, window, padded=padded)
    chosen = planner.select(sizes, age)
    assert len(chosen) == 1 or computed(planner, [sizes[index] for index in chosen]) <= budget


@given(SIZES, BUDGETS, WINDOWS, st.booleans(), st.floats(0, 10))
def test_a_batch_names_items_of_the_window_once_each_in_order(
    sizes: list[int], budget: int, window: int, padded: bool, age: float
) -> None:
    chosen = Planner(budget, window, padded=padded).select(sizes, age)
    assert chosen
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 0
    assert chosen[-1] < min(window, len(sizes))


@pytest.mark.parametrize("padded", [False, True])
def test_nothing_waits_so_nothing_is_chosen(padded: bool) -> None:
    assert Planner(100, padded=padded).select([], 5.0) == []


@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(1, 90))
def test_a_padded_batch_is_the_best_of_all_that_could_be_made(sizes: list[int], budget: int) -> None:
    """Brute force over every subset of the window, not only over runs: none reads more tokens for the same budget."""
    planner = Planner(budget, padded=True)
    allowed = [
        subset
        for count in range(1, len(sizes) + 1)
        for subset in combinations(range(len(sizes)), count)
        if count == 1 or count * max(sizes[index] for index in subset) <= budget
    ]
    best = max(sum(sizes[index] for index in subset) for subset in allowed)
    assert sum(sizes[index] for index in planner.select(sizes, 0.0)) == best


@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(1, 90))
def test_an_aged_padded_batch_is_the_best_run_that_holds_the_oldest(sizes: list[int], budget: int) -> None:
    """Brute force over runs of similar lengths: all lengths between the batch's least and greatest, equals in any number."""
    ranked = sorted(range(len(sizes)), key=lambda index: (sizes[index], index))
    runs = [ranked[first:end] for first in range(len(ranked)) for end in range(first + 1, len(ranked) + 1)]
    fitting = [run for run in runs if 0 in run and (len(run) == 1 or len(run) * sizes[run[-1]] <= budget)]
    best = max(sum(sizes[index] for index in run) for run in fitting)
    chosen = Planner(budget, max_age=2.0, padded=True).select(sizes, 2.1)
    assert chosen[0] == 0
    assert sum(sizes[index] for index in chosen) == best


@given(SIZES, BUDGETS)
def test_of_equal_lengths_the_older_go_first(sizes: list[int], budget: int) -> None:
    doubled = [*sizes, *sizes]
    chosen = Planner(budget, padded=True).select(doubled, 0.0)
    for index in chosen:
        if index >= len(sizes):
            assert index - len(sizes) in chosen, "a younger twin went first"


@given(SIZES, BUDGETS, st.floats(0, 10))
def test_a_packed_batch_starts_with_the_oldest_and_leaves_out_only_what_does_not_fit(
    sizes: list[int], budget: int, age: float
) -> None:
    chosen = Planner(budget).select(sizes, age)
    assert chosen[0] == 0
    room = budget - sum(sizes[index] for index in chosen)
    for index in set(range(len(sizes))) - set(chosen):
        before = budget - sum(sizes[i] for i in chosen if i < index)
        assert sizes[index] > before, "it came first and fitted"
        assert sizes[index] > room


# A queue with a device behind it, in simulated time


@dataclass
class Simulation:
    """A full queue, refilled as it drains: what a bulk stream looks like.

    Attributes:
        size: draws the next length.
        rate: tokens a second.
    """

    planner: Planner
    size: Callable[[], int]
    rate: float = 100_000.0
    depth: int = 512
    now: float = 0.0
    useful: int = 0
    computed: int = 0
    waits: list[float] = field(default_factory=list[float])
    queue: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])

    def run(self, batches: int) -> None:
        for _ in range(batches):
            while len(self.queue) < self.depth:
                self.queue.append((self.size(), self.now))
            sizes = [size for size, _ in self.queue]
            chosen = self.planner.select(sizes, self.now - self.queue[0][1])
            taken = [self.queue[index] for index in chosen]
            for index in reversed(chosen):
                del self.queue[index]
            self.waits += [self.now - arrived for _, arrived in taken]
            cost = computed(self.planner, [size for size, _ in taken])
            self.useful += sum(size for size, _ in taken)
            self.computed += cost
            self.now += cost / self.rate


def lognormal(seed: int, sigma: float = 0.8, median: float = 200.0) -> Callable[[], int]:
    """Lengths such that an arrival-order batch of 32 is a quarter useful, as measured on real pairs."""
    rng = np.random.default_rng(seed)
    return lambda: min(2048, max(4, round(math.exp(rng.normal(math.log(median), sigma)))))


def test_arrival_order_wastes_three_quarters_of_a_padded_batch() -> None:
    draw = lognormal(0)
    useful = total = 0
    for _ in range(200):
        sizes = [draw() for _ in range(32)]
        useful += sum(sizes)
        total += len(sizes) * max(sizes)
    assert 0.2 < useful / total < 0.3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_sorted_window_under_a_budget_keeps_a_padded_batch_useful(seed: int) -> None:
    run = Simulation(Planner(16384, padded=True), lognormal(seed))
    run.run(400)
    assert run.useful / run.computed >= 0.85


def test_a_packed_batch_computes_nothing_but_tokens_and_is_full() -> None:
    run = Simulation(Planner(16384), lognormal(4))
    run.run(200)
    assert run.useful / run.computed == 1.0
    assert run.useful >= 0.995 * 200 * 16384


@pytest.mark.parametrize("padded", [False, True])
def test_a_length_that_never_fits_well_does_not_starve(padded: bool) -> None:
    """One odd length in a hundred, in a stream of a length that fills the budget alone."""
    rng = np.random.default_rng(5)

    def draw() -> int:
        return 3 if rng.random() < 0.01 else 128

    run = Simulation(Planner(16384, max_age=2.0, padded=padded), draw)
    run.run(1000)
    assert run.now > 20 * 2.0, "the simulation is long enough for somebody to starve in"
    waiting = [run.now - arrived for _, arrived in run.queue]
    assert max(run.waits + waiting) <= 2.0 + 3 * 16384 / run.rate


def test_without_ageing_the_same_length_would_starve() -> None:
    """The simulation above can fail: its rule is what keeps it."""
    rng = np.random.default_rng(5)

    def draw() -> int:
        return 3 if rng.random() < 0.01 else 128

    run = Simulation(Planner(16384, max_age=math.inf, padded=True), draw)
    run.run(1000)
    assert max(run.now - arrived for _, arrived in run.queue) > 20.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(64, 4096), st.integers(1, 600), st.booleans())
def test_every_queue_drains(seed: int, budget: int, count: int, padded: bool) -> None:
    draw = lognormal(seed)
    planner = Planner(budget, padded=padded)
    queue = [draw() for _ in range(count)]
    for _ in range(count):
        if not queue:
            break
        for index in reversed(planner.select(queue, 0.0)):
            del queue[index]
    assert not queue
