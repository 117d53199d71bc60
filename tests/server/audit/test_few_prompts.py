"""The controlled test and its interval with 12 to 30 prompts: p where length alone decides, coverage where a concept tells."""

from __future__ import annotations

import numpy as np
import pytest
from assay_server.audit.control import ControlSums, ScoreTest, control_sums, controlled_effect
from assay_server.audit.disparity import Disparity
from assay_server.audit.matrices import Csr
from assay_server.audit.nuisance import fit_nuisance
from assay_server.audit.reason import Reason
from scipy import special

CONCEPTS = 40
SIZES = {
    "one pair": np.ones(30, int),
    "three pairs": np.full(20, 3),
    "few": np.full(12, 3),
    "geometric": np.maximum(1, np.round(12 * 0.85 ** np.arange(20))).astype(int),
    "zipf": np.maximum(1, np.round(20 / np.arange(1, 31))).astype(int),
}


def drawn(sizes: np.ndarray, nuisances: int, draws: np.random.Generator, *, shift: float, shared: bool = False) -> ControlSums:
    """Concepts that go along with the first nuisance. Without a shift length alone decides; with one, each is preferred."""
    ids, prompts = np.repeat(np.arange(len(sizes)), sizes), len(sizes)
    pairs = len(ids)
    x = np.sqrt(0.5) * (draws.normal(size=(pairs, nuisances)) + draws.normal(size=(prompts, nuisances))[ids])
    base = np.sqrt(0.5) * (draws.normal(size=(pairs, CONCEPTS)) + draws.normal(size=(prompts, CONCEPTS))[ids]) + 0.7 * x[:, :1]
    u = np.sign(base + shift) * (np.abs(base + shift) > 0.6)
    coins = draws.random(prompts)[ids] if shared else draws.random(pairs)
    sign = np.ones(pairs) if shift else np.where(coins > special.expit(x[:, 0]), -1.0, 1.0)
    x, u = x * sign[:, None], (u * sign[:, None]).astype(np.int64)
    return control_sums(Disparity(Csr(u), np.ones(CONCEPTS, np.int64)), ids, x, fit_nuisance(x))


def kept(test: ScoreTest, values: np.ndarray) -> np.ndarray:
    return values[test.reason == Reason.NONE]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("nuisances", [1, 5])
@pytest.mark.parametrize("sizes", list(SIZES))
def test_p_values_hold_their_level_where_length_alone_decides(sizes: str, nuisances: int, shared: bool) -> None:
    draws, p = np.random.default_rng(1), []
    for _ in range(60):
        test = controlled_effect(drawn(SIZES[sizes], nuisances, draws, shift=0.0, shared=shared))
        p.append(kept(test, test.p))
    found = np.concatenate(p)
    assert (found <= 0.05).mean() < 0.058
    assert (found <= 0.01).mean() < 0.013


def test_without_counting_the_nuisances_that_were_fitted_the_level_would_be_missed() -> None:
    draws, z = np.random.default_rng(1), []
    for _ in range(60):
        test = controlled_effect(drawn(SIZES["few"], 5, draws, shift=0.0, shared=True))
        z.append(kept(test, test.z) * np.sqrt(12 / 7))
    assert (2 * special.ndtr(-np.abs(np.concatenate(z))) <= 0.05).mean() > 0.058


@pytest.mark.parametrize("sizes", list(SIZES))
def test_intervals_cover_an_effect_that_is_there(sizes: str) -> None:
    draws, covered, normal = np.random.default_rng(2), [], []
    truth = float(controlled_effect(drawn(np.ones(40_000, int), 1, np.random.default_rng(9), shift=0.4)).mean.mean())
    for _ in range(60):
        test = controlled_effect(drawn(SIZES[sizes], 1, draws, shift=0.4))
        covered.append(kept(test, (test.mean_low <= truth) & (truth <= test.mean_high)))
        width = np.divide(1.96 * np.abs(test.mean), np.abs(test.z), out=np.zeros(CONCEPTS), where=test.z != 0)
        normal.append(kept(test, np.abs(test.mean - truth) <= width))
    assert np.concatenate(covered).mean() > 0.93
    if sizes == "zipf":
        assert np.concatenate(normal).mean() < 0.94
