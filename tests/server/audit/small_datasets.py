"""Small datasets as the views read them: sparse features of chosen, rejected and prompt spans, in shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
from assay_server.audit.disparity import membership
from assay_server.audit.matrices import Csr
from assay_server.audit.shards import ConceptSet, PairShard


@dataclass(frozen=True, eq=False)
class Dataset:
    parts: tuple[PairShard, ...]
    d_sae: int

    @property
    def pairs(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    def __iter__(self) -> Iterator[PairShard]:
        return iter(self.parts)


def picked(shard: PairShard, rows: np.ndarray | slice) -> PairShard:
    held = {field.name: getattr(shard, field.name) for field in fields(shard)}
    return replace(shard, **{name: None if column is None else column[rows] for name, column in held.items()})


def split(shard: PairShard, cuts: Sequence[int], order: Sequence[int] | None = None) -> Dataset:
    """The pairs in shards that end at `cuts`, in the given order of shards; equal cuts make empty shards."""
    edges = [0, *sorted(cuts), len(shard.rows)]
    parts = [picked(shard, slice(a, b)) for a, b in pairwise(edges)]
    return Dataset(tuple(parts[i] for i in order or range(len(parts))), shard.freq_chosen.shape[1])


def swapped(shard: PairShard, where: np.ndarray) -> PairShard:
    """Chosen and rejected exchanged where `where` [pairs] holds."""
    flat, sign = where[:, None], np.where(where, -1, 1)[:, None]

    def exchange(first: Csr, second: Csr) -> tuple[Csr, Csr]:
        one, two = first.toarray(), second.toarray()
        return Csr(np.where(flat, two, one)), Csr(np.where(flat, one, two))

    freq, strongest = exchange(shard.freq_chosen, shard.freq_rejected), exchange(shard.max_chosen, shard.max_rejected)
    return replace(
        shard,
        tokens=np.where(flat, shard.tokens[:, [0, 2, 1]], shard.tokens),
        freq_chosen=freq[0],
        freq_rejected=freq[1],
        max_chosen=strongest[0],
        max_rejected=strongest[1],
        nuisance=shard.nuisance * sign,
        directions=Csr(shard.directions.toarray() * sign),
        direction_strengths=None if shard.direction_strengths is None else Csr(shard.direction_strengths.toarray() * sign),
    )


def coins(shard: PairShard, draws: np.random.Generator, chance: float | np.ndarray = 0.5) -> np.ndarray:
    """A coin a prompt: pairs of a prompt swap together, which keeps them dependent."""
    _, inverse = np.unique(shard.prompts, return_inverse=True)
    return draws.random(inverse.max(initial=0) + 1)[inverse] < chance


def length_preferring(shard: PairShard, draws: np.random.Generator, strength: float) -> PairShard:
    """Labels from length alone: P(first is chosen) = σ(strength · Δ log length)."""
    return swapped(shard, coins(shard, draws, 1 / (1 + np.exp(strength * shard.nuisance[:, 0]))))


def dataset(
    seed: int = 0, pairs: int = 400, *, blocks: int = 6, width: int = 12, loose: int = 8, share: float = 0.15, topics: int = 3
) -> PairShard:
    """Pairs of which neither side is favoured. Longer responses fire more features, so length confounds every concept.

    Features come in `blocks` of `width` that fire together, then `loose` ones. A prompt has one of `topics`, which fires a block
    of prompt features and makes one block of response features frequent on both sides. `share` of the pairs repeat a prompt.
    """
    draws = np.random.default_rng(seed)
    d_sae = blocks * width + loose
    prompts = np.arange(pairs)
    again = np.flatnonzero(draws.random(pairs) < share)
    prompts[again] = prompts[np.maximum(again - 1, 0)]
    topic = draws.integers(0, topics, pairs)[prompts]
    length = 0.7 * draws.normal(size=pairs) + 0.4 * draws.normal(size=pairs)[prompts]
    tokens = np.stack([np.full(pairs, 12), np.exp(4 + length / 2), np.exp(4 - length / 2)], axis=1).astype(np.int64)

    def fired(tilt: np.ndarray) -> np.ndarray:
        mood = draws.normal(size=(pairs, blocks))
        mood[np.arange(pairs), topic % blocks] += 1.0
        return draws.random((pairs, d_sae)) < 1 / (1 + np.exp(2.0 - tilt[:, None] - block_wise(mood, width, loose)))

    def spans(fires: np.ndarray) -> tuple[Csr, Csr]:
        return (
            Csr(np.where(fires, draws.uniform(0.02, 0.5, fires.shape), 0.0).astype(np.float32)),
            Csr(np.where(fires, draws.gamma(2.0, size=fires.shape), 0.0).astype(np.float32)),
        )

    chosen, rejected = spans(fired(0.8 * length)), spans(fired(-0.8 * length))
    about = np.zeros((pairs, d_sae))
    about[np.arange(d_sae)[None, :] // width == topic[:, None]] = 1.0
    prompt = np.where(draws.random((pairs, d_sae)) < 0.05 + 0.6 * about, draws.uniform(0.02, 0.5, (pairs, d_sae)), 0.0)
    return PairShard(
        rows=np.arange(pairs),
        prompts=prompts * 5 + 11,
        tokens=tokens,
        freq_chosen=chosen[0],
        freq_rejected=rejected[0],
        freq_prompt=Csr(prompt.astype(np.float32)),
        max_chosen=chosen[1],
        max_rejected=rejected[1],
        nuisance=length[:, None],
        directions=Csr(draws.integers(-1, 2, (pairs, 1))),
        groups=Csr((topic[:, None] == np.arange(topics)).astype(np.int64)),
    )


def block_wise(mood: np.ndarray, width: int, loose: int) -> np.ndarray:
    """The mood of each feature's block, [pairs, d_sae]; loose features have none."""
    return np.concatenate([np.repeat(mood, width, axis=1), np.zeros((len(mood), loose))], axis=1)


