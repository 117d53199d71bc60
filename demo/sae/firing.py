"""Which feature fires on which token, kept sparse, with the two counts that labels are made of.

Everything is plain numpy over the (token, feature, activation) triples of a TopK SAE: at most k a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from demo.sae.activations import Reading

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Firing:
    """One feature's firings: positions in the reading (ascending) and activations, both [firings]."""

    positions: IntArray
    values: FloatArray


class Firings:
    """All firings of an SAE on a reading, grouped by feature."""

    def __init__(self, sae: Any, reading: Reading) -> None:
        self.ids: IntArray = reading.ids.numpy().astype(np.int64)
        self.tokens = len(self.ids)
        positions, features, values = _encode(sae, reading)
        order = np.argsort(features, kind="stable")
        self._positions, self._values = positions[order], values[order]
        self._bounds = np.searchsorted(features[order], np.arange(sae.cfg.d_sae + 1))
        self.token_counts: IntArray = np.bincount(self.ids)

    def of(self, feature: int) -> Firing:
        """The firings of one feature."""
        a, b = self._bounds[feature], self._bounds[feature + 1]
        return Firing(self._positions[a:b], self._values[a:b])


@torch.inference_mode()
def _encode(sae: Any, reading: Reading) -> tuple[IntArray, IntArray, FloatArray]:
    parts = list(_blocks(sae, reading))
    positions, features, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return positions, features, values


def _blocks(sae: Any, reading: Reading) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    start = 0
    for block in reading.acts.split(4096):
        features = sae.encode(block.float())
        token, feature = features.nonzero(as_tuple=True)
        yield token.numpy() + start, feature.numpy(), features[token, feature].numpy()
        start += len(block)


@dataclass(frozen=True)
class Evidence:
    """The tokens that a feature fires on: ids in order of activation mass, each with the share of its occurrences that
    the feature fires on, and the share of the feature's whole mass that these tokens carry."""

    ids: list[int]
    rates: list[float]
    mass: float


def token_evidence(firing: Firing, firings: Firings, allowed: NDArray[np.bool_], limit: int = 10) -> Evidence:
    """The `limit` tokens of most activation mass among `allowed` [vocabulary] ones."""
    ids = firings.ids[firing.positions]
    mass = np.bincount(ids, weights=firing.values, minlength=len(allowed))
    counts = np.bincount(ids, minlength=len(allowed))
    total = float(mass.sum())
    shown = [int(i) for i in np.argsort(-np.where(allowed, mass, 0.0))[:limit] if allowed[i] and mass[i] > 0]
    rates = [float(counts[i] / firings.token_counts[i]) for i in shown]
    return Evidence(shown, rates, float(mass[shown].sum()) / total if total else 0.0)


def detection_auroc(evidence: Evidence, firing: Firing, firings: Firings) -> float | None:
    """AUROC of predicting, token by token of an unseen text, whether a feature fires, from its evidence alone.

    A token's score is the evidence's rate for it, and 0 for every token that the evidence does not show; ties count
    half. None where the feature never fires on the unseen text, or on all of it.
    """
    fired = np.bincount(firings.ids[firing.positions], minlength=len(firings.token_counts))
    groups = {0.0: [0, 0]}
    for token, rate in zip(evidence.ids, evidence.rates, strict=True):
        seen = token < len(firings.token_counts)
        group = groups.setdefault(rate, [0, 0])
        group[0] += int(fired[token]) if seen else 0
        group[1] += int(firings.token_counts[token] - fired[token]) if seen else 0
    positives = len(firing.positions)
    negatives = firings.tokens - positives
    if not positives or not negatives:
        return None
    groups[0.0][0] += positives - sum(group[0] for group in groups.values())
    groups[0.0][1] += negatives - sum(group[1] for group in groups.values())
    below, wins = 0, 0.0
    for rate in sorted(groups):
        hits, misses = groups[rate]
        wins += hits * (below + misses / 2)
        below += misses
    return wins / (positives * negatives)
