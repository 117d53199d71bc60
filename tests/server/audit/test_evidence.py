import numpy as np
from assay_server.audit.evidence import EvidenceBlock, EvidenceCollector
from assay_server.audit.findings import Evidence
from assay_server.audit.matrices import Csr
from hypothesis import given, settings
from hypothesis import strategies as st


def collected(
    parts: list[EvidenceBlock], concept: np.ndarray, condition: np.ndarray, direction: np.ndarray, count: int
) -> tuple[Evidence, ...]:
    collector = EvidenceCollector(concept, condition, direction, count)
    for part in parts:
        collector.add(part)
    return collector.finish()


def by_loop(u: np.ndarray, inside: np.ndarray, concept: int, condition: int, sign: float, count: int) -> list[list[int]]:
    rows = range(len(u)) if condition < 0 else np.flatnonzero(inside[:, condition])
    sides = []
    for turn in (1.0, -1.0):
        strength = {int(i): turn * (sign or 1.0) * u[i, concept] for i in rows}
        sides.append(sorted((i for i in strength if strength[i] > 0), key=lambda i: (-strength[i], i))[:count])
    return sides


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 100), count=st.integers(1, 4))
def test_any_order_of_blocks_gives_the_pairs_that_a_loop_finds(data: st.DataObject, seed: int, count: int) -> None:
    draws = np.random.default_rng(seed)
    u, inside = draws.integers(-2, 3, (30, 4)) / 2, (draws.random((30, 3)) < 0.5).astype(int)
    concept, condition = draws.integers(0, 4, 7), draws.integers(-1, 3, 7)
    direction = draws.integers(-1, 2, 7).astype(float)
    cuts = sorted(data.draw(st.lists(st.integers(0, 30), max_size=4)))
    pieces = data.draw(st.permutations([np.arange(a, b) for a, b in zip([0, *cuts], [*cuts, 30], strict=True)]))
    parts = [EvidenceBlock(rows + 100, Csr(u[rows]), Csr(inside[rows])) for rows in pieces]
    for h, found in enumerate(collected(parts, concept, condition, direction, count)):
        supporting, contradicting = by_loop(u, inside, concept[h], condition[h], direction[h], count)
        assert (found.supporting - 100).tolist() == supporting
        assert (found.contradicting - 100).tolist() == contradicting
        assert found.supporting_u.tolist() == [u[i, concept[h]] for i in supporting]
        assert found.contradicting_u.tolist() == [u[i, concept[h]] for i in contradicting]


def test_without_conditions_and_without_pairs_there_is_an_answer_for_every_hypothesis() -> None:
    assert len(collected([], np.arange(3), np.full(3, -1), np.ones(3), 5)) == 3
    (one,) = collected(
        [EvidenceBlock(np.arange(2), Csr(np.array([[0.0], [-0.5]])), None)], np.zeros(1, int), np.full(1, -1), np.ones(1), 5
    )
    assert one.supporting.tolist() == []
    assert (one.contradicting.tolist(), one.contradicting_u.tolist()) == ([1], [-0.5])
