"""Synthetic pairs with the firing statistics of a wide SAE, and preferences that teach something: the features of a shard.

A span fires a few hundred of 65,536 features. How often a feature fires falls off as a power of its rank, flattened at the top so
that the commonest fires in most spans; features come in blocks that fire together, a few blocks a pair, mostly the same ones
in both responses; responses differ in length, and longer ones fire more. Some blocks are *taught*: mostly the chosen response
holds them, a few of them under one topic alone. Each shard depends on the seed and its number alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from assay_server.audit.matrices import Csr, Floats, Ints
from assay_server.subject.types import Pooled, PooledSpan, SpanName

FEATURES = 65_536
CLUSTERS = 814
CLUSTER_FEATURES = 12
SHARD = 2_048
TOPICS = 6
SPANS = (SpanName.PROMPT, SpanName.CHOSEN, SpanName.REJECTED)
# Features that a span fires besides its blocks, its blocks, and the share of a block's features that fire with it.
BACKGROUND, BLOCKS, TOGETHER = 320, 6, 0.5
TOKENS = 172  # median of a response
# Blocks that are taught everywhere, and under one topic alone; share of the pairs in question that show one; how often in chosen.
TAUGHT, TAUGHT_THERE, SHOWN, LEANING = 40, 12, 0.15, 0.8
TOPIC_TAUGHT = 2


@dataclass(frozen=True, eq=False)
class Span:
    """One span of a shard's pairs."""

    tokens: Ints  # [pairs]
    blocks: Ints  # [pairs, BLOCKS] held
    count: Csr  # [pairs, FEATURES] int32 tokens on which a feature fires
    max: Floats  # [nnz] largest activations, in the order of `count`


@dataclass(frozen=True, eq=False)
class Drawn:
    """A shard's pairs without their texts."""

    rows: Ints  # [pairs]
    prompts: Ints  # [pairs] row of the first pair with the prompt
    topic: Ints  # [pairs]
    spans: Mapping[SpanName, Span]

    @property
    def nonzeros(self) -> int:
        """Stored values of all three spans."""
        return sum(span.count.nnz for span in self.spans.values())

    def pooled(self, pair: int) -> Pooled:
        """A pair as the engine gives it."""
        spans = {name: _pooled(span, pair) for name, span in self.spans.items()}
        tokens = {name: span.tokens for name, span in spans.items()}
        return Pooled(spans, tokens[SpanName.PROMPT], sum(tokens.values()), tokens[SpanName.PROMPT], 0)


def drawn(number: int, pairs: int, seed: int) -> Drawn:
    """The first pairs of a shard: those of a smaller dataset are the first of a larger one."""
    rows = np.arange(number * SHARD, (number + 1) * SHARD)
    prompts = np.where(rows % 10 == 1, rows - 1, rows)
    draws, popularity, blocks = np.random.default_rng([seed, number]), _popularity(), blocks_of(seed)
    spread = draws.normal(0, 0.5, (SHARD, 1)) * np.array([[0.0, 0.5, -0.5]]) + np.array([[-0.5, 0.0, 0.0]])
    tokens = np.maximum(np.exp(np.log(TOKENS) + 0.5 * draws.normal(size=(SHARD, 1)) + spread), 16).astype(np.int64)
    common = np.minimum(draws.zipf(1.3, (SHARD, BLOCKS)) - 1, CLUSTERS - 1)
    same = prompts - rows[0]
    tokens[:, 0], common = tokens[same, 0], common[same]
    topic = common[:, 0] % TOPICS
    held = [np.where(draws.random(common.shape) < 0.2, draws.integers(0, CLUSTERS, common.shape), common) for _ in SPANS]
    held[0] = held[0][same]
    _teach(held, topic, draws)
    spans: dict[SpanName, Span] = {}
    for index, name in enumerate(SPANS):
        span = _span(tokens[:, index], held[index], draws, popularity, blocks)
        take = same[:pairs] if name is SpanName.PROMPT else np.arange(pairs)
        spans[name] = _taken(span, take)
    return Drawn(rows[:pairs], prompts[:pairs], topic[:pairs], spans)


def blocks_of(seed: int) -> Ints:
    """Features of each block, [clusters, features]: common and rare ones."""
    order = np.random.default_rng([seed, 1 << 30]).permutation(20_000)[: CLUSTERS * CLUSTER_FEATURES]
    return np.sort((order + 300).reshape(CLUSTERS, CLUSTER_FEATURES), axis=1)


def _popularity() -> Floats:
    """Cumulative chances that a draw of the background is each feature."""
    chance = 1.0 / (np.arange(FEATURES) + 60.0) ** 1.05
    return np.cumsum(chance) / chance.sum()


def _teach(held: list[Ints], topic: Ints, draws: np.random.Generator) -> None:
    """Put a taught block last into one response of some pairs: the first ones everywhere, the rest under one topic."""
    for first, many, here in ((0, TAUGHT, topic >= 0), (TAUGHT, TAUGHT_THERE, topic == TOPIC_TAUGHT)):
        weight = 1.0 / np.arange(1, many + 1)
        block = CLUSTERS - 1 - first - draws.choice(many, len(topic), p=weight / weight.sum())
        shown, chosen = here & (draws.random(len(topic)) < SHOWN), draws.random(len(topic)) < LEANING
        for side, rows in ((1, shown & chosen), (2, shown & ~chosen)):
            held[side][rows, -1] = block[rows]


def _span(tokens: Ints, held: Ints, draws: np.random.Generator, popularity: Floats, blocks: Ints) -> Span:
    pairs = len(tokens)
    fires = draws.random((pairs, BLOCKS, CLUSTER_FEATURES)) < TOGETHER
    common = draws.poisson(BACKGROUND * np.sqrt(tokens / TOKENS))
    row = np.concatenate([np.repeat(np.arange(pairs), common), np.nonzero(fires)[0]])
    feature = np.concatenate([np.searchsorted(popularity, draws.random(common.sum())), blocks[held][fires]])
    key = np.sort(row * FEATURES + np.minimum(feature, FEATURES - 1))
    row, feature = np.divmod(key[np.diff(key, prepend=-1) > 0], FEATURES)
    firings = np.minimum(draws.geometric(0.23, len(row)), tokens[row]).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=pairs))])
    return Span(tokens, held, Csr((firings, feature, starts), shape=(pairs, FEATURES)), draws.gamma(2.0, size=len(row)))


def _taken(span: Span, rows: Ints) -> Span:
    place = Csr((np.arange(len(span.max)), span.count.indices, span.count.indptr), shape=span.count.shape)[rows].data
    return Span(span.tokens[rows], span.blocks[rows], Csr(span.count[rows]), span.max[place])


def _pooled(span: Span, pair: int) -> PooledSpan:
    first, last = span.count.indptr[pair : pair + 2]
    return PooledSpan(
        tokens=int(span.tokens[pair]),
        indices=span.count.indices[first:last].astype(np.uint32),
        max_f16=span.max[first:last].astype(np.float16),
        counts=span.count.data[first:last].astype(np.uint32),
        exponent=0,
        mean_residual_f16=np.zeros(0, np.float16),
        residual_exponent=0,
    )
