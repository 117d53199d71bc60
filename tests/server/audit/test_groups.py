"""Groups of findings from z and correlations: cores, what opens a lesson, who belongs where, and who leads."""

import numpy as np
import pytest
from assay_server.audit.groups import Groups, grouped, kind_of

FEATURE, CLUSTER = kind_of("feature/1"), kind_of("cluster/1")
PAIRS = 2_000


def of(u: np.ndarray, kinds: list[int] | None = None) -> Groups:
    """Groups of the columns of u, each with the z of its mean."""
    z = u.mean(axis=0) / u.std(axis=0) * np.sqrt(len(u))
    return grouped(z, np.corrcoef(u.T).reshape(u.shape[1], u.shape[1]), np.array(kinds or [FEATURE] * u.shape[1]))


def cause(draws: np.random.Generator, mean: float = 0.25) -> np.ndarray:
    return draws.normal(mean, 1.0, PAIRS)


def followers(draws: np.random.Generator, of: np.ndarray, count: int, noise: float = 1.0) -> np.ndarray:
    return of[:, None] + noise * draws.normal(size=(PAIRS, count))


def test_one_cause_behind_many_findings_is_one_lesson_at_any_size() -> None:
    # Beside any one of them something is left of every other, and the more pairs, the surer. Together they measure the cause.
    draws = np.random.default_rng(0)
    u = followers(draws, cause(draws, 0.6), 30)
    z = u.mean(axis=0) / u.std(axis=0) * np.sqrt(PAIRS)
    assert ((z[1] - 0.5 * z[0]) / np.sqrt(0.75)) > 5, "a single lead leaves the next one standing"
    found = of(u)
    assert set(found.lesson.tolist()) == {1}


def test_more_and_less_are_apart_though_one_is_the_other_turned() -> None:
    draws = np.random.default_rng(1)
    one = cause(draws)
    u = np.hstack([followers(draws, one, 5), -followers(draws, one, 5)])
    found = of(u)
    assert len(found.leads) == 2
    assert len(set(found.lesson[:5].tolist())) == len(set(found.lesson[5:].tolist())) == 1
    assert found.lesson[0] != found.lesson[5]
    signs = np.sign(u.mean(axis=0))
    for place, lead in enumerate(found.leads, start=1):
        assert (signs[found.lesson == place] == signs[lead]).all()
        assert np.sign(found.z[place - 1]) == signs[lead]


@pytest.mark.parametrize(
    ("names", "strength", "lead"),
    [
        (["feature/1", "text/bold", "cluster/2"], [10.0, 6.0, 12.0], 1),
        (["feature/1", "text/bold", "cluster/2"], [10.0, 5.0, 12.0], 0),
        (["text/more-second-person", "text/more-praise", "feature/1"], [10.0, 7.0, 12.0], 1),
        (["text/more-length", "feature/2", "feature/1"], [7.0, 10.0, 12.0], 0),
        (["word/please", "concepts/a", "response-cluster/2"], [10.0, 6.0, 12.0], 1),
        (["word/please", "concepts/a", "response-cluster/2"], [10.0, 4.0, 12.0], 0),
        (["word/please", "feature/3", "cluster/2"], [3.6, 4.0, 12.0], 1),
        (["cluster/1", "cluster/2", "response-cluster/1"], [8.0, 9.0, 7.0], 1),
    ],
)
def test_the_most_readable_of_at_least_half_the_strength_leads(names: list[str], strength: list[float], lead: int) -> None:
    found = grouped(np.array(strength), np.full((3, 3), 0.9) + 0.1 * np.eye(3), np.array([kind_of(name) for name in names]))
    assert found.leads.tolist() == [lead]
    assert found.lesson.tolist() == [1, 1, 1]


def test_a_finding_is_told_by_the_lesson_that_explains_a_third_of_it_and_by_none_where_none_does() -> None:
    # Beside a lesson of z 12, a finding of z 3.2 keeps 40% of its z² where it correlates by 0.1, and 79% by 0.03.
    for correlation, told in ((0.1, 1), (0.03, 0)):
        matrix = np.array([[1.0, correlation], [correlation, 1.0]])
        found = grouped(np.array([12.0, 3.2]), matrix, np.array([FEATURE, FEATURE]))
        assert found.lesson.tolist() == [1, told]


def test_what_correlates_clearly_with_a_lesson_belongs_to_it_though_little_is_explained() -> None:
    found = grouped(np.array([4.0, 3.2]), np.array([[1.0, 0.22], [0.22, 1.0]]), np.array([FEATURE, FEATURE]))
    assert found.lesson.tolist() == [1, 1]


def test_lessons_stand_in_order_of_what_those_before_leave_of_them() -> None:
    draws = np.random.default_rng(2)
    weak, strong, least = (cause(draws, mean) for mean in (0.2, 0.4, -0.15))
    found = of(np.hstack([followers(draws, weak, 4), followers(draws, strong, 4), least[:, None]]))
    assert found.lesson.tolist() == [2] * 4 + [1] * 4 + [3]
    assert (np.diff(np.abs(found.z)) < 0).all()


def test_findings_without_any_strength_are_the_rest() -> None:
    found = grouped(np.array([0.0, 1.0, -2.0]), np.eye(3), np.array([FEATURE] * 3))
    assert found.lesson.tolist() == [0, 0, 0]
    assert len(found.leads) == 0
    assert len(grouped(np.zeros(0), np.zeros((0, 0)), np.zeros(0, np.int64)).lesson) == 0
