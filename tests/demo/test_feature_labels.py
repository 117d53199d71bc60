"""Labels: the statistics under them, and what they may say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from demo.sae.activations import RESPONSE, Reading
from demo.sae.firing import Evidence, Firings, detection_auroc, token_evidence
from demo.sae.labels import own_responses, write_label


class Diagonal:
    """An SAE stand-in that is exactly the identity on non-negative activations: feature f fires where h[f] > 0."""

    def __init__(self, width: int) -> None:
        self.cfg = SimpleNamespace(d_sae=width)

    def encode(self, h: torch.Tensor) -> torch.Tensor:
        return h.relu()


def read(ids: list[int], acts: list[list[float]]) -> Reading:
    n = len(ids)
    return Reading(
        torch.tensor(acts),
        torch.tensor(ids, dtype=torch.int32),
        torch.full((n,), RESPONSE, dtype=torch.uint8),
        torch.arange(n, dtype=torch.int32),
    )


def test_firings_are_grouped_by_feature_across_blocks() -> None:
    width, tokens = 3, 10_000
    acts = torch.randn(tokens, width)
    reading = Reading(
        acts,
        torch.zeros(tokens, dtype=torch.int32),
        torch.zeros(tokens, dtype=torch.uint8),
        torch.zeros(tokens, dtype=torch.int32),
    )
    firings = Firings(Diagonal(width), reading)
    for feature in range(width):
        expected = (acts[:, feature] > 0).nonzero().flatten().numpy()
        assert np.array_equal(firings.of(feature).positions, expected)
        assert np.allclose(firings.of(feature).values, acts[expected, feature].numpy())


def test_evidence_prefers_telling_tokens_to_common_and_to_rare_ones() -> None:
    ids = [4] * 100 + [5] * 10 + [6]
    fires = [[1.0]] * 20 + [[0.0]] * 80 + [[1.0]] * 10 + [[1.5]]
    firings = Firings(Diagonal(1), read(ids, fires))
    everything = np.ones(10, dtype=bool)
    evidence = token_evidence(firings.of(0), firings.ids, everything, limit=2)
    assert evidence.ids == [5, 4], "5 always fires, 4 has more mass but rarely fires, 6 was seen once"
    assert evidence.rates == [1.0, 0.2]
    assert evidence.mass == pytest.approx(30 / 31.5)
    without = everything.copy()
    without[5] = False
    assert token_evidence(firings.of(0), firings.ids, without, limit=2).ids == [4, 6]


def test_the_token_before_is_looked_for_within_a_conversation_only() -> None:
    reading = Reading(
        torch.ones(4, 1),
        torch.tensor([7, 8, 9, 7], dtype=torch.int32),
        torch.ones(4, dtype=torch.uint8),
        torch.tensor([0, 0, 1, 1], dtype=torch.int32),
    )
    assert Firings(Diagonal(1), reading).before.tolist() == [0, 7, 0, 9]


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=2, max_size=40))
def test_detection_is_the_auroc_counted_pair_by_pair(tokens: list[tuple[int, bool]]) -> None:
    reading = read([t for t, _ in tokens], [[1.0 if fires else 0.0] for _, fires in tokens])
    reading.rows.zero_()
    firings = Firings(Diagonal(1), reading)
    on, after = Evidence([1, 3], [0.9, 0.4], mass=1.0), Evidence([2], [0.6], mass=1.0)
    rate, rate_after = dict(zip(on.ids, on.rates, strict=True)), dict(zip(after.ids, after.rates, strict=True))
    before = [0, *(t for t, _ in tokens)][:-1]
    scores = [max(rate.get(t, 0.0), rate_after.get(b, 0.0)) for (t, _), b in zip(tokens, before, strict=True)]
    yes = [score for score, (_, fires) in zip(scores, tokens, strict=True) if fires]
    no = [score for score, (_, fires) in zip(scores, tokens, strict=True) if not fires]
    measured = detection_auroc(on, after, firings.of(0), firings)
    if not yes or not no:
        assert measured is None
    else:
        pairs = [(a > b) + (a == b) / 2 for a in yes for b in no]
        assert measured == pytest.approx(sum(pairs) / len(pairs))


def test_a_label_quotes_the_more_telling_evidence_and_says_when_it_is_weak() -> None:
    strong, weak, none = Evidence([1, 2], [1.0, 1.0], 0.9), Evidence([1, 2], [0.1, 0.1], 0.2), Evidence([], [], 0.0)
    assert write_label([" sorry", " glad"], [" am"], strong, weak, opening=0.0) == "“sorry”, “glad”"
    assert write_label([" a"], [" very"], weak, strong, opening=0.0) == "after “very”"
    assert write_label([" Yes"], [], strong, none, opening=0.9) == "“Yes”, at the start of a response"
    assert write_label([" a", " b"], [], weak, none, opening=0.0) == "mixed: “a”, “b”"
    assert "no evidence" in write_label([], [], none, none, opening=0.0)


def test_own_responses_count_tokens_from_the_start_of_each_response() -> None:
    reading = Reading(
        torch.zeros(6, 1),
        torch.arange(6, dtype=torch.int32),
        torch.tensor([1, 2, 2, 2, 1, 2], dtype=torch.uint8),
        torch.tensor([0, 0, 0, 3, 3, 3], dtype=torch.int32),
    )
    kept, rows, starts = own_responses(reading)
    assert kept.ids.tolist() == [1, 2, 3, 5]
    assert rows.tolist() == [0, 0, 3, 3]
    assert starts.tolist() == [0, 1, 0, 1]
