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


def test_evidence_is_ranked_by_activation_and_carries_rates() -> None:
    firings = Firings(Diagonal(1), read([4, 4, 5, 6, 6], [[3.0], [0.0], [5.0], [1.0], [1.0]]))
    everything = np.ones(10, dtype=bool)
    evidence = token_evidence(firings.of(0), firings, everything, limit=2)
    assert evidence.ids == [5, 4]
    assert evidence.rates == [1.0, 0.5]
    assert evidence.mass == pytest.approx(0.8)
    without = everything.copy()
    without[5] = False
    assert token_evidence(firings.of(0), firings, without, limit=2).ids == [4, 6]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_detection_is_the_auroc_counted_pair_by_pair(tokens: list[tuple[int, bool]]) -> None:
    firings = Firings(Diagonal(1), read([t for t, _ in tokens], [[1.0 if fires else 0.0] for _, fires in tokens]))
    evidence = Evidence(ids=[1, 3], rates=[0.9, 0.4], mass=1.0)
    rate = dict(zip(evidence.ids, evidence.rates, strict=True))
    yes = [rate.get(t, 0.0) for t, fires in tokens if fires]
    no = [rate.get(t, 0.0) for t, fires in tokens if not fires]
    score = detection_auroc(evidence, firings.of(0), firings)
    if not yes or not no:
        assert score is None
    else:
        pairs = [(a > b) + (a == b) / 2 for a in yes for b in no]
        assert score == pytest.approx(sum(pairs) / len(pairs))


def test_a_label_quotes_its_evidence_and_says_when_it_is_weak() -> None:
    strong = Evidence([1, 2], [1.0, 1.0], mass=0.9)
    weak = Evidence([1, 2], [0.1, 0.1], mass=0.1)
    assert write_label([" sorry", " Sorry"], strong, [" for"], opening=0.0) == "“sorry”, “Sorry” → “for”"
    assert "at the start of a response" in write_label([" Yes"], strong, [], opening=0.9)
    assert write_label([" a", " b"], weak, [], opening=0.0).startswith("many tokens, strongest on “a”, “b”")
    assert "no evidence" in write_label([], Evidence([], [], 0.0), [" x"], opening=0.0)


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
