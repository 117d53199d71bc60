import numpy as np
import pytest
from assay_server.audit.multiplicity import Procedure, q_values
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

PS = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(PS)
@pytest.mark.parametrize(
    ("procedure", "theirs"), [(Procedure.BENJAMINI_HOCHBERG, "fdr_bh"), (Procedure.BENJAMINI_YEKUTIELI, "fdr_by")]
)
def test_q_values_equal_those_of_statsmodels(procedure: Procedure, theirs: str, p: list[float]) -> None:
    assert np.allclose(q_values(p, procedure), multipletests(p, method=theirs)[1], atol=1e-12, rtol=1e-9)


def step_up(p: np.ndarray, procedure: Procedure) -> np.ndarray:
    """The formula of both papers, written out: min over later ranks of p · n · penalty / rank."""
    n, order = len(p), np.argsort(p, kind="stable")
    ranks = np.arange(1, n + 1)
    penalty = (1 / ranks).sum() if procedure is Procedure.BENJAMINI_YEKUTIELI else 1.0
    result = np.empty(n)
    result[order] = np.minimum(np.minimum.accumulate((p[order] * (n * penalty) / ranks)[::-1])[::-1], 1.0)
    return result


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60), st.sampled_from(Procedure))
def test_q_values_are_those_of_the_formula_over_what_was_tested(drawn: list[tuple[float, bool]], procedure: Procedure) -> None:
    p, tested = np.array([one for one, _ in drawn]), np.array([one for _, one in drawn], np.bool_)
    wanted = np.ones(len(p))
    wanted[tested] = step_up(p[tested], procedure)
    assert np.allclose(q_values(p, procedure, tested=tested), wanted, atol=1e-15, rtol=0)


@given(PS)
def test_q_values_keep_the_order_of_p_and_are_never_smaller(p: list[float]) -> None:
    q = q_values(p)
    assert (q >= np.array(p) - 1e-15).all()
    assert (np.diff(q[np.argsort(p, kind="stable")]) >= 0).all()


def test_what_was_not_tested_counts_for_nothing_and_gets_one() -> None:
    p = np.array([[0.01, 0.5], [0.001, 0.02]])
    tested = np.array([[True, False], [False, True]])
    assert q_values(p, tested=tested).tolist() == [[0.02, 1.0], [1.0, 0.02]]


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1])
def test_a_value_that_is_no_p_value_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"):
        q_values([0.1, bad])
    with pytest.raises(ValueError, match="NaN"):
        q_values([0.1, bad], tested=[True, False])


def test_nothing_tested_is_no_error() -> None:
    assert q_values([]).shape == (0,)
    with pytest.raises(ValueError, match="shape"):
        q_values([0.1], tested=[True, False])
