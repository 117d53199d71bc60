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