def concepts_of(shard: PairShard, *, blocks: int = 6, width: int = 12, directions: int = 1) -> ConceptSet:
    """Every feature, every block as a cluster, and the directions."""
    d_sae = shard.freq_chosen.shape[1]
    groups: list[Sequence[int]] = [[feature] for feature in range(d_sae)]
    groups += [range(block * width, (block + 1) * width) for block in range(blocks)]
    names = [f"feature/{feature}" for feature in range(d_sae)] + [f"cluster/{block}" for block in range(blocks)]
    names += [f"concepts/direction-{number}" for number in range(directions)]
    return ConceptSet(tuple(names), membership(groups, d_sae))


def express_more(shard: PairShard, features: Sequence[int], where: np.ndarray, draws: np.random.Generator) -> PairShard:
    """Plant a lesson: in pairs where `where` holds, chosen responses fire `features` four times in five and rejected hardly."""
    parts = {name: getattr(shard, name).toarray() for name in ("freq_chosen", "freq_rejected", "max_chosen", "max_rejected")}
    rows = np.flatnonzero(where)[:, None]
    fires = draws.random((len(rows), len(features))) < 0.8
    parts["freq_chosen"][rows, features] = np.where(fires, 0.2, 0)
    parts["max_chosen"][rows, features] = np.where(fires, 3.0, 0)
    rare = draws.random((len(rows), len(features))) < 0.05
    parts["freq_rejected"][rows, features] = np.where(rare, 0.2, 0)
    parts["max_rejected"][rows, features] = np.where(rare, 3.0, 0)
    return replace(shard, **{name: Csr(values.astype(np.float32)) for name, values in parts.items()})


def everything(table: object) -> list[np.ndarray]:
    """Every array of a result, however deep: what must be equal to the bit, and never hold a NaN."""
    if isinstance(table, np.ndarray):
        return [table]
    if isinstance(table, (tuple, list)):
        return [array for item in table for array in everything(item)]
    if hasattr(table, "__dataclass_fields__"):
        return [array for field in fields(table) for array in everything(getattr(table, field.name))]  # type: ignore[arg-type]
    return []
