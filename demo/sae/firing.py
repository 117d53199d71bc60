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
        self.before: IntArray = _shifted(self.ids, reading.rows.numpy())
        self.tokens = len(self.ids)
        positions, features, values = _encode(sae, reading)
        order = np.argsort(features, kind="stable")
        self._positions, self._values = positions[order], values[order]
        self._bounds = np.searchsorted(features[order], np.arange(sae.cfg.d_sae + 1))

    def of(self, feature: int) -> Firing:
        """The firings of one feature."""
        a, b = self._bounds[feature], self._bounds[feature + 1]
        return Firing(self._positions[a:b], self._values[a:b])


def _shifted(ids: IntArray, rows: NDArray[np.int32]) -> IntArray:
    """The id of the token before each token in its conversation, 0 (the padding token) where there is none."""
    before = np.roll(ids, 1)
    before[np.r_[True, rows[1:] != rows[:-1]]] = 0
    return before


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
    """The tokens that tell of a feature, most telling first: for each the share of its occurrences at which the feature
    fires (`rates`), and for all the share of the feature's whole activation that they carry (`mass`)."""

    ids: list[int]
    rates: list[float]
    mass: float

    @property
    def weight(self) -> float:
        """How much these tokens tell: the mass that they carry times their mean rate."""
        return self.mass * sum(self.rates) / len(self.rates) if self.rates else 0.0


def token_evidence(firing: Firing, ids: IntArray, allowed: NDArray[np.bool_], limit: int = 20) -> Evidence:
    """The `limit` most telling of the `allowed` [vocabulary] tokens among `ids` [tokens], which the firings index.

    A token tells by its activation mass times its rate, five occurrences without firing assumed for each, so that
    neither a word that is everywhere nor one that was seen once comes first.
    """
    fired = ids[firing.positions]
    mass = np.bincount(fired, weights=firing.values, minlength=len(allowed))
    counts = np.bincount(fired, minlength=len(allowed))
    seen = np.bincount(ids, minlength=len(allowed))
    total = float(mass.sum())
    telling = np.where(allowed, mass * counts / (seen + 5), 0.0)
    shown = [int(i) for i in np.argsort(-telling, kind="stable")[:limit] if telling[i] > 0]
    rates = [float(counts[i] / seen[i]) for i in shown]
    return Evidence(shown, rates, float(mass[shown].sum()) / total if total else 0.0)


def detection_auroc(evidence: Evidence, before: Evidence, firing: Firing, firings: Firings) -> float | None:
    """AUROC of predicting, token by token of an unseen text, whether a feature fires, from its evidence alone.

    A token's score is the larger of `evidence`'s rate for it and of `before`'s rate for the token before it, 0 for
    tokens that neither shows; ties count half. None where the feature never fires on the unseen text, or always.
    """
    positives, negatives = len(firing.positions), firings.tokens - len(firing.positions)
    if not positives or not negatives:
        return None
    scores = np.maximum(_looked_up(evidence, firings.ids), _looked_up(before, firings.before))
    values, group = np.unique(scores, return_inverse=True)
    hits = np.bincount(group[firing.positions], minlength=len(values)).astype(np.float64)
    misses = np.bincount(group, minlength=len(values)) - hits
    below = np.cumsum(misses) - misses
    return float((hits * (below + misses / 2)).sum() / (positives * negatives))


def _looked_up(evidence: Evidence, ids: IntArray) -> FloatArray:
    table = np.zeros(max(int(ids.max()), *evidence.ids, 0) + 1, dtype=np.float32)
    table[evidence.ids] = evidence.rates
    return table[ids]
