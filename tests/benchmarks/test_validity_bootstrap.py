import numpy as np
import pytest
from assay_server.audit.reason import Reason

from benchmarks.validity.bootstrap import bootstrap


def test_any_statistic_is_bootstrapped_over_prompts_not_pairs() -> None:
    values = np.repeat(np.random.default_rng(5).normal(size=60), 10)
    shared = bootstrap(lambda rows: float(values[rows].mean()), np.repeat(np.arange(60), 10), draws=400)
    apart = bootstrap(lambda rows: float(values[rows].mean()), np.arange(600), draws=400)
    assert shared.value == pytest.approx(values.mean())
    assert shared.low < shared.value < shared.high
    assert (shared.high - shared.low) / (apart.high - apart.low) == pytest.approx(np.sqrt(10), rel=0.2)


def test_a_statistic_that_fails_in_some_draws_leaves_them_out() -> None:
    found = bootstrap(lambda rows: float("nan") if rows[0] == 0 else 1.0, np.arange(1, 5), draws=50)
    assert found.reason == Reason.CONSTANT
    assert (found.value, found.draws) == (0.0, 0)
    partly = bootstrap(lambda rows: float("inf") if len(set(rows.tolist())) < 3 else 1.0, np.arange(4), draws=200)
    assert 0 < partly.draws < 200
    assert (partly.low, partly.high) == (1.0, 1.0)


def test_too_few_prompts_give_a_reason() -> None:
    assert bootstrap(lambda rows: 1.0, np.zeros(0, int)).reason == Reason.NO_PAIRS
    assert bootstrap(lambda rows: 1.0, [4, 4]).reason == Reason.ONE_PROMPT


def test_levels_and_draws_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="level"):
        bootstrap(lambda rows: 1.0, [1, 2], level=1.5)
    with pytest.raises(ValueError, match="draws"):
        bootstrap(lambda rows: 1.0, [1, 2], draws=0)
