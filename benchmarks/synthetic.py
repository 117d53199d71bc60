"""Synthetic datasets with the firing statistics of a wide SAE, written to disk once and read back shard by shard.

A span fires a few hundred of 65,536 features. How often a feature fires falls off as a power of its rank, flattened at the top so
that the commonest fires in most spans; features come in blocks that fire together, a few blocks a pair, mostly the same ones
in both responses; responses differ in length, and longer ones fire more. Each shard depends on the seed and its number alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from assay_server.audit.disparity import membership
from assay_server.audit.matrices import Csr
from assay_server.audit.shards import ConceptSet, PairShard

FEATURES = 65_536
CLUSTERS = 814
CLUSTER_FEATURES = 12
SHARD = 2_048
# Features that a span fires besides its blocks, its blocks, and the share of a block's features that fire with it.
BACKGROUND, BLOCKS, TOGETHER = 300, 6, 0.5
# In the order of PairShard.tokens.
_SPANS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Stored:
    """A dataset on disk, as the views read it."""

    folder: Path
    pairs: int
    d_sae: int = FEATURES

    def __iter__(self) -> Iterator[PairShard]:
        for number, count in self._shards:
            yield _read(self.folder / f"{number:05d}", number, count)

    @property
    def nonzeros(self) -> int:
        """Stored frequencies of all three spans."""
        return sum(int(_counts(self.folder / f"{n:05d}", span, count).sum()) for n, count in self._shards for span in _SPANS)

    @property
    def _shards(self) -> list[tuple[int, int]]:
        """Number and pairs of each; only the last is cut."""
        return [(number, min(SHARD, self.pairs - number * SHARD)) for number in range(-(-self.pairs // SHARD))]


def write(folder: Path, pairs: int, seed: int) -> Stored:
    """Generate what is not there yet: the shards of a smaller dataset are the first of a larger one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(-(-pairs // SHARD)):
        path = folder / f"{number:05d}"
        if not (path.with_suffix(".done")).exists():
            _write(path, _rng(seed, number), SHARD, _popularity(), _blocks(seed))
            path.with_suffix(".done").touch()
    return Stored(folder, pairs)


def concepts(seed: int) -> ConceptSet:
    """Every feature by itself, and the blocks as clusters."""
    blocks = _blocks(seed)
    members = membership([*([f] for f in range(FEATURES)), *blocks.tolist()], FEATURES)
    names = (*(f"feature/{f}" for f in range(FEATURES)), *(f"cluster/{k}" for k in range(CLUSTERS)))
    return ConceptSet(names, members)


def _rng(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, number])


def _popularity() -> np.ndarray:
    """Cumulative chances that a draw of the background is each feature."""
    chance = 1.0 / (np.arange(FEATURES) + 60.0) ** 1.05
    return np.cumsum(chance) / chance.sum()


def _blocks(seed: int) -> np.ndarray:
    """Features of each block, [clusters, features]: common and rare ones."""
    order = np.random.default_rng([seed, 1 << 30]).permutation(20_000)[: CLUSTERS * CLUSTER_FEATURES]
    return np.sort((order + 300).reshape(CLUSTERS, CLUSTER_FEATURES), axis=1)


def _write(path: Path, draws: np.random.Generator, pairs: int, popularity: np.ndarray, blocks: np.ndarray) -> None:
    length = draws.normal(0, 0.5, (pairs, 1)) * np.array([[0.0, 0.5, -0.5]])
    tokens = np.maximum(np.exp(4.6 + 0.5 * draws.normal(size=(pairs, 1)) + length), 8).astype(np.int64)
    topics = np.minimum(draws.zipf(1.3, (pairs, BLOCKS)) - 1, CLUSTERS - 1)
    tokens.tofile(f"{path}.tokens")
    for index, span in enumerate(_SPANS):
        held = np.where(draws.random((pairs, BLOCKS)) < 0.2, draws.integers(0, CLUSTERS, (pairs, BLOCKS)), topics)
        fires = draws.random((pairs, BLOCKS, CLUSTER_FEATURES)) < TOGETHER
        common = draws.poisson(BACKGROUND * np.sqrt(tokens[:, index] / 100))
        row = np.concatenate([np.repeat(np.arange(pairs), common), np.nonzero(fires)[0]])
        feature = np.concatenate([np.searchsorted(popularity, draws.random(common.sum())), blocks[held][fires]])
        key = np.unique(row * FEATURES + np.minimum(feature, FEATURES - 1))
        row, feature = np.divmod(key, FEATURES)
        firings = np.minimum(draws.geometric(0.4, len(key)), tokens[row, index])
        np.bincount(row, minlength=pairs).astype(np.int32).tofile(f"{path}.{span}.counts")
        feature.astype(np.int32).tofile(f"{path}.{span}.ids")
        (firings / tokens[row, index]).astype(np.float32).tofile(f"{path}.{span}.freq")
        draws.gamma(2.0, size=len(key)).astype(np.float32).tofile(f"{path}.{span}.max")


def _counts(path: Path, span: str, pairs: int) -> np.ndarray:
    return np.fromfile(f"{path}.{span}.counts", np.int32, pairs)


def _read(path: Path, number: int, pairs: int) -> PairShard:
    tokens = np.fromfile(f"{path}.tokens", np.int64, 3 * pairs).reshape(-1, 3)

    def array(span: str, values: str) -> Csr:
        starts = np.concatenate([[0], np.cumsum(_counts(path, span, pairs))]).astype(np.int32)
        held = int(starts[-1])
        parts = (np.fromfile(f"{path}.{span}.{values}", np.float32, held), np.fromfile(f"{path}.{span}.ids", np.int32, held))
        return Csr((*parts, starts), shape=(pairs, FEATURES))

    rows = np.arange(number * SHARD, number * SHARD + pairs)
    return PairShard(
        rows=rows,
        prompts=np.where(rows % 10 == 1, rows - 1, rows),
        tokens=tokens,
        freq_chosen=array("chosen", "freq"),
        freq_rejected=array("rejected", "freq"),
        freq_prompt=array("prompt", "freq"),
        max_chosen=array("chosen", "max"),
        max_rejected=array("rejected", "max"),
        nuisance=(np.log(tokens[:, 1]) - np.log(tokens[:, 2]))[:, None],
        directions=Csr((pairs, 0), dtype=np.int64),
        groups=Csr((pairs, 0), dtype=np.int64),
    )
