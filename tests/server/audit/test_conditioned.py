from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from assay_server.audit.conditioned import Contrasted, Contrasting, conditioned_table
from assay_server.audit.findings import AuditOptions, Condition, TestedConcept, ViewKind
from assay_server.audit.matrices import Csr
from assay_server.audit.nuisance import fit_nuisance
from assay_server.audit.reason import Reason
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.server.audit.small_datasets import everything
from tests.server.audit.test_shared_prompts import by_prompt_effects


def example(seed: int, pairs: int = 80) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    x = draws.normal(size=pairs)
    x = np.where(draws.random(pairs) < 1 / (1 + np.exp(-x)), np.abs(x), -np.abs(x))
    return {
        "values": draws.integers(-3, 4, (pairs, 4)) + np.round(x[:, None]).astype(int),
        "groups": (draws.random((pairs, 3)) < 0.4).astype(int),
        "prompts": draws.integers(0, pairs // 2, pairs),
        "x": x[:, None],
    }


SIZES = np.array([3, 4, 1, 2])


def contrasted(data: dict[str, np.ndarray], cuts: list[int], order: list[int] | None = None) -> Contrasted:
    """In blocks, of which several may hold pairs of one prompt."""
    edges = [0, *sorted(cuts), len(data["x"])]
    pieces = [np.arange(a, b) for a, b in pairwise(edges)]
    fit = fit_nuisance(data["x"])
    sums = Contrasting(SIZES, np.unique(data["prompts"]) if cuts else np.zeros(0, int), fit)
    for rows in (pieces[i] for i in order or range(len(pieces))):
        sums.add(
            Csr(data["values"][rows]), Csr(data["groups"][rows]), data["prompts"][rows], rows, data["x"][rows], compared=rows != 5
        )
    found = sums.finish(0.95)
    assert found is not None
    return found


def by_loop(u: np.ndarray, inside: np.ndarray, prompts: np.ndarray) -> tuple[float, float, float]:
    """Δ, its prompt-clustered error, and Welch–Satterthwaite's degrees of freedom."""
    parts, freedoms, centred = [], [], np.where(inside, u - u[inside].mean(), u - u[~inside].mean())
    for side in (inside, ~inside):
        ids = np.unique(prompts[side])
        factor, freedom = by_prompt_effects(prompts[side])
        freedoms.append(freedom)
        scale = np.sqrt(factor) / side.sum()
        parts.append({c: scale * centred[side & (prompts == c)].sum() for c in ids})
    variances = [
        max(sum(value**2 for value in part.values()), u.var(ddof=1) / side.sum())
        for part, side in zip(parts, (inside, ~inside), strict=True)
    ]
    shared = sum(parts[0][c] * parts[1][c] for c in parts[0] if c in parts[1])
    freedom = sum(variances) ** 2 / sum(v**2 / each for v, each in zip(variances, freedoms, strict=True))
    return u[inside].mean() - u[~inside].mean(), np.sqrt(sum(variances) - 2 * shared), freedom


def test_raw_and_controlled_contrasts_equal_a_plain_loop() -> None:
    data = example(1)
    found, left = contrasted(data, []), fit_nuisance(data["x"]).residuals(data["x"])
    kept = np.arange(80) != 5
    for name, u in (("raw", data["values"] / SIZES), ("controlled", 2 * left[:, None] * data["values"] / SIZES)):
        contrast = getattr(found, name)
        for k in range(3):
            for m in range(4):
                inside = data["groups"][kept, k] == 1
                delta, se, freedom = by_loop(u[kept, m], inside, data["prompts"][kept])
                assert contrast.delta[k, m] == pytest.approx(delta, abs=1e-9)
                assert contrast.se[k, m] == pytest.approx(se, abs=1e-9)
                assert contrast.p[k, m] == pytest.approx(2 * stats.t.sf(abs(delta / se), freedom), abs=1e-9)
                halves = [
                    u[rows & (data["groups"][:, k] == 1), m].mean() - u[rows & (data["groups"][:, k] == 0), m].mean()
                    for rows in (kept & (np.arange(80) % 2 == half) for half in (0, 1))
                ]
                assert getattr(found, f"{name}_halves")[:, k, m] == pytest.approx(halves, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 50))
