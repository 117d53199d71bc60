import numpy as np
import pytest
from assay_server.audit.disparity import Disparity
from assay_server.audit.findings import AuditOptions, ViewKind
from assay_server.audit.lessons import _given, distinct_lessons, stacked
from assay_server.audit.matrices import Csr
from assay_server.audit.run import run_views
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.discrete.discrete_model import Logit

from tests.server.audit.small_datasets import concepts_of, dataset, everything, express_more, split

PAIRS = 600


def echoes(draws: np.random.Generator, source: np.ndarray, keep: float) -> np.ndarray:
    """A concept that follows another in a share of the pairs and is a coin in the rest."""
    own = draws.integers(-1, 2, len(source))
    return np.where(draws.random(len(source)) < keep, source, own)


def lesson_data(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two lessons that have nothing to do with each other, four echoes of each, and length, which favours the chosen."""
    draws = np.random.default_rng(seed)
    first = draws.choice([-1, 0, 1], PAIRS, p=[0.1, 0.4, 0.5])
    second = draws.choice([-1, 0, 1], PAIRS, p=[0.1, 0.65, 0.25])
    columns = [first, *(echoes(draws, first, 0.8) for _ in range(4)), second, *(echoes(draws, second, 0.8) for _ in range(4))]
    return np.stack(columns, axis=1), np.arange(PAIRS), draws.normal(0.3, 1.0, (PAIRS, 1))


def integers(u: np.ndarray) -> Disparity:
    return Disparity(Csr(u.astype(np.int64)), np.ones(u.shape[1], np.int64))


def test_ten_findings_of_two_lessons_are_two() -> None:
    u, prompts, x = lesson_data()
    found = distinct_lessons(integers(u), prompts, x)
    assert found.leads.tolist() == [0, 5]
    assert found.lesson.tolist() == [1] * 5 + [2] * 5
    assert (found.z > 3).all()
    assert (found.p < 1e-3).all()


def test_the_second_lesson_enters_with_what_the_first_leaves_of_it() -> None:
    u, prompts, x = lesson_data(1)
    found = distinct_lessons(integers(u), prompts, x)
    first, second = u[:, [found.leads[0]]], u[:, found.leads[1]]
    design = np.hstack([x, first])
    fit = Logit(np.ones(PAIRS), design).fit(disp=0, tol=1e-14, maxiter=100)
    r = 1 - fit.predict(design)
    w = r * (1 - r)
    slope = np.linalg.solve((design * w[:, None]).T @ design, (design * w[:, None]).T @ second)
    score = r * (second - design @ slope)
    assert found.z[1] == pytest.approx(score.sum() / np.sqrt((score**2).sum()), rel=1e-9)


def test_a_lesson_of_the_other_sign_is_one_too() -> None:
    u, prompts, x = lesson_data(2)
    u[:, 5:] *= -1
    found = distinct_lessons(integers(u), prompts, x)
    assert found.leads.tolist() == [0, 5]
    assert found.z[1] < 0


def test_a_lesson_that_no_pair_contradicts_hides_no_other() -> None:
    u, prompts, x = lesson_data(6)
    always = (np.random.default_rng(6).random(PAIRS) < 0.5).astype(np.int64)
    found = distinct_lessons(integers(np.hstack([always[:, None], u])), prompts, x)
    assert found.leads[0] == 0
    # What such a lesson does not decide is tested on its own pairs alone.
    left = always == 0
    alone = distinct_lessons(integers(u[left]), prompts[left], x[left])
    assert found.leads[1] == alone.leads[0] + 1
    assert found.z[1] == pytest.approx(alone.z[0], rel=1e-9)
    assert found.lesson[:6].tolist() == [1, 2, 2, 2, 2, 2]


def test_what_says_the_opposite_once_a_lesson_is_controlled_for_leads_nothing() -> None:
    draws = np.random.default_rng(1)
    cause, prompts = draws.integers(-1, 2, 2_000), np.arange(2_000)
    follower = echoes(draws, cause, 0.7)
    # Chosen for the cause and against the follower, which goes along with the cause so closely that it looks liked too.
    chosen = np.where(draws.random(2_000) < 1 / (1 + np.exp(0.35 * follower - 1.2 * cause)), 1, -1)
    u, x = np.stack([cause * chosen, follower * chosen], axis=1), np.zeros((2_000, 0))
    assert distinct_lessons(integers(u[:, [1]]), prompts, x).z[0] > 5
    given_cause = _given(integers(u), prompts, x, integers(u).values(), [0])
    assert given_cause.p[1] < 1e-3
    assert given_cause.z[1] < 0
    found = distinct_lessons(integers(u), prompts, x)
    assert found.leads.tolist() == [0]
    assert found.lesson.tolist() == [1, 1]


def test_a_twin_of_a_lesson_belongs_to_it_and_leads_nothing() -> None:
    u, prompts, x = lesson_data(3)
    found = distinct_lessons(integers(np.hstack([u, u[:, [0]]])), prompts, x)
    assert found.lesson[-1] == found.lesson[0] == 1
    assert len(found.leads) == 2


def test_what_only_several_lessons_explain_together_belongs_to_none() -> None:
    # Four lessons over pairs of their own, and a weak sum of them: no one of the four explains half of it.
    quarter = np.arange(PAIRS) % 4
    draws = np.random.default_rng(4)
    moods = draws.choice([-1, 0, 1], PAIRS, p=[0.1, 0.2, 0.7])
    parts = np.stack([np.where(quarter == part, moods, 0) for part in range(4)], axis=1)
    mixed = np.where(draws.random(PAIRS) < 0.15, moods, 0)[:, None]
    found = distinct_lessons(integers(np.hstack([parts, mixed])), np.arange(PAIRS), np.zeros((PAIRS, 0)))
    assert sorted(found.leads.tolist()) == [0, 1, 2, 3]
    assert found.lesson[4] == 0


def test_pairs_of_one_prompt_count_once() -> None:
    u, _, x = lesson_data(5)
    alone = distinct_lessons(integers(u), np.arange(PAIRS), x)
    shared = distinct_lessons(integers(np.repeat(u, 3, axis=0)), np.repeat(np.arange(PAIRS), 3), np.repeat(x, 3, axis=0))
    assert shared.leads.tolist() == alone.leads.tolist()
    np.testing.assert_allclose(shared.z, alone.z, rtol=1e-9)


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_few_pairs_teach_no_lesson_and_break_nothing(pairs: int) -> None:
    u, prompts, x = lesson_data()
    found = distinct_lessons(integers(u[:pairs]), prompts[:pairs], x[:pairs])
    assert len(found.leads) == 0
    assert found.lesson.tolist() == [0] * 10


def test_no_findings_are_no_lessons() -> None:
    found = distinct_lessons(integers(np.zeros((PAIRS, 0))), np.arange(PAIRS), np.zeros((PAIRS, 1)))
    assert len(found.leads) == len(found.lesson) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, PAIRS - 1))
def test_lessons_are_the_same_however_the_pairs_are_cut(seed: int, cut: int) -> None:
    u, prompts, x = lesson_data(seed)
    whole = distinct_lessons(integers(u), prompts, x)
    cut_up = distinct_lessons(stacked([integers(u[:cut]), integers(u[cut:])]), prompts, x)
    np.testing.assert_array_equal(whole.leads, cut_up.leads)
    np.testing.assert_array_equal(whole.z, cut_up.z)
    assert np.isfinite(whole.z).all()
    assert (np.diff(np.sort(whole.leads)) > 0).all()
    for place, lead in enumerate(whole.leads):
        assert whole.lesson[lead] == place + 1


def test_the_global_view_tells_a_clusters_features_from_another_lesson() -> None:
    draws = np.random.default_rng(7)
    base = dataset(7, 900)
    planted = express_more(base, range(12), draws.random(900) < 0.3, draws)
    planted = express_more(planted, range(24, 36), draws.random(900) < 0.3, draws)
    options = AuditOptions(views=(ViewKind.GLOBAL,), max_t_flips=0, evidence=0)
    table = run_views(split(planted, [300, 301]), concepts_of(planted), options)[ViewKind.GLOBAL]
    assert table.lesson is not None
    assert table.lesson_z is not None
    names = [table.concepts[column].name for column in table.concept]
    leads = [names[row] for row in np.flatnonzero(table.lesson_z)]
    assert leads[:2] in (["cluster/0", "cluster/2"], ["cluster/2", "cluster/0"])
    of = dict(zip(names, table.lesson.tolist(), strict=True))
    assert of["cluster/0"] != of["cluster/2"]
    assert set(table.lesson[~table.finding].tolist()) == {0}
    whole = run_views(split(planted, []), concepts_of(planted), options)[ViewKind.GLOBAL]
    for mine, theirs in zip(everything(table), everything(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_dataset_without_findings_has_no_lessons() -> None:
    base = dataset(8, 300)
    options = AuditOptions(views=(ViewKind.GLOBAL,), max_t_flips=0, evidence=0, q_level=1e-12)
    table = run_views(split(base, [100]), concepts_of(base), options)[ViewKind.GLOBAL]
    assert table.lesson is not None
    assert not table.lesson.any()


def test_the_search_can_be_ended_between_steps() -> None:
    class Stopped(Exception):
        pass

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise Stopped

    u, prompts, x = lesson_data()
    with pytest.raises(Stopped):
        distinct_lessons(integers(u), prompts, x, check=check)
    assert asked == 2
