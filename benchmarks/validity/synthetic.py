"""Made-up features with the shape of real ones: sparse, unequal, tied to topics and to length. For tests.

Neither response of a pair is better: labels mean nothing until `planted` or a relabelling gives them a meaning.
"""

from __future__ import annotations

import numpy as np
from assay_server.audit.matrices import Csr, Floats, Ints

from benchmarks.validity.data import Features, Spans

TOPICS, D_IN = 6, 8


def synthetic(pairs: int = 400, d_sae: int = 300, *, prompts: int = 0, seed: int = 0) -> Features:
    """Features of `pairs` pairs over `prompts` prompts (default: nine tenths of the pairs).

    Rates of firing are log-uniform; every prompt has one of six topics, each of which makes its own tenth of the features fire
    five times as often; responses are of lognormal length, and a longer one fires more features at all.
    """
    ids, topic = _prompts(pairs, prompts, seed)
    draws = np.random.default_rng([seed, 1])
    rates = 10.0 ** draws.uniform(-3.5, -0.8, d_sae)
    boost = np.ones((TOPICS, d_sae))
    for number in range(TOPICS):
        boost[number, draws.choice(d_sae, d_sae // 10, replace=False)] = 5.0
    by_topic = np.minimum(rates * boost, 0.5)
    prompt = _spans(draws, by_topic[topic], draws.lognormal(4.0, 0.5, len(topic))).take(ids)
    sides = [_spans(draws, by_topic[topic[ids]], draws.lognormal(3.5, 0.6, pairs)) for _ in range(2)]
    return Features(prompt, sides[0], sides[1], ids)


def topics(pairs: int, *, prompts: int = 0, seed: int = 0) -> Ints:
    """The topic of each pair that `synthetic` makes of the same arguments, [pairs]."""
    ids, topic = _prompts(pairs, prompts, seed)
    return topic[ids]


def planted(features: Features, rows: Ints, columns: Ints, *, seed: int = 0) -> Features:
    """The chosen responses at `rows` with every feature of `columns` firing on a tenth of their tokens."""
    chosen = features.chosen.take(rows)
    freq, peak = chosen.freq.toarray(), chosen.peak.toarray()
    freq[:, columns] = np.maximum(freq[:, columns], 0.1)
    peak[:, columns] = np.random.default_rng(seed).uniform(2.0, 6.0, (len(rows), len(columns)))
    return features.replaced(rows, Spans(Csr(freq), Csr(peak), chosen.tokens, chosen.residual))


def _prompts(pairs: int, prompts: int, seed: int) -> tuple[Ints, Ints]:
    draws = np.random.default_rng(seed)
    _, ids = np.unique(draws.integers(0, prompts or max(1, pairs * 9 // 10), pairs), return_inverse=True)
    return ids.astype(np.int64), draws.integers(0, TOPICS, int(ids.max()) + 1)


def _spans(draws: np.random.Generator, rates: Floats, length: Floats) -> Spans:
    tokens = np.maximum(3, length.round()).astype(np.int64)
    counts = draws.binomial(tokens[:, None], rates)
    freq = (counts / tokens[:, None]).astype(np.float32)
    peak = np.where(counts > 0, draws.gamma(4.0, 0.5, counts.shape) + 0.1, 0).astype(np.float32)
    residual = draws.normal(size=(len(tokens), D_IN)).astype(np.float32)
    return Spans(Csr(freq), Csr(peak), tokens, residual)
