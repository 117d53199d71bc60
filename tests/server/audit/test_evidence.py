import numpy as np
from assay_server.audit.draws import drawn_bits
from assay_server.audit.evidence import CANDIDATES, EvidenceBlock, EvidenceCollector, asked_of, entries_of
from assay_server.audit.findings import Evidence
from assay_server.audit.matrices import Csr
from hypothesis import given, settings
from hypothesis import strategies as st


def collected(
    parts: list[EvidenceBlock], concept: np.ndarray, condition: np.ndarray, direction: np.ndarray, count: int, seed: int = 0
) -> tuple[Evidence, ...]:
    asked = asked_of(concept, condition, direction)
    collector = EvidenceCollector(asked, count, seed)
    for part in parts:
        collector.add(part, entries_of(part, asked))
    return collector.finish()


def by_loop(
    u: np.ndarray, strength: np.ndarray, prompts: np.ndarray, topics: np.ndarray, draw: np.ndarray, count: int
) -> list[int]:
    """The rule, in words: the strongest pair of each of the strongest prompts; of these one a topic, then any, then any pair."""
    order = sorted(np.flatnonzero(u > 0).tolist(), key=lambda i: (-strength[i], draw[i], i))
    bests = list({prompts[i]: i for i in reversed(order)}.values())
    bests = sorted(bests, key=order.index)[: CANDIDATES * count]
    chosen: list[int] = []
    for i in bests:
        if len(chosen) < count and (topics[i] < 0 or topics[i] not in topics[chosen]):
            chosen.append(i)
    chosen += [i for i in bests if i not in chosen][: count - len(chosen)]
    chosen += [i for i in order if i not in chosen][: count - len(chosen)]
    return sorted(chosen, key=order.index)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000), count=st.integers(1, 4), many=st.sampled_from([3, 12, 200]))
def test_any_order_of_blocks_gives_the_pairs_that_a_loop_finds(data: st.DataObject, seed: int, count: int, many: int) -> None:
    draws, pairs = np.random.default_rng(seed), 120
    u, inside = draws.integers(-2, 3, (pairs, 4)) / 2, (draws.random((pairs, 3)) < 0.5).astype(int)
    strength = draws.integers(-3, 4, (pairs, 4)) / 2
    prompts, topics = draws.integers(0, many, pairs), draws.integers(-1, 4, pairs)
    concept, condition = draws.integers(0, 4, 7), draws.integers(-1, 3, 7)
    direction = draws.integers(-1, 2, 7).astype(float)
    cuts = sorted(data.draw(st.lists(st.integers(0, pairs), max_size=4)))
    pieces = data.draw(st.permutations([np.arange(a, b) for a, b in zip([0, *cuts], [*cuts, pairs], strict=True)]))
    parts = [
        EvidenceBlock(rows + 100, prompts[rows], topics[rows], Csr(u[rows]), Csr(strength[rows]), Csr(inside[rows]))
        for rows in pieces
    ]
    for h, found in enumerate(collected(parts, concept, condition, direction, count, seed)):
        held = np.ones(pairs) if condition[h] < 0 else inside[:, condition[h]]
        for rows, told, shown, sign in (
            (found.supporting, found.supporting_u, found.supporting_strength, direction[h] or 1.0),
            (found.contradicting, found.contradicting_u, found.contradicting_strength, -(direction[h] or 1.0)),
        ):
            draw = drawn_bits((np.arange(100, 100 + pairs) << 32) + concept[h], 1 << 24, seed)
            of_it = held * sign * u[:, concept[h]], sign * strength[:, concept[h]]
            expected = by_loop(*of_it, prompts, topics, draw, count)
            assert (rows - 100).tolist() == expected
            assert told.tolist() == u[expected, concept[h]].tolist()
            assert shown is not None
            assert shown.tolist() == strength[expected, concept[h]].tolist()


def test_the_strongest_pair_is_found_wherever_it_stands_though_u_ties() -> None:
    """By u alone the first rows of the file would win: all of the pairs have u = 1."""
    draws, pairs = np.random.default_rng(5), 3_000
    u, strength = Csr(np.ones((pairs, 1))), draws.gamma(2.0, size=(pairs, 1))
    one = EvidenceBlock(np.arange(pairs), np.arange(pairs), None, u, Csr(strength), None)
    (found,) = collected([one], np.zeros(1, int), np.full(1, -1), np.ones(1), 5)
    assert found.supporting.tolist() == np.argsort(-strength[:, 0])[:5].tolist()


def test_equal_pairs_are_drawn_from_the_whole_file_and_apart_for_each_concept_and_seed() -> None:
    pairs, concepts = 3_000, 200
    u = Csr(np.ones((pairs, concepts)))
    one = EvidenceBlock(np.arange(pairs), np.arange(pairs), None, u, None, None)

    def drawn(seed: int) -> np.ndarray:
        found = collected([one], np.arange(concepts), np.full(concepts, -1), np.ones(concepts), 5, seed)
        return np.concatenate([evidence.supporting for evidence in found])

    rows = drawn(0)
    assert np.array_equal(rows, drawn(0))
    assert len(np.intersect1d(rows, drawn(1))) < 500
    assert len(np.unique(rows)) > 800
    # Mean of 1,000 uniform rows: within four standard errors of the middle.
    assert abs(rows.mean() - pairs / 2) < 4 * pairs / np.sqrt(12 * len(rows))


def test_without_conditions_and_without_pairs_there_is_an_answer_for_every_hypothesis() -> None:
    assert len(collected([], np.arange(3), np.full(3, -1), np.ones(3), 5)) == 3
    block = EvidenceBlock(np.arange(2), np.arange(2), None, Csr(np.array([[0.0], [-0.5]])), None, None)
    (one,) = collected([block], np.zeros(1, int), np.full(1, -1), np.ones(1), 5)
    assert one.supporting.tolist() == []
    assert (one.contradicting.tolist(), one.contradicting_u.tolist()) == ([1], [-0.5])