def test_blocks_that_split_prompts_in_any_order_give_what_one_block_gives(data: st.DataObject, seed: int) -> None:
    drawn, cuts = example(seed), data.draw(st.lists(st.integers(1, 79), min_size=1, max_size=4, unique=True))
    whole, parts = contrasted(drawn, []), contrasted(drawn, cuts, data.draw(st.permutations(range(len(cuts) + 1))))
    for name in ("delta", "se", "z", "p", "d", "delta_min", "inside", "reason"):
        assert np.array_equal(getattr(whole.raw, name), getattr(parts.raw, name))
        assert np.allclose(getattr(whole.controlled, name), getattr(parts.controlled, name), rtol=1e-9, atol=1e-9)
    assert np.array_equal(whole.prompts, parts.prompts)


def test_without_a_nuisance_nothing_is_controlled_and_with_gamma_zero_both_agree() -> None:
    data = example(2)
    rows = np.arange(80)
    plain = Contrasting(SIZES, np.zeros(0, int), None)
    flat = Contrasting(SIZES, np.zeros(0, int), fit_nuisance(np.zeros((80, 1))))
    for sums in (plain, flat):
        sums.add(Csr(data["values"]), Csr(data["groups"]), data["prompts"], rows, np.zeros((80, 1)))
    alone, both = plain.finish(0.95), flat.finish(0.95)
    assert alone is not None
    assert both is not None
    assert alone.controlled is None
    assert both.controlled is not None
    assert np.allclose(both.controlled.p, both.raw.p, atol=1e-12)
    assert np.allclose(both.controlled.delta, alone.raw.delta, atol=1e-12)


def test_a_nuisance_that_decides_everything_leaves_no_controlled_effect() -> None:
    data = example(3)
    sums = Contrasting(SIZES, np.zeros(0, int), fit_nuisance(np.ones((80, 1))))
    sums.add(Csr(data["values"]), Csr(data["groups"]), data["prompts"], np.arange(80), np.ones((80, 1)))
    found = sums.finish(0.95)
    assert found is not None
    assert found.controlled is not None
    assert (found.controlled.reason == Reason.SEPARATED).all()
    assert (found.controlled.p == 1).all()
    assert (found.raw.p < 1).any()


def test_a_table_keeps_the_strongest_by_p_and_puts_findings_first_then_the_larger_smaller_half() -> None:
    found = contrasted(example(6, 200), [])
    concepts = tuple(TestedConcept(f"feature/{m}", (m,), 1) for m in range(4))
    conditions = tuple(Condition(f"data-cluster/{k}") for k in range(3))
    eligible = np.ones((3, 4), np.bool_)
    eligible[1, 2] = False
    table = conditioned_table(ViewKind.FEATURE_CONDITIONED, found, concepts, conditions, eligible, AuditOptions(q_level=0.6))
    assert table.tests == len(table.concept) == 11
    assert (1, 2) not in set(zip(table.condition.tolist(), table.concept.tolist(), strict=True))
    assert table.controlled is not None
    keys = list(zip(~table.finding, ~table.consistent, -table.delta_min, strict=True))
    assert keys == sorted(keys)
    assert (table.finding <= (table.controlled.q <= 0.6) & table.consistent).all()
    assert table.findings_controlled == table.finding.sum()
    few = conditioned_table(
        ViewKind.FEATURE_CONDITIONED, found, concepts, conditions, eligible, AuditOptions(q_level=0.6, keep=3)
    )
    assert few.controlled is not None
    assert np.array_equal(np.sort(few.controlled.p), np.sort(table.controlled.p)[:3])
    assert few.findings_controlled == table.findings_controlled
    assert all(np.isfinite(array).all() for array in everything(replace(table, evidence=())))
